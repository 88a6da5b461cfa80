"""Prediction by the workers of a Dask cluster: blocks of one large image, or the images of a folder.

Images, models and results are found by the same paths everywhere; between machines go paths, numbers and what joins
instances across seams, never pixels.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from instseg.batch import Done, Found, open_image, segment_files
from instseg.blocks import (
    Numbering,
    Place,
    Seams,
    Table,
    holds_block,
    join_block,
    read_instances,
    read_seams,
    segment_block,
    tables_for,
    write_block,
)
from instseg.errors import InstsegError
from instseg.extras import require_dask
from instseg.files import is_zarr, make_folder, replacing, writing
from instseg.instances import joined, write_table
from instseg.omezarr import (
    ZarrSource,
    create_zarr_labels,
    fill_level,
    open_zarr_labels,
    replace_zarr,
)
from instseg.segment import How, Layout, Looking, Readable
from instseg.settings import Precision
from instseg.store import read_settings
from instseg.targets import Targets, require_parts
from instseg.tiles import Box, Grid

if TYPE_CHECKING:
    from distributed import Client

    from instseg.predict import Model

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Told = Callable[[int, int, str], None]

# Seconds until a scheduler that does not answer, or has no workers, is given up: both are often started just before.
_PATIENCE = 15.0
# Tasks that are given to the scheduler at once, by the worker: it never holds more, whatever the size of the image.
_AHEAD = 8
# Images in a task: a worker reads and looks at one while it writes that before.
_MOST_FILES = 16
# Height and width of what a task fills of the pyramid of labels.
_FILLED = 2048
# A worker that dies takes its task along; one that takes so many of them, whichever does it, is to blame itself.
_RETRIES = 3


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Who does the work.

    Attributes
    ----------
    scheduler : str or None
        Address of a Dask scheduler.
    scheduler_file : Path or None
        Where a scheduler has written its address.
    workers : int or None
        Without either: how many workers to start on this machine.
    threads : int or None
        Threads of each worker. By default those that it was started with, and on this machine the cores shared out.
    """

    scheduler: str | None = None
    scheduler_file: Path | None = None
    workers: int | None = None
    threads: int | None = None

    @property
    def threads_of_each(self) -> int | None:
        """Threads to tell workers; None where they know themselves."""
        if self.threads is not None or self.workers is None:
            return self.threads
        return max(1, _cores() // self.workers)

    @contextmanager
    def connected(self) -> Iterator["Client"]:
        """Give a client of the cluster, whose workers have been seen to fit.

        Raises
        ------
        InstsegError
            If a package is missing, nobody answers, there is no worker or one has other versions.
        """
        require_dask()
        import dask
        from distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if self.scheduler is None and self.scheduler_file is None:
            with (
                dask.config.set({"distributed.scheduler.allowed-failures": _RETRIES}),
                LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    # Its server of numbers would listen at port 8787 of all networks, and warn where that is taken.
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                    silence_logs=logging.CRITICAL,
                ) as local,
                Client(local, timeout=60) as client,
            ):
                yield client
            return
        where = self.scheduler or f"the scheduler of {self.scheduler_file}"
        try:
            deadline = time.monotonic() + _PATIENCE
            # The client would wait for it for ever.
            while self.scheduler_file is not None and not self.scheduler_file.exists():
                if time.monotonic() > deadline:
                    raise FileNotFoundError(f"{self.scheduler_file} does not exist")
                time.sleep(0.1)
            client = Client(
                self.scheduler,
                scheduler_file=None if self.scheduler_file is None else str(self.scheduler_file),
                timeout=_PATIENCE,
            )
        except (OSError, TimeoutError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()
            raise InstsegError(
                f"cannot reach {where} ({reason[0] if reason else type(error).__name__}); "
                "start one with: dask scheduler"
            ) from error
        with client:
            _require_fitting(client, where)
            yield client


def _require_fitting(client: "Client", where: str) -> None:
    with suppress(TimeoutError):
        client.wait_for_workers(1, timeout=_PATIENCE)
    found = client.get_versions(packages=["instseg", "tensorflow"])
    if not found["workers"]:
        raise InstsegError(f"{where} has no workers; start some with: dask worker ADDRESS")
    own = {"instseg": version("instseg"), "distributed": version("distributed")}
    for name, node in [("the scheduler", found["scheduler"]), *sorted(found["workers"].items())]:
        packages = dict(node["packages"]) if node else {}
        # A scheduler segments nothing.
        for package in own if name != "the scheduler" else ("distributed",):
            if packages.get(package) != own[package]:
                has = packages.get(package) or "none"
                raise InstsegError(
                    f"{name} has {package} {has}, expected {own[package]} as here; install the same everywhere"
                )


class ModelFile(NamedTuple):
    """A model, as workers find it."""

    path: str
    digest: str
    threads: int | None
    precision: Precision = "float32"


def model_file(model: Path, threads: int | None = None, precision: Precision = "float32") -> ModelFile:
    """Return what tells workers of a model: where it is, and what it holds.

    Raises
    ------
    InstsegError
        If it cannot be read.
    """
    return ModelFile(str(model.resolve()), _digest(model), threads, precision)


def _digest(model: Path) -> str:
    generation, _ = read_settings(model)
    found = hashlib.sha256()
    for path in sorted([*generation.glob("*.json"), *generation.glob("*.pb"), *(generation / "variables").glob("*")]):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def predict_files(
    cluster: Cluster,
    model: ModelFile,
    files: Sequence[Path],
    how: How,
    targets: Targets,
    *,
    planes: bool = False,
    stacked: bool = False,
    told: Callable[[int, int], None] = lambda done, pixels: None,
) -> list[Done]:
    """Segment files, a few of them in a task; parameters as `instseg.batch.segment_files` has them.

    Parameters
    ----------
    cluster : Cluster
    model : ModelFile
    told : callable
        Is told how many files are done, and how many pixels they have.

    Returns
    -------
    list of Done
        In the files' order.
    """
    targets, how = targets.resolved(), _anywhere(how)
    with cluster.connected() as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        size = max(1, min(_MOST_FILES, len(files) // (4 * workers)))
        starts = range(0, len(files), size)
        paths = [file.resolve() for file in files]
        tasks = [_Files(model, paths[start : start + size], how, targets, planes, stacked) for start in starts]
        found: dict[int, list[Done]] = {}
        done = pixels = 0
        for number, result in _work(client, _segment_files, tasks):
            found[number] = [one._replace(number=one.number + starts[number]) for one in result]
            done += len(tasks[number].files)
            pixels += sum(one.found.pixels for one in result if isinstance(one.found, Found))
            told(done, pixels)
    return [one for number in sorted(found) for one in found[number]]


class _Files(NamedTuple):
    model: ModelFile
    files: Sequence[Path]
    how: How
    targets: Targets
    planes: bool
    stacked: bool


def _segment_files(task: _Files) -> list[Done]:
    with _busy:
        model = _loaded(task.model)
        return list(segment_files(model, task.files, task.how, task.targets, planes=task.planes, stacked=task.stacked))


class _Image(NamedTuple):
    """A large image and how it is looked at, as workers are told."""

    model: ModelFile
    path: Path
    stacked: bool
    how: How
    targets: Targets


def predict_blocks(
    cluster: Cluster,
    model: ModelFile,
    image: Path,
    how: How,
    targets: Targets,
    *,
    stacked: bool = False,
    told: Told = lambda done, total, what: None,
) -> Found:
    """Segment one image tile by tile, and write its labels as OME-Zarr.

    What is done is kept beside the labels, in `.NAME.partial`, until these are complete: a run that was broken off goes
    on there.

    Parameters
    ----------
    cluster : Cluster
    model : ModelFile
    image : Path
        Where all workers find it.
    how : How
    targets : Targets
        Where the labels and the scores go.
    stacked : bool
        Whether the planes of a stack are channels.
    told : callable
        Is told how many tiles are done of how many, and what with.

    Raises
    ------
    InstsegError
        If the image cannot be segmented, something cannot be written, or an unfinished run with other settings is
        there.
    """
    require_parts(image, targets, "")
    targets, how = targets.resolved(), _anywhere(how)
    out = targets.labels("")
    partial = out.with_name(f".{out.name}.partial")
    blocks = partial / "blocks"
    task = _Image(model, image.resolve(), stacked, how, targets)
    with cluster.connected() as client:
        make_folder(blocks)
        _require_same(partial / "run.json", task)
        ((_, layout),) = _work(client, _lay_out, [task])
        grid = layout.grid
        places = [tile.place for tile in grid]

        def each(function: Callable[[Any], Any], tasks: Sequence[Any], what: str) -> Iterator[tuple[int, Any]]:
            for done, found in enumerate(_work(client, function, tasks), start=1):
                told(done, len(tasks), what)
                yield found

        numbering = Numbering()
        diameters = []
        for number, seams in each(_segment, [(task, layout, place, blocks) for place in places], "Segmenting"):
            numbering.add(places[number], seams)
            diameters.append((seams.diameter, len(seams.inner)))
        for number, pairs in each(_join, [(blocks, grid, place) for place in places], "Joining"):
            numbering.join(places[number], pairs)
        tables, count = numbering.finish(layout.clustering.min_size)
        like = ZarrSource(task.path) if is_zarr(task.path) else None
        with writing(out):
            shutil.rmtree(partial / "labels", ignore_errors=True)
            arrays = create_zarr_labels(partial / "labels", out.stem, grid.shape, like)
        writes = []
        for place in places:
            needed = {other: tables[other] for other in tables_for(grid, place, arrays[0].chunks)}
            writes.append((blocks, grid, place, needed, partial / "labels"))
        for _ in each(_write, writes, "Writing"):
            pass
        for level, array in enumerate(arrays[1:], start=1):
            boxes = [(partial / "labels", level, box) for box in _parts(array.shape)]
            for _ in each(_fill, boxes, "Writing"):
                pass
    if (path := targets.extra("scores", "")) is not None:
        parts = [read_instances(blocks, place, tables[place]) for place in places]
        write_table(path, joined(parts, np.arange(count + 1, dtype=np.int32)))
    with writing(out):
        replace_zarr(partial / "labels", out)
        shutil.rmtree(partial)
    return Found(count, _median(diameters), layout.magnification, grid.shape[0] * grid.shape[1])


def _anywhere(how: How) -> How:
    return dataclasses.replace(how, workspace=None if how.workspace is None else how.workspace.resolve())


def _require_same(path: Path, task: _Image) -> None:
    """See that what is there of an earlier run is of the same image, model and settings, or note what this one has."""
    what = task.path.stat()
    own = {
        "image": f"{task.path}, {what.st_size} bytes, changed {what.st_mtime_ns}",
        "model": task.model.digest,
        "precision": task.model.precision,
        "version": version("instseg"),
        "stacked": str(task.stacked),
        **{name: repr(value) for name, value in vars(task.how).items() if name != "workspace"},
    }
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InstsegError(f"cannot read {path} ({error}); remove {path.parent}, and begin anew") from error
        other = [f"{name} {found.get(name)}, now {value}" for name, value in own.items() if found.get(name) != value]
        if other:
            raise InstsegError(
                f"{path.parent} holds an unfinished run with other settings ({'; '.join(other)}); "
                "give the same again to finish it, or remove it to begin anew"
            )
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")


def _parts(shape: tuple[int, int]) -> Iterator[Box]:
    height, width = shape
    for top in range(0, height, _FILLED):
        for left in range(0, width, _FILLED):
            yield Box(top, left, min(top + _FILLED, height), min(left + _FILLED, width))


def _median(found: list[tuple[float, int]]) -> float:
    """Return the median of tiles' medians, each as often as it has instances."""
    ordered = sorted(one for one in found if one[1])
    if not ordered:
        return 0.0
    total = np.cumsum([count for _, count in ordered])
    return ordered[int(np.searchsorted(total, total[-1] / 2))][0]


def _work(
    client: "Client", function: Callable[[_Item], _Result], tasks: Sequence[_Item]
) -> Iterator[tuple[int, _Result]]:
    """Have tasks done, and give each one's number and result as they come; never more than some are under way.

    Raises
    ------
    InstsegError
        That of the first task that has one, or if workers die of a task.
    """
    from distributed import KilledWorker, as_completed

    workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    left = deque(enumerate(tasks))
    numbers: dict[Any, int] = {}
    running = as_completed()

    def start() -> None:
        number, task = left.popleft()
        # Not pure: the same task in another run is to be done again.
        future = client.submit(_guarded, function, task, pure=False)
        numbers[future] = number
        running.add(future)

    try:
        while left and len(numbers) < _AHEAD * workers:
            start()
        for future in running:
            number = numbers.pop(future)
            result = future.result()
            if isinstance(result, _Failed):
                raise InstsegError(result.reason)
            if left:
                start()
            yield number, result
    except KilledWorker as error:
        raise InstsegError(
            f"workers died {_RETRIES + 1} times of the same task; they may lack memory: give less by --memory or --tile"
        ) from error
    finally:
        client.cancel(list(numbers))


def _cores() -> int:
    """Return how many cores this process may use."""
    # macOS knows no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Failed(NamedTuple):
    """What is wrong with what the user gave: errors of other packages' making are the workers' own."""

    reason: str


def _guarded(function: Callable[[_Item], _Result], task: _Item) -> _Result | _Failed:
    try:
        return function(task)
    except InstsegError as error:
        return _Failed(str(error))


# One task at a time in each process, whatever its threads: TensorFlow has those to itself, and memory is that of one.
_busy = threading.Lock()


@functools.lru_cache(maxsize=1)
def _loaded(model: ModelFile) -> "Model":
    from instseg.predict import load
    from instseg.runtime import load_tensorflow

    path = Path(model.path)
    if _digest(path) != model.digest:
        raise InstsegError(f"the model {path} is another one on {_here()} than where the run began; copy it there")
    if "tensorflow" not in sys.modules:
        load_tensorflow(model.threads or _own_threads())
    return load(path, precision=model.precision)


def _own_threads() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def _here() -> str:
    from distributed import get_worker

    return str(get_worker().address)


class _Kept:
    """The image that was looked at last: opening it and choosing its channels takes time."""

    key: tuple[Any, ...] = ()
    image: Readable
    looking: Looking


def _looking(task: _Image) -> Looking:
    key = (task.model, task.path, task.stacked, repr(task.how))
    if _Kept.key != key:
        if _Kept.key and not isinstance(_Kept.image, np.ndarray):
            _Kept.image.close()
        _Kept.key = ()
        _Kept.image = open_image(task.path, task.stacked, task.targets, "")
        _Kept.looking = Looking(_loaded(task.model), _Kept.image, task.how)
        _Kept.key = key
    return _Kept.looking


def _lay_out(task: _Image) -> Layout:
    with _busy:
        return _looking(task).layout()


def _segment(task: tuple[_Image, Layout, Place, Path]) -> Seams:
    image, layout, place, folder = task
    if not holds_block(folder, place):
        with _busy:
            segment_block(_looking(image), layout, place, folder, described=image.how.described)
    return read_seams(folder, place)


def _join(task: tuple[Path, Grid, Place]) -> dict[Place, Any]:
    return join_block(*task)


def _write(task: tuple[Path, Grid, Place, Mapping[Place, Table], Path]) -> None:
    folder, grid, place, tables, labels = task
    with writing(labels):
        write_block(folder, grid, place, tables, open_zarr_labels(labels)[0])


def _fill(task: tuple[Path, int, Box]) -> None:
    labels, level, box = task
    with writing(labels):
        fill_level(open_zarr_labels(labels), level, box)
