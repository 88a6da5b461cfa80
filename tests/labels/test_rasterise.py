"""Outlines to pixels, against the rule written down pixel by pixel."""

import numpy as np
import pytest

from instseg.labels.polygons import polygons
from instseg.labels.rasterise import EMPTY, Region, crop, fill_polygon, fill_runs, union

HOLED = [np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]]), np.array([[1.0, 1], [1, 3], [3, 3], [3, 1]])]


def painted(region, shape):
    labels = np.zeros(shape, int)
    labels[region.window] = region.mask
    return labels


def slow(rings, shape):
    """Count for each centre the edges to the left of it, or through it."""
    inside = np.zeros(shape, int)
    for row in range(shape[0]):
        for column in range(shape[1]):
            x, y = column + 0.5, row + 0.5
            crossed = 0
            for ring in rings:
                for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
                    if y0 > y1:
                        x0, y0, x1, y1 = x1, y1, x0, y0
                    crossed += y0 <= y < y1 and x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x
            inside[row, column] = crossed % 2
    return inside


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("whole", [False, True])
def test_pixels_are_those_whose_centres_are_inside(seed, whole):
    rng = np.random.default_rng(seed)
    rings = [rng.uniform(-5, 20, (rng.integers(3, 9), 2)) for _ in range(rng.integers(1, 4))]
    if whole:
        # Halves lie on centres.
        rings = [np.round(ring * 2) / 2 for ring in rings]
    shape = (13, 15)
    np.testing.assert_array_equal(painted(fill_polygon(rings, shape), shape), slow(rings, shape))


def test_a_hole_is_one_whichever_way_it_goes_round():
    expected = np.pad([[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]], ((0, 1), (0, 1)))
    for rings in (HOLED, [HOLED[0], HOLED[1][::-1]]):
        np.testing.assert_array_equal(painted(fill_polygon(rings, (5, 5)), (5, 5)), expected)


def test_a_ring_that_crosses_itself_leaves_out_what_it_goes_round_twice():
    star = np.array([[5 + 5 * np.sin(0.8 * np.pi * i), 5 - 5 * np.cos(0.8 * np.pi * i)] for i in range(5)])
    region = painted(fill_polygon([star], (10, 10)), (10, 10))
    assert region[5, 5] == 0
    assert region.sum() > 10


def test_polygons_that_share_an_edge_share_no_pixel_and_leave_none_out():
    rng = np.random.default_rng(3)
    middle, corners = rng.uniform(3, 7, 2), np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    triangles = [np.array([middle, one, other]) for one, other in zip(corners, np.roll(corners, -1, 0), strict=True)]
    assert (sum(painted(fill_polygon([triangle], (10, 10)), (10, 10)) for triangle in triangles) == 1).all()


def test_painting_the_outlines_of_labels_gives_them_back():
    labels = np.random.default_rng(0).integers(0, 4, (20, 30))
    again = np.zeros_like(labels)
    for polygon in polygons(labels):
        region = fill_polygon([ring.astype(float) for ring in polygon.rings], labels.shape)
        again[region.window][region.mask] += polygon.label
    np.testing.assert_array_equal(again, labels)


def test_what_covers_no_centre_is_empty():
    for ring in ([[0.6, 0.6], [0.9, 0.6], [0.9, 0.9]], [[30, 30], [40, 30], [40, 40]], [[-9, -9], [-1, -9], [-1, -1]]):
        assert fill_polygon([np.array(ring, float)], (10, 10)).mask.size == 0
    assert fill_polygon([], (10, 10)) is EMPTY
    assert fill_polygon([np.array([[1.0, 1], [5, 5]])], (10, 10)).mask.size == 0


def test_edges_far_outside_of_the_image_are_clipped():
    region = fill_polygon([np.array([[-1e8, -1e8], [1e8, -1e8], [1e8, 1e8], [-1e8, 1e8]])], (3, 4))
    assert region.mask.shape == (3, 4)
    assert region.mask.all()


@pytest.mark.parametrize("table", [0, 1000])
def test_many_edges_come_in_portions(monkeypatch, table):
    monkeypatch.setattr("instseg.labels.rasterise._MOST_CROSSINGS", 3)
    monkeypatch.setattr("instseg.labels.rasterise._LARGEST_TABLE", table)
    ring = np.random.default_rng(5).uniform(0, 12, (30, 2))
    np.testing.assert_array_equal(painted(fill_polygon([ring], (12, 12)), (12, 12)), slow([ring], (12, 12)))


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_runs_are_what_they_were_made_of(seed, by_columns):
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 9)) < (0.1, 0.5, 0.95)[seed % 3]
    flat = (mask.T if by_columns else mask).ravel()
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    np.testing.assert_array_equal(painted(fill_runs(counts, mask.shape, by_columns=by_columns), mask.shape), mask)


def test_runs_of_no_pixels_and_of_another_number():
    assert fill_runs(np.array([6]), (2, 3)).mask.size == 0
    assert fill_runs(np.array([0, 6]), (2, 3)).mask.all()
    np.testing.assert_array_equal(painted(fill_runs(np.array([1, 1, 0, 2, 2]), (2, 3)), (2, 3)), [[0, 1, 1], [1, 0, 0]])
    for counts in ([5], [1, 6], [-1, 7], []):
        with pytest.raises(ValueError, match="expected 2 x 3"):
            fill_runs(np.array(counts, np.int64), (2, 3))


def test_unions_and_cuts():
    one = Region(1, 1, np.ones((2, 2), bool))
    other = Region(0, 2, np.ones((2, 2), bool))
    np.testing.assert_array_equal(
        painted(union([one, EMPTY, other]), (3, 4)), [[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0]]
    )
    assert union([]) is EMPTY
    assert union([EMPTY, one]) is one
    assert crop(Region(0, 0, np.zeros((3, 3), bool))) is EMPTY
