"""`instseg predict --volume`."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instseg.io.images import read_image
from instseg.io.label_volumes import read_label_volume
from instseg.io.npz import read_embeddings


@pytest.fixture
def make_volume():
    """A function that writes a small volume of bright balls, whose planes are twice as far apart as its columns."""

    def make(name="volume.tif", axes="ZYX", shape=(8, 32, 32), **metadata):
        places = np.indices((8, 32, 32)).transpose(1, 2, 3, 0) * (2, 1, 1)
        values = np.random.default_rng(0).integers(0, 20, (8, 32, 32), np.uint16)
        for centre in ((8, 9, 9), (8, 22, 22)):
            values[np.linalg.norm(places - centre, axis=-1) < 7] += 200
        options = {"axes": axes, "spacing": 2.0, "unit": "um", **metadata}
        tifffile.imwrite(name, values[: shape[0]], imagej=True, resolution=(1, 1), metadata=options)

    return make


def test_predict_a_volume_and_all_that_is_made_of_it(run, files, make_volume, model):
    make_volume()
    extras = ("--scores", "s.csv", "--overlay", "o.png", "--measure", "m.csv", "--embeddings", "e.npz")
    result = run("predict", model, "volume.tif", "--volume", "--out", "labels.tif", *extras)
    assert result.exit_code == 0
    labels = read_label_volume("labels.tif")
    assert labels.shape == (8, 32, 32)
    assert result.stdout.splitlines()[0] == f"labels.tif: {labels.max()} instances"
    assert files() == ["e.npz", "labels.tif", "m.csv", "o.png", "s.csv", "volume.tif"]
    with tifffile.TiffFile("labels.tif") as file:
        assert file.imagej_metadata["spacing"] == pytest.approx(2.0)
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == labels.max()
    assert {"plane", "row", "column"} <= set(rows[0] if rows else {"plane", "row", "column"})
    assert len(Path("m.csv").read_text().splitlines()) == labels.max() + 1
    assert read_image("o.png").shape[2] == 3
    assert read_embeddings("e.npz").spacing == (2.0, 1.0, 1.0)
    assert run("cluster", "e.npz", "--out", "again.tif").exit_code == 0
    assert np.array_equal(read_label_volume("again.tif"), labels)


def test_predict_says_which_planes_and_what_it_does_not_know(run, make_volume, model):
    np.save("volume.npy", np.zeros((8, 32, 32), np.uint16))
    result = run("predict", model, "volume.npy", "--volume", "--out", "labels.npy")
    assert result.exit_code == 0
    assert np.load("labels.npy").shape == (8, 32, 32)
    assert "voxels are taken for cubes; give --spacing if they are not" in result.stderr
    assert "planes were taken along z, y and x, as " in result.stderr
    assert "--planes-from chooses otherwise" in result.stderr
    result = run("predict", model, "volume.npy", "--volume", "--spacing", "30,1,1", "--out", "labels.npy")
    assert "taken for cubes" not in result.stderr
    assert "planes were taken along z alone" in result.stderr


def test_predict_many_volumes_then_goes_on(run, files, make_volume, model):
    Path("in").mkdir()
    make_volume("in/a.tif")
    make_volume("in/b.tif", shape=(1, 32, 32))
    (Path("in") / "c.tif").write_bytes(b"no volume")
    result = run("predict", model, "in", "--volume", "--planes-from", "z", "--out-dir", "out")
    assert result.exit_code == 1
    assert "1 images, " in result.stdout
    assert "b.tif" in result.stderr
    assert [name for name in files() if name.startswith("out/")] == ["out/a.tif", "out/failed.csv", "out/run.json"]
    for name in ("b", "c"):
        (Path("in") / f"{name}.tif").unlink()
    result = run("predict", model, "in", "--volume", "--planes-from", "z", "--out-dir", "out", "--skip-existing")
    assert (result.exit_code, result.stdout) == (0, "0 images, 0 instances\n")
    result = run("predict", model, "in", "--volume", "--planes-from", "zyx", "--out-dir", "out", "--skip-existing")
    assert result.exit_code == 1
    assert "planes_from=" in result.stderr


def test_predict_a_folder_of_planes(run, model):
    Path("planes").mkdir()
    for number in range(5):
        tifffile.imwrite(f"planes/z{number:03}.tif", np.full((24, 24), number, np.uint8))
    result = run("predict", model, "planes", "--volume", "--spacing", "2,1,1", "--out", "labels.tif")
    assert result.exit_code == 0
    assert read_label_volume("labels.tif").shape == (5, 24, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "a.png"), "a PNG holds one plane"),
        (("--out-dir", "out", "--format", "png"), "a PNG holds one plane"),
        (("--out", "a.tif", "--planes"), "--planes takes the planes of a stack as images"),
        (
            ("--out", "a.tif", "--outlines", "a.geojson"),
            "--outlines cannot be made of volumes, as polygons are of planes",
        ),
        (("--out", "a.tif", "--coco", "a.json"), "--coco cannot be made of volumes"),
        (("--out", "a.tif", "--report", "a.html"), "--report cannot be made of volumes, as its pages show images"),
        (("--out", "a.tif", "--embeddings-picture", "a.png"), "--embeddings-picture cannot be made of volumes"),
        (("--out", "a.tif", "--spacing", "2,1"), "three numbers above 0"),
        (("--out", "a.tif", "--spacing", "a,b,c"), "three numbers above 0"),
        (("--out", "a.tif", "--spacing", "0,1,1"), "three numbers above 0"),
        (("--out", "a.tif", "--time", 3), "time"),
        (("--out", "a.tif", "--planes-from", "z", "--embeddings", "e.npz"), "no embeddings of a volume"),
        (("--out", "a.tif", "--measure", "m.csv", "--pixel-size", "1,1"), "expected three for volumes"),
    ],
)
def test_predict_refuses_what_makes_no_sense_for_volumes(run, files, make_volume, model, options, message):
    make_volume()
    result = run("predict", model, "volume.tif", "--volume", *options)
    assert result.exit_code in (1, 2)
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert files() == ["volume.tif"]


@pytest.mark.parametrize("options", [("--spacing", "2,1,1"), ("--planes-from", "z"), ("--time", 0)])
def test_options_of_volumes_need_one(run, files, make_volume, model, options):
    make_volume()
    result = run("predict", model, "volume.tif", "--out", "a.tif", *options)
    assert result.exit_code == 2
    assert f"{options[0]} is for volumes; add --volume" in result.stderr


def test_files_that_are_no_volumes_are_refused_before_the_model_is_asked_for(run, make_volume, model, monkeypatch):
    monkeypatch.setattr("instseg.cli.predict.finish_reading", None)
    make_volume("plane.tif", shape=(1, 32, 32))
    result = run("predict", model, "plane.tif", "--volume", "--out", "a.tif")
    assert (result.exit_code, "plane" in result.stderr) == (1, True)
    series = np.zeros((3, 2, 24, 24), np.uint8)
    tifffile.imwrite("series.tif", series, imagej=True, metadata={"axes": "TZYX"})
    result = run("predict", model, "series.tif", "--volume", "--out", "a.tif")
    assert result.exit_code == 1
    assert "--time" in result.stderr
