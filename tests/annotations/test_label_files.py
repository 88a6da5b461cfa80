"""Images and label images that belong together by their names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instseg.annotations.label_files import pair_by_names
from instseg.errors import InstsegError
from instseg.io.label_images import write_labels

LABELS = np.zeros((8, 10), np.uint16)
LABELS[1:3, 1:4] = 4
LABELS[5:7, 5:9] = 9


def put(*names, labels=LABELS):
    for name in names:
        (Path("in") / name).parent.mkdir(exist_ok=True)
        write_labels(Path("in") / name, labels)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/a.png", "masks/a.tif"),
        ("Images/a.png", "labels/a_label.png"),
        ("img/a.ome.png", "gt/a.png"),
        ("a.png", "a_masks.png"),
        ("a_img.png", "a_masks.png"),
        ("deep/a.png", "deep/a_instances.tif"),
    ],
)
def test_layouts(image, labels_of, images, labels):
    image(images)
    put(labels)
    report, found = labels_of()
    assert report.format == "pairs"
    np.testing.assert_array_equal(found[Path(images).stem], LABELS)
    assert not any("left out" in note for note in report.notes)


def test_what_has_no_partner(image, labels_of):
    image("images/a.png", "images/b.png")
    put("labels/a.png", "labels/c.png")
    report, _ = labels_of()
    assert [(row.source, row.status) for row in report.images] == [
        ("images/a.png", "imported"),
        ("labels/c.png", "not found"),
        ("images/b.png", "without annotations"),
    ]
    put("labels/a.png", labels=LABELS * 0)
    report, labels = labels_of(keep_empty=True)
    # A label image that holds nothing says so.
    assert [row.written for row in report.images] == [0, 0, 0]
    assert sorted(labels) == ["a", "b"]
    assert report.images[0].status == labels_of()[0].images[0].status == "imported"


def test_pairs_that_may_be_wrong_are_refused():
    with pytest.raises(InstsegError, match=r"a\.png has several label images: a_mask\.png, a_mask\.tif; keep one"):
        pair_by_names([Path("a.png")], [Path("a_mask.png"), Path("a_mask.tif")])
    with pytest.raises(InstsegError, match=r"a_img\.png, a_raw\.png may all belong to a_mask\.png"):
        pair_by_names([Path("a_img.png"), Path("a_raw.png")], [Path("a_mask.png")])
    assert pair_by_names([Path("a.png")], [Path("a_masks.png"), Path("a_cp_masks.png")]) == {
        Path("a.png"): Path("a_cp_masks.png")
    }


def test_colours_and_palettes(image, labels_of):
    image("a.png", "b.png", "c.png")
    colours = np.array([[0, 0, 0], [9, 0, 0], [0, 0, 8]], np.uint8)[np.searchsorted([0, 4, 9], LABELS)]
    Image.fromarray(colours).save("in/a_mask.png")
    palette = Image.fromarray(LABELS.astype(np.uint8)).convert("L")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [7] * 759)
    palette.save("in/b_mask.png")
    put("c_mask.png", labels=(LABELS > 0) * 255)
    report, labels = labels_of()
    # Colours are numbered in the order of red, green and blue.
    np.testing.assert_array_equal(labels["a"], np.select([LABELS == 4, LABELS == 9], [2, 1], 0))
    np.testing.assert_array_equal(labels["b"], LABELS)
    assert "`connected_components=True`" in report.images[2].reason
    np.testing.assert_array_equal(labels_of(connected_components=True)[1]["c"], np.sign(LABELS) + (LABELS == 9))


def test_a_label_image_of_another_size_fails(image, labels_of):
    image("a.png", "b.png")
    put("a_mask.png")
    put("b_mask.png", labels=LABELS[:5])
    report, labels = labels_of()
    assert (list(labels), report.failed) == (["a"], 1)


def test_several_folders_of_labels(image, labels_of):
    image("images/a.png")
    put("labels/a.png", "masks/a.png")
    with pytest.raises(InstsegError, match="several folders of labels: labels/, masks/; keep one"):
        labels_of()


def test_train_and_test_in_one_folder(image, labels_of):
    image("train/images/a.png", "test/images/a.png")
    for name in ("train", "test"):
        (Path("in") / name / "masks").mkdir()
        write_labels(Path("in") / name / "masks" / "a.png", LABELS)
    with pytest.raises(InstsegError, match="no annotations by itself, but test in it may; give one such folder"):
        labels_of()


def test_classes_of_a_folder_of_our_own_are_kept(image, write, labels_of, classes):
    image("images/a.png")
    put("labels/a.png")
    write("classes.csv", "image,label,class\na,4,x\nb,1,y\n")
    labels_of()
    assert classes() == ["a.png,4,x", "a.png,9,unclassified"]
    write("classes.csv", "name,class\na,x\n")
    report, _ = labels_of()
    assert any("the classes beside the labels are not read: in/classes.csv has" in note for note in report.notes)
    assert not Path("out/classes.csv").exists()


def test_texts_in_a_folder_of_labels_are_no_label_images(image, write, labels_of):
    image("images/a.png")
    write("labels/a.txt", "0 0.1 0.125 0.4 0.125 0.4 0.375 0.1 0.375")
    report, _ = labels_of()
    assert report.format == "yolo"
    assert not any("looks like" in note for note in report.notes)
