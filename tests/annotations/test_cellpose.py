"""Cellpose's label images, and its pickled dicts without unpickling."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.label_images import write_labels

MASKS = np.zeros((8, 10), np.uint16)
MASKS[1:3, 1:4] = 1
MASKS[5:7, 5:9] = 300


def save(path, **changes):
    """Write what Cellpose's GUI does."""
    content = {
        "outlines": MASKS * 0,
        "colors": np.zeros((2, 3), np.uint8),
        "masks": MASKS,
        "chan_choose": [0, 0],
        "filename": "/home/somebody/a.tif",
        "flows": [np.zeros((1, 8, 10, 3), np.uint8), []],
        "ismanual": np.zeros(2, bool),
        "manual_changes": [],
        "est_diam": np.float64(17.5),
        "model_path": 0,
    } | changes
    np.save(path, content)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "uint32", ">u2", "int64", "uint8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pickled_dicts(image, labels_of, dtype, order):
    image("a.png", "b.png")
    masks = np.asarray(MASKS % 256, dtype, order=order)
    save("in/a_seg.npy", masks=masks)
    report, labels = labels_of()
    assert report.format == "cellpose"
    np.testing.assert_array_equal(labels["a"], masks)
    assert [row.source for row in report.images if row.status == "without annotations"] == ["b.png"]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"est_diam": Evil()}, "it names posix.mkdir"),
        ({"masks": None}, "its masks are no array"),
        ({"masks": MASKS.astype(object)}, "it holds objects where numbers are expected"),
        ({"masks": MASKS[None]}, "its masks are uint16 of shape .1, 8, 10., expected integers"),
        ({"masks": MASKS.astype(float)}, "its masks are float64 of shape"),
    ],
)
def test_dicts_of_anything_else(image, labels_of, change, message):
    image("a.png")
    save("in/a_seg.npy", **change)
    with pytest.raises(InstsegError, match=message) as raised:
        labels_of()
    assert "open it in Cellpose and save the masks as PNG or TIFF" in str(raised.value)
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x09\x00", b"\x93NUMPY"])
def test_files_that_are_no_arrays(image, labels_of, content):
    image("a.png")
    Path("in/a_seg.npy").write_bytes(content)
    with pytest.raises(InstsegError, match="cannot read in/a_seg.npy without running what is in it"):
        labels_of()


def test_pickles_that_are_cut_off_or_claim_a_large_memo(image, labels_of):
    image("a.png")
    save("in/a_seg.npy")
    whole = Path("in/a_seg.npy").read_bytes()
    start = whole.index(b"\n") + 1
    huge = b"\x80\x04]r\xff\xff\xff\x7f."
    for content in (whole[: len(whole) // 2], whole[:start] + huge, whole[:start] + pickle.dumps([1])):
        Path("in/a_seg.npy").write_bytes(content)
        with pytest.raises(InstsegError, match="cannot read in/a_seg.npy without running what is in it"):
            labels_of()


def test_label_images_come_before_dicts(image, labels_of):
    image("a.png", "b.png", "a_flows.png", "a_cp_outlines.png")
    save("in/a_seg.npy", masks=MASKS * 0)
    save("in/c_seg.npy")
    write_labels("in/a_cp_masks.png", MASKS)
    write_labels("in/b_masks.tif", MASKS * 2)
    report, labels = labels_of()
    np.testing.assert_array_equal(labels["a"], MASKS)
    np.testing.assert_array_equal(labels["b"], MASKS * 2)
    assert [(row.source, row.status) for row in report.images] == [
        ("a.png", "imported"),
        ("b.png", "imported"),
        ("c_seg.npy", "not found"),
    ]
