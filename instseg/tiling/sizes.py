"""How large tiles are and where they lie: what memory allows, what objects need, what suits the network's cells."""

import math
from collections.abc import Sequence

import numpy as np

from instseg.settings import ModelSettings, TileSettings
from instseg.tiling.grid import Grid

# In the network's pixels, how far beyond a tile the image still changes an object's outline; and the share of the
# diameter of a large object (nineteen of twenty are smaller) that may lie beyond a seam. With these, 715 of 715 nuclei
# in images cut into 159 tiles had an IoU of 0.99 and more with those of the whole image; with 64 pixels in all 714 of
# them, with 32 0.958: `tests/benchmarks/seams.py`.
_REACH = 48
_OBJECT_SHARE = 0.5
# In the network's pixels, how far the cells of a tile may lie from those of the whole image. At a scale of the square
# root of 2 tiles begin at multiples of 34 pixels so, and at 577 with a fiftieth, by which the overlap would grow.
_OFF = 0.1
# What the network's library, its weights and the chunks of streamed files take, in GiB.
BASE_MEMORY = 0.5
# The least share of the rest that is for tiles, however large an image and its labels are.
_LEAST_SHARE = 1 / 3


def plan_tiles(
    shape: Sequence[int],
    model: ModelSettings,
    tiles: TileSettings,
    *,
    maps: int,
    magnification: float = 1.0,
    half: bool = False,
    held: int = 0,
) -> Grid:
    """Return the tiles of an image.

    Parameters
    ----------
    shape : sequence of int
        Its height and width.
    model : ModelSettings
    tiles : TileSettings
    maps : int
        Raw maps that the network gives for each pixel.
    magnification : float
        How many times larger the network sees the image.
    half : bool
        Whether the network computes in half precision.
    held : int
        Bytes that are taken all the time besides: those of an image in memory and of its labels.

    Raises
    ------
    InstsegError
        If the overlap leaves nothing of a tile.
    """
    scale = model.scale * magnification
    multiple = tile_alignment(scale, 2 ** len(model.widths))
    overlap = tiles.overlap
    if overlap is None:
        largest = (model.diameter_p95 or model.diameter) / magnification
        overlap = math.ceil(_REACH / scale + _OBJECT_SHARE * largest)
    side = tiles.tile
    if side is None:
        free = max(tiles.memory - BASE_MEMORY, 0) * 2**30
        # Tiles that are all overlap would take longer than any memory is worth.
        pixels = max(free - held, _LEAST_SHARE * free) / bytes_per_pixel(model, maps, scale, half=half)
        side = max(math.floor(math.sqrt(pixels)), 2 * (overlap + multiple) + multiple)
    return Grid(shape, side=side, overlap=overlap, multiple=multiple)


def bytes_per_pixel(model: ModelSettings, maps: int, scale: float, *, half: bool = False) -> float:
    """Return about how much memory a pixel of a tile takes at the moment at which it takes most.

    As measured on three tiles of 1,024 and of 1,600 pixels side by side: 264 bytes with the small network, and 165 in
    half precision; 290 for colour images.

    Parameters
    ----------
    model, maps, half
        As `plan_tiles` takes them.
    scale : float
        How many times larger the network sees the image, its training's scale included.
    """
    # The widest maps of the network are at half the resolution; its own values are a third of float32's in half
    # precision, with what is converted. The maps of the tile that is clustered are there at the same time.
    network = (1.6 if half else 4) * model.widths[0] + 1.5 * 4 * maps
    return 2 * 4 * maps + 4 * model.channels + scale**2 * network


def tile_alignment(scale: float, stride: int) -> int:
    """Return the least number of an image's pixels that is nearly a multiple of the network's stride at a scale.

    Tiles that begin at multiples of it are seen as they are within the whole image: their pixels are resampled at the
    same positions, to a tenth of a pixel, and fall on the same cells of the network.

    Examples
    --------
    >>> tile_alignment(1.0, 16), tile_alignment(0.5, 16), tile_alignment(2.0, 16)
    (16, 32, 8)
    """
    candidates = np.arange(1, 1 + math.ceil(64 * max(stride / scale, 1)))
    cells = candidates * (scale / stride)
    off = np.abs(cells - np.round(cells)) * stride
    off[np.round(cells) < 1] = np.inf
    return int(candidates[np.argmax(off <= max(_OFF, off.min()))])
