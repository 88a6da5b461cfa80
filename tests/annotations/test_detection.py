"""What a source is taken for."""

import json
from pathlib import Path

import pytest

from instseg.annotations import source as sources
from instseg.annotations.detection import FORMATS, detect_format, format_named
from instseg.annotations.source import Source
from instseg.errors import InstsegError, UsageError

COCO = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}


def test_json_of_no_kind_says_what_was_tried(write):
    write("x.json", {"images": [], "shapes": 5})
    with pytest.raises(InstsegError) as raised:
        detect_format(Source(Path("in")))
    message = str(raised.value)
    assert message.startswith("in: x.json is none of the kinds of JSON that are known (COCO: no list 'annotations'; ")
    assert "LabelMe: no list 'shapes'" in message
    assert "VIA: neither '_via_img_metadata' nor 'filename' and 'regions' in each entry" in message
    assert "QuPath GeoJSON: neither a list 'features'" in message
    assert "nnU-Net: no 'labels' with 'channel_names' or 'modality'" in message


@pytest.mark.parametrize("value", ["[]", "{}", "5", "null", '"text"', "[1, 2]", "[{}]", '{"a": {"b": 1}}', "[[]]"])
def test_any_json_is_recognised_or_refused(write, value):
    write("x.json", value)
    with pytest.raises(InstsegError, match="x.json is none of the kinds"):
        detect_format(Source(Path("in")))


def test_nothing_of_a_known_kind(image, write):
    with pytest.raises(
        InstsegError, match="in holds no annotations of a known kind: it is empty; expected one of coco, "
    ):
        detect_format(Source(Path("in")))
    image("a.png")
    write("notes.docx", "x")
    with pytest.raises(InstsegError, match=r"it holds files of the kinds \.docx, \.png; expected"):
        detect_format(Source(Path("in")))
    with pytest.raises(InstsegError, match="no file or folder nowhere"):
        Source(Path("nowhere"))


def test_what_looks_like_several_formats(image, write, labels_of):
    image("a.png", "a_mask.png", "images/b.png", "labels/b.png")
    write("coco.json", COCO)
    chosen, evidence, others = detect_format(Source(Path("in")))
    assert (chosen.name, evidence, others) == (
        "coco",
        "coco.json holds images and annotations",
        ["images and label images"],
    )
    assert labels_of(format="pairs")[0].format == "pairs"


def test_formats_have_names():
    assert len(set(FORMATS)) == len(FORMATS) == 13
    assert [format_named(name).name for name in FORMATS] == list(FORMATS)
    with pytest.raises(UsageError, match="format is cocoa, expected one of coco, labelme"):
        format_named("cocoa")


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_that_the_source_is_not_in(image, labels_of, name):
    image("a.png")
    with pytest.raises(InstsegError) as raised:
        labels_of(format=name)
    assert "\n" not in str(raised.value)


def test_files_that_are_too_large(write, monkeypatch):
    write("x.json", json.dumps(COCO))
    monkeypatch.setattr(sources, "MAX_TEXT", 10)
    with pytest.raises(InstsegError, match="in/x.json: it has 0 MiB, expected at most 0; divide it into several files"):
        detect_format(Source(Path("in")))


def test_damaged_json(write):
    write("x.json", '{"images": [')
    with pytest.raises(InstsegError, match="cannot read in/x.json: Expecting value"):
        detect_format(Source(Path("in")))
    write("x.json", "[" * 100_000)
    with pytest.raises(InstsegError, match="nested too deeply"):
        detect_format(Source(Path("in")))


def test_links_to_folders_are_followed_but_not_in_circles_and_hidden_files_are_left_out(image):
    image("a.png", ".hidden/b.png", ".c.png")
    outside = Path("outside")
    outside.mkdir()
    (outside / "d.png").touch()
    Path("in/linked").symlink_to("../outside")
    Path("in/circle").symlink_to(".")
    assert [path.as_posix() for path in Source(Path("in")).image_files] == ["in/a.png", "in/linked/d.png"]


def test_a_file_is_not_taken_for_the_folder_that_it_lies_in(image, write):
    image("a.png", "a_cp_masks.png", "one/images/one.png", "one/masks/x.png", "images/b.png", "masks/b.png")
    write("notes.md", "x")
    with pytest.raises(InstsegError, match=r"in/notes\.md holds no annotations of a known kind"):
        detect_format(Source(Path("in/notes.md")))
