"""Figures of instances, worked out by hand on a few pixels."""

import dataclasses
import math

import numpy as np
import pytest

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import Instances, measure_instances, merge_instances

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


def test_positions_and_sizes():
    measured = measure_instances(LABELS, maps())
    assert len(measured) == 2
    assert measured.label.tolist() == [4, 9]
    assert measured.area.tolist() == [4, 1]
    assert measured.centroid.tolist() == [[0.5, 1.5], [2, 0]]
    assert measured.bbox.tolist() == [[0, 1, 2, 3], [2, 0, 3, 1]]
    assert measured.score.tolist() == [1, 1]


def test_the_table_has_the_columns_of_scikit_image():
    table = measure_instances(LABELS, maps(0.25)).to_dict()
    boxes = [f"bbox-{index}" for index in range(4)]
    assert list(table) == ["label", "area", "centroid-0", "centroid-1", *boxes, "score"]
    assert {name: column.tolist() for name, column in table.items() if name not in boxes} == {
        "label": [4, 9],
        "area": [4, 1],
        "centroid-0": [0.5, 2.0],
        "centroid-1": [1.5, 0.0],
        "score": [0.25, 0.25],
    }
    # A box is a window of the image: behind the last row and column it ends.
    for label, *box in zip(table["label"], *(table[name] for name in boxes), strict=True):
        window = LABELS[box[0] : box[2], box[1] : box[3]]
        assert (window == label).all()
        assert (window == label).sum() == np.count_nonzero(label == LABELS)


def test_scores_are_calibrated_on_request_and_nothing_else_is():
    measured = measure_instances(LABELS, maps(0.8))
    calibrated = measured.calibrated(ScoreCalibration(slope=2.0))
    # Odds of 4 to 1 become those of 16 to 1.
    assert calibrated.score == pytest.approx([16 / 17, 16 / 17])
    assert measured.score == pytest.approx([0.8, 0.8])
    assert measured.calibrated(None) is measured
    assert calibrated.area.tolist() == [4, 1]


def test_the_table_of_classes():
    table = measure_instances(LABELS, with_classes()).to_dict()
    assert list(table)[-3:] == ["class", "class_probability-round", "class_probability-long"]
    assert (table["class"].dtype.kind, table["class"].tolist()) == ("U", ["round", "long"])
    np.testing.assert_allclose(table["class_probability-round"], [0.7, 0.2], atol=1e-6)
    empty = measure_instances(np.zeros_like(LABELS), with_classes()).to_dict()
    assert {(column.shape, column.dtype.kind) for column in empty.values()} == {((0,), kind) for kind in "ifU"}


def test_only_what_lies_within_is_measured():
    values = np.zeros((*LABELS.shape, 2), np.float32)
    values[0, 1:3, 0], values[1, 1:3, 0] = -3, 3
    measured = measure_instances(LABELS, maps(bandwidth=3, embeddings=values), np.s_[0:1, 1:4])
    assert measured.label.tolist() == [4]
    assert measured.area.tolist() == [2]
    assert measured.bbox.tolist() == [[0, 1, 1, 3]]
    # The centre is that of the whole instance.
    assert measured.score.tolist() == pytest.approx([0.5])


def test_instances_moved_and_relabelled():
    measured = measure_instances(LABELS, with_classes()).translated((10, 100))
    assert measured.centroid.tolist() == [[10.5, 101.5], [12, 100]]
    assert measured.bbox.tolist() == [[10, 101, 12, 103], [12, 100, 13, 101]]
    remaining = measured.relabelled(np.array([0, 7], np.int32))
    assert (remaining.label.tolist(), remaining.area.tolist(), remaining.classes) == ([7], [1], ["long"])
    assert len(measured.relabelled(np.zeros(2, np.int32))) == 0


def test_parts_of_an_instance_are_merged():
    whole = measure_instances(np.where(LABELS == 4, 1, 0).astype(np.int32), with_classes())
    upper, lower = (
        measure_instances(np.where(LABELS == 4, 1, 0).astype(np.int32), with_classes(), np.s_[rows, :])
        for rows in (slice(0, 1), slice(1, 3))
    )
    other = measure_instances(np.where(LABELS == 9, 3, 0).astype(np.int32), with_classes())
    # Numbers 1 and 2 are parts of the instance 5, number 3 is none.
    parts = [upper, lower.relabelled(np.array([2], np.int32)), other]
    merged = merge_instances(parts, np.array([0, 5, 5, 0], np.int32))
    assert merged.label.tolist() == [5]
    for name in ("score", "area", "centroid", "bbox", "class_probabilities"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-6)
    assert merged.bbox.dtype == merged.area.dtype == np.int64


def test_stored_arrays_come_back():
    for measured in (measure_instances(LABELS, with_classes()), measure_instances(LABELS, maps())):
        again = Instances.from_arrays(measured.to_arrays())
        assert again.class_names == measured.class_names
        for name, values in measured.to_dict().items():
            np.testing.assert_array_equal(again.to_dict()[name], values)


def test_the_score_is_the_product_of_what_is_known():
    assert measure_instances(LABELS, maps(0.5)).score == pytest.approx([0.5, 0.5])
    assert measure_instances(LABELS, maps(0.5, seeds=0.5)).score == pytest.approx([0.25, 0.25])
    # Two pixels of the square are one bandwidth to either side of its centre: a membership of one half.
    values = np.zeros((*LABELS.shape, 2), np.float32)
    values[0, 1:3, 0], values[1, 1:3, 0] = -3, 3
    measured = measure_instances(LABELS, maps(0.5, seeds=0.5, bandwidth=3, embeddings=values))
    assert measured.score == pytest.approx([0.125, 0.25])


def test_the_bandwidth_of_an_instance_is_the_geometric_mean():
    values = np.zeros((*LABELS.shape, 2), np.float32)
    values[0, 1:3, 0], values[1, 1:3, 0] = -3, 3
    uneven = maps(bandwidth=1, embeddings=values)
    uneven.bandwidth[0], uneven.bandwidth[1] = 1.5, 6
    assert measure_instances(LABELS, uneven).score[0] == pytest.approx(math.exp(-math.log(2) * 9 / (1.5 * 6)))


def with_classes(names=("round", "long")):
    first = np.array([[0.5, 0.9, 0.7, 0.5], [0.5, 0.6, 0.6, 0.5], [0.2, 0.5, 0.5, 0.5]], np.float32)
    return dataclasses.replace(maps(0.5), classes=np.stack([first, 1 - first], axis=-1), class_names=names)


def test_the_class_is_the_most_probable_over_the_pixels():
    measured = measure_instances(LABELS, with_classes())
    assert measured.class_names == ("round", "long")
    assert measured.classes == ["round", "long"]
    np.testing.assert_allclose(measured.class_probabilities, [[0.7, 0.3], [0.2, 0.8]], atol=1e-6)


def test_surer_pixels_say_more_of_the_class():
    uneven = with_classes()
    uneven.foreground[0, 1] = 1.0
    uneven.foreground[:2, 2] = uneven.foreground[1, 1] = 1e-6
    assert measure_instances(LABELS, uneven).class_probabilities[0] == pytest.approx([0.9, 0.1], abs=1e-4)


def test_without_classes_there_is_no_column_of_them():
    measured = measure_instances(LABELS, maps())
    assert (measured.classes, measured.class_probabilities.shape) == ([], (2, 0))
    assert not any("class" in name for name in measured.to_dict())
    nothing = measure_instances(np.zeros_like(LABELS), with_classes())
    assert (len(nothing), nothing.classes) == (0, [])


def test_no_instance_is_no_row():
    nothing = measure_instances(np.zeros_like(LABELS), maps(seeds=0.5, bandwidth=1))
    assert len(nothing) == 0
    assert {column.shape for column in nothing.to_dict().values()} == {(0,)}
