"""The parts of the fast clustering, against the same thing done slowly."""

import numpy as np
import pytest

from instseg.clustering import modes
from instseg.clustering.modes import NOISE, Modes, _assign, _by_strips, _suppress_seeds


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
    merged = _suppress_seeds(Modes(centres, bandwidth))
    assert np.array_equal(merged.centres, centres[remaining])
    assert np.array_equal(merged.bandwidth, bandwidth[remaining])


def test_a_chain_of_seeds_keeps_every_second():
    centres = np.arange(9, dtype=np.float32)[:, None]
    assert _suppress_seeds(Modes(centres, np.full(9, 1.5, np.float32))).centres[:, 0].tolist() == [0, 2, 4, 6, 8]


def test_the_size_of_batches_changes_no_merge(monkeypatch):
    rng = np.random.default_rng(0)
    # A plateau, whose pairs do not fit, beside seeds that have none.
    centres = np.concatenate([rng.normal(0, 0.1, (300, 2)), rng.uniform(5, 50, (700, 2))]).astype(np.float32)
    centres = centres[rng.permutation(len(centres))]
    seeds = Modes(centres, rng.uniform(0.3, 0.8, len(centres)).astype(np.float32))
    whole = _suppress_seeds(seeds)
    assert 300 < len(whole.centres) < 700
    for batch, pairs in ((8, 20), (64, 64), (2, 10_000)):
        monkeypatch.setattr(modes, "_BATCH", batch)
        monkeypatch.setattr(modes, "_MOST_PAIRS", pairs)
        parted = _suppress_seeds(seeds)
        np.testing.assert_array_equal(parted.centres, whole.centres)
        np.testing.assert_array_equal(parted.bandwidth, whole.bandwidth)


@pytest.mark.parametrize("chunk", [1, 7, 100, 2**14])
@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_points_go_to_the_mode_they_are_the_most_members_of(monkeypatch, chunk, dimensions):
    rng = np.random.default_rng(dimensions)
    centres = rng.uniform(0, 30, (40, dimensions)).astype(np.float32)
    some = Modes(centres, rng.uniform(0.9, 1.1, 40).astype(np.float32))
    # In the order of an image: a chunk has few modes near, and some have none.
    points = rng.uniform(-10, 40, (500, dimensions)).astype(np.float32)
    points[:250] = centres[rng.integers(0, 40, 250)] + rng.normal(0, 0.5, (250, dimensions))
    points = points[np.argsort(points[:, 0])]
    monkeypatch.setattr(modes, "_CHUNK", chunk)
    membership = 2.0 ** -np.square(np.linalg.norm(points[:, None] - centres, axis=2) / some.bandwidth)
    expected = np.where(membership.max(axis=1) >= 0.3, membership.argmax(axis=1), NOISE)
    assert 50 < (expected == NOISE).sum() < 450
    np.testing.assert_array_equal(_assign(points, some, 0.3), expected)


@pytest.mark.parametrize("shape", [(1, 7), (97, 20), (40, 400)])
@pytest.mark.parametrize("window", [3, 5])
def test_filters_in_strips_are_those_of_the_whole(monkeypatch, shape, window):
    from scipy import ndimage

    monkeypatch.setattr(modes, "CHUNK_PIXELS", 200)
    values = np.random.default_rng(0).random(shape, np.float32)
    highest = _by_strips(lambda strip: ndimage.maximum_filter(strip, window, mode="nearest"), values, window // 2)
    np.testing.assert_array_equal(highest, ndimage.maximum_filter(values, window, mode="nearest"))
    mean = _by_strips(lambda strip: ndimage.uniform_filter(strip, window, mode="constant"), values, window // 2)
    np.testing.assert_allclose(mean, ndimage.uniform_filter(values, window, mode="constant"), atol=1e-6)
