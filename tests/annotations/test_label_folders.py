"""The folders of the Cell Tracking Challenge, the Data Science Bowl and nnU-Net."""

from pathlib import Path

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.label_images import write_labels

LABELS = np.zeros((8, 10), np.uint16)
LABELS[1:3, 1:4] = 4
LABELS[5:7, 5:9] = 9


def put(*names, labels=LABELS):
    for name in names:
        (Path("in") / name).parent.mkdir(parents=True, exist_ok=True)
        write_labels(Path("in") / name, labels)


def test_cell_tracking_challenge(image, labels_of):
    image("01/t000.png", "01/t001.png", "02/t000.png")
    put("01_GT/SEG/man_seg000.tif", "01_GT/TRA/man_track000.tif", "02_GT/SEG/man_seg000.tif")
    put("01_ST/SEG/man_seg000.tif", "01_ST/SEG/man_seg001.tif", labels=LABELS * 2)
    put("02_GT/SEG/man_seg007.tif", "02_GT/SEG/man_seg_003_010.tif")
    report, labels = labels_of()
    assert report.format == "ctc"
    assert sorted(labels) == ["01_t000", "02_t000"]
    np.testing.assert_array_equal(labels["01_t000"], LABELS)
    assert [(row.source, row.status) for row in report.images if row.status != "imported"] == [
        ("02_GT/SEG/man_seg007.tif", "not found"),
        ("01/t001.png", "without annotations"),
    ]
    assert "the silver truth (*_ST) is left out: `format='ctc-silver'` takes it instead" in report.notes
    assert "labels of single slices of stacks (man_seg_FRAME_SLICE): 1, left out" in report.notes
    report, labels = labels_of(format="ctc-silver")
    assert sorted(labels) == ["t000", "t001"]
    np.testing.assert_array_equal(labels["t001"], LABELS * 2)


def test_data_science_bowl(image, labels_of):
    image("one/images/one.png", "two/images/two.png")
    put("one/masks/x.png", labels=(LABELS == 4) * 255)
    put("one/masks/y.png", labels=(LABELS > 0) * 255)
    put("one/masks/z.png", labels=LABELS * 0)
    put("three/masks/x.png", labels=(LABELS == 4) * 255)
    report, labels = labels_of()
    assert report.format == "dsb"
    np.testing.assert_array_equal(labels["one"], np.select([LABELS == 4, LABELS == 9], [1, 2], 0))
    assert (report.images[0].overlapping, report.images[0].overlap_pixels) == (2, 6)
    assert report.images[0].dropped == {"without a shape": 1}
    assert [(row.source, row.status) for row in report.images[1:]] == [
        ("three", "not found"),
        ("two/images/two.png", "without annotations"),
    ]
    put("one/masks/y.png", labels=LABELS[1:])
    with pytest.raises(InstsegError, match="the masks of one image differ in size"):
        labels_of()


@pytest.mark.parametrize(
    "declared", [{"background": 0, "cell": 4, "dead": 9}, {"0": "background", "4": "cell", "9": "dead"}]
)
def test_nnunet_of_classes(image, write, labels_of, classes, declared):
    image("imagesTr/a_0000.png", "imagesTr/a_0001.png", "imagesTr/b_0000.png")
    put("labelsTr/a.png")
    write("dataset.json", {"labels": declared, "channel_names": {"0": "DAPI", "1": "GFP"}, "numTraining": 1})
    with pytest.raises(InstsegError, match="classes of dataset.json, in 2 pieces.*`connected_components=True`"):
        labels_of()
    report, labels = labels_of(connected_components=True)
    assert report.format == "nnunet"
    np.testing.assert_array_equal(labels["a_0000"], np.select([LABELS == 4, LABELS == 9], [1, 2], 0))
    assert classes() == ["a_0000.png,1,cell", "a_0000.png,2,dead"]
    assert "images of several channel files: 1; the first channel (_0000) of each is taken" in report.notes


def test_nnunet_of_instances(image, write, labels_of):
    image("imagesTr/a_0000.png")
    put("labelsTr/a.png")
    write("dataset.json", {"labels": {"background": 0, "cell": 1}, "channel_names": {"0": "DAPI"}})
    report, labels = labels_of()
    np.testing.assert_array_equal(labels["a_0000"], LABELS)
    write("dataset.json", {"labels": 5})
    with pytest.raises(InstsegError, match="no 'labels' with 'channel_names' or 'modality'"):
        labels_of()
