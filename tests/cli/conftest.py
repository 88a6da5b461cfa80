"""What the tests of commands share: an empty folder to run in, the command itself, and small images and data."""

import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from instseg.cli import app
from instseg.data import discs
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.settings import DiscSettings


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What nobody has foreseen fails the tests.
    monkeypatch.setenv("INSTSEG_TRACEBACK", "1")


@pytest.fixture
def model(tiny_model):
    """The tiny model under a short name."""
    Path("model").symlink_to(tiny_model)
    return Path("model")


@pytest.fixture
def copied_model(tiny_model):
    """A copy of the tiny model without links, free to be damaged."""
    return Path(shutil.copytree(tiny_model / "current", "model"))


@pytest.fixture
def run():
    """A function that calls the command in this process; a traceback fails the test."""

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    return run


@pytest.fixture
def environment():
    """Variables for a subprocess, without those by which TensorFlow and a terminal would add to its output."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "COLUMNS", "FORCE_"))}


@pytest.fixture
def start(environment):
    """A function that starts the command as a program, and ends it with the test."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "instseg", *(str(argument) for argument in arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, **pipes, text=True, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def finish():
    """A function that waits for a program, and returns its exit code, stdout and stderr."""

    def finish(process):
        stdout, stderr = process.communicate(timeout=240)
        return process.returncode, stdout, stderr

    return finish


@pytest.fixture
def refused():
    """A function that returns the last line of a refusal: lines on stderr, nothing on stdout, no parameters."""

    def refused(result, code=1, lines=1):
        assert (result.exit_code, result.stdout) == (code, "")
        messages = result.stderr.splitlines()
        assert len(messages) == lines
        assert all(line.startswith("instseg: ") for line in messages)
        assert "`" not in result.stderr
        return messages[-1].removeprefix("instseg: ")

    return refused


@pytest.fixture
def misused():
    """A function that returns what Typer itself refuses, unfolded from its box."""

    def misused(result):
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Traceback" not in result.stderr
        return " ".join(re.sub("[─│╭╮╰╯]", " ", result.stderr).split())

    return misused


@pytest.fixture
def files():
    """A function that lists all files below the working directory."""

    def files():
        return sorted(path.as_posix() for path in Path().rglob("*") if path.is_file())

    return files


def _disc_image(seed=0, size=48):
    return discs.draw_discs(np.random.default_rng(seed), DiscSettings(size=size, min_discs=3, max_discs=5))


@pytest.fixture
def disc_image():
    """A function that draws an image of a few discs and its labels."""
    return _disc_image


@pytest.fixture
def make_image():
    """A function that writes an image of discs."""

    def make_image(path="image.png", **options):
        write_picture(Path(path), _disc_image(**options)[0])
        return Path(path)

    return make_image


@pytest.fixture
def make_data():
    """A function that writes a data folder of images of discs."""

    def make_data(folder="data", count=3, size=48):
        folder = Path(folder)
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, labels = _disc_image(index, size)
            write_picture(folder / "images" / f"{index}.png", image)
            write_labels(folder / "labels" / f"{index}.png", labels)
        return folder

    return make_data


@pytest.fixture
def make_npz():
    """A function that writes embeddings of two objects side by side; members set to None are left out."""

    def make_npz(path="maps.npz", **changes):
        values = np.repeat(np.float32([0, 9]), 8)[None, :, None] + np.zeros((16, 16, 2), np.float32)
        seeds = np.full((16, 16), 0.1, np.float32)
        seeds[8, [4, 12]] = 0.9
        members = {
            "format": np.array(1),
            "embeddings": values,
            "foreground": np.ones((16, 16), np.float32),
            "seeds": seeds,
            "bandwidth": np.full((16, 16), 2, np.float32),
        } | changes
        np.savez(path, **{name: value for name, value in members.items() if value is not None})
        return Path(path)

    return make_npz


def _write_png(path, pixels):
    import imagecodecs

    Path(path).write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


@pytest.fixture
def write_png():
    """A function that writes pixels of 8 or 16 bits, in any number of channels that PNG has."""
    return _write_png


@pytest.fixture
def write_rgb():
    """A function that writes a gray image, or that of some discs, as three equal channels of 16 bits."""

    def write_rgb(path, image=None):
        image = _disc_image()[0] if image is None else image
        _write_png(path, np.stack([image] * 3, axis=-1))

    return write_rgb


@pytest.fixture
def write_coloured():
    """A function that writes an RGB image that shows something in the green channel only."""

    def write_coloured(path, image=None):
        image = _disc_image()[0] if image is None else image
        _write_png(path, np.stack([image * 0, image, image * 0 + 9], axis=-1))

    return write_coloured


@pytest.fixture
def write_bad_image():
    """A function that writes an image of a kind that commands refuse, some of them in some places only."""

    def write_bad_image(kind, path):
        image = _disc_image()[0]
        if kind == "rgb16":
            _write_png(path, np.stack([image] * 3, axis=-1))
        elif kind == "alpha":
            _write_png(path, np.stack([image] * 4, axis=-1))
        elif kind == "cmyk":
            gray = (image >> 8).astype(np.uint8)
            Image.fromarray(np.stack([gray] * 3, axis=-1)).convert("CMYK").save(path, "TIFF")
        elif kind == "cut":
            write_picture(path, image)
            path.write_bytes(path.read_bytes()[:900])
        elif kind == "renamed":
            path.write_text("not an image at all")
        elif kind == "nan":
            import tifffile

            tifffile.imwrite(path, np.full((8, 8), np.nan, np.float32))
        elif kind == "empty":
            path.touch()
        elif kind == "huge":
            path.write_bytes(_huge_png())
        else:
            raise ValueError(kind)

    return write_bad_image


def _huge_png():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 40_000, 25_000, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
