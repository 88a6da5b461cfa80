"""Time the fast clustering against HDBSCAN on the same embeddings, alternately in the same run.

    python tests/benchmarks/cluster.py MODEL_OR_NPZ... [--count 5] [--rounds 3] [--size 512]

A model directory embeds COUNT generated discs images; an .npz file is taken as
it is. Prints the median time of each per image, their ratio, how many pixels
were clustered, and how well the two agree: matched instances and their mean IoU.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from history import record
from numpy.typing import NDArray

import instseg
from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.io.npz import read_embeddings
from instseg.labels.matching import match
from instseg.settings import ClusterSettings, DiscSettings

_METHODS = ("fast", "hdbscan")
# Apart from the seeds of training and of discs.py.
_SEED = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", metavar="MODEL_OR_NPZ", help="model directory or .npz file")
    parser.add_argument("--count", type=int, default=5, help="generated images for each model")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each method and image")
    parser.add_argument("--size", type=int, default=512, help="height and width of the generated images")
    options = parser.parse_args()
    try:
        compare(list(embedded(options.sources, options.count, options.size)), options.rounds)
    except InstsegError as error:
        sys.exit(f"Error: {error}")


def embedded(sources: list[Path], count: int, size: int) -> Iterator[tuple[str, Embeddings]]:
    for source in sources:
        if source.suffix.lower() == ".npz":
            yield source.name, read_embeddings(source)
            continue
        model = instseg.load(source)
        for index in range(count):
            image, _ = draw_discs(np.random.default_rng([_SEED, index]), DiscSettings(size=size))
            yield f"{source.name}/{index}", model.embed(image)


def compare(examples: list[tuple[str, Embeddings]], rounds: int) -> None:
    """Print a line per image and one for all."""
    print(f"{'image':<20}{'pixels':>9}{'fast':>10}{'hdbscan':>11}{'ratio':>8}{'instances':>13}{'matched':>9}{'IoU':>8}")
    # The first call imports what a method needs.
    run(examples[0][1], "fast"), run(examples[0][1], "hdbscan")
    medians: dict[str, list[float]] = {method: [] for method in _METHODS}
    ious: list[NDArray[np.floating]] = []
    for name, maps in examples:
        times: dict[str, list[float]] = {method: [] for method in _METHODS}
        found = {}
        for _ in range(rounds):
            for method in _METHODS:
                seconds, found[method] = run(maps, method)
                times[method].append(1000 * seconds)
        fast, dense = (statistics.median(times[method]) for method in _METHODS)
        medians["fast"].append(fast)
        medians["hdbscan"].append(dense)
        threshold = (maps.settings or ClusterSettings()).foreground_threshold
        pixels = int((maps.foreground >= threshold).sum())
        iou = match(found["fast"], found["hdbscan"]).iou
        ious.append(iou)
        counts = f"{found['fast'].max()}/{found['hdbscan'].max()}"
        print(
            f"{name[-19:]:<20}{pixels:>9,}{fast:>7.1f} ms{dense:>8.1f} ms{dense / fast:>8.1f}"
            f"{counts:>13}{len(iou):>9}{_mean(iou):>8.4f}"
        )
    fast, dense = (statistics.median(medians[method]) for method in _METHODS)
    print(
        f"median of {len(examples)} images: fast {fast:.1f} ms, hdbscan {dense:.1f} ms, ratio {dense / fast:.1f}; "
        f"mean IoU of matched instances {_mean(np.concatenate(ious)):.4f}"
    )
    record("HDBSCAN over clustering", dense / fast, better="higher")


def run(maps: Embeddings, method: str) -> tuple[float, NDArray[np.int32]]:
    settings = dataclasses.replace(maps.settings or ClusterSettings(), method=method)
    start = time.perf_counter()
    labels = cluster(maps, settings)
    return time.perf_counter() - start, labels


def _mean(values: NDArray[np.floating]) -> float:
    return float(values.mean()) if len(values) else float("nan")


if __name__ == "__main__":
    main()
