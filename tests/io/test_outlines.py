"""Outlines in the formats of QuPath and ImageJ."""

import json

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
        class_names=("x", "y"),
    )
    write_outlines(tmp_path / "a.geojson", labels, measure_instances(labels, flat))
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [one["properties"]["classification"] for one in features] == [{"name": "x"}, {"name": "y"}]


def test_imagej_rois(tmp_path):
    roifile = pytest.importorskip("roifile")
    write_outlines(tmp_path / "a.zip", RING, measured(RING))
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == ["00002", "00005"]
    assert rois[1].coordinates().tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    write_outlines(tmp_path / "none.zip", RING * 0, measured(RING * 0))
    assert roifile.roiread(tmp_path / "none.zip") == []


def test_without_roifile_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(optional._PACKAGES, "imagej", ("no_such_package",))
    expected = r"ImageJ ROIs need no_such_package; install what is missing with: python -m pip install '\.\[imagej\]'"
    for refused in (lambda path: require_format(path), lambda path: write_outlines(path, RING, measured(RING))):
        with pytest.raises(InstsegError, match=expected):
            refused(tmp_path / "a.zip")
    require_format(tmp_path / "a.geojson")
    assert not list(tmp_path.iterdir())
