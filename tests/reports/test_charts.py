"""Charts as SVG: what they show, in marks and in words."""

import re

import numpy as np
import pytest

from instseg.reports.charts import histogram, line_chart


def test_the_bars_of_a_histogram_count_all_values():
    values = np.concatenate([np.arange(1, 101), [np.nan, np.inf]])
    chart = histogram(values, "Size", "pixels")
    assert sum(int(amount) for amount in re.findall(r"<title>[^<]*: (\d+)</title>", chart)) == 100
    assert 'aria-label="Size: 100 objects, median 50.5, 5th and 95th percentile 5.95 and 95"' in chart


@pytest.mark.parametrize(("values", "ticks"), [([1, 10_000], "10,000"), ([0, 10_000], "2,000")])
def test_a_histogram_is_logarithmic_where_values_differ_by_much(values, ticks):
    assert f">{ticks}</text>" in histogram(np.array(values), "a", "b")
    assert (">100</text>" in histogram(np.array(values), "a", "b")) == (values[0] > 0)


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_nothing_to_draw(values):
    assert "There is nothing to show." in histogram(np.array(values), "a", "b")
    assert "There is nothing to show." in line_chart({"x": [(0, np.nan)]}, "a", "b")
    assert "There is nothing to show." in line_chart({"x": [(1, 0.0)]}, "a", "b", log_y=True)


def test_one_value_and_one_point_are_drawn():
    assert re.findall(r"<title>[^<]*: (\d+)</title>", histogram(np.array([5, 5]), "a", "b")) == ["2"]
    assert line_chart({"x": [(3, 2)]}, "a", "b").count("<circle") == 1


def test_lines_have_their_points_and_their_names():
    chart = line_chart({"AP <50>": [(0, 0.5), (10, 1.0)], "F1": [(0, 0), (10, 0.5)]}, "Quality", "step", unit_y=True)
    lines = re.findall(r'<polyline points="([^"]*)"', chart)
    first, last = (tuple(map(float, point.split(","))) for point in lines[0].split())
    other = tuple(map(float, lines[1].split()[1].split(",")))
    assert first[0] < last[0] == other[0]
    assert last[1] < first[1] == other[1]
    assert "At step 10: AP &lt;50&gt; 1; F1 0.5" in chart
    assert "<50>" not in chart
