"""Evaluate a trained model on generated discs that it has not seen.

    python tests/benchmarks/discs.py MODEL [--count 100] [--seed 1000]

A disc that others cut in two counts as its largest piece; what is cut off is
taken out of the truth, and so are discs of fewer than 20 visible pixels.
Predictions mainly on what was taken out count neither as right nor as wrong.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import Example, evaluate
from scipy import ndimage

from instseg.data.discs import draw_discs

MIN_VISIBLE = 20


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate a trained model on unseen generated discs.")
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("--count", type=int, default=100, help="number of images")
    parser.add_argument("--seed", type=int, default=1000, help="image i is drawn from the seed [SEED, i]")
    options = parser.parse_args()
    evaluate(options.model, examples(options.count, options.seed), min_truth_size=MIN_VISIBLE)


def examples(count: int, seed: int) -> Iterator[Example]:
    for index in range(count):
        image, labels = draw_discs(np.random.default_rng([seed, index]))
        yield Example(f"{seed}/{index}", image, labels, cut_off(labels))


def cut_off(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Mark the pixels (H, W) of all but the largest piece (4 neighbours) of each label (H, W)."""
    pieces = np.zeros(labels.shape, np.int64)
    count = 0
    # The labels are numbered after their order of drawing, not their place, so each is cut out by its bounding box.
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        found, number = ndimage.label(labels[box] == label)
        pieces[box] += np.where(found > 0, found + count, 0)
        count += number
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    owner = np.zeros(count + 1, np.int64)
    owner[pieces.ravel()] = labels.ravel()
    # Ascending by size, so that the largest piece of a label is the last to write; of equal ones the first.
    order = np.lexsort((-np.arange(count + 1), sizes))
    largest = np.zeros(labels.max() + 1, np.int64)
    largest[owner[order]] = order
    smaller: NDArray[np.bool_] = (labels > 0) & (pieces != largest[labels])
    return smaller


if __name__ == "__main__":
    main()
