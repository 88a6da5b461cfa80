"""What the writers of all formats have in common."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

import numpy as np

from instseg.errors import printable
from instseg.io.labelled_image import LabelledImage
from instseg.labels.polygons import Polygon, Ring, polygons

OBJECT = "object"
"""The name of the class of all objects, where a format needs one and there are no classes."""

HOLES_FILLED, PARTS_LEFT_OUT = "with their holes filled", "without all parts but the largest"


class Writer(ABC):
    """Writes the labels of one image after the other into a folder.

    Parameters
    ----------
    folder : Path
        It exists and is empty.
    class_names : sequence of str
        The names of all classes.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.folder, self.class_names = folder, tuple(class_names)
        self._files: list[TextIO] = []

    def image_path(self, name: str) -> Path:
        """Return where the image of a name belongs, so that other tools find it."""
        return self.folder / name

    @abstractmethod
    def write(self, image: LabelledImage) -> Counter[str]:
        """Write the labels of an image; return how many objects could not be kept as they are, by the change.

        Raises
        ------
        InstsegError, OSError
            If a file cannot be written.
        """

    def finish(self) -> None:
        """Write what describes all images together."""
        for file, ending in zip(self._files, self.endings(), strict=True):
            file.write(ending)

    def endings(self) -> Sequence[str]:
        """Return what comes at the end of each file that `open` has opened."""
        return []

    def open(self, name: str) -> TextIO:
        """Open a file in the folder that holds all images; it is closed with the writer."""
        file = (self.folder / name).open("w", encoding="utf-8")
        self._files.append(file)
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()


def names_of_classes(class_names: Sequence[str]) -> list[str]:
    """Return the names of classes as other programs show them; of none, the one name of all objects."""
    return [" ".join(printable(name).split()) or "-" for name in class_names] or [OBJECT]


def class_numbers(image: LabelledImage) -> list[int]:
    """Return the index of the class of each object in what `names_of_classes` returns."""
    return [0] * len(image.label) if image.class_number is None else image.class_number.tolist()


def traced(image: LabelledImage) -> dict[int, list[Polygon]]:
    """Return the polygons of each object, by its label."""
    found: dict[int, list[Polygon]] = {}
    for polygon in polygons(image.labels):
        found.setdefault(polygon.label, []).append(polygon)
    return found


def outer_rings(parts: Sequence[Polygon], changes: Counter[str]) -> list[Ring]:
    """Return the outer rings of an object's parts, for formats without holes; count it if it has any."""
    changes[HOLES_FILLED] += any(part.holes for part in parts)
    return [part.outer for part in parts]


def largest_ring(parts: Sequence[Polygon], changes: Counter[str]) -> Ring:
    """Return the outer ring of an object's largest part, for formats of one ring; count what is lost."""
    rings = outer_rings(parts, changes)
    changes[PARTS_LEFT_OUT] += len(rings) > 1
    return max(rings, key=_area)


def _area(ring: Ring) -> int:
    """Return twice the area."""
    x, y = ring.T
    return int(abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)))


def without_zeros(changes: Counter[str]) -> Counter[str]:
    """Return the changes that there are."""
    return +changes
