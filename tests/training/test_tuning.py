"""Thresholds found for embeddings whose right thresholds are known."""

import dataclasses

import numpy as np
import pytest

from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.settings import ClusterSettings
from instseg.training.tuning import SCORED, FoundInstances, tune, tune_min_score

SETTINGS = ClusterSettings(min_size=4)


def grid(level, rim=0.0, side=8, gap=4):
    """64 squares, each with an embedding of its own, that foreground values of `level` fill and `rim` surrounds."""
    cells = np.arange(1, 65, dtype=np.int32).reshape(8, 8)
    square = np.pad(np.ones((side, side), np.int32), gap // 2)
    labels = np.kron(cells, square)
    foreground = np.where(labels > 0, level, 0.0)
    around = np.pad(np.ones((side + 2, side + 2), np.int32), gap // 2 - 1) if gap else square
    ring = np.kron(cells, around) * (labels == 0)
    foreground = np.where(ring > 0, rim, foreground).astype(np.float32)
    values = np.float32(20) * np.stack([(labels + ring) // 8, (labels + ring) % 8], axis=-1)
    seeds = np.where(labels > 0, np.float32(0.9), np.float32(0))
    bandwidth = np.full(labels.shape, 3, np.float32)
    return Embeddings(embeddings=values, foreground=foreground, seeds=seeds, bandwidth=bandwidth), labels


def test_what_is_best_stays():
    maps, labels = grid(0.9)
    assert np.array_equal(cluster(maps, SETTINGS), labels)
    assert tune([maps], [labels], SETTINGS) == SETTINGS


def test_a_lower_foreground_threshold_is_found():
    maps, labels = grid(0.42)
    found = tune([maps, maps], [labels, labels], SETTINGS)
    assert 0.3 <= found.foreground_threshold <= 0.42
    assert dataclasses.replace(found, foreground_threshold=0.5) == SETTINGS
    assert np.array_equal(cluster(maps, found), labels)


def test_a_higher_foreground_threshold_is_found():
    maps, labels = grid(0.9, rim=0.52)
    found = tune([maps], [labels], SETTINGS)
    assert found.foreground_threshold > 0.52
    assert np.array_equal(cluster(maps, found), labels)


def test_the_bandwidth_is_tuned_where_it_is_a_setting():
    maps, labels = grid(0.9, gap=0)
    plain = Embeddings(embeddings=maps.embeddings, foreground=maps.foreground)
    wide = dataclasses.replace(SETTINGS, bandwidth=16.0)
    found = tune([plain], [labels], wide)
    assert found.bandwidth is not None
    assert found.bandwidth < 16


def test_few_instances_change_nothing():
    maps, labels = grid(0.42)
    few = np.where(labels <= 20, labels, 0).astype(np.int32)
    assert tune([maps], [few], SETTINGS) == SETTINGS
    assert tune([], [], SETTINGS) == SETTINGS


@pytest.mark.parametrize("calls", [0, 3])
def test_it_can_be_stopped(calls):
    maps, labels = grid(0.42)
    left = iter([False] * calls + [True] * 100)
    found = tune([maps], [labels], SETTINGS, stop=lambda: next(left))
    assert found == SETTINGS


def test_what_is_found_on_ignored_pixels_changes_nothing():
    maps, labels = grid(0.9)
    truth = np.where(labels > 55, -1, labels).astype(np.int32)
    assert tune([maps], [truth], SETTINGS) == SETTINGS
    # Nothing but ignored pixels says nothing.
    assert tune([maps], [np.full_like(labels, -1)], SETTINGS) == SETTINGS


def found(wrong_score, right_score=0.8, wrong=5, right=10, iou=0.85):
    """Instances of an image, of which some are wrong, and one true instance that none of them matches."""
    score = np.repeat([wrong_score, right_score], [wrong, right])
    return FoundInstances(score, np.repeat([0.0, iou], [wrong, right]), right + 1)


def test_average_precision_is_that_of_the_instances_that_are_kept():
    image = found(0.2)
    assert image.average_precision(0.0) == pytest.approx([10 / 16 if threshold <= 0.85 else 0 for threshold in SCORED])
    assert image.average_precision(0.5) == pytest.approx([10 / 11 if threshold <= 0.85 else 0 for threshold in SCORED])
    assert image.average_precision(0.9) == [0.0] * len(SCORED)
    nothing = FoundInstances(np.array([0.1]), np.array([0.0]), 0)
    assert nothing.average_precision(0.0) == [0.0] * len(SCORED)
    assert nothing.average_precision(0.2) == [1.0] * len(SCORED)


def test_doubtful_instances_that_are_wrong_are_left_out():
    chosen = tune_min_score([found(0.22), found(0.17), found(0.05), found(0.1)] * 2)
    assert 0.22 < chosen <= 0.5


def test_what_is_right_as_often_as_not_is_kept():
    assert tune_min_score([found(0.6, right_score=0.3), found(0.6, right_score=0.6)] * 4) == 0
    assert tune_min_score([found(0.1, wrong=0)] * 8) == 0


def test_few_instances_leave_nothing_out():
    assert tune_min_score([found(0.1)] * 4) == 0
    assert tune_min_score([]) == 0
    # One image in which it helps much says little of the next.
    images = [found(0.1, wrong=20), *[found(0.9, right_score=0.95, wrong=1)] * 9]
    assert tune_min_score(images) == 0
