"""Selections of ImageJ. How they become labels is tested with the annotations."""

import zipfile

import numpy as np
import pytest

from instseg import optional
from instseg.errors import InstsegError
from instseg.io.image_file import ImageFileError
from instseg.io.imagej_rois import read_rois

SQUARE = np.array([[1, 1], [4, 1], [4, 3], [1, 3]])


def test_one_selection_and_several(tmp_path):
    roifile = pytest.importorskip("roifile")
    roi = roifile.ImagejRoi.frompoints(SQUARE, name="cell")
    roi.position = 3
    roi.props = "class: dead: cell\nno colon\nscore: 0.5\n"
    roi.tofile(tmp_path / "a.roi")
    (read,) = read_rois(tmp_path / "a.roi")
    np.testing.assert_array_equal(read.rings[0], SQUARE)
    assert (read.name, read.group, read.plane[0]) == ("cell", 0, 3)
    assert read.properties == {"class": "dead: cell", "score": "0.5"}
    roifile.roiwrite(tmp_path / "a.zip", [roi, roifile.ImagejRoi.frompoints(SQUARE, name="other")])
    assert len(read_rois(tmp_path / "a.zip")) == 2
    zipfile.ZipFile(tmp_path / "none.zip", "w").close()
    assert read_rois(tmp_path / "none.zip") == []


def test_archives_that_claim_too_much_or_hold_none(tmp_path, monkeypatch):
    pytest.importorskip("roifile")
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", b"\0" * 100_000)
    monkeypatch.setattr("instseg.io.imagej_rois._MAX_BYTES", 1000)
    with pytest.raises(ImageFileError, match="it claims 100,000 bytes"):
        read_rois(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"x")
    with pytest.raises(ImageFileError, match="it holds no .roi"):
        read_rois(path)
    (tmp_path / "a.roi").write_bytes(b"\0" * 2000)
    with pytest.raises(ImageFileError, match="larger than 64 MiB"):
        read_rois(tmp_path / "a.roi")


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    with pytest.raises(InstsegError, match="ImageJ ROIs need roifile"):
        read_rois(tmp_path / "a.roi")
