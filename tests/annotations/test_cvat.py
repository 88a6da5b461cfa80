"""CVAT for images, in the XML of its version 1.1."""

import numpy as np
import pytest

from instseg.errors import InstsegError

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>t</name><labels><label><name>cell</name><color>#c06060</color></label>
  <label><name>dead</name></label></labels></task></meta>
"""
IMAGE = '<image id="0" name="a.png" width="10" height="8">{}</image>\n'


def document(*shapes, head=HEAD):
    return head + IMAGE.format("".join(shapes)) + "</annotations>\n"


POLYGON = '<polygon label="cell" points="1.00,1.00;4.00,1.00;4.00,3.00;1.00,3.00" z_order="1"></polygon>'


def test_shapes(image, write, labels_of, box, classes):
    image("images/a.png")
    shapes = [
        POLYGON,
        '<mask label="dead" rle="0, 3, 1, 2" left="5" top="0" width="3" height="2" z_order="0"/>',
        '<ellipse label="cell" cx="7" cy="6" rx="0.8" ry="2.2" rotation="90" z_order="2"/>',
        '<box label="cell" xtl="0" ytl="5" xbr="2" ybr="7" z_order="3"/>',
        '<points label="cell" points="1,1"/>',
        '<polygon label="cell" points="1,x;2,2;3,3"/>',
        '<mask label="cell" rle="1,2" left="5" top="0" width="3" height="2"/>',
        '<ellipse label="cell" cx="7"/>',
    ]
    write("annotations.xml", document(*shapes))
    report, labels = labels_of()
    assert (report.format, report.classes) == ("cvat", {"cell": 2, "dead": 1})
    # Lower layers come first.
    expected = box((0, 2, 5, 8), (1, 3, 1, 4), (5, 7, 5, 9))
    expected[1, 5] = 0
    np.testing.assert_array_equal(labels["a"], expected)
    assert classes() == ["a.png,1,dead", "a.png,2,cell", "a.png,3,cell"]
    assert report.images[0].dropped == {
        "boxes without an outline": 1,
        "points, lines or other shapes without an area": 1,
        "coordinates that are no numbers": 2,
        "runs of another size than the image": 1,
    }
    np.testing.assert_array_equal(labels_of(boxes=True)[1]["a"][5:7, :2], 4)


@pytest.mark.parametrize(
    "entity", ['<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">', '<!ENTITY b SYSTEM "file:///etc/passwd">']
)
def test_entities_are_refused(image, write, labels_of, entity):
    image("a.png")
    head = HEAD.replace("<annotations>", f"<!DOCTYPE annotations [{entity}]>\n<annotations>").replace(">cell<", ">&b;<")
    write("annotations.xml", document(POLYGON, head=head))
    with pytest.raises(InstsegError, match="it declares the entity [ab]; export it again"):
        labels_of()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (document(POLYGON)[:-20], "unclosed token: line 6"),
        ("<annotations><track id='0'></track></annotations>", "CVAT for video .1 tracks., expected CVAT for images"),
    ],
)
def test_files_that_are_cut_off_or_of_videos(image, write, labels_of, text, message):
    image("a.png")
    write("annotations.xml", text)
    with pytest.raises(InstsegError, match=message):
        labels_of()


def test_images_in_the_wrong_place_are_none(image, write, labels_of):
    image("a.png")
    write("annotations.xml", f"<annotations><meta>{IMAGE.format(POLYGON)}</meta></annotations>")
    with pytest.raises(InstsegError, match="no image of in can be imported"):
        labels_of()
