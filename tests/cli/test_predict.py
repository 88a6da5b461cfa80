"""`instseg predict`: what works."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instseg.clustering.calibration import ScoreCalibration
from instseg.evaluation.metrics import score
from instseg.io.images import read_image
from instseg.io.label_images import read_labels, write_labels
from instseg.io.npz import read_embeddings
from instseg.models.config import write_calibration
from instseg.network.runtime import default_precision


def test_predict_starts_quietly_and_writes_labels(run, start, finish, make_image, model):
    make_image()
    code, stdout, stderr = finish(start("predict", model, "image.png", "--out", "labels.png"))
    assert (code, stderr) == (0, "")
    labels = read_labels(Path("labels.png"))
    assert stdout == f"labels.png: {labels.max()} instances\n"
    assert labels.shape == (48, 48)
    assert run("predict", model, "image.png", "--out", "again.tif").exit_code == 0
    assert np.array_equal(tifffile.imread("again.tif"), labels)


@pytest.mark.parametrize("options", [(), ("--method", "hdbscan", "--min-size", 3), ("--position-weight", 0.5)])
def test_predict_with_embeddings_then_cluster_gives_the_same_bytes(run, make_image, model, options):
    make_image()
    outputs = ("--out", "a.png", "--embeddings", "maps.npz", "--scores", "a.csv", "--outlines", "a.geojson")
    result = run("predict", model, "image.png", *outputs, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert run("cluster", "maps.npz", "--out", "b.png", "--scores", "b.csv", "--outlines", "b.geojson").exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert Path("a.geojson").read_bytes() == Path("b.geojson").read_bytes()
    labels = read_labels(Path("a.png"))
    assert labels.max() > 0
    assert len(Path("a.csv").read_text().splitlines()) == labels.max() + 1


def test_predict_draws_pictures(run, files, make_image, model):
    make_image()
    pictures = ("--overlay", "overlay.png", "--embeddings-picture", "embeddings.png")
    assert run("predict", model, "image.png", "--out", "labels.png", *pictures).exit_code == 0
    assert read_image(Path("overlay.png")).shape == (48, 48, 3)
    assert files() == ["embeddings.png", "image.png", "labels.png", "overlay.png"]


def test_predict_computes_in_bfloat16_where_the_machine_is_made_for_it(
    run, refused, files, make_image, model, tmp_path_factory, monkeypatch
):
    make_image()
    options = ("predict", model, "image.png", "--precision", "bfloat16", "--embeddings", "maps.npz")
    if default_precision() == "bfloat16":
        assert run(*options, "--out", "labels.png").exit_code == 0
        for name, given in {"default": (), "fine": ("--precision", "float32")}.items():
            arguments = ("image.png", "--out", f"{name}.png", "--embeddings", f"{name}.npz", *given)
            assert run("predict", model, *arguments).exit_code == 0
        stored = (Path(f"{name}.npz") for name in ("maps", "default", "fine"))
        coarse, default, fine = (read_embeddings(file).foreground for file in stored)
        np.testing.assert_array_equal(default, coarse)
        assert 0 < np.abs(coarse - fine).max() < 0.05
        for name in ("labels.png", "maps.npz", "default.png", "default.npz", "fine.png", "fine.npz"):
            Path(name).unlink()
    other = tmp_path_factory.mktemp("machine") / "cpuinfo"
    other.write_text("flags : sse2")
    monkeypatch.setattr("instseg.network.runtime._CPU_FILE", other)
    error = refused(run(*options, "--out", "labels.png"), code=2)
    assert error.startswith("--precision is bfloat16, expected float32")
    assert files() == ["image.png"]


def test_predict_takes_folders(run, files, make_data, model):
    data = make_data(count=2)
    result = run("predict", model, data / "images", "--out-dir", "out", "--format", "tif", "--overlay", "overlays")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"2 images, \d+ instances\n", result.stdout)
    written = ["out/0.tif", "out/1.tif", "out/run.json", "overlays/0.png", "overlays/1.png"]
    assert [name for name in files() if name.startswith("o")] == written


def test_predict_goes_on_after_an_image_that_cannot_be_read(run, files, make_image, model):
    Path("in").mkdir()
    make_image("in/a.png")
    Path("in/b.png").write_text("not an image")
    result = run("predict", model, "in", "--out-dir", "out")
    assert result.exit_code == 1
    assert result.stdout.startswith("1 images, ")
    first, last = result.stderr.splitlines()
    assert "in/b.png: its content is none that is known (PNG, TIFF, " in first
    assert "; convert it to PNG or TIFF" in first
    assert last == "instseg: 1 of 2 files could not be segmented; out/failed.csv names all of them"
    assert files() == ["in/a.png", "in/b.png", "out/a.png", "out/failed.csv", "out/run.json"]


def test_predict_takes_a_stack_by_its_planes(run, refused, files, disc_image, model):
    image = disc_image()[0]
    tifffile.imwrite("stack.tif", np.stack([image, image[::-1]]), photometric="minisblack")
    error = refused(run("predict", model, "stack.tif", "--out", "labels.png"))
    assert "it is a stack of 2 planes of 48 x 48 pixels, expected one image; predict takes every plane" in error
    error = refused(run("predict", model, "stack.tif", "--out", "labels.png", "--planes"), code=2)
    assert error == "--out is for one image, --planes gives many; give --out-dir DIR"
    assert run("predict", model, "stack.tif", "--out-dir", "out", "--planes").exit_code == 0
    assert files() == ["out/run.json", "out/stack-0000.png", "out/stack-0001.png", "stack.tif"]


def test_what_is_there_is_skipped(run, make_image, model):
    Path("in").mkdir()
    for name in "abc":
        make_image(f"in/{name}.png")
    options = ("--out-dir", "out", "--scores", "scores", "--skip-existing")
    assert run("predict", model, "in", *options).stdout.startswith("3 images")
    Path("out/a.png").unlink()
    Path("scores/b.csv").write_text("kept as it is, but not with its labels")
    Path("out/b.png").unlink()
    before = Path("out/c.png").stat().st_mtime_ns
    done = run("predict", model, "in", *options)
    assert done.stdout.startswith("2 images")
    assert "1 images have their results already" in done.stderr
    assert Path("out/c.png").stat().st_mtime_ns == before
    assert Path("scores/b.csv").read_text().startswith("id,score")
    again = run("predict", model, "in", *options)
    assert (again.exit_code, again.stdout) == (0, "0 images, 0 instances\n")


def test_shards_are_all_images_once(run, refused, make_image, model):
    Path("in").mkdir()
    for name in "abcde":
        make_image(f"in/{name}.png")
    whole = run("predict", model, "in", "--out-dir", "whole")
    for number in (1, 2):
        assert run("predict", model, "in", "--out-dir", "out", "--shard", f"{number}/2").exit_code == 0
        assert len(list(Path("out").glob("*.png"))) == {1: 3, 2: 5}[number]
    assert sorted(path.name for path in Path("out").glob("run*")) == ["run-1-of-2.json", "run-2-of-2.json"]
    assert whole.stdout.startswith("5 images")
    for path in Path("whole").glob("*.png"):
        assert path.read_bytes() == Path("out", path.name).read_bytes()
    error = refused(run("predict", model, "in", "--out-dir", "out", "--shard", "1/2"))
    assert error.startswith("out holds results of 3 of the images; add --skip-existing or --overwrite")
    for shard in ("0/2", "3/2", "1", "a/b", "1/0", "-1/2"):
        assert "expected I/N with I from 1 to N" in refused(
            run("predict", model, "in", "--out-dir", "out", f"--shard={shard}"), code=2
        )
    error = refused(run("predict", model, "in/a.png", "--out", "l.png", "--shard", "1/2"), code=2)
    assert error == "--skip-existing and --shard are for many images; give --out-dir DIR, or leave them out"


def test_images_are_cut_into_tiles(run, refused, make_image, model):
    make_image(size=200)
    assert run("predict", model, "image.png", "--out", "whole.png", "--scores", "whole.csv").exit_code == 0
    options = ("--tile", 120, "--overlap", 40, "--scores", "tiled.csv", "--embeddings", "maps.npz")
    assert run("predict", model, "image.png", "--out", "tiled.png", *options).exit_code == 0
    whole, tiled = read_labels(Path("whole.png")), read_labels(Path("tiled.png"))
    assert whole.max() > 2
    assert score(whole, tiled).mean_ap > 0.98
    assert len(Path("tiled.csv").read_text().splitlines()) == 1 + tiled.max()
    assert read_embeddings(Path("maps.npz")).embeddings.shape[:2] == (200, 200)
    error = refused(run("predict", model, "image.png", "--out", "tiled.png", "--tile", 60, "--overlap", 40))
    assert "a tile of 60 pixels has nothing left beside an overlap of 40 on both sides" in error


def test_predict_takes_the_channel_that_is_chosen(run, make_image, write_rgb, write_coloured, model):
    make_image("gray.png")
    write_coloured("rgb.png")
    assert run("predict", model, "gray.png", "--out", "expected.png").exit_code == 0
    assert run("predict", model, "rgb.png", "--out", "found.png", "--channels", "green").exit_code == 0
    expected = read_labels(Path("expected.png"))
    assert expected.max() > 0
    np.testing.assert_array_equal(read_labels(Path("found.png")), expected)
    # Three equal channels are a gray image.
    write_rgb("equal.png")
    assert run("predict", model, "equal.png", "--out", "equal-labels.png").exit_code == 0


def enlarged(array, times=4):
    return np.kron(array, np.ones((times, times), array.dtype))


def test_objects_are_brought_to_the_size_of_the_training(run, disc_image, write_png, model):
    pixels, truth = disc_image(size=64)
    data = Path("large")
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
    write_png("large/images/0.png", enlarged(pixels))
    write_labels(Path("large/labels/0.png"), enlarged(truth))
    outputs = ("--out", "a.png", "--embeddings", "maps.npz")
    assert run("predict", model, "large/images/0.png", "--diameter", 76, *outputs).exit_code == 0
    labels = read_labels(Path("a.png"))
    write_png("small.png", pixels)
    assert run("predict", model, "small.png", "--out", "small-labels.png").exit_code == 0
    assert score(enlarged(read_labels(Path("small-labels.png"))), labels, (0.5,)).f1[0] > 0.6
    # The maps are of the image's size and bring along the settings for objects of this size.
    assert run("cluster", "maps.npz", "--out", "b.png").exit_code == 0
    assert np.array_equal(read_labels(Path("b.png")), labels)
    assert run("predict", model, "large/images/0.png", "--diameter", 76, "--out-dir", "out").exit_code == 0
    assert np.array_equal(read_labels(Path("out/0.png")), labels)
    result = run("evaluate", model, "--data", data, "--diameter", 76, "--json")
    assert json.loads(result.stdout)["results"][0]["ap50"] == pytest.approx(score(enlarged(truth), labels).ap[0])


def test_objects_of_the_trained_size_are_left_alone(run, make_image, model):
    make_image()
    assert run("predict", model, "image.png", "--out", "a.png").exit_code == 0
    assert run("predict", model, "image.png", "--diameter", 19, "--out", "b.png").exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_objects_of_another_size_are_told(run, make_image, make_data, model, monkeypatch):
    """A model of 19 pixels that finds pieces of 2 pixels says so, unless it is told."""
    labels = np.zeros((48, 48), np.int32)
    labels[2::6, 2::6] = np.arange(1, 65).reshape(8, 8)
    labels = np.maximum(labels, np.roll(labels, 1, 0))
    monkeypatch.setattr("instseg.inference.segmentation.cluster", lambda maps, settings=None: labels)
    make_image()
    result = run("predict", model, "image.png", "--out", "labels.png")
    assert (result.exit_code, result.stdout) == (0, "labels.png: 64 instances\n")
    expected = "Note: the objects measure about 1.6 pixels, those of the training 19; try --diameter 1.6\n"
    assert result.stderr == expected
    make_data(count=2)
    result = run("predict", model, "data/images", "--out-dir", "out")
    assert result.stderr == expected.replace("the objects", "the objects in 2 of 2 images")
    result = run("predict", model, "image.png", "--out", "labels.png", "--diameter", 18)
    assert (result.exit_code, result.stderr) == (0, "")


def test_images_that_the_model_may_not_know_are_told_once_and_their_sizes_are_not(
    run, make_image, make_data, copied_model, monkeypatch
):
    labels = np.zeros((48, 48), np.int32)
    labels[2::6, 2::6] = np.arange(1, 65).reshape(8, 8)
    labels = np.maximum(labels, np.roll(labels, 1, 0))
    monkeypatch.setattr("instseg.inference.segmentation.cluster", lambda maps, settings=None: labels)
    write_calibration(copied_model, ScoreCalibration(least_median=0.999))
    make_image()
    result = run("predict", copied_model, "image.png", "--out", "labels.png")
    assert (result.exit_code, result.stdout) == (0, "labels.png: 64 instances\n")
    assert result.stderr.startswith("Note: image.png: the model is much less sure of what it found than in images like")
    assert "give the right --diameter or --channels, take another model, or train" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    make_data(count=3)
    of_many = run("predict", copied_model, "data/images", "--out-dir", "out")
    assert of_many.stderr == result.stderr.replace("image.png", "3 images, such as data/images/0.png")
    assert "the model is much less sure" in json.loads(Path("out/run.json").read_text())["images"][0]["notes"][0]
    # Nothing is said where nothing is found, nor by a model that has no calibration.
    monkeypatch.setattr("instseg.inference.segmentation.cluster", lambda maps, settings=None: labels * 0)
    assert run("predict", copied_model, "image.png", "--out", "labels.png").stderr == ""


def test_what_the_model_leaves_out_by_itself_is_told(run, make_image, make_data, copied_model):
    make_image()
    write_calibration(copied_model, ScoreCalibration())
    everything = run("predict", copied_model, "image.png", "--out", "a.png", "--scores", "a.csv")
    with Path("a.csv").open(newline="") as file:
        *others, second, best = sorted(float(row["score"]) for row in csv.DictReader(file))
    write_calibration(copied_model, ScoreCalibration(min_score=(second + best) / 2))
    doubtful = len(others) + 1
    assert doubtful > 1
    told = f"left out {doubtful} instances that are probably wrong, as the model's scores say; --min-score 0 keeps all"
    found = run("predict", copied_model, "image.png", "--out", "b.png", "--embeddings", "maps.npz")
    assert found.stdout == "b.png: 1 instances\n"
    assert found.stderr == f"Note: {told}\n"
    clustered = run("cluster", "maps.npz", "--out", "c.png")
    assert (clustered.stdout, clustered.stderr) == (found.stdout.replace("b.png", "c.png"), found.stderr)
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()
    for command in (("predict", copied_model, "image.png"), ("cluster", "maps.npz")):
        kept = run(*command, "--out", "d.png", "--min-score", 0)
        assert (kept.stdout, kept.stderr) == (everything.stdout.replace("a.png", "d.png"), "")
    make_data(count=3)
    of_many = run("predict", copied_model, "data/images", "--out-dir", "out")
    assert of_many.stderr.startswith("Note: left out ")


def test_scores_are_those_of_the_calibration_in_every_file(run, make_image, copied_model):
    make_image()
    outputs = ("--scores", "a.csv", "--outlines", "a.geojson", "--embeddings", "maps.npz")
    found = {}
    for name, calibration in (("raw", None), ("steep", ScoreCalibration(slope=3.0, intercept=-5.0))):
        write_calibration(copied_model, calibration)
        assert run("predict", copied_model, "image.png", "--out", "a.png", *outputs).stderr == ""
        assert run("cluster", "maps.npz", "--out", "b.png", "--scores", "b.csv").exit_code == 0
        assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
        with Path("a.csv").open(newline="") as file:
            found[name] = [float(row["score"]) for row in csv.DictReader(file)]
        outlines = json.loads(Path("a.geojson").read_text())["features"]
        measured = [one["properties"]["measurements"]["score"] for one in outlines]
        assert measured == pytest.approx(found[name])
    assert found["steep"] == pytest.approx(ScoreCalibration(slope=3.0, intercept=-5.0).apply(found["raw"]), abs=1e-3)
    assert max(found["steep"]) < min(found["raw"])
