"""Which object gets the pixels that several claim."""

import numpy as np
import pytest

from instseg.annotations.objects import Annotation, LabelImage, Objects, polygon
from instseg.annotations.painting import HIDDEN, paint


def square(left, right, name=None):
    return Annotation(polygon([(left, 0), (right, 0), (right, 1), (left, 1)]), name)


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("smaller-on-top", [1, 1, 2, 2, 3, 3]),
        ("first", [1, 1, 1, 1, 3, 3]),
        ("last", [1, 1, 2, 2, 3, 3]),
        ("drop", [1, 1, 0, 0, 3, 3]),
    ],
)
def test_rules(overlap, expected):
    objects = Objects([square(0, 4), square(2, 4), square(4, 6)])
    painted = paint(objects, (1, 6), overlap)
    hidden = overlap in ("first", "drop")
    # Numbers have no gaps.
    expected = [2 if hidden and label == 3 else label for label in expected]
    np.testing.assert_array_equal(painted.labels, [expected])
    assert (painted.found, painted.overlapping, painted.overlap) == (3, 2, 2)
    assert painted.dropped == ({HIDDEN: 1} if hidden else {})
    assert painted.numbers.tolist() == ([1, 2] if hidden else [1, 2, 3])


def test_last_and_smaller_differ():
    objects = Objects([square(2, 4), square(0, 4)])
    np.testing.assert_array_equal(paint(objects, (1, 4), "smaller-on-top").labels, [[2, 2, 1, 1]])
    np.testing.assert_array_equal(paint(objects, (1, 4), "last").labels, [[1, 1, 1, 1]])
    # Of two that are equal the first stays.
    twins = Objects([square(0, 2, "a"), square(0, 2, "b")])
    painted = paint(twins, (1, 2), "smaller-on-top")
    assert (painted.class_names, painted.dropped) == ({1: "a"}, {HIDDEN: 1})


def test_many_claims_of_a_pixel_do_not_overflow():
    painted = paint(Objects([square(0, 2)] * 600), (1, 2), "last")
    assert (painted.overlap, painted.overlapping, painted.dropped[HIDDEN]) == (2, 600, 599)


def test_pieces_keep_the_class_of_the_whole():
    objects = Objects([square(0, 6, "a"), square(2, 4, "b")])
    painted = paint(objects, (1, 6), "smaller-on-top", connected_components=True)
    np.testing.assert_array_equal(painted.labels, [[1, 1, 2, 2, 3, 3]])
    assert painted.class_names == {1: "a", 2: "b", 3: "a"}
    assert painted.numbers.tolist() == [1, 2, 3]


def test_label_images_keep_their_numbers_if_these_fit():
    labels = np.array([[0, 7, 60_000]], np.int32)
    painted = paint(LabelImage(labels, {7: "x"}), (1, 3), "drop")
    np.testing.assert_array_equal(painted.labels, labels)
    assert painted.numbers.tolist() == [7, 60_000]
    painted = paint(LabelImage(labels * 1000, {7000: "x"}), (1, 3), "drop")
    np.testing.assert_array_equal(painted.labels, [[0, 1, 2]])
    assert painted.class_names == {1: "x"}
    assert paint(LabelImage(labels * 0), (1, 3), "drop", connected_components=True).numbers.tolist() == []
