"""Folders of generated images."""

import hashlib

import numpy as np
import pytest

from instseg.data.discs import draw_discs
from instseg.data.generate import generate_discs
from instseg.errors import InstsegError, UsageError
from instseg.io.images import read_image
from instseg.io.label_images import read_labels
from instseg.settings import DiscSettings

SMALL = DiscSettings(size=32, min_discs=2, max_discs=4)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_an_image_depends_on_the_seed_and_its_number_only(tmp_path):
    folders = [tmp_path / name for name in "abcd"]
    for folder, count, seed in zip(folders, (3, 3, 1, 1), (5, 5, 5, 6), strict=True):
        generate_discs(folder, count=count, seed=seed, settings=SMALL)
    a, b, c, d = (digests(folder) for folder in folders)
    assert a == b
    assert c.items() < a.items()
    assert d["images/0000.png"] != a["images/0000.png"]
    image, labels = draw_discs(np.random.default_rng([5, 2]), SMALL)
    assert np.array_equal(read_image(tmp_path / "a/images/0002.png")[..., 0], image)
    assert np.array_equal(read_labels(tmp_path / "a/labels/0002.png"), labels)


def test_discs_are_counted_and_progress_is_told(tmp_path):
    calls = []
    discs = generate_discs(str(tmp_path), count=2, settings=SMALL, progress=lambda *call: calls.append(call))
    assert discs == sum(int(read_labels(path).max()) for path in (tmp_path / "labels").iterdir())
    assert calls == [(1, 2), (2, 2)]


def test_what_is_there_is_replaced_only_when_asked(tmp_path):
    generate_discs(tmp_path, count=2, settings=SMALL)
    before = digests(tmp_path)
    with pytest.raises(InstsegError, match="add `overwrite=True` to replace them or give another `out`"):
        generate_discs(tmp_path, count=1, seed=1, settings=SMALL)
    assert digests(tmp_path) == before
    generate_discs(tmp_path, count=1, seed=1, overwrite=True, settings=SMALL)
    assert list(digests(tmp_path)) == ["images/0000.png", "labels/0000.png", "preview.png"]


def test_files_of_others_are_never_removed(tmp_path):
    generate_discs(tmp_path, count=1, settings=SMALL)
    (tmp_path / "labels/mine.png").touch()
    before = digests(tmp_path)
    with pytest.raises(InstsegError, match="files that generate did not write, such as .*labels/mine.png"):
        generate_discs(tmp_path, count=1, overwrite=True, settings=SMALL)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("values", [{"count": 0}, {"count": 10_001}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(tmp_path, values):
    (name,) = values
    with pytest.raises(UsageError, match=f"{name} is {values[name]}, expected") as caught:
        generate_discs(tmp_path, **values)
    assert caught.value.parameter == name
    assert list(tmp_path.iterdir()) == []
