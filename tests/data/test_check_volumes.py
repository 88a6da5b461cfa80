"""The report on a data folder that holds volumes."""

import json

import numpy as np
import pytest
import tifffile

from instseg.data.check import check_data
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.io.label_volumes import write_label_volume
from instseg.io.pixel_size import PixelGeometry
from instseg.io.volume_tiff import write_volume

LABELS = np.zeros((6, 10, 12), np.int32)
LABELS[1:4, 2:6, 1:5] = 3
LABELS[0:6, 7:10, 7:12] = 8
VOLUME = np.random.default_rng(0).integers(0, 200, LABELS.shape).astype(np.uint8)
ELONGATED = PixelGeometry((1.0, 1.0), depth=2.0)


@pytest.fixture
def folder(tmp_path):
    """A function that writes pairs of volumes; a third value is their geometry."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()

    def write(**pairs):
        for name, (volume, labels, *geometry) in pairs.items():
            write_volume(tmp_path / "images" / f"{name}.tif", volume, *geometry)
            write_label_volume(tmp_path / "labels" / f"{name}.tif", labels, *geometry)
        return tmp_path

    return write


def problems(report, severity):
    return [(problem.what, problem.files) for problem in report.problems if problem.severity == severity]


def test_numbers_by_hand(folder):
    report = check_data(folder(a=(VOLUME, LABELS, ELONGATED), b=(VOLUME[:5], LABELS[:5], ELONGATED)), patch_size=4)
    assert (report.pairs, report.usable, report.volumes) == (2, 2, 2)
    assert report.sizes == {"6 x 10 x 12": 1, "5 x 10 x 12": 1}
    assert (report.depth, report.height, report.width) == ((5, 6), (10, 10), (12, 12))
    assert report.spacings == {"2 : 1 : 1": 2}
    assert report.instances["total"] == 4
    # Of 48, 90, 48 and 75 voxels of two cubic pixels.
    volumes = 2 * np.array([48, 90, 48, 75])
    assert report.diameters["50"] == pytest.approx(np.median(np.cbrt(6 * volumes / np.pi)), abs=0.01)
    assert report.foreground == pytest.approx((48 + 90 + 48 + 75) / (11 * 120), abs=1e-4)
    assert problems(report, "error") == []
    assert json.loads(json.dumps(report.to_dict()))["depth"] == [5, 6]


def test_volumes_without_spacing_are_said(folder):
    report = check_data(folder(a=(VOLUME, LABELS), b=(VOLUME, LABELS)), patch_size=4)
    (warning,) = [what for what, _ in problems(report, "warning") if "planes" in what]
    assert "voxels are taken for cubes" in warning
    assert report.spacings == {}


def test_spacings_that_differ(folder):
    other = PixelGeometry((1.0, 1.0), depth=5.0)
    root = folder(a=(VOLUME, LABELS, ELONGATED), b=(VOLUME, LABELS, ELONGATED), c=(VOLUME, LABELS, other))
    report = check_data(root, patch_size=4)
    found = dict(problems(report, "warning"))
    assert found["the images differ in their sizes of voxels (2 : 1 : 1 in 2, 5 : 1 : 1 in 1)"] == ("images/c.tif",)


def test_labels_of_another_depth(folder):
    report = check_data(folder(a=(VOLUME, LABELS[:4], ELONGATED), b=(VOLUME, LABELS, ELONGATED)), patch_size=4)
    (problem,) = [problem for problem in report.problems if problem.severity == "error"]
    assert problem.what == "the volume is 6 x 10 x 12 pixels and its labels are 4 x 10 x 12"
    assert problem.advice == "export the labels at the volume's size"
    assert problem.files == ("images/a.tif",)
    assert report.usable == 1


def test_volumes_that_are_flatter_than_their_objects(folder):
    flat = np.zeros((2, 30, 30), np.int32)
    flat[:, 2:28, 2:28] = 1
    report = check_data(folder(a=(np.zeros((2, 30, 30), np.uint8), flat, ELONGATED)), patch_size=4)
    (found,) = [what for what, _ in problems(report, "warning") if "deep" in what]
    assert found == "the volume of 2 planes is 4 pixels deep, less than an object of 17.3 pixels"


def test_images_and_volumes_in_a_folder(folder):
    root = folder(a=(VOLUME, LABELS, ELONGATED), b=(VOLUME, LABELS, ELONGATED))
    write_picture(root / "images" / "c.png", VOLUME[0])
    write_labels(root / "labels" / "c.png", LABELS[1])
    report = check_data(root, patch_size=4)
    ((what, files),) = problems(report, "error")
    assert what == "the images differ in their number of axes (three in 2, two in 1)"
    assert files == ("images/c.png",)
    assert not report.usable_for_training


def test_an_image_of_one_plane_with_labels_of_several(folder):
    root = folder(b=(VOLUME, LABELS, ELONGATED))
    tifffile.imwrite(root / "images" / "a.tif", VOLUME[0])
    write_label_volume(root / "labels" / "a.tif", LABELS)
    report = check_data(root, patch_size=4)
    ((what, files),) = problems(report, "error")
    assert what == "it is one plane of 10 x 12 pixels, expected a volume, as the labels are volumes"
    assert files == ("images/a.tif",)


def test_a_volume_whose_labels_cannot_be_read_is_none_of_the_problems(folder):
    root = folder(a=(VOLUME, LABELS, ELONGATED), b=(VOLUME, LABELS, ELONGATED))
    (root / "labels" / "a.tif").write_bytes(b"no TIFF")
    report = check_data(root, patch_size=4)
    assert [files for _, files in problems(report, "error")] == [("labels/a.tif",)]
    assert (report.volumes, report.usable) == (1, 1)


def test_colour_volumes_are_counted_by_their_channels(folder):
    colour = np.stack([VOLUME] * 3, axis=-1)
    report = check_data(folder(a=(colour, LABELS, ELONGATED), b=(colour, LABELS, ELONGATED)), patch_size=4)
    assert report.channels == {"3": 2}
    assert report.volumes == 2
