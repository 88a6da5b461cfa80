"""Parts of a page of a TIFF: only the strips or tiles are decoded that a part touches."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Compressions whose tables lie outside of the strips and tiles.
_JPEG = {6, 7, 34892, 33007}
WHOLE = slice(None)
"""All rows, or all columns."""


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
        pixels = np.asarray(page.asarray())
        pixels = np.moveaxis(pixels, 0, -1) if keyframe.axes == "SYX" else pixels.reshape(*pixels.shape[:2], -1)
        # A view of a part would keep all of the page in memory.
        return pixels if whole else pixels[rows, columns].copy()
    part = np.zeros((bottom - top, right - left, samples), keyframe.dtype)
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
    tall, wide = (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else (keyframe.rowsperstrip, width)
    across = -(-width // wide)
    for row, column in itertools.product(
        range(top // tall, -(-bottom // tall)), range(left // wide, -(-right // wide))
    ):
        segment, place = _segment(page, row * across + column)
        if segment is None:
            continue
        first, begin = place[2], place[3]
        above, before = max(0, top - first), max(0, left - begin)
        piece = segment[0, above : bottom - first, before : right - begin]
        down, along = max(0, first - top), max(0, begin - left)
        part[down : down + piece.shape[0], along : along + piece.shape[1]] = piece
    return part


def _segment(page: Any, index: int) -> tuple[NDArray[Any] | None, tuple[int, ...]]:
    """Return a decoded strip or tile (1, h, w, samples), None where it is empty, and where it lies."""
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
