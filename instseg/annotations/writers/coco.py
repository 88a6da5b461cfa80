"""COCO: one JSON file for many images, which is written image by image.

An image gives a part: a line of JSON for itself, and one for each object, without the numbers by which they refer to
each other. Parts can be stored, so that runs that come later, or other processes, make one file of them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from instseg.annotations.writers.writer import (
    Writer,
    class_numbers,
    names_of_classes,
    outer_rings,
    traced,
    without_zeros,
)
from instseg.errors import InstsegError
from instseg.io.atomic import atomic_write
from instseg.io.folders import IMAGES
from instseg.io.labelled_image import LabelledImage
from instseg.labels.column_runs import column_runs
from instseg.version import installed_version

FILE = "annotations.json"
"""The name of the file beside images."""


class CocoPart(NamedTuple):
    """What COCO has of an image.

    Attributes
    ----------
    image : str
        JSON of its name and size.
    annotations : iterable of str
        JSON of each object.
    """

    image: str
    annotations: Iterable[str]


def coco_part(image: LabelledImage, *, polygons: bool = False) -> tuple[CocoPart, Counter[str]]:
    """Return what COCO has of an image, and how many objects are other than in the labels, by the change.

    Parameters
    ----------
    image : LabelledImage
        Its score becomes that of the annotations.
    polygons : bool
        Whether outlines are written as polygons, which have no holes, instead of as runs of pixels.
    """
    runs, changes = column_runs(image.labels), Counter[str]()
    size = list(image.labels.shape)
    entry = json.dumps({"file_name": image.name, "height": size[0], "width": size[1]})
    shapes: list[Any]
    if polygons:
        outlines = traced(image)
        shapes = [
            [ring.ravel().tolist() for ring in outer_rings(outlines[label], changes)] for label in runs.label.tolist()
        ]
    else:
        shapes = [{"size": size, "counts": text} for text in runs.compressed()]
    numbers, scores = class_numbers(image), image.scores()
    lines = []
    for index, (shape, (top, left, bottom, right), area) in enumerate(
        zip(shapes, runs.bbox.tolist(), runs.area.tolist(), strict=True)
    ):
        annotation = {"category_id": numbers[index] + 1, "iscrowd": 0, "area": area}
        annotation |= {"bbox": [left, top, right - left, bottom - top], "segmentation": shape}
        score = scores[index]
        lines.append(json.dumps(annotation | ({} if score is None else {"score": score})))
    return CocoPart(entry, lines), without_zeros(changes)


def write_coco(path: Path, class_names: Sequence[str], parts: Iterable[CocoPart]) -> int:
    """Write a file of some images, one after the other, under another name until it is complete.

    Parameters
    ----------
    path : Path
    class_names : sequence of str
        Their categories are 1, 2, ... in this order; without any there is the category `object`.
    parts : iterable of CocoPart
        Images are 1, 2, ... in this order, and so are annotations.

    Returns
    -------
    int
        How many images there are.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        coco = CocoFile(file, class_names)
        for part in parts:
            coco.add(part)
        file.write(coco.ending())
    return coco.images


class CocoFile:
    """A file that takes one image after the other: annotations come first, as images are few and short.

    Parameters
    ----------
    file : text file
    class_names : sequence of str
        As `write_coco` takes them.
    """

    def __init__(self, file: TextIO, class_names: Sequence[str]) -> None:
        self._file, self._entries, self._annotations = file, list[str](), 0
        categories = [{"id": number, "name": name} for number, name in enumerate(names_of_classes(class_names), 1)]
        info = {"description": f"Instance segmentation, written by instseg {installed_version()}"}
        file.write(f'{{\n"info": {json.dumps(info)},\n"licenses": [],\n"categories": {json.dumps(categories)},\n')
        file.write('"annotations": [')

    @property
    def images(self) -> int:
        """How many images were added."""
        return len(self._entries)

    def add(self, part: CocoPart) -> None:
        """Add an image."""
        number = len(self._entries) + 1
        for text in part.annotations:
            self._annotations += 1
            separator = ",\n" if self._annotations > 1 else "\n"
            self._file.write(f'{separator}{{"id": {self._annotations}, "image_id": {number}, {text[1:]}')
        self._entries.append(f'{{"id": {number}, {part.image[1:]}')

    def ending(self) -> str:
        """Return what comes after the annotations."""
        return '\n],\n"images": [\n' + ",\n".join(self._entries) + "\n]\n}\n"


def store_part(path: Path, part: CocoPart) -> None:
    """Write what COCO has of an image into a file of its own.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in (part.image, *part.annotations))


@contextmanager
def stored_part(path: Path) -> Iterator[CocoPart]:
    """Give what `store_part` wrote, whose annotations are read as they are needed.

    Raises
    ------
    InstsegError
        If it cannot be read, or is damaged.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield CocoPart(_line(path, next(file, "")), (_line(path, line) for line in file))
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path) from error


def _line(path: Path, line: str) -> str:
    if not (line.startswith("{") and line.endswith("}\n")):
        raise _damaged(path)
    return line.rstrip("\n")


def _damaged(path: Path) -> InstsegError:
    return InstsegError(f"cannot read {path}: it is damaged; remove it, and go on with `skip_existing=True`")


class CocoWriter(Writer):
    """A data set of COCO: images/ and annotations.json."""

    def __init__(self, folder: Path, class_names: Sequence[str], *, polygons: bool = False) -> None:
        super().__init__(folder, class_names)
        self._polygons = polygons
        self._coco = CocoFile(self.open(FILE), class_names)

    def image_path(self, name: str) -> Path:
        """See `Writer.image_path`."""
        return self.folder / IMAGES / name

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        part, changes = coco_part(image, polygons=self._polygons)
        self._coco.add(part)
        return changes

    def endings(self) -> list[str]:
        """See `Writer.endings`."""
        return [self._coco.ending()]
