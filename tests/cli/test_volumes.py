"""Volumes in `data generate`, `data check`, `measure` and `evaluate`."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from instseg.io.label_volumes import read_label_volume, write_label_volume

SMALL = ("--volume", "--depth", 12, "--size", 40, "--min-balls", 2, "--max-balls", 4, "--spacing-z", 2)


@pytest.fixture
def balls(run):
    """A folder of two small volumes."""
    assert run("data", "generate", "--count", 2, *SMALL).exit_code == 0
    return Path("balls")


def count_balls(folder):
    return sum(int(read_label_volume(path).max()) for path in (folder / "labels").iterdir())


def test_generate_writes_pairs_and_a_preview(run, files):
    result = run("data", "generate", "--count", 1, "--out", "a", *SMALL)
    assert (result.exit_code, result.stderr) == (0, "")
    assert files() == ["a/images/0000.tif", "a/labels/0000.tif", "a/preview.png"]
    assert result.stdout == f"wrote 1 volume with {count_balls(Path('a'))} balls to a; see a/preview.png\n"
    again = run("data", "generate", "--count", 1, "--out", "b", *SMALL)
    assert again.exit_code == 0
    for name in ("images/0000.tif", "labels/0000.tif"):
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--volume", "--frames", 2), "--frames and --volume exclude each other"),
        (("--count", 2, "--frames", 2), "--count and --frames exclude each other"),
        (("--depth", 4), "--depth is for volumes; give --volume, too"),
        (("--depth", 4, "--min-balls", 1), "--depth and --min-balls are for volumes"),
        (("--volume", "--max-discs", 4), "--max-discs is for images of discs; with --volume there are --min-balls"),
        (("--volume", "--spacing-z", 0), "--spacing-z is 0"),
        (("--volume", "--size", 9999), "--size is 9999, expected at most 4096 pixels for a volume"),
    ],
)
def test_generate_refuses_options_that_do_not_go_together(run, refused, files, options, message):
    assert message in refused(run("data", "generate", *options), code=2)
    assert files() == []


def test_check_knows_volumes(run, balls):
    result = run("data", "check", balls, "--patch-size", 32)
    assert result.exit_code == 0
    for text in ("volumes", "12 to 12", "2 : 1 : 1 (2)", "12 x 40 x 40 (2)"):
        assert text in result.stdout
    report = json.loads(run("data", "check", balls, "--json").stdout)
    assert (report["volumes"], report["depth"], report["spacings"]) == (2, [12, 12], {"2 : 1 : 1": 2})


def test_check_names_labels_of_another_depth(run, balls):
    write_label_volume(balls / "labels" / "0001.tif", read_label_volume(balls / "labels" / "0001.tif")[1:])
    result = run("data", "check", balls, "--json")
    assert result.exit_code == 1
    (error,) = [problem for problem in json.loads(result.stdout)["problems"] if problem["severity"] == "error"]
    assert error["what"] == "the volume is 12 x 40 x 40 pixels and its labels are 11 x 40 x 40"
    assert error["files"] == ["images/0001.tif"]


def test_measure_writes_a_row_for_each_object(run, balls):
    result = run("measure", balls / "labels", balls / "images", "--pixel-size", "2,1,1", "--summary", "volumes.csv")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"objects.csv: {count_balls(balls)} objects in 2 volumes\n"
    with Path("objects.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["volume_um3"]) == 2 * int(rows[0]["area"])
    assert "perimeter" not in rows[0]
    said = run("measure", balls / "labels" / "0000.tif")
    assert said.exit_code == 0
    assert "Note: the files of 1 volume (0000) do not say how large a voxel is" in said.stderr
    assert "give --pixel-size in micrometres" in said.stderr


def test_measure_refuses_a_size_of_pixels(run, refused, balls):
    message = refused(run("measure", balls / "labels" / "0000.tif", "--pixel-size", "0.5"), code=2)
    assert "--pixel-size is 0.5, expected three numbers of micrometres, along z, y and x" in message


def test_evaluate_compares_volumes(run, balls):
    Path("pred").mkdir()
    for path in (balls / "labels").iterdir():
        labels = read_label_volume(path)
        write_label_volume(Path("pred") / path.name, np.where(labels == 1, 0, labels))
    options = ("--images", balls / "images", "--picture", "worst.png", "--report", "page.html")
    result = run("evaluate", "--pred", "pred", "--labels", balls / "labels", *options, "--json")
    assert result.exit_code == 0
    figures = json.loads(result.stdout)
    assert figures["mistakes"] == {"missed": 2, "false_alarms": 0, "splits": 0, "merges": 0}
    assert figures["truth"] - figures["predicted"] == 2
    assert Path("worst.png").stat().st_size > 0
    assert "drawn is the plane z = " in Path("page.html").read_text(encoding="utf-8")


def test_evaluate_refuses_what_is_for_a_model(run, refused):
    arguments = ("evaluate", "--pred", "a", "--labels", "b")
    assert "--spacing say how a model predicts" in refused(run(*arguments, "--spacing", "2,1,1"), code=2)
    assert "--spacing is " in refused(run("evaluate", "m", "--data", "d", "--spacing", "2,1"), code=2)
