"""Folders of generated volumes."""

import hashlib

import numpy as np
import pytest

from instseg.data.balls import draw_balls
from instseg.data.generate_volumes import generate_balls
from instseg.errors import InstsegError, UsageError
from instseg.io.label_volumes import read_label_volume
from instseg.io.volumes import open_volume, read_volume
from instseg.settings import BallSettings

SMALL = BallSettings(depth=12, size=40, min_balls=2, max_balls=4, spacing_z=3.0)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_volume_depends_on_the_seed_and_its_number_only(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    calls = []
    counted = [
        generate_balls(folder, count=count, seed=5, settings=SMALL, progress=lambda *call: calls.append(call))
        for folder, count in zip(folders, (2, 2, 1), strict=True)
    ]
    a, b, c = (digests(folder) for folder in folders)
    assert a == b
    assert c.items() < a.items()
    assert calls == [(1, 2), (2, 2), (1, 2), (2, 2), (1, 1)]
    volume, labels = draw_balls(np.random.default_rng([5, 1]), SMALL)
    assert np.array_equal(read_volume(tmp_path / "a/images/0001.tif")[..., 0], volume)
    assert np.array_equal(read_label_volume(tmp_path / "a/labels/0001.tif"), labels)
    assert counted[0] == sum(int(read_label_volume(path).max()) for path in (tmp_path / "a/labels").iterdir())


def test_files_tell_how_far_apart_planes_are(tmp_path):
    generate_balls(tmp_path, count=1, settings=SMALL)
    reader = open_volume(tmp_path / "images/0000.tif")
    assert reader.spacing == (3.0, 1.0, 1.0)
    assert reader.notes == ()


def test_what_is_there_is_replaced_only_when_asked(tmp_path):
    generate_balls(tmp_path, count=2, settings=SMALL)
    with pytest.raises(InstsegError, match="add `overwrite=True` to replace them"):
        generate_balls(tmp_path, count=1, settings=SMALL)
    generate_balls(tmp_path, count=1, overwrite=True, settings=SMALL)
    assert list(digests(tmp_path)) == ["images/0000.tif", "labels/0000.tif", "preview.png"]
    (tmp_path / "labels/mine.tif").touch()
    with pytest.raises(InstsegError, match="files that generate did not write"):
        generate_balls(tmp_path, count=1, overwrite=True, settings=SMALL)


@pytest.mark.parametrize("values", [{"count": 0}, {"count": 10_001}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(tmp_path, values):
    with pytest.raises(UsageError, match=f"{next(iter(values))} is "):
        generate_balls(tmp_path / "new", **values)
    assert not (tmp_path / "new").exists()
