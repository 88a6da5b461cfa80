"""Which images of a job have their results already, and whether these are what the job would make."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from instseg.errors import InstsegError
from instseg.inference.batch import file_state, plane_name
from instseg.inference.outputs import OutputFolder
from instseg.inference.run_record import ImageRecord, Making, Records
from instseg.io.container import result_stem

# Differences that a message names before it says that there are more.
_MOST_DIFFERENCES = 3


class KeptResult(NamedTuple):
    """Labels that stay as they are.

    Attributes
    ----------
    name : str
        That the results have.
    file : Path
        The image.
    labels : Path
    plane : int or None
        The index of the plane of a stack that is taken plane by plane.
    objects : int or None
        How many objects there are, where a run has noted it.
    """

    name: str
    file: Path
    labels: Path
    plane: int | None
    objects: int | None


class Remaining(NamedTuple):
    """What is left to do of a job.

    Attributes
    ----------
    files : tuple of Path
        Without those whose results stay.
    skipped : int
        How many files that are.
    notes : tuple of str
        What is not known of these.
    kept : tuple of KeptResult
        The results of these, one for each plane of a stack.
    """

    files: tuple[Path, ...]
    skipped: int
    notes: tuple[str, ...]
    kept: tuple[KeptResult, ...] = ()


class _Existing(NamedTuple):
    """The results of an image that are there.

    Attributes
    ----------
    complete : bool
        Whether they are all there.
    known : bool
        Whether a run has noted how they were made.
    outdated : str or None
        Why the job would make others.
    version : str or None
        Of the package that made them.
    """

    complete: bool
    known: bool = False
    outdated: str | None = None
    version: str | None = None


def without_results(
    outputs: OutputFolder, files: Sequence[Path], planes: bool, making: Making, records: Records, overwrite: bool
) -> Remaining:
    """Leave out the files whose results are there and are what a job would make.

    Parameters
    ----------
    outputs : OutputFolder
    files : sequence of Path
    planes : bool
        Whether stacks are taken plane by plane.
    making : Making
        How the job makes labels.
    records : Records
        What is known of the results in the folder.
    overwrite : bool
        Whether results that are out of date are to be replaced, and so are those of which nothing is known.

    Raises
    ------
    InstsegError
        If there are results of another making and they are not to be replaced.
    """
    found = {file: _existing(outputs, file, planes, making, records) for file in files}
    complete = {file: one for file, one in found.items() if one is not None and one.complete}
    outdated = [one.outdated for one in complete.values() if one.outdated is not None]
    if outdated and not overwrite:
        raise InstsegError(
            f"{outputs.folder} holds results of {len(outdated)} of the images that were made otherwise "
            f"({_summary(outdated)}); add `overwrite=True` to make these anew, or give another folder"
        )
    kept = {file: one for file, one in complete.items() if one.outdated is None and (one.known or not overwrite)}
    remaining = tuple(file for file in files if file not in kept)
    unknown = sum(not one.known for one in kept.values())
    versions = Counter(one.version for one in kept.values() if one.version not in (None, making.version))
    notes = [f"{unknown} results are kept of which no run has noted how they were made"] if unknown else []
    notes += [f"{count} results are kept that instseg {version} made" for version, count in sorted(versions.items())]
    results = [one for file in kept for one in _kept_results(outputs, file, planes, records)]
    return Remaining(remaining, len(kept), tuple(notes), tuple(results))


def _kept_results(outputs: OutputFolder, file: Path, planes: bool, records: Records) -> Iterator[KeptResult]:
    first = _record(outputs, plane_name(file, 0), records) if planes else None
    for index in range(first.planes or 0) if first is not None else [None]:
        name = result_stem(file) if index is None else plane_name(file, index)
        record = _record(outputs, name, records)
        labels = outputs.labels(name)
        if (other := _labels_of(outputs, name, records)) is not None:
            labels = labels.with_name(other)
        objects = None if record is None else record.entry.get("instances")
        yield KeptResult(name, file, labels, index, objects if isinstance(objects, int) else None)


def check_no_results(outputs: OutputFolder, files: Sequence[Path], planes: bool, records: Records) -> None:
    """Check that no image has results.

    Raises
    ------
    InstsegError
        If some have.
    """
    names = [plane_name(file, 0) if planes else result_stem(file) for file in files]
    if held := sum(outputs.holds(name, _labels_of(outputs, name, records)) for name in names):
        raise InstsegError(
            f"{outputs.folder} holds results of {held} of the images; "
            "add `skip_existing=True` or `overwrite=True`, or give another folder"
        )


def _existing(outputs: OutputFolder, file: Path, planes: bool, making: Making, records: Records) -> _Existing | None:
    """Return what there is of an image's results, None where there is nothing."""
    names = [result_stem(file)]
    if planes:
        first = _record(outputs, plane_name(file, 0), records)
        if first is None or not first.planes:
            # How many planes there are is not known without reading them.
            return None
        names = [plane_name(file, index) for index in range(first.planes)]
    files = {name: _labels_of(outputs, name, records) for name in names}
    if any(outputs.lacks_annotations(name, labels) for name, labels in files.items()):
        # Somebody may have corrected the labels, and segmenting the image anew would lose that.
        return _Existing(True, True, "what `coco` or `yolo` needs is missing or older than the labels")
    if not all(outputs.holds(name, labels) for name, labels in files.items()):
        return None
    noted = [record for name in names if (record := _record(outputs, name, records)) is not None]
    if len(noted) < len(names):
        return _Existing(complete=True)
    if any(record.failed for record in noted):
        # What is there is of a run before the one that failed.
        return _Existing(complete=False)
    if outputs.wants("measure") and any(record.entry.get("measured") is None for record in noted):
        # The table that is there is of labels before these.
        return _Existing(complete=False)
    return _Existing(True, True, _why_outdated(file, noted, making), noted[0].making.version)


def _why_outdated(file: Path, noted: Iterable[ImageRecord], making: Making) -> str | None:
    state = file_state(file)
    for record in noted:
        if state is not None and record.state is not None and state != record.state:
            return "the image has changed since"
        if differences := record.making.differences(making):
            return ", ".join(differences)
    return None


def _record(outputs: OutputFolder, name: str, records: Records) -> ImageRecord | None:
    return records.get(outputs.labels(name).name)


def _labels_of(outputs: OutputFolder, name: str, records: Records) -> str | None:
    """Return the name of the file of labels where it is another one than was asked for: a TIFF for a PNG."""
    record = _record(outputs, name, records)
    return record.labels if record is not None and record.labels == f"{name}.tif" else None


def _summary(reasons: Sequence[str]) -> str:
    counts = Counter(reasons).most_common()
    named = [reason if len(counts) == 1 else f"{count}: {reason}" for reason, count in counts[:_MOST_DIFFERENCES]]
    return "; ".join(named) + ("; ..." if len(counts) > _MOST_DIFFERENCES else "")
