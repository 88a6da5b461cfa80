"""Time prediction by Dask workers against one of them, and against the ordinary command.

    python tests/benchmarks/workers.py MODEL [--size 8192] [--rounds 3]

MODEL is a directory that `instseg train` wrote on generated discs, or of objects like these. An image of `--size`
squared, a Zarr array, is segmented by one worker of one thread, by two, each pinned to its core, and by one ordinary
process with two threads on both cores; all write OME-Zarr. Times are medians of `--rounds`, in turn, with TensorFlow
and the model loaded: what starting takes is printed apart.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zarr
from predict import mosaic

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
    options = parser.parse_args()
    from instseg.inference.model import load
    from instseg.network.runtime import load_tensorflow

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small, large = write_image(folder / "small.zarr", 512), write_image(folder / "large.zarr", options.size)
        times: dict[str, list[float]] = {}
        where = model_ref(options.model)
        with workers(folder, 1) as one, workers(folder, 2) as two:
            load_tensorflow(2)
            model = load(options.model)
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
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in median.items():
        print(f"{name}: {seconds:.1f} s, {options.size**2 / 1e6 / seconds:.2f} megapixels/s")
    print(f"two workers are {median['one worker'] / median['two workers']:.2f} times as fast as one")
    ratio = median["two workers"] / median["the ordinary command"]
    print(f"two workers take {ratio:.2f} times the ordinary command's time")


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
