"""What workers do: functions of one argument, which find model, image and results by their paths."""

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from instseg.distributed.blocks import TileSummary, match_seams, read_summary, segment_tile, tile_exists, write_tile
from instseg.distributed.volume_tiles import VolumeTiles
from instseg.errors import InstsegError
from instseg.inference.batch import FileResult, LocalExecutor, PredictJob, open_streamable
from instseg.inference.failures import without_frames
from instseg.inference.image_tiles import ImageTiles, TilePlan
from instseg.inference.model import Model, load
from instseg.inference.volume_blocks import VolumePlan
from instseg.io.atomic import write_errors
from instseg.io.source import ImageReader
from instseg.io.volumes import VolumeReader, open_volume
from instseg.io.zarr_labels import downsample_level, open_zarr_labels
from instseg.models.config import model_digest
from instseg.network.runtime import tensorflow_runs
from instseg.settings import Precision
from instseg.tiling.grid import Box, Grid, TileIndex
from instseg.tiling.stitch import LabelTable

# One task at a time in each process, whatever its threads: TensorFlow has those to itself, and memory is that of one.
_busy = threading.Lock()


class ModelRef(NamedTuple):
    """A model as workers find it: its path, what it holds, and how it computes.

    Attributes
    ----------
    path : str
        Absolute.
    digest : str
        SHA-256 of its settings, graph and weights.
    threads : int or None
        Threads of TensorFlow; None for those that a worker was started with.
    precision : {'float32', 'bfloat16'} or None
        None for what suits the machine of each worker.
    """

    path: str
    digest: str
    threads: int | None
    precision: Precision | None = None


def model_ref(model: Path, threads: int | None = None, precision: Precision | None = None) -> ModelRef:
    """Return the reference to a model directory.

    Raises
    ------
    InstsegError
        If it cannot be read.
    """
    return ModelRef(str(model.resolve()), model_digest(model), threads, precision)


class FilesTask(NamedTuple):
    """Some files of a job."""

    model: ModelRef
    job: PredictJob


class FilesOutcome(NamedTuple):
    """What became of some files, and why the job cannot go on, if it cannot."""

    results: list[FileResult]
    error: InstsegError | None


def segment_files(task: FilesTask) -> FilesOutcome:
    """Segment the files of a task as one process does."""
    results: list[FileResult] = []
    with _busy:
        executor = LocalExecutor(_loaded(task.model))
        try:
            results.extend(executor.run(task.job))
        except InstsegError as error:
            return FilesOutcome(results, without_frames(error))
    return FilesOutcome(results, None)


class ImageTask(NamedTuple):
    """A large image, or a volume, that many workers share; the job has this one file."""

    model: ModelRef
    job: PredictJob


def plan_tiles(task: ImageTask) -> TilePlan | VolumePlan:
    """Return how the image, or the volume, is cut, normalised and clustered."""
    with _busy:
        tiles = _image_tiles(task)
        return tiles.plan(skip_background=True) if isinstance(tiles, ImageTiles) else tiles.plan()


class TileTask(NamedTuple):
    """A tile of an image; `folder` is that of the tiles."""

    image: ImageTask
    plan: TilePlan | VolumePlan
    tile: TileIndex
    folder: Path


def segment_one_tile(task: TileTask) -> TileSummary:
    """Segment a tile, unless an earlier run has done it."""
    if not tile_exists(task.folder, task.tile):
        with _busy:
            measure = task.image.job.options.measure
            segment_tile(_image_tiles(task.image), task.plan, task.tile, task.folder, measure=measure)
    return read_summary(task.folder, task.tile)


def match_tile(task: tuple[Path, Grid, TileIndex]) -> dict[TileIndex, NDArray[Any]]:
    """Match a tile's instances with those of its neighbours; see `match_seams`."""
    return match_seams(*task)


class WriteTask(NamedTuple):
    """The labels of a tile's pixels, to be written to a Zarr group."""

    folder: Path
    grid: Grid
    tile: TileIndex
    tables: Mapping[TileIndex, LabelTable]
    labels: Path


def write_one_tile(task: WriteTask) -> None:
    """Write the labels of a tile's pixels."""
    with write_errors(task.labels):
        write_tile(task.folder, task.grid, task.tile, task.tables, open_zarr_labels(task.labels)[0])


def write_coarser(task: tuple[Path, int, Box]) -> None:
    """Write a part of a level of the pyramid of labels from the level before."""
    labels, level, box = task
    with write_errors(labels):
        downsample_level(open_zarr_labels(labels), level, box)


@functools.lru_cache(maxsize=1)
def _loaded(model: ModelRef) -> Model:
    path = Path(model.path)
    if model_digest(path) != model.digest:
        raise InstsegError(f"the model {path} is another one on {_address()} than where the run began; copy it there")
    # A worker that computes already goes on with the threads that it has.
    threads = None if tensorflow_runs() else model.threads or _worker_threads()
    return load(path, precision=model.precision, threads=threads, quiet=True)


def _worker_threads() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


class _ImageCache:
    """The image of the last task: opening it and choosing its channels takes time."""

    key: tuple[Any, ...] = ()
    reader: ImageReader | VolumeReader
    tiles: ImageTiles | VolumeTiles


def _image_tiles(task: ImageTask) -> ImageTiles | VolumeTiles:
    job = task.job
    file = job.files[0]
    key = (task.model, file, job.planes_as_channels, job.volume, job.spacing, job.time, repr(job.options))
    if _ImageCache.key != key:
        if _ImageCache.key:
            _ImageCache.reader.close()
        _ImageCache.key = ()
        if job.volume:
            volume = _ImageCache.reader = open_volume(file, spacing=job.spacing, time=job.time)
            _ImageCache.tiles = VolumeTiles(_loaded(task.model), volume, job.options)
        else:
            image = _ImageCache.reader = open_streamable(file, job, "")
            _ImageCache.tiles = ImageTiles(_loaded(task.model), image, job.options)
        _ImageCache.key = key
    return _ImageCache.tiles
