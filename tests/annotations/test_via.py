"""VIA's JSON and CSV, of its first two versions."""

import json

import numpy as np
import pytest

from instseg.errors import InstsegError

SQUARE = {"name": "polygon", "all_points_x": [1, 4, 4, 1], "all_points_y": [1, 1, 3, 3]}


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("numbered", [True, False])
def test_json(image, write, labels_of, box, classes, project, numbered):
    image("a.png", "b.png")
    regions = [
        region(SQUARE, note="x", type={"round": True, "long": False}),
        region({"name": "circle", "cx": 7, "cy": 6, "r": 1.2}, type={"long": True}),
        region({"name": "ellipse", "cx": 2, "cy": 6, "rx": 2.2, "ry": 0.8, "theta": np.pi / 2}, type={"long": True}),
        region({"name": "rect", "x": 8, "y": 0, "width": 1, "height": 1}),
        region({"name": "point", "cx": 8, "cy": 0}),
        region({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1]}),
    ]
    listed = {str(number): each for number, each in enumerate(regions)} if numbered else regions
    value = {"a.png123": {"filename": "a.png", "size": 123, "regions": listed, "file_attributes": {}}}
    value["c.png9"] = {"filename": "c.png", "size": 9, "regions": [], "file_attributes": {}}
    write("via.json", {"_via_settings": {}, "_via_img_metadata": value} if project else value)
    report, labels = labels_of()
    assert report.format == "via"
    np.testing.assert_array_equal(labels["a"], box((1, 3, 1, 4), (5, 7, 6, 8), (4, 8, 1, 3)))
    assert classes() == ["a.png,1,round", "a.png,2,long", "a.png,3,long"]
    assert report.images[0].dropped.keys() == {
        "boxes without an outline",
        "points, lines or other shapes without an area",
        "coordinates that are no numbers",
    }
    assert "the class of an object is its attribute type" in report.notes
    assert labels_of(boxes=True)[1]["a"][0, 8] == 4


def test_csv(image, write, labels_of, box):
    image("a.png", "b.png")
    heading = "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    cell = json.dumps(SQUARE).replace('"', '""')
    write("via.csv", f'{heading}\na.png,1,"{{}}",1,0,"{cell}","{{}}"\nb.png,1,"{{}}",0,0,"{{}}","{{}}"\n')
    report, labels = labels_of()
    assert (report.format, list(labels)) == ("via", ["a"])
    np.testing.assert_array_equal(labels["a"], box((1, 3, 1, 4)))
    assert [row.status for row in report.images] == ["imported", "without objects"]
    assert list(labels_of(keep_empty=True)[1]) == ["a", "b"]
    write("via.csv", f'{heading}\na.png,1,"{{}}",1,0,"{{","{{}}"\n')
    with pytest.raises(InstsegError, match="cannot read line 2 of in/via.csv"):
        labels_of()
