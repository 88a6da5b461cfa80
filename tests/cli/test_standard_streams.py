"""`-` for standard input and standard output."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instseg.io.label_images import read_labels

COMMAND = [sys.executable, "-m", "instseg", "predict"]


@pytest.fixture
def piped(make_image, model):
    """A function that has a process segment what it reads, and returns exit code, stdout and stderr."""

    def run(content, *options, source="-"):
        command = [*COMMAND, str(model), source, *map(str, options)]
        done = subprocess.run(command, input=content, capture_output=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr.decode()

    make_image()
    return run


def test_an_image_goes_in_and_labels_alone_come_out(piped, run, model, files):
    before = files()
    code, stdout, stderr = piped(Path("image.png").read_bytes(), "--out", "-")
    assert code == 0
    assert run("predict", model, "image.png", "--out", "labels.png").exit_code == 0
    assert stdout == Path("labels.png").read_bytes()
    assert stderr == f"standard output: {read_labels(Path('labels.png')).max()} instances\n"
    assert files() == sorted([*before, "labels.png"])


@pytest.fixture
def streamed(run, model, make_image, monkeypatch, tmp_path):
    """A function that runs the command in this process, with a file as standard input and one as standard output."""

    def call(content, *arguments):
        (tmp_path / "in").write_bytes(content)
        with (tmp_path / "in").open() as source, (tmp_path / "out").open("w+b") as target:
            monkeypatch.setattr("instseg.cli.standard_streams._stdin", lambda: source.buffer)
            monkeypatch.setattr("instseg.cli.standard_streams._stdout", lambda: target)
            result = run("predict", model, *arguments)
        return result, (tmp_path / "out").read_bytes()

    make_image()
    return call


def test_the_format_of_labels_is_chosen_or_found(streamed, monkeypatch, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48)).astype(np.uint8)
    tifffile.imwrite("image.tif", pixels)
    content = Path("image.tif").read_bytes()
    for options, beginning in (((), b"\x89PNG"), (("--format", "tif"), b"II*\0")):
        result, labels = streamed(content, "-", "--out", "-", *options)
        assert (result.exit_code, result.stdout) == (0, "")
        assert labels.startswith(beginning)
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", 1000)
    result, labels = streamed(content, "image.tif", "--out", "-")
    assert (result.exit_code, result.stdout) == (0, "")
    assert labels.startswith(b"II*\0")
    assert (tmp_path / "out").read_bytes() == labels


def test_labels_that_do_not_fit_into_a_png_are_a_tiff(streamed, monkeypatch):
    monkeypatch.setattr("instseg.inference.results.MAX_PNG_LABEL", 0)
    result, labels = streamed(Path("image.png").read_bytes(), "-", "--out", "-")
    assert result.exit_code == 0
    assert labels.startswith(b"II*\0")


def test_standard_input_goes_into_a_folder_with_others(streamed, run, model):
    Path("other.png").write_bytes(Path("image.png").read_bytes())
    result, labels = streamed(Path("image.png").read_bytes(), "-", "other.png", "--out-dir", "results")
    assert (result.exit_code, labels) == (0, b"")
    assert result.stdout.startswith("2 images, ")
    assert np.array_equal(read_labels(Path("results/stdin.png")), read_labels(Path("results/other.png")))


@pytest.mark.parametrize(
    ("content", "arguments", "code", "message"),
    [
        (b"", ["-", "--out", "-"], 1, "cannot read standard input: the file is empty; copy or export it again"),
        (b"text", ["-", "--out", "a.png"], 1, "cannot read standard input: its content is none that is known"),
        (b"", ["-", "-", "--out-dir", "a"], 2, "- stands for standard input, which can be read once; give it once"),
        (b"", ["a.png", "--out", "-", "--format", "zarr"], 2, "a Zarr group is a folder, which standard output cannot"),
        (None, ["-", "--out", "-", "--planes"], 2, "--out is for one image, --planes gives many"),
        (None, ["-", "--out", "-", "--workers", "1"], 2, "workers write the labels of one image as OME-Zarr, not"),
        (b"", ["missing.png", "--out", "-"], 1, "there is no file or folder missing.png"),
    ],
)
def test_what_goes_wrong_is_said_of_the_stream(streamed, content, arguments, code, message):
    result, labels = streamed(Path("image.png").read_bytes() if content is None else content, *arguments)
    assert (result.exit_code, result.stdout, labels) == (code, "", b"")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_terminals_are_refused(streamed, monkeypatch):
    monkeypatch.setattr("instseg.cli.standard_streams._is_terminal", lambda number: number == 0)
    result, _ = streamed(b"", "-", "--out", "a.png")
    assert "- stands for standard input, which is a terminal; give a file" in result.stderr
    monkeypatch.setattr("instseg.cli.standard_streams._is_terminal", lambda number: number == 1)
    result, _ = streamed(b"", "image.png", "--out", "-")
    assert "standard output is a terminal, which shows no images; lead it to a file or a program" in result.stderr
