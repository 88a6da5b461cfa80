"""The report of a prediction: one page with all images, their objects, and what made it."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from instseg.errors import InstsegError
from instseg.inference.batch import FileResult, file_state
from instseg.inference.existing import KeptResult, Remaining
from instseg.inference.report_page import ReportContent, ReportImage, write_prediction_page
from instseg.inference.report_parts import ReportParts
from instseg.inference.run_record import Making
from instseg.io.atomic import check_writable, ensure_dir, hidden_sibling, is_zarr
from instseg.io.container import result_stem
from instseg.io.formats import read_header
from instseg.io.label_images import read_labels
from instseg.io.label_strips import LabelReader, label_array, open_labels
from instseg.io.source import STREAMING_PIXELS, ImageReader, open_image, open_planes
from instseg.reports.page import SUFFIXES
from instseg.reports.pictures import budget_for

MOST_PICTURES = 200
"""Images that a report shows; its table has all of them."""

_LEAST_SURE = 40
_LARGE = 4


@dataclass(frozen=True, kw_only=True)
class ReportPlan:
    """A report that is to be written when its images are done.

    Attributes
    ----------
    path : Path
        The page.
    parts : ReportParts
    making : Making
        What makes the results.
    kept : tuple of KeptResult
        Images whose results were there before.
    shard : str or None
        'I/N' where the run takes a part of the images.
    planes_as_channels : bool
        Whether the planes of a stack are channels.
    """

    path: Path
    parts: ReportParts
    making: Making
    kept: tuple[KeptResult, ...] = ()
    shard: str | None = None
    planes_as_channels: bool = False

    def prepare(self) -> None:
        """Make the folder of the parts.

        Raises
        ------
        InstsegError
            If the report cannot be written.
        """
        check_writable(self.path, *SUFFIXES)
        ensure_dir(self.parts.folder)


def plan_report(
    path: Path,
    making: Making,
    remaining: Remaining,
    *,
    folder: Path | None,
    shard: str | None,
    planes: bool,
    planes_as_channels: bool,
) -> ReportPlan:
    """Check that a report can be written, and return what is to be known for it.

    Parameters
    ----------
    path : Path
        The page.
    making : Making
    remaining : Remaining
        What is to be done, and what is there.
    folder : Path or None
        Of the labels, which is made later.
    shard, planes_as_channels
        As `ReportPlan` has them.
    planes : bool
        Whether stacks are taken plane by plane, so that there may be any number of images.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES or folder is None or path.absolute().parent != folder.absolute():
        check_writable(path, *SUFFIXES)
    images = MOST_PICTURES if planes else len(remaining.files) + len(remaining.kept)
    return ReportPlan(
        path=path,
        parts=ReportParts(folder=hidden_sibling(path.absolute(), ".parts"), budget=budget_for(images)),
        making=making,
        kept=remaining.kept,
        shard=shard,
        planes_as_channels=planes_as_channels,
    )


def write_report(
    plan: ReportPlan, results: Sequence[FileResult], notes: Sequence[str] = (), stopped: InstsegError | None = None
) -> Path:
    """Write the page, and remove its parts.

    Images whose results were there before are shown as these are on the disc; unless a run that was broken off has left
    their parts, the model's scores of them are not known.

    Parameters
    ----------
    plan : ReportPlan
    results : sequence of FileResult
        What became of the images of this run.
    notes : sequence of str
        What was left out.
    stopped : InstsegError, optional
        Why the run ended before all images were tried.

    Raises
    ------
    InstsegError
        If it cannot be written; then parts stay.
    """
    entries = sorted(_entries(plan, results), key=lambda entry: (str(entry.file), entry.name))
    problems: list[str] = []
    images = [_look(plan, entry, problems) for entry in _chosen(entries)]
    failures = [(result.path, result.error) for result in results if result.error is not None]
    all_notes = [*notes, *_notes_of(results), *problems]
    unscored = sum(image.part is not None and image.score is None and image.objects > 0 for image in images)
    if unscored:
        all_notes.append(
            f"the scores of the objects in {unscored} images are not known, as their labels were there before"
        )
    if stopped is not None:
        all_notes.insert(0, f"the run ended early, and not all images are here: {stopped}")
    content = ReportContent(
        images=images,
        pictured=_pictured(images),
        large=_large(images),
        failures=failures,
        notes=all_notes,
        making=plan.making,
        shard=plan.shard,
        read=plan.parts.read,
    )
    write_prediction_page(plan.path, content)
    for entry in entries:
        with suppress(OSError):
            plan.parts.path(entry.name).unlink(missing_ok=True)
    # Parts of other images stay: those of a run that is to go on, or of one beside this.
    with suppress(OSError):
        plan.parts.folder.rmdir()
    return plan.path


class _Entry(NamedTuple):
    """An image of the report."""

    name: str
    file: Path
    kept: KeptResult | None = None
    to_read: bool = True


def _entries(plan: ReportPlan, results: Iterable[FileResult]) -> Iterator[_Entry]:
    for result in results:
        if result.error is None:
            yield _Entry(result.name or result_stem(result.path), result.path)
    for kept in plan.kept:
        yield _Entry(kept.name, kept.file, kept)


def _chosen(entries: Sequence[_Entry]) -> list[_Entry]:
    """Note which images of results that were there before have to be read, as they may be shown."""
    shown = {entry.name for entry in sorted(entries, key=lambda entry: _chance(entry.name))[:MOST_PICTURES]}
    return [entry._replace(to_read=entry.name in shown) for entry in entries]


def _chance(name: str) -> bytes:
    """Return what images are chosen by at random, the same ones in every run."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def _look(plan: ReportPlan, entry: _Entry, problems: list[str]) -> ReportImage:
    """Return what the table says of an image, after its part was made where it is missing."""
    kept = entry.kept
    if kept is not None and not _has_part(plan.parts, kept):
        if not entry.to_read and kept.objects is not None:
            return ReportImage(name=entry.name, file=entry.file, part=None, objects=kept.objects)
        try:
            _make_part(plan, kept)
        except InstsegError as error:
            problems.append(f"{entry.file} is not shown, as its image or its labels cannot be read again: {error}")
            return ReportImage(name=entry.name, file=entry.file, part=None, objects=kept.objects or 0)
    return ReportImage.from_part(entry.name, entry.file, plan.parts.read(entry.name))


def _has_part(parts: ReportParts, kept: KeptResult) -> bool:
    """Return whether there is a part that was made with the labels that are there."""
    try:
        stored: Any = parts.read(kept.name).get("state")
    except InstsegError:
        return False
    state = file_state(kept.labels)
    return state is not None and stored == list(state)


def _make_part(plan: ReportPlan, kept: KeptResult) -> None:
    image = _open(plan, kept)
    try:
        with closing(_open_labels(kept.labels)) as labels:
            if labels.shape != image.shape[:2]:
                size = f"{labels.shape[0]} x {labels.shape[1]}"
                raise InstsegError(f"{kept.labels} is {size} pixels, its image is of another size")
            plan.parts.write(kept.name, image, labels.strips, None, file_state(kept.labels))
    finally:
        image.close()


def _open(plan: ReportPlan, kept: KeptResult) -> ImageReader:
    if kept.plane is None:
        return open_image(kept.file, planes_as_channels=plan.planes_as_channels)
    return open_planes(kept.file)[kept.plane]


def _open_labels(path: Path) -> LabelReader:
    """Open labels that a model has made: a single object is no mask."""
    if not is_zarr(path):
        header = read_header(path, max_pixels=None)
        if header.height * header.width <= STREAMING_PIXELS:
            return label_array(read_labels(path, prediction=True))
    return open_labels(path)


def write_distributed_part(
    parts: ReportParts, name: str, file: Path, labels: Path, instances: Any, planes: bool
) -> None:
    """Make the part of an image whose labels workers have written as OME-Zarr.

    Parameters
    ----------
    parts : ReportParts
    name : str
        That the results have.
    file, labels : Path
    instances : Instances or None
    planes : bool
        Whether the planes of a stack are channels.

    Raises
    ------
    InstsegError
        If something cannot be read or written.
    """
    image = open_image(file, planes_as_channels=planes)
    try:
        with closing(_open_labels(labels)) as opened:
            parts.write(name, image, opened.strips, instances, file_state(labels))
    finally:
        image.close()


def _notes_of(results: Iterable[FileResult]) -> list[str]:
    """Return the notes on images, each once with the images that it is of."""
    images: dict[str, list[Path]] = {}
    for result in results:
        for note in result.notes:
            images.setdefault(note, []).append(result.path)
    return [
        f"{paths[0] if len(paths) == 1 else f'{len(paths)} images, such as {paths[0]}'}: {note}"
        for note, paths in sorted(images.items(), key=lambda one: -len(one[1]))
    ]


def _pictured(images: Sequence[ReportImage]) -> set[str]:
    """Return the names of the images that are shown: all, or the least sure and some at random."""
    shown = [image for image in images if image.part is not None]
    if len(shown) <= MOST_PICTURES:
        return {image.name for image in shown}
    least_sure = {image.name for image in _least_sure(shown)[:_LEAST_SURE]}
    others = sorted((image.name for image in shown if image.name not in least_sure), key=_chance)
    return least_sure | set(others[: MOST_PICTURES - len(least_sure)])


def _large(images: Sequence[ReportImage]) -> set[str]:
    """Return the names of the images that are shown larger where there are many: the least sure, and some at random."""
    shown = [image for image in images if image.part is not None]
    least_sure = {image.name for image in _least_sure(shown)[:_LARGE]}
    others = sorted((image.name for image in shown if image.name not in least_sure), key=_chance)
    return least_sure | set(others[:_LARGE])


def _least_sure(images: Iterable[ReportImage]) -> list[ReportImage]:
    scored = [(image.score, image) for image in images if image.score is not None]
    return [image for _, image in sorted(scored, key=lambda one: (one[0], one[1].name))]
