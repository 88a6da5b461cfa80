"""Labels are written as OME-Zarr with a pyramid, and a group that is there stays until the new one is complete."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from instseg.errors import InstsegError
from instseg.io.label_images import STRIP_ROWS
from instseg.io.pixel_size import PixelGeometry
from instseg.io.zarr_labels import (
    create_zarr_labels,
    downsample_level,
    is_complete_zarr,
    replace_zarr,
    write_zarr_labels,
    zarr_lock,
)
from instseg.tiling.grid import Box


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


SHAPES = [(40, 30), (STRIP_ROWS + 300, 700), (2 * STRIP_ROWS, 3000), (3, 5000)]


def strips_of(labels):
    return (labels[top : top + STRIP_ROWS] for top in range(0, len(labels), STRIP_ROWS))


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_are_written_with_a_pyramid(shape):
    labels = np.random.default_rng(1).integers(0, 100_000, shape).astype(np.int32)
    geometry = PixelGeometry((0.25, 0.5), (2.5, 5.0), "micrometer")
    write_zarr_labels("labels.zarr", shape, strips_of(labels), geometry)
    group = zarr.open("labels.zarr", mode="r")
    image = group.attrs["ome"]["multiscales"][0]
    assert "image-label" in group.attrs["ome"]
    assert image["axes"] == [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    for level, dataset in enumerate(image["datasets"]):
        np.testing.assert_array_equal(group[dataset["path"]][...], labels[:: 2**level, :: 2**level])
        scale, translation = dataset["coordinateTransformations"]
        assert scale["scale"] == [0.25 * 2**level, 0.5 * 2**level]
        # Levels are made of the first pixel of every block: their first pixel is where it was.
        assert translation["translation"] == [2.5, 5.0]
    assert max(group[dataset["path"]].shape) <= 1024
    assert sorted(path.name for path in Path().iterdir()) == ["labels.zarr"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("geometry", [None, PixelGeometry((0.25, 0.5), (2.5, 5.0), "micrometer")])
def test_labels_are_what_the_format_prescribes(shape, geometry):
    from ome_zarr_models.v05.image_label import ImageLabel

    labels = np.ones(shape, np.int32)
    write_zarr_labels("labels.zarr", shape, strips_of(labels), geometry)
    model = ImageLabel.from_zarr(zarr.open_group("labels.zarr", mode="r"))
    assert model.ome_attributes.version == "0.5"
    (image,) = model.ome_attributes.multiscales
    first = image.datasets[0].coordinateTransformations
    assert first[0].scale == ([1, 1] if geometry is None else [0.25, 0.5])
    assert [axis.unit for axis in image.axes] == [None if geometry is None else "micrometer"] * 2
    assert len(first) == (1 if geometry is None else 2)


def test_a_group_is_replaced_and_nothing_else():
    labels = np.ones((5, 6), np.int32)
    for value in (1, 2):
        write_zarr_labels(Path("labels.zarr"), (5, 6), iter([labels * value]))
        assert stored("labels.zarr") == value
    Path("folder.zarr").mkdir()
    Path("folder.zarr/notes.txt").touch()
    with pytest.raises(InstsegError, match="cannot write folder.zarr: it exists and is no Zarr group"):
        write_zarr_labels(Path("folder.zarr"), (5, 6), iter([labels]))

    def broken():
        raise OSError(28, "No space left on device")
        yield

    for name in ("new.zarr", "labels.zarr"):
        with pytest.raises(InstsegError, match=f"cannot write {name}: No space left on device"):
            write_zarr_labels(Path(name), (5, 6), broken())
    assert stored("labels.zarr") == 2
    assert names() == ["folder.zarr", "labels.zarr"]


def stored(path):
    """The one value of labels that are all equal."""
    (value,) = np.unique(zarr.open(path, mode="r")["0"][...])
    return value


def names():
    return sorted(path.name for path in Path().iterdir())


def write_ones(path, value):
    write_zarr_labels(path, (5, 6), iter([np.full((5, 6), value, np.int32)]))


def test_what_is_there_stays_until_the_new_group_is_in_its_place(monkeypatch):
    write_ones("labels.zarr", 1)
    seen, rmtree = [], shutil.rmtree

    def looking(path, **options):
        if Path(path).name.endswith(".replaced"):
            # The old group is deleted last.
            seen.append((stored("labels.zarr"), stored(path)))
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", looking)
    write_ones("labels.zarr", 2)
    assert seen == [(2, 1)]
    assert names() == ["labels.zarr"]


def test_what_is_there_is_put_back_if_the_new_group_cannot_be_renamed(monkeypatch):
    write_ones("labels.zarr", 1)
    rename = Path.rename

    def failing(path, target):
        if path.name.endswith(".partial"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(InstsegError, match="cannot write labels.zarr: Permission denied"):
        write_ones("labels.zarr", 2)
    assert stored("labels.zarr") == 1
    assert names() == ["labels.zarr"]


KILLED = """
import os, shutil, sys
from pathlib import Path
import numpy as np
from instseg.io.zarr_labels import write_zarr_labels

def killed(*arguments, **options):
    os.kill(os.getpid(), 9)

rename, rmtree = Path.rename, shutil.rmtree
if sys.argv[1] == "between":
    Path.rename = lambda path, target: (killed if path.name.endswith(".partial") else rename)(path, target)
else:
    shutil.rmtree = lambda path, **options: (killed if path.name.endswith(".replaced") else rmtree)(path, **options)
write_zarr_labels("labels.zarr", (5, 6), iter([np.full((5, 6), 2, np.int32)]))
"""


@pytest.mark.parametrize(
    ("when", "left", "value"),
    [
        ("between", [".labels.zarr.lock", ".labels.zarr.partial", ".labels.zarr.replaced"], 1),
        ("deleting", [".labels.zarr.lock", ".labels.zarr.replaced", "labels.zarr"], 2),
    ],
)
@pytest.mark.parametrize("succeeds", [True, False])
def test_what_a_killed_process_leaves_is_cleaned_up(when, left, value, succeeds):
    write_ones("labels.zarr", 1)
    killed = subprocess.run([sys.executable, "-c", KILLED, when], env=os.environ, check=False)
    assert killed.returncode == -9
    assert names() == left

    def broken():
        raise OSError(28, "No space left on device")
        yield

    if succeeds:
        write_ones("labels.zarr", 3)
    else:
        with pytest.raises(InstsegError, match="No space left on device"):
            write_zarr_labels("labels.zarr", (5, 6), broken())
    assert stored("labels.zarr") == (3 if succeeds else value)
    assert names() == ["labels.zarr"]


def test_a_complete_group_elsewhere_takes_the_place():
    write_ones("labels.zarr", 1)
    Path("run").mkdir()
    create_zarr_labels("run/labels", "labels", (5, 6))[0][...] = 4
    replace_zarr(Path("run/labels"), Path("labels.zarr"))
    assert stored("labels.zarr") == 4
    assert names() == ["labels.zarr", "run"]
    assert not list(Path("run").iterdir())


def test_a_second_process_is_told_that_the_first_one_writes():
    write_ones("labels.zarr", 1)
    write = "from instseg.io.zarr_labels import *; import numpy as np\n"
    write += "write_zarr_labels('labels.zarr', (5, 6), iter([np.full((5, 6), 2, np.int32)]))"

    def strips():
        yield np.full((5, 6), 3, np.int32)
        second = subprocess.run([sys.executable, "-c", write], capture_output=True, text=True, check=False)
        last = second.stderr.splitlines()[-1]
        assert last.endswith(
            "InstsegError: cannot write labels.zarr: another process is writing it; wait for it, or choose another name"
        )
        assert stored("labels.zarr") == 1

    write_zarr_labels("labels.zarr", (5, 6), strips())
    assert stored("labels.zarr") == 3
    assert names() == ["labels.zarr"]


def test_what_cannot_be_written_is_told_before_anything_is_locked():
    for path, what in (("no/labels.zarr", "does not exist"), ("file.zarr", "is no Zarr group")):
        Path("file.zarr").touch()
        with pytest.raises(InstsegError, match=what), zarr_lock(Path(path)):
            pass
    assert names() == ["file.zarr"]


def test_a_long_name_is_written():
    name = "n" * 250 + ".zarr"
    for value in (1, 2):
        write_ones(name, value)
        assert stored(name) == value
        assert is_complete_zarr(name)
    assert names() == [name]


def test_a_group_that_replaces_another_is_on_the_disc_before_it_does(monkeypatch):
    done, fsync, rename = [], os.fsync, Path.rename

    def synchronised(descriptor):
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(path, target):
        done.append(f"renamed {path}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synchronised)
    monkeypatch.setattr(Path, "rename", renamed)
    write_ones("labels.zarr", 1)
    assert done == ["renamed .labels.zarr.partial"]
    done.clear()
    write_ones("labels.zarr", 2)
    assert sorted(done[:-3]) == sorted([".labels.zarr.partial", "zarr.json", "0", "zarr.json", "c", "0", "0"])
    assert done[-3:] == ["renamed labels.zarr", "renamed .labels.zarr.partial", Path.cwd().name]


@pytest.fixture
def group():
    """A group of three levels, of which some chunks are background."""
    labels = np.zeros((600, 4000), np.int32)
    labels[:, 1000:1020] = 7
    write_zarr_labels("labels.zarr", labels.shape, strips_of(labels))
    return Path("labels.zarr")


def forget(group):
    """Make a group one of a version that did not say what it consists of."""
    metadata = json.loads((group / "zarr.json").read_text())
    del metadata["attributes"]["instseg"]
    (group / "zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_whole_group_is_complete(group, earlier):
    if earlier:
        forget(group)
    assert is_complete_zarr(group)
    assert is_complete_zarr(str(group))
    # What viewers and systems leave counts for nothing.
    (group / "0" / "c" / ".DS_Store").touch()
    (group / ".DS_Store").touch()
    assert is_complete_zarr(group)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("broken", ["zarr.json", "0/zarr.json", "2/zarr.json"])
@pytest.mark.parametrize("text", [None, "", "{", "[]", "[" * 99_999, '{"attributes": {"ome": {"multiscales": 3}}}'])
def test_a_group_without_its_metadata_is_not(group, earlier, broken, text):
    if earlier:
        forget(group)
    if text is None:
        (group / broken).unlink()
    else:
        (group / broken).write_text(text)
    assert not is_complete_zarr(group)


def test_a_group_without_a_chunk_is_not(group):
    chunks = [path for path in group.glob("*/c/*/*") if path.is_file()]
    assert len(chunks) >= 3
    for chunk in chunks:
        content = chunk.read_bytes()
        chunk.unlink()
        assert not is_complete_zarr(group)
        chunk.write_bytes(content[:-1])
        assert not is_complete_zarr(group)
        chunk.write_bytes(content)
        assert is_complete_zarr(group)


def test_a_group_of_an_earlier_version_with_an_empty_chunk_is_not(group):
    forget(group)
    next(path for path in group.glob("*/c/*/*") if path.is_file()).write_bytes(b"")
    assert not is_complete_zarr(group)


def test_what_is_no_group_is_not():
    zarr.create_array("array.zarr", shape=(2, 2), dtype="uint8")
    Path("folder.zarr").mkdir()
    Path("file.zarr").touch()
    for name in ("array.zarr", "folder.zarr", "file.zarr", "missing.zarr"):
        assert not is_complete_zarr(name)


@pytest.mark.parametrize("depth", [1.0, 2.0, 0.2])
def test_levels_of_volumes_are_made_part_by_part(depth):
    labels = np.random.default_rng(2).integers(0, 9, (21, 600, 40)).astype(np.uint32)
    geometry = PixelGeometry((1.0, 1.0), None, "micrometer", depth)
    arrays = create_zarr_labels("parts.zarr", "parts", labels.shape, geometry)
    arrays[0][...] = labels
    for level, array in enumerate(arrays[1:], start=1):
        for first in range(0, array.shape[0], array.chunks[0]):
            for top in range(0, array.shape[1], array.chunks[1]):
                last, bottom = first + array.chunks[0], top + array.chunks[1]
                downsample_level(
                    arrays,
                    level,
                    Box(first, top, 0, min(last, array.shape[0]), min(bottom, array.shape[1]), array.shape[2]),
                )
    write_zarr_labels("strips.zarr", labels.shape, iter([labels[:4], labels[4:]]), geometry)
    group = zarr.open_group("strips.zarr", mode="r")
    assert len(arrays) == 3
    for level, array in enumerate(arrays):
        # Planes that are further apart than pixels are kept until pixels are as large.
        step = {1.0: (1, 2, 4), 2.0: (1, 1, 2), 0.2: (1, 2, 4)}[depth][level]
        np.testing.assert_array_equal(array[...], labels[::step, :: 2**level, :: 2**level])
        np.testing.assert_array_equal(group[str(level)][...], array[...])
