"""`instseg data`: what `generate` writes, and what `check` prints."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from instseg.data import generate
from instseg.data.discs import draw_discs
from instseg.io.formats import read_header
from instseg.io.label_images import read_labels, write_labels
from instseg.settings import DiscSettings

SMALL = ("--size", 32, "--min-discs", 2, "--max-discs", 4)


def test_generate_writes_pairs_and_a_preview(run, files):
    result = run("data", "generate", "--count", 2, "--out", "a", "--seed", 5, *SMALL)
    assert result.exit_code == 0
    assert files() == [
        "a/images/0000.png",
        "a/images/0001.png",
        "a/labels/0000.png",
        "a/labels/0001.png",
        "a/preview.png",
    ]
    discs = sum(int(read_labels(path).max()) for path in Path("a/labels").iterdir())
    assert result.stdout == f"wrote 2 images with {discs} discs to a; see a/preview.png\n"
    assert result.stderr == ""
    for kind in ("images", "labels"):
        assert read_header(Path("a") / kind / "0001.png").bits == 16


def test_the_same_seed_gives_the_same_bytes(run):
    small = ("--size", 32, "--max-discs", 25, "--count", 2, "--seed", 7)
    assert run("data", "generate", "--out", "a", *small).exit_code == 0
    assert run("data", "generate", "--out", "b", *small).exit_code == 0
    written = sorted(path.relative_to("a") for path in Path("a").rglob("*.png"))
    assert len(written) == 5
    assert all((Path("a") / name).read_bytes() == (Path("b") / name).read_bytes() for name in written)


def test_results_are_replaced_only_when_asked(run, refused, files):
    assert run("data", "generate", "--count", 3, *SMALL).exit_code == 0
    before = files()
    error = refused(run("data", "generate", "--count", 1, "--seed", 1, *SMALL))
    assert error == "discs holds images already; add --overwrite to replace them or give another --out"
    assert files() == before
    result = run("data", "generate", "--count", 1, "--seed", 1, "--overwrite", *SMALL)
    assert result.stdout.startswith("wrote 1 image with ")
    assert files() == ["discs/images/0000.png", "discs/labels/0000.png", "discs/preview.png"]


def test_files_of_others_are_never_removed(run, refused, files):
    assert run("data", "generate", "--count", 1, *SMALL).exit_code == 0
    Path("discs/images/mine.png").touch()
    before = files()
    error = refused(run("data", "generate", "--overwrite", *SMALL))
    assert error == "discs holds files that generate did not write, such as discs/images/mine.png; give another --out"
    assert files() == before


def test_an_interruption_leaves_whole_files_only(run, files, monkeypatch):
    calls = []

    def interrupted(rng, settings):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw_discs(rng, settings)

    monkeypatch.setattr(generate, "draw_discs", interrupted)
    assert run("data", "generate", *SMALL).exit_code != 0
    assert files() == ["discs/images/0000.png", "discs/labels/0000.png", "discs/preview.png"]


def test_settings_out_of_bounds_are_refused_before_anything_is_written(run, refused, misused):
    assert refused(run("data", "generate", "--noise", 2), code=2) == "--noise is 2.0, expected a share from 0 to 1"
    error = refused(run("data", "generate", "--max-discs", 3), code=2)
    assert error.startswith("--max-discs is 3, expected at least --min-discs and at most")
    for option, value in (("--count", 0), ("--seed", -1)):
        assert f"Invalid value for '{option}'" in misused(run("data", "generate", option, value))
    assert list(Path().iterdir()) == []


def test_check_prints_tables(run):
    run("data", "generate", "--count", 2, "--out", "a", *SMALL)
    result = run("data", "check", "a", "--patch-size", 32)
    assert result.exit_code == 0
    assert "2, 2 of them usable" in result.stdout
    assert "32 x 32 (2)" in result.stdout
    assert result.stdout.endswith(": training can use this folder\n")
    assert result.stderr == ""


def test_check_prints_json_alone(run):
    run("data", "generate", "--count", 2, "--out", "a", *SMALL)
    result = run("data", "check", "a", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["pairs"], report["small"], report["dtypes"]) == (2, 2, {"uint16": 2})


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_check_advises_in_the_words_of_options(run, options):
    run("data", "generate", "--count", 2, "--out", "a", *SMALL)
    text = " ".join(run("data", "check", "a", *options).stdout.replace("│", " ").split())
    assert "smaller" in text
    assert "--patch-size" in text
    assert "`" not in text


def test_check_exits_with_1_where_training_could_not_start(run):
    run("data", "generate", "--count", 2, "--out", "a", *SMALL)
    path = Path("a/labels/0001.png")
    write_labels(path, (read_labels(path) > 0) * 255)
    result = run("data", "check", "a", "--patch-size", 32)
    assert result.exit_code == 1
    assert "labels/0001.png" in result.stdout
    assert "1 error, " in result.stdout
    assert result.stdout.endswith(": training cannot use this folder\n")
    result = run("data", "check", "a", "--json")
    assert result.exit_code == 1
    (problem,) = [each for each in json.loads(result.stdout)["problems"] if each["severity"] == "error"]
    assert problem["files"] == ["labels/0001.png"]
    assert "--connected-components" in problem["advice"] + problem["what"]
    assert run("data", "check", "a", "--patch-size", 32, "--connected-components").exit_code == 0


def test_check_refuses_a_patch_size_that_training_refuses(run, refused):
    error = refused(run("data", "check", "a", "--patch-size", 100), code=2)
    assert error.startswith("--patch-size is 100, expected a multiple of 16")


def test_help_shows_the_defaults(run):
    text = " ".join(run("data", "generate", "--help").stdout.split())
    for default in (DiscSettings().size, DiscSettings().min_discs, DiscSettings().max_discs, DiscSettings().noise):
        assert re.search(rf"\[default: \(?{default}\)?\]", text)


def test_check_has_a_model_look_for_objects_without_a_label(run, refused):
    assert run("data", "generate", "--count", 1, "--out", "a", "--size", 128, "--max-discs", 25).exit_code == 0
    labels = read_labels(Path("a/labels/0000.png"))
    write_labels(Path("a/labels/0000.png"), np.where(labels > 2, 0, labels))
    result = run("data", "check", "a", "--model", "shapes", "--json")
    assert result.exit_code == 0
    problems = [problem for problem in json.loads(result.stdout)["problems"] if "model" in problem["what"]]
    assert len(problems) == 1
    assert "objects that the model is sure of have no label, 2 have one" in problems[0]["what"]
    assert "--ignore-label" in problems[0]["advice"]
    assert "nothing" in refused(run("data", "check", "a", "--model", "nothing"))
