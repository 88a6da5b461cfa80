"""Scores that become probabilities, however few instances there are to learn from."""

import json

import numpy as np
import pytest

from instseg.clustering.calibration import MIN_INSTANCES, ScoreCalibration, ScoredImage, fit_score_calibration
from instseg.errors import InstsegError
from instseg.evaluation.reliability import expected_calibration_error, reliability

IDENTITY = ScoreCalibration()


def images_of(calibration, count=30, instances=60, seed=0):
    """Images of instances that are right as often as a calibration says."""
    rng = np.random.default_rng(seed)
    scores = [rng.beta(5, 2, instances) for _ in range(count)]
    return [ScoredImage(score, rng.random(instances) < calibration.apply(score)) for score in scores]


def error_of(score, is_right):
    return expected_calibration_error(reliability(score, is_right))


def test_by_hand():
    assert IDENTITY.apply([0.2, 0.5, 0.9]) == pytest.approx([0.2, 0.5, 0.9])
    # Odds of 1 to 4 and 4 to 1, squared and then doubled.
    double = ScoreCalibration(slope=2.0, intercept=float(np.log(2)))
    assert double.apply([0.2, 0.8]) == pytest.approx([2 / 18, 32 / 33])
    assert ScoreCalibration(slope=100, intercept=100).apply([0.0, 1.0]) == pytest.approx([0, 1])


@pytest.mark.parametrize("true", [IDENTITY, ScoreCalibration(slope=2.2, intercept=0.6), ScoreCalibration(intercept=-3)])
def test_scores_become_the_share_that_is_right_in_images_that_were_not_fitted(true):
    fitted = fit_score_calibration(images_of(true))
    score, is_right = (np.concatenate(arrays) for arrays in zip(*images_of(true, seed=1), strict=True))
    assert error_of(fitted.apply(score), is_right) < 0.04
    if true is not IDENTITY:
        assert error_of(score, is_right) > 0.1


@pytest.mark.parametrize("is_right", [[True] * 5, [False] * 5, [False, False, True, True, True]])
def test_five_instances_change_a_little_and_nothing_becomes_absurd(is_right):
    scores = np.array([0.9, 0.85, 0.8, 0.7, 0.6])
    fitted = fit_score_calibration([ScoredImage(scores, np.array(is_right))])
    found = fitted.apply(np.linspace(0, 1, 101))
    assert (np.diff(found) > 0).all()
    assert (fitted.apply(scores) > 0.1).all()
    assert (fitted.apply(scores) < 0.97).all()
    # It goes where the instances say.
    expected = np.mean(is_right) - np.mean(scores)
    assert (fitted.apply(scores).mean() - scores.mean()) * expected > 0


def test_even_scores_in_the_wrong_order_keep_their_order():
    scores = np.linspace(0.1, 0.9, 400)
    fitted = fit_score_calibration([ScoredImage(scores, scores < 0.5)])
    assert (np.diff(fitted.apply(scores)) > 0).all()


def test_without_an_instance_there_is_none():
    nothing = ScoredImage(np.zeros(0), np.zeros(0, bool))
    assert fit_score_calibration([]) is None
    assert fit_score_calibration([nothing, nothing]) is None


def test_images_of_much_lower_scores_are_unfamiliar():
    known = [ScoredImage(np.full(20, level), np.ones(20, bool)) for level in (0.85, 0.9, 0.93, 0.95)]
    fitted = fit_score_calibration(known)
    assert 0.5 < fitted.least_median < 0.8
    found = {level: fitted.is_unfamiliar(fitted.apply(np.full(20, level))) for level in (0.3, 0.5, 0.85, 0.99)}
    assert found == {0.3: True, 0.5: True, 0.85: False, 0.99: False}
    # Fewer say nothing, and neither does an image in which nothing is found.
    assert not fitted.is_unfamiliar(fitted.apply(np.full(MIN_INSTANCES - 1, 0.3)))
    assert not fitted.is_unfamiliar(np.zeros(0))
    # Half of them have to be low.
    mixed = np.repeat([0.3, 0.95], [4, 6])
    assert not fitted.is_unfamiliar(fitted.apply(mixed))


def test_one_image_says_little_of_others_and_images_of_few_instances_nothing():
    one = fit_score_calibration([ScoredImage(np.full(20, 0.9), np.ones(20, bool))])
    many = fit_score_calibration([ScoredImage(np.full(20, 0.9), np.ones(20, bool))] * 40)
    assert 0.3 < one.least_median < many.least_median < 0.9
    few = fit_score_calibration([ScoredImage(np.full(MIN_INSTANCES - 1, 0.9), np.ones(MIN_INSTANCES - 1, bool))])
    assert few.least_median is None
    assert not few.is_unfamiliar(np.full(20, 0.01))


def test_what_is_stored_comes_back():
    given = ScoreCalibration(slope=1.5, intercept=-0.25, least_median=0.7, min_score=0.3)
    assert ScoreCalibration.from_stored(json.loads(given.to_json())) == given
    assert ScoreCalibration.from_stored(None) is None
    # Models of earlier versions leave nothing out.
    assert ScoreCalibration.from_stored({"slope": 2.0, "intercept": 0.1, "least_median": None}).min_score == 0


@pytest.mark.parametrize(
    "stored",
    [
        [],
        "steep",
        {"slope": 0.0},
        {"slope": -1.0},
        {"slope": "steep"},
        {"intercept": 1e9},
        {"intercept": float("nan")},
        {"least_median": 2.0},
        {"min_score": 1.5},
        {"knots": [1, 2]},
    ],
)
def test_what_is_damaged_is_refused(stored):
    with pytest.raises(InstsegError):
        ScoreCalibration.from_stored(stored)
