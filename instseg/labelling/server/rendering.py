"""Tiles of an image and of its labels, as the page shows them: level k is 2**k times smaller."""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import check_parameter
from instseg.io.source import ImageReader
from instseg.tiling.grid import Box

TILE = 512
"""Height and width of a tile, in pixels of its level."""

# Rows that are read at once where a tile shows a large part of an image that is streamed.
_BAND_PIXELS = 2**24


Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

MAX_CHANNELS = 16
"""Most channels that are shown at once."""


@dataclass(frozen=True, slots=True)
class ShownChannel:
    """How a channel becomes a colour, which is added to those of the others.

    Attributes
    ----------
    index : int
        Of the channel, from 0.
    colour : Colour
        What its highest value becomes.
    low, high : float
        The values that become black and the full colour.
    gamma : float
        The exponent of what lies between, 0.1 to 10; below 1 dark parts become brighter.
    """

    index: int
    colour: Colour
    low: float
    high: float
    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_parameter(math.isfinite(self.low), "low", self.low, "a number")
        check_parameter(math.isfinite(self.high), "high", self.high, "a number")
        check_parameter(0.1 <= self.gamma <= 10, "gamma", self.gamma, "0.1 to 10")


def to_colours(pixels: NDArray[Any], shown: Sequence[ShownChannel]) -> NDArray[np.uint8]:
    """Return pixels (h, w, C) as colours (h, w, 3) uint8, the sums of those of the channels."""
    mixed = np.zeros((*pixels.shape[:2], 3), np.float32)
    for channel in shown:
        values = pixels[:, :, channel.index].astype(np.float32)
        values -= np.float32(channel.low)
        values *= np.float32(1 / max(channel.high - channel.low, 1e-12))
        np.clip(values, 0, 1, out=values)
        if channel.gamma != 1:
            np.power(values, np.float32(channel.gamma), out=values)
        for number, colour in enumerate(channel.colour):
            if colour:
                mixed[:, :, number] += np.float32(colour) * values
    mixed += 0.5
    colours: NDArray[np.uint8] = np.minimum(mixed, 255).astype(np.uint8)
    return colours


def level_count(height: int, width: int) -> int:
    """Return how many levels an image has: at the last one tile shows all of it."""
    return 1 + max(0, math.ceil(math.log2(max(height, width) / TILE)))


def tile_box(shape: Sequence[int], level: int, row: int, column: int) -> Box:
    """Return what a tile shows, in pixels of the image.

    Raises
    ------
    UsageError
        If there is no such tile.
    """
    height, width = shape[:2]
    expected = f"0 to {level_count(height, width) - 1}"
    check_parameter(0 <= level < level_count(height, width), "level", level, expected)
    side = TILE << level
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    check_parameter(0 <= row < rows, "row", row, f"0 to {rows - 1}")
    check_parameter(0 <= column < columns, "column", column, f"0 to {columns - 1}")
    top, left = row * side, column * side
    return Box(top, left, min(top + side, height), min(left + side, width))


def read_level(image: ImageReader, box: Box, level: int) -> NDArray[Any]:
    """Return a part (h, w, C) of an image at a level: the means of squares of 2**level pixels, in the image's type.

    Time is that of reading the part; memory is bounded. Of images that are streamed every 2**level-th pixel is taken.
    """
    if level == 0:
        return image.read(box)
    step = 1 << level
    rows = max(1, _BAND_PIXELS // max(1, box.shape[1]) // step) * step
    bands = (
        image.read(box.with_bounds(0, top, min(top + rows, box.bottom))) for top in range(box.top, box.bottom, rows)
    )
    if image.streamed:
        return np.concatenate([band[::step, ::step] for band in bands])
    return np.concatenate([_block_means(band, level) for band in bands])


def _block_means(pixels: NDArray[Any], level: int) -> NDArray[Any]:
    """Return the means of squares of 2**level pixels; the last row and column are repeated where squares are cut."""
    means: NDArray[np.floating] = pixels.astype(np.float64 if pixels.dtype.itemsize > 4 else np.float32)
    for _ in range(level):
        rows, columns = means.shape[0] % 2, means.shape[1] % 2
        if rows or columns:
            means = np.pad(means, ((0, rows), (0, columns), (0, 0)), "edge")
        halved = means[0::2] + means[1::2]
        means = (halved[:, 0::2] + halved[:, 1::2]) * means.dtype.type(0.25)
    return (np.rint(means) if pixels.dtype.kind in "iu" else means).astype(pixels.dtype)


def encode_png(colours: NDArray[np.uint8]) -> bytes:
    """Return a picture (h, w, 3) as PNG, fast rather than small."""
    height, width, _ = colours.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    # Each value as the difference from the pixel to the left, PNG's filter 1, compresses best of what costs nothing.
    rows[:, 0] = 1
    rows[:, 1:4] = colours[:, 0]
    np.subtract(colours[:, 1:].reshape(height, -1), colours[:, :-1].reshape(height, -1), out=rows[:, 4:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
