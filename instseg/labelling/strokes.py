"""Lines that a hand has drawn, as pixels.

Coordinates are (row, column); pixel (r, c) covers the rows from r to r + 1 and the columns from c to c + 1.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.labels.rasterise import EMPTY, Region, crop, union
from instseg.tiling.grid import Box


class LinePixels(NamedTuple):
    """The pixels under a line, in the order in which it is drawn; each once where it does not come back.

    Attributes
    ----------
    rows, columns : (P,) int64
        Those within the image.
    directions : (P, 2) float64
        Of the line at each pixel, of length one; (0, 0) where it is a point.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    directions: NDArray[np.float64]


def line_pixels(points: NDArray[np.float64], shape: tuple[int, int]) -> LinePixels:
    """Return the pixels under a line of straight segments, connected over edges or corners.

    Parameters
    ----------
    points : (N, 2) float64
        At least one; they may lie outside of the image.
    shape : tuple of int
        Height and width of the image.

    Examples
    --------
    >>> line = line_pixels(np.array([[0.5, 0.5], [2.5, 2.5]]), (9, 9))
    >>> line.rows, line.columns
    (array([0, 1, 2]), array([0, 1, 2]))
    """
    steps = np.diff(points, axis=0)
    longest = np.abs(steps).max(axis=1, initial=0)
    steps, begins, longest = steps[longest > 0], points[:-1][longest > 0], longest[longest > 0]
    # Less than a pixel at a time, so that rounding never leaves one out.
    counts = longest.astype(np.int64) + 1
    segment = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = begins[segment] + steps[segment] * (within / counts[segment])[:, None]
    lengths = np.linalg.norm(steps, axis=1)
    directions = np.append(steps / lengths[:, None], np.zeros((1, 2)), axis=0)
    directions = directions[np.append(segment, len(counts) - 1 if len(counts) else 0)]
    pixels = np.floor(np.concatenate([places, points[-1:]])).astype(np.int64)
    is_new = np.append(True, (np.diff(pixels, axis=0) != 0).any(axis=1))
    inside = is_new & ((pixels >= 0) & (pixels < shape)).all(axis=1)
    return LinePixels(pixels[inside, 0], pixels[inside, 1], directions[inside])


def brush_pixels(points: NDArray[np.float64], radius: float, shape: tuple[int, int]) -> Region:
    """Return the pixels whose centres are within a radius of a line, and those under it.

    Parameters
    ----------
    points : (N, 2) float64
        At least one; they may lie outside of the image.
    radius : float
        In pixels, above 0.
    shape : tuple of int
        Height and width of the image.
    """
    # A long oblique segment lies in a large box, and several short ones in small ones.
    stops = _subdivided(points, max(4 * radius, 16.0))
    pairs = zip(stops[:-1], stops[1:], strict=True) if len(stops) > 1 else [(points[0], points[0])]
    regions = [_capsule(first, second, radius, shape) for first, second in pairs]
    line = line_pixels(points, shape)
    if len(line.rows):
        top, left = int(line.rows.min()), int(line.columns.min())
        mask = np.zeros((int(line.rows.max()) - top + 1, int(line.columns.max()) - left + 1), bool)
        mask[line.rows - top, line.columns - left] = True
        regions.append(Region(top, left, mask))
    return union(regions)


def _subdivided(points: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    """Return the points of a line whose segments are no longer than `longest`."""
    steps = np.diff(points, axis=0)
    counts = np.maximum(np.ceil(np.linalg.norm(steps, axis=1) / longest), 1).astype(np.int64)
    segment = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts)
    between = points[:-1][segment] + steps[segment] * (within / counts[segment])[:, None]
    return np.concatenate([between, points[-1:]])


def _capsule(first: NDArray[np.float64], second: NDArray[np.float64], radius: float, shape: tuple[int, int]) -> Region:
    """Return the pixels whose centres are within a radius of a segment."""
    low, high = np.minimum(first, second) - radius - 0.5, np.maximum(first, second) + radius + 0.5
    box = Box(*np.floor(low).astype(int).tolist(), *np.ceil(high).astype(int).tolist())
    box = box.intersection(Box(0, 0, *shape))
    if 0 in box.shape:
        return EMPTY
    rows = np.arange(box.top, box.bottom)[:, None] + 0.5 - first[0]
    columns = np.arange(box.left, box.right)[None] + 0.5 - first[1]
    step = second - first
    squared = float(step @ step)
    along = np.clip((rows * step[0] + columns * step[1]) / squared, 0, 1) if squared else np.float64(0)
    distance = (rows - along * step[0]) ** 2 + (columns - along * step[1]) ** 2
    return crop(Region(box.top, box.left, distance <= radius**2))
