"""Time the comparison of two label images against a plain loop over masks: `python tests/benchmarks/evaluate.py`.

On 512 x 512 pixels with some 500 instances, alternately in the same run. The
loop finds the IoU of every true instance with what it meets, mask by mask; the
comparison also matches at ten thresholds and finds the mistakes.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from history import record
from numpy.typing import NDArray

from instseg.data.discs import draw_discs
from instseg.evaluation.results import evaluate_image
from instseg.labels.matching import contingency_table
from instseg.settings import DiscSettings


def iou_by_masks(truth: NDArray[np.int32], predicted: NDArray[np.int32]) -> dict[tuple[int, int], float]:
    """Return the IoU of all pairs that meet, one true instance after the other."""
    found = {}
    areas = np.bincount(predicted.ravel())
    for label in np.unique(truth[truth > 0]):
        mask = truth == label
        others, shared = np.unique(predicted[mask], return_counts=True)
        for other, count in zip(others.tolist(), shared.tolist(), strict=True):
            if other:
                found[int(label), other] = count / (mask.sum() + areas[other] - count)
    return found


def main() -> None:
    """Check that both agree, then print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--discs", type=int, default=520, help="discs drawn, some of them hidden by others")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each")
    options = parser.parse_args()
    discs = DiscSettings(min_discs=options.discs, max_discs=options.discs)
    _, truth = draw_discs(np.random.default_rng(0), discs)
    predicted = np.roll(truth, (1, 2), (0, 1))
    table = contingency_table(truth, predicted)
    pairs = zip(table.truth_ids[table.truth_index], table.predicted_ids[table.predicted_index], strict=True)
    slow = iou_by_masks(truth, predicted)
    if set(pairs) != set(slow) or not np.allclose(table.iou, list(slow.values())):
        raise SystemExit("the two disagree")
    times: dict[str, list[float]] = {"comparison": [], "loop": []}
    for _ in range(options.rounds):
        times["comparison"].append(seconds(lambda: evaluate_image("discs", truth, predicted)))
        times["loop"].append(seconds(lambda: iou_by_masks(truth, predicted)))
    fast, loop = (1000 * statistics.median(times[name]) for name in ("comparison", "loop"))
    print(f"{truth.shape[0]} x {truth.shape[1]} pixels, {truth.max()} instances")
    print(f"comparison: {fast:.1f} ms, loop over masks: {loop:.1f} ms, ratio {loop / fast:.1f}")
    record("a loop over masks over comparing labels", loop / fast, better="higher")


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
