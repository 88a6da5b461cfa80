"""Files to files by the workers of a Dask cluster: tiles of one large image, or the images of a folder.

Images, models and results are found by the same paths everywhere; between machines go paths, numbers and pairs of
instances at seams, never pixels.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from instseg.clustering.filters import complete_filters, count_doubtful, filter_instances
from instseg.clustering.instances import Instances, median_diameter, merge_instances
from instseg.distributed.blocks import read_instances, tables_for
from instseg.distributed.client import DaskCluster, count_workers, map_unordered
from instseg.distributed.tasks import (
    FilesOutcome,
    FilesTask,
    ImageTask,
    ModelRef,
    TileTask,
    WriteTask,
    match_tile,
    plan_tiles,
    segment_files,
    segment_one_tile,
    write_coarser,
    write_one_tile,
)
from instseg.errors import InstsegError
from instseg.inference.batch import FileResult, PredictJob, Throughput, no_room_error
from instseg.inference.failures import as_instseg_error
from instseg.inference.image_tiles import TilePlan
from instseg.inference.measured import write_measured
from instseg.inference.options import ProgressCallback, no_progress
from instseg.inference.outputs import SingleOutput
from instseg.inference.report import write_distributed_part
from instseg.inference.results import UNFAMILIAR_NOTE, ImageSummary
from instseg.inference.volume_blocks import VolumePlan
from instseg.io.atomic import atomic_write, ensure_dir, write_errors
from instseg.io.container import result_stem
from instseg.io.json_text import read_json
from instseg.io.label_strips import open_labels
from instseg.io.remote_address import remote_url
from instseg.io.source import ImageReader, open_image, read_geometry
from instseg.io.tables import write_table
from instseg.io.volumes import VolumeReader, open_volume
from instseg.io.zarr_labels import create_zarr_labels, partial_zarr, replace_zarr, zarr_lock
from instseg.tiling.grid import Box, Grid, TileIndex
from instseg.tiling.stitch import LabelMerger, LabelTable
from instseg.version import installed_version

# Images in a task: a worker reads and embeds one while it writes the one before.
_MAX_FILES = 16
# Along each axis, so many chunks of the pyramid of labels are written by a task.
_CHUNKS_OF_TASK = 4


class DaskExecutor:
    """Has workers segment the files of a job.

    Parameters
    ----------
    cluster : DaskCluster
    model : ModelRef
    """

    def __init__(self, cluster: DaskCluster, model: ModelRef) -> None:
        self._cluster, self._model = cluster, model

    def run(self, job: PredictJob, progress: ProgressCallback = no_progress) -> Iterator[FileResult]:
        """Do a job as `instseg.inference.batch.Executor.run` says; one large image is shared by all workers.

        Its labels are written as OME-Zarr. What is done is kept beside them, in `.NAME.partial`, until they are
        complete: a run that was broken off goes on there.
        """
        options, outputs = job.options, job.outputs.absolute()
        workspace = None if options.workspace is None else options.workspace.resolve()
        # Not resolved: results have the names of links, not of what these lead to.
        files = tuple(file if remote_url(file) else file.absolute() for file in job.files)
        options = dataclasses.replace(options, workspace=workspace)
        absolute = dataclasses.replace(job, files=files, options=options, outputs=outputs)
        try:
            yield from self._run(absolute, job, progress)
        except InstsegError:
            raise
        except Exception as error:  # Whatever a worker raises.
            raise as_instseg_error(error) from error

    def _run(self, absolute: PredictJob, job: PredictJob, progress: ProgressCallback) -> Iterator[FileResult]:
        if isinstance(absolute.outputs, SingleOutput):
            summary = _ImageRun(self._cluster, ImageTask(self._model, absolute), progress).run()
            notes = (UNFAMILIAR_NOTE,) if summary.unfamiliar else ()
            yield FileResult(number=1, path=job.files[0], summary=summary, labels=job.outputs.labels(""), notes=notes)
        else:
            yield from self._run_files(absolute, job.files, progress)

    def _run_files(self, job: PredictJob, named: Sequence[Path], progress: ProgressCallback) -> Iterator[FileResult]:
        with self._cluster.connected() as client:
            size = max(1, min(_MAX_FILES, len(job.files) // (4 * count_workers(client))))
            tasks = [(start, self._task(job, start, size)) for start in range(0, len(job.files), size)]
            throughput, done = Throughput(progress, len(job.files)), 0
            with closing(_outcomes(client, tasks)) as outcomes:
                for start, outcome in outcomes:
                    for result in outcome.results:
                        throughput.add(done + result.number, result.summary)
                        # Files are named as the caller named them.
                        file = result.number + start
                        yield dataclasses.replace(result, number=file, path=named[file - 1])
                    done += len({result.number for result in outcome.results})
                    if outcome.error is not None:
                        raise no_room_error(len(job.files) - done)

    def _task(self, job: PredictJob, start: int, count: int) -> FilesTask:
        return FilesTask(self._model, dataclasses.replace(job, files=job.files[start : start + count]))


class _WorkersDied(InstsegError):
    """Workers died of a task."""


def _outcomes(client: Any, tasks: Sequence[tuple[int, FilesTask]]) -> Generator[tuple[int, FilesOutcome]]:
    """Yield what becomes of tasks, with the numbers of their first files; one file of which workers die fails alone."""

    def died(error: InstsegError) -> FilesOutcome:
        return FilesOutcome([], _WorkersDied(str(error)))

    alone = []
    for number, outcome in map_unordered(client, segment_files, [task for _, task in tasks], died):
        start, (model, job) = tasks[number]
        if not isinstance(outcome.error, _WorkersDied):
            yield start, outcome
        elif len(job.files) > 1 or len(tasks) > 1:
            singles = enumerate(job.files, start)
            alone += [(first, FilesTask(model, dataclasses.replace(job, files=(file,)))) for first, file in singles]
        else:
            (file,) = job.files
            failed = FileResult(number=1, path=file, name=result_stem(file), error=outcome.error)
            yield start, FilesOutcome([failed], None)
    # One after the other, as Dask blames whatever waits for a worker that dies.
    for task in alone:
        yield from _outcomes(client, [task])


class _ImageRun:
    """One image in the work of a cluster."""

    def __init__(self, cluster: DaskCluster, task: ImageTask, progress: ProgressCallback) -> None:
        self._cluster, self._task, self._progress = cluster, task, progress
        self._image, self._outputs = task.job.files[0], task.job.outputs
        self._out = self._outputs.labels("")
        self._partial = partial_zarr(self._out)
        self._tiles, self._labels = self._partial / "blocks", self._partial / "labels"

    def run(self) -> ImageSummary:
        """Segment, join and write; return the image's figures.

        Raises
        ------
        InstsegError
            If the image cannot be segmented, something cannot be written, or an unfinished run with other settings is
            there.
        """
        self._outputs.check_streamable(self._image, "", volume=self._task.job.volume)
        with zarr_lock(self._out):
            return self._run()

    def _run(self) -> ImageSummary:
        with self._cluster.connected() as client:
            self._client = client
            ensure_dir(self._tiles)
            _check_same_run(self._partial / "run.json", self._task)
            ((_, plan),) = map_unordered(client, plan_tiles, [self._task])
            tables, count, diameters = self._join(plan)
            instances, unfamiliar = self._measure(plan, tables, count)
            asked, doubtful = self._task.job.options.filters, 0
            filters = complete_filters(asked, plan.calibration)
            if instances is not None and filters.active:
                doubtful = count_doubtful(instances, asked, plan.calibration)
                instances, label_of = filter_instances(instances, filters, plan.grid.shape, count)
                tables = {index: LabelTable(*(label_of[part] for part in table)) for index, table in tables.items()}
                steps = plan.spacing if isinstance(plan, VolumePlan) else (1.0, 1.0)
                count, diameters = len(instances), [(median_diameter(instances.area, steps), len(instances))]
            self._write(plan, tables)
        self._write_tables(instances)
        with write_errors(self._out):
            replace_zarr(self._labels, self._out)
            shutil.rmtree(self._partial)
        if (report := self._task.job.report) is not None:
            planes = self._task.job.planes_as_channels
            write_distributed_part(report, result_stem(self._image), self._image, self._out, instances, planes)
        diameter = _weighted_median(diameters)
        return ImageSummary(count, diameter, plan.magnification, plan.grid.shape, unfamiliar, doubtful)

    def _measure(
        self, plan: TilePlan | VolumePlan, tables: dict[TileIndex, LabelTable], count: int
    ) -> tuple[Instances | None, bool]:
        """Return the instances, where they are measured, and whether they say that the model knows no such images."""
        if not self._task.job.options.measure:
            return None, False
        parts = [read_instances(self._tiles, index, table) for index, table in sorted(tables.items())]
        instances = merge_instances(parts, np.arange(count + 1, dtype=np.int32)).calibrated(plan.calibration)
        return instances, plan.calibration is not None and plan.calibration.is_unfamiliar(instances.score)

    def _write_tables(self, instances: Instances | None) -> None:
        """Write the tables of instances; what is measured in the image is measured here, band by band."""
        if instances is None:
            return
        if (path := self._outputs.extra("scores", "")) is not None:
            write_table(path, instances)
        if (path := self._outputs.extra("measure", "")) is not None:
            job = self._task.job
            labels = open_labels(self._labels, volume=job.volume)
            with closing(self._opened()) as image:
                write_measured(path, labels, image, pixel_size=job.pixel_size, instances=instances)

    def _opened(self) -> ImageReader | VolumeReader:
        job = self._task.job
        if job.volume:
            return open_volume(self._image, spacing=job.spacing, time=job.time)
        return open_image(self._image, planes_as_channels=job.planes_as_channels)

    def _join(self, plan: TilePlan | VolumePlan) -> tuple[dict[TileIndex, LabelTable], int, list[tuple[float, int]]]:
        """Segment all tiles, and return their label tables, the number of instances, and diameters with weights."""
        indices = [tile.index for tile in plan.grid]
        merger, diameters = LabelMerger(plan.grid), []
        tiles = [TileTask(self._task, plan, index, self._tiles) for index in indices]
        for number, summary in self._each(segment_one_tile, tiles, "Segmenting"):
            merger.add(indices[number], summary.record)
            diameters.append((summary.diameter, len(summary.record.inner_first)))
        seams = [(self._tiles, plan.grid, index) for index in indices]
        for number, pairs in self._each(match_tile, seams, "Joining"):
            merger.match(indices[number], pairs)
        return *merger.finish(plan.clustering.min_size), diameters

    def _write(self, plan: TilePlan | VolumePlan, tables: dict[TileIndex, LabelTable]) -> None:
        grid = plan.grid
        if self._task.job.volume:
            with closing(self._opened()) as volume:
                geometry = volume.geometry
        else:
            geometry = read_geometry(self._image)
        with write_errors(self._out):
            shutil.rmtree(self._labels, ignore_errors=True)
            arrays = create_zarr_labels(self._labels, self._out.stem, grid.shape, geometry)
        writes = []
        for index in tables:
            needed = {other: tables[other] for other in tables_for(grid, index, arrays[0].chunks)}
            writes.append(WriteTask(self._tiles, grid, index, needed, self._labels))
        for _ in self._each(write_one_tile, writes, "Writing"):
            pass
        for level, array in enumerate(arrays[1:], start=1):
            parts = [(self._labels, level, box) for box in _parts(array.shape, array.chunks)]
            for _ in self._each(write_coarser, parts, "Writing"):
                pass

    def _each(self, function: Callable[[Any], Any], tasks: Sequence[Any], what: str) -> Iterator[tuple[int, Any]]:
        for done, result in enumerate(map_unordered(self._client, function, tasks), start=1):
            self._progress(done, len(tasks), what)
            yield result


def _check_same_run(path: Path, task: ImageTask) -> None:
    """Check that what an earlier run left is of the same image, model and settings, or note what this one has."""
    job = task.job
    status = job.files[0].stat()
    own = {
        "image": f"{job.files[0]}, {status.st_size} bytes, changed {status.st_mtime_ns}",
        "model": task.model.digest,
        "precision": task.model.precision or "of each machine",
        "version": installed_version(),
        "planes_as_channels": str(job.planes_as_channels),
        **({"spacing": str(job.spacing), "time": str(job.time)} if job.volume else {}),
        **{name: repr(value) for name, value in vars(job.options).items() if name != "workspace"},
    }
    if path.exists():
        try:
            stored = read_json(path)
            if not isinstance(stored, dict):
                raise InstsegError(f"cannot read {path}: it holds a {type(stored).__name__}, expected an object")
        except InstsegError as error:
            raise InstsegError(f"{error}; remove {path.parent}, and begin anew") from error
        other = [f"{name} {stored.get(name)}, now {value}" for name, value in own.items() if stored.get(name) != value]
        if other:
            raise InstsegError(
                f"{path.parent} holds an unfinished run with other settings ({'; '.join(other)}); "
                "give the same again to finish it, or remove it to begin anew"
            )
        return
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")


def _parts(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[Box]:
    """Return the parts of an array that tasks write: of an image 4 x 4 chunks, of a volume 4 x 4 x 4."""
    for tile in Grid(shape, side=[_CHUNKS_OF_TASK * length for length in chunks], overlap=0, multiple=chunks):
        yield tile.core


def _weighted_median(values: list[tuple[float, int]]) -> float:
    """Return the median of tiles' medians, each as often as it has instances."""
    ordered = sorted(one for one in values if one[1])
    if not ordered:
        return 0.0
    total = np.cumsum([count for _, count in ordered])
    return ordered[int(np.searchsorted(total, total[-1] / 2))][0]
