"""What is known of each instance: where it is, how large, and how far it is to be trusted."""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.embeddings import Embeddings
from instseg.files import replacing

COLUMNS = ("id", "score", "area", "row", "column", "top", "left", "bottom", "right")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Instances:
    """N instances, ascending by label.

    Attributes
    ----------
    id : (N,) int32
        The labels.
    score : (N,) float64
        How sure the model is, 0..1: mean over the instance's pixels of foreground times seed times
        membership, so that doubts about what is an object, where its middle is and what belongs to it all lower it.
        To rank instances by, not a probability.
    area : (N,) int64
        Pixels.
    row, column : (N,) float64
        Centroid; the middle of the first pixel is (0, 0).
    top, left, bottom, right : (N,) int64
        Bounding box, first and last row and column, all within.
    class_names : tuple of str
        Names of the K classes; empty where the model knows none.
    class_probabilities : (N, K) float64
        Means over the instances' pixels, weighted by their foreground; the most probable is the instance's class.
    """

    id: NDArray[np.int32]
    score: NDArray[np.float64]
    area: NDArray[np.int64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    bottom: NDArray[np.int64]
    right: NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    class_probabilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def classes(self) -> list[str]:
        """The name of each instance's class; an empty list where the model knows none."""
        if not self.class_names:
            return []
        return [self.class_names[number] for number in self.class_probabilities.argmax(axis=1).tolist()]

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of `arrays`."""
        return [field.name for field in dataclasses.fields(cls)]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that is known, to store; `from_arrays` reads it."""
        return {name: np.asarray(getattr(self, name)) for name in self.names()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Instances":
        """Return what `arrays` gave."""
        values: dict[str, Any] = dict(arrays)
        return cls(**values | {"class_names": tuple(str(name) for name in arrays["class_names"].tolist())})

    def chosen(self, labels: NDArray[np.int32]) -> "Instances":
        """Return the instances under other labels (N,), those of label 0 left out."""
        held = labels > 0
        values = {name: getattr(self, name)[held] for name in self.names() if name != "class_names"}
        return dataclasses.replace(self, **{**values, "id": labels[held]})

    def moved(self, rows: int, columns: int) -> "Instances":
        """Return the same instances, so many pixels further down and to the right."""
        return dataclasses.replace(
            self,
            row=self.row + rows,
            column=self.column + columns,
            top=self.top + rows,
            left=self.left + columns,
            bottom=self.bottom + rows,
            right=self.right + columns,
        )

    def columns(self) -> list[str]:
        """Return the headings of `rows`: `COLUMNS`, and with classes 'class' and a probability for each."""
        return [*COLUMNS, *(("class", *(f"p({name})" for name in self.class_names)) if self.class_names else ())]

    def rows(self) -> list[list[int | float | str]]:
        """Return a row of `columns` for each instance, figures rounded to four decimals."""
        columns: list[list[Any]] = [np.round(getattr(self, name), 4).tolist() for name in COLUMNS]
        if self.class_names:
            columns += [self.classes, *np.round(self.class_probabilities.T, 4).tolist()]
        return [list(row) for row in zip(*columns, strict=True)]


def median_diameter(areas: NDArray[np.integer]) -> float:
    """Return the median diameter of discs of areas (N,) in pixels; 0 without any.

    Examples
    --------
    >>> round(median_diameter(np.array([1, 314, 1000])))
    20
    """
    return float(np.sqrt(np.median(areas) * 4 / np.pi)) if len(areas) else 0.0


def joined(parts: Sequence[Instances], label_of: NDArray[np.int32]) -> Instances:
    """Join what is known of the parts of instances.

    Parameters
    ----------
    parts : sequence of Instances
        At least one; ids are numbers of parts.
    label_of : (numbers + 1,) int32
        The instance that each number belongs to, 0 for none.

    Returns
    -------
    Instances
        Scores, centroids and probabilities are means over the pixels of all parts.
    """
    labels = label_of[np.concatenate([part.id for part in parts])]
    held = labels > 0
    ids, number = np.unique(labels[held], return_inverse=True)
    count = len(ids)

    def of_parts(name: str) -> NDArray[Any]:
        found: NDArray[Any] = np.concatenate([getattr(part, name) for part in parts])[held]
        return found

    weight = of_parts("area")
    area = np.bincount(number, weight, count).astype(np.int64)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.bincount(number, values * weight, count) / area
        return found

    def bound(name: str, find: np.ufunc, neutral: int) -> NDArray[np.int64]:
        found = np.full(count, neutral, np.int64)
        find.at(found, number, of_parts(name))
        return found

    probabilities = of_parts("class_probabilities")
    return Instances(
        id=ids,
        score=mean(of_parts("score")),
        area=area,
        row=mean(of_parts("row")),
        column=mean(of_parts("column")),
        top=bound("top", np.minimum, np.iinfo(np.int64).max),
        left=bound("left", np.minimum, np.iinfo(np.int64).max),
        bottom=bound("bottom", np.maximum, 0),
        right=bound("right", np.maximum, 0),
        class_names=parts[0].class_names,
        class_probabilities=np.stack([mean(column) for column in probabilities.T], axis=1)
        if probabilities.shape[1]
        else np.zeros((count, 0)),
    )


def describe(labels: NDArray[np.int32], maps: Embeddings, within: tuple[slice, slice] | None = None) -> Instances:
    """Measure the instances of an image, in a few passes over its foreground.

    Parameters
    ----------
    labels : (H, W) int32
        0 is background; what `cluster` made of the maps.
    maps : Embeddings
        Of the same image. Without seeds or a bandwidth these do not count in the score.
    within : tuple of slice, optional
        Rows and columns to measure in; what lies elsewhere only says where the middle of an instance is, and an
        instance that has no pixel within is left out.

    Returns
    -------
    Instances

    Examples
    --------
    >>> import numpy as np
    >>> from instseg.embeddings import Embeddings
    >>> labels = np.array([[0, 1, 1], [0, 0, 1]], np.int32)
    >>> maps = Embeddings(embeddings=np.zeros((2, 3, 1), np.float32), foreground=np.full((2, 3), 0.5, np.float32))
    >>> describe(labels, maps).rows()
    [[1, 0.5, 3, 0.3333, 1.6667, 0, 1, 1, 2]]
    """
    rows, columns = np.nonzero(labels)
    ids, number = np.unique(labels[rows, columns], return_inverse=True)
    foreground = maps.foreground[rows, columns].astype(np.float64)
    confidence = foreground.copy()
    if maps.seeds is not None:
        confidence *= maps.seeds[rows, columns]
    if maps.bandwidth is not None:
        confidence *= _membership(maps.embeddings[rows, columns], maps.bandwidth[rows, columns], number, len(ids))
    if within is not None:
        inside = np.zeros(labels.shape, bool)
        inside[within] = True
        chosen = inside[rows, columns]
        rows, columns = rows[chosen], columns[chosen]
        foreground, confidence = foreground[chosen], confidence[chosen]
        found, number = np.unique(number[chosen], return_inverse=True)
        ids = ids[found]
    count = len(ids)
    area = np.bincount(number, minlength=count)
    probabilities = np.zeros((count, 0))
    if maps.classes is not None:
        weighted = maps.classes[rows, columns] * (foreground[:, None] + 1e-9)
        sums = np.stack([np.bincount(number, values, count) for values in weighted.T], axis=1)
        probabilities = sums / sums.sum(axis=1, keepdims=True)
    top, left = np.full(count, labels.shape[0]), np.full(count, labels.shape[1])
    bottom, right = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for find, place, bound in (
        (np.minimum, rows, top),
        (np.minimum, columns, left),
        (np.maximum, rows, bottom),
        (np.maximum, columns, right),
    ):
        find.at(bound, number, place)
    return Instances(
        id=ids,
        score=_mean(confidence, number, area),
        area=area,
        row=_mean(rows, number, area),
        column=_mean(columns, number, area),
        top=top,
        left=left,
        bottom=bottom,
        right=right,
        class_names=maps.class_names,
        class_probabilities=probabilities,
    )


def _mean(values: NDArray[np.generic], number: NDArray[np.integer], area: NDArray[np.int64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.bincount(number, values, len(area)).astype(np.float64) / area
    return means


def _membership(
    points: NDArray[np.float32], bandwidth: NDArray[np.float32], number: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Return each pixel's membership in its own instance, as in training: 2^(-(distance / bandwidth)^2)."""
    area = np.bincount(number, minlength=count)
    centre = np.stack([_mean(column, number, area) for column in points.T], axis=1)
    reach = np.exp(_mean(np.log(bandwidth), number, area))
    squared = np.sum(np.square(points - centre[number]), axis=1)
    membership: NDArray[np.float64] = np.exp(-math.log(2.0) * squared / np.square(reach[number]))
    return membership


def write_table(path: Path, found: Instances) -> None:
    """Write a row per instance as CSV: see `Instances.columns`.

    Raises
    ------
    InstsegError
        If the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(found.columns())
        writer.writerows(found.rows())
