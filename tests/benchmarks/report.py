"""What the benchmark scripts share: predict, score, and print a table."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import instseg
from instseg.errors import InstsegError
from instseg.metrics import MeanScores, Scores, average, pool, score

THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
_SHOWN = ("ap", "precision", "recall", "f1", "matched_iou")


class Example(NamedTuple):
    """An image (H, W) or (H, W, C) with its true labels (H, W), and what of them does not count (H, W)."""

    name: str
    image: NDArray[np.generic]
    labels: NDArray[np.int32]
    ignored: NDArray[np.bool_] | None


def evaluate(model_folder: Path, examples: Iterable[Example], *, min_truth_size: int) -> None:
    """Print the scores of a model and its time per image; exit with 1 where the model or the data cannot be read."""
    try:
        scores, names, seconds = _predict_all(model_folder, examples, min_truth_size)
        mean, pooled = average(scores), pool(scores)
    except InstsegError as error:
        sys.exit(f"Error: {error}")
    instances = int(pooled.tp[0] + pooled.fn[0])
    print(f"{len(scores)} images, {instances:,} true instances (of {min_truth_size} pixels and more)")
    _print_table("mean over images", mean)
    _print_table("pooled over instances", pooled)
    print("\nlowest AP at IoU 0.5")
    for index in sorted(range(len(scores)), key=lambda i: scores[i].ap[0])[:3]:
        one = scores[index]
        print(f"  {one.ap[0]:.3f}  {names[index]}: {one.tp[0]} right, {one.fp[0]} wrong, {one.fn[0]} missed")
    # The first call also traces the network and warms the caches up.
    usual = seconds[1:] or seconds
    print(f"\n{1000 * np.median(usual):.0f} ms per image (median; first {seconds[0]:.2f} s, sum {sum(seconds):.1f} s)")


def _predict_all(
    model_folder: Path, examples: Iterable[Example], min_truth_size: int
) -> tuple[list[Scores], list[str], list[float]]:
    model = instseg.load(model_folder)
    scores, names, seconds = [], [], []
    for example in examples:
        start = time.perf_counter()
        predicted = model.predict(example.image)
        seconds.append(time.perf_counter() - start)
        scores.append(
            score(example.labels, predicted, THRESHOLDS, min_truth_size=min_truth_size, ignored=example.ignored)
        )
        names.append(example.name)
    return scores, names, seconds


def _print_table(title: str, scores: Scores | MeanScores) -> None:
    print(f"\n{title:<22}" + "".join(f"{f'IoU {threshold:g}':>10}" for threshold in scores.thresholds))
    for name in _SHOWN:
        label = "AP" if name == "ap" else name.replace("_", " ").replace("iou", "IoU")
        print(f"  {label:<20}" + "".join(f"{value:10.4f}" for value in getattr(scores, name)))
