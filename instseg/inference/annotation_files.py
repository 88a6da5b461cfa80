"""Results of `predict` as files of annotations that hold many images: COCO, and a data set of YOLO.

What an image gives is written as soon as it is segmented, by whatever process. The files of all images are put together
of that in the end: so images whose results were there before are in them, too, and those of runs side by side.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from instseg.annotations.output import link_image
from instseg.annotations.writers.coco import CocoPart, coco_part, store_part, stored_part, write_coco
from instseg.annotations.writers.yolo import FILE as DATA_YAML
from instseg.annotations.writers.yolo import write_data_yaml, yolo_text
from instseg.errors import InstsegError, UsageError
from instseg.inference.segmentation import Segmentation
from instseg.io.atomic import (
    atomic_write,
    check_folder_writable,
    check_writable,
    ensure_dir,
    hidden_sibling,
    write_errors,
)
from instseg.io.container import result_stem
from instseg.io.folders import IMAGES, LABELS, is_report
from instseg.io.image_names import PICTURE_SUFFIXES
from instseg.io.labelled_image import LabelledImage
from instseg.io.locks import NO_LOCKS, acquire, release

COCO_SUFFIX = ".json"
"""What the name of a file of COCO ends in."""

PARTS = ".coco"
"""The folder beside labels that holds what each image gives."""

# What trainers of YOLO read.
_READABLE = (*PICTURE_SUFFIXES, ".webp")
_NOT_READABLE = "trainers of YOLO do not read such images: put pictures of them, of the names of the labels, into {}"
_WAIT = 0.05
# The first line of the file beside images/ and labels/, by which a later run knows that it may replace what is there.
_PREDICTED = "# Objects that instseg predict has found.\n"


class WrittenAnnotations(NamedTuple):
    """What was written of an image.

    Attributes
    ----------
    changes : Counter
        How many objects are other than in the labels, by what is other.
    notes : tuple of str
    """

    changes: Counter[str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationFiles:
    """Where annotations go.

    Attributes
    ----------
    coco, parts : Path or None
        The file of all images, and the folder of what each gives.
    yolo : Path or None
        The folder of the data set.
    class_names : tuple of str
        Those of the model.
    keep_parts : bool
        Whether later runs need what images give, as they may leave these out.
    """

    coco: Path | None = None
    parts: Path | None = None
    yolo: Path | None = None
    class_names: tuple[str, ...] = ()
    keep_parts: bool = True

    @property
    def kinds(self) -> list[str]:
        """The parameters by which they are wanted."""
        return [name for name in ("coco", "yolo") if getattr(self, name) is not None]

    def prepare(self) -> None:
        """Make the folders."""
        if self.parts is not None:
            ensure_dir(self.parts)
        if self.yolo is not None:
            ensure_dir(self.yolo / LABELS)
            ensure_dir(self.yolo / IMAGES)
            # Also of a run that is broken off, so that it can go on.
            write_data_yaml(self.yolo / DATA_YAML, self.class_names, _PREDICTED)

    def of_image(self, name: str) -> list[Path]:
        """Return the files that an image gives."""
        found = [] if self.parts is None else [self.parts / f"{name}.jsonl"]
        return found if self.yolo is None else [*found, self.yolo / LABELS / f"{name}.txt"]

    def hold(self, name: str, labels: Path) -> bool:
        """Return whether what an image gives is there, and is not older than its labels."""
        try:
            made = labels.stat().st_mtime_ns
            return all(path.stat().st_mtime_ns >= made for path in self.of_image(name))
        except OSError:
            return False

    def remove(self, name: str) -> None:
        """Remove what an image has given that now has failed."""
        for path in self.of_image(name):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def absolute(self) -> "AnnotationFiles":
        """Return the same with absolute paths, for other processes."""
        paths = {name: getattr(self, name) for name in ("coco", "parts", "yolo")}
        resolved = {name: None if path is None else path.resolve() for name, path in paths.items()}
        return AnnotationFiles(**resolved, class_names=self.class_names, keep_parts=self.keep_parts)

    def write(self, segmentation: Segmentation, file: Path, name: str, *, plane: bool) -> WrittenAnnotations:
        """Write what an image gives.

        Parameters
        ----------
        segmentation : Segmentation
            With instances.
        file : Path
            The image.
        name : str
            That its results have.
        plane : bool
            Whether it is a plane of a stack.

        Raises
        ------
        InstsegError
            If a file cannot be written.
        """
        if (instances := segmentation.instances) is None:
            raise ValueError("annotations need instances")
        # Images within a file or a Zarr group have no file of their own, and are named like their results.
        shown = f"{name}{file.suffix}" if plane else file.name if file.stem == name else name
        image = LabelledImage.from_instances(shown, segmentation.labels, instances)
        changes, notes = Counter[str](), tuple[str, ...]()
        if self.parts is not None:
            part, _ = coco_part(image)
            store_part(self.parts / f"{name}.jsonl", part)
        if self.yolo is not None:
            text, changes = yolo_text(image)
            with atomic_write(self.yolo / LABELS / f"{name}.txt") as temporary:
                temporary.write_text(text, encoding="utf-8")
            if plane or file.suffix.lower() not in _READABLE or not file.is_file():
                notes = (_NOT_READABLE.format(self.yolo / IMAGES),)
            else:
                _link(file, self.yolo / IMAGES / f"{name}{file.suffix}")
        return WrittenAnnotations(changes, notes)


def _link(image: Path, target: Path) -> None:
    if target.exists() and target.samefile(image):
        return
    with write_errors(target):
        target.unlink(missing_ok=True)
    link_image(image, target, copy=False)


def single_annotations(coco: Path | None, yolo: Path | None, class_names: Sequence[str]) -> AnnotationFiles | None:
    """Return where the annotations of one image go, None if there are to be none.

    Raises
    ------
    InstsegError
        If one of them cannot be written.
    """
    if coco is None and yolo is None:
        return None
    _check(coco, yolo, None)
    parts = None if coco is None else hidden_sibling(coco, ".parts")
    return AnnotationFiles(coco=coco, parts=parts, yolo=yolo, class_names=tuple(class_names), keep_parts=False)


def folder_annotations(
    coco: Path | None, yolo: Path | None, class_names: Sequence[str], folder: Path, shared: bool
) -> AnnotationFiles | None:
    """Return where the annotations of many images go, None if there are to be none.

    Parameters
    ----------
    coco, yolo : Path or None
        The file, and the folder.
    class_names : sequence of str
    folder : Path
        Of the labels, which may be missing.
    shared : bool
        Whether results that are there may be replaced, or be taken as they are.

    Raises
    ------
    InstsegError
        If one of them cannot be written, or is there and must not be replaced.
    """
    if coco is None and yolo is None:
        return None
    _check(coco, yolo, folder)
    for path in (coco, None if yolo is None else yolo / DATA_YAML):
        if path is not None and path.exists() and not shared:
            raise InstsegError(f"{path} exists; add `overwrite=True` or `skip_existing=True`, or give it another name")
    parts = None if coco is None else folder / PARTS
    return AnnotationFiles(coco=coco, parts=parts, yolo=yolo, class_names=tuple(class_names))


def _check(coco: Path | None, yolo: Path | None, folder: Path | None) -> None:
    if coco is not None:
        beside = folder is not None and coco.absolute().parent == folder.absolute()
        if coco.suffix.lower() != COCO_SUFFIX or not beside:
            check_writable(coco, COCO_SUFFIX)
        if beside and is_report(coco):
            raise UsageError(f"{coco} says how results were made; give the file of COCO another name")
    if yolo is not None:
        check_folder_writable(yolo)
        if yolo.suffix and yolo.suffix.lower() in (".txt", ".yaml", ".yml", ".zip"):
            raise UsageError(f"{yolo} looks like a file, and a data set of YOLO is a folder; give a folder")
        if (foreign := _foreign(yolo)) is not None:
            raise InstsegError(f"{yolo} holds files that no prediction wrote, such as {foreign}; give another `yolo`")


def _foreign(yolo: Path) -> Path | None:
    """Return something in a data set of another making, such as images or annotations that would be replaced."""
    data = yolo / DATA_YAML
    try:
        with data.open(encoding="utf-8", errors="replace") as file:
            if file.readline() == _PREDICTED:
                return None
        return data
    except FileNotFoundError:
        folders = [folder for folder in (yolo / IMAGES, yolo / LABELS) if folder.is_dir()]
        return next((path for folder in folders for path in folder.iterdir()), None)
    except OSError:
        return data


@dataclass(frozen=True, slots=True)
class AnnotationPlan:
    """Files of annotations that are to be written when the images of a run are done.

    Attributes
    ----------
    files : AnnotationFiles
    images : tuple of Path
        All images: those of this run, those whose results were there, and those of runs side by side.
    planes : bool
        Whether stacks are taken plane by plane.
    labels : callable
        Returns where the labels of a name are asked for.
    """

    files: AnnotationFiles
    images: tuple[Path, ...]
    planes: bool
    labels: Callable[[str], Path]

    def write(self, changes: Iterable[Counter[str]]) -> list[str]:
        """Write the files; return what a user should know.

        Parameters
        ----------
        changes : iterable of Counter
            What was changed in the images of this run.

        Raises
        ------
        InstsegError
            If they cannot be written.
        """
        notes = []
        files = self.files
        if files.coco is not None and files.parts is not None:
            # Runs side by side end in any order, and the last one has to see what all others have written.
            with _waiting_lock(hidden_sibling(files.coco, ".lock")):
                count = write_coco(files.coco, files.class_names, self._parts())
            notes.append(f"wrote {'1 image' if count == 1 else f'{count} images'} to {files.coco}")
            if not files.keep_parts:
                self.remove_parts()
        if files.yolo is not None:
            write_data_yaml(files.yolo / DATA_YAML, files.class_names, _PREDICTED)
            total = sum(changes, Counter[str]())
            notes += [f"objects that YOLO has {what}: {count}" for what, count in total.most_common()]
        return notes

    def _parts(self) -> Iterator[CocoPart]:
        for name in self._names():
            path = self.files.of_image(name)[0]
            if self.files.hold(name, self._labels(name)):
                with stored_part(path) as part:
                    yield part

    def _labels(self, name: str) -> Path:
        """Return where the labels are: more than a PNG holds are in a TIFF beside it."""
        path = self.labels(name)
        larger = path.with_suffix(".tif")
        return larger if not path.exists() and larger.exists() else path

    def _names(self) -> Iterator[str]:
        """Yield the names of the results of all images, in order."""
        for file in self.images:
            stem = result_stem(file)
            if not self.planes:
                yield stem
            elif self.files.parts is not None:
                plane = re.compile(rf"{re.escape(stem)}-\d{{4,}}")
                yield from sorted(part.stem for part in self.files.parts.iterdir() if plane.fullmatch(part.stem))

    def remove_parts(self) -> None:
        """Remove what the images have given, which no later run needs."""
        for path in (self.files.of_image(name)[0] for name in self._names()):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            if self.files.parts is not None:
                self.files.parts.rmdir()


@contextmanager
def _waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock while the block runs, once nobody else does; none where the file system has no locks."""
    descriptor = None
    with write_errors(path):
        try:
            while (descriptor := acquire(path)) is None:
                time.sleep(_WAIT)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    try:
        yield
    finally:
        if descriptor is not None:
            release(path, descriptor)
