"""Points gathered part by part, and sums over groups, against the same of all at once."""

import numpy as np
import pytest

from instseg.clustering.embeddings import Embeddings
from instseg.clustering.points import CHUNK, GroupSums, Points, chunks, pixels_within


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_points_are_embeddings_and_weighted_positions(weight):
    values = np.random.default_rng(0).random((120, 150, 2)).astype(np.float32)
    maps = Embeddings(embeddings=values, foreground=np.ones((120, 150), np.float32), spacing=(2.0, 1.0))
    pixels = np.flatnonzero(np.random.default_rng(1).random((120, 150)) < 0.9)
    assert len(pixels) > CHUNK
    found = Points(maps, weight).all_of(pixels)
    row, column = np.divmod(pixels, 150)
    np.testing.assert_array_equal(found[:, :2], values[row, column])
    if weight:
        np.testing.assert_array_equal(found[:, 2:], np.stack([row, 0.5 * column], axis=1))
    else:
        assert found.shape[1] == 2


def test_sums_are_those_of_the_pixels_of_each_group():
    rng = np.random.default_rng(0)
    count = 3 * CHUNK + 5
    numbers = np.repeat(rng.integers(-1, 6, count // 10 + 1), 10)[:count]
    points, weights = rng.random((count, 3)).astype(np.float32), rng.random(count).astype(np.float32)
    sums = GroupSums(4)
    for part in chunks(np.arange(count)):
        sums.add(numbers[part], (points[part], weights[part]))
    totals, size = sums.finish(8)
    for group in range(8):
        own = numbers == group
        assert size[group] == own.sum()
        np.testing.assert_allclose(totals[group, :3], points[own].sum(axis=0, dtype=np.float64))
        np.testing.assert_allclose(totals[group, 3], weights[own].sum(dtype=np.float64))


def test_sums_of_nothing_are_zero():
    sums = GroupSums(2)
    sums.add(np.zeros(0, np.int32), (np.zeros((0, 2), np.float32),))
    totals, size = sums.finish(3)
    assert totals.tolist() == [[0, 0]] * 3
    assert size.tolist() == [0, 0, 0]


@pytest.mark.parametrize("parts", [np.s_[1:4, 2:5], np.s_[:, :], np.s_[0:1, 4:6], np.s_[2:2, 0:3]])
def test_pixels_of_a_part_are_positions_in_the_whole(parts):
    mask = np.random.default_rng(0).random((5, 6)) < 0.6
    inside = np.zeros_like(mask)
    inside[parts] = True
    np.testing.assert_array_equal(pixels_within(mask, parts), np.flatnonzero(mask & inside))


def test_pixels_of_a_part_of_a_volume_are_positions_in_the_whole():
    mask = np.random.default_rng(0).random((4, 5, 6)) < 0.6
    inside = np.zeros_like(mask)
    inside[1:3, 2:5, 1:4] = True
    np.testing.assert_array_equal(pixels_within(mask, np.s_[1:3, 2:5, 1:4]), np.flatnonzero(mask & inside))
