"""Instances of a label image: connected components, holes, numbering and sizes. NumPy only."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import UsageError

IGNORED = -1
"""Number of the pixels that take no part in training and scores: neither background nor an instance."""

# Up to this label a table is faster than sorting the labels.
_LARGEST_TABLE = 1 << 22


def connected_components(labels: NDArray[np.integer], *, connectivity: int = 8) -> NDArray[np.int32]:
    """Give each connected component of equal nonzero pixels a number.

    Works on the runs of equal pixels in each row, which are far fewer than
    the pixels: runs of neighbouring rows that touch and have the same value
    are merged by linking the later to the earlier until nothing changes.

    Parameters
    ----------
    labels : (H, W) integer
        0 is background.
    connectivity : {4, 8}
        Whether pixels that share only a corner touch (8) or not (4).

    Returns
    -------
    (H, W) int32
        0 where `labels` is 0; components 1..M in raster order of their first pixel.

    Raises
    ------
    UsageError
        If `labels` is not a 2-D array of integers or `connectivity` is neither 4 nor 8.

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
        The first pixel of each, row * W + column.
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


def find_runs(labels: NDArray[np.integer], *, connectivity: int = 8) -> Runs:
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
    if connectivity not in (4, 8):
        raise UsageError(f"connectivity is {connectivity}, expected 4 or 8", parameter="connectivity")
    height, width = labels.shape
    begins = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    first_pixels = np.flatnonzero(begins)
    values = labels.ravel()[first_pixels]
    upper, lower = _touching_runs(begins, first_pixels, values, reach=1 if connectivity == 8 else 0)
    roots = _join(len(values), upper, lower)
    # A root is the earliest run of its component, so that counting roots numbers components in raster order.
    is_root = (roots == np.arange(len(values))) & (values != 0)
    numbers = np.cumsum(is_root, dtype=np.int32)[roots] * (values != 0)
    return Runs(first_pixels, np.diff(first_pixels, append=height * width), values, numbers.astype(np.int32))


def relabel_sequential(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Renumber labels 1..N in raster order of their first pixel; 0 stays 0.

    Parameters
    ----------
    labels : (H, W) integer, not negative
        0 is background; values may be of any size.

    Returns
    -------
    (H, W) int32

    Raises
    ------
    UsageError
        If `labels` is not a 2-D array of integers or has negative values.

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


def equivalent_diameter(areas: ArrayLike) -> NDArray[np.float64]:
    """Return the diameter of the circle that has as many pixels.

    Parameters
    ----------
    areas : numbers of any shape
        In pixels.

    Returns
    -------
    float64 of the same shape
        In pixels.

    Examples
    --------
    >>> equivalent_diameter([3.0, 50.0]).round(2)
    array([1.95, 7.98])
    """
    return np.sqrt(np.asarray(areas, np.float64) * 4 / np.pi)


def fill_holes(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give the holes of an instance to it.

    A hole is background that one instance alone surrounds: it touches neither another
    instance nor the image's edge. Background that is connected over corners only makes several
    holes, as instances are connected over corners, too. Time is O(pixels).

    Parameters
    ----------
    labels : (H, W) int32
        0 is background.

    Returns
    -------
    (H, W) int32

    Raises
    ------
    UsageError
        If `labels` is not a 2-D array of integers.

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
    background = connected_components((labels == 0).astype(np.int8), connectivity=4)
    count = int(background.max()) + 1
    lowest, highest = np.full(count, np.iinfo(np.int32).max, np.int32), np.zeros(count, np.int32)
    left, right, upper, lower = np.s_[:, :-1], np.s_[:, 1:], np.s_[:-1], np.s_[1:]
    for one, other in ((left, right), (right, left), (upper, lower), (lower, upper)):
        beside = (background[one] > 0) & (labels[other] > 0)
        np.minimum.at(lowest, background[one][beside], labels[other][beside])
        np.maximum.at(highest, background[one][beside], labels[other][beside])
    surrounded = lowest == highest
    for edge in (background[0], background[-1], background[:, 0], background[:, -1]):
        surrounded[edge] = False
    return labels + np.where(surrounded, highest, 0)[background]


def _require_labels(labels: NDArray[np.integer]) -> None:
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise UsageError(f"labels are {labels.dtype} of shape {labels.shape}, expected integers of shape (H, W)")


def _touching_runs(
    begins: NDArray[np.bool_], first_pixels: NDArray[np.intp], values: NDArray[np.integer], reach: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs (upper, lower) of runs in neighbouring rows that touch and share a value other than 0."""
    height, width = begins.shape
    ends = np.append(first_pixels[1:], height * width) - 1
    upper = np.flatnonzero((values != 0) & (first_pixels < (height - 1) * width))
    row, begin = np.divmod(first_pixels[upper], width)
    end = ends[upper] - row * width
    # The runs below lie side by side: those between the ones under the two ends.
    below = (row + 1) * width
    under = np.concatenate([below + np.maximum(begin - reach, 0), below + np.minimum(end + reach, width - 1)])
    lowest, highest = np.split(_run_at(begins, first_pixels, under), 2)
    counts = highest - lowest + 1
    upper = np.repeat(upper, counts)
    within = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    lower = np.repeat(lowest, counts) + within
    same = values[upper] == values[lower]
    return upper[same], lower[same]


def _run_at(begins: NDArray[np.bool_], first_pixels: NDArray[np.intp], pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the number of the run that each of some pixels belongs to."""
    if len(pixels) > begins.size // 16:
        # Many look-ups are faster in a table of all pixels, which takes less memory than they do.
        table = np.cumsum(begins.ravel(), dtype=np.int32)
        return table[pixels].astype(np.intp) - 1
    return np.searchsorted(first_pixels, pixels, side="right") - 1


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
