"""Annotations of any format to a folder of images and labels."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instseg.annotations.detection import detect_format, format_named
from instseg.annotations.objects import AnnotatedImage, Annotations, LabelImage, Objects
from instseg.annotations.output import (
    MAX_CLASSES,
    UNCLASSIFIED,
    ImportedImage,
    OutputFolder,
    choose_names,
    link_image,
    write_classes,
    write_label_image,
    write_report,
)
from instseg.annotations.painting import OVERLAPS, Overlap, paint
from instseg.annotations.source import ReadOptions, Source
from instseg.errors import InstsegError, check_parameter, format_names, printable
from instseg.io.atomic import StrPath
from instseg.io.folders import IMAGES
from instseg.io.formats import read_header
from instseg.io.label_images import MAX_PNG_LABEL

_THREADS = 4
# Images that are being worked on or wait for it, so that few results are in memory.
_WINDOW = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was imported.

    Attributes
    ----------
    format, evidence : str
        The name of the format, and what it was recognised by.
    images : tuple of ImportedImage
        All images of the annotations, also those that were left out.
    classes : dict of str to int
        Instances of each class, if classes were written.
    notes : tuple of str
        What a user should know, a line each.
    """

    format: str
    evidence: str
    images: tuple[ImportedImage, ...]
    classes: dict[str, int]
    notes: tuple[str, ...]

    @property
    def imported(self) -> int:
        """Number of images that were written."""
        return sum(image.status == "imported" for image in self.images)

    @property
    def failed(self) -> int:
        """Number of images that could not be read, or do not fit their annotations."""
        return sum(image.status == "failed" for image in self.images)

    @property
    def instances(self) -> int:
        """Number of instances that were written."""
        return sum(image.written for image in self.images)


def import_annotations(
    source: StrPath,
    out: StrPath,
    *,
    format: str | None = None,
    images: StrPath | None = None,
    overlap: Overlap = "smaller-on-top",
    connected_components: bool = False,
    boxes: bool = False,
    keep_empty: bool = False,
    ignore_label: int | None = None,
    copy: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Write a folder that `check_data` and `train` take, from annotations of another tool.

    The folder holds `images/` (links where possible), `labels/` (16-bit PNG, or TIFF of more than 65,535 instances),
    `classes.csv` where the annotations have several classes, and `import.csv`, which says of each image what was found,
    written and left out. It appears when it is complete.

    Parameters
    ----------
    source : path-like
        A folder, or a file of annotations.
    out : path-like
        The folder to write.
    format : str, optional
        The name of the format, one of `instseg.annotations.detection.FORMATS`; without it, it is found out.
    images : path-like, optional
        The folder that images are searched in, where they are not beside the annotations.
    overlap : {'smaller-on-top', 'first', 'last', 'drop'}
        Who gets a pixel that several objects claim: the object of fewest pixels, the first or the last of the file, or
        the background.
    connected_components : bool
        Make each connected piece of an object an instance; without it the parts of an object stay one.
    boxes : bool
        Take boxes for outlines; without it objects that are but boxes are left out.
    keep_empty : bool
        Keep images without annotations, with labels that are all background.
    ignore_label : int, optional
        Give this value to areas of which nobody knows what is in them, such as COCO's crowds, for the parameter of
        `train` of the same name; without it they are background.
    copy : bool
        Copy images rather than link them.
    overwrite : bool
        Replace a folder that an earlier import wrote.
    progress : callable
        Takes how many images of how many are done.

    Returns
    -------
    ImportReport

    Raises
    ------
    UsageError
        If a parameter is out of range.
    InstsegError
        If the source cannot be read, no image can be imported, or the folder exists or cannot be written.
    """
    check_parameter(overlap in OVERLAPS, "overlap", overlap, f"one of {', '.join(OVERLAPS)}")
    valid = ignore_label is None or 0 < ignore_label <= MAX_PNG_LABEL
    check_parameter(valid, "ignore_label", ignore_label, f"1 to {MAX_PNG_LABEL}")
    chosen = None if format is None else format_named(format)
    output = OutputFolder(Path(out), overwrite=overwrite)
    found = Source(Path(source), None if images is None else Path(images), exclude=output.path)
    output.check(found.path, found.images)
    if chosen is None:
        chosen, evidence, others = detect_format(found)
    else:
        evidence, others = "as asked", []
    annotations = chosen.read(found, ReadOptions(boxes, connected_components))
    found.forget()
    notes = [f"{printable(str(found.path))} is {chosen.title}: {evidence}"]
    if others:
        notes.append(f"it looks like {', '.join(others)} as well, which `format=NAME` chooses")
    job = _Job(found, annotations, overlap, connected_components, keep_empty, ignore_label, copy)
    with output.writing() as folder:
        rows = job.run(folder, progress)
        if not any(row.status == "imported" for row in rows):
            raise InstsegError(_nothing_imported(found, rows))
        classes = job.write_classes(folder, rows)
        write_report(folder, rows)
    notes += [*annotations.notes, *_notes(rows, overlap, ignore_label)]
    if UNCLASSIFIED in classes:
        notes.append(f"instances without a class are of the class {UNCLASSIFIED}: {classes[UNCLASSIFIED]}")
    if len(classes) > MAX_CLASSES:
        notes.append(f"there are {len(classes)} classes, and training takes at most {MAX_CLASSES}: merge some")
    return ImportReport(format=chosen.name, evidence=evidence, images=tuple(rows), classes=classes, notes=tuple(notes))


class _Job:
    """Reads, paints and writes the images of a source."""

    def __init__(
        self,
        source: Source,
        annotations: Annotations,
        overlap: Overlap,
        connected_components: bool,
        keep_empty: bool,
        ignore_label: int | None,
        copy: bool,
    ) -> None:
        self._source, self._annotations, self._overlap, self._copy = source, annotations, overlap, copy
        self._connected_components, self._ignore_label = connected_components, ignore_label
        self._keep_empty = keep_empty
        self._class_names: dict[str, dict[int, str]] = {}
        self._numbers: dict[str, NDArray[np.integer]] = {}

    def run(self, folder: Path, progress: Callable[[int, int], None]) -> list[ImportedImage]:
        """Write all images and labels, a few at a time in threads."""
        images, doubled = _without_copies(self._annotations.images)
        if self._keep_empty:
            images += [AnnotatedImage(path, _none) for path in self._annotations.unannotated]
        names = choose_names([self._source.relative(each.image) for each in images])
        rows: dict[int, ImportedImage] = {}
        pool = ThreadPoolExecutor(_THREADS)
        try:
            waiting: dict[Future[ImportedImage], int] = {}
            for number, (image, name) in enumerate(zip(images, names, strict=True)):
                waiting[pool.submit(self._import, image, name, folder)] = number
                while len(waiting) >= _WINDOW:
                    self._collect(waiting, rows, progress, len(images))
            while waiting:
                self._collect(waiting, rows, progress, len(images))
        finally:
            pool.shutdown(cancel_futures=True)
        result = [rows[number] for number in range(len(images))]
        twice = "the annotations name it twice, by several names"
        result += [ImportedImage("", self._source.relative(path), "failed", reason=twice) for path in doubled]
        result += [ImportedImage("", name, "not found", reason=reason) for name, reason in self._annotations.missing]
        if not self._keep_empty:
            left = [self._source.relative(path) for path in self._annotations.unannotated]
            result += [ImportedImage("", name, "without annotations") for name in left]
        return result

    def _collect(
        self,
        waiting: dict[Future[ImportedImage], int],
        rows: dict[int, ImportedImage],
        progress: Callable[[int, int], None],
        total: int,
    ) -> None:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            rows[waiting.pop(future)] = future.result()
        progress(len(rows), total)

    def _import(self, annotated: AnnotatedImage, name: str, folder: Path) -> ImportedImage:
        """Write an image and its labels; what is wrong with it costs no other."""
        file = f"{name}{annotated.image.suffix.lower()}"
        row = ImportedImage(file, self._source.relative(annotated.image), "imported")
        try:
            return self._write(annotated, folder, row)
        except InstsegError as error:
            return replace(row, image="", status="failed", reason=str(error))

    def _write(self, annotated: AnnotatedImage, folder: Path, row: ImportedImage) -> ImportedImage:
        header = read_header(annotated.image)
        size = (header.height, header.width)
        objects = annotated.load()
        claimed = objects.labels.shape if isinstance(objects, LabelImage) else objects.size
        if claimed is not None and claimed != size:
            raise InstsegError(
                f"the image is {size[0]} x {size[1]} pixels and its annotations are of {claimed[0]} x {claimed[1]}; "
                "give the image that was annotated"
            )
        painted = paint(objects, size, self._overlap, connected_components=self._connected_components)
        row = replace(
            row,
            found=painted.found,
            overlapping=painted.overlapping,
            overlap_pixels=painted.overlap,
            dropped=painted.dropped,
        )
        # A label image without objects says that there are none; no objects in a list may be work that is not done.
        if len(painted.numbers) == 0 and not self._keep_empty and not isinstance(objects, LabelImage):
            return replace(row, image="", status="without objects")
        ignored = write_label_image(folder, Path(row.image).stem, painted, self._ignore_label)
        link_image(annotated.image, folder / IMAGES / row.image, copy=self._copy)
        self._numbers[row.image], self._class_names[row.image] = painted.numbers, painted.class_names
        counts = Counter(painted.class_names.values())
        return replace(row, written=len(painted.numbers), ignored_pixels=ignored, classes=counts)

    def write_classes(self, folder: Path, rows: Iterable[ImportedImage]) -> dict[str, int]:
        """Write the table of classes if there are several, and return how many instances each has."""
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update(row.classes)
        unclassified = sum(row.written for row in rows) - counts.total()
        declared = set(self._annotations.class_names or ())
        if not counts or len(declared | set(counts)) + (unclassified > 0) < 2:
            return {}
        images = [row.image for row in rows if row.status == "imported"]
        write_classes(folder, images, self._numbers, self._class_names)
        counts[UNCLASSIFIED] += unclassified
        return {name: number for name, number in sorted(counts.items()) if number}


def _without_copies(images: Iterable[AnnotatedImage]) -> tuple[list[AnnotatedImage], list[Path]]:
    """Return the images that there is one entry for, and those of several, of which nobody knows which is right."""
    counts = Counter(each.image for each in images)
    return [each for each in images if counts[each.image] == 1], [path for path, n in counts.items() if n > 1]


def _none() -> Objects:
    return Objects()


def _nothing_imported(source: Source, rows: list[ImportedImage]) -> str:
    counts = Counter(row.status for row in rows)
    said = ", ".join(f"{number} {status}" for status, number in counts.items()) or "there is none"
    first = next((f"; {printable(row.source)}: {row.reason}" for row in rows if row.reason), "")
    where = "" if counts.keys() - {"not found"} or not rows else "; give the folder of the images by `images=DIR`"
    return f"no image of {source.path} can be imported ({said}){first}{where}"


def _notes(rows: list[ImportedImage], overlap: Overlap, ignore_label: int | None) -> list[str]:
    """Say in a line each what was left out, and what overlaps."""
    notes = []
    texts = {
        "not found": "annotated images that were not found",
        "failed": "images that failed",
        "without annotations": "images without annotations, left out (`keep_empty=True` keeps them)",
        "without objects": "images without objects, left out (`keep_empty=True` keeps them)",
    }
    for status, text in texts.items():
        names = [printable(row.source) for row in rows if row.status == status]
        if names:
            notes.append(f"{text}: {len(names)}, such as {format_names(names)}")
    dropped: Counter[str] = Counter()
    for row in rows:
        dropped.update(row.dropped)
    if dropped:
        said = ", ".join(f"{number} {reason}" for reason, number in dropped.most_common())
        notes.append(f"objects left out: {dropped.total()} ({said})")
    overlapping = sum(row.overlapping for row in rows)
    if overlapping:
        pixels = sum(row.overlap_pixels for row in rows)
        notes.append(f"objects that overlap others: {overlapping}, in {pixels:,} pixels; the rule is {overlap}")
    if ignored := sum(row.ignored_pixels for row in rows):
        count = sum(row.ignored_pixels > 0 for row in rows)
        advice = "" if ignore_label else " and background in the labels; `ignore_label=65535` marks them for training"
        notes.append(f"areas of unknown content: {ignored:,} pixels in {count} images{advice}")
    return notes
