"""Files opened as images: read at once or streamed, one by one or plane by plane."""

import numpy as np
import pytest
import tifffile

from instseg.io.source import ArrayReader, open_image, open_planes, whole_box
from instseg.io.tiff import TiffReader

STACK = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def read_all(readers):
    parts = []
    for reader in readers:
        parts.append(reader.read(whole_box(reader)))
        reader.close()
    return parts


def test_planes_of_a_tiff(tif):
    readers = open_planes(tif(STACK, photometric="minisblack"))
    assert all(isinstance(reader, ArrayReader) for reader in readers)
    np.testing.assert_array_equal(np.stack(read_all(readers))[..., 0], STACK)


def test_one_image_is_one_plane(png, tif):
    for path in (png(STACK[0]), tif(STACK[0])):
        (plane,) = read_all(open_planes(str(path)))
        np.testing.assert_array_equal(plane[..., 0], STACK[0])


def test_large_images_are_streamed(tif, monkeypatch):
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", 10)
    path = tif(STACK[0])
    for reader in (open_image(path), *open_planes(path)):
        assert isinstance(reader, TiffReader)
        np.testing.assert_array_equal(reader.read(whole_box(reader))[..., 0], STACK[0])
        reader.close()
    turned = tif(STACK[0], extratags=[(274, 3, 1, 6, True)])
    assert open_image(turned).shape == (5, 4, 1)
    assert len(open_planes(tif(STACK, photometric="minisblack"))) == 3


def test_planes_of_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "a.zarr", shape=(3, 4, 5), dtype="uint8", dimension_names=["z", "y", "x"])
    array[...] = STACK
    planes = open_planes(tmp_path / "a.zarr")
    np.testing.assert_array_equal(np.stack(read_all(planes))[..., 0], STACK)
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    np.testing.assert_array_equal(np.stack(read_all(open_planes(tmp_path / "a.tif")))[..., 0], STACK)
