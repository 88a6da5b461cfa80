"""Polygons: by hand, and painted back."""

import numpy as np
import pytest

from instseg.labels.polygons import polygons

RING = np.array(
    [
        [5, 5, 5, 0],
        [5, 0, 5, 0],
        [5, 5, 5, 2],
    ]
)


def inside(ring, shape):
    """Which pixel centres lie in a ring, by the even-odd rule."""
    rows, columns = np.indices(shape) + 0.5
    crossed = np.zeros(shape, int)
    for (x, y), (_, other) in zip(ring, np.roll(ring, -1, 0), strict=True):
        crossed += (min(y, other) < rows) & (rows < max(y, other)) & (x > columns)
    return crossed % 2 == 1


def painted(traced, shape):
    labels = np.zeros(shape, int)
    for polygon in traced:
        mask = inside(polygon.outer, shape)
        for hole in polygon.holes:
            mask &= ~inside(hole, shape)
        assert not labels[mask].any()
        labels[mask] = polygon.label
    return labels


def test_a_ring_has_a_hole():
    ring, single = sorted(polygons(RING), key=lambda polygon: -polygon.label)
    assert (ring.label, single.label) == (5, 2)
    assert ring.outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert [sorted(hole.tolist()) for hole in ring.holes] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]
    assert single.outer.tolist() == [[3, 2], [4, 2], [4, 3], [3, 3]]


def test_pieces_that_touch_at_a_corner_are_polygons_of_their_own():
    traced = polygons(np.array([[3, 0], [0, 3]]))
    assert [polygon.label for polygon in traced] == [3, 3]
    assert sorted(polygon.outer.tolist() for polygon in traced) == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]


def test_a_hole_that_touches_the_outside_at_a_corner():
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    (polygon,) = traced = polygons(labels)
    assert np.array_equal(painted(traced, labels.shape), labels)
    assert sorted(polygon.outer.tolist()) == [[0, 0], [0, 3], [2, 2], [2, 3], [3, 0], [3, 2]]
    assert [sorted(hole.tolist()) for hole in polygon.holes] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]


@pytest.mark.parametrize("seed", range(10))
def test_polygons_are_valid_as_other_programs_have_it(seed):
    shapely = pytest.importorskip("shapely")
    labels = np.random.default_rng(seed).integers(0, 3, (14, 11)) > 0
    for polygon in polygons(labels.astype(int)):
        shape = shapely.Polygon(polygon.outer, polygon.holes)
        assert shape.is_valid, shapely.is_valid_reason(shape)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_traced_is_what_is_painted(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (11, 9)) * rng.choice([1, 1000])
    if seed % 2:
        labels = labels.repeat(2, 0).repeat(3, 1)
    assert np.array_equal(painted(polygons(labels), labels.shape), labels)


def test_nothing_has_no_outline():
    assert polygons(np.zeros((3, 4), int)) == []
    assert len(polygons(np.ones((3, 4), int))) == 1
