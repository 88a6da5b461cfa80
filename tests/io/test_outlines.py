"""Outlines in the formats of QuPath and ImageJ."""

import itertools
import json
import zipfile

import numpy as np
import pytest

from instseg import optional
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import measure_instances
from instseg.errors import InstsegError
from instseg.io.outlines import require_format, write_outlines

RING = np.array(
    [
        [5, 5, 5, 0],
        [5, 0, 5, 0],
        [5, 5, 5, 2],
    ]
)


def measured(labels):
    flat = Embeddings(
        embeddings=np.zeros((*labels.shape, 1), np.float32), foreground=np.full(labels.shape, 0.5, np.float32)
    )
    return measure_instances(labels.astype(np.int32), flat)


def test_geojson(tmp_path):
    labels = np.array([[3, 0, 0], [0, 3, 8], [0, 0, 8]])
    write_outlines(tmp_path / "a.geojson", labels, measured(labels))
    written = json.loads((tmp_path / "a.geojson").read_text())
    assert written["type"] == "FeatureCollection"
    three, eight = written["features"]
    assert three["geometry"]["type"] == "MultiPolygon"
    assert len(three["geometry"]["coordinates"]) == 2
    assert three["properties"] == {"objectType": "detection", "name": "3", "measurements": {"score": 0.5, "area": 2}}
    ring = [[2, 1], [3, 1], [3, 3], [2, 3], [2, 1]]
    assert eight["geometry"] == {"type": "Polygon", "coordinates": [ring]}
    write_outlines(tmp_path / "none.geojson", labels * 0, measured(labels * 0))
    assert json.loads((tmp_path / "none.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


def test_geojson_names_the_class(tmp_path):
    labels = np.array([[1, 0, 4]], np.int32)
    classes = np.array([[[0.9, 0.1], [0, 1], [0.3, 0.7]]], np.float32)
    flat = Embeddings(
        embeddings=np.zeros((1, 3, 1), np.float32),
        foreground=np.ones((1, 3), np.float32),
        classes=classes,
        class_names=("x", "y\x1b[2J"),
    )
    write_outlines(tmp_path / "a.geojson", labels, measure_instances(labels, flat))
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [one["properties"]["classification"] for one in features] == [{"name": "x"}, {"name": r"y\x1b[2J"}]


def test_imagej_rois(tmp_path):
    roifile = pytest.importorskip("roifile")
    write_outlines(tmp_path / "a.zip", RING, measured(RING))
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == ["00002", "00005"]
    assert rois[0].coordinates().tolist() == [[3, 2], [4, 2], [4, 3], [3, 3]]
    outer, hole = rois[1].coordinates(multi=True)
    assert outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0]]
    assert sorted(hole[1:].tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert (rois[1].left, rois[1].top, rois[1].right, rois[1].bottom) == (0, 0, 3, 3)
    write_outlines(tmp_path / "none.zip", RING * 0, measured(RING * 0))
    assert roifile.roiread(tmp_path / "none.zip") == []


def turns(ring, shape):
    """How often a closed ring goes round the centre of each pixel: what Java's winding rule for areas counts."""
    rows, columns = np.indices(shape) + 0.5
    count = np.zeros(shape, int)
    for (x, y), (_, other) in itertools.pairwise(ring.tolist()):
        count += np.sign(other - y).astype(int) * ((min(y, other) < rows) & (rows < max(y, other)) & (x > columns))
    return count


@pytest.mark.parametrize(
    "labels",
    [
        RING,
        # Parts that touch at a corner, and one far away.
        np.array([[1, 0, 0, 0, 2], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [3, 3, 0, 1, 0]]),
        # A part in the hole of another, and a hole that touches the outside at a corner.
        np.pad(np.pad(np.pad([[7]], 1), 1, constant_values=7), 1),
        np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]]),
        np.random.default_rng(0).integers(0, 3, (12, 15)),
    ],
)
def test_imagej_rois_fill_the_pixels_of_their_instances(tmp_path, labels):
    roifile = pytest.importorskip("roifile")
    write_outlines(tmp_path / "a.zip", labels, measured(labels))
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [int(roi.name) for roi in rois] == np.unique(labels[labels > 0]).tolist()
    for roi in rois:
        closed = [np.concatenate([ring, ring[:1]]) for ring in roi.coordinates(multi=True)]
        count = sum(turns(ring, labels.shape) for ring in closed)
        # Both of the rules by which programs fill a path.
        assert np.array_equal(count != 0, labels == int(roi.name))
        assert np.array_equal(count % 2 == 1, labels == int(roi.name))


def test_imagej_rois_beyond_the_numbers_of_16_bits(tmp_path):
    roifile = pytest.importorskip("roifile")
    labels = np.zeros((3, 70_000), int)
    labels[0, 65_999:66_003] = 1_000_000
    labels[:, 69_990:69_993] = 2
    labels[1, 69_991] = 0
    write_outlines(tmp_path / "a.zip", labels, measured(labels))
    two, last = roifile.roiread(tmp_path / "a.zip")
    assert two.coordinates(multi=True)[0][0].tolist() == [69_990, 0]
    assert (last.name, last.coordinates()[0].tolist()) == ("1000000", [65_999, 0])


def test_an_instance_is_one_entry_of_the_archive(tmp_path, recwarn):
    pytest.importorskip("roifile")
    labels = np.array([[1, 0], [0, 1]])
    write_outlines(tmp_path / "a.zip", labels, measured(labels))
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["00001.roi"]
    assert not recwarn


def test_without_roifile_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(optional._PACKAGES, "imagej", ("no_such_package",))
    expected = r"ImageJ ROIs need no_such_package; install what is missing with: python -m pip install '\.\[imagej\]'"
    for refused in (lambda path: require_format(path), lambda path: write_outlines(path, RING, measured(RING))):
        with pytest.raises(InstsegError, match=expected):
            refused(tmp_path / "a.zip")
    require_format(tmp_path / "a.geojson")
    assert not list(tmp_path.iterdir())
