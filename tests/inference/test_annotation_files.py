"""Files of annotations of many images: what is taken into them, and by whom they are written."""

import json
import os
import threading

import pytest

from instseg.annotations.writers.coco import CocoPart, store_part
from instseg.errors import InstsegError
from instseg.inference.annotation_files import AnnotationPlan, folder_annotations
from instseg.io.atomic import hidden_sibling
from instseg.io.locks import acquire, release


@pytest.fixture
def plan(tmp_path):
    """A plan for three images, of which two have given something."""
    folder = tmp_path / "out"
    files = folder_annotations(tmp_path / "all.json", None, ("x",), folder, shared=False)
    files.prepare()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_text("labels")
        store_part(files.of_image(name)[0], CocoPart(f'{{"file_name": "{name}.png"}}', ['{"area": 1}']))
    images = tuple(tmp_path / f"{name}.png" for name in "abc")
    return AnnotationPlan(files, images, False, lambda name: folder / f"{name}.png")


def names(plan):
    return [image["file_name"] for image in json.loads(plan.files.coco.read_text())["images"]]


def test_what_is_older_than_its_labels_is_not_taken(plan, tmp_path):
    assert plan.write([]) == [f"wrote 2 images to {tmp_path / 'all.json'}"]
    assert names(plan) == ["a.png", "b.png"]
    labels, part = tmp_path / "out/a.png", plan.files.of_image("a")[0]
    os.utime(labels, ns=(0, part.stat().st_mtime_ns + 1))
    assert (plan.files.hold("a", labels), plan.files.hold("c", tmp_path / "out/c.png")) == (False, False)
    assert plan.write([]) == [f"wrote 1 image to {tmp_path / 'all.json'}"]
    # Those of more objects than a PNG holds.
    (tmp_path / "out/b.png").rename(tmp_path / "out/b.tif")
    plan.write([])
    assert names(plan) == ["b.png"]
    plan.files.remove("b")
    plan.write([])
    assert names(plan) == []


def test_runs_side_by_side_write_one_after_the_other(plan):
    lock = hidden_sibling(plan.files.coco, ".lock")
    held = acquire(lock)
    thread = threading.Thread(target=plan.write, args=([],))
    thread.start()
    assert not plan.files.coco.exists()
    # What comes before the lock is free is in the file.
    plan.files.remove("a")
    release(lock, held)
    thread.join(60)
    assert names(plan) == ["b.png"]
    assert not lock.exists()


def test_damaged_parts_are_told(plan):
    path = plan.files.of_image("a")[0]
    path.write_text("{")
    with pytest.raises(InstsegError, match="a.jsonl: it is damaged; remove it, and go on with `skip_existing=True`"):
        plan.write([])
    assert not plan.files.coco.exists()
