"""What benchmarks are made of: the images that they draw, memory as they measure it, and what more workers would do."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instseg.io.images import read_image

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A function that returns a script as a module, by its name."""
    # Scripts in one folder import each other by their names.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)

    def load(name):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture
def slides(load, monkeypatch):
    slides = load("slides")
    rng = np.random.default_rng(0)
    drawn = [rng.integers(10_000, 65_535, (1024, 1024), np.uint16) for _ in range(8)]
    monkeypatch.setattr(slides, "pieces", lambda: drawn)
    return slides


def test_a_large_image_is_the_same_in_a_file_and_in_memory(slides, tmp_path):
    image = read_image(slides.write_mosaic(tmp_path / "image.tif", 2100))
    assert image.shape == (2100, 2100, 1)
    np.testing.assert_array_equal(image[..., 0], slides.mosaic(2100))


@pytest.mark.parametrize("bright", [True, False])
def test_four_fifths_of_a_slide_are_glass(slides, tmp_path, bright):
    glass, tissue = (
        read_image(slides.write_slide(tmp_path / f"{full}.tif", 1500, bright=bright, full=full))
        for full in (False, True)
    )
    assert glass.shape == tissue.shape == (1500, 1500, 3 if bright else 1)
    same = (glass == tissue).all(axis=2)
    assert same.mean() == pytest.approx(0.2, abs=0.01)
    # Far from both sections there is glass.
    corner = glass[:100, :100].astype(float)
    assert corner.mean() == pytest.approx(243 if bright else 200, abs=2)
    assert 1 < corner[..., 0].std() < 50
    assert not same[:100, :100].any()


def test_workers_take_the_next_task_when_they_are_free(load):
    workers = load("workers")
    assert workers.makespan([3, 1, 1, 1], 2) == 3
    assert workers.makespan([1, 1, 1], 2) == 2
    assert workers.makespan([1, 2, 3], 1) == 6
    assert workers.makespan([1, 2], 8) == 2
    assert workers.makespan([], 4) == 0


def test_memory_is_that_of_the_command_and_not_of_who_starts_it(load):
    watch = load("predict")._WATCH
    large = np.ones(2**27, np.uint8)
    command = [sys.executable, "-S", "-c", watch, sys.executable, "-S", "-c"]
    small, more = (
        int(subprocess.run([*command, code], check=True, capture_output=True, text=True).stdout)
        for code in ("pass", "b'x' * 2**26")
    )
    assert large.nbytes > small
    assert more - small > 2**25


def test_a_command_that_fails_is_told(load):
    command = [sys.executable, "-c", load("predict")._WATCH, sys.executable, "-c", "raise SystemExit('no such model')"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "no such model\n"


def test_a_start_that_fails_is_told(load):
    with pytest.raises(SystemExit, match="broken failed: no"):
        load("startup").medians({"broken": [sys.executable, "-c", "raise SystemExit('no')"]}, 1)
