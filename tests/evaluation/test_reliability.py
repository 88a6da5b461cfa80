"""Scores beside the share that is right, by hand."""

import numpy as np
import pytest

from instseg.clustering.instances import Instances
from instseg.evaluation.reliability import expected_calibration_error, matched_iou, reliability
from instseg.evaluation.results import Evaluation, evaluate_image

TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2, 0, -1, -1]])
# IoU 3/4 with 1, nothing of 2, and one on what is ignored.
PREDICTED = np.array([[7, 7, 7, 0, 5, 0, 0, 0, 9, 9]])
SCORES = [0.3, 0.85, 0.5]


def test_which_instances_count_and_what_they_match():
    counts, iou = matched_iou(TRUTH, PREDICTED, np.array([5, 7, 9]))
    assert counts.tolist() == [True, True, False]
    assert iou.tolist() == [0, 0.75]
    # The order is that of the labels as they are given.
    assert matched_iou(TRUTH, PREDICTED, np.array([9, 7, 5]))[1].tolist() == [0.75, 0]


def test_bins_by_hand():
    score = np.array([0.0, 0.09, 0.1, 0.55, 0.95, 1.0])
    bins = reliability(score, np.array([False, True, False, True, True, True]))
    assert [(one.low, one.instances, one.share_right) for one in bins] == [
        (0.0, 2, 0.5),
        (0.1, 1, 0.0),
        (0.5, 1, 1.0),
        (0.9, 2, 1.0),
    ]
    assert [one.mean_score for one in bins] == pytest.approx([0.045, 0.1, 0.55, 0.975])
    expected = (2 * 0.455 + 0.1 + 0.45 + 2 * 0.025) / 6
    assert expected_calibration_error(bins) == pytest.approx(expected)
    assert expected_calibration_error([]) is None


def test_an_evaluation_tells_it():
    instances = Instances(
        label=np.array([5, 7, 9], np.int32),
        score=np.array(SCORES),
        area=np.zeros(3, int),
        centroid=np.zeros((3, 2)),
        bbox=np.zeros((3, 4), int),
    )
    evaluation = Evaluation(images=(evaluate_image("a", TRUTH, PREDICTED, instances=instances),))
    assert evaluation.ece == pytest.approx((0.3 + 0.15) / 2)
    found = evaluation.to_dict()
    assert found["score_ece"] == evaluation.ece
    assert [one["share_right"] for one in found["score_reliability"]] == [0.0, 1.0]
    without = Evaluation(images=(evaluate_image("a", TRUTH, PREDICTED),))
    assert (without.ece, without.reliability) == (None, [])
    assert without.to_dict()["score_ece"] is None
