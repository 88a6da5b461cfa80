"""Runs of equal pixels, their components, and what is written into them."""

import numpy as np
import pytest

from instseg.errors import UsageError
from instseg.labels import regions, runs
from instseg.labels.regions import connected_components, relabel_sequential, renumber
from instseg.labels.runs import find_runs


def test_runs_end_with_their_rows():
    found = find_runs(np.array([[0, 5, 5], [5, 5, 3]]))
    assert found.first_pixels.tolist() == [0, 1, 3, 5]
    assert found.lengths.tolist() == [1, 2, 2, 1]
    assert found.values.tolist() == [0, 5, 5, 3]
    assert found.components.tolist() == [0, 1, 1, 2]


def test_numbers_of_runs_are_written_into_their_pixels():
    labels = np.array([[0, 5, 5], [5, 5, 3]], np.int32)
    find_runs(labels).paint(np.array([7, 8, 9, 1], np.int32), labels)
    assert labels.tolist() == [[7, 8, 8], [9, 9, 1]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (40, 50), (6, 11, 13)])
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_parts_change_no_component(monkeypatch, shape, share):
    rng = np.random.default_rng(0)
    labels = (rng.integers(1, 3, shape) * (rng.random(shape) < share)).astype(np.int32)
    for connectivity in (2 * len(shape), None):
        whole = connected_components(labels, connectivity=connectivity)
        for count in (1, 7, 64):
            monkeypatch.setattr(runs, "_RUNS", count)
            monkeypatch.setattr(runs, "_CHUNK", count)
            np.testing.assert_array_equal(connected_components(labels, connectivity=connectivity), whole)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (40, 50), (6, 11, 13)])
@pytest.mark.parametrize("chunk", [1, 7, 2**15])
def test_renumbering_in_place_is_that_of_a_copy(monkeypatch, shape, chunk):
    monkeypatch.setattr(regions, "_CHUNK", chunk)
    labels = np.random.default_rng(0).integers(0, 30, shape).astype(np.int32)
    expected = relabel_sequential(labels)
    renumber(labels)
    np.testing.assert_array_equal(labels, expected)


def test_renumbering_nothing_changes_nothing():
    labels = np.zeros((2, 3), np.int32)
    renumber(labels)
    assert not labels.any()
    renumber(np.zeros((0, 3), np.int32))


def test_runs_are_of_integers_of_two_or_three_axes():
    with pytest.raises(UsageError, match=r"labels are float64 of shape \(2, 2\)"):
        find_runs(np.zeros((2, 2)))
