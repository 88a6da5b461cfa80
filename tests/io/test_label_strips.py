"""Labels strip by strip, from files in memory and from files that are read part by part."""

from contextlib import closing

import numpy as np
import pytest
import tifffile
import zarr

from instseg.io.image_file import ImageFileError
from instseg.io.label_strips import label_array, open_labels
from instseg.io.pixel_size import PixelGeometry
from instseg.io.source import open_image
from instseg.io.zarr_labels import write_zarr_labels

LABELS = np.random.default_rng(0).integers(0, 70_000, (37, 50), np.uint32)


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr("instseg.io.label_strips.STREAMING_PIXELS", 1000)


def write_tiff(path, labels=LABELS, **options):
    tifffile.imwrite(path, labels, tile=(16, 16), compression="zlib", photometric="minisblack", **options)
    return path


def write_zarr(path, labels=LABELS, axes="yx"):
    steps = [{"type": "scale", "scale": [0.5] * labels.ndim}]
    ome = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [
                    {"name": name, "type": "channel" if name == "c" else "space"}
                    | ({} if name == "c" else {"unit": "micrometer"})
                    for name in axes
                ],
                "datasets": [{"path": "0", "coordinateTransformations": steps}],
            }
        ],
    }
    group = zarr.create_group(str(path), attributes={"ome": ome}, zarr_format=3)
    group.create_array("0", data=labels, chunks=(16,) * labels.ndim)
    return path


def strips_of(reader, rows):
    strips = list(reader.strips(rows))
    assert [len(strip) for strip in strips[:-1]] == [rows] * (len(strips) - 1)
    return np.concatenate(strips)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32])
def test_a_large_tiff_is_read_part_by_part_as_often_as_needed(large, tmp_path, dtype):
    path = write_tiff(tmp_path / "a.tif", (LABELS % 200).astype(dtype))
    with closing(open_labels(path)) as reader:
        assert (reader.shape, reader.streamed) == ((37, 50), True)
        for rows in (10, 37):
            np.testing.assert_array_equal(strips_of(reader, rows), LABELS % 200)


def test_a_zarr_is_read_part_by_part_with_its_own_values(tmp_path):
    reader = open_labels(write_zarr(tmp_path / "a.zarr"))
    assert reader.streamed
    assert reader.geometry.pixel_size == (0.5, 0.5)
    np.testing.assert_array_equal(strips_of(reader, 9), LABELS)
    reader.close()


def test_labels_as_predict_writes_them(tmp_path):
    geometry = PixelGeometry((0.5, 0.25), None, "micrometer")
    write_zarr_labels(tmp_path / "a.zarr", LABELS.shape, iter([LABELS.astype(np.int32)]), geometry)
    reader = open_labels(tmp_path / "a.zarr")
    np.testing.assert_array_equal(strips_of(reader, 20), LABELS)
    assert reader.geometry.pixel_size == (0.5, 0.25)
    with pytest.raises(ImageFileError, match="it holds labels, expected an image"):
        open_image(tmp_path / "a.zarr")


def test_a_small_file_is_read_at_once(tmp_path):
    path = write_tiff(tmp_path / "a.tif", resolution=(20_000, 40_000), resolutionunit="CENTIMETER")
    reader = open_labels(path)
    assert not reader.streamed
    np.testing.assert_array_equal(strips_of(reader, 20), LABELS)
    assert reader.geometry.pixel_size == pytest.approx((1 / 40_000, 1 / 20_000))
    assert label_array(LABELS.astype(np.int32)).geometry is None


def test_masks_are_split_in_memory_only(large, tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[1:3, 1:3] = mask[9, 9] = 255
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, mask[:20, :20])
    assert strips_of(open_labels(small, connected_components=True), 20).max() == 2
    with pytest.raises(ImageFileError, match="binary mask"):
        open_labels(small)
    with pytest.raises(ImageFileError, match="it is read part by part, in which connected pieces cannot be numbered"):
        open_labels(write_tiff(tmp_path / "large.tif", mask), connected_components=True)


def test_what_holds_no_labels_is_refused(large, tmp_path):
    for name, values, axes, message in (
        ("float", LABELS.astype(np.float32), "yx", "its values are float32, expected integer labels"),
        ("colours", np.stack([LABELS] * 2), "cyx", "it has 2 channels, expected gray labels"),
    ):
        with pytest.raises(ImageFileError, match=message):
            open_labels(write_zarr(tmp_path / f"{name}.zarr", values, axes))
    negative = LABELS.astype(np.int32)
    negative[30, 3] = -5
    for path in (write_tiff(tmp_path / "a.tif", negative), write_zarr(tmp_path / "a.zarr", negative)):
        with closing(open_labels(path)) as reader, pytest.raises(ImageFileError, match="holds the negative value -5"):
            list(reader.strips(10))
    with pytest.raises(ImageFileError, match="there is no such file"):
        open_labels(tmp_path / "none.tif")
