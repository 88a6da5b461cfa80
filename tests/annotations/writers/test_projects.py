"""Projects of CVAT and VIA."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from instseg.annotations.writers.projects import CvatWriter, ViaWriter


def test_cvat_has_a_mask_for_each_object(tmp_path, labelled, labels):
    with CvatWriter(tmp_path, labelled.class_names) as writer:
        assert writer.write(labelled) == {}
        writer.finish()
    root = ET.parse(tmp_path / "annotations.xml").getroot()
    assert [name.text for name in root.iter("name")] == ["round", 'of "two" words: #1']
    (image,) = root.iter("image")
    assert image.attrib == {"id": "0", "name": "a.png", "width": "9", "height": "6"}
    for mask, label in zip(image, [2, 3, 5, 7, 9, 11], strict=True):
        left, top, width, height = (int(mask.get(name)) for name in ("left", "top", "width", "height"))
        # CVAT's runs begin with background and go along the rows of the box.
        counts = [int(count) for count in mask.get("rle").split(",")]
        pixels = np.repeat(np.arange(len(counts)) % 2, counts).reshape(height, width)
        assert np.array_equal(pixels, labels[top : top + height, left : left + width] == label)
        assert pixels.sum() == (labels == label).sum()


def test_via_has_a_polygon_for_each_object(tmp_path, labelled):
    import dataclasses

    shapely = pytest.importorskip("shapely")
    with ViaWriter(tmp_path, labelled.class_names) as writer:
        assert writer.write(labelled) == {"with their holes filled": 2, "without all parts but the largest": 1}
        writer.write(dataclasses.replace(labelled, name="b.png"))
        writer.finish()
    project = json.loads((tmp_path / "via.json").read_text())
    assert project["_via_image_id_list"] == list(project["_via_img_metadata"]) == ["a.png-1", "b.png-1"]
    regions = project["_via_img_metadata"]["a.png-1"]["regions"]
    assert [region["region_attributes"]["class"] for region in regions[:2]] == ["round", 'of "two" words: #1']
    shapes = [region["shape_attributes"] for region in regions]
    rings = [shapely.Polygon(zip(one["all_points_x"], one["all_points_y"], strict=True)) for one in shapes]
    assert [ring.is_valid for ring in rings] == [True] * 6
    assert list(project["_via_attributes"]["region"]["class"]["options"]) == list(labelled.class_names)


@pytest.mark.parametrize(("make", "file"), [(CvatWriter, "annotations.xml"), (ViaWriter, "via.json")])
def test_names_that_are_markup(tmp_path, labelled, make, file):
    import dataclasses

    odd = dataclasses.replace(labelled, name='<a> & "b"\x1b\n\'.png', class_names=("</name>&", "=1+1"))
    with make(tmp_path, odd.class_names) as writer:
        writer.write(odd)
        writer.finish()
    if file.endswith(".xml"):
        root = ET.parse(tmp_path / file).getroot()
        assert [name.text for name in root.iter("name")] == ["</name>&", "=1+1"]
        assert next(root.iter("image")).get("name") == '<a> & "b"\\x1b\\n\'.png'
    else:
        assert odd.name in json.loads((tmp_path / file).read_text())["_via_img_metadata"][f"{odd.name}-1"]["filename"]
