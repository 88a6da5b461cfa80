"""Time the clustering of larger and larger images of one density: `python tests/benchmarks/scaling.py [MODEL]`.

The maps are those that MODEL, a model directory or a name, gives for a generated image of 512 x 512, side by side as
often as it takes; without a model, crowded ones are made up: an instance of 16 pixels across in every 24 x 24, so that
8192 x 8192 hold more than 100,000. Printed are the medians per megapixel and per instance, and their ratios to the
smallest image's.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import instseg
from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.data.discs import draw_discs
from instseg.settings import DiscSettings

_SIDE = 512
_STEP, _DIAMETER = 24, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("--sizes", type=int, nargs="+", default=(512, 1024, 2048, 4096, 8192))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    first = 0.0
    print("| size | instances | ms a megapixel | to the smallest | us an instance |\n|--:|--:|--:|--:|--:|")
    for size in options.sizes:
        maps = crowded(size) if options.model is None else repeated(embedded(options.model), size // _SIDE)
        found = cluster(maps)
        times = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            cluster(maps)
            times.append(time.perf_counter() - start)
        seconds, count = statistics.median(times), int(found.max())
        each = 1e9 * seconds / size**2
        first = first or each
        print(f"| {size} | {count:,} | {each:.0f} | {each / first:.2f} | {1e6 * seconds / count:.0f} |", flush=True)


def embedded(model: Path) -> Embeddings:
    image, _ = draw_discs(np.random.default_rng(0), DiscSettings(size=_SIDE))
    found: Embeddings = instseg.load(model).embed(image)
    return found


def repeated(maps: Embeddings, times: int) -> Embeddings:
    """Return the maps of so many images by so many, side by side, each pointing to places of its own."""
    arrays = {name: np.concatenate([array] * times) for name, array in maps.arrays().items()}
    arrays = {name: np.concatenate([array] * times, axis=1) for name, array in arrays.items()}
    side = _SIDE * np.repeat(np.arange(times, dtype=np.float32), _SIDE)
    arrays["embeddings"][..., 0] += side[:, None]
    arrays["embeddings"][..., 1] += side[None, :]
    return dataclasses.replace(maps, **arrays)


def crowded(size: int) -> Embeddings:
    """Return maps as the overlap loss makes them: pixels point near the middle of their disc, and near it are seeds."""
    rng = np.random.default_rng(0)
    places: NDArray[np.float32] = np.indices((size, size), np.float32).transpose(1, 2, 0).copy()
    offset = places % _STEP - np.float32(_STEP / 2)
    distance = np.sqrt(np.square(offset).sum(-1))
    inside = distance < _DIAMETER / 2
    noise = rng.normal(0, 0.5, places.shape).astype(np.float32)
    return Embeddings(
        embeddings=np.where(inside[..., None], places - offset + noise, places),
        foreground=inside.astype(np.float32),
        seeds=np.where(inside, np.exp(-np.square(noise).sum(-1)), np.float32(0)),
        bandwidth=np.full((size, size), 0.4 * _DIAMETER, np.float32),
    )


if __name__ == "__main__":
    main()
