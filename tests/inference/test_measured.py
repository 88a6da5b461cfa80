"""Sizes of pixels as files have them, and what is measured of the results of a model."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import instseg
from instseg.clustering.calibration import ScoreCalibration
from instseg.errors import InstsegError, UsageError
from instseg.inference.measured import measure_labels, parse_pixel_size, pixel_size_um
from instseg.io.label_strips import label_array
from instseg.io.pixel_size import PixelGeometry, read_pixel_geometry
from instseg.io.source import ArrayReader
from instseg.settings import FilterSettings, TileSettings

LABELS = np.array([[0, 1, 1, 0], [2, 1, 1, 3], [2, 0, 0, 3]])


@pytest.mark.parametrize(
    ("geometry", "size"),
    [
        (None, None),
        (PixelGeometry((0.3, 0.6), None, "micrometer"), (0.3, 0.6)),
        (PixelGeometry((3e-5, 3e-5), None, "centimeter"), (0.3, 0.3)),
        (PixelGeometry((250.0, 250.0), None, "nanometer"), (0.25, 0.25)),
        (PixelGeometry((0.3, 0.3), None, None), None),
        (PixelGeometry((1.0, 1.0), None, "second"), None),
        # 72 and 96 pixels per inch are what programs write that know nothing; 600 are a scanner's.
        (PixelGeometry((2.54 / 72, 2.54 / 72), None, "centimeter"), None),
        (PixelGeometry((2.54 / 96, 2.54 / 96), None, "centimeter"), None),
        (PixelGeometry((2.54 / 600, 2.54 / 600), None, "centimeter"), (25_400 / 600, 25_400 / 600)),
    ],
)
def test_sizes_in_micrometres(geometry, size):
    found = pixel_size_um(geometry)
    assert found == size or np.allclose(found, size, rtol=1e-9)


def test_a_file_of_another_program(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.tif", dpi=(72, 72))
    assert read_pixel_geometry(tmp_path / "a.tif") is not None
    assert pixel_size_um(read_pixel_geometry(tmp_path / "a.tif")) is None


@pytest.mark.parametrize("text", ["", "a", "1,2,3,4", "1,2,0", "0", "-1", "1,0", "nan", "inf", "1;2"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="pixel_size is .* expected a number of micrometres above 0"):
        parse_pixel_size(text)


def test_the_size_of_the_image_comes_before_that_of_the_labels(tmp_path):
    for name, size in (("image.tif", 0.5), ("labels.tif", 9.0)):
        metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size}
        tifffile.imwrite(tmp_path / name, LABELS.astype(np.uint16), ome=True, metadata=metadata)
    labels = label_array(LABELS, tmp_path / "labels.tif")
    image = ArrayReader(LABELS, tmp_path / "image.tif")
    assert measure_labels(labels, image)["area_um2"].tolist() == [1, 0.5, 0.5]
    assert measure_labels(labels)["area_um2"].tolist() == [324, 162, 162]
    assert measure_labels(labels, image, pixel_size=(1, 2))["area_um2"].tolist() == [8, 4, 4]
    assert "area_um2" not in measure_labels(label_array(LABELS), ArrayReader(LABELS))


def test_labels_of_another_image_are_refused():
    with pytest.raises(InstsegError, match="the labels have 3 x 4 pixels and the image has 4 x 3, expected equal"):
        measure_labels(label_array(LABELS), ArrayReader(LABELS.T))


@pytest.fixture(scope="module")
def model(tiny_model):
    return instseg.load(tiny_model)


@pytest.fixture
def image():
    from instseg.data.discs import draw_discs
    from instseg.settings import DiscSettings

    return draw_discs(np.random.default_rng(2), DiscSettings(size=200, min_discs=30, max_discs=30))[0]


def test_filters_leave_out_whole_objects_in_one_tile_and_in_many(model, image):
    tiles = TileSettings(tile=128, overlap=40)
    for how in (None, tiles):
        everything = model.segment(image, tiles=how)
        found = everything.instances
        chosen = FilterSettings(
            max_size=int(np.median(found.area)), exclude_border=True, min_score=float(np.quantile(found.score, 0.2))
        )
        left = model.segment(image, tiles=how, filters=chosen)
        inside = (found.bbox[:, :2] > 0).all(axis=1) & (found.bbox[:, 2:] < 200).all(axis=1)
        kept = found.label[inside & (found.area <= chosen.max_size) & (found.score >= chosen.min_score)]
        assert 0 < len(kept) < len(found) / 2
        expected = np.searchsorted(kept, everything.labels) + 1
        np.testing.assert_array_equal(left.labels, np.where(np.isin(everything.labels, kept), expected, 0))
        assert left.instances.label.tolist() == list(range(1, len(kept) + 1))
        assert left.instances.score.tolist() == found.score[np.isin(found.label, kept)].tolist()
    np.testing.assert_array_equal(model.predict(image, filters=FilterSettings(max_size=1)), 0)


def test_what_the_model_says_is_doubtful_is_left_out_unless_asked_otherwise(tiny_model, image):
    model = instseg.load(tiny_model)
    everything = model.segment(image, filters=FilterSettings(min_score=0.0))
    doubtful = float(np.quantile(everything.instances.score, 0.3))
    model.calibration = dataclasses.replace(model.calibration or ScoreCalibration(), min_score=doubtful)
    asked = model.predict(image, filters=FilterSettings(min_score=doubtful))
    assert 0 < asked.max() < everything.labels.max()
    for tiles in (None, TileSettings(tile=128, overlap=40)):
        whole = model.segment(image, tiles=tiles, filters=FilterSettings(min_score=0.0))
        kept = whole.instances.label[whole.instances.score >= doubtful]
        found = model.segment(image, tiles=tiles)
        np.testing.assert_array_equal(found.labels > 0, np.isin(whole.labels, kept))
        assert len(found.instances) == len(kept) < len(whole.instances)
        assert found.doubtful == len(whole.instances) - len(kept)
        assert whole.doubtful == 0
    np.testing.assert_array_equal(model.predict(image), asked)
    np.testing.assert_array_equal(model.predict(image, filters=FilterSettings(min_score=0.0)), everything.labels)


def test_scores_and_classes_go_with_the_numbers(model, image):
    result = model.segment(image)
    found = measure_labels(label_array(result.labels), ArrayReader(image), instances=result.instances)
    assert list(found)[:3] == ["label", "score", "centroid-0"]
    assert found["score"].tolist() == result.instances.score.tolist()
    assert found["area"].tolist() == result.instances.area.tolist()
    np.testing.assert_allclose(found["centroid-1"], result.instances.centroid[:, 1])
    means = [image[result.labels == label].mean() for label in found["label"]]
    np.testing.assert_allclose(found["intensity_mean"], means)


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_streamed_image_is_measured_as_one_in_memory(tiny_model, image, in_empty_folder, monkeypatch):
    metadata = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    tifffile.imwrite("image.tif", image, tile=(64, 64), compression="zlib", ome=True, metadata=metadata)
    options = {"tile": 128, "overlap": 40, "exclude_border": True, "min_score": 0.2}
    # Levels of streamed images are estimated from parts of them.
    low, high = (float(value) for value in np.percentile(image, (1, 99.8)))
    instseg.predict_files(
        tiny_model, "image.tif", out="a.tif", measure="a.csv", scores="as.csv", levels=(low, high), **options
    )
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", 1000)
    monkeypatch.setattr("instseg.io.label_strips.STREAMING_PIXELS", 1000)
    monkeypatch.setattr("instseg.inference.measured._STREAMED_ROWS", 16)
    instseg.predict_files(
        tiny_model, "image.tif", out="b.tif", measure="b.csv", scores="bs.csv", levels=(low, high), **options
    )
    assert np.array_equal(tifffile.imread("a.tif"), tifffile.imread("b.tif"))
    assert Path("a.csv").read_text() == Path("b.csv").read_text()
    assert Path("as.csv").read_text() == Path("bs.csv").read_text()
    # The same from the files alone, but for the scores.
    result = instseg.measure_files("b.tif", "image.tif", out="c.csv")
    rows = [line.split(",") for line in Path("b.csv").read_text().splitlines()]
    assert [",".join([row[0], *row[2:]]) for row in rows] == Path("c.csv").read_text().splitlines()
    assert math.isclose(result.columns["area_um2"][0], result.columns["area"][0] / 8)
