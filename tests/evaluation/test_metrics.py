"""Scores against cases worked out by hand and against a slow, obvious reference."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.evaluation.metrics import THRESHOLDS, macro_average, micro_average, score
from instseg.io.label_images import read_labels
from instseg.labels.matching import contingency_table, match

EMPTY = np.zeros((3, 4), np.int32)

TRUTH = np.array(
    [
        [1, 1, 0, 2],
        [1, 1, 0, 2],
        [3, 3, 3, 0],
    ],
    np.int32,
)
# 7 is 1 without a pixel (IoU 3/4), 8 is 2 with one more (2/3), 9 lies half on 3 (1/3).
PREDICTED = np.array(
    [
        [7, 7, 0, 8],
        [7, 0, 8, 8],
        [0, 0, 9, 0],
    ],
    np.int32,
)


def blobs(seed: int, *, most: int = 6, shape: tuple[int, int] = (9, 11)) -> np.ndarray:
    """Overlapping rectangles with labels that are not consecutive."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int64)
    for number in range(int(rng.integers(0, most + 1))):
        top, left = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(1, 6, 2)
        labels[top : top + height, left : left + width] = 1 + 3 * number
    return labels


def shaken(labels: np.ndarray, seed: int) -> np.ndarray:
    """Shift the labels and repaint some columns, so that many overlaps are partial."""
    rng = np.random.default_rng([seed, 1])
    moved = np.roll(labels, tuple(rng.integers(-1, 2, 2)), (0, 1))
    moved[:, rng.integers(0, labels.shape[1])] = rng.integers(0, 5)
    return moved


def iou_by_masks(truth: np.ndarray, predicted: np.ndarray) -> dict[tuple[int, int], float]:
    found = {}
    for a in np.unique(truth[truth > 0]):
        for b in np.unique(predicted[predicted > 0]):
            shared = np.count_nonzero((truth == a) & (predicted == b))
            if shared:
                found[int(a), int(b)] = shared / np.count_nonzero((truth == a) | (predicted == b))
    return found


def best_by_trying(pairs: dict[tuple[int, int], float], threshold: float) -> tuple[int, float]:
    """The most pairs without a shared partner, and the largest sum of IoU of that many."""
    good = [pair for pair, iou in pairs.items() if iou >= threshold]
    for count in range(len(good), 0, -1):
        sums = [
            sum(pairs[pair] for pair in chosen)
            for chosen in itertools.combinations(good, count)
            if len({a for a, _ in chosen}) == len({b for _, b in chosen}) == count
        ]
        if sums:
            return count, max(sums)
    return 0, 0.0


def test_score_by_hand() -> None:
    scores = score(TRUTH, PREDICTED, (0.3, 0.5, 0.7, 0.75, 0.8))
    assert scores.tp.tolist() == [3, 2, 1, 1, 0]
    assert scores.fp.tolist() == scores.fn.tolist() == [0, 1, 2, 2, 3]
    assert scores.ap.tolist() == [1, 2 / 4, 1 / 5, 1 / 5, 0]
    assert scores.precision.tolist() == scores.recall.tolist() == [1, 2 / 3, 1 / 3, 1 / 3, 0]
    assert scores.f1 == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3, 0])
    assert scores.mean_matched_iou == pytest.approx([(3 / 4 + 2 / 3 + 1 / 3) / 3, (3 / 4 + 2 / 3) / 2, 3 / 4, 3 / 4, 0])


def test_precision_and_recall_are_told_apart() -> None:
    scores = score(np.array([[1, 1, 0, 0]]), np.array([[1, 1, 2, 3]]), (0.5,))
    assert (scores.tp, scores.fp, scores.fn) == ([1], [2], [0])
    assert (scores.precision, scores.recall, scores.f1) == ([1 / 3], [1], [2 / 4])


def test_an_iou_of_exactly_the_threshold_counts() -> None:
    truth, predicted = np.array([[1, 1, 1, 1, 1]]), np.array([[1, 1, 1, 0, 0]])
    assert score(truth, predicted, (0.6,)).tp == [1]


def test_two_halves_match_once_at_one_half() -> None:
    scores = score(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]]), (0.5,))
    assert (scores.tp, scores.fp, scores.fn) == ([1], [1], [0])


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("threshold", [0.05, 0.25, 0.5, 0.8])
def test_against_masks_and_trying_everything(seed: int, threshold: float) -> None:
    truth = blobs(seed)
    predicted = shaken(truth, seed) if seed % 2 else blobs(seed + 1000, most=4)
    pairs = iou_by_masks(truth, predicted)
    count, total = best_by_trying(pairs, threshold)

    table = contingency_table(truth, predicted)
    ids = zip(table.truth_ids[table.truth_index], table.predicted_ids[table.predicted_index], strict=True)
    assert dict(zip(ids, table.iou, strict=True)) == pairs
    matches = match(truth, predicted, threshold)
    assert len(matches.iou) == count
    assert matches.iou.sum() == pytest.approx(total)
    for a, b, iou in zip(matches.truth_ids, matches.predicted_ids, matches.iou, strict=True):
        assert pairs[int(a), int(b)] == iou
    scores = score(truth, predicted, (threshold,))
    assert scores.tp == [count]
    assert scores.fp == [len(np.unique(predicted[predicted > 0])) - count]
    assert scores.fn == [len(np.unique(truth[truth > 0])) - count]


@pytest.mark.parametrize("seed", range(10))
def test_labels_may_be_renamed(seed: int) -> None:
    truth, predicted = blobs(seed), shaken(blobs(seed), seed)
    names = np.random.default_rng(seed).permutation(np.arange(1, 100))
    renamed = np.concatenate([[0], names])[predicted]
    one, other = score(truth, predicted, (0.2, 0.5)), score(truth, renamed, (0.2, 0.5))
    assert one.tp.tolist() == other.tp.tolist()
    assert one.iou_sum == pytest.approx(other.iou_sum)


@pytest.mark.parametrize("seed", range(10))
def test_swapping_swaps_misses_and_false_alarms(seed: int) -> None:
    truth, predicted = blobs(seed), shaken(blobs(seed), seed)
    one, other = score(truth, predicted, (0.2, 0.5)), score(predicted, truth, (0.2, 0.5))
    assert one.fp.tolist() == other.fn.tolist()
    assert one.fn.tolist() == other.fp.tolist()
    assert one.ap.tolist() == other.ap.tolist()


def test_identical_labels_score_one() -> None:
    scores = score(TRUTH, TRUTH)
    assert scores.thresholds == THRESHOLDS
    for ratio in (scores.ap, scores.precision, scores.recall, scores.f1, scores.mean_matched_iou):
        assert ratio.tolist() == [1.0] * 10


def test_nothing_against_nothing_scores_one() -> None:
    scores = score(EMPTY, EMPTY, (0.5,))
    for ratio in (scores.ap, scores.precision, scores.recall, scores.f1, scores.mean_matched_iou):
        assert ratio.tolist() == [1.0]


@pytest.mark.parametrize(("truth", "predicted"), [(TRUTH, EMPTY), (EMPTY, TRUTH)])
def test_nothing_against_something_scores_zero(truth: np.ndarray, predicted: np.ndarray) -> None:
    scores = score(truth, predicted, (0.5,))
    for ratio in (scores.ap, scores.precision, scores.recall, scores.f1, scores.mean_matched_iou):
        assert ratio.tolist() == [0.0]


def test_images_without_pixels_score_one() -> None:
    assert score(np.zeros((0, 4), np.int32), np.zeros((0, 4), np.int32), (0.5,)).ap == [1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_any_integer_type(dtype: type) -> None:
    assert score(TRUTH.astype(dtype), PREDICTED, (0.5,)).tp == [2]
    assert match(TRUTH.astype(dtype), PREDICTED, 0.5).truth_ids.dtype == dtype


def test_huge_labels() -> None:
    huge = TRUTH.astype(np.uint64) * np.uint64(2**62)
    assert contingency_table(huge, PREDICTED).truth_ids.tolist() == [2**62, 2**63, 3 * 2**62]
    assert score(huge, PREDICTED, (0.5,)).tp == [2]
    full = np.where(TRUTH == 0, np.uint64(9), huge)  # no background at all
    assert contingency_table(full, PREDICTED).truth_ids.tolist() == [9, 2**62, 2**63, 3 * 2**62]
    assert score(huge, PREDICTED, (0.5,), ignored=TRUTH == 1).tp == [1]


def test_many_instances_in_a_small_image() -> None:
    labels = np.arange(1, 10_001).reshape(100, 100)  # the table of all pairs would have 10^8 entries
    assert score(labels, labels[::-1, ::-1] * 1000, (0.5,)).ap == [1]


# Truth 1 has 2 pixels, truth 2 has 4.
SMALL_AND_LARGE = np.array([[1, 1, 0, 0, 2, 2, 2, 2]])


@pytest.mark.parametrize(
    ("predicted", "tp", "fp", "fn"),
    [
        ([[0, 0, 0, 0, 5, 5, 5, 5]], 1, 0, 0),  # the small one is not missed
        ([[6, 6, 0, 0, 5, 5, 5, 5]], 1, 0, 0),  # nor is a prediction on it wrong
        ([[6, 6, 6, 0, 5, 5, 5, 5]], 1, 0, 0),  # 2 of its 3 pixels: more than half
        ([[6, 6, 6, 6, 5, 5, 5, 5]], 1, 1, 0),  # 2 of 4 is half, not more
        ([[0, 0, 6, 6, 5, 5, 5, 5]], 1, 1, 0),
        ([[0, 6, 6, 6, 6, 6, 6, 6]], 1, 0, 0),  # 4 of 7 on the large one
        ([[6, 6, 0, 0, 0, 0, 0, 0]], 0, 0, 1),
    ],
)
def test_small_truth_is_taken_out(predicted: list[list[int]], tp: int, fp: int, fn: int) -> None:
    scores = score(SMALL_AND_LARGE, np.array(predicted), (0.5,), min_truth_size=3)
    assert (scores.tp, scores.fp, scores.fn) == ([tp], [fp], [fn])


def test_truth_of_the_least_size_stays() -> None:
    assert score(SMALL_AND_LARGE, EMPTY[:1].repeat(2, 1), (0.5,), min_truth_size=2).fn == [2]
    assert score(SMALL_AND_LARGE, EMPTY[:1].repeat(2, 1), (0.5,), min_truth_size=5).ap == [1]


def test_a_prediction_across_two_small_ones_is_excused() -> None:
    truth, predicted = np.array([[1, 1, 2, 2, 0, 0, 0]]), np.array([[9, 9, 9, 9, 9, 9, 9]])
    assert score(truth, predicted, (0.5,), min_truth_size=3).fp == [0]


def test_ignored_pixels_leave_the_truth() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2]])
    predicted = np.array([[0, 0, 3, 3, 0, 4, 4]])
    ignored = np.array([[False, False, True, True, False, False, False]])
    scores = score(truth, predicted, (0.5,), ignored=ignored)
    assert (scores.tp, scores.fp, scores.fn) == ([1], [0], [1])  # of truth 1, two pixels are left
    smaller = score(truth, predicted, (0.5,), ignored=ignored, min_truth_size=3)
    assert (smaller.tp, smaller.fp, smaller.fn) == ([0], [0], [0])  # all is too small, all predictions excused


def test_ignoring_nothing_changes_nothing() -> None:
    scores = score(TRUTH, PREDICTED, (0.5,), ignored=TRUTH > 99)
    assert (scores.tp, scores.fp, scores.fn) == ([2], [1], [1])


def test_average_weighs_images_and_pool_weighs_instances() -> None:
    good = score(SMALL_AND_LARGE, SMALL_AND_LARGE, (0.5, 0.9))  # 2 right
    bad = score(np.array([[1]]), np.array([[0]]), (0.5, 0.9))  # 1 missed
    none = score(EMPTY, EMPTY, (0.5, 0.9))
    mean = macro_average([good, bad, none])
    assert mean.thresholds == (0.5, 0.9)
    assert mean.images == 3
    assert mean.ap == pytest.approx([2 / 3, 2 / 3])
    assert mean.mean_matched_iou == pytest.approx([2 / 3, 2 / 3])
    pooled = micro_average([good, bad, none])
    assert pooled.tp.tolist() == [2, 2]
    assert pooled.ap == pytest.approx([2 / 3, 2 / 3])
    assert pooled.recall == pytest.approx([2 / 3, 2 / 3])
    assert pooled.precision.tolist() == pooled.mean_matched_iou.tolist() == [1, 1]
    assert macro_average([good, good, bad]).ap == pytest.approx([2 / 3, 2 / 3])
    assert micro_average([good, good, bad]).ap == pytest.approx([4 / 5, 4 / 5])


@pytest.mark.parametrize(
    ("truth", "predicted", "options", "message"),
    [
        (TRUTH, TRUTH[:2], {}, r"shape \(3, 4\), the prediction of \(2, 4\)"),
        (TRUTH.astype(np.float32), TRUTH, {}, "the truth is of type float32, expected integer"),
        (TRUTH, -TRUTH, {}, "the prediction has the label -3"),
        (TRUTH, TRUTH, {"thresholds": (0.0,)}, "threshold is 0.0, expected above 0"),
        (TRUTH, TRUTH, {"thresholds": (1.5,)}, "threshold is 1.5, expected above 0"),
        (TRUTH, TRUTH, {"ignored": TRUTH[:2] > 0}, r"ignored is of shape \(2, 4\)"),
    ],
)
def test_mistakes_are_named(truth: np.ndarray, predicted: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(InstsegError, match=message):
        score(truth, predicted, **options)


@pytest.mark.parametrize("summary", [macro_average, micro_average])
def test_summaries_need_scores_of_the_same_thresholds(summary) -> None:
    with pytest.raises(InstsegError, match="got no scores"):
        summary([])
    with pytest.raises(InstsegError, match=r"\[0.5\] and \[0.6\]"):
        summary([score(TRUTH, TRUTH, (0.5,)), score(TRUTH, TRUTH, (0.6,))])


# What another implementation says: stardist.matching 0.9.2, by tests/stardist/make.py

STARDIST = Path(__file__).parent / "stardist"
NAMES = {
    "tp": "tp",
    "fp": "fp",
    "fn": "fn",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "ap",
    "f1": "f1",
    "mean_matched_score": "mean_matched_iou",
    "panoptic_quality": "pq",
}


def test_figures_are_those_of_stardist():
    figures = json.loads((STARDIST / "figures.json").read_text())
    scores = [
        score(read_labels(STARDIST / f"{number}-truth.png"), read_labels(STARDIST / f"{number}-predicted.png"))
        for number in range(len(figures["images"]))
    ]
    assert len(scores) == 5
    for ours, theirs in zip([*scores, micro_average(scores)], [*figures["images"], figures["pooled"]], strict=True):
        for name, own in NAMES.items():
            assert getattr(ours, own) == pytest.approx([one[name] for one in theirs], abs=1e-6), name
    mean = macro_average(scores)
    for name in ("precision", "recall", "accuracy", "f1", "panoptic_quality", "mean_matched_score"):
        assert getattr(mean, NAMES[name]) == pytest.approx([one[name] for one in figures["per_image"]], abs=1e-6), name


def test_ignored_pixels_of_the_truth_do_not_count() -> None:
    truth = np.array([[1, 1, 1, 1, -1, -1, -1, 0, 2, 2]])
    #                 IoU 1 of what is left; mainly on ignored pixels; missed.
    predicted = np.array([[3, 3, 3, 3, 3, 4, 4, 4, 0, 0]])
    scores = score(truth, predicted, (0.5, 0.95))
    assert (scores.tp.tolist(), scores.fp.tolist(), scores.fn.tolist()) == ([1, 1], [0, 0], [1, 1])
    assert scores.iou_sum.tolist() == [1, 1]
    nothing = score(np.full((2, 2), -1), np.ones((2, 2), int), (0.5,))
    assert (nothing.tp, nothing.fp, nothing.fn) == ([0], [0], [0])


def test_the_sum_of_nothing_has_no_ratios() -> None:
    none = score(EMPTY, EMPTY, (0.5,))
    assert none.ap == [1]
    pooled = micro_average([none, none])
    for ratio in (pooled.ap, pooled.precision, pooled.recall, pooled.f1, pooled.mean_matched_iou, pooled.pq):
        assert np.isnan(ratio).all()
    assert np.isnan(pooled.mean_ap)
    assert micro_average([none, score(EMPTY, TRUTH, (0.5,))]).ap == [0]
    assert macro_average([none, none]).ap == [1]
