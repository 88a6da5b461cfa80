"""`instseg predict` into a folder: what a run leaves there, and what the next run makes of it."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from instseg.io.images import write_picture
from instseg.io.label_images import read_labels
from instseg.models.config import model_digest
from instseg.network.runtime import default_precision


@pytest.fixture
def predict(run, make_image, model):
    """A function that segments the images of a folder into another."""
    Path("in").mkdir()
    for seed, name in enumerate("abc"):
        make_image(f"in/{name}.png", seed=seed)

    def predict(*options):
        return run("predict", model, "in", "--out-dir", "out", *options)

    return predict


def images():
    """Return what the folder of results says of each image."""
    return {image["name"]: image for image in json.loads(Path("out/run.json").read_text())["images"]}


def test_a_run_says_how_its_results_were_made(predict, model):
    assert predict("--min-size", 5, "--tile", 128).exit_code == 0
    stored = json.loads(Path("out/run.json").read_text())
    assert stored["model"] == {"name": "model", "sha256": model_digest(model)}
    for name, value in {"min_size": 5, "tile": 128, "tta": False, "method": "fast"}.items():
        assert stored["settings"][name] == value
    assert stored["settings"]["precision"] == default_precision()
    for name, image in images().items():
        assert image["instances"] == read_labels(Path("out", image["labels"])).max()
        assert (image["image"], image["shape"]) == (f"in/{name}.png", [48, 48])
        assert image["bytes"] == Path(image["image"]).stat().st_size


def test_results_of_other_settings_are_not_passed_off_as_done(predict, refused):
    predict()
    before = Path("out/a.png").stat().st_mtime_ns
    error = refused(predict("--skip-existing", "--min-size", 20))
    assert error == (
        "out holds results of 3 of the images that were made otherwise (min_size=10, now 20); "
        "add --overwrite to make these anew, or give another folder"
    )
    os.utime("in/b.png")
    error = refused(predict("--skip-existing"))
    assert "results of 1 of the images that were made otherwise (the image has changed since)" in error
    # Both: what is out of date is made anew, and the rest stays.
    done = predict("--skip-existing", "--overwrite")
    assert (done.exit_code, done.stdout.split(",")[0]) == (0, "1 images")
    assert "2 images have their results already" in done.stderr
    assert Path("out/a.png").stat().st_mtime_ns == before
    done = predict("--skip-existing", "--overwrite", "--min-size", 20)
    assert done.stdout.startswith("3 images")
    assert predict("--skip-existing", "--min-size", 20).stdout == "0 images, 0 instances\n"


def test_results_without_a_record_stay_with_a_note(predict):
    predict()
    Path("out/run.json").unlink()
    done = predict("--skip-existing")
    assert (done.exit_code, done.stdout) == (0, "0 images, 0 instances\n")
    assert "Note: 3 results are kept of which no run has noted how they were made" in done.stderr


def test_all_images_that_failed_are_in_a_table_until_none_fails(predict, refused):
    names = [f"in/bad{number:02d}.png" for number in range(12)]
    for name in names:
        Path(name).write_text("no image")
    done = predict()
    assert done.exit_code == 1
    *lines, last = done.stderr.splitlines()
    assert len(lines) == 10
    assert last == "instseg: 12 of 15 files could not be segmented; out/failed.csv names all of them"
    with Path("out/failed.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "error"]
    assert [row[0] for row in rows] == names
    assert all("its content is none that is known" in row[1] for row in rows)
    assert "error" in images()["bad00"]
    # They are tried again, and the others are not.
    assert predict("--skip-existing").stdout.startswith("0 images, ")
    for name in names:
        Path(name).unlink()
    assert predict("--skip-existing").exit_code == 0
    assert not Path("out/failed.csv").exists()


def test_a_folder_with_nothing_but_reports_holds_no_files(predict):
    predict()
    for name in "abc":
        Path(f"out/{name}.png").unlink()
    Path("out/failed.csv").write_text("file,error\n")
    assert predict().exit_code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png", "c.png", "run.json"]


def test_a_damaged_record_is_refused(predict, refused):
    predict()
    Path("out/run.json").write_text("{")
    for options in (["--skip-existing"], ["--overwrite"]):
        error = refused(predict(*options))
        assert error.startswith("cannot tell how the results in out were made: run.json is damaged (")
    Path("out/run.json").unlink()
    assert predict("--overwrite").exit_code == 0


def test_more_objects_than_a_png_holds_are_no_failure(run, predict, model, monkeypatch):
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    monkeypatch.setattr("instseg.inference.segmentation.cluster", lambda maps, settings=None: labels[: len(maps.seeds)])
    write_picture(Path("in/many.png"), np.zeros((300, 300), np.uint8))
    for name in "abc":
        Path(f"in/{name}.png").unlink()
    said = "89,999 objects are more than a 16-bit PNG can number; the labels are in"
    done = run("predict", model, "in/many.png", "--out", "l.png")
    assert (done.exit_code, done.stdout) == (0, "l.tif: 89999 instances\n")
    assert f"Note: in/many.png: {said} l.tif\n" in done.stderr
    np.testing.assert_array_equal(read_labels(Path("l.tif")), labels)
    done = predict()
    assert done.exit_code == 0
    assert f"Note: in/many.png: {said} out/many.tif\n" in done.stderr
    assert predict("--skip-existing").stdout == "0 images, 0 instances\n"


def test_a_stack_that_is_done_is_skipped_as_a_whole(run, predict, model, disc_image):
    import tifffile

    for name in "abc":
        Path(f"in/{name}.png").unlink()
    tifffile.imwrite("in/stack.tif", np.stack([disc_image(seed)[0] for seed in range(3)]), photometric="minisblack")
    assert predict("--planes").stdout.startswith("3 images")
    assert predict("--planes", "--skip-existing").stdout == "0 images, 0 instances\n"
    Path("out/stack-0002.png").unlink()
    assert predict("--planes", "--skip-existing").stdout.startswith("3 images")
