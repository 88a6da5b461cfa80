"""Labels of volumes: what is read and refused, and files that other programs open with planes, spacing and unit."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from instseg.errors import InstsegError, UsageError
from instseg.io import volume_tiff
from instseg.io.label_strips import open_labels
from instseg.io.label_volumes import read_label_volume, write_label_slabs, write_label_volume
from instseg.io.pixel_size import PixelGeometry
from instseg.io.volume_tiff import write_volume
from instseg.io.volumes import read_volume_header
from instseg.labels.regions import IGNORED

LABELS = np.zeros((6, 12, 10), np.int32)
LABELS[1:3, 2:5, 3:6] = 7
LABELS[3:5, 5:11, 2:9] = 300
MICROMETRES = PixelGeometry((0.5, 0.25), None, "micrometer", 2.0)
RATIO = PixelGeometry((1.0, 1.0), depth=2.0)
NAMES = ("a.tif", "a.tiff", "a.ome.tif", "a.npy", "a.ome.zarr")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(call, *args, **options):
    with pytest.raises(InstsegError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def slabs_of(labels, *depths):
    ends = np.cumsum(depths)
    assert ends[-1] == len(labels)
    return (labels[end - depth : end] for end, depth in zip(ends, depths, strict=True))


# Written and read again


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [1, 1000])
@pytest.mark.parametrize("geometry", [None, MICROMETRES, RATIO])
def test_labels_are_read_as_they_were_written(name, factor, geometry):
    write_label_volume(name, LABELS * factor, geometry)
    labels = read_label_volume(name)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, LABELS * factor)
    assert read_volume_header(name).geometry == (None if name == "a.npy" else geometry)
    opened = open_labels(name, volume=True)
    assert opened.shape == LABELS.shape
    np.testing.assert_array_equal(np.concatenate(list(opened.strips(4))), LABELS * factor)
    assert sorted(path.name for path in Path().iterdir()) == [name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depths", [(6,), (1, 3, 2), (1,) * 6])
def test_slabs_of_any_depth_make_one_volume(name, depths):
    write_label_slabs(name, LABELS.shape, slabs_of(LABELS, *depths), MICROMETRES, largest=300)
    np.testing.assert_array_equal(read_label_volume(name), LABELS)


def test_labels_whose_largest_is_not_known_are_of_32_bit():
    write_label_slabs("a.tif", LABELS.shape, slabs_of(LABELS, 6))
    assert read_volume_header("a.tif").dtype == "uint32"


# What other programs read of it


def test_few_labels_are_a_hyperstack_of_imagej():
    write_label_volume("a.tif", LABELS, MICROMETRES)
    with tifffile.TiffFile("a.tif") as tiff:
        assert (tiff.is_imagej, tiff.is_bigtiff, tiff.series[0].axes) == (True, False, "ZYX")
        described = tiff.imagej_metadata
        assert (described["slices"], described["spacing"], described["unit"]) == (6, 2.0, "um")
        # The range of values that it shows.
        assert (described["min"], described["max"]) == (0.0, 300.0)
        page = tiff.pages[0]
        assert (page.tags["XResolution"].value, page.tags["YResolution"].value) == ((4, 1), (2, 1))
        assert page.dtype == np.uint16
        np.testing.assert_array_equal(tiff.asarray(), LABELS)


@pytest.mark.parametrize(("name", "factor"), [("a.tif", 1000), ("a.ome.tif", 1)])
def test_many_labels_or_a_name_that_asks_for_it_are_ome(name, factor):
    write_label_volume(name, LABELS * factor, MICROMETRES)
    with tifffile.TiffFile(name) as tiff:
        assert (tiff.is_ome, tiff.series[0].axes, len(tiff.pages)) == (True, "ZYX", 6)
        assert tiff.pages[0].dtype == (np.uint32 if factor == 1000 else np.uint16)
        sizes = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [sizes[f"PhysicalSize{axis}"] for axis in "ZYX"] == [2.0, 0.5, 0.25]
        assert {sizes[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"µm"}
        np.testing.assert_array_equal(tiff.asarray(), LABELS * factor)


def test_sizes_without_a_unit_are_in_pixels():
    write_label_volume("a.tif", LABELS, RATIO)
    with tifffile.TiffFile("a.tif") as tiff:
        assert (tiff.imagej_metadata["unit"], tiff.imagej_metadata["spacing"]) == ("pixel", 2.0)
    write_label_volume("a.ome.tif", LABELS, RATIO)
    with tifffile.TiffFile("a.ome.tif") as tiff:
        sizes = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (sizes["PhysicalSizeZ"], sizes["PhysicalSizeZUnit"]) == (2.0, "pixel")


def test_what_does_not_fit_into_4_gib_is_a_bigtiff(monkeypatch):
    monkeypatch.setattr(volume_tiff, "_LARGEST_TIFF", LABELS.size * 2 - 1)
    write_label_volume("a.tif", LABELS, MICROMETRES)
    with tifffile.TiffFile("a.tif") as tiff:
        assert (tiff.is_bigtiff, tiff.is_ome, tiff.is_imagej) == (True, True, False)
    np.testing.assert_array_equal(read_label_volume("a.tif"), LABELS)
    assert read_volume_header("a.tif").geometry == MICROMETRES


@pytest.mark.parametrize("width", [0.1625, 1e-9, 3e7, 1 / 3])
def test_sizes_survive_whatever_they_are(width):
    geometry = PixelGeometry((width, width), None, "micrometer", 2.5 * width)
    for name in ("a.tif", "a.ome.tif", "a.zarr"):
        write_label_volume(name, LABELS, geometry)
        read = read_volume_header(name).geometry
        assert read.unit == "micrometer"
        assert read.spacing == pytest.approx(geometry.spacing, rel=1e-6)


PLACED = PixelGeometry((0.5, 0.25), (3.0, -4.0), "micrometer", 2.0, 5.0)


def test_the_position_of_a_volume_is_kept_or_said_to_be_left_out():
    for name in ("a.tif", "a.zarr"):
        assert write_label_slabs(name, LABELS.shape, slabs_of(LABELS, 6), PLACED, largest=300) is None
        assert read_volume_header(name).geometry == PLACED
    note = write_label_slabs("a.ome.tif", LABELS.shape, slabs_of(LABELS, 6), PLACED)
    assert note == "the position of the volume does not fit into an OME-TIFF and is left out"
    assert read_volume_header("a.ome.tif").geometry == MICROMETRES
    placed = PixelGeometry((0.5, 0.25), (3.0, 4.0), "micrometer", 2.0)
    assert write_label_slabs("a.ome.tif", LABELS.shape, slabs_of(LABELS, 6), placed) is None
    assert read_volume_header("a.ome.tif").geometry.position == pytest.approx((3.0, 4.0), rel=1e-5)


def test_zarr_is_what_the_format_prescribes():
    from ome_zarr_models.v05.image_label import ImageLabel

    labels = np.random.default_rng(0).integers(0, 100_000, (7, 40, 600)).astype(np.int32)
    geometry = PixelGeometry((0.5, 0.5), (3.0, 4.0), "micrometer", 1.0, 5.0)
    write_label_slabs("a.zarr", labels.shape, slabs_of(labels, 3, 1, 3), geometry)
    group = zarr.open_group("a.zarr", mode="r")
    (image,) = ImageLabel.from_zarr(group).ome_attributes.multiscales
    assert [axis.name for axis in image.axes] == ["z", "y", "x"]
    transformations = [dataset.coordinateTransformations for dataset in image.datasets]
    assert [scale.scale for scale, _ in transformations] == [[1, 0.5, 0.5], [1, 1, 1], [2, 2, 2]]
    assert [place.translation for _, place in transformations] == [[5, 3, 4]] * 3
    for level, (depth, side) in enumerate([(1, 1), (1, 2), (2, 4)]):
        np.testing.assert_array_equal(group[str(level)][...], labels[::depth, ::side, ::side])
    assert read_volume_header("a.zarr").geometry == geometry
    np.testing.assert_array_equal(read_label_volume("a.zarr"), labels)


def test_chunks_of_many_planes_are_written_once(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 9, (37, 20, 30)).astype(np.int32)
    write_label_slabs("a.zarr", labels.shape, slabs_of(labels, 5, 20, 1, 11))
    np.testing.assert_array_equal(read_label_volume("a.zarr"), labels)


# What is refused


def test_names_and_values_that_do_not_fit_are_refused():
    expected = "labels of a volume of 6 x 12 x 10 voxels are written as TIFF, OME-Zarr or NumPy; write a.tif instead"
    assert expected in message(write_label_volume, "a.png", LABELS)
    assert "label 4294967296 does not fit into 32 bit" in message(
        write_label_volume, "a.tif", np.full((2, 2, 2), 2**32, np.int64)
    )
    for labels in (LABELS[0], LABELS.astype(float), LABELS - 1):
        with pytest.raises(UsageError, match="labels "):
            write_label_volume("a.tif", labels)
    assert not list(Path().iterdir())


def test_what_is_no_labels_is_refused():
    write_volume("floats.tif", LABELS.astype(np.float32))
    assert "its values are float32, expected integer labels" in message(read_label_volume, "floats.tif")
    write_volume("colours.tif", np.zeros((3, 4, 5, 3), np.uint8))
    assert "it has 3 channels (RGB), expected gray labels" in message(read_label_volume, "colours.tif")
    write_volume("negative.tif", (LABELS - 2).astype(np.int16))
    assert "it holds the negative value -2" in message(read_label_volume, "negative.tif")
    for name in ("floats.tif", "negative.tif"):
        assert "cannot read" in message(open_labels, name, volume=True)


def test_masks_are_refused_or_taken_apart():
    mask = (LABELS > 0).astype(np.uint8)
    mask[5, 0, 0] = 1
    np.save("a.npy", mask)
    assert "it looks like a binary mask (1 is its only value besides 0, in 2 pieces)" in message(
        read_label_volume, "a.npy"
    )
    # Both boxes touch along an edge, and the voxel on its own does not.
    labels = read_label_volume("a.npy", connected_components=True)
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels[LABELS > 0] == 1).all()
    np.testing.assert_array_equal(read_label_volume("a.npy", prediction=True), mask)


def test_voxels_may_be_ignored():
    np.save("a.npy", np.where(LABELS == 7, 255, LABELS).astype(np.uint16))
    labels = read_label_volume("a.npy", ignore_label=255)
    assert (labels[LABELS == 7] == IGNORED).all()
    assert (labels[LABELS == 300] == 300).all()


def test_a_file_that_is_there_stays_if_writing_fails():
    for name in NAMES:
        write_label_volume(name, LABELS)

        def broken():
            yield LABELS[:2]
            raise InstsegError("no more")

        assert message(write_label_slabs, name, LABELS.shape, broken(), largest=300) == "no more"
        np.testing.assert_array_equal(read_label_volume(name), LABELS)
    assert {path.name for path in Path().iterdir()} == set(NAMES)


# Part by part


@pytest.mark.parametrize("name", NAMES)
def test_large_labels_are_read_slab_by_slab(monkeypatch, name):
    write_label_volume(name, LABELS, MICROMETRES)
    monkeypatch.setattr("instseg.io.stored_volume.STREAMING_PIXELS", LABELS.size - 1)
    labels = open_labels(name, volume=True)
    assert labels.streamed
    for _ in range(2):
        slabs = list(labels.strips(4))
        assert [len(slab) for slab in slabs] == [4, 2]
        np.testing.assert_array_equal(np.concatenate(slabs), LABELS)
    assert labels.geometry == (None if name == "a.npy" else MICROMETRES)
    labels.close()
    assert "in which connected pieces cannot be numbered" in message(
        open_labels, name, volume=True, connected_components=True
    )


def test_one_time_point_of_labels_is_read():
    series = np.stack([LABELS, LABELS * 2]).astype(np.uint16)
    tifffile.imwrite("a.tif", series, imagej=True, metadata={"axes": "TZYX"})
    np.testing.assert_array_equal(read_label_volume("a.tif", time=1), LABELS * 2)
    assert "choose one by `time` (0 to 1)" in message(open_labels, "a.tif", volume=True)
