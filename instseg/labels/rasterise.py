"""Outlines to pixels: a pixel belongs to a polygon if its centre does.

Corners of pixels are whole numbers (x, y), as in `instseg.labels.polygons`: the first pixel covers (0, 0) to (1, 1),
and its centre is (0.5, 0.5).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_COORDINATE = 1e8
"""Largest coordinate of a corner, in pixels: far beyond any image, and far from where floats have no fractions."""

# Crossings of edges with rows that are computed at a time: some 50 MiB.
_MOST_CROSSINGS = 1 << 20
# Boxes of more pixels are not counted through at once, which takes 8 bytes for each.
_LARGEST_TABLE = 1 << 20


class Region(NamedTuple):
    """The pixels of an object within an image.

    Attributes
    ----------
    top, left : int
        The row and the column of the first pixel of `mask` in the image.
    mask : (h, w) bool
        True for pixels of the object; (0, 0) where it has none.
    """

    top: int
    left: int
    mask: NDArray[np.bool_]

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and the columns of the image that the mask covers."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


EMPTY = Region(0, 0, np.zeros((0, 0), bool))
"""No pixels."""


def fill_polygon(rings: Sequence[NDArray[np.floating]], shape: tuple[int, int]) -> Region:
    """Return the pixels of an image whose centres are inside of a polygon.

    Inside is what an odd number of rings' edges separate from the outside (the even-odd rule), so that a ring within
    another one is a hole, whichever way it goes round, and a ring that crosses itself leaves out what it goes round
    twice. A centre on an edge belongs to the polygon to the right of it, or below: polygons that share an edge share no
    pixel and leave none out. Time is that of the rows that the edges cross and of the pixels of the box around them.

    Parameters
    ----------
    rings : sequence of (V, 2) float
        Corners (x, y) in pixels, finite and within `MAX_COORDINATE`; the last is joined to the first. Rings may leave
        the image.
    shape : tuple of int
        Height and width of the image.

    Returns
    -------
    Region
        Its mask is the smallest that holds all pixels.

    Examples
    --------
    >>> outer = np.array([[1.0, 0], [4, 0], [4, 3], [1, 3]])
    >>> hole = np.array([[2.0, 1], [3, 1], [3, 2], [2, 2]])
    >>> region = fill_polygon([outer, hole], (9, 9))
    >>> region.top, region.left
    (0, 1)
    >>> region.mask.astype(int)
    array([[1, 1, 1],
           [1, 0, 1],
           [1, 1, 1]])
    """
    height, width = shape
    first = np.concatenate(list(rings) or [np.zeros((0, 2))]).astype(np.float64, copy=False)
    if len(first) == 0:
        return EMPTY
    second = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]).astype(np.float64, copy=False)
    top, bottom = _rows_between(first[:, 1].min(), first[:, 1].max(), height)
    left, right = _rows_between(first[:, 0].min(), first[:, 0].max(), width)
    if bottom <= top or right <= left:
        return EMPTY
    # One more column than pixels, for what lies to the right of all of them.
    toggles = np.zeros((bottom - top, right - left + 1), bool)
    for rows, columns in _crossings(first, second, top, bottom):
        places = np.clip(columns - left, 0, right - left).astype(np.intp)
        flat = (rows - top) * toggles.shape[1] + places
        # An even number of crossings at a place cancel out.
        if toggles.size <= _LARGEST_TABLE:
            toggles ^= (np.bincount(flat, minlength=toggles.size) & 1).astype(bool).reshape(toggles.shape)
        else:
            flat, counts = np.unique(flat, return_counts=True)
            toggles.ravel()[flat[counts & 1 == 1]] ^= True
    mask = np.logical_xor.accumulate(toggles[:, :-1], axis=1)
    return crop(Region(top, left, mask))


def _rows_between(low: float, high: float, limit: int) -> tuple[int, int]:
    """Return the first and the end of the rows (or columns) whose centres lie between two coordinates."""
    return max(int(np.ceil(low - 0.5)), 0), min(int(np.ceil(high - 0.5)), limit)


def _crossings(
    first: NDArray[np.float64], second: NDArray[np.float64], top: int, bottom: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Yield, in portions, the rows in which edges cross the line of centres and the first columns beyond."""
    # From the upper end to the lower one, so that an edge gives the same numbers whichever way it is gone.
    downwards = (first[:, 1] <= second[:, 1])[:, np.newaxis]
    upper, lower = np.where(downwards, first, second), np.where(downwards, second, first)
    begin = np.clip(np.ceil(upper[:, 1] - 0.5), top, bottom).astype(np.intp)
    counts = np.clip(np.ceil(lower[:, 1] - 0.5), top, bottom).astype(np.intp) - begin
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        # At least one edge, and as many as make up a portion.
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + _MOST_CROSSINGS, side="right")), start + 1)
        portion = slice(start, stop)
        edge = np.repeat(np.arange(start, stop), counts[portion])
        rows = np.arange(len(edge)) - np.repeat(ends[portion] - counts[portion] - before, counts[portion]) + begin[edge]
        (x0, y0), (x1, y1) = upper[edge].T, lower[edge].T
        yield rows, np.ceil(x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0)) - 0.5)
        start = stop


def crop(region: Region) -> Region:
    """Return a region whose mask is no larger than its pixels need."""
    rows, columns = np.flatnonzero(region.mask.any(1)), np.flatnonzero(region.mask.any(0))
    if len(rows) == 0:
        return EMPTY
    mask = region.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Region(region.top + int(rows[0]), region.left + int(columns[0]), mask)


def union(regions: Sequence[Region]) -> Region:
    """Return the pixels of all regions together.

    Examples
    --------
    >>> one, other = Region(0, 0, np.ones((1, 1), bool)), Region(1, 2, np.ones((1, 1), bool))
    >>> union([one, other]).mask.astype(int)
    array([[1, 0, 0],
           [0, 0, 1]])
    """
    regions = [region for region in regions if region.mask.size]
    if len(regions) < 2:
        return regions[0] if regions else EMPTY
    windows = [region.window for region in regions]
    top, left = min(rows.start for rows, _ in windows), min(columns.start for _, columns in windows)
    bottom, right = max(rows.stop for rows, _ in windows), max(columns.stop for _, columns in windows)
    mask = np.zeros((bottom - top, right - left), bool)
    for region, (rows, columns) in zip(regions, windows, strict=True):
        mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= region.mask
    return Region(top, left, mask)


def fill_runs(counts: NDArray[np.int64], shape: tuple[int, int], *, by_columns: bool = False) -> Region:
    """Return the pixels that runs of background and object, in turns, give.

    Parameters
    ----------
    counts : (N,) int64
        Lengths of runs, none below 0; the first is of background. Their sum is the number of pixels.
    shape : tuple of int
        Height and width of the image, or of the part of it that the runs are of.
    by_columns : bool
        Whether runs go down the columns, from left to right, rather than along the rows.

    Returns
    -------
    Region
        Its mask is the smallest that holds all pixels.

    Raises
    ------
    ValueError
        If the runs have another number of pixels.

    Examples
    --------
    >>> fill_runs(np.array([1, 2, 3]), (2, 3)).mask.astype(int)
    array([[1, 1]])
    """
    length = shape[0] if by_columns else shape[1]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    if (len(counts) and counts.min() < 0) or total != shape[0] * shape[1]:
        raise ValueError(f"the runs have {total} pixels, expected {shape[0]} x {shape[1]}")
    starts, ends = ends[:-1][::2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if len(starts) == 0:
        return EMPTY
    # A run that goes on in the next lines covers these from end to end but for its first and its last.
    first, last = int(starts[0] // length), int((ends[-1] - 1) // length)
    edges = np.zeros((last - first + 1) * length + 1, bool)
    edges[starts - first * length] ^= True
    edges[ends - first * length] ^= True
    lines = np.logical_xor.accumulate(edges[:-1]).reshape(-1, length)
    return crop(Region(0, first, lines.T) if by_columns else Region(first, 0, lines))
