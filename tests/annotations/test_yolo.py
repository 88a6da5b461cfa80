"""YOLO's text files."""

from pathlib import Path

import numpy as np
import pytest

from instseg.annotations.yolo import parse_names
from instseg.errors import InstsegError


def test_corners_are_shares_of_the_image(image, write, labels_of, box, classes):
    image("images/train/a.png", "images/train/b.png")
    write("labels/train/a.txt", "1 0.1 0.125 0.4 0.125 0.4 0.375 0.1 0.375\n\n0 0.5 0 0.7 0 0.7 0.25 0.5 0.25 0.93\n")
    write("data.yaml", "train: images/train\nnames:\n  0: round cell\n  1: 'long'\n")
    report, labels = labels_of()
    assert report.format == "yolo"
    np.testing.assert_array_equal(labels["a"], box((1, 3, 1, 4), (0, 2, 5, 7)))
    assert classes() == ["a.png,1,long", "a.png,2,round cell"]
    assert [row.source for row in report.images if row.status == "without annotations"] == ["images/train/b.png"]
    report, labels = labels_of(keep_empty=True)
    assert not labels["b"].any()


def test_boxes_numbers_for_classes_and_texts_that_are_none(image, write, labels_of, box):
    image("a.png")
    write("a.txt", "3 0.5 0.5 0.2 0.5")
    write("README.txt", "not annotations")
    with pytest.raises(InstsegError, match="no image of in can be imported .1 without objects."):
        labels_of()
    report, labels = labels_of(boxes=True)
    np.testing.assert_array_equal(labels["a"], box((2, 6, 4, 6)))
    assert "no YAML file names the classes: their numbers are their names" in report.notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 10 10 50 10 50 60", "line 2 has the coordinate 60, expected shares from 0 to 1"),
        ("0 0.1 0.1 x 0.1 0.5 0.6", "line 2 is '0 0.1 0.1 x 0.1 0.5 0.6', expected numbers"),
        ("0 0.1 0.1 1e999 0.1 0.5 0.6", "line 2 has the coordinate inf"),
    ],
)
def test_lines_that_cannot_be_meant(image, write, labels_of, line, message):
    image("a.png", "b.png")
    good = "0 0.1 0.1 0.5 0.1 0.5 0.6"
    write("a.txt", good)
    write("b.txt", f"{good}\n{line}")
    report, _ = labels_of()
    assert (report.imported, report.failed) == (1, 1)
    assert message in report.images[1].reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: [a, b]", {0: "a", 1: "b"}),
        ("nc: 2\nnames: [\"a, b\", 'c']  # two", {0: "a, b", 1: "c"}),
        ("names: {0: a, 2: b}\n", {0: "a", 2: "b"}),
        ("names:\n- a\n- b  # the other\nnc: 2\n", {0: "a", 1: "b"}),
        ("names:\n\n  # all\n  5: a b\nkey: 1", {5: "a b"}),
        ("names: [\n  'a',\n  'b',\n]\n", {0: "a", 1: "b"}),
        ("names: []", {}),
    ],
)
def test_names_of_classes(text, expected):
    assert parse_names(Path("data.yaml"), text) == expected


@pytest.mark.parametrize(
    "text", ["names: *anchor", "names: cell", "names:\n  0: [a]\n", "names: !!python/object:os.system x"]
)
def test_names_that_are_written_in_another_way(text):
    with pytest.raises(InstsegError, match="expected a list or 'number: name'"):
        parse_names(Path("data.yaml"), text)
