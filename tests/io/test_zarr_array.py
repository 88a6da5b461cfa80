"""Zarr images and labels are read whole by the same functions, under the same rules and limits as files."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from instseg.errors import InstsegError
from instseg.io.formats import read_header
from instseg.io.images import read_image
from instseg.io.label_images import read_class_image, read_labels
from instseg.io.zarr_labels import write_zarr_labels
from instseg.labels.regions import IGNORED

VALUES = np.random.default_rng(0).integers(0, 200, (24, 20))
LABELS = np.zeros((24, 20), np.int32)
LABELS[2:6, 2:7], LABELS[10:20, 9:15] = 3, 700


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, values, axes="yx", **ome):
    """Write an OME-Zarr group of one level, with small chunks."""
    multiscale = {"axes": [{"name": name} for name in axes], "datasets": [{"path": "0"}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [multiscale], **ome}})
    chunks = tuple(min(side, 8) for side in values.shape)
    array = group.create_array("0", shape=values.shape, dtype=values.dtype, chunks=chunks)
    array[...] = values
    return Path(path)


def error_of(call, *args, **options):
    with pytest.raises(InstsegError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "uint32", "int64", "float32", "float64", "bool"])
def test_the_values_are_those_of_the_same_tiff(dtype):
    values = (VALUES - (90 if dtype == "int16" else 0)).astype(dtype)
    tifffile.imwrite("a.tif", values, photometric="minisblack")
    image, expected = read_image(write("a.zarr", values)), read_image("a.tif")
    assert (image.dtype, image.shape) == (expected.dtype, (24, 20, 1))
    assert np.array_equal(image, expected)


def test_channels_come_last_and_axes_of_one_plane_do_not_count():
    values = np.stack([VALUES, VALUES + 1]).astype(np.uint16)
    path = write("a.zarr", values[None, :, None], "tczyx")
    header = read_header(path)
    assert (header.format, header.height, header.width, header.channels, header.planes) == ("Zarr", 24, 20, 2, 1)
    assert np.array_equal(read_image(path), np.moveaxis(values, 0, -1))


def test_a_part_of_a_group_is_named_after_a_colon():
    write("a.zarr", VALUES.astype(np.uint8))
    assert np.array_equal(read_image("a.zarr:/0")[..., 0], VALUES)


@pytest.mark.parametrize("axis", "zt")
def test_stacks_are_refused_with_what_to_do(axis):
    path = write("a.zarr", np.stack([VALUES] * 3), f"{axis}yx")
    message = error_of(read_image, path, planes_as_channels=True)
    assert f"a stack of 3 planes along {axis.upper()} of 24 x 20 pixels, expected one image" in message
    assert "predict takes every plane as an image by `planes=True`; or save them one by one" in message
    assert "a stack of 3 planes" in error_of(read_labels, path)


def test_labels_that_predict_writes_are_read_again():
    write_zarr_labels("a.zarr", LABELS.shape, iter([LABELS]))
    labels = read_labels("a.zarr")
    assert labels.dtype == np.int32 and np.array_equal(labels, LABELS)
    assert np.array_equal(read_labels("a.zarr", ignore_label=3), np.where(LABELS == 3, IGNORED, LABELS))
    assert read_header("a.zarr").is_labels
    assert "it holds labels, expected an image; give the image" in error_of(read_image, "a.zarr")


def test_labels_of_other_tools():
    # As ome-zarr writes labels beside an image of five axes, and as a plain array.
    write("image.zarr/labels/cells", LABELS[None, None, None].astype(np.uint64) * 2**40, "tczyx", **{"image-label": {}})
    assert np.array_equal(np.unique(read_labels("image.zarr/labels/cells")), [0, 1, 2])
    zarr.save_array("plain.zarr", LABELS.astype(">i4"))
    assert np.array_equal(read_labels("plain.zarr"), LABELS)
    zarr.create_group("image.zarr/labels", attributes={"ome": {"version": "0.5", "labels": ["cells"]}}, overwrite=False)
    assert "it is a group of label images, expected one; give one of them" in error_of(read_labels, "image.zarr/labels")


@pytest.mark.parametrize(
    ("values", "axes", "message"),
    [
        (LABELS.astype(np.float32), "yx", "its values are float32, expected integer labels"),
        (-LABELS, "yx", "it holds the negative value -700"),
        (np.stack([LABELS] * 2), "cyx", "it has 2 channels, expected gray labels"),
        (np.stack([LABELS] * 3), "cyx", r"it has 3 channels (RGB), expected gray labels"),
        ((LABELS > 0).astype(np.uint8), "yx", "it looks like a binary mask (1 is its only value"),
        (LABELS > 0, "yx", "it looks like a binary mask (255 is its only value"),
    ],
)
def test_what_holds_no_labels_is_refused(values, axes, message):
    assert message in error_of(read_labels, write("a.zarr", values, axes))


def test_masks_and_class_images():
    path = write("a.zarr", LABELS > 0)
    assert np.array_equal(read_labels(path, connected_components=True), np.minimum(LABELS, 2) - (LABELS == 3))
    assert np.array_equal(read_class_image(path), LABELS > 0)


def test_the_limits_of_pixels_hold():
    path = write("a.zarr", VALUES.astype(np.uint8))
    assert "it claims 24 x 20 pixels, more than the 100 pixels that are read" in error_of(read_header, path, 100)
    array = zarr.create_array("large.zarr", shape=(30_000, 30_000), chunks=(5_000, 5_000), dtype="uint8")
    array[:5_000, :5_000] = 1
    assert "it claims 30000 x 30000 pixels, more than the 500,000,000" in error_of(read_labels, "large.zarr")
    zarr.create_array("empty.zarr", shape=(60_000, 60_000), chunks=(512, 512), dtype="uint8")
    assert "it claims 60,000 x 60,000 values and holds 0 of" in error_of(read_labels, "empty.zarr")


@pytest.mark.parametrize("read", [read_image, read_labels])
def test_damage_gives_one_line(read):
    path = write("a.zarr", VALUES.astype(np.uint8))
    chunk = next(path.glob("0/c/*/*"))
    chunk.write_bytes(chunk.read_bytes()[:9])
    assert "cannot read a.zarr: it is damaged" in error_of(read, path)
    metadata = json.loads((path / "0/zarr.json").read_text())
    for change in ({"shape": [24]}, {"shape": "wide"}, {"codecs": [{"name": "unknown"}]}, {"data_type": "text"}):
        (path / "0/zarr.json").write_text(json.dumps(metadata | change))
        assert "cannot read a.zarr" in error_of(read, path)
    (path / "0/zarr.json").unlink()
    assert "the array '0' is missing" in error_of(read, path)
    (path / "zarr.json").write_text("{")
    assert "cannot read a.zarr" in error_of(read, path)
    (path / "zarr.json").unlink()
    assert "it is a folder, expected an image file" in error_of(read, path)
