"""Instances that are left out once they are known."""

import numpy as np
import pytest

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.filters import count_doubtful, filter_instances, kept_instances
from instseg.clustering.instances import Instances
from instseg.errors import UsageError
from instseg.settings import FilterSettings

FOUR = Instances(
    label=np.array([1, 2, 5, 6], np.int32),
    score=np.array([0.9, 0.5, 0.2, 1.0]),
    area=np.array([4, 50, 51, 7]),
    centroid=np.zeros((4, 2)),
    bbox=np.array([[0, 1, 2, 3], [1, 1, 9, 9], [2, 2, 10, 9], [3, 3, 9, 8]]),
    class_names=("a", "b"),
    class_probabilities=np.array([[1, 0], [0, 1], [1, 0], [0, 1]]),
)


@pytest.mark.parametrize(
    ("filters", "labels"),
    [
        ({}, [1, 2, 5, 6]),
        ({"max_size": 50}, [1, 2, 6]),
        ({"min_score": 0.5}, [1, 2, 6]),
        ({"exclude_border": True}, [2, 6]),
        ({"max_size": 10, "exclude_border": True, "min_score": 0.95}, [6]),
        ({"max_size": 1}, []),
    ],
)
def test_what_is_kept(filters, labels):
    settings = FilterSettings(**filters)
    assert FOUR.label[kept_instances(FOUR, settings, (10, 12))].tolist() == labels
    assert settings.active == bool(filters)


def test_doubtful_are_those_that_the_model_leaves_out_by_itself():
    calibration = ScoreCalibration(min_score=0.6)
    assert count_doubtful(FOUR, FilterSettings(max_size=1), calibration) == 2
    assert count_doubtful(FOUR, FilterSettings(min_score=0.6), calibration) == 0
    assert count_doubtful(FOUR, FilterSettings(), ScoreCalibration()) == 0
    assert count_doubtful(FOUR, FilterSettings(), None) == 0


def test_the_others_are_numbered_anew_in_their_order():
    instances, label_of = filter_instances(FOUR, FilterSettings(min_score=0.5), (10, 10), 7)
    assert label_of.tolist() == [0, 1, 2, 0, 0, 0, 3, 0]
    assert instances.label.tolist() == [1, 2, 3]
    assert instances.area.tolist() == [4, 50, 7]
    assert instances.classes == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"max_size": 0}, "max_size is 0, expected a number above 0"),
        ({"min_score": 1.5}, "min_score is 1.5, expected a score from 0 to 1"),
        ({"min_score": -0.1}, "min_score is -0.1"),
        ({"min_score": float("nan")}, "min_score is nan"),
    ],
)
def test_filters_out_of_range_are_refused(filters, message):
    with pytest.raises(UsageError, match=message):
        FilterSettings(**filters)
