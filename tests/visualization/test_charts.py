"""Charts: that any series can be drawn, and what is in the pictures."""

import math
import subprocess
import sys

import numpy as np
import pytest

from instseg.visualization.charts import line_chart

BLUE, ORANGE = (0, 114, 178), (213, 94, 0)
WHITE = 255
# Lines and dots end to the left of this column, where labels of a few letters begin.
LABELS_FROM = 918


def count(picture, colour):
    """The pixels of a colour, those that are smoothed at its borders not included."""
    return int((picture == colour).all(axis=2).sum())


def rows_of(picture, colour):
    """The rows in which the labels have a colour, smoothed or not."""
    ink = np.array(colour)
    paper = picture[:, LABELS_FROM:].astype(int)
    near = np.abs(paper - ink).sum(axis=2) < 150
    return np.flatnonzero(near.any(axis=1))


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "series",
    [
        {},
        {"empty": []},
        {"one": [(3, 0.5)]},
        {"one": [(0, 0.0)]},
        {"two at one x": [(5, 1.0), (5, 2.0)]},
        {"constant": [(0, 2.0), (1, 2.0), (2, 2.0)]},
        {"nan only": [(0, math.nan), (1, math.inf)]},
        {"nan x": [(math.nan, 1.0), (math.inf, 2.0), (1, 3.0)]},
        {"gap": [(0, 1.0), (1, math.nan), (2, 3.0), (3, 4.0)]},
        {"negative": [(0, -1.0), (1, -2.0)]},
        {"tiny": [(0, 1e-300), (1, 5e-324)], "huge": [(0, 1e300)]},
        {"all floats": [(0, -1.7e308), (1, 1.7e308)]},
        {"almost constant": [(0, 1e9), (1, 1e9 + 1e-6)]},
        {f"many {i}": [(0, 1.0), (1, i + 1.0)] for i in range(40)},
        {"a name " * 30: [(0, 1.0), (1, 2.0)]},
        {"$no_formula^": [(0, 1.0), (1, 2.0)]},
    ],
)
def test_any_series_gives_a_chart(series, log_y):
    picture = line_chart(series, title="Loss of $5", x_label="iteration", log_y=log_y)
    assert picture.dtype == np.uint8
    assert picture.shape == (540, 960, 3)
    assert (picture[0] == WHITE).all()
    # The title is there, and no label is cut off at the right edge.
    assert picture[:60].min() < 100
    assert (picture[:, -5:] == WHITE).all()


def test_each_line_has_its_colour():
    falling, rising = [(0, 9.0), (10, 1.0)], [(0, 1.0), (10, 9.0)]
    both = line_chart({"a": falling, "b": rising}, title="", x_label="")
    assert count(both, BLUE) > 300
    assert count(both, ORANGE) > 300
    assert count(line_chart({"a": falling}, title="", x_label=""), ORANGE) == 0


def test_missing_values_leave_a_gap():
    whole = [(float(x), 1.0 + x) for x in range(11)]
    gap = [(x, math.nan if 3 <= x <= 7 else y) for x, y in whole]
    with_gap, without = (line_chart({"a": points}, title="", x_label="") for points in (gap, whole))
    assert count(with_gap, BLUE) < 0.7 * count(without, BLUE)


def test_a_point_between_gaps_is_a_dot():
    lonely = [(0, 1.0), (1, math.nan), (2, 2.0), (3, math.nan), (4, 3.0)]
    nothing = [(x, math.nan) for x, _ in lonely]
    # Two dots of about 7 x 7 pixels; the third lies at the right edge, beside the label.
    dots, none = (line_chart({"a": points}, title="", x_label="") for points in (lonely, nothing))
    assert count(dots[:, :800], BLUE) > 2 * 10
    assert count(none[:, :800], BLUE) == 0


def test_labels_stand_at_the_ends_of_their_lines():
    picture = line_chart({"low": [(0, 5.0), (1, 0.0)], "high": [(0, 5.0), (1, 10.0)]}, title="", x_label="")
    assert rows_of(picture, ORANGE).max() < 100
    assert rows_of(picture, BLUE).min() > 400


def test_labels_of_equal_ends_do_not_overlap():
    picture = line_chart({"a": [(0, 0.0), (1, 5.0)], "b": [(0, 9.0), (1, 5.0)]}, title="", x_label="")
    blue, orange = rows_of(picture, BLUE), rows_of(picture, ORANGE)
    assert blue.min() > orange.max() or orange.min() > blue.max()


def test_the_same_series_give_the_same_picture():
    first, second = (line_chart({"a": [(0, 1.0), (1, 2.0)]}, title="t", x_label="x") for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_charts_change_nothing_of_the_process():
    code = """
import sys
from instseg.visualization.charts import line_chart
assert "matplotlib" not in sys.modules
import matplotlib
before = matplotlib.rcParams.copy()
line_chart({"a": [(0, 1.0), (1, 2.0)]}, title="t", x_label="x")
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)
