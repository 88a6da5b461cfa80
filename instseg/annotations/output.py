"""The folder that annotations are imported to: its names, its files, and its appearance in one step."""

import csv
import hashlib
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from instseg.annotations.painting import Painted
from instseg.errors import InstsegError, printable
from instseg.io.atomic import check_folder_writable, hidden_sibling, write_errors
from instseg.io.folders import IMAGES, LABELS
from instseg.io.label_images import MAX_PNG_LABEL, write_labels
from instseg.io.locks import file_lock
from instseg.io.tables import write_csv

CLASSES, REPORT = "classes.csv", "import.csv"
"""The tables beside images and labels."""

UNCLASSIFIED = "unclassified"
"""The class of instances without one, where others have one."""

MAX_CLASSES = 255
"""Most classes that training takes."""

_LONGEST_NAME = 150
# What a name may not begin with: hidden files, and what a spreadsheet takes for a formula or text marks.
_UNSAFE_START = re.compile(r"[.=+@'~\uff1d\uff0b\uff0d\uff20-]")


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """What became of an image.

    Attributes
    ----------
    image : str
        Its name in the folder that was written, '' if it is not there.
    source : str
        Its name in the source.
    status : str
        'imported', 'failed', 'not found', 'without annotations' or 'without objects'.
    found, written : int
        Objects in the annotations, and instances in the label image.
    overlapping, overlap_pixels : int
        Objects that claim pixels which others claim, too, and such pixels.
    ignored_pixels : int
        Pixels outside of objects of which the annotations say that nobody knows what is in them.
    dropped : dict of str to int
        Objects that were left out, by the reason.
    reason : str
        Why the image was left out.
    classes : dict of str to int
        Instances of each class.
    """

    image: str
    source: str
    status: str
    found: int = 0
    written: int = 0
    overlapping: int = 0
    overlap_pixels: int = 0
    ignored_pixels: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    classes: Mapping[str, int] = field(default_factory=dict)


class OutputFolder:
    """A folder that appears when it is complete.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Whether a folder that an earlier import wrote is replaced.
    """

    written_by = "import"
    folders: tuple[str, ...] = (IMAGES, LABELS)

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self._overwrite = overwrite

    def check(self, *sources: Path) -> None:
        """Check that the folder can be written and holds nothing that would be lost.

        Raises
        ------
        InstsegError
            If it cannot, or a source is in it, or it holds something that no import wrote, or `overwrite` is missing.
        """
        check_folder_writable(self.path)
        resolved = self.path.resolve()
        inside = [source for source in sources if source.resolve().is_relative_to(resolved)]
        if inside and self.path.exists():
            raise InstsegError(f"cannot write {self.path}: {inside[0]} is read from there; give another `out`")
        present = sorted(self.path.iterdir()) if self.path.is_dir() else []
        if not present:
            return
        if foreign := self._foreign(present):
            what = f"{self.path} holds files that no {self.written_by} wrote, such as {foreign}"
            raise InstsegError(f"{what}; give another `out`")
        if not self._overwrite:
            raise InstsegError(f"{self.path} is not empty; add `overwrite=True` to replace it or give another `out`")

    def _foreign(self, present: Sequence[Path]) -> Path | None:
        """Return something in the folder that its report does not know of."""
        report = self.path / REPORT
        images = names_in_report(report)
        if images is None:
            return report if report.is_file() else present[0]
        stems = {Path(name).stem for name in images}
        for path in present:
            if path.name not in (IMAGES, LABELS, CLASSES, REPORT):
                return path
            for inside in sorted(path.iterdir()) if path.is_dir() else []:
                if (inside.name not in images) if path.name == IMAGES else (inside.stem not in stems):
                    return inside
        return None

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give a folder with the empty `folders`, which takes the place of `path` when the block ends.

        When the block raises, nothing of it stays, and `path` is as before. What is left of a run that was killed is
        removed by the next that writes the same folder.

        Raises
        ------
        InstsegError
            If it cannot be written, or another process writes it.
        """
        partial, old = hidden_sibling(self.path, ".partial"), hidden_sibling(self.path, ".old")
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = hidden_sibling(self.path, ".lock")
            with file_lock(lock, f"another process writes {self.path}; wait for it, or give another `out`"):
                self._clear(partial, old)
                try:
                    partial.mkdir()
                    for name in self.folders:
                        (partial / name).mkdir()
                    yield partial
                    if self.path.exists():
                        self.path.rename(old)
                    partial.rename(self.path)
                    shutil.rmtree(old, ignore_errors=True)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)

    def _clear(self, partial: Path, old: Path) -> None:
        """Remove what is left of a run that was killed, and restore what it had moved away but not replaced."""
        if old.exists() and not self.path.exists():
            old.rename(self.path)
        for left in (partial, old):
            if left.exists():
                shutil.rmtree(left)


def names_in_report(path: Path) -> set[str] | None:
    """Return the images that a report lists, None where there is no such report."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            return {row.get("image") or "" for row in rows} if "image" in (rows.fieldnames or ()) else None
    except (OSError, ValueError, csv.Error):
        return None


def choose_names(paths: Sequence[str]) -> list[str]:
    """Return names, without the suffix of a file, for images that come from these paths of a source.

    Each is the stem of the path, with the folders before it where several images have the same stem. What terminals,
    spreadsheets and file systems might take for something else is replaced.

    Examples
    --------
    >>> choose_names(["a/1.png", "b/1.tif", "2.png", "=3.png"])
    ['a_1', 'b_1', '2', '_=3']
    """
    stems = [_safe(PurePosixPath(path).stem) for path in paths]
    counts = Counter(stem.casefold() for stem in stems)
    names: list[str] = []
    taken: set[str] = set()
    for path, stem in zip(paths, stems, strict=True):
        name = stem
        if counts[stem.casefold()] > 1:
            name = _safe("_".join(PurePosixPath(path).with_suffix("").parts))
        base, number = name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe(name: str) -> str:
    plain = unicodedata.normalize("NFC", "_".join(printable(name).replace("\\", "_").replace("/", "_").split(" ")))
    plain = plain or "_"
    if len(plain.encode()) > _LONGEST_NAME:
        plain = f"{plain[: _LONGEST_NAME // 4]}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:16]}"
    return f"_{plain}" if _UNSAFE_START.match(plain) else plain


def write_label_image(folder: Path, name: str, painted: Painted, ignore_label: int | None) -> int:
    """Write the labels of an image: PNG, or TIFF where numbers need more than 16 bits.

    Returns
    -------
    int
        Number of pixels outside of objects that are ignored; they are written as `ignore_label` if it is given.

    Raises
    ------
    InstsegError
        If an object has the number `ignore_label`, or the file cannot be written.
    """
    labels = painted.labels
    ignored = None if painted.ignored is None else painted.ignored & (labels == 0)
    if ignore_label is not None and ignored is not None:
        if ignore_label in painted.numbers:
            highest = int(painted.numbers[-1])
            raise InstsegError(
                f"`ignore_label` is {ignore_label}, which is an object's number, expected above {highest}"
            )
        labels = np.where(ignored, np.int32(ignore_label), labels)
    suffix = ".png" if int(labels.max(initial=0)) <= MAX_PNG_LABEL else ".tif"
    write_labels(folder / LABELS / f"{name}{suffix}", labels)
    return 0 if ignored is None else int(ignored.sum())


def link_image(image: Path, target: Path, *, copy: bool) -> None:
    """Make an image appear under another name: by a hard link, else a symbolic one, else a copy.

    Raises
    ------
    InstsegError
        If it cannot be copied either.
    """
    original = image.resolve()
    if not copy:
        for link in (os.link, os.symlink):
            try:
                link(original, target)
            except OSError:
                # Other file systems, files of others, and file systems without links.
                continue
            return
    with write_errors(target):
        shutil.copyfile(original, target)


def write_classes(
    folder: Path,
    images: Iterable[str],
    numbers: Mapping[str, NDArray[np.integer]],
    class_names: Mapping[str, Mapping[int, str]],
) -> None:
    """Write the class of each label.

    Parameters
    ----------
    folder : Path
    images : iterable of str
        The names of the files of images.
    numbers : mapping of str to (N,) integers
        The labels of each.
    class_names : mapping of str to (mapping of int to str)
        The classes of labels, for each.
    """
    rows = (
        (image, label, class_names.get(image, {}).get(label, UNCLASSIFIED))
        for image in images
        for label in numbers[image].tolist()
    )
    write_csv(folder / CLASSES, ("image", "label", "class"), rows)


def write_report(folder: Path, rows: Iterable[ImportedImage]) -> None:
    """Write what became of each image."""
    header = ("image", "source", "status", "found", "written", "overlapping", "overlap_pixels", "ignored_pixels")
    cells = (
        (
            *(row.image, row.source, row.status, row.found, row.written, row.overlapping, row.overlap_pixels),
            *(row.ignored_pixels, sum(row.dropped.values())),
            "; ".join([*([row.reason] if row.reason else []), *(f"{n} {why}" for why, n in row.dropped.items())]),
        )
        for row in rows
    )
    write_csv(folder / REPORT, (*header, "dropped", "reason"), cells)
