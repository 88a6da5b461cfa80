"""Processor time of clustering, of comparing and of measuring larger and larger images of one density.

    python tests/benchmarks/scaling.py [MODEL] [--sizes 512 1024 2048 4096 8192] [--step 24] [--rounds 5]
    python tests/benchmarks/scaling.py --step 8 --sizes 1024 4096 8192 --rounds 1    # to a million instances

The maps are those that MODEL, a model directory or a name, gives for a generated image of 512 x 512, side by side as
often as it takes; without a model, crowded ones are made up: an instance in every STEP x STEP pixels, two thirds as
wide. All is done in one piece. Printed are the medians per megapixel and per instance, and their ratios to the smallest
image's: of `cluster`, of measuring the instances for their table, of `evaluate`'s comparison of the labels with the
same one pixel aside, and of `instseg.measure`. Seconds are those of the processor, so that other work matters little.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from history import record
from numpy.typing import NDArray

import instseg
from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import measure_instances
from instseg.data.discs import draw_discs
from instseg.evaluation.results import evaluate_image
from instseg.settings import DiscSettings

_SIDE = 512
_ROWS = 256
_NAMES = ("cluster", "table", "evaluate", "measure")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("--sizes", type=int, nargs="+", default=(512, 1024, 2048, 4096, 8192))
    parser.add_argument("--step", type=int, default=24, help="side of the square of each made-up instance")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    first: dict[str, float] = {}
    print(f"| size | instances | {' | '.join(f'{name}: ms a megapixel | ratio | us an instance' for name in _NAMES)} |")
    print(f"|--:|--:|{'--:|' * 3 * len(_NAMES)}")
    for size in options.sizes:
        if options.model is None:
            maps = crowded(size, options.step)
        else:
            maps = repeated(embedded(options.model), max(size // _SIDE, 1))
        labels = cluster(maps)
        count = int(labels.max())
        cells = []
        for name, seconds in measured(maps, labels, options.rounds):
            each = seconds / labels.size
            first.setdefault(name, each)
            cells.append(f"{1e9 * each:.0f} | {each / first[name]:.2f} | {1e6 * seconds / max(count, 1):.1f}")
            if size == max(options.sizes):
                what = f"{'crowded' if options.model is None else 'discs'}, {size} over {options.sizes[0]} squared"
                record(f"{name} a megapixel, {what}", each / first[name], better="lower")
        print(f"| {size} | {count:,} | {' | '.join(cells)} |", flush=True)
        del maps, labels


def measured(maps: Embeddings, labels: NDArray[np.int32], rounds: int) -> Iterator[tuple[str, float]]:
    """Return the median of the processor's seconds for each of `_NAMES`."""
    beside, image = np.roll(labels, 1, axis=1), (255 * maps.foreground).astype(np.uint8)
    calls: tuple[Callable[[], object], ...] = (
        lambda: cluster(maps),
        lambda: measure_instances(labels, maps),
        lambda: evaluate_image("labels", labels, beside),
        lambda: instseg.measure(labels, image),
    )
    for name, call in zip(_NAMES, calls, strict=True):
        times = []
        for _ in range(rounds):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        yield name, statistics.median(times)


def embedded(model: Path) -> Embeddings:
    image, _ = draw_discs(np.random.default_rng(0), DiscSettings(size=_SIDE))
    found: Embeddings = instseg.load(model).embed(image)
    return found


def repeated(maps: Embeddings, times: int) -> Embeddings:
    """Return the maps of so many images by so many, side by side, each pointing to places of its own."""
    arrays = {}
    for name, array in maps.arrays().items():
        arrays[name] = np.tile(array, (times, times, *(1,) * (array.ndim - 2)))
    side = _SIDE * np.repeat(np.arange(times, dtype=np.float32), _SIDE)
    arrays["embeddings"][..., 0] += side[:, None]
    arrays["embeddings"][..., 1] += side[None, :]
    return dataclasses.replace(maps, **arrays)


def crowded(size: int, step: int) -> Embeddings:
    """Return maps as the overlap loss makes them: pixels point near the middle of their disc, and near it are seeds."""
    rng = np.random.default_rng(0)
    diameter = 2 * step / 3
    embeddings = np.empty((size, size, 2), np.float32)
    foreground, seeds = np.empty((2, size, size), np.float32)
    for top in range(0, size, _ROWS):
        rows = slice(top, min(top + _ROWS, size))
        places = np.stack(np.meshgrid(np.arange(size)[rows], np.arange(size), indexing="ij"), axis=-1).astype(
            np.float32
        )
        offset = places % step - np.float32(step / 2)
        inside = np.sqrt(np.square(offset).sum(-1)) < diameter / 2
        # Seeds fall off with how far from the middle a pixel points, by the same at all sizes.
        noise = (diameter / 32) * rng.standard_normal(places.shape, np.float32)
        embeddings[rows] = np.where(inside[..., None], places - offset + noise, places)
        foreground[rows] = inside
        seeds[rows] = np.where(inside, np.exp(-np.square(16 / diameter * noise).sum(-1)), np.float32(0))
    bandwidth = np.full((size, size), 0.4 * diameter, np.float32)
    return Embeddings(embeddings=embeddings, foreground=foreground, seeds=seeds, bandwidth=bandwidth)


if __name__ == "__main__":
    main()
