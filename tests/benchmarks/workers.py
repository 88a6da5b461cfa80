"""Time prediction by Dask workers against one of them, and against the ordinary command.

    python tests/benchmarks/workers.py MODEL [--size 8192] [--rounds 3] [--more 4 8]

MODEL is a directory that `instseg train` wrote on generated discs, or of objects like these. An image of `--size`
squared, a Zarr array, is segmented by one worker of one thread, by two, each pinned to its core, and by one ordinary
process with two threads on both cores; all write OME-Zarr. Times are medians of `--rounds`, in turn, with TensorFlow
and the model loaded: what starting takes is printed apart.

What `--more` workers would take, each with a core of its own, follows from the run of two: the seconds that each of
their tasks took are dealt out to so many, phase after phase, and what passes between tasks (the client, the scheduler,
messages) stays as it is. The same for one worker is printed beside what was measured, as a check. Not modelled are the
disc that all share, which has to give what is printed, and the memory that more cores of one machine share.
"""

import argparse
import functools
import heapq
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr
from history import record
from slides import mosaic

from instseg.distributed.client import DaskCluster
from instseg.distributed.predict import DaskExecutor
from instseg.distributed.tasks import model_ref
from instseg.inference.batch import Executor, LocalExecutor, PredictJob
from instseg.inference.options import PredictOptions
from instseg.inference.outputs import SingleOutput


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--size", type=int, default=8192, help="height and width of the image")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is run")
    parser.add_argument("--more", type=int, nargs="*", default=(4, 8), help="numbers of workers to model")
    options = parser.parse_args()
    from instseg.inference.model import load

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small, large = write_image(folder / "small.zarr", 512), write_image(folder / "large.zarr", options.size)
        times: dict[str, list[float]] = {}
        model = load(options.model)
        where = model_ref(options.model, precision=model.precision)
        with workers(folder, 1) as one, workers(folder, 2) as two:
            runs = {
                "one worker": functools.partial(by, DaskExecutor(one, where), folder),
                "two workers": functools.partial(by, DaskExecutor(two, where), folder),
                "the ordinary command": functools.partial(by, LocalExecutor(model), folder),
            }
            for name, run in runs.items():
                start = time.perf_counter()
                run(small)
                print(f"{name}: the first image of 512 x 512 after {time.perf_counter() - start:.1f} s")
            for _ in range(options.rounds):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run(large)
                    times.setdefault(name, []).append(time.perf_counter() - start)
            phases, serial = observe(two, lambda: runs["two workers"](large))
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in median.items():
        print(f"{name}: {seconds:.1f} s, {options.size**2 / 1e6 / seconds:.2f} megapixels/s")
    print(f"two workers are {median['one worker'] / median['two workers']:.2f} times as fast as one")
    ratio = median["two workers"] / median["the ordinary command"]
    print(f"two workers take {ratio:.2f} times the ordinary command's time")
    record("two workers over the ordinary command", ratio, better="lower")
    print_model(phases, serial, median["one worker"], options)


class Phase(NamedTuple):
    """Tasks that all have to be done before those of the next phase begin."""

    name: str
    seconds: list[float]
    """Of each task."""
    wall: float


def observe(cluster: DaskCluster, run: Callable[[], None]) -> tuple[list[Phase], float]:
    """Run once, and return the phases and the seconds that pass outside of them, in the client."""
    from distributed import Client, get_task_stream

    from instseg.distributed import predict

    spans: list[tuple[str, int, float]] = []
    original = predict.map_unordered

    def watched(client, function, tasks, *others):
        start = time.perf_counter()
        yield from original(client, function, tasks, *others)
        spans.append((function.__name__, len(tasks), time.perf_counter() - start))

    predict.map_unordered = watched
    start = time.perf_counter()
    try:
        with Client(scheduler_file=str(cluster.scheduler_file)) as client, get_task_stream(client) as stream:
            run()
            whole = time.perf_counter() - start
    finally:
        predict.map_unordered = original
    done = [span for one in stream.data for span in one["startstops"] if span["action"] == "compute"]
    done.sort(key=lambda span: span["start"])
    phases = []
    for name, count, wall in spans:
        seconds = [span["stop"] - span["start"] for span in done[:count]]
        done = done[count:]
        phases.append(Phase(name, seconds, wall))
    return phases, whole - sum(phase.wall for phase in phases)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return when the last task ends, where each worker that is free takes the next one."""
    free = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def print_model(phases: Sequence[Phase], serial: float, measured: float, options: argparse.Namespace) -> None:
    """Print what more workers would take, and what then keeps them waiting."""
    work = sum(sum(phase.seconds) for phase in phases)
    between = [max(0.0, phase.wall - makespan(phase.seconds, 2)) for phase in phases]
    print(
        "\n| workers | s | times one | working | waiting for a phase's last tasks | between tasks | in the client |\n"
        "|--:|--:|--:|--:|--:|--:|--:|"
    )
    times, notes = {}, []
    for count in (1, 2, *options.more):
        ends = [makespan(phase.seconds, count) for phase in phases]
        times[count] = whole = sum(ends) + sum(between) + serial
        shares = work / count, sum(ends) - work / count, sum(between), serial
        row = " | ".join(f"{share / whole:.0%}" for share in shares)
        print(f"| {count} | {whole:.1f} | {times[1] / whole:.2f} | {row} |")
        if count in options.more:
            waits = {phase.name: end - sum(phase.seconds) / count for phase, end in zip(phases, ends, strict=True)}
            waits |= {f"between tasks of {phase.name}": one for phase, one in zip(phases, between, strict=True)}
            worst = max((waits | {"the client": serial}).items(), key=lambda item: item[1])
            size = options.size**2 * np.dtype(np.uint16).itemsize / 1e6
            notes.append(
                f"{count} workers wait most for: {worst[0]}, {worst[1]:.1f} s; the disc that they share reads "
                f"{size / whole:.0f} MB/s of the image, and writes twice as many of labels"
            )
    print("\n".join(["", *notes]))
    print(f"one worker took {measured:.1f} s, {measured / times[1]:.2f} times what the model says")


def write_image(path: Path, size: int) -> Path:
    zarr.create_array(str(path), data=mosaic(size), chunks=(512, 512))
    return path


@contextmanager
def workers(folder: Path, count: int) -> Iterator[DaskCluster]:
    """Start a scheduler and so many workers, each of one thread on its own core."""
    file = folder / f"scheduler-{count}.json"
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m"]
    processes = [
        subprocess.Popen(
            [
                *command,
                "distributed.cli.dask_scheduler",
                "--port",
                "0",
                "--no-dashboard",
                "--scheduler-file",
                str(file),
            ],
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
    ]
    for core in cores[:count]:
        worker = [*command, "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        processes.append(
            subprocess.Popen(
                ["taskset", "-c", str(core), *worker, "--scheduler-file", str(file)],
                stderr=subprocess.DEVNULL,
                cwd=folder,
            )
        )
    try:
        from distributed import Client

        while not (file.exists() and file.stat().st_size):
            time.sleep(0.1)
        with Client(scheduler_file=str(file), timeout=30) as client:
            client.wait_for_workers(count, timeout=60)
        yield DaskCluster(scheduler_file=file)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def job(folder: Path, image: Path) -> PredictJob:
    outputs = SingleOutput(folder / "labels.zarr", {}, image)
    return PredictJob(files=(image,), options=PredictOptions(workspace=folder), outputs=outputs)


def by(executor: Executor, folder: Path, image: Path) -> None:
    for result in executor.run(job(folder, image)):
        if result.error is not None:
            raise result.error


if __name__ == "__main__":
    main()
