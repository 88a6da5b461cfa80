"""Settings from stored data: what is of another type or absurd is told in one line, whatever it is."""

import pytest

from instseg.errors import InstsegError
from instseg.settings import ClusterSettings, MetricLossSettings, ModelSettings, TrainSettings

GROUPS = [ClusterSettings, MetricLossSettings, ModelSettings, TrainSettings]

# What JSON can hold that no setting is.
ODD = [{}, {"a": [1]}, [[]], [[[]]], [None], [True], "\x1b[31m" * 1000, 10**300, -(10**300), float("nan"), float("inf")]


def error_of(group, values):
    with pytest.raises(InstsegError) as caught:
        group.from_dict(values)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize("group", GROUPS)
def test_stored_settings_are_read_back(group):
    settings = group()
    assert group.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("group", GROUPS)
def test_odd_values_are_refused_for_every_setting(group, odd):
    for name in group().to_dict():
        if (name, odd) in (("channel_choice", ODD[6]),):
            continue
        message = error_of(group, {name: odd})
        assert name in message


@pytest.mark.parametrize(
    ("group", "values", "expected"),
    [
        (ModelSettings, {"widths": [32, "64"]}, "ModelSettings value 'widths' is [32, '64'], expected a tuple of int"),
        (ModelSettings, {"widths": [32, True]}, "expected a tuple of int"),
        (ModelSettings, {"widths": []}, "widths is (), expected 1 to 12 numbers of channels"),
        (ModelSettings, {"widths": [8] * 13}, "expected 1 to 12 numbers of channels"),
        (ModelSettings, {"widths": [0]}, "numbers of channels from 1 to 65536"),
        (ModelSettings, {"class_names": [1]}, "expected a tuple of str"),
        (ModelSettings, {"channels": True}, "ModelSettings value 'channels' is True, expected a int"),
        (ModelSettings, {"channels": 2.0}, "expected a int"),
        (ModelSettings, {"channels": 10**9}, "channels is 1000000000, expected at most 65536"),
        (ModelSettings, {"diameter": "20"}, "'diameter' is '20', expected a float"),
        (ModelSettings, {"diameter_p95": [[[]]]}, "'diameter_p95' is [[[]]], expected a float or None"),
        (ModelSettings, {"diameter_p5": -1.0}, "diameter_p5 is -1.0, expected a number above 0"),
        (ModelSettings, {"scale": 1e30}, "scale is 1e+30, expected at most 1000"),
        (ModelSettings, {"largest_diameter": {}}, "'diameter_p95' is {}"),
        (ClusterSettings, {"method": "x" * 9999}, "expected one of fast, hdbscan"),
        (ClusterSettings, {"fill_holes": 1}, "expected a bool"),
        (ClusterSettings, {"x" * 9999: 1}, "expected method, "),
        (TrainSettings, {"precision": 16}, "'precision' is 16, expected a str or None"),
    ],
)
def test_what_was_given_and_what_was_expected_is_told(group, values, expected):
    assert expected in error_of(group, values)


def test_integers_stand_for_floats():
    assert ModelSettings.from_dict({"diameter": 20, "diameter_p5": 10}).diameter_p5 == 10
