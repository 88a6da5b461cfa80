"""Instances of a label image: connected components, holes, numbering and sizes. NumPy only."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import UsageError

IGNORED = -1
"""Number of the pixels that take no part in training and scores: neither background nor an instance."""

# Up to this label a table is faster than sorting the labels.
_LARGEST_TABLE = 1 << 22


def connected_components(labels: NDArray[np.integer], *, connectivity: int | None = None) -> NDArray[np.int32]:
    """Give each connected component of equal nonzero pixels a number.

    Works on the runs of equal pixels in each row, which are far fewer than
    the pixels: runs of neighbouring rows that touch and have the same value
    are merged by linking the later to the earlier until nothing changes.

    Parameters
    ----------
    labels : (H, W) or (Z, Y, X) integer
        0 is background.
    connectivity : int, optional
        How many neighbours a pixel touches: 8 in an image and 26 in a volume, the default, where those that share only
        a corner count, 4 and 6 where they do not.

    Returns
    -------
    int32 of the labels' shape
        0 where `labels` is 0; components 1..M in raster order of their first pixel.

    Raises
    ------
    UsageError
        If `labels` is no array of integers with two axes or three, or `connectivity` none of these numbers.

    References
    ----------
    He, Chao, Suzuki (2008), "A Run-Based Two-Scan Labeling Algorithm", IEEE Transactions on Image Processing 17(5).

    Examples
    --------
    >>> import numpy as np
    >>> connected_components(np.array([[7, 0, 7], [7, 0, 7], [0, 7, 0]]), connectivity=4)
    array([[1, 0, 2],
           [1, 0, 2],
           [0, 3, 0]], dtype=int32)
    >>> connected_components(np.array([[7, 0, 7], [7, 0, 7], [0, 7, 0]]))
    array([[1, 0, 1],
           [1, 0, 1],
           [0, 1, 0]], dtype=int32)
    """
    runs = find_runs(labels, connectivity=connectivity)
    return np.repeat(runs.components, runs.lengths).reshape(labels.shape)


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
    _require_labels(labels)
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


def relabel_sequential(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Renumber labels 1..N in raster order of their first pixel; 0 stays 0.

    Parameters
    ----------
    labels : (H, W) or (Z, Y, X) integer, not negative
        0 is background; values may be of any size.

    Returns
    -------
    int32 of the labels' shape

    Raises
    ------
    UsageError
        If `labels` is no array of integers with two axes or three, or has negative values.

    Examples
    --------
    >>> import numpy as np
    >>> relabel_sequential(np.array([[0, 9, 9], [4, 4, 9]]))
    array([[0, 1, 1],
           [2, 2, 1]], dtype=int32)
    """
    _require_labels(labels)
    if labels.size == 0:
        return np.zeros(labels.shape, np.int32)
    flat = labels.ravel()
    begins = np.ones(flat.shape, bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    first_pixels = np.flatnonzero(begins)
    values = flat[first_pixels]
    if values.min() < 0:
        raise UsageError(f"labels hold the negative value {values.min()}, expected 0 for background and 1..N")
    numbers = _order_of_appearance(values)
    return np.repeat(numbers, np.diff(first_pixels, append=flat.size)).reshape(labels.shape)


def dense_labels(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Renumber labels 1..N in their own order; 0 stays 0.

    Parameters
    ----------
    labels : integers of any shape, not negative
        0 is background; values may be of any size.

    Returns
    -------
    ids : (N,) integers
        The labels that occur, ascending, without 0.
    numbers : int32 of the labels' shape
        0 for background, else 1 + the position of the pixel's label in `ids`.

    Examples
    --------
    >>> import numpy as np
    >>> ids, numbers = dense_labels(np.array([[0, 9, 9], [4, 4, 9]]))
    >>> ids
    array([4, 9])
    >>> numbers
    array([[0, 2, 2],
           [1, 1, 2]], dtype=int32)
    """
    # Counting is faster than sorting as long as the labels are not far larger than the image.
    if labels.size and labels.max() <= 4 * labels.size:
        index = labels.astype(np.intp, copy=False)
        present = np.bincount(index.ravel()) > 0
        present[0] = False
        numbers = np.cumsum(present, dtype=np.int32) * present
        return np.flatnonzero(present).astype(labels.dtype), numbers[index]
    ids = np.unique(labels)
    ids = ids[ids != 0]
    return ids, np.searchsorted(ids, labels).astype(np.int32) + (labels != 0)


def equivalent_diameter(areas: ArrayLike, ndim: int = 2) -> NDArray[np.float64]:
    """Return the diameter of the circle that has as many pixels, or of the ball that has as many voxels.

    Parameters
    ----------
    areas : numbers of any shape
        In pixels, or voxels.
    ndim : {2, 3}
        Number of axes.

    Returns
    -------
    float64 of the same shape
        In pixels.

    Examples
    --------
    >>> equivalent_diameter([3.0, 50.0]).round(2)
    array([1.95, 7.98])
    """
    sizes = np.asarray(areas, np.float64)
    diameters: NDArray[np.float64] = np.sqrt(sizes * 4 / np.pi) if ndim == 2 else np.cbrt(sizes * 6 / np.pi)
    return diameters


def fill_holes(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give the holes of an instance to it.

    A hole is background that one instance alone surrounds: it touches neither another
    instance nor the edge of the image or the volume. Background that is connected over corners
    only makes several holes, as instances are connected over corners, too. Time is O(pixels).

    Parameters
    ----------
    labels : (H, W) or (Z, Y, X) int32
        0 is background.

    Returns
    -------
    int32 of the labels' shape

    Raises
    ------
    UsageError
        If `labels` is no array of integers with two axes or three.

    Examples
    --------
    >>> import numpy as np
    >>> fill_holes(np.array([[3, 3, 3, 0], [3, 0, 3, 0], [3, 3, 3, 0]], np.int32))
    array([[3, 3, 3, 0],
           [3, 3, 3, 0],
           [3, 3, 3, 0]], dtype=int32)
    """
    _require_labels(labels)
    if labels.size == 0:
        return labels.copy()
    background = connected_components((labels == 0).astype(np.int8), connectivity=2 * labels.ndim)
    count = int(background.max()) + 1
    lowest, highest = np.full(count, np.iinfo(np.int32).max, np.int32), np.zeros(count, np.int32)
    is_edge = np.zeros(count, bool)
    for axis in range(labels.ndim):
        # Views with this axis first.
        holes, instances = np.moveaxis(background, axis, 0), np.moveaxis(labels, axis, 0)
        for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[1:], np.s_[:-1])):
            beside = (holes[one] > 0) & (instances[other] > 0)
            np.minimum.at(lowest, holes[one][beside], instances[other][beside])
            np.maximum.at(highest, holes[one][beside], instances[other][beside])
        is_edge[holes[0]] = is_edge[holes[-1]] = True
    surrounded = (lowest == highest) & ~is_edge
    return labels + np.where(surrounded, highest, 0)[background]


def _require_labels(labels: NDArray[np.integer]) -> None:
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
    ends = np.append(first_pixels[1:], begins.size) - 1
    find_run = _run_finder(begins, first_pixels)
    labelled = np.flatnonzero(values != 0)
    row, begin = np.divmod(first_pixels[labelled], width)
    end = ends[labelled] - row * width
    reach = int(corners)
    pairs = []
    for exists, step in _rows_that_follow(row, begins.shape[:-1], corners=corners):
        below = (row[exists] + step) * width
        # The runs below lie side by side: those between the ones under the two ends.
        first, last = np.maximum(begin[exists] - reach, 0), np.minimum(end[exists] + reach, width - 1)
        lowest, highest = np.split(find_run(np.concatenate([below + first, below + last])), 2)
        counts = highest - lowest + 1
        upper = np.repeat(labelled[exists], counts)
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


def _run_finder(
    begins: NDArray[np.bool_], first_pixels: NDArray[np.intp]
) -> Callable[[NDArray[np.intp]], NDArray[np.intp]]:
    """Return what finds the number of the run that each of some pixels belongs to."""
    table: list[NDArray[np.int32]] = []

    def find(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
        if not table and len(pixels) <= begins.size // 16:
            return np.searchsorted(first_pixels, pixels, side="right") - 1
        # Many look-ups are faster in a table of all pixels, which takes less memory than they do.
        if not table:
            table.append(np.cumsum(begins.ravel(), dtype=np.int32))
        return table[0][pixels].astype(np.intp) - 1

    return find


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


def _order_of_appearance(values: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return 1..N for `values` in the order of their first appearance, and 0 for 0."""
    if values.max() < _LARGEST_TABLE:
        keys = values.astype(np.intp)
        size = int(keys.max()) + 1
    else:
        unique, keys = np.unique(values, return_inverse=True)
        size = len(unique)
    first = np.full(size, len(keys))
    # Of several values assigned to one place NumPy keeps the last: backwards, that is the first appearance.
    first[keys[::-1]] = np.arange(len(keys))[::-1]
    appears = np.zeros(len(keys), bool)
    present = first[first < len(keys)]
    appears[present] = True
    appears &= values != 0
    numbers = np.cumsum(appears, dtype=np.int32)[first[keys]]
    return np.where(values != 0, numbers, np.int32(0)).astype(np.int32)
