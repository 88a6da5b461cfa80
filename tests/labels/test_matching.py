"""Contingency tables and matches worked out by hand; scores compare them with a slow reference."""

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.labels import matching
from instseg.labels.matching import contingency_table, drop_ignored, match, matched_pairs

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


def test_contingency_table_by_hand() -> None:
    table = contingency_table(TRUTH, PREDICTED)
    assert table.truth_ids.tolist() == [1, 2, 3]
    assert table.predicted_ids.tolist() == [7, 8, 9]
    assert table.truth_areas.tolist() == [4, 2, 3]
    assert table.predicted_areas.tolist() == [3, 3, 1]
    assert table.truth_index.tolist() == table.predicted_index.tolist() == [0, 1, 2]
    assert table.intersection.tolist() == [3, 2, 1]
    assert table.iou.tolist() == [3 / 4, 2 / 3, 1 / 3]


def test_match_by_hand() -> None:
    matches = match(TRUTH, PREDICTED, 0.5)
    assert matches.truth_ids.tolist() == [1, 2]
    assert matches.predicted_ids.tolist() == [7, 8]
    assert matches.iou.tolist() == [3 / 4, 2 / 3]


def test_more_pairs_go_before_better_ones() -> None:
    # Greedy would give prediction 5 to truth 1 (IoU 4/7) and leave truth 2 alone (its only partner is 5).
    truth = np.array([[1] * 5 + [2] * 2])
    predicted = np.array([[6] * 1 + [5] * 6])
    np.testing.assert_allclose(sorted(contingency_table(truth, predicted).iou), [1 / 5, 2 / 6, 4 / 7])
    matches = match(truth, predicted, 0.2)
    assert list(zip(matches.truth_ids, matches.predicted_ids, strict=True)) == [(1, 6), (2, 5)]


def test_of_equal_numbers_the_larger_sum_of_iou_wins() -> None:
    truth, predicted = np.array([[1] * 10]), np.array([[4] * 3 + [5] * 4 + [6] * 3])
    assert match(truth, predicted, 0.1).predicted_ids.tolist() == [5]


def test_predictions_on_ignored_instances():
    table = contingency_table(np.array([[1, 1, 0, 2]]), np.array([[5, 5, 5, 6]]))
    assert table.ignored(np.array([True, False])).tolist() == [True, False]
    # Half of its pixels are not more than half.
    table = contingency_table(np.array([[1, 1, 0, 0]]), np.array([[5, 5, 5, 5]]))
    assert table.ignored(np.array([True])).tolist() == [False]


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.ones((2, 2), int), np.ones((2, 3), int), "expected the same shape"),
        (np.ones((2, 2)), np.ones((2, 2), int), "the truth is of type float64, expected integer labels"),
        (np.ones((2, 2), int), -np.ones((2, 2), int), "the prediction has the label -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, predicted, message):
    with pytest.raises(InstsegError, match=message):
        contingency_table(truth, predicted)


def test_predictions_mainly_on_ignored_pixels_are_left_out_and_others_lose_that_part():
    truth = np.array([[1, 1, -1, -1, -1, -1, 2, 2, 0]], np.int32)
    predicted = np.array([[7, 7, 7, 300, 300, 300, 300, 9, 300]], np.uint16)
    left_truth, left_predicted = drop_ignored(truth, predicted)
    assert left_truth.tolist() == [[1, 1, 0, 0, 0, 0, 2, 2, 0]]
    # 3 of 5 pixels of 300 are on ignored ones.
    assert left_predicted.tolist() == [[7, 7, 0, 0, 0, 0, 0, 9, 0]]
    assert (left_truth.dtype, left_predicted.dtype) == (np.int32, np.uint16)
    half = np.array([[0, 0, 5, 5, 0, 0, 5, 5, 0]])
    assert drop_ignored(truth, half)[1].tolist() == [[0, 0, 0, 0, 0, 0, 5, 5, 0]]


def test_without_ignored_pixels_nothing_is_copied():
    truth, predicted = np.array([[1, 0]]), np.array([[1, 1]])
    same = drop_ignored(truth, predicted)
    assert (same[0] is truth, same[1] is predicted) == (True, True)


def test_other_negative_labels_are_refused():
    with pytest.raises(InstsegError, match="the truth has the label -2"):
        drop_ignored(np.array([[-1, -2]]), np.array([[0, 0]]))
    with pytest.raises(InstsegError, match="expected the same shape"):
        drop_ignored(np.array([[-1, 0]]), np.array([[0]]))
    with pytest.raises(InstsegError, match="the prediction has the label -1"):
        drop_ignored(np.array([[-1, 0]]), np.array([[-1, 0]]))


@pytest.mark.parametrize(
    ("scores", "most", "best"),
    [
        ((0.7, 0.8, 0.6), [0, 2], [0, 2]),
        ((0.3, 0.9, 0.3), [0, 2], [1]),
        ((0.2, 0.8, 0.9), [2], [2]),
    ],
)
def test_the_most_pairs_or_the_largest_sum(scores, most, best):
    # The pairs of rows and columns 0-0, 0-1 and 1-1.
    rows, cols = np.array([0, 0, 1]), np.array([0, 1, 1])
    scores = np.array(scores)
    assert matched_pairs(rows, cols, scores, 0.25).tolist() == most
    assert matched_pairs(rows, cols, scores, 0.25, largest_sum=True).tolist() == best


def test_volumes_are_compared_as_images_are():
    truth, predicted = np.stack([TRUTH, 0 * TRUTH]), np.stack([PREDICTED, 0 * PREDICTED])
    flat, deep = contingency_table(TRUTH, PREDICTED), contingency_table(truth, predicted)
    assert deep.iou.tolist() == flat.iou.tolist()
    assert match(truth, predicted).predicted_ids.tolist() == match(TRUTH, PREDICTED).predicted_ids.tolist()


@pytest.mark.parametrize("largest", [3, 200, 2**40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (30, 40), (4, 9, 11)])
def test_parts_of_an_image_change_no_pair(monkeypatch, largest, shape):
    rng = np.random.default_rng(0)
    truth, predicted = (np.repeat(rng.integers(0, largest, shape), 3, axis=-1) for _ in range(2))
    truth[..., ::5] = 0
    whole = contingency_table(truth, predicted)
    assert whole.intersection.sum() == np.count_nonzero((truth > 0) & (predicted > 0))
    for chunk, part in ((1, 1), (7, 20), (2**16, 50)):
        monkeypatch.setattr(matching, "_CHUNK", chunk)
        monkeypatch.setattr(matching, "_PART", part)
        table = contingency_table(truth, predicted)
        for name in table.__slots__:
            np.testing.assert_array_equal(getattr(table, name), getattr(whole, name))
