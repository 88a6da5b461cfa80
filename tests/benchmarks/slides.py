"""Generated images of any size for other benchmarks: discs all over, and slides of tissue on glass.

Pieces of 1024 x 1024 are drawn once and repeated, and files are written tile by tile, so that memory stays small.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from instseg.data.discs import draw_discs
from instseg.settings import DiscSettings

PIECE = 1024
_TILE = 512
# Of the sections of a slide, with height and width of 1: centres and half axes, which cover a fifth of it.
_SECTIONS = ((0.5, 0.3, 0.28, 0.1137), (0.5, 0.7, 0.28, 0.1137))
# Of the ground of a fluorescence slide: offset and read noise of a camera, of 65,535; of glass in bright light, of 255.
_DARK, _DARK_NOISE = 200.0, 30.0
_GLASS, _GLASS_NOISE = (243.0, 242.0, 244.0), 1.5
_STROMA, _NUCLEI = (225.0, 170.0, 200.0), (110.0, 80.0, 150.0)


def pieces() -> list[np.ndarray]:
    """Return eight images (1024, 1024) uint16 of discs, as dense as the example images."""
    density = PIECE**2 // 512**2
    discs = DiscSettings(size=PIECE, min_discs=50 * density, max_discs=50 * density)
    return [draw_discs(np.random.default_rng(number), discs)[0] for number in range(8)]


def mosaic(size: int) -> np.ndarray:
    """Return an image (size, size) uint16 of discs: eight pictures, repeated."""
    drawn, count = pieces(), -(-size // PIECE)
    rows = [np.hstack([drawn[(row + column) % 8] for column in range(count)]) for row in range(count)]
    return np.vstack(rows)[:size, :size]


def write_mosaic(path: Path, size: int) -> Path:
    """Write what `mosaic` returns as a TIFF in tiles."""
    drawn = pieces()
    return _write(path, size, (size, size), np.uint16, lambda row, column: _part(drawn, row, column))


def write_slide(path: Path, size: int, *, bright: bool, full: bool) -> Path:
    """Write a slide: two sections of tissue that cover a fifth of it, or tissue all over.

    Parameters
    ----------
    path : Path
        A TIFF.
    size : int
        Height and width.
    bright : bool
        Whether it is stained tissue on bright glass, RGB of 8 bits; else fluorescence on dark ground, 16 bits.
    full : bool
        Whether tissue is all over.
    """
    drawn = pieces()
    shape = (size, size, 3) if bright else (size, size)

    def tile(row: int, column: int) -> np.ndarray:
        rng = np.random.default_rng([row, column])
        tissue = _part(drawn, row, column)
        inside = np.True_ if full else _inside(row, column, size)
        if not bright:
            ground = rng.normal(_DARK, _DARK_NOISE, tissue.shape)
            return np.where(inside, tissue, ground.clip(0)).astype(np.uint16)
        share = (tissue / 65_535)[..., None]
        stained = (1 - share) * _STROMA + share * _NUCLEI
        glass = rng.normal(_GLASS, _GLASS_NOISE, (*tissue.shape, 3))
        return np.where(np.expand_dims(inside, -1), stained, glass).round().clip(0, 255).astype(np.uint8)

    return _write(path, size, shape, np.uint8 if bright else np.uint16, tile)


def _part(drawn, row: int, column: int) -> np.ndarray:
    """Return a tile of the mosaic."""
    each = PIECE // _TILE
    piece = drawn[(row // each + column // each) % 8]
    top, left = _TILE * (row % each), _TILE * (column % each)
    return piece[top : top + _TILE, left : left + _TILE]


def _inside(row: int, column: int, size: int) -> np.ndarray:
    """Return which pixels of a tile are tissue."""
    rows = (_TILE * row + np.arange(_TILE) + 0.5)[:, None] / size
    columns = (_TILE * column + np.arange(_TILE) + 0.5) / size
    found = [((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 < 1 for y, x, high, wide in _SECTIONS]
    return np.any(found, axis=0)


def _write(path: Path, size: int, shape: tuple[int, ...], dtype, tile) -> Path:
    count = -(-size // _TILE)

    def tiles() -> Iterator[np.ndarray]:
        for row in range(count):
            for column in range(count):
                yield tile(row, column)

    photometric = "rgb" if len(shape) == 3 else "minisblack"
    tifffile.imwrite(
        path,
        tiles(),
        shape=shape,
        dtype=dtype,
        tile=(_TILE, _TILE),
        compression="zlib",
        compressionargs={"level": 1},
        photometric=photometric,
    )
    return path
