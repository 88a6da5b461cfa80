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
# What TensorFlow and the chunks of streamed files take, in GiB.
_BASE_MEMORY = 1.0


def plan_tiles(
    shape: Sequence[int], model: ModelSettings, tiles: TileSettings, *, maps: int, magnification: float = 1.0
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
        pixels = max(tiles.memory - _BASE_MEMORY, 0) * 2**30 / _bytes_per_pixel(model, maps, scale)
        side = max(math.floor(math.sqrt(pixels)), 2 * (overlap + multiple) + multiple)
    return Grid(shape, side=side, overlap=overlap, multiple=multiple)


def _bytes_per_pixel(model: ModelSettings, maps: int, scale: float) -> float:
    """Return about how much memory a pixel of a tile takes at the moment at which it takes most.

    As measured on an image of 20,000 x 20,000 pixels: 420 bytes with the small network.
    """
    # Two tiles' maps at once, and what is computed from them.
    return 3 * 4 * maps + scale**2 * (5 * model.widths[0] + 2.5 * 4 * maps)


def tile_alignment(scale: float, stride: int) -> int:
    """Return the least number of an image's pixels that is nearly a multiple of the network's stride at a scale.

    Tiles that begin at multiples of it are seen as they are within the whole image: their pixels are resampled at the
    same positions, to a fiftieth of a pixel, and fall on the same cells of the network.

    Examples
    --------
    >>> tile_alignment(1.0, 16), tile_alignment(0.5, 16), tile_alignment(2.0, 16)
    (16, 32, 8)
    """
    candidates = np.arange(1, 1 + math.ceil(64 * max(stride / scale, 1)))
    cells = candidates * (scale / stride)
    off = np.abs(cells - np.round(cells)) * stride
    off[np.round(cells) < 1] = np.inf
    return int(candidates[np.argmax(off <= max(0.02, off.min()))])
