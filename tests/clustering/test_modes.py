"""The parts of the fast clustering, against the same thing done slowly."""

import numpy as np
import pytest

from instseg.clustering import modes, seeds
from instseg.clustering.assignment import Modes, Search, assign_again, assign_pixels, refined
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.modes import _suppress_seeds
from instseg.clustering.points import Points
from instseg.clustering.seeds import find_seeds, windows_of


def slow_merge(centres, bandwidth):
    remaining = []
    for index in range(len(centres)):
        if all(np.linalg.norm(centres[index] - centres[other]) >= bandwidth[other] for other in remaining):
            remaining.append(index)
    return remaining


@pytest.mark.parametrize("seed", range(30))
def test_merging_is_greedy_suppression_one_by_one(seed):
    rng = np.random.default_rng(seed)
    count, dimensions = int(rng.integers(1, 150)), int(rng.integers(1, 9))
    centres = rng.uniform(0, 10, (count, dimensions)).astype(np.float32)
    bandwidth = rng.choice(np.array([0.1, 1, 3, 6], np.float32), count)
    if seed % 3 == 0:  # Repeated places.
        centres = centres[rng.integers(0, count, count)]
    remaining = slow_merge(centres, bandwidth)
    assert _suppress_seeds(Modes(centres, bandwidth)).tolist() == remaining


def test_a_chain_of_seeds_keeps_every_second():
    centres = np.arange(9, dtype=np.float32)[:, None]
    assert _suppress_seeds(Modes(centres, np.full(9, 1.5, np.float32))).tolist() == [0, 2, 4, 6, 8]


def test_the_size_of_batches_changes_no_merge(monkeypatch):
    rng = np.random.default_rng(0)
    # A plateau, whose pairs do not fit, beside seeds that have none.
    centres = np.concatenate([rng.normal(0, 0.1, (300, 2)), rng.uniform(5, 50, (700, 2))]).astype(np.float32)
    centres = centres[rng.permutation(len(centres))]
    seeds = Modes(centres, rng.uniform(0.3, 0.8, len(centres)).astype(np.float32))
    whole = _suppress_seeds(seeds)
    assert 300 < len(whole) < 700
    for batch, pairs in ((8, 20), (64, 64), (2, 10_000)):
        monkeypatch.setattr(modes, "_BATCH", batch)
        monkeypatch.setattr(modes, "_MOST_PAIRS", pairs)
        np.testing.assert_array_equal(_suppress_seeds(seeds), whole)


def points_in_order(dimensions):
    """Points in the order of an image: of consecutive ones few modes are near, and some have none."""
    rng = np.random.default_rng(dimensions)
    centres = rng.uniform(0, 30, (40, dimensions)).astype(np.float32)
    points = rng.uniform(-10, 40, (500, dimensions)).astype(np.float32)
    points[:250] = centres[rng.integers(0, 40, 250)] + rng.normal(0, 0.5, (250, dimensions))
    return points[np.argsort(points[:, 0])], Modes(centres, rng.uniform(0.9, 1.1, 40).astype(np.float32))


def memberships(points, some):
    return 2.0 ** -np.square(np.linalg.norm(points[:, None] - some.centres, axis=2) / some.bandwidth)


def searched(points, some, threshold, size=500):
    """The mode of each point, of so many at once, 0 for noise and from 1 on."""
    search = Search(some, threshold)
    parts = [search(points[start : start + size], threshold) for start in range(0, len(points), size)]
    index, is_member = (np.concatenate(values) for values in zip(*parts, strict=True))
    return np.where(is_member, index + 1, 0)


@pytest.mark.parametrize("size", [1, 7, 100, 500])
@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_points_go_to_the_mode_they_are_the_most_members_of(size, dimensions):
    points, some = points_in_order(dimensions)
    membership = memberships(points, some)
    expected = np.where(membership.max(axis=1) >= 0.3, membership.argmax(axis=1) + 1, 0)
    assert 50 < (expected == 0).sum() < 450
    np.testing.assert_array_equal(searched(points, some, 0.3, size), expected)


def objects(seed, shape, dimensions, spread):
    """Maps of square objects that touch, whose pixels lie around a place each in embedding space; some lie between."""
    rng = np.random.default_rng(seed)
    cells = [np.arange(length) // 7 for length in shape]
    number = np.ravel_multi_index(np.ix_(*cells), [int(cell[-1]) + 1 for cell in cells])
    centres = rng.uniform(0, 20, (number.max() + 1, dimensions)).astype(np.float32)
    values = centres[number] + rng.normal(0, spread, (*shape, dimensions)).astype(np.float32)
    values[rng.random(shape) < 0.1] += 3
    foreground = rng.random(shape) < 0.9
    maps = Embeddings(embeddings=values.astype(np.float32), foreground=foreground.astype(np.float32))
    some = Modes(centres, rng.uniform(0.5, 3, len(centres)).astype(np.float32))
    return maps, foreground, some


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (33, 40), (3, 17, 20)])
@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_pixels_get_what_a_search_for_each_finds(shape, dimensions, weight):
    maps, foreground, some = objects(0, shape, dimensions, 0.3)
    points, pixels = Points(maps, weight), np.flatnonzero(foreground)
    if weight:  # Positions are dimensions, too.
        some = Modes(points.all_of(pixels)[:: max(len(pixels) // 30, 1)], np.full(len(pixels), 2, np.float32)[:60])
        some = Modes(some.centres, some.bandwidth[: len(some.centres)])
    index, is_member = Search(some, 0.2)(points.all_of(pixels), 0.5)
    found = assign_pixels(points, foreground, np.flatnonzero(foreground), some, 0.2)
    assert found.shape == shape
    assert not found[~foreground].any()
    of_pixels = found.ravel()[pixels]
    np.testing.assert_array_equal(of_pixels > 0, is_member)
    np.testing.assert_array_equal(of_pixels[is_member], index[is_member] + 1)


@pytest.mark.parametrize("shape", [(33, 40), (3, 17, 20)])
@pytest.mark.parametrize("spread", [0.01, 0.3, 2.0])
def test_pixels_change_to_the_modes_that_a_search_finds(shape, spread):
    maps, foreground, some = objects(1, shape, 2, spread)
    points, pixels = Points(maps), np.flatnonzero(foreground)
    found = assign_pixels(points, foreground, np.flatnonzero(foreground), some, 0.2)
    moved, number_of = refined(points, lambda part: np.full(len(part), 1.5, np.float32), some, pixels, found)
    members = found.ravel()[pixels]
    everywhere = points.all_of(pixels)
    for mode in range(len(some.centres)):
        own = everywhere[members == mode + 1]
        assert (number_of[mode + 1] > 0) == (len(own) > 0)
        if len(own):
            np.testing.assert_allclose(moved.centres[number_of[mode + 1] - 1], own.mean(axis=0), rtol=1e-5)
    assert number_of[0] == 0
    np.testing.assert_allclose(moved.bandwidth, 1.5, rtol=1e-6)
    assign_again(points, moved, 0.2, pixels, found, number_of)
    np.testing.assert_array_equal(found.ravel()[pixels], searched(everywhere, moved, 0.2))


def test_a_pixel_goes_to_a_large_mode_that_is_farther_away_than_a_small_one():
    maps = Embeddings(embeddings=np.float32([[[6], [4], [4.4], [0]]]), foreground=np.ones((1, 4), np.float32))
    some = Modes(np.float32([[0], [6]]), np.float32([4, 2]))
    # Of equal membership at 4: a third of the way from the small one.
    found = assign_pixels(Points(maps), np.ones((1, 4), bool), np.arange(4), some, 0.2)
    assert found[0, [0, 2, 3]].tolist() == [2, 2, 1]


def test_one_mode_takes_all_within_its_reach():
    maps = Embeddings(embeddings=np.float32([[[0], [1], [1.4], [9]]]), foreground=np.ones((1, 4), np.float32))
    some = Modes(np.zeros((1, 1), np.float32), np.ones(1, np.float32))
    found = assign_pixels(Points(maps), np.ones((1, 4), bool), np.arange(4), some, 0.2)
    assert found[0, :3].tolist() == [1, 1, -1]
    assert found[0, 3] <= 0


def slow_seeds(seeds, foreground, threshold, averaged, compared):
    from scipy import ndimage

    values = np.where(foreground, seeds, 0)
    for axis, window in enumerate(averaged):
        kernel = np.ones(window) / window
        values = ndimage.correlate1d(values.astype(np.float64), kernel, axis, mode="constant").astype(np.float32)
    peaks = values == ndimage.maximum_filter(np.where(foreground, values, -1), compared, mode="nearest")
    return np.flatnonzero(peaks & foreground & (values >= threshold)), values


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (97, 20), (40, 400), (7, 30, 20)])
@pytest.mark.parametrize("side", [1, 3, 9, 21])
@pytest.mark.parametrize("block", [64, 2**16])
def test_seeds_are_the_peaks_of_means_whatever_the_blocks(monkeypatch, shape, side, block):
    monkeypatch.setattr(seeds, "_BLOCK_PIXELS", block)
    rng = np.random.default_rng(0)
    values, foreground = rng.random(shape, np.float32), rng.random(shape) < 0.8
    spacing = (2.0, 1.0, 1.0)[-len(shape) :]
    pixels, found = find_seeds(values, foreground, 0.3, side, spacing)
    averaged = windows_of(side, spacing)
    if len(shape) == 3:
        averaged = tuple(min(window, n - 1 + n % 2) for window, n in zip(averaged, shape, strict=True))
    expected, means = slow_seeds(values, foreground, 0.3, averaged, windows_of(5, spacing))
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_allclose(found, means.ravel()[expected], rtol=1e-6)


def test_every_pixel_of_a_plateau_is_a_seed():
    plateau = np.zeros((9, 9), np.float32)
    plateau[2:5, 3:6] = 0.75
    pixels, found = find_seeds(plateau, np.ones((9, 9), bool), 0.5, 1, (1.0, 1.0))
    np.testing.assert_array_equal(pixels, np.flatnonzero(plateau))
    assert set(found.tolist()) == {0.75}


def test_without_seeds_of_the_least_value_there_are_none():
    pixels, found = find_seeds(np.full((4, 4), 0.3, np.float32), np.ones((4, 4), bool), 0.5, 3, (1.0, 1.0))
    assert len(pixels) == len(found) == 0
