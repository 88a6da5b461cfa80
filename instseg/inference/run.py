"""A job from its first image to the reports beside its results.

These are `run.json`, `failed.csv` where images failed, and `summary.csv` where objects were measured.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from instseg.errors import InstsegError
from instseg.inference.batch import Executor, FileResult
from instseg.inference.job import PreparedJob
from instseg.inference.options import ProgressCallback, no_progress
from instseg.inference.report import write_report
from instseg.inference.run_record import report_name
from instseg.io.tables import write_csv
from instseg.measurements.summary import SUMMARY_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What became of some images.

    Attributes
    ----------
    images : tuple of FileResult
        For each image its file, and either a summary (instances, diameter, magnification, pixels) or an error.
    skipped : int
        Images that were left out as their results exist.
    notes : tuple of str
        What was left out besides, and what is not known of results that exist.
    failures : Path or None
        The table that names all images that could not be segmented, where results go into a folder.
    stopped : InstsegError or None
        Why the run ended before all images were tried, or could not note how results were made.
    report : Path or None
        The page that shows all of it, where it was asked for.
    summary : Path or None
        The table of the figures of each image of the folder, where objects were measured.
    annotations : tuple of str
        What was written of files of annotations, a line each.
    """

    images: tuple[FileResult, ...]
    skipped: int
    notes: tuple[str, ...] = ()
    failures: Path | None = None
    stopped: InstsegError | None = None
    report: Path | None = None
    summary: Path | None = None
    annotations: tuple[str, ...] = ()

    @property
    def instances(self) -> int:
        """Instances in all images."""
        return sum(image.summary.instances for image in self.images if image.summary is not None)

    @property
    def failed(self) -> tuple[FileResult, ...]:
        """The images that could not be segmented."""
        return tuple(image for image in self.images if image.error is not None)


def run_job(executor: Executor, prepared: PreparedJob, progress: ProgressCallback = no_progress) -> PredictResult:
    """Do a job, and note beside results in a folder how they were made and which images failed.

    Raises
    ------
    InstsegError
        If nothing could be done. Where results are in a folder, they are returned with what ended the run.
    """
    results: list[FileResult] = []
    stopped = None
    try:
        with ExitStack() as stack:
            record = None if prepared.record is None else stack.enter_context(prepared.record)
            for result in executor.run(prepared.job, progress):
                results.append(result)
                if record is not None:
                    record.add(result)
    except InstsegError as error:
        if not results:
            raise
        stopped = error
    except BaseException:
        # Interrupted: what failed until then is told all the same.
        with suppress(InstsegError):
            _write_failures(prepared, results)
        raise
    results.sort(key=lambda result: result.number)
    return _finish(prepared, results, stopped)


def no_images(prepared: PreparedJob) -> PredictResult:
    """Return the result of a job that is done, as all of its images have their results; so none has failed.

    Raises
    ------
    InstsegError
        If something cannot be written that is of all images together.
    """
    result = _finish(prepared, [], None)
    if result.stopped is not None:
        raise result.stopped
    return result


def _finish(prepared: PreparedJob, results: list[FileResult], stopped: InstsegError | None) -> PredictResult:
    """Write what is of all images together; what of it cannot be written costs nothing else."""
    failures = report = summary = None
    annotations: tuple[str, ...] = ()
    problems = [] if stopped is None else [stopped]
    with _noted(problems):
        failures = _write_failures(prepared, results)
    with _noted(problems):
        annotations = _write_annotations(prepared, results)
    with _noted(problems):
        summary = _write_summary(prepared)
    with _noted(problems):
        report = _write_report(prepared, results, stopped)
    return PredictResult(
        images=tuple(results),
        skipped=prepared.skipped,
        notes=prepared.notes,
        failures=failures,
        stopped=problems[0] if problems else None,
        report=report,
        summary=summary,
        annotations=annotations,
    )


@contextmanager
def _noted(problems: list[InstsegError]) -> Iterator[None]:
    try:
        yield
    except InstsegError as error:
        problems.append(error)


def _write_annotations(prepared: PreparedJob, results: list[FileResult]) -> tuple[str, ...]:
    """Write the files of annotations, in which images that have failed are not."""
    if (plan := prepared.annotations) is None:
        return ()
    failed = [result for result in results if result.error is not None]
    for result in failed:
        plan.files.remove(result.name)
    if failed and not plan.files.keep_parts:
        # The one image has failed: a file of an earlier run stays, as the labels do.
        plan.remove_parts()
        return ()
    return tuple(plan.write(result.changes for result in results))


def _write_report(prepared: PreparedJob, results: list[FileResult], stopped: InstsegError | None) -> Path | None:
    return None if prepared.report is None else write_report(prepared.report, results, prepared.notes, stopped)


def _write_summary(prepared: PreparedJob) -> Path | None:
    """Write a row for each image of the folder whose objects this run or an earlier one has measured."""
    if prepared.record is None or not prepared.job.outputs.wants("measure"):
        return None
    path = prepared.record.path.with_name(report_name("summary", prepared.shard, ".csv"))
    figures = prepared.record.figures()
    if not figures and prepared.shard is not None:
        # All images of the shard have their results: so has its table of an earlier run.
        return path if path.exists() else None
    rows = [(name, *(of_image.get(column) for column in SUMMARY_COLUMNS)) for name, of_image in figures.items()]
    write_csv(path, ("image", *SUMMARY_COLUMNS), rows)
    return path


def _write_failures(prepared: PreparedJob, results: list[FileResult]) -> Path | None:
    """Write the table of the images that failed, or remove that of an earlier run; return where it is."""
    if prepared.record is None:
        return None
    path = prepared.record.path.with_name(report_name("failed", prepared.shard, ".csv"))
    rows = [(result.path, result.error) for result in results if result.error is not None]
    if not rows:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    write_csv(path, ("file", "error"), rows)
    return path
