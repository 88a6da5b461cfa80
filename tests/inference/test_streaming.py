"""Images that are streamed, TIFF and OME-Zarr, are segmented as images in memory are, and their results written so."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

import instseg
from instseg.cli import app
from instseg.data.discs import draw_discs
from instseg.evaluation.metrics import score
from instseg.inference.label_store import LabelsOnDisk
from instseg.inference.options import PredictOptions
from instseg.inference.tiled import segment
from instseg.io.folders import find_images
from instseg.io.label_images import read_labels
from instseg.io.pixel_size import read_pixel_geometry
from instseg.io.source import ArrayReader
from instseg.io.tiff import TiffReader
from instseg.settings import DiscSettings, TileSettings

TILES = TileSettings(tile=128, overlap=40)
OPTIONS = ("--tile", 128, "--overlap", 40, "--scores", "scores.csv")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def image():
    return draw_discs(np.random.default_rng(2), DiscSettings(size=300, min_discs=50, max_discs=50))[0]


@pytest.fixture
def large(image, monkeypatch):
    """A TIFF that counts as large, with pixels of 0.5 x 0.25 micrometres."""
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", 1000)
    metadata = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    tifffile.imwrite("large.tif", image, tile=(64, 64), compression="zlib", ome=True, metadata=metadata)
    return Path("large.tif")


@pytest.fixture
def large_zarr(image):
    """An OME-Zarr image, with pixels of 0.5 x 0.25 micrometres, the first of them at 10, 20."""
    group = zarr.create_group("image.zarr")
    group.create_array("0", shape=image.shape, dtype=image.dtype, chunks=(64, 64))[...] = image
    steps = [{"type": "scale", "scale": [0.5, 0.25]}, {"type": "translation", "translation": [10, 20]}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"],
                "datasets": [{"path": "0", "coordinateTransformations": steps}],
            }
        ],
    }
    return Path("image.zarr")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def names():
    return sorted(path.name for path in Path().iterdir())


def test_a_streamed_image_is_segmented_as_one_in_memory(tiny_model, large, image):
    model = instseg.load(tiny_model, precision="float32")
    with closing(TiffReader(large)) as reader:
        streamed = segment(model, reader, PredictOptions(tiles=TILES, workspace=Path()))
    assert isinstance(streamed.store, LabelsOnDisk)
    whole = segment(model, ArrayReader(image), PredictOptions(tiles=TILES, measure=True))
    # Percentiles are estimated from every second pixel, and differ a little.
    assert score(whole.labels, streamed.labels).mean_ap > 0.95
    assert len(streamed.instances) == streamed.labels.max() > 20
    np.testing.assert_array_equal(streamed.instances.area, np.bincount(streamed.labels.ravel())[1:])
    for rows in (1, 7, 300, 1000):
        np.testing.assert_array_equal(np.concatenate(list(streamed.strips(rows))), streamed.labels)
    assert names() == ["large.tif"]


def test_the_command_streams_what_is_too_large_for_memory(tiny_model, large):
    done = run("predict", tiny_model, large, "--out", "labels.tif", *OPTIONS)
    assert done.exit_code == 0, done.stderr
    labels = read_labels(Path("labels.tif"))
    assert labels.shape == (300, 300)
    assert done.stdout == f"labels.tif: {labels.max()} instances\n"
    assert len(Path("scores.csv").read_text().splitlines()) == 1 + labels.max()
    assert names() == ["labels.tif", "large.tif", "scores.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "labels.png"), "large.tif is read part by part, and its labels are written so, as TIFF"),
        (("--out", "labels.tif", "--overlay", "o.png"), "which --overlay cannot be; leave it out"),
        (("--out", "labels.tif", "--embeddings", "e.npz"), "which --embeddings cannot be; leave it out"),
    ],
)
def test_what_a_large_image_cannot_have(tiny_model, large, options, message):
    refused = run("predict", tiny_model, large, *options)
    assert refused.exit_code == 1
    assert message in refused.stderr
    assert names() == ["large.tif"]


def test_the_command_reads_and_writes_zarr(tiny_model, large_zarr, image):
    assert find_images([large_zarr]) == [large_zarr]
    done = run("predict", tiny_model, large_zarr, "--out", "labels.zarr", *OPTIONS, "--precision", "float32")
    assert done.exit_code == 0, done.stderr
    labels = zarr.open("labels.zarr", mode="r")["0"][...].astype(np.int32)
    assert done.stdout == f"labels.zarr: {labels.max()} instances\n"
    assert score(instseg.load(tiny_model, precision="float32").predict(image), labels).mean_ap > 0.95
    assert run("predict", tiny_model, large_zarr, "--out-dir", "out", "--format", "zarr").exit_code == 0
    assert (zarr.open("out/image.zarr", mode="r")["0"][...] > 0).mean() > 0.05
    refused = run("predict", tiny_model, large_zarr, "--out", "labels.png")
    assert refused.exit_code == 1
    assert "image.zarr is read part by part" in refused.stderr


@pytest.mark.parametrize("pixels", [1000, 1_000_000])
def test_the_size_of_pixels_goes_from_a_tiff_to_its_labels(tiny_model, large, monkeypatch, pixels):
    # Read part by part, and at once.
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", pixels)
    for name in ("labels.tif", "labels.zarr"):
        assert run("predict", tiny_model, large, "--out", name).exit_code == 0
    geometry = read_pixel_geometry("labels.tif")
    assert geometry.pixel_size == pytest.approx((5e-5, 2.5e-5))
    assert (geometry.position, geometry.unit) == (None, "centimeter")
    written = zarr.open("labels.zarr", mode="r").attrs["ome"]["multiscales"][0]
    assert [axis["unit"] for axis in written["axes"]] == ["micrometer"] * 2
    assert written["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [0.5, 0.25]}]


def test_the_size_of_pixels_goes_from_zarr_to_its_labels(tiny_model, large_zarr):
    for name in ("labels.tif", "labels.zarr"):
        assert run("predict", tiny_model, large_zarr, "--out", name).exit_code == 0
    geometry = read_pixel_geometry("labels.tif")
    assert geometry.pixel_size == pytest.approx((5e-5, 2.5e-5))
    assert geometry.position == pytest.approx((10e-4, 20e-4))
    written = zarr.open("labels.zarr", mode="r").attrs["ome"]["multiscales"][0]
    assert written["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [0.5, 0.25]},
        {"type": "translation", "translation": [10.0, 20.0]},
    ]
