"""The files of one labelled image that other commands read: its labels, and what nobody has labelled yet."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.atomic import ensure_dir, write_errors
from instseg.io.images import write_picture
from instseg.io.label_images import MAX_PNG_LABEL, STRIP_ROWS, write_labels, write_labels_streamed
from instseg.io.label_strips import open_labels
from instseg.io.pairs import UNKNOWN, read_ignored
from instseg.io.pixel_size import PixelGeometry
from instseg.io.source import STREAMING_PIXELS
from instseg.labelling.document import Document
from instseg.tiling.grid import Box

# Labels that readers take for a mask where they are the only ones, which says nothing of what belongs together.
_LIKE_MASKS = (1, 255, MAX_PNG_LABEL)
_WRITABLE = (".png", ".tif", ".tiff", ".npy")
_REPLACED = "replaced"


class ChangedMeanwhileError(Exception):
    """The document has changed while it was written, part by part: nothing was written, and it is to be done again."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file of labels was when it was written, or all files of a Zarr group together.

    Attributes
    ----------
    size, mtime : int
        Bytes, and nanoseconds.
    digest : str
        Of its content, which copying keeps.
    """

    size: int
    mtime: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Return the stamp of a file, or of a folder with all that is in it."""
        digest = hashlib.sha256()
        for part in _files_of(path):
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return cls(*_size_and_time(path), digest.hexdigest())

    def fits(self, path: Path) -> bool:
        """Return whether a file is as it was."""
        size, time = _size_and_time(path)
        return size == self.size and (time == self.mtime or Stamp.of(path).digest == self.digest)


def _files_of(path: Path) -> list[Path]:
    return sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]


def _size_and_time(path: Path) -> tuple[int, int]:
    states = [part.stat() for part in _files_of(path)]
    return sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)


def read_existing(path: Path, array: NDArray[np.int32]) -> None:
    """Read labels that exist into an array (H, W), strip by strip where they are large.

    Raises
    ------
    InstsegError
        If they cannot be read, or are of another size.
    """
    reader = open_labels(path)
    try:
        if tuple(reader.shape) != array.shape:
            sizes = f"{reader.shape[0]} x {reader.shape[1]} pixels and its image is {array.shape[0]} x {array.shape[1]}"
            raise InstsegError(f"{path} is {sizes}, expected equal sizes; export the labels at the image's size")
        top = 0
        for strip in reader.strips(STRIP_ROWS):
            array[top : top + len(strip)] = strip
            top += len(strip)
    finally:
        reader.close()


def confirmed_ids(document: Document) -> NDArray[np.int32]:
    """Return the confirmed instances, ascending: those of which files tell."""
    objects = document.objects()
    return objects.ids[objects.confirmed]


def file_numbers(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the number that each instance (N,) has in the file: its own, unless readers could not take it.

    They are renumbered where few instances have numbers too large for PNG, and where a single one would make the labels
    look like a mask.
    """
    if len(ids) == 1 and (ids[0] in _LIKE_MASKS or ids[0] > MAX_PNG_LABEL):
        return np.array([2], np.int32)
    if len(ids) and ids[-1] > MAX_PNG_LABEL and len(ids) <= MAX_PNG_LABEL:
        return np.arange(1, len(ids) + 1, dtype=np.int32)
    return ids


def write_files(
    document: Document, labels: Path, ignored: Path, work: Path, geometry: Callable[[], PixelGeometry | None]
) -> Path | None:
    """Write the labels of a document, and what is not known of it, in an order in which readers never learn wrong ones.

    Parameters
    ----------
    document : Document
    labels : Path
        Where labels are, or would be as PNG.
    ignored : Path
        The file of regions that are not known, written for partly labelled images and removed for others.
    work : Path
        Where a file goes that has to make room for one of another kind.
    geometry : callable
        Returns the size of the pixels, for TIFF.

    Returns
    -------
    Path or None
        Where the labels are; None for an image of which nothing is known.

    Raises
    ------
    InstsegError
        If they cannot be written.
    ChangedMeanwhileError
        If a large document has changed meanwhile.
    """
    if document.state == "new":
        move_away(labels, work)
        _remove(ignored)
        return None
    target = _target(document, labels)
    ensure_dir(labels.parent)
    unknown = _unknown(document) if document.state == "partly" else None
    if unknown is not None:
        ensure_dir(ignored.parent)
        # Until labels are there, what was not known before is not known yet, and what is not known now no longer is.
        before = _ignored_before(ignored, document.shape)
        either = unknown if before is None else np.maximum(unknown, before)
        if before is None or not np.array_equal(either, before):
            write_picture(ignored, either)
    _write_labels(document, target, geometry)
    if target != labels:
        move_away(labels, work)
    if unknown is None:
        _remove(ignored)
    elif not np.array_equal(either, unknown):
        write_picture(ignored, unknown)
    return target


def _target(document: Document, labels: Path) -> Path:
    ids = file_numbers(confirmed_ids(document))
    large = document.shape[0] * document.shape[1] > STREAMING_PIXELS
    if labels.suffix.lower() not in _WRITABLE:
        labels = labels.with_suffix(".png")
    if labels.suffix.lower() == ".png" and (large or (len(ids) and ids[-1] > MAX_PNG_LABEL)):
        return labels.with_suffix(".tif")
    return labels


def _write_labels(document: Document, path: Path, geometry: Callable[[], PixelGeometry | None]) -> None:
    ids = confirmed_ids(document)
    numbers = file_numbers(ids)
    if document.shape[0] * document.shape[1] <= STREAMING_PIXELS:
        write_labels(
            path,
            _numbered(document.confirmed_in(), ids, numbers),
            geometry() if path.suffix.lower() != ".png" else None,
        )
        return
    version = document.version

    def strips() -> Iterator[NDArray[np.int32]]:
        for box in _strip_boxes(document.shape):
            labels = document.confirmed_in(box)
            if document.version != version:
                raise ChangedMeanwhileError
            yield _numbered(labels, ids, numbers)

    write_labels_streamed(path, document.shape, strips(), geometry())


def _strip_boxes(shape: tuple[int, int]) -> Iterator[Box]:
    for top in range(0, shape[0], STRIP_ROWS):
        yield Box(top, 0, min(top + STRIP_ROWS, shape[0]), shape[1])


def _numbered(labels: NDArray[np.int32], ids: NDArray[np.int32], numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    if numbers is ids:
        return labels
    table = np.zeros(int(ids[-1]) + 1, np.int32)
    table[ids] = numbers
    return table[labels]


def _unknown(document: Document) -> NDArray[np.uint8]:
    """Return the image (H, W) of what is not known."""
    unknown = np.empty(document.shape, np.uint8)
    for box in _strip_boxes(document.shape):
        unknown[box.top : box.bottom] = np.where(document.known(box), 0, UNKNOWN)
    return unknown


def _ignored_before(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Return the image (H, W) of what was not known when it was written; None where there is none of this size."""
    with contextlib.suppress(InstsegError):
        if path.exists() and (before := read_ignored(path)).shape == shape:
            return np.where(before, np.uint8(UNKNOWN), np.uint8(0))
    return None


def move_away(path: Path, work: Path) -> None:
    """Move a file of labels aside, if it is there: it may be the only copy of what somebody made.

    Raises
    ------
    InstsegError
        If it cannot be moved.
    """
    if not path.exists():
        return
    folder = ensure_dir(work / _REPLACED)
    names = (folder / f"{path.stem}-{number}{path.suffix}" for number in itertools.count(1))
    with write_errors(path):
        path.replace(next(name for name in names if not name.exists()))


def _remove(path: Path) -> None:
    with write_errors(path), contextlib.suppress(FileNotFoundError):
        path.unlink()
