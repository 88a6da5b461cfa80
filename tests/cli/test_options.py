"""Options made from settings, and messages of the core in the words of options."""

import re
from pathlib import Path

import numpy as np
import pytest
import typer

import instseg
from instseg.cli import app
from instseg.cli.options import Option, as_options, error_text, option_names
from instseg.errors import InstsegError, UsageError
from instseg.io.label_images import read_labels
from instseg.io.npz import read_embeddings

CLUSTERING = (
    ("--foreground-threshold", ("0", "1", "-0.5", "nan"), "above 0 and below 1"),
    ("--seed-threshold", ("0", "1", "nan"), "above 0 and below 1"),
    ("--membership-threshold", ("0", "1", "inf"), "above 0 and below 1"),
    ("--bandwidth", ("0", "-1", "nan", "inf"), "a number above 0"),
    ("--min-size", ("0", "-3"), "a number above 0"),
    ("--seed-window", ("0", "-1", "2000"), "1 to 1001 pixels"),
    ("--min-cluster-size", ("0", "1", "-5"), "at least 2 pixels"),
    ("--min-samples", ("0", "-1"), "a number above 0"),
    ("--position-weight", ("-1", "nan", "inf"), "0 or a number above 0"),
)


TRAINING = (
    ("--iterations", ("0", "-1"), "a number above 0"),
    ("--minutes", ("0", "-1", "nan", "inf"), "a number above 0"),
    ("--batch-size", ("0", "-1"), "a number above 0"),
    ("--patch-size", ("0", "-16"), "a number above 0"),
    ("--patch-size", ("100",), "a multiple of 16"),
    ("--learning-rate", ("0", "-1", "nan", "inf"), "a number above 0"),
    ("--validation-share", ("0", "1", "-0.1", "nan"), "above 0 and below 1"),
    ("--validation-every", ("0", "-1"), "a number above 0"),
    ("--seed", ("-1",), "0 or a number above 0"),
    ("--seed", ("3000000000",), "a number below 2147483648"),
    ("--embeddings", ("0", "-1"), "a number above 0"),
    ("--embeddings", ("257",), "at most 256 dimensions"),
    ("--embeddings", ("1",), "at least 2 for --loss overlap"),
    ("--threads", ("0", "-1"), "a number above 0"),
)


METRIC = (
    ("--push-margin", ("-1", "nan"), "0 or a number above 0"),
    ("--pull-margin", ("-1", "inf"), "0 or a number above 0"),
    ("--push-weight", ("-1",), "0 or a number above 0"),
    ("--pull-weight", ("-1",), "0 or a number above 0"),
    ("--regularization-weight", ("-1",), "0 or a number above 0"),
)


DISCS = (
    ("--size", ("0", "-1"), "a number above 0"),
    ("--size", ("40000",), "at most 32768 pixels"),
    ("--min-discs", ("-1",), "0 or a number above 0"),
    ("--max-discs", ("3",), "at least --min-discs"),
    ("--noise", ("-0.1", "1.5", "nan"), "a share from 0 to 1"),
)


def cases(*table):
    return [(option, value, expected) for option, values, expected in table for value in values]


@pytest.mark.parametrize(
    ("command", "option", "value", "expected"),
    [
        *(("cluster maps.npz", *case) for case in cases(*CLUSTERING)),
        *(("predict model image.png --out labels.png", *case) for case in cases(*CLUSTERING[:2])),
        ("predict model image.png --out labels.png", "--threads", "0", "a number above 0"),
        *(("train model", *case) for case in cases(*TRAINING)),
        *(("train model --loss metric", *case) for case in cases(*METRIC)),
        *(("data generate", *case) for case in cases(*DISCS)),
        ("data check data", "--patch-size", "20", "a multiple of 16"),
    ],
)
def test_numbers_out_of_bounds(run, refused, files, command, option, value, expected):
    error = refused(run(*command.split(), option, value), code=2)
    assert re.match(rf"{option} is {re.escape(value)}(\.0)?, expected {expected}", error)
    assert files() == []


@pytest.mark.parametrize("option", ["--count", "--seed"])
def test_numbers_that_typer_bounds(run, misused, files, option):
    assert f"Invalid value for '{option}'" in misused(run("data", "generate", option, "-1"))
    assert files() == []


def test_stored_settings_can_be_turned_off(run, make_image, model):
    make_image()
    options = ("--out", "labels.png", "--embeddings", "maps.npz", "--fill-holes")
    assert run("predict", model, "image.png", *options).exit_code == 0
    assert read_embeddings(Path("maps.npz")).settings.fill_holes
    assert run("cluster", "maps.npz", "--no-fill-holes", "--out", "plain.png").exit_code == 0
    assert run("predict", model, "image.png", "--out", "expected.png").exit_code == 0
    np.testing.assert_array_equal(read_labels(Path("plain.png")), read_labels(Path("expected.png")))


# Messages of the core


OPTIONS = {
    "model": Option("MODEL", positional=True),
    "channels": Option("--channels"),
    "file_format": Option("--format"),
    "connected_components": Option("--connected-components"),
    "fill_holes": Option("--fill-holes", "--no-fill-holes"),
    "resume": Option("--resume", "--fresh"),
    "data": Option("--data"),
    "network": Option("--network"),
    "out_dir": Option("--out-dir"),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choose some with `channels='2'`", "choose some with --channels 2"),
        ("give `channels`, too", "give --channels, too"),
        ("give `connected_components=True`", "give --connected-components"),
        ("give `fill_holes=False`", "give --no-fill-holes"),
        ("add `resume=True`, or `resume=False`", "add --resume, or --fresh"),
        ("leave `connected_components=False`", "leave no --connected-components"),
        ("with `file_format='tif'`", "with --format tif"),
        ("`model` is missing", "MODEL is missing"),
        ("give `model=MODEL, data=DIR`", "give MODEL --data DIR"),
        ("give `data=...`", "give --data ..."),
        ("give `out_dir=DIR/NAME.tif`", "give --out-dir DIR/NAME.tif"),
        ("give `data='my data'`", "give --data 'my data'"),
        ("give `network=(8, 8)`", "give --network 8,8"),
        ("give `channels=3`", "give --channels 3"),
        # What is an option of another name, and what is none.
        ("by `planes_as_channels=True`", "by --channels"),
        ("for example by `np.nan_to_num`", "for example by np.nan_to_num"),
        ("give them to `load`", "give them to load"),
        ("the `not closed", "the `not closed"),
        # Names of files that look like parameters, and what Python's parser does not take.
        ("cannot read a`data`.png: give `data`", "cannot read a`data`.png: give --data"),
        ("cannot read `data`.png", "cannot read `data`.png"),
        (f"cannot read `{'(' * 180}` now", f"cannot read {'(' * 180} now"),
        (f"cannot read `{'data' * 60}` now", f"cannot read `{'data' * 60}` now"),
        ("cannot read `a\0b` now", "cannot read a\0b now"),
        (r"cannot read `'\d' is 1` now", r"cannot read '\d' is 1 now"),
        ("`pred, speed=3`", "pred, speed=3"),
        ("no parameter at all", "no parameter at all"),
    ],
)
def test_parameters_become_options(text, expected):
    assert as_options(text, OPTIONS) == expected


def test_without_options_every_parameter_is_one_of_its_name():
    assert as_options("`min_size` for `loss='metric'`") == "--min-size for --loss metric"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UsageError("file_format is 3, give `data=DIR`", parameter="file_format"), "--format is 3, give --data DIR"),
        (UsageError("model is a file", parameter="model"), "MODEL is a file"),
        (InstsegError("model is a file"), "model is a file"),
        (UsageError("a is 3, and b too", parameter="b"), "a is 3, and b too"),
        (UsageError("speed is 3", parameter="speed"), "speed is 3"),
    ],
)
def test_an_error_begins_with_the_option_of_its_parameter(error, expected):
    assert error_text(error, OPTIONS) == expected


def test_options_of_a_command_and_of_all_commands():
    command = typer.main.get_command(app)
    every = option_names(command)
    assert every["file_format"] == Option("--format")
    assert every["fill_holes"] == Option("--fill-holes", "--no-fill-holes")
    assert every["pretrained"] == Option("--from")
    assert every["resume"] == Option("--resume", "--fresh")
    assert every["overwrite"] == Option("--overwrite")
    assert every["patch_size"] == Option("--patch-size")
    # The same parameter is an argument of one command and an option of another.
    assert option_names(command.commands["cluster"])["embeddings"] == Option("EMB.npz", positional=True)
    assert option_names(command.commands["predict"])["embeddings"] == Option("--embeddings")
    assert option_names(command.commands["evaluate"])["model"] == Option("MODEL", positional=True)


def test_a_command_names_its_own_options_and_else_those_of_others(run, refused, monkeypatch, make_npz):
    """Labels that do not fit into a file of one command can be written by another."""

    def refuse(path, labels):
        raise InstsegError("`embeddings`, `out` and `out_dir` with `file_format='tif'`")

    monkeypatch.setattr("instseg.io.label_images.write_labels", refuse)
    assert refused(run("cluster", make_npz())) == "EMB.npz, --out and --out-dir with --format tif"


def test_no_parameter_of_the_core_is_named_like_an_option():
    """The core is for Python, too: it names parameters, and the command line makes options of them."""
    package = Path(instseg.__file__).parent
    files = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in ("cli", "__main__.py")]
    assert len(files) > 50
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
    named = [f"{path.name}: {match[0]}" for path in files if (match := option.search(path.read_text()))]
    assert named == []
