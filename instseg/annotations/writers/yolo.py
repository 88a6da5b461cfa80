"""YOLO segmentation: a text file for each image, with a line of a class and the corners of a polygon for each object.

A line is one ring of corners. So an object loses its holes, and all of its parts but the largest.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from instseg.annotations.writers.writer import (
    Writer,
    class_numbers,
    largest_ring,
    names_of_classes,
    traced,
    without_zeros,
)
from instseg.io.atomic import atomic_write
from instseg.io.folders import IMAGES, LABELS
from instseg.io.labelled_image import LabelledImage

FILE = "data.yaml"
"""The name of the file that trainers of YOLO are given."""

# Shares of the image's sides have so many decimals: less than a hundredth of a pixel in images of 100,000.
_DECIMALS = 7


def yolo_text(image: LabelledImage) -> tuple[str, Counter[str]]:
    """Return the lines of an image, and how many objects are other than in the labels, by the change.

    A text without objects is an empty line, so that its file is not empty.
    """
    changes, lines = Counter[str](), []
    sides = np.array([image.labels.shape[1], image.labels.shape[0]])
    outlines = traced(image)
    for label, number in zip(image.label.tolist(), class_numbers(image), strict=True):
        shares = np.round(largest_ring(outlines[label], changes) / sides, _DECIMALS)
        lines.append(" ".join([str(number), *map(repr, shares.ravel().tolist())]))
    return "\n".join(lines) + "\n", without_zeros(changes)


def write_data_yaml(path: Path, class_names: Sequence[str], heading: str = "") -> None:
    """Write the file that names the classes, beside images/ and labels/.

    Parameters
    ----------
    path : Path
    class_names : sequence of str
    heading : str
        Comments before everything else, a line each.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    names = [f"  {number}: {json.dumps(name, ensure_ascii=False)}" for number, name in _numbered(class_names)]
    text = heading + "# Give `val` other images than `train` before you train.\ntrain: images\nval: images\nnames:\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n".join(names) + "\n", encoding="utf-8")


def _numbered(class_names: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(names_of_classes(class_names)))


class YoloWriter(Writer):
    """A data set of YOLO: images/, labels/ and data.yaml."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, class_names)
        (folder / LABELS).mkdir()

    def image_path(self, name: str) -> Path:
        """See `Writer.image_path`."""
        return self.folder / IMAGES / name

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        text, changes = yolo_text(image)
        (self.folder / LABELS / f"{Path(image.name).stem}.txt").write_text(text, encoding="utf-8")
        return changes

    def finish(self) -> None:
        """See `Writer.finish`."""
        write_data_yaml(self.folder / FILE, self.class_names)
