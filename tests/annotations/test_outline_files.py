"""Outlines of QuPath and ImageJ."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import measure_instances
from instseg.errors import InstsegError
from instseg.io.outlines import write_outlines

RING = np.array(
    [
        [5, 5, 5, 0, 0, 0, 0, 0, 0, 0],
        [5, 0, 5, 0, 0, 0, 0, 0, 0, 0],
        [5, 5, 5, 2, 2, 0, 0, 0, 0, 0],
        [0, 0, 0, 2, 0, 0, 0, 5, 5, 0],
        *[[0] * 10] * 4,
    ],
    np.int32,
)
NUMBERED = np.select([RING == 2, RING == 5], [1, 2], 0)


def square(left, top, side=2):
    right, bottom = left + side, top + side
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def feature(geometry, classification=None):
    properties = {"objectType": "annotation"} | ({"classification": classification} if classification else {})
    return {"type": "Feature", "id": "x", "geometry": geometry, "properties": properties}


@pytest.mark.parametrize("suffix", [".geojson", ".zip"])
@pytest.mark.parametrize("image_name", ["a.tif.png", "a.tif", "b.png"])
def test_what_predict_writes_comes_back(image, labels_of, suffix, image_name, tmp_path):
    if suffix == ".zip":
        pytest.importorskip("roifile")
    image("tmp.png")
    Path("in/tmp.png").rename(Path("in") / image_name)
    embeddings = np.zeros((*RING.shape, 1), np.float32)
    measured = measure_instances(RING, Embeddings(embeddings=embeddings, foreground=np.ones(RING.shape, np.float32)))
    write_outlines(Path("in") / f"{Path(image_name).stem}{suffix}", RING, measured)
    report, labels = labels_of()
    assert report.format == ("qupath" if suffix == ".geojson" else "imagej")
    np.testing.assert_array_equal(labels[Path(image_name).stem], NUMBERED)


@pytest.mark.parametrize("name", ["a.geojson", "a.ome.tif.geojson", "a.ome.geojson", "a.json"])
def test_geojson(image, write, labels_of, box, classes, name):
    image("a.png", "b.png")
    features = [
        feature({"type": "Polygon", "coordinates": [square(1, 1)]}, {"name": "Tumor", "color": [1, 2, 3]}),
        feature({"type": "MultiPolygon", "coordinates": [[square(5, 1)], [square(5, 5)]]}, {"names": ["A", "b"]}),
        feature({"type": "LineString", "coordinates": [[1, 1], [2, 2]]}),
        feature({"type": "Point", "coordinates": [1, 1]}),
        feature({"type": "Polygon", "coordinates": [[[1, 1], [2, 2]]]}),
        feature(None),
        feature({"type": "Polygon", "coordinates": 5}),
        "nothing",
        feature({"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [square(8, 0)]}]}),
    ]
    write(name, {"type": "FeatureCollection", "features": features})
    report, labels = labels_of()
    expected = box((1, 3, 1, 3), (1, 3, 5, 7), (0, 2, 8, 10))
    expected[5:7, 5:7] = 2
    np.testing.assert_array_equal(labels["a"], expected)
    assert classes() == ["a.png,1,Tumor", "a.png,2,A: b", "a.png,3,unclassified"]
    assert "instances without a class are of the class unclassified: 1" in report.notes
    assert report.images[0].dropped.total() == 6
    assert [row.source for row in report.images if row.status == "without annotations"] == ["b.png"]


def test_geojson_of_no_image_or_damaged(image, write, labels_of):
    image("a.png", "b.png")
    square_feature = feature({"type": "Polygon", "coordinates": [square(1, 1)]})
    write("a.geojson", [square_feature])
    write("b.geojson", {"type": "FeatureCollection"})
    write("c.geojson", [square_feature])
    report, _ = labels_of()
    assert [(row.source, row.status) for row in report.images] == [
        ("a.png", "imported"),
        ("b.png", "failed"),
        ("c.geojson", "not found"),
    ]
    assert "it is no GeoJSON, as it has neither a list 'features' nor" in report.images[1].reason
    write("a.tif.geojson", [square_feature])
    with pytest.raises(InstsegError, match=r"a\.geojson and a\.tif\.geojson are both of in/a\.png; keep one"):
        labels_of()


@pytest.mark.parametrize("name", ["a_RoiSet.zip", "RoiSet_a.zip", "a-rois.zip", "a/1.roi", "a.roi"])
def test_selections_of_imagej(image, labels_of, box, name):
    roifile = pytest.importorskip("roifile")
    image("a.png", "b.png")
    path = Path("in") / name
    path.parent.mkdir(exist_ok=True)
    roi = roifile.ImagejRoi.frompoints(np.array([[1, 1], [4, 1], [4, 3], [1, 3]]))
    roi.tofile(path)
    report, labels = labels_of()
    assert report.format == "imagej"
    np.testing.assert_array_equal(labels["a"], box((1, 3, 1, 4)))


def test_kinds_of_selections(image, labels_of, box, classes):
    roifile = pytest.importorskip("roifile")
    image("a.png")
    box_roi = {"top": 0, "left": 5, "bottom": 2, "right": 8}
    rois = [
        roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name="r", group=3, **box_roi),
        roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, name="o", top=5, left=1, bottom=7, right=3),
        roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, name="l"),
        roifile.ImagejRoi.frompoints(np.array([[1.4, 1.4], [3.6, 1.4], [3.6, 2.6], [1.4, 2.6]])),
    ]
    roifile.roiwrite("in/a.zip", rois)
    report, labels = labels_of()
    np.testing.assert_array_equal(labels["a"], box((0, 2, 5, 8), (5, 7, 1, 3), (1, 3, 1, 4)))
    assert classes() == ["a.png,1,group 3", "a.png,2,unclassified", "a.png,3,unclassified"]
    assert report.images[0].dropped == {"points, lines or other shapes without an area": 1}
    rois[0].position = 2
    roifile.roiwrite("in/a.zip", rois, mode="w")
    with pytest.raises(InstsegError, match="its selections are of 2 planes of a stack"):
        labels_of()


def test_archives_that_are_damaged_or_of_something_else(image, labels_of):
    pytest.importorskip("roifile")
    image("a.png")
    with zipfile.ZipFile("in/a.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(InstsegError, match="holds no annotations of a known kind"):
        labels_of()
    with zipfile.ZipFile("in/a.zip", "w") as archive:
        archive.writestr("1.roi", b"Iout" + b"\0" * 9)
    with pytest.raises(InstsegError, match="it is damaged or cut off"):
        labels_of()
