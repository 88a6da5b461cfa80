"""Figures of single images and of several, by hand."""

import dataclasses

import numpy as np
import pytest

from instseg.clustering.instances import Instances
from instseg.errors import InstsegError
from instseg.evaluation.results import Evaluation, drop_small_truth, evaluate_image

TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3]])
# IoU 3/4 with 1, 1 with 2, nothing of 3, and one that is nowhere.
PREDICTED = np.array([[7, 7, 7, 0, 0, 5, 5, 9, 0]])


def test_an_image_by_hand():
    result = evaluate_image("a", TRUTH, PREDICTED)
    assert (result.truth, result.predicted) == (3, 3)
    # Two of four up to 0.75, one of five above.
    assert result.scores.ap.tolist() == [0.5] * 6 + [0.2] * 4
    assert result.scores.mean_ap == pytest.approx((6 * 0.5 + 3 * 0.2) / 9)
    assert result.scores.pq[0] == pytest.approx((0.75 + 1) / (2 + 0.5 + 0.5))
    assert result.errors == {"false_negatives": 1, "false_positives": 1, "splits": 0, "merges": 0}
    assert result.row()["ap75"] == 0.5
    assert result.row()["ap80"] == 0.2


def test_pooled_and_averaged_are_different_things():
    evaluation = Evaluation(
        images=(evaluate_image("a", TRUTH, PREDICTED), evaluate_image("b", TRUTH[:, 5:7], TRUTH[:, 5:7]))
    )
    assert evaluation.per_image.ap[0] == pytest.approx((0.5 + 1) / 2)
    assert evaluation.pooled.ap[0] == pytest.approx(3 / 5)
    assert evaluation.count_error == {"bias": 0.0, "absolute": 0.0}
    assert [image.name for image in evaluation.worst(5)] == ["a", "b"]


def test_scores_are_ranked_by_hand():
    results = [evaluate_image("a", TRUTH, PREDICTED, instances=confident([0.9, 0.7, 0.8]))]
    # Of 5, 7 and 9 only the last is wrong: 0.8, between the two that are right.
    assert Evaluation(images=tuple(results)).auroc == 0.5
    results.append(evaluate_image("b", TRUTH, TRUTH, instances=confident([0.9, 0.9, 0.9])))
    assert Evaluation(images=tuple(results)).auroc == 4 / 5
    assert Evaluation(images=tuple(results[1:])).auroc is None
    assert Evaluation(images=(evaluate_image("a", TRUTH, PREDICTED),)).auroc is None
    small = evaluate_image("a", TRUTH, PREDICTED, min_truth_size=3, instances=confident([0.9, 0.7, 0.8]))
    assert small.confidence.tolist() == [0.7, 0.8]
    assert small.is_true_positive.tolist() == [True, False]


def confident(scores):
    ids = np.array([1, 2, 3]) if len(set(scores)) == 1 else np.array([5, 7, 9])
    return Instances(
        label=ids,
        score=np.array(scores),
        area=np.zeros(3, int),
        centroid=np.zeros((3, 2)),
        bbox=np.zeros((3, 4), int),
    )


def test_classes_are_scored_alone_by_hand():
    # Label 1 is x and found as x, 2 is x and found as y, 3 is y and missed; the false alarm is an x.
    probabilities = np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4]])
    plain = confident([0.9, 0.7, 0.8])
    instances = dataclasses.replace(plain, class_names=("x", "y"), class_probabilities=probabilities)
    result = evaluate_image("a", TRUTH, PREDICTED, instances=instances, classes={1: "x", 2: "x", 3: "y"})
    x, y = result.per_class["x"], result.per_class["y"]
    assert [int(value[0]) for value in (x.tp, x.fp, x.fn)] == [1, 1, 1]
    assert [int(value[0]) for value in (y.tp, y.fp, y.fn)] == [0, 1, 1]
    both = Evaluation(images=(result, result))
    assert int(both.per_class["x"].tp[0]) == 2
    assert both.to_dict()["classes"]["x"]["truth"] == 4
    assert both.to_dict()["classes"]["y"]["mean_ap"] == 0
    assert evaluate_image("a", TRUTH, PREDICTED, instances=plain).per_class == {}


def test_nothing_predicted_where_nothing_is_is_right_and_anything_else_wrong():
    nothing = np.zeros((2, 3), int)
    assert evaluate_image("a", nothing, nothing).scores.mean_ap == 1
    assert evaluate_image("a", nothing, nothing + 4).scores.mean_ap == 0
    assert evaluate_image("a", nothing + 4, nothing).scores.mean_ap == 0


def test_small_instances_do_not_count_and_neither_does_what_is_found_of_them():
    truth = np.array([[1, 1, 1, 0, 2, 0, 3, 0]])
    predicted = np.array([[5, 5, 5, 0, 6, 0, 0, 8]])
    result = evaluate_image("a", truth, predicted, min_truth_size=2)
    assert (result.truth, result.predicted) == (1, 2)
    assert result.errors == {"false_negatives": 0, "false_positives": 1, "splits": 0, "merges": 0}
    remaining = drop_small_truth(truth, predicted, 2)
    assert [labels.tolist() for labels in remaining] == [[[1, 1, 1, 0, 0, 0, 0, 0]], [[5, 5, 5, 0, 0, 0, 0, 8]]]


def test_numbers_of_labels_do_not_matter():
    big = np.where(TRUTH > 0, TRUTH + 2**30, 0)
    one, other = evaluate_image("a", TRUTH, PREDICTED).row(), evaluate_image("a", big, PREDICTED).row()
    assert one == other


def test_sizes_that_differ_are_told():
    with pytest.raises(InstsegError, match="the prediction of a is 1 x 2 pixels and its labels are 1 x 9"):
        evaluate_image("a", TRUTH, PREDICTED[:, :2])
