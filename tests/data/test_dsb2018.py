"""The script that makes the nuclei folders, on a folder made as the public download is."""

import importlib.util
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.images import read_image
from instseg.io.label_images import read_labels

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("dsb2018", BENCHMARKS / "dsb2018.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


@pytest.fixture
def source(tmp_path):
    """Two images as they are published, and one that no list names."""
    rng = np.random.default_rng(0)
    for digit in "abc":
        name = digit * 64
        gray = rng.integers(0, 200, (20, 30, 1), np.uint8)
        opaque = np.full_like(gray, 255)
        write(tmp_path / "stage1" / name / "images" / f"{name}.png", np.concatenate([gray, gray, gray, opaque], axis=2))
        for number in range(3):
            mask = np.zeros((20, 30), np.uint8)
            # The second overlaps the first by a column, the third is hidden by both.
            mask[4:9, 5 * number + 2 : 5 * number + 8] = 255
            if number == 2:
                mask[:] = 0
                mask[5, 5] = 255
            write(tmp_path / "stage1" / name / "masks" / f"{number}{name}.png", mask)
    return tmp_path / "stage1"


def test_masks_become_labels(script, source, tmp_path):
    names = ["a" * 12, "b" * 12]
    assert script.build(source, tmp_path / "out", names) == 4
    assert sorted(path.stem for path in (tmp_path / "out/images").iterdir()) == names
    image, labels = (
        read_image(tmp_path / f"out/images/{names[0]}.png"),
        read_labels(tmp_path / f"out/labels/{names[0]}.png"),
    )
    assert (image.shape, labels.shape) == ((20, 30, 1), (20, 30))
    expected = np.zeros((20, 30), int)
    expected[4:9, 2:8] = 1
    expected[4:9, 8:13] = 2
    np.testing.assert_array_equal(labels, expected)


def test_what_is_missing_is_named(script, source, tmp_path):
    with pytest.raises(InstsegError, match="lacks 1 of 2 images \\(dddddddddddd\\)"):
        script.build(source, tmp_path / "out", ["a" * 12, "d" * 12])
    with pytest.raises(InstsegError, match="there is no folder"):
        script.build(tmp_path / "none", tmp_path / "out", ["a" * 12])
    mask = next((source / ("a" * 64) / "masks").iterdir())
    write(mask, np.zeros((5, 5), np.uint8))
    with pytest.raises(InstsegError, match="is of \\(5, 5\\) pixels, its image of \\(20, 30\\)"):
        script.build(source, tmp_path / "out", ["a" * 12])


def test_the_splits_are_disjoint():
    names = {
        part: (BENCHMARKS / "splits" / f"dsb2018-{part}.txt").read_text(encoding="utf-8").split()
        for part in ("train", "val")
    }
    assert {part: len(set(listed)) for part, listed in names.items()} == {"train": 390, "val": 42}
    assert not set(names["train"]) & set(names["val"])
    assert all(len(name) == 12 for listed in names.values() for name in listed)
    cells = (BENCHMARKS / "splits" / "usiigaci-val.txt").read_text(encoding="utf-8").split()
    assert len(set(cells)) == 9
    # They show the same field of view.
    assert ("train_set23" in cells) == ("train_set40" in cells)
