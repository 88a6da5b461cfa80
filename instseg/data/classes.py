"""The classes of the instances of a data folder: class images beside the labels, or one table.

    DIR/classes/NAME.png       the class of each pixel, 1..255; pixels outside of instances do not count
    DIR/classes.csv            columns image, label, class: NAME, the label of the instance, any text

With class images, the class of an instance is that of most of its pixels.
"""

import csv
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, format_names, printable
from instseg.io.container import ZARR_SUFFIX
from instseg.io.folders import Pair, find_images
from instseg.io.image_names import SUFFIXES, stem_of
from instseg.io.label_images import read_class_image
from instseg.io.tables import unquoted_cell
from instseg.labels.regions import IGNORED

FOLDER, TABLE = "classes", "classes.csv"
"""The subfolder of a data folder that holds class images, and the file that can take its place."""

MAX_CLASSES = 255
"""Largest number of classes of a data folder, without the background."""

_COLUMNS = ("image", "label", "class")
_SHOWN = 3
# Larger labels are renumbered when a file is read, so that those of a table would not be those of the image.
_LARGEST_LABEL = 2**31 - 1

ClassNames = dict[int, str]
"""The name of the class of each label that has one."""


class InstanceClasses(NamedTuple):
    """The classes of an image's instances.

    Attributes
    ----------
    labels : (N,) int32
        Ascending, above 0.
    classes : (N,) int32
        The class 1..K of each label.
    """

    labels: NDArray[np.int32]
    classes: NDArray[np.int32]

    def of_pixels(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the class of each pixel of a label image, or of a part of it, of any shape.

        0 is background, and `IGNORED` stays.
        """
        none = np.array([IGNORED, 0], np.int32)
        ids = np.concatenate([none, self.labels])
        classes = np.concatenate([none, self.classes])
        return classes[np.searchsorted(ids, labels)]


@dataclass(frozen=True, slots=True)
class ClassSource:
    """The class images or the table of a data folder.

    Attributes
    ----------
    path : Path
        The folder of class images, or the table.
    images : mapping of str to Path, or None
        Class images by the names of pairs.
    table : mapping of str to (dict of int to str), or None
        The class of each label, by the names of pairs.
    """

    path: Path
    images: Mapping[str, Path] | None
    table: Mapping[str, ClassNames] | None

    def names(self, pair: Pair, labels: NDArray[np.int32]) -> ClassNames:
        """Return the class of each instance that has one, with the parameters and errors of `classify`."""
        return self.classify(pair, labels)[0]

    def classify(self, pair: Pair, labels: NDArray[np.int32]) -> tuple[ClassNames, list[tuple[str, str]]]:
        """Return the class of each instance that has one, and what does not fit.

        Parameters
        ----------
        pair : Pair
        labels : (H, W) int32
            The labels of the pair; 0 is background, and classes of ignored pixels do not count.

        Returns
        -------
        names : dict of int to str
            By label.
        inconsistencies : list of (str, str)
            What is inconsistent but does not prevent training, and what to do.

        Raises
        ------
        InstsegError
            If the pair has no class image, or one that cannot be read or is of another size.
        """
        if self.table is not None:
            of_image, present = self.table.get(pair.name, {}), instance_labels(labels)
            names = {label: of_image[label] for label in present if label in of_image}
            surplus = len(of_image) - len(names)
            text = f"classes of labels that do not exist: {surplus}"
            return names, [(text, f"correct the labels in {TABLE}")] if surplus else []
        pixels = self._pixels(pair, labels)
        mixed, outside = disagreement(labels, pixels)
        problems = []
        if mixed:
            problems.append((f"instances of several classes: {mixed}", "the most frequent is taken; correct the rest"))
        if outside:
            problems.append((f"classified pixels outside of instances: {outside}", "they do not count"))
        return {label: str(value) for label, value in _majority(labels, pixels).items()}, problems

    def _pixels(self, pair: Pair, labels: NDArray[np.int32]) -> NDArray[np.integer]:
        """Return the class image (H, W) of a pair."""
        if (path := (self.images or {}).get(pair.name)) is None:
            raise InstsegError(f"{self.path} has no class image for {pair.name}; add it, or remove {self.path}")
        pixels = read_class_image(path)
        if pixels.shape != labels.shape:
            sizes = f"{_size(pixels)} pixels and {pair.labels} is {_size(labels)}"
            raise InstsegError(f"{path} is {sizes}, expected equal sizes; export the classes at the labels' size")
        return pixels

    def without_image(self, names: Collection[str]) -> tuple[str, str] | None:
        """Compare the images that the classes are of with those of the folder.

        Parameters
        ----------
        names : collection of str
            The names of all pairs of the folder.

        Returns
        -------
        (str, str) or None
            What does not fit, and what to do.
        """
        classified: Collection[str] = self.images if self.table is None else self.table  # type: ignore[assignment]
        unknown = sorted(set(classified) - set(names))
        if not unknown:
            return None
        shown = format_names(unknown)
        if self.table is None:
            what = f"class images that belong to no image: {len(unknown)} ({shown})"
            return what, "name them as the images, or remove them"
        rows = sum(len(self.table[name]) for name in unknown)
        what = f"rows of {TABLE} that name no image: {rows} ({shown})"
        return what, "name the images as their files, or remove the rows"


def find_classes(folder: Path, *, connected_components: bool = False) -> ClassSource | None:
    """Return the classes of a data folder; None if it has none.

    Parameters
    ----------
    folder : Path
    connected_components : bool
        Whether instances are the components of masks, whose labels are not those of a table.

    Raises
    ------
    InstsegError
        If there are class images and a table, one of them cannot be read, two class images have the same name, or
        there is a table although instances are components of masks.
    """
    images, table = folder / FOLDER, folder / TABLE
    if images.is_dir() and table.exists():
        raise InstsegError(f"{folder} holds both {FOLDER}/ and {TABLE}; remove one of them")
    if images.is_dir():
        by_name: dict[str, Path] = {}
        for path in find_images([images]):
            if (other := by_name.setdefault(stem_of(path), path)) != path:
                raise InstsegError(f"{other} and {path} are both class images of {stem_of(path)}; remove one")
        return ClassSource(images, by_name, None)
    if not table.exists():
        return None
    if connected_components:
        raise InstsegError(
            f"{table} says which label has which class, and `connected_components=True` makes labels anew; "
            f"number the instances in the label images, or give class images in {folder / FOLDER}"
        )
    return ClassSource(table, None, read_class_table(table))


def read_class_table(path: Path) -> dict[str, ClassNames]:
    """Read a table of classes: CSV with the columns image, label and class; others are ignored.

    Returns
    -------
    dict of str to (dict of int to str)
        The class of each label, by the name of the image without the suffix of a file.

    Raises
    ------
    InstsegError
        If the file cannot be read, a column is missing or there twice, a row has too many fields, a label is not a
        number above 0, a class is empty, or a label has two classes.
    """
    table: dict[str, ClassNames] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line, fields in _rows(path, csv.reader(file)):
                image, label, name = fields
                where = f"line {line} of {path}"
                if not (_is_number(label) and 0 < int(label) <= _LARGEST_LABEL):
                    raise InstsegError(f"{where}: the label is {label[:20]!r}, expected 1 to {_LARGEST_LABEL}")
                if not image or not name:
                    raise InstsegError(f"{where}: the {'class' if image else 'image'} is empty; fill it in")
                stem = _stem(image)
                if table.setdefault(stem, {}).setdefault(int(label), name) != name:
                    other = table[stem][int(label)]
                    what = printable(f"label {label} of {image} is {name}, and {other} before")
                    raise InstsegError(f"{where}: {what}; keep one")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InstsegError(f"cannot read {path}: {error}; save it as CSV in UTF-8") from error
    return table


def _rows(path: Path, rows: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the three fields of each row of a table that is not blank."""
    heading = [name.strip() for name in next(rows, [])]
    shown = printable(",".join(heading)[:60])
    if missing := [name for name in _COLUMNS if name not in heading]:
        raise InstsegError(
            f"{path} has no column {', '.join(missing)}: its first line is '{shown}', expected "
            f"{','.join(_COLUMNS)} with commas between; save it so"
        )
    if doubled := [name for name in _COLUMNS if heading.count(name) > 1]:
        raise InstsegError(f"{path} has the column {doubled[0]} twice: its first line is '{shown}'; remove one")
    places = [heading.index(name) for name in _COLUMNS]
    for row in rows:
        fields = [field.strip() for field in row]
        if any(fields[len(heading) :]):
            raise InstsegError(
                f"line {rows.line_num} of {path} has {len(row)} fields and the first line {len(heading)}; "
                "put text that holds a comma in quotes"
            )
        if any(fields):
            yield rows.line_num, [unquoted_cell(fields[place]) if place < len(fields) else "" for place in places]


def _stem(image: str) -> str:
    """Return the name of a pair by that of its image, with or without the suffix of a file."""
    path = Path(image)
    return stem_of(path) if path.suffix.lower() in (*SUFFIXES, ZARR_SUFFIX) else unicodedata.normalize("NFC", image)


def sort_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the different names of classes in the order of their numbers 1..K: numbers by value, then text.

    Raises
    ------
    InstsegError
        If there are more than `MAX_CLASSES`.

    Examples
    --------
    >>> sort_class_names(["10", "round", "9", "long", "9"])
    ('9', '10', 'long', 'round')
    """
    different = set(names)
    if len(different) > MAX_CLASSES:
        raise InstsegError(f"there are {len(different)} classes, expected at most {MAX_CLASSES}; merge some")
    return tuple(sorted(different, key=lambda name: (not _is_number(name), int(name) if _is_number(name) else 0, name)))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def class_indices(labels: NDArray[np.int32], names: ClassNames, order: Sequence[str], where: str) -> InstanceClasses:
    """Return the numbers of the classes of the instances of a label image.

    Parameters
    ----------
    labels : (H, W) int32
        0 is background.
    names : dict of int to str
        The name of the class of each label.
    order : sequence of str
        The names of the classes 1..K.
    where : str
        The name of the image in messages.

    Raises
    ------
    InstsegError
        If an instance has no class, or one that `order` lacks.
    """
    present = instance_labels(labels)
    without = [label for label in present if label not in names]
    if without:
        shown = ", ".join(map(str, without[:_SHOWN])) + (", ..." if len(without) > _SHOWN else "")
        raise InstsegError(f"{len(without)} instances of {where} have no class (labels {shown}); give them one")
    numbers = {name: number for number, name in enumerate(order, start=1)}
    unknown = sorted({names[label] for label in present} - numbers.keys())
    if unknown:
        raise InstsegError(f"{where} has the class {unknown[0]}, expected one of {', '.join(order)}")
    classes = np.array([numbers[names[label]] for label in present], np.int32)
    return InstanceClasses(np.array(present, np.int32), classes)


def instance_labels(labels: NDArray[np.int32]) -> list[int]:
    """Return the labels of the instances of a label image, ascending."""
    present: list[int] = np.unique(labels[labels > 0]).tolist()
    return present


def disagreement(labels: NDArray[np.int32], pixels: NDArray[np.integer]) -> tuple[int, int]:
    """Compare a class image with the labels, both (H, W).

    Returns
    -------
    mixed, outside : int
        Number of instances with a tenth or more of their classified pixels in other classes than the most frequent,
        and number of classified pixels that belong to no instance.
    """
    keys, counts = _pairs(labels, pixels)
    label = keys >> 16
    total = np.bincount(np.unique(label, return_inverse=True)[1], counts)
    most = np.zeros(len(total))
    np.maximum.at(most, np.unique(label, return_inverse=True)[1], counts)
    return int((most <= 0.9 * total).sum()), int(((pixels > 0) & (labels == 0)).sum())


def _majority(labels: NDArray[np.int32], pixels: NDArray[np.integer]) -> dict[int, int]:
    """Return for each label the value of most of its classified pixels; of several the lowest."""
    keys, counts = _pairs(labels, pixels)
    # Ascending in counts, as of equal keys a dict keeps the last value.
    order = np.lexsort((-keys, counts))
    return dict(zip((keys[order] >> 16).tolist(), (keys[order] & 0xFFFF).tolist(), strict=True))


def _pairs(labels: NDArray[np.int32], pixels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    both = (labels > 0) & (pixels > 0)
    keys, counts = np.unique((labels[both].astype(np.int64) << 16) | pixels[both].astype(np.int64), return_counts=True)
    return keys, counts


def _size(pixels: NDArray[np.generic]) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"
