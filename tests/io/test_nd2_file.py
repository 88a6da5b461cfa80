"""Images of Nikon microscopes. Only programs of Nikon write ND2, so a document of the library is stood in for."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from instseg import optional
from instseg.errors import InstsegError
from instseg.io.formats import read_header
from instseg.io.images import read_image, read_planes
from instseg.io.pixel_size import PixelGeometry
from instseg.io.source import open_image, read_geometry
from instseg.io.volumes import FileVolume, read_volume, read_volume_header
from instseg.tiling.grid import Box

nd2 = pytest.importorskip("nd2")

SIDES = {"Y": 6, "X": 8}


class Document:
    """What `nd2.ND2File` gives of a file: frames (C, Y, X, S) without axes of length 1, which end with the file."""

    def __init__(self, sizes):
        self.sizes, self.dtype = sizes, np.dtype(np.uint16)
        loops = {name: size for name, size in sizes.items() if name not in "CYXS"}
        self.loop_indices = tuple(dict(zip(loops, place, strict=True)) for place in np.ndindex(*loops.values()))
        shape = (len(self.loop_indices), sizes.get("C", 1), sizes["Y"], sizes["X"], sizes.get("S", 1))
        self.frames = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        self.open = self.frames.copy()

    def read_frame(self, number):
        return self.open[number].squeeze()

    def voxel_size(self):
        return SimpleNamespace(x=0.25, y=0.5, z=1.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open[:] = 0


@pytest.fixture
def put(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def put(sizes):
        Path("a.nd2").write_bytes(b"\xda\xce\xbe\x0a" + bytes(100))
        monkeypatch.setattr(nd2, "ND2File", lambda path: Document(sizes))
        return Document(sizes).frames

    return put


def message(call, *args):
    with pytest.raises(InstsegError) as caught:
        call(*args)
    return str(caught.value)


def test_channels_are_channels_and_outlive_the_file(put):
    frames = put({"C": 2, **SIDES})
    np.testing.assert_array_equal(read_image("a.nd2"), np.moveaxis(frames[0, ..., 0], 0, -1))
    assert (read_header("a.nd2").format, read_header("a.nd2").dtype) == ("ND2", "uint16")
    assert read_geometry(Path("a.nd2")) == PixelGeometry((0.5, 0.25), None, "micrometer")


def test_colours_and_parts(put):
    frames = put({**SIDES, "S": 3})
    np.testing.assert_array_equal(read_image("a.nd2"), frames[0, 0])
    np.testing.assert_array_equal(open_image("a.nd2").read(Box(1, 2, 4, 7)), frames[0, 0, 1:4, 2:7])
    put({"C": 2, **SIDES, "S": 3})
    assert "it has 2 channels of 3 samples each" in message(read_image, "a.nd2")


def test_times_and_depths_are_planes(put):
    frames = put({"T": 2, "Z": 3, "C": 2, **SIDES})
    assert "it is a stack of 6 planes along T and Z of 6 x 8 pixels" in message(read_image, "a.nd2")
    for frame, plane in zip(frames, read_planes("a.nd2"), strict=True):
        np.testing.assert_array_equal(plane, np.moveaxis(frame[..., 0], 0, -1))


def test_positions_are_named(put):
    frames = put({"P": 2, "C": 1, **SIDES})
    expected = "it holds 2 positions (0 to 1), expected one image; give one of them, such as a.nd2:/0"
    assert expected in message(read_image, "a.nd2")
    np.testing.assert_array_equal(read_image("a.nd2:/1"), frames[1, 0])
    assert "it holds no position 2 (but 0 to 1)" in message(read_image, "a.nd2:/2")


def test_files_that_are_none_are_told(tmp_path):
    (tmp_path / "a.nd2").write_bytes(b"\xda\xce\xbe\x0a" + bytes(100))
    assert "it is damaged or cut off" in message(read_image, tmp_path / "a.nd2")


def test_what_is_missing_is_named(put, monkeypatch):
    put(SIDES)
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    expected = "ND2 needs nd2; install what is missing with: python -m pip install '.[nd2]'"
    assert message(read_image, "a.nd2") == expected


def test_frames_along_z_are_a_volume(put):
    frames = put({"T": 2, "Z": 3, "C": 2, **SIDES}).reshape(2, 3, 2, 6, 8)
    np.testing.assert_array_equal(read_volume("a.nd2", time=1), np.moveaxis(frames[1], 1, -1))
    assert read_volume_header("a.nd2", time=1).geometry == PixelGeometry((0.5, 0.25), None, "micrometer", 1.0)
    reader = FileVolume(Path("a.nd2"), time=0)
    np.testing.assert_array_equal(reader.read(Box(1, 2, 3, 3, 5, 7)), np.moveaxis(frames[0], 1, -1)[1:, 2:5, 3:7])
