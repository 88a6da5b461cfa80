"""Tell what an image of a terapixel and a million images take, from what is measured here on small ones.

    python tests/benchmarks/scale.py MODEL [--tasks 2000] [--sides 1024 2048 4096 8192]

MODEL is a directory that `instseg train` wrote on generated discs, or of objects like these. Measured are: the network
and the clustering of a block on all cores of this machine, the bytes of its file and of its messages, its instances;
what joining two blocks, labelling an instance and writing a block's labels takes; and the
time that a task without work takes a scheduler and its client. From these follow, by the side of the blocks: how many
there are, what is kept on the way and sent over the network, what the one process that merges needs, and how many
machines like this one can work before the scheduler is busy all the time.
"""

import argparse
import pickle
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr
from slides import mosaic

from instseg.distributed.blocks import match_seams, read_summary, segment_tile, tables_for, write_tile
from instseg.distributed.client import DaskCluster, map_unordered
from instseg.distributed.tasks import ImageTask, ModelRef, TileTask, WriteTask
from instseg.inference.batch import PredictJob
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.options import PredictOptions
from instseg.inference.outputs import SingleOutput
from instseg.io.source import ArrayReader
from instseg.settings import TileSettings
from instseg.tiling.grid import Grid
from instseg.tiling.sizes import plan_tiles
from instseg.tiling.stitch import LabelMerger, TileInstances

_TERA = 10**12
_SIDES = (1024, 2048, 4096, 8192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks without work that the scheduler is timed with")
    parser.add_argument("--sides", type=int, nargs="+", default=_SIDES, help="of the blocks, overlap included")
    options = parser.parse_args()
    per_task = time_tasks(options.tasks)
    print(f"scheduler and client: {1000 * per_task:.2f} ms a task")
    # Before anything else takes memory: what is measured is how much the process's peak grows.
    per_instance, bytes_of_instance = time_merging()
    from instseg.inference.model import load

    model = load(options.model)
    measured = {side: measure(model, side) for side in options.sides}
    print(f"merging: {1e6 * per_instance:.2f} us and {bytes_of_instance:.0f} bytes for an instance")
    print("\na block, by its side with the overlap")
    show(
        ("side", "overlap adds", "megapixels", "s", "joining ms", "writing ms", "kept KiB", "sent KiB", "instances"),
        (
            (
                side,
                f"{one['extra']:.0%}",
                f"{one['pixels']:.2f}",
                f"{one['seconds']:.2f}",
                f"{1000 * one['join']:.0f}",
                f"{1000 * one['write']:.0f}",
                f"{one['kept'] * one['pixels'] / 1024:.0f}",
                f"{one['sent'] / 1024:.1f}",
                f"{one['instances']:.0f}",
            )
            for side, one in measured.items()
        ),
    )
    print("\nan image of one terapixel")
    rows = []
    for side, one in measured.items():
        blocks = _TERA / 1e6 / one["pixels"]
        work = blocks * (one["seconds"] + one["join"] + one["write"])
        # Segmenting, joining and writing it, and its part of the pyramid.
        scheduler, instances = 4 * blocks * per_task, blocks * one["instances"]
        rows.append(
            (
                side,
                f"{blocks:,.0f}",
                f"{work / 86400:.1f}",
                f"{scheduler / 3600:.2f}",
                f"{instances * per_instance / 3600:.2f}",
                f"{instances * bytes_of_instance / 2**30:.1f}",
                f"{blocks * one['kept'] * one['pixels'] / 2**30:.0f}",
                f"{blocks * one['sent'] / 2**30:.1f}",
                f"{work / scheduler:,.0f}",
            )
        )
    show(
        (
            "side",
            "blocks",
            "machine-days",
            "scheduler h",
            "merging h",
            "merging GiB",
            "kept GiB",
            "sent GiB",
            "machines that keep the scheduler busy",
        ),
        rows,
    )
    # Images of this size are one block, without overlap.
    one = measured.get(2048) or measure(model, 2048)
    images, seconds = 10**6, one["seconds"] / (1 + one["extra"]) / one["pixels"] * 2048**2 / 1e6
    tasks = images / 16
    print(
        f"\na million images of 2048 x 2048: {images * seconds / 86400:.1f} machine-days, {tasks:,.0f} tasks of 16, "
        f"{tasks * per_task / 60:.1f} minutes of the scheduler, which {16 * seconds / per_task:,.0f} machines keep busy"
    )


def show(header: tuple[str, ...], rows) -> None:
    print("| " + " | ".join(header) + " |\n|" + "--:|" * len(header))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


def nothing(task: object) -> object:
    return task


def time_tasks(count: int) -> float:
    """Return the seconds that a task without work takes, two workers doing them."""
    payload = np.zeros(200, np.int64)
    with DaskCluster(workers=2, threads=1).connected() as client:
        list(map_unordered(client, nothing, [payload] * 100))
        start = time.perf_counter()
        for _ in map_unordered(client, nothing, [payload] * count):
            pass
        return (time.perf_counter() - start) / count


def measure(model, side: int) -> dict[str, float]:
    """Segment nine blocks of that side, overlap included, and tell of the one in the middle."""
    options = PredictOptions(tiles=TileSettings(tile=side))
    grid = plan_tiles((3 * side, 3 * side), model.settings, options.tiles, maps=model.objective.map_count)
    core = grid.tile(1, 1).core.shape[0]
    tiles = ImageTiles(model, ArrayReader(mosaic(3 * core)), options)
    plan = tiles.plan()
    grid, middle = plan.grid, (1, 1)
    tile = grid.tile(*middle)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        times = {}
        for one in grid:
            # The middle one is done in the middle: all that begins slowly has been done before.
            times[one.index], _ = timed(lambda index=one.index: segment_tile(tiles, plan, index, folder))
        kept = (folder / "1.1.npz").stat().st_size
        merger = LabelMerger(grid)
        for one in grid:
            merger.add(one.index, read_summary(folder, one.index).record)
            merger.match(one.index, match_seams(folder, grid, one.index))
        tables, _ = merger.finish()
        join, pairs = timed(lambda: match_seams(folder, grid, middle))
        target = zarr.create_array(str(folder / "labels"), shape=grid.shape, chunks=(512, 512), dtype="uint32")
        needed = {index: tables[index] for index in tables_for(grid, middle, target.chunks)}
        write, _ = timed(lambda: write_tile(folder, grid, middle, needed, target))
        summary = read_summary(folder, middle)
    outputs = SingleOutput(Path("/tmp/labels.zarr"), {}, Path("/tmp/slide.zarr"))
    job = PredictJob(files=(Path("/images/slide.zarr"),), options=options, outputs=outputs)
    image = ImageTask(ModelRef("/models/model", "0" * 64, None), job)
    # What a block's tasks are given, and what they give.
    messages = (
        TileTask(image, plan, middle, folder),
        summary,
        (folder, grid, middle),
        pairs,
        WriteTask(folder, grid, middle, needed, folder),
    )
    pixels = np.prod(tile.core.shape) / 1e6
    return {
        "pixels": float(pixels),
        "extra": float(np.prod(tile.extent.shape) / 1e6 / pixels - 1),
        "seconds": times[middle],
        "kept": float(kept / pixels),
        "join": join,
        "write": write,
        "sent": float(sum(len(pickle.dumps(one)) for one in messages)),
        "instances": float(len(summary.record.seam) + len(summary.record.inner_first)),
    }


def timed(function):
    start = time.perf_counter()
    found = function()
    return time.perf_counter() - start, found


def time_merging(blocks: int = 100, instances: int = 2000) -> tuple[float, float]:
    """Return the seconds and the bytes that merging takes for an instance, a quarter of them at seams."""
    rng = np.random.default_rng(0)
    numbers = np.arange(1, instances + 1, dtype=np.int32)
    inner, seam = numbers[instances // 4 :], numbers[: instances // 4]
    grid = Grid((1000 * blocks, 1000 * blocks), side=1200, overlap=100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    merger = LabelMerger(grid)
    for tile in grid:
        row, column = tile.index
        first = np.sort(rng.choice(1_000_000, instances, replace=False)).astype(np.int64)
        first = (first // 1000 + tile.core.top) * grid.shape[1] + first % 1000 + tile.core.left
        areas = rng.integers(1, 500, len(seam))
        record = TileInstances(instances, inner[:0], first[len(seam) :], seam, areas, first[: len(seam)])
        merger.add(tile.index, record)
        shared = np.stack([seam[: len(seam) // 4]] * 2, axis=1).astype(np.int64)
        others = [index for index in ((row, column - 1), (row - 1, column)) if min(index) >= 0]
        merger.match(tile.index, dict.fromkeys(others, shared))
    merger.finish()
    count = len(grid) * instances
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return (time.perf_counter() - start) / count, 1024 * taken / count


if __name__ == "__main__":
    main()
