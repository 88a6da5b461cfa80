"""What files of other programs are written of: an image's labels, with the score and the class of each object."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelledImage:
    """The objects of an image.

    Attributes
    ----------
    name : str
        The name of the image's file, by which other programs find it.
    labels : (H, W) integers
        0 is background.
    label : (N,) integers
        The labels that occur, ascending.
    score : (N,) float64, or None
        How sure a model is of each, 0..1; NaN where that is not known.
    class_number : (N,) integers, or None
        The index of the class of each in `class_names`; None where there are no classes.
    class_names : tuple of str
        The names of all classes, which images that are written together share.
    """

    name: str
    labels: NDArray[np.integer]
    label: NDArray[np.integer]
    score: NDArray[np.float64] | None = None
    class_number: NDArray[np.integer] | None = None
    class_names: tuple[str, ...] = ()

    @classmethod
    def from_instances(cls, name: str, labels: NDArray[np.integer], instances: Instances) -> Self:
        """Build it of what a model has found."""
        return cls(
            name=name,
            labels=labels,
            label=instances.label,
            score=instances.score,
            class_number=instances.class_probabilities.argmax(axis=1) if instances.class_names else None,
            class_names=instances.class_names,
        )

    def scores(self) -> list[float | None]:
        """Return the score of each object with four decimals, None where it is not known."""
        if self.score is None:
            return [None] * len(self.label)
        return [None if np.isnan(score) else round(score, 4) for score in self.score.tolist()]

    def classes(self) -> list[str | None]:
        """Return the name of the class of each object, None where there are no classes."""
        if self.class_number is None:
            return [None] * len(self.label)
        return [self.class_names[number] for number in self.class_number.tolist()]
