"""Outlines: by hand, and painted back."""

import json
import sys

import numpy as np
import pytest

from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import measure_instances
from instseg.errors import InstsegError
from instseg.io.outlines import require_format, write_outlines
from instseg.labels.polygons import polygons

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


def inside(ring, shape):
    """Which pixel centres lie in a ring, by the even-odd rule."""
    rows, columns = np.indices(shape) + 0.5
    crossed = np.zeros(shape, int)
    for (x, y), (_, other) in zip(ring, np.roll(ring, -1, 0), strict=True):
        crossed += (min(y, other) < rows) & (rows < max(y, other)) & (x > columns)
    return crossed % 2 == 1


def painted(found, shape):
    labels = np.zeros(shape, int)
    for polygon in found:
        mask = inside(polygon.outer, shape)
        for hole in polygon.holes:
            mask &= ~inside(hole, shape)
        assert not labels[mask].any()
        labels[mask] = polygon.label
    return labels


def test_a_ring_has_a_hole():
    ring, single = sorted(polygons(RING), key=lambda polygon: -polygon.label)
    assert (ring.label, single.label) == (5, 2)
    assert ring.outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert [sorted(hole.tolist()) for hole in ring.holes] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]
    assert single.outer.tolist() == [[3, 2], [4, 2], [4, 3], [3, 3]]


def test_pieces_that_touch_at_a_corner_are_polygons_of_their_own():
    found = polygons(np.array([[3, 0], [0, 3]]))
    assert [polygon.label for polygon in found] == [3, 3]
    assert sorted(polygon.outer.tolist() for polygon in found) == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]


def test_a_hole_that_touches_the_outside_at_a_corner():
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    assert np.array_equal(painted(polygons(labels), labels.shape), labels)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_traced_is_what_is_painted(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (11, 9)) * rng.choice([1, 1000])
    if seed % 2:
        labels = labels.repeat(2, 0).repeat(3, 1)
    assert np.array_equal(painted(polygons(labels), labels.shape), labels)


def test_nothing_has_no_outline():
    assert polygons(np.zeros((3, 4), int)) == []
    assert len(polygons(np.ones((3, 4), int))) == 1


def test_geojson(tmp_path):
    labels = np.array([[3, 0, 0], [0, 3, 8], [0, 0, 8]])
    write_outlines(tmp_path / "a.geojson", labels, measured(labels))
    found = json.loads((tmp_path / "a.geojson").read_text())
    assert found["type"] == "FeatureCollection"
    three, eight = found["features"]
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
    found = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in found] == ["00002", "00005"]
    assert found[1].coordinates().tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    write_outlines(tmp_path / "none.zip", RING * 0, measured(RING * 0))
    assert roifile.roiread(tmp_path / "none.zip") == []


def test_without_roifile_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(InstsegError, match=r'install it by: python -m pip install "instseg\[imagej\]"'):
        require_format(tmp_path / "a.zip")
    require_format(tmp_path / "a.geojson")
