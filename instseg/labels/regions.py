"""Instances of a label image: connected components, holes, numbering and sizes. NumPy only."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import UsageError
from instseg.labels.runs import find_runs, require_labels

IGNORED = -1
"""Number of the pixels that take no part in training and scores: neither background nor an instance."""

# Up to this label a table is faster than sorting the labels.
_LARGEST_TABLE = 1 << 22
# So many pixels are renumbered at once: what is made of them fits into the processor's cache.
_CHUNK = 2**15


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
    components = np.zeros(labels.shape, np.int32)
    runs.paint(runs.components, components)
    return components


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
    require_labels(labels)
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


def renumber(labels: NDArray[np.int32]) -> None:
    """Renumber labels 1..N as `relabel_sequential` does, in place; none is far larger than the number of them.

    Parameters
    ----------
    labels : (H, W) or (Z, Y, X) int32, contiguous, not negative

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[0, 9, 9], [4, 4, 9]], np.int32)
    >>> renumber(labels)
    >>> labels.tolist()
    [[0, 1, 1], [2, 2, 1]]
    """
    flat = labels.reshape(-1)
    number_of = np.zeros(int(flat.max(initial=0)) + 1, np.int32)
    count = 0
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        begins = np.ones(len(part), bool)
        np.not_equal(part[1:], part[:-1], out=begins[1:])
        first = np.flatnonzero(begins)
        values = part[first]
        unseen = values[(values != 0) & (number_of[values] == 0)]
        if len(unseen):
            # Their own numbers in the order of appearance follow those of the labels that came before.
            order = _order_of_appearance(unseen)
            number_of[unseen] = count + order
            count += int(order.max())
        part[:] = np.repeat(number_of[values], np.diff(first, append=len(part)))


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
    require_labels(labels)
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
