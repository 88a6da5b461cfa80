"""Parts of a page of a TIFF: only the strips or tiles are decoded that a part touches."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Compressions whose tables lie outside of the strips and tiles.
_JPEG = {6, 7, 34892, 33007}
# So many bytes are read at once, before they are decoded.
_AT_ONCE = 2**24
WHOLE = slice(None)
"""All rows, or all columns."""

Segment = tuple[NDArray[Any] | None, tuple[int, ...]]
"""A decoded strip or tile (1, h, w, samples), None where it is empty, and where it lies."""


def decode_segment(page: Any, index: int) -> Segment:
    """Read and decode a strip or tile of a page."""
    keyframe, handle = page.keyframe, page.parent.filehandle
    tables = {}
    if int(keyframe.compression) in _JPEG:
        tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
    data = None
    if count := page.databytecounts[index]:
        with handle.lock:
            handle.seek(page.dataoffsets[index])
            data = handle.read(count)
    segment, place, _ = keyframe.decode(data, index, **tables)
    return segment, place


class PartReader:
    """Reads parts of a page one after the other, and keeps what was decoded for the part before.

    Parts that lie side by side or overlap need the same strips or tiles.

    Parameters
    ----------
    page : tifffile.TiffPage
        As `read_part` takes it, in several strips or tiles and with the samples of a pixel side by side.
    max_bytes : int
        Most bytes that are kept; a strip or tile that is alone in its part is kept whatever its size.
    """

    def __init__(self, page: Any, max_bytes: int) -> None:
        self._page, self._max_bytes = page, max_bytes
        self._kept: dict[int, Segment] = {}

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a part (h, w, samples) as `read_part` does; what was never written is 0."""
        before, size = self._kept, 0
        kept: dict[int, Segment] = {}

        def segment(page: Any, index: int) -> Segment:
            nonlocal size
            found = before.pop(index, None) or decode_segment(page, index)
            taken = 0 if found[0] is None else found[0].nbytes
            if not kept or size + taken <= self._max_bytes:
                kept[index] = found
                size += taken
            return found

        part = _from_segments(self._page, rows, columns, segment)
        self._kept = kept
        return part


def read_part(page: Any, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[Any]:
    """Return a part of a page, as it is stored.

    Parameters
    ----------
    page : tifffile.TiffPage or tifffile.TiffFrame
        Checked by `instseg.io.tiff_claims`, of rows and columns and perhaps samples.
    rows, columns : slice
        With step 1.

    Returns
    -------
    (h, w, samples)
    """
    keyframe = page.keyframe
    height, width, samples = keyframe.imagelength, keyframe.imagewidth, keyframe.samplesperpixel
    (top, bottom, _), (left, right, _) = rows.indices(height), columns.indices(width)
    whole = (top, bottom, left, right) == (0, height, 0, width)
    if whole or keyframe.axes == "SYX" or keyframe.imagedepth != 1:
        # Half of the cores is tifffile's own choice, and one of two.
        pixels = np.asarray(page.asarray(maxworkers=os.cpu_count(), buffersize=_AT_ONCE))
        pixels = np.moveaxis(pixels, 0, -1) if keyframe.axes == "SYX" else pixels.reshape(*pixels.shape[:2], -1)
        # A view of a part would keep all of the page in memory.
        return pixels if whole else pixels[rows, columns].copy()
    if page.is_final:
        # Values that lie one after another are a single strip to tifffile.
        handle = page.parent.filehandle
        stored = keyframe.dtype.newbyteorder(page.parent.byteorder)
        shape = (bottom - top, width, samples)
        offset = page.dataoffsets[0] + top * width * samples * stored.itemsize
        with handle.lock:
            handle.seek(offset)
            values = handle.read_array(stored, count=int(np.prod(shape)))
        return np.array(values.reshape(shape)[:, left:right], keyframe.dtype)
    return _from_segments(page, rows, columns, decode_segment)


def _from_segments(page: Any, rows: slice, columns: slice, segment_of: Callable[[Any, int], Segment]) -> NDArray[Any]:
    """Put a part together from strips or tiles of a page, of which a function returns one by its index."""
    keyframe = page.keyframe
    height, width, samples = keyframe.imagelength, keyframe.imagewidth, keyframe.samplesperpixel
    (top, bottom, _), (left, right, _) = rows.indices(height), columns.indices(width)
    part = np.zeros((bottom - top, right - left, samples), keyframe.dtype)
    tall, wide = (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else (keyframe.rowsperstrip, width)
    across = -(-width // wide)
    for row, column in itertools.product(
        range(top // tall, -(-bottom // tall)), range(left // wide, -(-right // wide))
    ):
        segment, place = segment_of(page, row * across + column)
        if segment is None:
            continue
        first, begin = place[2], place[3]
        above, before = max(0, top - first), max(0, left - begin)
        piece = segment[0, above : bottom - first, before : right - begin]
        down, along = max(0, first - top), max(0, begin - left)
        part[down : down + piece.shape[0], along : along + piece.shape[1]] = piece
    return part
