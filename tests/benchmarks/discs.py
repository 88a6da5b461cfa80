"""Evaluate a trained model on generated discs that it has not seen.

    python tests/benchmarks/discs.py MODEL [--count 100] [--seed 1000]

A disc that others cut in two counts as its largest piece; what is cut off is
taken out of the truth, and so are discs of fewer than 20 visible pixels.
Predictions mainly on what was taken out count neither as right nor as wrong.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import instseg
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.evaluation.metrics import MeanScores, Scores, macro_average, micro_average, score

MIN_VISIBLE = 20
_SHOWN = ("ap", "precision", "recall", "f1", "mean_matched_iou")


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate a trained model on unseen generated discs.")
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("--count", type=int, default=100, help="number of images")
    parser.add_argument("--seed", type=int, default=1000, help="image i is drawn from the seed [SEED, i]")
    options = parser.parse_args()
    try:
        evaluate(options.model, options.count, options.seed)
    except InstsegError as error:
        sys.exit(f"Error: {error}")


def evaluate(folder: Path, count: int, seed: int) -> None:
    """Print scores, the worst images and the time per image."""
    model = instseg.load(folder)
    scores, seconds = [], []
    for image, labels in examples(count, seed):
        start = time.perf_counter()
        predicted = model.predict(image)
        seconds.append(time.perf_counter() - start)
        scores.append(score(labels, predicted, min_truth_size=MIN_VISIBLE, ignored=cut_off(labels)))
    pooled = micro_average(scores)
    print(f"{count} images, {pooled.tp[0] + pooled.fn[0]:,} true instances (of {MIN_VISIBLE} pixels and more)")
    _print_table("mean over images", macro_average(scores))
    _print_table("pooled over instances", pooled)
    print("\nlowest AP at IoU 0.5")
    for index in sorted(range(count), key=lambda i: scores[i].ap[0])[:3]:
        one = scores[index]
        print(f"  {one.ap[0]:.3f}  {seed}/{index}: {one.tp[0]} right, {one.fp[0]} wrong, {one.fn[0]} missed")
    # The first call also traces the network and warms the caches up.
    usual = seconds[1:] or seconds
    print(f"\n{1000 * np.median(usual):.0f} ms per image (median; first {seconds[0]:.2f} s, sum {sum(seconds):.1f} s)")


def examples(count: int, seed: int) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int32]]]:
    for index in range(count):
        yield draw_discs(np.random.default_rng([seed, index]))


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


def _print_table(title: str, scores: Scores | MeanScores) -> None:
    print(f"\n{title}: mean AP {scores.mean_ap:.4f} (IoU 0.50 to 0.90)")
    print(f"{'  IoU':<17}" + "".join(f"{threshold:9.2f}" for threshold in scores.thresholds))
    for name in _SHOWN:
        label = "AP" if name == "ap" else name.replace("_", " ").replace("iou", "IoU")
        print(f"  {label:<15}" + "".join(f"{value:9.4f}" for value in getattr(scores, name)))


if __name__ == "__main__":
    main()
