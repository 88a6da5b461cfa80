"""Files of outlines: LabelMe, QuPath and ImageJ."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from instseg.annotations.writers.outlines import ImageJWriter, LabelMeWriter, QuPathWriter


def test_labelme_has_polygons_groups_and_masks(tmp_path, labelled, labels):
    with LabelMeWriter(tmp_path, labelled.class_names) as writer:
        assert writer.write(labelled) == {}
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("a.png", 6, 9)
    shapes = content["shapes"]
    kinds = [(one["label"], one["shape_type"], one["group_id"]) for one in shapes]
    word = 'of "two" words: #1'
    assert kinds == [
        ("round", "mask", None),
        (word, "polygon", None),
        ("round", "polygon", 5),
        ("round", "polygon", 5),
        (word, "polygon", None),
        ("round", "polygon", None),
        (word, "mask", None),
    ]
    assert shapes[1]["points"] == [[2, 2], [3, 2], [3, 3], [2, 3]]
    # As LabelMe opens a mask: it fills the box from the first to the last pixel.
    (x0, y0), (x1, y1) = shapes[-1]["points"]
    mask = np.array(Image.open(io.BytesIO(base64.b64decode(shapes[-1]["mask"])))).astype(bool)
    assert mask.shape == (y1 - y0 + 1, x1 - x0 + 1)
    assert np.array_equal(mask, labels[y0 : y1 + 1, x0 : x1 + 1] == 11)
    assert [one.get("score") for one in shapes] == [0.25, 0.5, 0.75, 0.75, 0.875, None, 1.0]


def test_geojson_is_valid(tmp_path, labelled, labels):
    shapely = pytest.importorskip("shapely")
    with QuPathWriter(tmp_path, labelled.class_names) as writer:
        assert writer.write(labelled) == {}
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [int(feature["properties"]["name"]) for feature in features] == [2, 3, 5, 7, 9, 11]
    for feature in features:
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        pixels = labels == int(feature["properties"]["name"])
        rows, columns = np.indices(labels.shape) + 0.5
        assert np.array_equal(shapely.contains_xy(shape, columns, rows), pixels)
        assert feature["properties"]["measurements"]["area"] == pixels.sum() == shape.area
    known = [feature["properties"] for feature in features]
    assert known[0]["measurements"]["score"] == 0.25 and "score" not in known[4]["measurements"]
    assert known[0]["classification"] == {"name": "round"}


def test_selections_have_groups_and_properties(tmp_path, labelled):
    roifile = pytest.importorskip("roifile")
    with ImageJWriter(tmp_path, labelled.class_names) as writer:
        assert writer.write(labelled) == {}
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [(int(roi.name), roi.group) for roi in rois] == [(2, 1), (3, 2), (5, 1), (7, 2), (9, 1), (11, 2)]
    assert rois[0].props.splitlines() == ["class: round", "score: 0.25"]
    assert rois[4].props.splitlines() == ["class: round"]
    assert min(roi.version for roi in rois) >= 228


def test_classes_beyond_the_groups_of_imagej_are_counted(tmp_path, labelled):
    import dataclasses

    roifile = pytest.importorskip("roifile")
    names = tuple(f"c{number}" for number in range(300))
    many = dataclasses.replace(labelled, class_number=np.array([0, 254, 255, 299, 1, 2]), class_names=names)
    with ImageJWriter(tmp_path, names) as writer:
        assert writer.write(many) == {"without a group, as there are 255": 2}
    assert [roi.group for roi in roifile.roiread(tmp_path / "a.zip")] == [1, 255, 0, 0, 2, 3]
