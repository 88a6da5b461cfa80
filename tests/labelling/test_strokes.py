import numpy as np
import pytest

from instseg.labelling.strokes import brush_pixels, line_pixels


def drawn(line, shape):
    picture = np.zeros(shape, int)
    picture[line.rows, line.columns] = 1
    return picture.tolist()


def test_a_line_is_connected_and_ordered():
    line = line_pixels(np.array([[0.5, 0.5], [2.5, 4.5]]), (3, 5))
    assert line.columns.tolist() == [0, 1, 2, 3, 4]
    assert drawn(line, (3, 5)) == [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_lines_have_no_gaps(seed):
    points = np.random.default_rng(seed).integers(-10, 210, (6, 2)) / 2
    line = line_pixels(points + 20, (200, 200))
    steps = np.abs(np.diff(np.stack([line.rows, line.columns]), axis=1))
    assert steps.max() == 1
    inside = line_pixels(points, (100, 100))
    assert (inside.rows < 100).all()
    assert (inside.rows >= 0).all()


def test_pixels_outside_are_left_out():
    line = line_pixels(np.array([[1.5, -3.0], [1.5, 9.0]]), (3, 4))
    assert line.rows.tolist() == [1] * 4
    assert line.columns.tolist() == [0, 1, 2, 3]
    assert line.directions.tolist() == [[0, 1]] * 4


def test_a_point_is_a_pixel():
    line = line_pixels(np.array([[1.9, 2.1]]), (3, 4))
    assert (line.rows.tolist(), line.columns.tolist()) == ([1], [2])


def test_a_brush_paints_a_disc():
    region = brush_pixels(np.array([[2.5, 2.5]]), 1.5, (9, 9))
    assert (region.top, region.left) == (1, 1)
    assert region.mask.all()
    assert region.mask.shape == (3, 3)


def test_a_brush_follows_the_line():
    region = brush_pixels(np.array([[1.5, 1.5], [1.5, 5.5], [4.5, 5.5]]), 1.0, (9, 9))
    picture = np.zeros((9, 9), int)
    picture[region.window] = region.mask
    assert picture[:6, :8].tolist() == [
        [0, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
    ]


def test_long_strokes_are_those_of_their_parts():
    points = np.array([[3.0, 2.0], [90.0, 70.0]])
    whole = brush_pixels(points, 4.0, (100, 100))
    steps = points[0] + (points[1] - points[0]) * np.linspace(0, 1, 7)[:, None]
    parts = brush_pixels(steps, 4.0, (100, 100))
    assert (whole.top, whole.left) == (parts.top, parts.left)
    assert np.array_equal(whole.mask, parts.mask)


def test_the_thinnest_brush_paints_the_line():
    region = brush_pixels(np.array([[0.0, 0.0], [0.0, 3.0]]), 0.1, (4, 4))
    assert region.mask.tolist() == [[True] * 4]


@pytest.mark.parametrize("points", [[[-20.0, -20.0]], [[50.0, 2.0], [60.0, 2.0]]])
def test_strokes_outside_have_no_pixels(points):
    assert brush_pixels(np.array(points), 3.0, (9, 9)).mask.size == 0
