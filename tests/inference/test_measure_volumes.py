"""Tables of the objects in volumes of labels."""

import numpy as np
import pytest

import instseg
from instseg.data.generate_volumes import generate_balls
from instseg.errors import InstsegError
from instseg.inference.measured import measure_labels, parse_pixel_size, pixel_size_um
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.io.label_strips import LabelStrips, label_array
from instseg.io.label_volumes import read_label_volume, write_label_volume
from instseg.io.pixel_size import PixelGeometry
from instseg.io.volume_tiff import write_volume
from instseg.io.volumes import ArrayVolume
from instseg.measurements import measure
from instseg.measurements.summary import VOLUME_SUMMARY_COLUMNS
from instseg.settings import BallSettings

LABELS = np.zeros((4, 5, 6), np.int32)
LABELS[1:3, 1:3, 1:4], LABELS[0, 4, 5] = 2, 7
VOLUME = np.arange(LABELS.size, dtype=np.uint16).reshape(LABELS.shape)
MICROMETRES = PixelGeometry((0.5, 0.25), unit="micrometer", depth=2.0)


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("balls")
    generate_balls(folder, count=2, settings=BallSettings(depth=12, size=40, min_balls=2, max_balls=4))
    return folder


def test_numbers_are_those_of_the_arrays(tmp_path):
    write_label_volume(tmp_path / "labels.tif", LABELS, MICROMETRES)
    write_volume(tmp_path / "volume.tif", VOLUME)
    result = instseg.measure_files(tmp_path / "labels.tif", tmp_path / "volume.tif", out=tmp_path / "objects.csv")
    expected = measure(LABELS, VOLUME, pixel_size=(2.0, 0.5, 0.25))
    assert list(result.columns) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(result.columns[name], values, err_msg=name)
    assert result.columns["volume_um3"].tolist() == [3, 0.25]
    assert result.notes == ()
    header, first, *_ = (tmp_path / "objects.csv").read_text().splitlines()
    assert header.startswith("label,centroid-0,centroid-1,centroid-2,bbox-0,")
    assert first.startswith("2,1.5,1.5,2,1,1,1,3,3,4,12,")


def test_a_folder_of_volumes(balls, tmp_path):
    out, summary = tmp_path / "objects.csv", tmp_path / "volumes.csv"
    result = instseg.measure_files(balls / "labels", balls / "images", out=out, summary=summary)
    assert [file.name for file in result.files] == ["0000", "0001"]
    assert [file.figures["depth"] for file in result.files] == [12, 12]
    labels = read_label_volume(balls / "labels" / "0001.tif")
    assert (result.columns["image"] == "0001").sum() == labels.max()
    assert summary.read_text().splitlines()[0] == ",".join(("image", *VOLUME_SUMMARY_COLUMNS))
    (note,) = result.notes
    assert note.startswith("the files of 2 volumes (0000, 0001) do not say how large a voxel is")
    given = instseg.measure_files(balls / "labels", out=out, pixel_size=(2.0, 1.0, 1.0))
    assert given.notes == ()
    assert (given.columns["volume_um3"] == 2 * given.columns["area"]).all()


def test_images_and_volumes_in_a_folder(tmp_path):
    for name in ("labels", "images"):
        (tmp_path / name).mkdir()
    write_label_volume(tmp_path / "labels" / "a.tif", LABELS, MICROMETRES)
    write_volume(tmp_path / "images" / "a.tif", VOLUME)
    write_labels(tmp_path / "labels" / "b.png", LABELS[1])
    write_picture(tmp_path / "images" / "b.png", VOLUME[1])
    summary = tmp_path / "summary.csv"
    result = instseg.measure_files(
        tmp_path / "labels", tmp_path / "images", out=tmp_path / "objects.csv", summary=summary
    )
    assert result.failed == ()
    assert result.columns["area"].tolist() == [12, 1, 6]
    assert np.isnan(result.columns["centroid-2"]).tolist() == [False, False, True]
    header, volume, image = (line.split(",") for line in summary.read_text().splitlines())
    assert dict(zip(header, volume, strict=True))["depth"] == "4"
    assert dict(zip(header, volume, strict=True))["density_per_mm2"] == ""
    assert dict(zip(header, image, strict=True))["median_area"] == "6.0"


def test_one_volume_that_cannot_be_measured_costs_no_other(balls, tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("0000", "0001"):
        volume = np.zeros((12 if name == "0000" else 11, 40, 40), np.uint8)
        write_volume(tmp_path / "images" / f"{name}.tif", volume)
    result = instseg.measure_files(balls / "labels", tmp_path / "images", out=tmp_path / "objects.csv")
    (failed,) = result.failed
    assert failed.name == "0001"
    assert "the labels have 12 x 40 x 40 pixels and the image has 11 x 40 x 40" in str(failed.error)


def test_labels_that_come_in_slabs():
    slabs = LabelStrips(LABELS.shape, lambda planes: (LABELS[z : z + 1] for z in range(len(LABELS))), streamed=True)
    found = measure_labels(slabs, ArrayVolume(VOLUME, geometry=MICROMETRES))
    expected = measure_labels(label_array(LABELS), ArrayVolume(VOLUME, geometry=MICROMETRES))
    assert list(found) == list(expected)
    assert "volume_um3" in found
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_sizes_of_voxels():
    assert pixel_size_um(MICROMETRES, 3) == (2.0, 0.5, 0.25)
    assert pixel_size_um(MICROMETRES) == (0.5, 0.25)
    assert pixel_size_um(PixelGeometry((0.5, 0.5), unit="micrometer"), 3) is None
    assert pixel_size_um(PixelGeometry((1.0, 1.0), depth=2.0), 3) is None
    assert pixel_size_um(PixelGeometry((500.0, 250.0), unit="nanometer", depth=2e3), 3) == (2.0, 0.5, 0.25)
    assert parse_pixel_size("2,0.5,0.25") == (2.0, 0.5, 0.25)


def test_a_size_of_pixels_for_a_volume_is_refused(tmp_path):
    write_label_volume(tmp_path / "labels.tif", LABELS)
    with pytest.raises(
        InstsegError, match="pixel_size is 0.5, expected three numbers of micrometres, along z, y and x"
    ):
        instseg.measure_files(tmp_path / "labels.tif", out=tmp_path / "objects.csv", pixel_size=(0.5, 0.5))
    assert not (tmp_path / "objects.csv").exists()
