import hashlib
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from instseg.cli.data import app
from instseg.data.discs import draw_discs
from instseg.decoding import header
from instseg.errors import InstsegError, UsageError
from instseg.images import read_image, read_labels, write_labels
from instseg.settings import DiscSettings

SMALL = ["--size", "32", "--min-discs", "2", "--max-discs", "4"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that calls the command in an empty folder and lets its errors through."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    return call


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_generate_writes_pairs_and_a_preview(run, tmp_path):
    result = run("generate", "--count", 2, "--out", "a", "--seed", 5, *SMALL)
    assert result.exit_code == 0
    assert list(digests(tmp_path)) == [
        "a/images/0000.png",
        "a/images/0001.png",
        "a/labels/0000.png",
        "a/labels/0001.png",
        "a/preview.png",
    ]
    discs = sum(int(read_labels(path).max()) for path in (tmp_path / "a/labels").iterdir())
    assert result.stdout == f"wrote 2 images with {discs} discs to a; see a/preview.png\n"
    assert result.stderr == ""
    for kind in ("images", "labels"):
        assert header(tmp_path / "a" / kind / "0001.png").bits == 16


def test_an_image_depends_on_the_seed_and_its_number_only(run, tmp_path):
    run("generate", "--count", 3, "--out", "a", "--seed", 5, *SMALL)
    run("generate", "--count", 3, "--out", "b", "--seed", 5, *SMALL)
    run("generate", "--count", 1, "--out", "c", "--seed", 5, *SMALL)
    run("generate", "--count", 1, "--out", "d", "--seed", 6, *SMALL)
    a, b, c, d = (digests(tmp_path / name) for name in "abcd")
    assert a == b
    assert c.items() < a.items()
    assert d["images/0000.png"] != a["images/0000.png"]
    settings = DiscSettings(size=32, min_discs=2, max_discs=4)
    image, labels = draw_discs(np.random.default_rng([5, 2]), settings)
    assert np.array_equal(read_image(tmp_path / "a/images/0002.png")[..., 0], image)
    assert np.array_equal(read_labels(tmp_path / "a/labels/0002.png"), labels)


def test_results_are_replaced_only_when_asked(run, tmp_path):
    run("generate", "--count", 3, *SMALL)
    before = digests(tmp_path)
    with pytest.raises(InstsegError, match="discs holds images already; add --overwrite to replace them"):
        run("generate", "--count", 1, "--seed", 1, *SMALL)
    assert digests(tmp_path) == before
    result = run("generate", "--count", 1, "--seed", 1, "--overwrite", *SMALL)
    assert result.stdout.startswith("wrote 1 image with ")
    assert list(digests(tmp_path / "discs")) == ["images/0000.png", "labels/0000.png", "preview.png"]


def test_files_of_others_are_never_removed(run, tmp_path):
    run("generate", "--count", 1, *SMALL)
    (tmp_path / "discs/images/mine.png").touch()
    before = digests(tmp_path)
    with pytest.raises(InstsegError, match="files that generate did not write, such as discs/images/mine.png; give"):
        run("generate", "--overwrite", *SMALL)
    assert digests(tmp_path) == before


def test_an_interruption_leaves_whole_files_only(run, tmp_path, monkeypatch):
    calls = []

    def interrupted(rng, settings):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw_discs(rng, settings)

    monkeypatch.setattr("instseg.data.discs.draw_discs", interrupted)
    assert run("generate", *SMALL).exit_code != 0
    assert list(digests(tmp_path / "discs")) == ["images/0000.png", "labels/0000.png", "preview.png"]


def test_settings_out_of_bounds_are_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(UsageError, match="--noise is 2.0, expected a share from 0 to 1"):
        run("generate", "--noise", 2)
    with pytest.raises(UsageError, match="--max-discs is 3, expected at least --min-discs"):
        run("generate", "--max-discs", 3)
    assert run("generate", "--count", 0).exit_code == 2
    assert run("generate", "--seed", -1).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_check_prints_tables(run):
    run("generate", "--count", 2, "--out", "a", *SMALL)
    result = run("check", "a", "--patch-size", 32)
    assert result.exit_code == 0
    assert "2, 2 of them usable" in result.stdout
    assert "32 x 32 (2)" in result.stdout
    assert result.stdout.endswith(": training can use this folder\n")
    assert result.stderr == ""


def test_check_prints_json_alone(run):
    run("generate", "--count", 2, "--out", "a", *SMALL)
    result = run("check", "a", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["pairs"], report["small"], report["dtypes"]) == (2, 2, {"uint16": 2})


def test_check_exits_with_1_where_training_could_not_start(run, tmp_path):
    run("generate", "--count", 2, "--out", "a", *SMALL)
    path = tmp_path / "a/labels/0001.png"
    write_labels(path, (read_labels(path) > 0) * 255)
    result = run("check", "a", "--patch-size", 32)
    assert result.exit_code == 1
    assert "labels/0001.png" in result.stdout
    assert "1 error, " in result.stdout
    assert result.stdout.endswith(": training cannot use this folder\n")
    result = run("check", "a", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"][0]["files"] == ["labels/0001.png"]
    assert run("check", "a", "--patch-size", 32, "--connected-components").exit_code == 0


def test_check_refuses_a_patch_size_that_training_refuses(run):
    with pytest.raises(UsageError, match="--patch-size is 100, expected a multiple of 16"):
        run("check", "a", "--patch-size", 100)


def test_help_shows_the_defaults(run):
    text = " ".join(run("generate", "--help").stdout.split())
    for default in (DiscSettings().size, DiscSettings().min_discs, DiscSettings().max_discs, DiscSettings().noise):
        assert re.search(rf"\[default: \(?{default}\)?\]", text)
