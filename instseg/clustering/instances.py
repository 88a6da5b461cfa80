"""What is known of each instance: its position, its size, and how sure the model is of it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.points import CHUNK, GroupSums, Points, chunks, pixels_within
from instseg.labels.regions import equivalent_diameter

# Below this, which is the smallest bandwidth that there can be, squares have no digits in single precision.
_LEAST_REACH = 1e-15


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Instances:
    """The measurements of N instances; `len()` gives N.

    Attributes
    ----------
    label : (N,) int32
        Ascending, above 0.
    score : (N,) float64
        How sure the model is, 0..1. As `measure_instances` returns it, it is the mean over the pixels of an instance of
        foreground times seed times membership, so that doubts about whether there is an object, where its centre is
        and what belongs to it all lower it. `calibrated` makes it the probability that a true instance overlaps this
        one with an IoU of 0.5 or more, in images like those that the calibration was fitted to.
    area : (N,) int64
        Number of pixels.
    centroid : (N, 2) or (N, 3) float64
        Row and column, in a volume plane, row and column; the centre of the first pixel is at 0.
    bbox : (N, 4) or (N, 6) int64
        First row, first column, and the row and the column after the last; in a volume planes come first.
    class_names : tuple of str
        Names of the K classes; empty where the model knows none.
    class_probabilities : (N, K) float64
        Means over the pixels, weighted by their foreground. The class of an instance is the most probable one.

    Examples
    --------
    >>> instances = Instances(
    ...     label=np.array([1, 2], np.int32),
    ...     score=np.array([0.9, 0.8]),
    ...     area=np.array([4, 2]),
    ...     centroid=np.array([[0.5, 0.5], [2.0, 3.5]]),
    ...     bbox=np.array([[0, 0, 2, 2], [2, 3, 3, 5]]),
    ... )
    >>> len(instances)
    2
    """

    label: NDArray[np.int32]
    score: NDArray[np.float64]
    area: NDArray[np.int64]
    centroid: NDArray[np.float64]
    bbox: NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    class_probabilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.label)

    @property
    def ndim(self) -> int:
        """Number of axes: 2 in an image, 3 in a volume."""
        return int(self.centroid.shape[1])

    @property
    def classes(self) -> list[str]:
        """The name of the class of each instance; an empty list where the model knows none."""
        if not self.class_names:
            return []
        return [self.class_names[number] for number in self.class_probabilities.argmax(axis=1).tolist()]

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the measurements as a table, for `pandas.DataFrame` or the `features` of a layer of napari.

        Returns
        -------
        dict of str to (N,) array
            Columns as `skimage.measure.regionprops_table` names them: 'label', 'area', 'centroid-0' (row),
            'centroid-1' (column), and 'bbox-0' to 'bbox-3' (first row, first column, and those after the last). In a
            volume 'centroid-0' is the plane, and 'bbox' goes on to 5. Then 'score', and where the model knows classes
            'class' (text) and a 'class_probability-NAME' for each.

        Examples
        --------
        >>> labels = np.array([[0, 1, 1], [0, 0, 1]], np.int32)
        >>> maps = Embeddings(embeddings=np.zeros((2, 3, 1), np.float32), foreground=np.full((2, 3), 0.5, np.float32))
        >>> table = measure_instances(labels, maps).to_dict()
        >>> {name: column.round(2).tolist() for name, column in table.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'label': [1], 'area': [3], 'centroid-0': [0.33], 'centroid-1': [1.67],
         'bbox-0': [0], 'bbox-1': [1], 'bbox-2': [2], 'bbox-3': [3], 'score': [0.5]}
        """
        table: dict[str, NDArray[Any]] = {"label": self.label, "area": self.area}
        table |= {f"centroid-{axis}": values for axis, values in enumerate(self.centroid.T)}
        table |= {f"bbox-{index}": values for index, values in enumerate(self.bbox.T)}
        table["score"] = self.score
        if self.class_names:
            table["class"] = np.array(self.classes, str)
            probabilities = zip(self.class_names, self.class_probabilities.T, strict=True)
            table |= {f"class_probability-{name}": values for name, values in probabilities}
        return table

    @classmethod
    def array_names(cls) -> list[str]:
        """Return the names of the arrays that `to_arrays` returns."""
        return [attribute.name for attribute in dataclasses.fields(cls)]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all attributes as arrays by name, which can be stored; `from_arrays` takes them."""
        return {name: np.asarray(getattr(self, name)) for name in self.array_names()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Instances":
        """Build the instances that `to_arrays` was called on."""
        values: dict[str, Any] = dict(arrays)
        return cls(**values | {"class_names": tuple(str(name) for name in arrays["class_names"].tolist())})

    def relabelled(self, labels: NDArray[np.int32]) -> "Instances":
        """Return the instances under other labels (N,), without those whose label becomes 0."""
        remaining = labels > 0
        values = {name: getattr(self, name)[remaining] for name in self.array_names() if name != "class_names"}
        return dataclasses.replace(self, **{**values, "label": labels[remaining]})

    def calibrated(self, calibration: ScoreCalibration | None) -> "Instances":
        """Return the instances with probabilities as scores; without a calibration, the same.

        This comes after parts of instances are merged, so that scores do not depend on tiles.
        """
        return self if calibration is None else dataclasses.replace(self, score=calibration.apply(self.score))

    def translated(self, offset: Sequence[int]) -> "Instances":
        """Return the instances moved by so many pixels along each axis."""
        return dataclasses.replace(self, centroid=self.centroid + offset, bbox=self.bbox + (*offset, *offset))

    def in_plane(self, plane: int) -> "Instances":
        """Return the instances of an image as those of a volume in which it is one of the planes."""
        first, last = np.split(self.bbox, 2, axis=1)
        of_each = np.full((len(self), 1), plane)
        return dataclasses.replace(
            self,
            centroid=np.concatenate([of_each, self.centroid], axis=1),
            bbox=np.concatenate([of_each, first, of_each + 1, last], axis=1),
        )


def median_diameter(areas: NDArray[np.integer], spacing: Sequence[float] = (1.0, 1.0)) -> float:
    """Return the diameter of the disc, or the ball, of the median of areas (N,); 0 without any.

    It is in pixels; with a spacing of three numbers, which is that of voxels in columns, areas are voxels and it is in
    columns.

    Examples
    --------
    >>> round(median_diameter(np.array([1, 314, 1000])))
    20
    >>> round(median_diameter(np.array([2094]), (2.0, 1.0, 1.0)))
    20
    """
    if not len(areas):
        return 0.0
    column = math.prod(spacing) ** (1 / len(spacing))
    return float(equivalent_diameter(np.median(areas), len(spacing)) * column)


def merge_instances(parts: Sequence[Instances], label_of: NDArray[np.int32]) -> Instances:
    """Merge the measurements of parts of instances, such as those in the tiles of an image.

    Parameters
    ----------
    parts : sequence of Instances
        At least one. Their labels are numbers of parts, M at most.
    label_of : (M + 1,) int32
        The label of the instance that the part of each number belongs to, 0 for none.

    Returns
    -------
    Instances
        Scores, centroids and probabilities are means over the pixels of all parts.
    """
    labels = label_of[np.concatenate([part.label for part in parts])]
    remaining = labels > 0
    labels, number = np.unique(labels[remaining], return_inverse=True)
    count = len(labels)

    def of_parts(name: str) -> NDArray[Any]:
        values: NDArray[Any] = np.concatenate([getattr(part, name) for part in parts])[remaining]
        return values

    weight = of_parts("area")
    area = np.bincount(number, weight, count).astype(np.int64)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = np.bincount(number, values * weight, count) / area
        return means

    probabilities = of_parts("class_probabilities")
    corners = of_parts("bbox")
    axes = parts[0].ndim
    bbox = np.empty((count, 2 * axes), np.int64)
    bbox[:, :axes], bbox[:, axes:] = np.iinfo(np.int64).max, 0
    np.minimum.at(bbox[:, :axes], number, corners[:, :axes])
    np.maximum.at(bbox[:, axes:], number, corners[:, axes:])
    return Instances(
        label=labels,
        score=mean(of_parts("score")),
        area=area,
        centroid=np.stack([mean(positions) for positions in of_parts("centroid").T], axis=1),
        bbox=bbox,
        class_names=parts[0].class_names,
        class_probabilities=np.stack([mean(column) for column in probabilities.T], axis=1)
        if probabilities.shape[1]
        else np.zeros((count, 0)),
    )


def measure_instances(
    labels: NDArray[np.int32], maps: Embeddings, within: tuple[slice, ...] | None = None
) -> Instances:
    """Measure the instances of an image or a volume, in a few passes over its foreground.

    Parameters
    ----------
    labels : (H, W) or (Z, Y, X) int32
        0 is background; what `cluster` returned for the maps.
    maps : Embeddings
        Of the same image. Where it has no seeds or no bandwidth, these do not count in the score.
    within : tuple of slice, optional
        Where to measure along each axis. Pixels elsewhere only determine the centres of instances in embedding space,
        and an instance without a pixel within is left out.

    Returns
    -------
    Instances

    Examples
    --------
    >>> labels = np.array([[0, 1, 1], [0, 0, 1]], np.int32)
    >>> maps = Embeddings(embeddings=np.zeros((2, 3, 1), np.float32), foreground=np.full((2, 3), 0.5, np.float32))
    >>> instances = measure_instances(labels, maps)
    >>> instances.label, instances.score, instances.area
    (array([1], dtype=int32), array([0.5]), array([3]))
    """
    flat = labels.reshape(-1)
    everywhere = np.flatnonzero(flat != 0)
    ids, number_of = _numbered(flat, everywhere)
    centres, reach = _centres(maps, flat, everywhere, number_of, len(ids))
    pixels = everywhere if within is None else pixels_within(labels != 0, within)
    sums, runs = GroupSums(1 + len(maps.class_names)), _RowRuns(labels.shape)
    confidences = _Confidences(maps, centres, reach)
    for part in chunks(pixels):
        numbers = number_of.take(flat.take(part))
        foreground = maps.foreground.reshape(-1).take(part)
        values = [confidences.of(part, numbers, foreground)]
        if maps.classes is not None:
            classes = maps.classes.reshape(-1, maps.classes.shape[-1]).take(part, axis=0)
            values.append(classes * (foreground.astype(np.float64)[:, None] + 1e-9))
        sums.add(numbers, values)
        runs.add(part, numbers)
    totals, area = sums.finish(len(ids))
    present = np.flatnonzero(area)
    totals, area = totals[present], area[present]
    centroid, bbox = runs.finish(len(ids))
    return Instances(
        label=ids[present].astype(np.int32),
        score=totals[:, 0] / area,
        area=area,
        centroid=centroid[present] / area[:, None],
        bbox=bbox[present],
        class_names=maps.class_names,
        class_probabilities=totals[:, 1:] / totals[:, 1:].sum(axis=1, keepdims=True),
    )


def _numbered(labels: NDArray[np.integer], pixels: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Return the labels that occur, ascending, and the number 0..N-1 of each label that is one of them."""
    occurs = np.zeros(int(labels.max(initial=0)) + 1, bool)
    for part in chunks(pixels):
        occurs[labels.take(part)] = True
    return np.flatnonzero(occurs), np.cumsum(occurs, dtype=np.int32) - 1


def _centres(
    maps: Embeddings, labels: NDArray[np.int32], pixels: NDArray[np.intp], number_of: NDArray[np.int32], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean embeddings (N, D) of instances, and the geometric means (N,) of their bandwidths."""
    points = Points(maps)
    if maps.bandwidth is None:
        return np.zeros((count, points.dimensions)), np.ones(count)
    sums = GroupSums(points.dimensions + 1)
    for part in chunks(pixels):
        bandwidth = maps.bandwidth.reshape(-1).take(part)
        sums.add(number_of.take(labels.take(part)), (points.gather(part), np.log(bandwidth)))
    totals, area = sums.finish(count)
    means = totals / area[:, None]
    return means[:, :-1], np.exp(means[:, -1])


class _Confidences:
    """How sure the model is of pixels: foreground times seed times membership in their instance.

    The membership is that of training: 2^(-(distance / bandwidth)^2).
    """

    def __init__(self, maps: Embeddings, centres: NDArray[np.float64], reach: NDArray[np.float64]) -> None:
        self._maps, self._points = maps, Points(maps)
        # In single precision, what is left of a centre is known, too: the place in a large image has no further digits.
        self._centres = centres.astype(np.float32)
        self._rest = (centres - self._centres).astype(np.float32)
        squares = np.square(np.maximum(reach, _LEAST_REACH))
        self._factor = (-math.log(2.0) / squares).astype(np.float32)
        self._buffer, self._other = np.empty((2, CHUNK, self._points.dimensions), np.float32)

    def of(
        self, pixels: NDArray[np.intp], numbers: NDArray[np.int32], foreground: NDArray[np.float32]
    ) -> NDArray[np.floating]:
        """Return the confidence (P,) of pixels of instances (P,)."""
        confidence: NDArray[np.floating] = foreground
        if self._maps.seeds is not None:
            confidence = confidence * self._maps.seeds.reshape(-1).take(pixels)
        if self._maps.bandwidth is None:
            return confidence
        apart, other = self._buffer[: len(pixels)], self._other[: len(pixels)]
        np.take(self._centres, numbers, axis=0, out=other, mode="clip")
        np.subtract(self._points.gather(pixels), other, out=apart)
        np.take(self._rest, numbers, axis=0, out=other, mode="clip")
        np.subtract(apart, other, out=apart)
        # Beyond what single precision holds, the membership is 0.
        with np.errstate(over="ignore"):
            membership = np.exp(np.einsum("ij,ij->i", apart, apart) * self._factor.take(numbers))
        product: NDArray[np.floating] = confidence * membership
        return product


class _RowRuns:
    """The runs of pixels of one instance in a row, which are far fewer than the pixels.

    Parameters
    ----------
    shape : tuple of int
        Of the image, or the volume.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._numbers: list[NDArray[np.integer]] = [np.zeros(0, np.intp)]
        self._firsts: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
        self._lengths: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]

    def add(self, pixels: NDArray[np.intp], numbers: NDArray[np.integer]) -> None:
        """Take the numbers of some pixels (P,), which are positions in the flat image, ascending."""
        if not len(pixels):
            return
        begins = pixels % self._shape[-1] == 0
        begins[0] = True
        begins[1:] |= numbers[1:] != numbers[:-1]
        begins[1:] |= pixels[1:] != pixels[:-1] + 1
        first = np.flatnonzero(begins)
        self._numbers.append(numbers[first])
        self._firsts.append(pixels[first])
        self._lengths.append(np.diff(first, append=len(pixels)))

    def finish(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return, by number, the sums (count, n) of the pixels' coordinates, and the boxes (count, 2n) around them."""
        numbers, lengths = np.concatenate(self._numbers), np.concatenate(self._lengths)
        places = np.unravel_index(np.concatenate(self._firsts), self._shape)
        axes = len(places)
        sums, bbox = np.zeros((count, axes)), np.zeros((count, 2 * axes), np.int64)
        for axis, position in enumerate(places):
            is_last = axis == axes - 1
            of_run = lengths * (2 * position + lengths - 1) // 2 if is_last else lengths * position
            sums[:, axis] = np.bincount(numbers, of_run, count)
            # NumPy is fast at a single axis of its own memory only.
            low, high = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
            np.minimum.at(low, numbers, position)
            np.maximum.at(high, numbers, position + (lengths if is_last else 1))
            bbox[:, axis], bbox[:, axes + axis] = low, high
        return sums, bbox
