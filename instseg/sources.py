"""Images that are too large for memory: TIFF files that are read part by part."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from instseg.decoding import ImageFileError, decoding, header, tiff_colour
from instseg.normalisation import HIGH_PERCENTILE, LOW_PERCENTILE
from instseg.tiles import Box

LARGE = 100_000_000
"""Images of more pixels are read part by part where their files allow that."""

# Decoded pieces that are kept, as neighbouring tiles need the same ones.
_KEPT_BYTES = 256 * 2**20
# What an image's levels are estimated from: parts of this side, spread over it.
_SAMPLES, _SAMPLE_SIDE = 64, 512


class Source(Protocol):
    """An image that is read part by part.

    Attributes
    ----------
    shape : tuple of int
        (H, W, C)
    """

    shape: tuple[int, int, int]

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of it."""

    def close(self) -> None:
        """Let go of the file."""


class TiffSource:
    """A TIFF file of one image, in tiles or strips of any compression.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ImageFileError
        If it cannot be read, is no TIFF, or is of a kind that is not read part by part.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = header(path, most_pixels=None)
        if not reads_in_parts(path):
            raise ImageFileError(
                path, "it cannot be read part by part", "save it as a tiled TIFF with samples side by side"
            )
        with decoding(path):
            self._tiff = tifffile.TiffFile(path)
        self._page: Any = self._tiff.series[0].levels[0].keyframe
        self.shape = (found.height, found.width, found.channels)
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def close(self) -> None:
        """Let go of the file."""
        self._tiff.close()

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the image.

        Raises
        ------
        ImageFileError
            If what the file holds there is damaged or missing.
        """
        page = self._page
        with decoding(self._path):
            if page.is_contiguous:
                return self._read_rows(box)
            length, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.shape[1])
            columns = -(-self.shape[1] // width)
            part = np.zeros((*box.shape, self.shape[2]), page.dtype)
            for row in range(box.top // length, -(-box.bottom // length)):
                for column in range(box.left // width, -(-box.right // width)):
                    place = Box(row * length, column * width, (row + 1) * length, (column + 1) * width)
                    common = place.common(box)
                    segment = self._segment(row * columns + column)
                    part[common.within(box)] = segment[common.within(place)]
        return part

    def _read_rows(self, box: Box) -> NDArray[Any]:
        page, width, channels = self._page, self.shape[1], self.shape[2]
        kind = np.dtype(page.dtype).newbyteorder(self._tiff.byteorder)
        row = width * channels * kind.itemsize
        handle = self._tiff.filehandle
        handle.seek(page.dataoffsets[0] + box.top * row)
        data = handle.read(box.shape[0] * row)
        if len(data) < box.shape[0] * row:
            raise ValueError("it ends before its last row")
        rows = np.frombuffer(data, kind).reshape(box.shape[0], width, channels)
        return rows[:, box.left : box.right].astype(page.dtype)

    def _segment(self, index: int) -> NDArray[Any]:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        page, handle = self._page, self._tiff.filehandle
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        data = None
        if size:
            handle.seek(offset)
            data = handle.read(size)
            if len(data) < size:
                raise ValueError("it ends before its last tile")
        jpeg = {}
        if int(page.compression) in (6, 7, 34892, 33007):
            jpeg = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        decoded, _, shape = page.decode(data, index, _fullsize=page.is_tiled, **jpeg)
        # A tile that was never written has no bytes, and means zeros.
        found = np.zeros(shape, page.dtype) if decoded is None else decoded
        segment: NDArray[Any] = found.reshape(found.shape[-3:])
        self._cache[index] = segment
        self._bytes += segment.nbytes
        while self._bytes > _KEPT_BYTES and len(self._cache) > 1:
            self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return segment


def reads_in_parts(path: Path) -> bool:
    """Return whether a file is a TIFF whose image can be read part by part.

    Raises
    ------
    ImageFileError
        If the file cannot be read.
    """
    found = header(path, most_pixels=None)
    if found.format != "TIFF" or found.planes != 1 or found.alpha or found.white_is_zero:
        return False
    with decoding(path), tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        page = series.levels[0].keyframe
        plain = tiff_colour(page) in ("gray", "rgb") and np.dtype(page.dtype) in (np.uint8, np.uint16, np.float32)
        beside = page.planarconfig == 1 and page.samplesperpixel == found.channels
        return bool(plain and beside and page.imagedepth == 1 and page.shape[:2] == (found.height, found.width))


def sampled_levels(
    shape: tuple[int, int], read: Callable[[Box], NDArray[Any]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate the percentiles that normalisation maps to 0 and 1 from parts that are spread over an image.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    read : callable
        Returns the part (h, w, C) in a Box.

    Returns
    -------
    low, high : (C,) float32
    """
    height, width = shape
    count = round(_SAMPLES**0.5)
    side = _SAMPLE_SIDE
    tops = np.unique(np.linspace(0, max(0, height - side), count).round().astype(int))
    lefts = np.unique(np.linspace(0, max(0, width - side), count).round().astype(int))
    parts = []
    for top in tops.tolist():
        for left in lefts.tolist():
            part = read(Box(top, left, min(top + side, height), min(left + side, width)))
            # Every second pixel of both axes says as much, in a quarter of the memory.
            parts.append(part[::2, ::2].reshape(-1, part.shape[2]))
    values = np.concatenate(parts)
    low, high = np.percentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE], axis=0).astype(np.float32)
    return low, high
