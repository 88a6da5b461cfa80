"""The objects of a frame: what linking needs to know of them, measured in one pass over the pixels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError
from instseg.labels.regions import dense_labels, equivalent_diameter

# An image that is taken for labels has many values, and neighbours in it hardly ever have the same.
_MANY, _LEAST_EQUAL = 100, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameObjects:
    """The N objects of a frame.

    Attributes
    ----------
    time : int
        When the frame was taken, in frames; times ascend, and those of missing frames are left out.
    labels : (N,) int64
        Their numbers in the label image, ascending.
    areas : (N,) int64
        In pixels.
    centroids : (N, 2) float64
        Row and column.
    numbers : (H, W) int32
        0 for background, else 1 + the position in `labels`.
    features : (N, D) float64 or None
        What else tells objects apart, such as mean embeddings.
    origin : (2,) int64
        How far all objects have moved together since the first frame, in rows and columns.
    """

    time: int
    labels: NDArray[np.int64]
    areas: NDArray[np.int64]
    centroids: NDArray[np.float64]
    numbers: NDArray[np.int32]
    features: NDArray[np.float64] | None = None
    origin: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def places(self) -> NDArray[np.float64]:
        """The centroids (N, 2) where they would be in the first frame."""
        return self.centroids - self.origin

    @property
    def diameters(self) -> NDArray[np.float64]:
        """The diameters (N,) of circles of the same areas, in pixels."""
        return equivalent_diameter(self.areas)


def frame_objects(
    labels: NDArray[np.integer], time: int = 0, features: NDArray[np.floating] | None = None
) -> FrameObjects:
    """Measure the objects of a frame; time and memory are O(pixels).

    Parameters
    ----------
    labels : (H, W) integers
        0 is background; negative values (pixels that are ignored) count as background.
    time : int
        See `FrameObjects`.
    features : (N, D) floats, optional
        A row for each label in ascending order.

    Raises
    ------
    UsageError
        If the labels are no 2-D array of integers, or there is another number of features than of objects.
    InstsegError
        If they look like an image: of more than 100 values, most differ from that of the next pixel.

    Examples
    --------
    >>> objects = frame_objects(np.array([[0, 7, 7], [3, 0, 0]]))
    >>> objects.labels, objects.areas, objects.centroids.tolist()
    (array([3, 7]), array([1, 2]), [[1.0, 0.0], [0.0, 1.5]])
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise UsageError(f"a frame is {labels.shape} {labels.dtype}, expected (H, W) integers; give label images")
    if labels.dtype.kind == "i":
        labels = np.maximum(labels, 0)
    ids, numbers = dense_labels(labels)
    if len(ids) > _MANY and (share := _equal_neighbours(numbers)) < _LEAST_EQUAL:
        raise InstsegError(
            f"this looks like an image, not like labels: {len(ids):,} values, and only {share:.0%} of neighbours are "
            "equal; give label images, such as those that `instseg predict` writes"
        )
    flat = numbers.ravel()
    pixels = np.flatnonzero(flat)
    owner, (rows, columns) = flat[pixels] - 1, np.divmod(pixels, max(numbers.shape[1], 1))
    areas = np.bincount(owner, minlength=len(ids))
    sums = [np.bincount(owner, weights=places, minlength=len(ids)) for places in (rows, columns)]
    if features is not None and len(features) != len(ids):
        raise UsageError(
            f"features has {len(features)} rows for a frame of {len(ids)} objects, expected a row for each object",
            parameter="features",
        )
    return FrameObjects(
        time=time,
        labels=ids.astype(np.int64),
        areas=areas.astype(np.int64),
        centroids=np.stack(sums, axis=1) / areas[:, None],
        numbers=numbers,
        features=None if features is None else np.asarray(features, np.float64),
    )


def _equal_neighbours(numbers: NDArray[np.int32]) -> float:
    """Return the share of pairs of neighbours in a row, both in objects, that are in the same."""
    left, right = numbers[:, :-1], numbers[:, 1:]
    inside = (left > 0) & (right > 0)
    return float(np.mean(left[inside] == right[inside])) if inside.any() else 1.0


def overlaps(
    before: FrameObjects, after: FrameObjects
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of objects of two frames that share pixels, where the frames lie on each other by `origin`.

    Returns
    -------
    first, second : (K,) int64
        Positions in the two frames.
    pixels : (K,) int64
        How many pixels they share.
    """
    one, other = shifted(before.numbers, after.numbers, after.origin - before.origin)
    both = (one > 0) & (other > 0)
    width = len(after) + 1
    codes = one[both].astype(np.int64) * width + other[both]
    if (len(before) + 1) * width <= 4 * before.numbers.size:
        counts = np.bincount(codes)
        codes = np.flatnonzero(counts)
        counts = counts[codes]
    else:
        codes, counts = np.unique(codes, return_counts=True)
    return codes // width - 1, codes % width - 1, counts.astype(np.int64)


def shifted(before: NDArray[Any], after: NDArray[Any], shift: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the parts of two frames (H, W) that lie on each other when the second has moved by rows and columns.

    Examples
    --------
    >>> one, other = shifted(np.array([[1, 2, 3]]), np.array([[0, 1, 2]]), np.array([0, 1]))
    >>> one, other
    (array([[1, 2]]), array([[1, 2]]))
    """
    forth, back = np.maximum(shift, 0), np.maximum(-shift, 0)
    height, width = np.maximum(np.array(before.shape) - forth - back, 0)
    return (
        before[back[0] : back[0] + height, back[1] : back[1] + width],
        after[forth[0] : forth[0] + height, forth[1] : forth[1] + width],
    )
