"""LabelMe's JSON, as its documentation and its own converter have it."""

import base64

import imagecodecs
import numpy as np
import pytest

from instseg.errors import InstsegError

SQUARE = {"label": "cell", "points": [[1, 1], [4, 1], [4, 3], [1, 3]], "group_id": None, "shape_type": "polygon"}


def document(*shapes, path="a.png"):
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": path,
        "imageData": None,
        "imageHeight": 8,
        "imageWidth": 10,
    }


def shape(kind, *points, **more):
    return {"label": "cell", "points": list(points), "group_id": None, "shape_type": kind} | more


@pytest.mark.parametrize("path", ["a.png", "..\\images\\a.png", "/home/somebody/a.png", "other.png"])
def test_polygons(image, write, labels_of, box, path):
    image("images/a.png", "images/b.png")
    write("images/a.json", document(SQUARE, path=path))
    report, labels = labels_of()
    assert (report.format, report.classes) == ("labelme", {})
    np.testing.assert_array_equal(labels["a"], box((1, 3, 1, 4)))
    assert [row.source for row in report.images if row.status == "without annotations"] == ["images/b.png"]


def test_shapes_of_all_kinds(image, write, labels_of, box, classes):
    image("a.png")
    mask = base64.b64encode(imagecodecs.png_encode(np.array([[0, 1], [1, 1]], np.uint8))).decode()
    shapes = [
        shape("mask", [7, 6], [8, 7], mask=mask, label="masked"),
        shape("circle", [2, 2], [2, 3.2]),
        shape("rectangle", [5, 0], [8, 2]),
        shape("point", [5, 5]),
        shape("linestrip", [5, 5], [6, 6], [7, 8]),
        shape("polygon", [5, 5], [6, 6]),
        shape("mask", [7, 6], [8, 7], mask="!"),
        shape("circle", [2, 2]),
        {},
        7,
    ]
    write("a.json", document(*shapes))
    report, labels = labels_of()
    expected = box((6, 8, 7, 9), (1, 3, 1, 3))
    expected[6, 7] = 0
    np.testing.assert_array_equal(labels["a"], expected)
    assert classes() == ["a.png,1,masked", "a.png,2,cell"]
    assert report.images[0].dropped == {
        "without a shape": 1,
        "boxes without an outline": 1,
        "points, lines or other shapes without an area": 2,
        "fewer than three points": 3,
        "coordinates that are no numbers": 1,
    }
    assert labels_of(boxes=True)[1]["a"][0, 5] == 3


def test_groups_are_one_object_and_labels_of_nothing_none(image, write, labels_of, box):
    image("a.png")
    part = shape("polygon", [6, 5], [8, 5], [8, 7], [6, 7])
    grouped = [SQUARE | {"group_id": 1}, part | {"group_id": 1}, part | {"label": "_background_"}]
    ignored = shape("polygon", [0, 0], [10, 0], [10, 1], [0, 1], label="__ignore__")
    write("a.json", document(*grouped, ignored))
    expected = np.minimum(box((1, 3, 1, 4), (5, 7, 6, 8)), 1)
    np.testing.assert_array_equal(labels_of()[1]["a"], expected)
    expected[0] = 9
    np.testing.assert_array_equal(labels_of(ignore_label=9)[1]["a"], expected)


def test_an_image_that_is_in_the_json_only(image, write, labels_of):
    image("a.png")
    write("a.json", document(SQUARE))
    write("b.json", document(SQUARE, path="b.png") | {"imageData": "aGVsbG8="})
    report, _ = labels_of()
    (missing,) = [row for row in report.images if row.status == "not found"]
    assert (missing.source, missing.reason) == (
        "b.png",
        "there is no such image; the JSON has it within: write it beside",
    )


def test_two_files_of_one_image(image, write, labels_of):
    image("a.png")
    for name in ("a.json", "copy.json"):
        write(name, document(SQUARE))
    with pytest.raises(InstsegError, match="copy.json and another file are both of in/a.png; keep one"):
        labels_of()


def test_masks_and_circles_at_the_corner_of_the_image(image, write, labels_of, box):
    image("a.png")
    mask = base64.b64encode(imagecodecs.png_encode(np.ones((2, 3), np.uint8))).decode()
    write("a.json", document(shape("mask", [0, 0], [2, 1], mask=mask)))
    np.testing.assert_array_equal(labels_of()[1]["a"], box((0, 2, 0, 3)))
    write("a.json", document(shape("circle", [0, 0], [1.9, 0])))
    assert labels_of()[1]["a"].sum() == 3
