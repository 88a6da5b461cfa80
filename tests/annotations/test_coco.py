"""COCO, and the lists of Detectron2.

The compressed runs were made by `pycocotools.mask.encode` of pycocotools 2.0.11.
"""

import numpy as np
import pytest

from instseg.errors import InstsegError

# Of ones in [3:20, 4:30], without those in [5:9, 9:22].
HOLED = "g4a0d000000000A@9`0G@9`0G@9`0G@9`0G@9`0G@9`0G@9`0G@9`0G@9`0G@9`0G@9`0G@9`0G@9`0600000000000000`j0"
# Of numpy.random.default_rng(0).random((9, 11)) < 0.5.
RANDOM = "1122OO3OO1N0000O01002OO1O04O10K12OO1OO10O010O00101211"

SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]


def dataset(*annotations, images=("a.png",), categories=("cell",), size=(8, 10)):
    return {
        "images": [
            {"id": number, "file_name": name, "height": size[0], "width": size[1]} for number, name in enumerate(images)
        ],
        "annotations": [
            {"id": number, "image_id": 0, "category_id": 1, "iscrowd": 0} | each
            for number, each in enumerate(annotations)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, start=1)],
    }


@pytest.mark.parametrize(
    ("counts", "mask"),
    [
        (HOLED, np.pad(np.pad(np.zeros((4, 13), int), ((2, 11), (5, 8)), constant_values=1), ((3, 17), (4, 23)))),
        (RANDOM, (np.random.default_rng(0).random((9, 11)) < 0.5).astype(int)),
    ],
)
def test_compressed_runs(image, write, labels_of, counts, mask):
    image("a.png", size=mask.shape)
    runs = {"size": list(mask.shape), "counts": counts}
    write("coco.json", dataset({"segmentation": runs, "area": 1}, size=mask.shape))
    np.testing.assert_array_equal(labels_of()[1]["a"], mask)


def test_runs_polygons_and_several_parts(image, write, labels_of, box):
    image("a.png")
    # Down the columns: 8 a column.
    runs = {"size": [8, 10], "counts": [48, 2, 6, 2, 22]}
    write("coco.json", dataset({"segmentation": [SQUARE, [1, 5, 2, 5, 2, 6, 1, 6]]}, {"segmentation": runs}))
    report, labels = labels_of()
    expected = box((1, 3, 1, 4), (0, 2, 6, 8))
    expected[5, 1] = 1
    np.testing.assert_array_equal(labels["a"], expected)
    assert (report.format, report.imported, report.instances, report.classes) == ("coco", 1, 2, {})
    # Pieces are numbered anew, in raster order.
    pieces = np.array([0, 2, 1])[expected]
    pieces[5, 1] = 3
    np.testing.assert_array_equal(labels_of(connected_components=True)[1]["a"], pieces)


def test_classes_are_those_that_the_file_declares(image, write, labels_of, classes):
    image("a.png")
    one, other = {"segmentation": [SQUARE]}, {"segmentation": [[5, 5, 8, 5, 8, 8]], "category_id": 2}
    write("coco.json", dataset(one, other, categories=("cell", "=cmd|' /C calc'!A0\x1b[2J")))
    assert labels_of()[0].classes == {"=cmd|' /C calc'!A0\\x1b[2J": 1, "cell": 1}
    assert classes() == ["a.png,1,cell", "a.png,2,'=cmd|' /C calc'!A0\\x1b[2J"]
    write("coco.json", dataset(one, categories=("cell", "dead")))
    assert labels_of()[0].classes == {"cell": 1}
    write("coco.json", dataset(one, {**other, "category_id": 7}, categories=(None,)))
    assert labels_of()[0].classes == {"1": 1, "7": 1}


def test_crowds_are_ignored_if_a_label_is_given(image, write, labels_of, box):
    image("a.png")
    crowd = {"segmentation": {"size": [8, 10], "counts": [0, 24, 56]}, "iscrowd": 1}
    write("coco.json", dataset({"segmentation": [SQUARE]}, crowd))
    report, labels = labels_of()
    np.testing.assert_array_equal(labels["a"], box((1, 3, 1, 4)))
    assert any(note.startswith("areas of unknown content: 20 pixels in 1 images") for note in report.notes)
    expected = np.where(box((0, 8, 0, 3)), 9, 0)
    expected[1:3, 1:4] = 1
    np.testing.assert_array_equal(labels_of(ignore_label=9)[1]["a"], expected)
    with pytest.raises(InstsegError, match="which is an object's number, expected above 1"):
        labels_of(ignore_label=1)


def test_objects_that_cannot_be_used_are_counted(image, write, labels_of):
    image("a.png")
    bad = [
        {"segmentation": [[1, 1, 2, 2]]},
        {"segmentation": [[1, 1, "x", 2, 3, 3]]},
        {"segmentation": [[1, 1, float("nan"), 2, 3, 3]]},
        {"segmentation": [[20, 20, 30, 20, 30, 30]]},
        {"segmentation": [[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]]},
        {"segmentation": {"size": [9, 10], "counts": [80, 10]}},
        {"segmentation": {"size": [8, 10], "counts": [70, 20]}},
        {"segmentation": {"size": [8, 10], "counts": "\x00~~"}},
        {"segmentation": {"size": [8, 10], "counts": [80]}},
        {"segmentation": {"size": "x", "counts": 5}},
        {"segmentation": []},
        {"bbox": [1, 1, 2, 2]},
        {"segmentation": [SQUARE], "id": 0},
        {"segmentation": [SQUARE], "id": 0},
    ]
    write("coco.json", dataset({"segmentation": [SQUARE], "id": 0}, *bad))
    report, labels = labels_of()
    assert labels["a"].max() == 1
    assert report.images[0].dropped == {
        "copies of another object": 2,
        "fewer than three points": 1,
        "coordinates that are no numbers": 3,
        "outside of the image": 1,
        "without the centre of a pixel": 1,
        "runs of another size than the image": 3,
        "without a shape": 2,
        "boxes without an outline": 1,
    }
    assert report.images[0].found == 15
    assert any(note.startswith("objects left out: 14 (") for note in report.notes)
    assert labels_of(boxes=True)[0].images[0].dropped.get("boxes without an outline") is None


def test_images_that_are_not_there_and_annotations_of_none(image, write, labels_of):
    image("a.png", "x/b.png", "y/b.png", "deep/c.png")
    names = ("a.png", "../../etc/passwd.png", "/etc/hosts.png", "b.png", "C:\\data\\c.png", "gone.png")
    value = dataset(*({"segmentation": [SQUARE], "image_id": number} for number in range(8)), images=names)
    write("coco.json", value)
    report, labels = labels_of()
    assert sorted(labels) == ["a", "c"]
    assert {row.source: row.reason for row in report.images if row.status == "not found"} == {
        "../../etc/passwd.png": "it is outside of the source",
        "/etc/hosts.png": "it is outside of the source",
        "b.png": "several images have this name: x/b.png, y/b.png",
        "gone.png": "there is no such image",
    }
    assert "annotations of images that the file does not list: 2, left out" in report.notes
    assert any(note.startswith("annotated images that were not found: 4, such as ../../etc") for note in report.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
            "the category 1 is there twice, as a and as b",
        ),
        (
            {"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]},
            "a.png and b.png share the id 1",
        ),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}]}, "a.png has the ids 1 and 2"),
        ({"images": [{"id": 1}]}, "an image has no 'id' or no 'file_name'"),
        ({"categories": [{}]}, "a category has no 'id'"),
    ],
)
def test_what_contradicts_itself_is_refused(image, write, labels_of, change, message):
    image("a.png", "b.png")
    write("coco.json", dataset() | change)
    with pytest.raises(InstsegError, match=message):
        labels_of()


def test_an_image_of_another_size_fails(image, write, labels_of):
    image("a.png", "b.png")
    square = {"segmentation": [SQUARE]}
    value = dataset(square, {**square, "image_id": 1}, images=("a.png", "b.png"))
    value["images"][1]["width"] = 11
    write("coco.json", value)
    report, labels = labels_of()
    assert (list(labels), report.failed) == (["a"], 1)
    assert "the image is 8 x 10 pixels and its annotations are of 8 x 11" in report.images[1].reason


def test_several_files_are_not_mixed(image, write, labels_of):
    image("a.png")
    for name in ("train.json", "annotations/val.json"):
        write(name, dataset({"segmentation": [SQUARE]}))
    with pytest.raises(InstsegError, match="several files of COCO: annotations/val.json, train.json; give one"):
        labels_of()
    assert labels_of("in/annotations/val.json", images="in")[0].imported == 1


def test_lists_of_detectron2(image, write, labels_of, box):
    image("a.png", "000000000007.png")
    dicts = [
        {
            "file_name": "/somewhere/a.png",
            "height": 8,
            "width": 10,
            "annotations": [{"segmentation": [SQUARE], "category_id": 0}],
        }
    ]
    write("dicts.json", dicts)
    np.testing.assert_array_equal(labels_of()[1]["a"], box((1, 3, 1, 4)))
    runs = {"size": [8, 10], "counts": [0, 8, 72]}
    scores = [{"image_id": 7, "category_id": 1, "segmentation": runs, "score": score} for score in (0.9, 0.2)]
    write("dicts.json", scores)
    report, labels = labels_of()
    np.testing.assert_array_equal(labels["000000000007"], box((0, 8, 0, 1)))
    assert report.images[0].dropped == {"scores below 0.5": 1}


def test_images_elsewhere(image, write, labels_of):
    image("photos/deep/a.png")
    write("annotations/coco.json", dataset({"segmentation": [SQUARE]}))
    with pytest.raises(
        InstsegError, match=r"\(1 not found\); a.png: there is no such image; give the folder .* `images=DIR`"
    ):
        labels_of("in/annotations/coco.json")
    assert list(labels_of("in/annotations/coco.json", images="in/photos")[1]) == ["a"]
    write("annotations/coco.json", dataset({"segmentation": [SQUARE]}, images=("../photos/deep/a.png",)))
    assert list(labels_of()[1]) == ["a"]
    assert list(labels_of("in/annotations/coco.json", images="in/photos")[1]) == ["a"]
