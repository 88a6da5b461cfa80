"""Areas of convex hulls of many objects at once, exactly, by integers."""

import numpy as np
from numpy.typing import NDArray

# Values of the table of the lines of all objects that are looked at together.
_TABLE = 1 << 21
_NONE = np.iinfo(np.int64).max


def convex_areas(
    objects: NDArray[np.intp], rows: NDArray[np.intp], first: NDArray[np.intp], last: NDArray[np.intp], count: int
) -> NDArray[np.int64]:
    """Count the pixels in the convex hull of each object.

    A pixel stands for the middles of its four edges, and a pixel lies in the hull if its middle does or lies on its
    edge, as in `skimage.morphology.convex_hull_image`. The hulls of objects of about the same height grow side by
    side, a line of all of them after the other (Andrew's monotone chain), so that Python takes a step for each line
    and none for each object.

    Parameters
    ----------
    objects : (R,) integers
        The object of each row of pixels, 0..N-1.
    rows : (R,) integers
        Its row in the object, from 0 on; rows in which an object has no pixel may be missing, the first and the last
        may not.
    first, last : (R,) integers
        The first and the last column of the object in this row.
    count : int
        N

    Returns
    -------
    (N,) int64

    Examples
    --------
    A plus of five pixels is convex, and the hull of three pixels in a corner has no more pixels.

    >>> zeros = np.zeros(3, np.intp)
    >>> convex_areas(zeros, np.arange(3), np.array([1, 0, 1]), np.array([1, 2, 1]), 1)
    array([5])
    >>> convex_areas(zeros, np.arange(3), np.array([0, 0, 0]), np.array([2, 0, 0]), 1)
    array([6])
    """
    heights = np.zeros(count, np.int64)
    np.maximum.at(heights, objects, rows + 1)
    areas = np.zeros(count, np.int64)
    order = np.argsort(heights, kind="stable")
    position = np.empty(count, np.intp)
    position[order] = np.arange(count)
    by_height = np.argsort(position[objects], kind="stable")
    places, rows, first, last = position[objects][by_height], rows[by_height], first[by_height], last[by_height]
    sorted_heights, start = heights[order], 0
    while start < count:
        # Objects of up to twice the height, and no more than the table holds.
        stop = int(np.searchsorted(sorted_heights, 2 * sorted_heights[start], side="right"))
        tallest = int(sorted_heights[stop - 1])
        stop = min(stop, start + max(1, _TABLE // (4 * tallest + 2)))
        begin, end = np.searchsorted(places, [start, stop])
        part = slice(begin, end)
        areas[order[start:stop]] = _areas(
            places[part] - start, rows[part], first[part], last[part], sorted_heights[start:stop]
        )
        start = stop
    return areas


def _areas(
    objects: NDArray[np.intp],
    rows: NDArray[np.intp],
    first: NDArray[np.intp],
    last: NDArray[np.intp],
    heights: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the areas (N,) of some objects at once; coordinates are doubled, so that middles of edges are whole."""
    count = len(heights)
    table = np.full((2 * int(heights.max()) + 1, 2 * count), _NONE)
    # The right side, mirrored, is a left side.
    for side, values in ((objects, 2 * first), (objects + count, -2 * last)):
        lines = 2 * rows + 1
        table[lines, side] = values - 1
        for line in (lines - 1, lines + 1):
            # An object has a row once, so that no place occurs twice.
            table[line, side] = np.minimum(table[line, side], values)
    lines, values, sizes = _chains(table)
    corner = np.arange(len(lines) - 1)[:, None] < sizes[None, :] - 1
    level, side = np.nonzero(corner)
    top, bottom = lines[level, side], lines[level + 1, side]
    left, step = values[level, side], values[level + 1, side] - values[level, side]
    # Middles of pixels lie on odd lines.
    begin = top // 2
    repeats = bottom // 2 - begin
    of_row = np.repeat(np.arange(len(top)), repeats)
    row = np.arange(len(of_row)) - np.repeat(np.cumsum(repeats) - repeats, repeats) + begin[of_row]
    reach = bottom[of_row] - top[of_row]
    value = left[of_row] * reach + step[of_row] * (2 * row + 1 - top[of_row])
    column = -(-value // (2 * reach))
    outside = np.bincount(side[of_row], column.astype(np.float64), 2 * count).astype(np.int64)
    areas: NDArray[np.int64] = heights - outside[:count] - outside[count:]
    return areas


def _chains(table: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.intp]]:
    """Return the corners of the largest convex function below the values of each column.

    Parameters
    ----------
    table : (T, S) int64
        `_NONE` where there is no value.

    Returns
    -------
    lines, values : (T, S) int64
        Of the corners, of which column s has `sizes[s]`.
    sizes : (S,) integers
    """
    lines, values = np.zeros_like(table), np.zeros_like(table)
    sizes = np.zeros(table.shape[1], np.intp)
    for line, new in enumerate(table):
        active = np.flatnonzero(new != _NONE)
        turning = active[sizes[active] > 1]
        while len(turning):
            last = sizes[turning] - 1
            middle, middle_value = lines[last, turning], values[last, turning]
            before, before_value = lines[last - 1, turning], values[last - 1, turning]
            bent = (middle_value - before_value) * (line - middle) >= (new[turning] - middle_value) * (middle - before)
            turning = turning[bent]
            sizes[turning] -= 1
            turning = turning[sizes[turning] > 1]
        lines[sizes[active], active] = line
        values[sizes[active], active] = new[active]
        sizes[active] += 1
    return lines, values, sizes
