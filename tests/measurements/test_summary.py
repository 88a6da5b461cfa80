"""Figures of an image, worked out by hand."""

import numpy as np

from instseg.measurements.summary import SUMMARY_COLUMNS, summarise


def test_figures_in_pixels_and_micrometres():
    figures = summarise(np.array([10, 30]), (20, 50), (2.0, 0.5))
    assert figures == {
        "height": 20,
        "width": 50,
        "count": 2,
        "density": 2000.0,
        "median_area": 20.0,
        "foreground_share": 0.04,
        "density_per_mm2": 2000.0,
        "median_area_um2": 20.0,
    }
    assert tuple(figures) == SUMMARY_COLUMNS


def test_nothing_to_take_a_median_of():
    figures = summarise(np.zeros(0, int), (20, 50), (1.0, 1.0))
    assert (figures["count"], figures["density"], figures["foreground_share"]) == (0, 0.0, 0.0)
    assert figures["median_area"] is figures["median_area_um2"] is None
    assert summarise(np.array([3]), (2, 2))["density_per_mm2"] is None
    empty = summarise(np.zeros(0, int), (0, 5), (1.0, 1.0))
    assert (empty["density"], empty["foreground_share"], empty["density_per_mm2"]) == (0, 0, 0)
