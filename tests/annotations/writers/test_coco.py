"""COCO, as its own tools read it."""

import contextlib
import io
import json
import warnings

import numpy as np
import pytest

from instseg.annotations.writers.coco import CocoPart, coco_part, store_part, stored_part, write_coco
from instseg.errors import InstsegError


@pytest.fixture
def opened(tmp_path):
    """A function that has pycocotools read a file of some images."""
    coco = pytest.importorskip("pycocotools.coco")

    def opened(*images, **options):
        parts = [coco_part(image, **options)[0] for image in images]
        assert write_coco(tmp_path / "a.json", images[0].class_names, parts) == len(images)
        with contextlib.redirect_stdout(io.StringIO()):
            return coco.COCO(str(tmp_path / "a.json"))

    return opened


def mask_of(read, annotation):
    """The mask of an annotation; what pycocotools hands over of polygons is deprecated in NumPy."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return read.annToMask(annotation)


def test_masks_boxes_areas_scores_and_classes(opened, labelled, labels):
    read = opened(labelled)
    assert read.imgs == {1: {"id": 1, "file_name": "a.png", "height": 6, "width": 9}}
    assert [read.cats[number]["name"] for number in (1, 2)] == ["round", 'of "two" words: #1']
    assert list(read.anns) == [1, 2, 3, 4, 5, 6]
    for annotation, label, score in zip(read.anns.values(), [2, 3, 5, 7, 9, 11], labelled.scores(), strict=True):
        mask = mask_of(read, annotation)
        assert np.array_equal(mask, labels == label)
        rows, columns = np.nonzero(mask)
        size = [np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert (annotation["area"], annotation["bbox"]) == (mask.sum(), [columns.min(), rows.min(), *size])
        assert annotation.get("score") == score
        assert (annotation["image_id"], annotation["iscrowd"]) == (1, 0)
    assert [annotation["category_id"] for annotation in read.anns.values()] == [1, 2, 1, 2, 1, 2]


def test_polygons_have_no_holes_and_all_parts(opened, labelled, labels):
    read = opened(labelled, polygons=True)
    masks = {label: mask_of(read, read.anns[number]) for number, label in enumerate([2, 3, 5, 7, 9, 11], start=1)}
    assert [len(one["segmentation"]) for one in read.anns.values()] == [1, 1, 2, 1, 1, 1]
    for label in (3, 5, 7, 9):
        assert np.array_equal(masks[label], labels == label)
    filled = labels == 2
    filled[1:3, 1:3] = True
    assert np.array_equal(masks[2], filled)
    assert coco_part(labelled, polygons=True)[1] == {"with their holes filled": 2}
    # Areas and boxes are those of the pixels.
    assert read.anns[1]["area"] == (labels == 2).sum()


def test_scores_are_evaluated_by_cocos_tool(opened, labelled):
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    import dataclasses

    scored = dataclasses.replace(labelled, score=np.linspace(0.5, 1, 6))
    other = dataclasses.replace(scored, name="b.png")
    truth = opened(scored, other)
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes(list(truth.anns.values()))
        evaluated = evaluation.COCOeval(truth, found, "segm")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    assert evaluated.stats[0] == pytest.approx(1)


def test_without_classes_and_objects(tmp_path, labelled):
    import dataclasses

    none = np.zeros(0, np.int32)
    empty = dataclasses.replace(
        labelled, labels=np.zeros((2, 3), np.int32), label=none, score=None, class_number=None, class_names=()
    )
    write_coco(tmp_path / "a.json", (), [coco_part(empty)[0]])
    written = json.loads((tmp_path / "a.json").read_text())
    assert (written["annotations"], len(written["images"])) == ([], 1)
    assert written["categories"] == [{"id": 1, "name": "object"}]
    write_coco(tmp_path / "a.json", (), [])
    assert json.loads((tmp_path / "a.json").read_text())["images"] == []


def test_names_that_are_no_plain_text(tmp_path, labelled):
    import dataclasses

    odd = dataclasses.replace(labelled, name='a"\n\udcff\\.png')
    write_coco(tmp_path / "a.json", ("x\ny\x1b", ""), [coco_part(odd)[0]])
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["images"][0]["file_name"] == odd.name
    assert [one["name"] for one in written["categories"]] == [r"x\ny\x1b", "-"]


def test_parts_are_stored_and_read_again(tmp_path, labelled):
    part, _ = coco_part(labelled)
    store_part(tmp_path / "a.jsonl", part)
    with stored_part(tmp_path / "a.jsonl") as read:
        assert CocoPart(read.image, list(read.annotations)) == part
    text = (tmp_path / "a.jsonl").read_bytes()
    for damaged in (b"", text[:-3], b"\xff" + text, b"[]\n"):
        (tmp_path / "a.jsonl").write_bytes(damaged)
        with pytest.raises(InstsegError, match="is damaged; remove it"), stored_part(tmp_path / "a.jsonl") as read:
            list(read.annotations)


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    def broken():
        yield CocoPart('{"file_name": "a.png"}', [])
        raise InstsegError("no more")

    path = tmp_path / "a.json"
    path.write_text("before")
    with pytest.raises(InstsegError, match="no more"):
        write_coco(path, (), broken())
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["a.json"]
