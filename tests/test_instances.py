"""Figures of instances, worked out by hand on a few pixels."""

import csv
import dataclasses
import math

import numpy as np
import pytest

from instseg.embeddings import Embeddings
from instseg.instances import COLUMNS, describe, write_table

LABELS = np.array(
    [
        [0, 4, 4, 0],
        [0, 4, 4, 0],
        [9, 0, 0, 0],
    ],
    np.int32,
)


def maps(foreground=1.0, seeds=None, bandwidth=None, embeddings=None):
    shape = LABELS.shape
    return Embeddings(
        embeddings=np.zeros((*shape, 2), np.float32) if embeddings is None else embeddings,
        foreground=np.full(shape, foreground, np.float32),
        seeds=None if seeds is None else np.full(shape, seeds, np.float32),
        bandwidth=None if bandwidth is None else np.full(shape, bandwidth, np.float32),
    )


def test_places_and_sizes():
    assert describe(LABELS, maps()).rows() == [
        [4, 1.0, 4, 0.5, 1.5, 0, 1, 1, 2],
        [9, 1.0, 1, 2.0, 0.0, 2, 0, 2, 0],
    ]


def test_the_score_is_the_product_of_what_is_known():
    assert describe(LABELS, maps(0.5)).score == pytest.approx([0.5, 0.5])
    assert describe(LABELS, maps(0.5, seeds=0.5)).score == pytest.approx([0.25, 0.25])
    # Two pixels of the square are one bandwidth to either side of its centre: a membership of one half.
    values = np.zeros((*LABELS.shape, 2), np.float32)
    values[0, 1:3, 0], values[1, 1:3, 0] = -3, 3
    found = describe(LABELS, maps(0.5, seeds=0.5, bandwidth=3, embeddings=values))
    assert found.score == pytest.approx([0.125, 0.25])


def test_the_bandwidth_of_an_instance_is_the_geometric_mean():
    values = np.zeros((*LABELS.shape, 2), np.float32)
    values[0, 1:3, 0], values[1, 1:3, 0] = -3, 3
    uneven = maps(bandwidth=1, embeddings=values)
    uneven.bandwidth[0], uneven.bandwidth[1] = 1.5, 6
    assert describe(LABELS, uneven).score[0] == pytest.approx(math.exp(-math.log(2) * 9 / (1.5 * 6)))


def with_classes(names=("round", "long")):
    first = np.array([[0.5, 0.9, 0.7, 0.5], [0.5, 0.6, 0.6, 0.5], [0.2, 0.5, 0.5, 0.5]], np.float32)
    return dataclasses.replace(maps(0.5), classes=np.stack([first, 1 - first], axis=-1), class_names=names)


def test_the_class_is_the_most_probable_over_the_pixels():
    found = describe(LABELS, with_classes())
    assert found.class_names == ("round", "long")
    assert found.classes == ["round", "long"]
    np.testing.assert_allclose(found.class_probabilities, [[0.7, 0.3], [0.2, 0.8]], atol=1e-6)
    assert found.columns() == [*COLUMNS, "class", "p(round)", "p(long)"]
    assert [row[len(COLUMNS) :] for row in found.rows()] == [["round", 0.7, 0.3], ["long", 0.2, 0.8]]


def test_surer_pixels_say_more_of_the_class():
    uneven = with_classes()
    uneven.foreground[0, 1] = 1.0
    uneven.foreground[:2, 2] = uneven.foreground[1, 1] = 1e-6
    assert describe(LABELS, uneven).class_probabilities[0] == pytest.approx([0.9, 0.1], abs=1e-4)


def test_without_classes_there_is_no_column_of_them():
    found = describe(LABELS, maps())
    assert (found.classes, found.columns(), found.class_probabilities.shape) == ([], list(COLUMNS), (2, 0))
    nothing = describe(np.zeros_like(LABELS), with_classes())
    assert (nothing.rows(), nothing.classes) == ([], [])


def test_no_instance_is_no_row():
    found = describe(np.zeros_like(LABELS), maps(seeds=0.5, bandwidth=1))
    assert found.rows() == []


def test_the_table_comes_back(tmp_path):
    write_table(tmp_path / "scores.csv", describe(LABELS, maps(0.25)))
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1:] == [
        ["4", "0.25", "4", "0.5", "1.5", "0", "1", "1", "2"],
        ["9", "0.25", "1", "2.0", "0.0", "2", "0", "2", "0"],
    ]
