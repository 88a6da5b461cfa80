"""A folder of images and labels to the files of another tool."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from instseg.annotations.labelled_folder import LabelledFolder, image_name
from instseg.annotations.output import OutputFolder, link_image, names_in_report
from instseg.annotations.writers.coco import CocoPart, CocoWriter, coco_part, write_coco
from instseg.annotations.writers.formats import ExportFormat, export_format
from instseg.annotations.writers.writer import Writer
from instseg.errors import InstsegError, UsageError, format_names, printable
from instseg.io.atomic import StrPath, check_writable, is_zarr, write_errors
from instseg.io.container import shown_name
from instseg.io.folders import Pair
from instseg.io.tables import safe_cell, write_csv

REPORT = "export.csv"
"""The table beside what was written."""

_JSON = ".json"


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """What became of an image.

    Attributes
    ----------
    image : str
        The name of its file.
    labels : str
        That of its labels.
    status : str
        'exported' or 'failed'.
    objects : int
        How many were written.
    changes : mapping of str to int
        How many objects are other than in the labels, by what is other.
    reason : str
        Why it could not be written.
    """

    image: str
    labels: str
    status: str
    objects: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written.

    Attributes
    ----------
    format : str
        The name of the format.
    images : tuple of ExportedImage
    class_names : tuple of str
        Of the classes that were written.
    notes : tuple of str
        What a user should know, a line each.
    """

    format: str
    images: tuple[ExportedImage, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def exported(self) -> int:
        """Number of images that were written."""
        return sum(image.status == "exported" for image in self.images)

    @property
    def failed(self) -> tuple[ExportedImage, ...]:
        """Images that could not be written."""
        return tuple(image for image in self.images if image.status == "failed")

    @property
    def objects(self) -> int:
        """Number of objects that were written."""
        return sum(image.objects for image in self.images)


class _ExportFolder(OutputFolder):
    """The folder that labels are exported to."""

    written_by = "export"
    folders = ()
    _OWN = (REPORT, "annotations.json", "annotations.xml", "data.yaml", "via.json", "classes.csv", "scores.csv")

    def _foreign(self, present: Sequence[Path]) -> Path | None:
        images = names_in_report(self.path / REPORT)
        if images is None:
            return present[0]
        stems = {Path(name).stem for name in images}
        for path in sorted(self.path.rglob("*")):
            parts = path.relative_to(self.path).parts
            own = len(parts) == 1 and parts[0] in self._OWN
            if path.is_file() and not own and not any(_is_of(part, stems) for part in parts):
                return path
        return None


def _is_of(part: str, stems: set[str]) -> bool:
    """Return whether a part of a path is named like one of some images."""
    stem = Path(part).stem
    return any(safe_cell(name) in stems for name in (part, stem, stem.removesuffix("_masks")))


def export_annotations(
    folder: StrPath,
    out: StrPath,
    *,
    format: str,
    images: StrPath | None = None,
    scores: StrPath | None = None,
    polygons: bool = False,
    connected_components: bool = False,
    ignore_label: int | None = None,
    link_images: bool = True,
    copy: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExportReport:
    """Write the labels of a folder as files that another tool reads.

    One image's labels are in memory at a time. The folder that is written appears when it is complete; `export.csv` in
    it says what became of each image. `import_annotations` reads all formats again.

    Parameters
    ----------
    folder : path-like
        A data folder (`images/`, `labels/`, perhaps `classes.csv` or `classes/`), or with `images` a folder of label
        images, such as `predict` writes.
    out : path-like
        The folder to write; with COCO a name that ends in .json is the one file, without images.
    format : str
        The name of the format, one of `instseg.annotations.writers.formats.EXPORT_FORMATS`.
    images : path-like, optional
        The folder of the images, where it is not `folder/images`.
    scores : path-like, optional
        A folder of tables as `predict` writes them, or a table with the columns image, label and score; without it,
        `folder/scores` or `folder/scores.csv`, if it exists.
    polygons : bool
        Write COCO as polygons, which have no holes, instead of as runs of pixels.
    connected_components : bool
        Make each connected piece of a mask an object.
    ignore_label : int, optional
        Leave out pixels of this value.
    link_images : bool
        Put the images beside the annotations: as links, where that is possible.
    copy : bool
        Copy them instead.
    overwrite : bool
        Replace what an earlier export wrote.
    progress : callable
        Takes how many images of how many are done.

    Returns
    -------
    ExportReport

    Raises
    ------
    UsageError
        If a parameter is out of range.
    InstsegError
        If the folder cannot be read, no image can be exported, or `out` exists or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from instseg.data.generate import generate_discs
    >>> target = tempfile.mkdtemp()
    >>> _ = generate_discs(f"{target}/discs", count=2)
    >>> report = export_annotations(f"{target}/discs", f"{target}/coco", format="coco")
    >>> report.exported, report.notes
    (2, ())
    """
    chosen, target = export_format(format), Path(out)
    if polygons and chosen.name != "coco":
        raise UsageError(f"polygons are a choice of the format coco, and the format is {chosen.name}; leave it out")
    single = chosen.name == "coco" and target.suffix.lower() == _JSON
    output = _ExportFolder(target, overwrite=overwrite)
    found = LabelledFolder(
        Path(folder),
        None if images is None else Path(images),
        None if scores is None else Path(scores),
        connected_components=connected_components,
        ignore_label=ignore_label,
    )
    if single:
        _check_file(target, overwrite)
        export = _Export(found, progress)
        write_coco(target, found.class_names, export.parts(polygons))
    else:
        output.check(found.folder, *([] if images is None else [Path(images)]))
        make = functools.partial(CocoWriter, polygons=polygons) if chosen.name == "coco" else chosen.make
        export = _Export(found, progress)
        with output.writing() as place, write_errors(target), make(place, found.class_names) as writer:
            export.run(writer, link_images, copy)
            writer.finish()
            _write_report(place / REPORT, export.rows)
    notes = tuple(_notes(found, chosen, export.rows, with_images=link_images and not single))
    return ExportReport(
        format=chosen.name,
        images=tuple(export.rows),
        class_names=found.class_names if chosen.has_classes else (),
        notes=notes,
    )


def _check_file(path: Path, overwrite: bool) -> None:
    check_writable(path)
    if path.exists() and not overwrite:
        raise InstsegError(f"{path} exists; add `overwrite=True` to replace it or give another `out`")


class _Export:
    """Reads and writes the images of a folder, one after the other; what is wrong with one costs no other."""

    def __init__(self, found: LabelledFolder, progress: Callable[[int, int], None]) -> None:
        self._found, self._progress = found, progress
        self.rows: list[ExportedImage] = []

    def run(self, writer: Writer, link_images: bool, copy: bool) -> None:
        """Write all images by a writer; an InstsegError is raised where none can be."""
        for pair in self._each():
            path = writer.image_path(image_name(pair))
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._row(pair) as row:
                image = self._found.read(pair)
                changes = writer.write(image)
                if link_images and not is_zarr(pair.image):
                    link_image(pair.image, path, copy=copy)
                row.done(len(image.label), changes)

    def parts(self, polygons: bool) -> Iterator[CocoPart]:
        """Yield what COCO has of each image; an InstsegError is raised where there is nothing."""
        for pair in self._each():
            part = None
            with self._row(pair) as row:
                image = self._found.read(pair)
                part, changes = coco_part(image, polygons=polygons)
                row.done(len(image.label), changes)
            if part is not None:
                yield part

    def _each(self) -> Iterator[Pair]:
        for number, pair in enumerate(self._found.pairs, start=1):
            yield pair
            self._progress(number, len(self._found.pairs))
        if all(row.status == "failed" for row in self.rows):
            raise InstsegError(f"no image of {self._found.folder} can be exported: {self.rows[0].reason}")

    def _row(self, pair: Pair) -> "_Row":
        return _Row(self.rows, ExportedImage(image_name(pair), shown_name(pair.labels), "failed"))


class _Row:
    """The row of an image, which is added to others when the image is done or has failed."""

    def __init__(self, rows: list[ExportedImage], row: ExportedImage) -> None:
        self._rows, self._row = rows, row

    def done(self, objects: int, changes: Counter[str]) -> None:
        """Say what was written."""
        self._row = replace(self._row, status="exported", objects=objects, changes=changes)

    def __enter__(self) -> "_Row":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        failed = isinstance(error, InstsegError)
        if error is None or failed:
            self._rows.append(replace(self._row, reason=str(error)) if failed else self._row)
        return failed


def _write_report(path: Path, rows: Sequence[ExportedImage]) -> None:
    header = ("image", "labels", "status", "objects", "changed", "reason")
    cells = (
        (
            *(row.image, row.labels, row.status, row.objects, sum(row.changes.values())),
            "; ".join([*([row.reason] if row.reason else []), *(f"{n} {what}" for what, n in row.changes.items())]),
        )
        for row in rows
    )
    write_csv(path, header, cells)


def _notes(
    found: LabelledFolder, chosen: ExportFormat, rows: Sequence[ExportedImage], *, with_images: bool
) -> Iterator[str]:
    for files in found.unmatched:
        names = format_names([printable(shown_name(file)) for file in files.files])
        yield f"{files.what}, left out: {len(files.files)} ({names})"
    if partly := [printable(pair.name) for pair in found.pairs if pair.ignored is not None]:
        yield (
            f"images labelled in parts: {len(partly)} ({format_names(partly)}); what is not labelled yet has no object "
            "there, which other tools take for background"
        )
    changes: Counter[str] = Counter()
    for row in rows:
        changes.update(row.changes)
    for what, count in changes.most_common():
        yield f"objects that {chosen.title} has {what}: {count}"
    if with_images and (zarr := [shown_name(pair.image) for pair in found.pairs if is_zarr(pair.image)]):
        names = format_names([printable(name) for name in zarr])
        yield (
            f"images that are Zarr, which other tools do not read, are not put beside the annotations: {len(zarr)} "
            f"({names}); put pictures of the same names there"
        )
    if found.class_names and not chosen.has_classes:
        yield f"{chosen.title} has no classes: those of the objects are left out"
    if found.has_scores and not chosen.has_scores:
        yield f"{chosen.title} has no scores: those of the objects are left out"
