"""Runs of equal pixels in the rows of a label image, and the connected components that they form. NumPy only.

There are far fewer runs than pixels.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.errors import UsageError

# So many pixels are written, and so many runs are compared with those that follow, at once: what is made of them fits
# into the processor's cache.
_CHUNK, _RUNS = 2**15, 2**13


class Runs(NamedTuple):
    """The runs of equal pixels in the rows of a label image, in raster order.

    Attributes
    ----------
    first_pixels : (R,) integers
        The first pixel of each, as a position in the flat array: row * W + column.
    lengths : (R,) integers
        In pixels; a run ends with its row.
    values : (R,) integers
        The label of its pixels.
    components : (R,) int32
        The connected component of equal nonzero pixels that it belongs to, 1..M in raster order; 0 where the label is.
    """

    first_pixels: NDArray[np.intp]
    lengths: NDArray[np.intp]
    values: NDArray[np.integer]
    components: NDArray[np.int32]

    def paint(self, numbers: NDArray[np.int32], labels: NDArray[np.int32]) -> None:
        """Write the number (R,) of each run into its pixels of an array, contiguous and of the labels' size."""
        flat = labels.reshape(-1)
        bounds = np.searchsorted(self.first_pixels, np.arange(0, flat.size, _CHUNK)).tolist()
        for first, last in itertools.pairwise(dict.fromkeys([*bounds, len(numbers)])):
            some = np.repeat(numbers[first:last], self.lengths[first:last])
            begin = self.first_pixels[first]
            flat[begin : begin + len(some)] = some


def find_runs(labels: NDArray[np.integer], *, connectivity: int | None = None) -> Runs:
    """Return the runs of a label image and the connected components that they form.

    Parameters and errors are those of `connected_components`. Besides the labels, memory holds a byte for each pixel
    and some numbers for each run, so that large images with little in them take little.

    Examples
    --------
    >>> import numpy as np
    >>> find_runs(np.array([[7, 7, 0], [0, 7, 0]])).components
    array([1, 0, 0, 1, 0], dtype=int32)
    """
    require_labels(labels)
    over_faces, over_corners = 2 * labels.ndim, 3**labels.ndim - 1
    if connectivity not in (None, over_faces, over_corners):
        expected = f"{over_faces} or {over_corners}"
        raise UsageError(f"connectivity is {connectivity}, expected {expected}", parameter="connectivity")
    begins = np.ones(labels.shape, bool)
    np.not_equal(labels[..., 1:], labels[..., :-1], out=begins[..., 1:])
    first_pixels = np.flatnonzero(begins)
    values = labels.ravel()[first_pixels]
    upper, lower = _touching_runs(begins, first_pixels, values, corners=connectivity != over_faces)
    roots = _join(len(values), upper, lower)
    # A root is the earliest run of its component, so that counting roots numbers components in raster order.
    is_root = (roots == np.arange(len(values))) & (values != 0)
    numbers = np.cumsum(is_root, dtype=np.int32)[roots] * (values != 0)
    return Runs(first_pixels, np.diff(first_pixels, append=labels.size), values, numbers.astype(np.int32))


def require_labels(labels: NDArray[np.integer]) -> None:
    """Raise UsageError unless labels are integers of two axes or three."""
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iu":
        raise UsageError(
            f"labels are {labels.dtype} of shape {labels.shape}, expected integers of shape (H, W) or (Z, Y, X)"
        )


def _touching_runs(
    begins: NDArray[np.bool_], first_pixels: NDArray[np.intp], values: NDArray[np.integer], *, corners: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs (upper, lower) of runs in neighbouring rows that touch and share a value other than 0.

    The rows that follow one are the next in its plane, and in a volume those in the next plane: the one beneath and,
    where corners count, the two beside that.
    """
    width = begins.shape[-1]
    labelled = np.flatnonzero(values != 0)
    reach = int(corners)
    pairs = [(labelled[:0], labelled[:0])]
    for start in range(0, len(labelled), _RUNS):
        runs = labelled[start : start + _RUNS]
        row, begin = np.divmod(first_pixels[runs], width)
        following = np.where(runs + 1 < len(first_pixels), first_pixels.take(runs + 1, mode="clip"), begins.size)
        end = following - 1 - row * width
        for exists, step in _rows_that_follow(row, begins.shape[:-1], corners=corners):
            below = (row[exists] + step) * width
            # The runs below lie side by side: those between the ones under the two ends.
            first, last = np.maximum(begin[exists] - reach, 0), np.minimum(end[exists] + reach, width - 1)
            lowest, highest = _runs_at(begins, first_pixels, below + first, below + last)
            counts = highest - lowest + 1
            upper = np.repeat(runs[exists], counts)
            within = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
            lower = np.repeat(lowest, counts) + within
            same = values[upper] == values[lower]
            pairs.append((upper[same], lower[same]))
    uppers, lowers = zip(*pairs, strict=True)
    return np.concatenate(uppers), np.concatenate(lowers)


def _rows_that_follow(
    row: NDArray[np.intp], shape: tuple[int, ...], *, corners: bool
) -> Iterator[tuple[NDArray[np.bool_], int]]:
    """Return, for each direction to a later row that touches, which of rows (R,) have it, and how much later it is.

    `shape` is (H,) in an image and (Z, Y) in a volume.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    for direction in itertools.product((-1, 0, 1), repeat=len(shape)):
        if direction <= (0,) * len(shape) or not (corners or sum(map(abs, direction)) == 1):
            continue
        step = sum(along * stride for along, stride in zip(direction, strides, strict=True))
        exists = row < math.prod(shape) - direction[0] * strides[0]
        for along, stride, length in zip(direction[1:], strides[1:], shape[1:], strict=True):
            if along:
                place = row // stride % length + along
                exists &= (place >= 0) & (place < length)
        yield exists, step


def _runs_at(
    begins: NDArray[np.bool_], first_pixels: NDArray[np.intp], first: NDArray[np.intp], last: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the numbers of the runs that some pixels, of rows that follow each other, belong to."""
    if not len(first):
        return first, last
    low, high = int(first.min()), int(last.max()) + 1
    if 2 * len(first) <= (high - low) // 16:
        return np.searchsorted(first_pixels, first, "right") - 1, np.searchsorted(first_pixels, last, "right") - 1
    # Many look-ups are faster in a table of all pixels between.
    table = np.cumsum(begins.reshape(-1)[low:high], dtype=np.intp)
    table += np.searchsorted(first_pixels, low, "left") - 1
    return table[first - low], table[last - low]


def _join(count: int, left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each of `count` nodes the smallest node that pairs (left, right) connect it with."""
    parents = np.arange(count)
    while len(left):
        np.minimum.at(parents, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(parents, grandparents := parents[parents]):
            parents = grandparents
        left, right = parents[left], parents[right]
        apart = left != right
        left, right = left[apart], right[apart]
    return parents
