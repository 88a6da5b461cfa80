"""Folders of images and label images, with classes and scores: what can be written as files of other tools."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instseg.annotations.output import UNCLASSIFIED
from instseg.data.classes import ClassSource, find_classes, instance_labels, sort_class_names
from instseg.errors import InstsegError, format_names
from instseg.io.container import ZARR_SUFFIX, shown_name
from instseg.io.folders import LABELS, Pair, UnmatchedFiles, match_folder, match_folders
from instseg.io.formats import read_header
from instseg.io.image_names import stem_of
from instseg.io.label_images import read_class_image, read_labels
from instseg.io.labelled_image import LabelledImage
from instseg.io.tables import unquoted_cell
from instseg.labels.regions import IGNORED

SCORES = "scores"
"""The folder of tables of scores, or, with .csv, the one table, beside labels."""

# What tables call the number of an object: those of `predict`, and others.
_NUMBERS = ("label", "id")


@dataclass(frozen=True, slots=True)
class _Known:
    """What a table says of the objects of an image, by their labels."""

    scores: dict[int, float]
    classes: dict[int, str]


class LabelledFolder:
    """Images and their labels, with what is known of the objects.

    Parameters
    ----------
    folder : Path
        A data folder (images/, labels/, classes.csv or classes/), or with `images` a folder of label images.
    images : Path, optional
        The folder of the images, where it is not `folder/images`.
    scores : Path, optional
        A folder of tables named like the images, or a table with the column image; without it, `scores` or `scores.csv`
        in the folder.
    connected_components : bool
        Whether each connected piece of a mask is an object.
    ignore_label : int, optional
        The value of pixels that belong neither to an object nor to the background.

    Attributes
    ----------
    pairs : list of Pair
        Sorted by name.
    unmatched : list of UnmatchedFiles
        Images without labels, and the like.
    class_names : tuple of str
        Of all classes, sorted; `UNCLASSIFIED` comes last where it is needed.

    Raises
    ------
    InstsegError
        If there is no pair, or a table cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        images: Path | None = None,
        scores: Path | None = None,
        *,
        connected_components: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        self.folder, self._connected_components, self._ignore_label = folder, connected_components, ignore_label
        self.pairs, self.unmatched = _match(folder, images)
        if not self.pairs:
            raise InstsegError(f"{folder} holds no image that has labels ({_said(self.unmatched)}); check the names")
        self._classes = find_classes(folder, connected_components=connected_components)
        self._known = _read_known(scores, folder, self.pairs)
        self.has_scores = any(known.scores for known in self._known.values())
        self.class_names: tuple[str, ...] = sort_class_names(self._names())
        if self.class_names and UNCLASSIFIED not in self.class_names and any(map(self._lacks_class, self.pairs)):
            self.class_names = (*self.class_names, UNCLASSIFIED)
        self._number = {name: number for number, name in enumerate(self.class_names)}

    def read(self, pair: Pair) -> LabelledImage:
        """Read the labels of an image.

        Raises
        ------
        InstsegError
            If they cannot be read, or are of another size than the image.
        """
        labels = self._labels(pair)
        header = read_header(pair.image)
        if (header.height, header.width) != labels.shape:
            size = f"{labels.shape[0]} x {labels.shape[1]}"
            sizes = f"{header.height} x {header.width} pixels and {pair.labels} is {size}"
            raise InstsegError(f"{pair.image} is {sizes}, expected equal sizes; export the labels at the image's size")
        label = np.array(instance_labels(labels), np.int32)
        known = self._known_of(pair)
        return LabelledImage(
            name=image_name(pair),
            labels=labels,
            label=label,
            score=np.array([known.scores.get(each, np.nan) for each in label.tolist()]) if self.has_scores else None,
            class_number=self._class_numbers(pair, labels, label),
            class_names=self.class_names,
        )

    def _labels(self, pair: Pair) -> NDArray[np.int32]:
        labels = read_labels(
            pair.labels, connected_components=self._connected_components, ignore_label=self._ignore_label
        )
        return labels if self._ignore_label is None else np.where(labels == IGNORED, np.int32(0), labels)

    def _known_of(self, pair: Pair) -> _Known:
        return self._known.get(pair.name, _Known({}, {}))

    def _classes_of(self, pair: Pair, labels: NDArray[np.int32]) -> Mapping[int, str]:
        return self._known_of(pair).classes if self._classes is None else self._classes.names(pair, labels)

    def _lacks_class(self, pair: Pair) -> bool:
        """Return whether an object of an image has no class: files of other tools name all classes first."""
        try:
            labels = self._labels(pair)
            names = self._classes_of(pair, labels)
        except InstsegError:
            # The image is not written, and `read` says why.
            return False
        return any(label not in names for label in instance_labels(labels))

    def _class_numbers(
        self, pair: Pair, labels: NDArray[np.int32], label: NDArray[np.integer]
    ) -> NDArray[np.integer] | None:
        if not self.class_names:
            return None
        names = self._classes_of(pair, labels)
        return np.array([self._number[names.get(each, UNCLASSIFIED)] for each in label.tolist()], np.int64)

    def _names(self) -> Iterator[str]:
        """Yield the names of the classes, some of them many times."""
        if self._classes is None:
            for known in self._known.values():
                yield from known.classes.values()
        elif self._classes.table is not None:
            for names in self._classes.table.values():
                yield from names.values()
        else:
            yield from _values(self._classes)


def image_name(pair: Pair) -> str:
    """Return the name of an image's file; one in a Zarr group of many gets that of its results."""
    return pair.image.name if shown_name(pair.image) == pair.image.name else f"{pair.name}{ZARR_SUFFIX}"


def _values(classes: ClassSource) -> Iterator[str]:
    """Yield the values of class images."""
    for path in (classes.images or {}).values():
        yield from (str(value) for value in np.unique(read_class_image(path)).tolist() if value > 0)


def _match(folder: Path, images: Path | None) -> tuple[list[Pair], list[UnmatchedFiles]]:
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise InstsegError(f"cannot use {folder}: {what}; give a folder of images and labels")
    if images is None:
        if not (folder / "images").is_dir() and not (folder / LABELS).is_dir():
            raise InstsegError(
                f"{folder} has no folders images/ and labels/; give a data folder, or, for a folder of label images, "
                "that of the images by `images=DIR`"
            )
        return match_folder(folder)
    return match_folders(images, folder / LABELS if (folder / LABELS).is_dir() else folder)


def _said(unmatched: Sequence[UnmatchedFiles]) -> str:
    parts = [
        f"{len(one.files)} {one.what}: {format_names([shown_name(file) for file in one.files])}" for one in unmatched
    ]
    return "; ".join(parts) or "no file of either"


def _read_known(scores: Path | None, folder: Path, pairs: Sequence[Pair]) -> dict[str, _Known]:
    """Return what tables say of the objects, by the names of images."""
    path = scores
    if path is None:
        found = [path for path in (folder / SCORES, folder / f"{SCORES}.csv") if path.exists()]
        path = found[0] if found else None
    if path is None:
        return {}
    if not path.exists():
        raise InstsegError(f"there is no file or folder {path}; check the name")
    known: dict[str, _Known] = {}
    if path.is_dir():
        tables = {stem_of(table): table for table in path.glob("*.csv")}
        for pair in pairs:
            if (table := tables.get(pair.name)) is not None:
                _read_table(table, known, pair.name)
        return known
    _read_table(path, known, None)
    return known


def _read_table(path: Path, known: dict[str, _Known], name: str | None) -> None:
    """Read a table of an image of a name, or, without one, a table that names the images.

    Raises
    ------
    InstsegError
        If it cannot be read, or has no such columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            number = next((column for column in _NUMBERS if column in columns), None)
            if number is None or (name is None and "image" not in columns):
                needed = "image, label and score" if name is None else "label (or id) and score"
                raise InstsegError(f"cannot read {path}: it has the columns {', '.join(columns)}, expected {needed}")
            for row in rows:
                if name is None and not row["image"]:
                    raise InstsegError(f"cannot read {path}: line {rows.line_num} names no image; fill it in")
                image = name or stem_of(Path(unquoted_cell(row["image"])))
                of_image = known.setdefault(image, _Known({}, {}))
                label = int(row[number])
                if score := row.get("score"):
                    of_image.scores[label] = float(score)
                if of_class := row.get("class"):
                    of_image.classes[label] = unquoted_cell(of_class)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InstsegError(f"cannot read {path}: {error}; save it as CSV in UTF-8") from error
