"""Which files and planes are the frames of a sequence."""

import numpy as np
import pytest
import tifffile
import zarr

from instseg.errors import InstsegError
from instseg.io.frames import find_frames
from instseg.io.image_file import ImageFileError
from instseg.io.label_images import write_labels


@pytest.fixture
def make_frames(tmp_path):
    """A function that writes label images, whose only object has the number of the frame + 1."""

    def make_frames(*names):
        for number, name in enumerate(names, start=2):
            write_labels(tmp_path / name, np.full((3, 4), number))
        return tmp_path

    return make_frames


def first_labels(sequence):
    return [int(labels[0, 0]) for labels in sequence.read()]


def test_files_are_in_the_order_of_their_numbers(make_frames):
    sequence = find_frames([make_frames("t9.png", "t10.tif", "t11.png", "t8.png")])
    assert [frame.result for frame in sequence.frames] == ["t8.png", "t9.png", "t10.tif", "t11.png"]
    assert [frame.time for frame in sequence.frames] == [8, 9, 10, 11]
    assert first_labels(sequence) == [5, 2, 3, 4]


def test_missing_frames_are_said(make_frames):
    sequence = find_frames([make_frames("a_t000_s1.png", "a_t001_s1.png", "a_t003_s1.png")])
    assert sequence.missing == (2,)
    assert sequence.notes == ("1 frame is missing in the series (2); objects may be linked over gaps",)
    assert not find_frames([make_frames() / "a_t000*"]).missing


@pytest.mark.parametrize(
    ("names", "times", "notes"),
    (
        (("5.png", "10.png", "15.png"), [0, 1, 2], 0),
        (("a.png", "b.png", "c.png"), [0, 1, 2], 0),
        (("a1_b1.png", "a2_b2.png"), [0, 1], 0),
        (("1.png", "2.png", "900.png"), [0, 1, 2], 1),
        (("t07.png",), [7], 0),
        (("cell.png",), [0], 0),
        (("a1.png", "b1.png"), [0, 1], 0),
    ),
)
def test_times_come_from_numbers_that_may_be_those_of_frames(make_frames, names, times, notes):
    sequence = find_frames([make_frames(*names)])
    assert [frame.time for frame in sequence.frames] == times
    assert (len(sequence.notes), sequence.missing) == (notes, ())


def test_frames_that_cannot_be_told_apart_are_refused(make_frames):
    with pytest.raises(InstsegError, match="several frames have the number of t0?1.png; keep one file of each number"):
        find_frames([make_frames("t1.png", "t01.png", "t2.png")])
    with pytest.raises(InstsegError, match="there is no file or folder"):
        find_frames([make_frames() / "none"])


@pytest.mark.parametrize("kind", ("pages", "imagej", "ome", "npy", "zarr"))
def test_planes_of_a_file_are_frames(tmp_path, kind):
    labels = np.stack([np.full((8, 9), number, np.uint16) for number in (2, 3, 70)])
    path = tmp_path / {"pages": "a.tif", "imagej": "a.tif", "ome": "a.ome.tif", "npy": "a.npy", "zarr": "a.zarr"}[kind]
    if kind == "npy":
        np.save(path, labels)
    elif kind == "zarr":
        zarr.create_array(path, data=labels, dimension_names=("t", "y", "x"))
    else:
        axes = {"metadata": {"axes": "TYX"}} if kind != "pages" else {}
        tifffile.imwrite(path, labels, imagej=kind == "imagej", photometric="minisblack", **axes)
    sequence = find_frames([path])
    assert first_labels(sequence) == [2, 3, 70] == first_labels(sequence)
    assert [frame.time for frame in sequence.frames] == [0, 1, 2]
    assert [frame.result for frame in sequence.frames] == [f"{path.stem}-000{time}.tif" for time in range(3)]


def test_planes_that_are_no_time_series(tmp_path):
    labels = np.full((2, 3, 8, 9), 2, np.uint16)
    tifffile.imwrite(tmp_path / "tz.ome.tif", labels, metadata={"axes": "TZYX"}, photometric="minisblack")
    with pytest.raises(ImageFileError, match="its planes are along T and Z, expected those of a time series"):
        find_frames([tmp_path / "tz.ome.tif"])
    tifffile.imwrite(tmp_path / "z.ome.tif", labels[0], metadata={"axes": "ZYX"}, photometric="minisblack")
    assert find_frames([tmp_path / "z.ome.tif"]).notes[-1].endswith("along Z are taken as frames")


def test_damaged_frames_are_named(make_frames):
    folder = make_frames("t1.png", "t2.png")
    (folder / "t2.png").write_bytes((folder / "t1.png").read_bytes()[:40])
    frames = find_frames([folder]).read()
    next(frames)
    with pytest.raises(ImageFileError, match="t2.png"):
        next(frames)
