"""Data folders of OME-Zarr images and labels are those of the same pixels in files of other kinds."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from instseg.data.check import check_data
from instseg.data.datasets import folder_data
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.io.zarr_labels import write_zarr_labels
from instseg.settings import TrainSettings

SETTINGS = TrainSettings(batch_size=4, patch_size=32, seed=3)
LABELS = np.zeros((40, 36), np.int32)
LABELS[4:12, 4:13], LABELS[20:31, 15:27], LABELS[33:38, 2:9] = 1, 2, 5
IMAGES = [np.random.default_rng(seed).integers(0, 256, (40, 36)).astype(np.uint8) for seed in range(3)]
NAMES = ("plate-A-1-0", "plate-A-1-1", "single")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def group(path, **ome):
    return zarr.create_group(path, attributes={"ome": {"version": "0.5", **ome}})


def write_image(path, values, axes="yx"):
    inside = group(path, multiscales=[{"axes": [{"name": name} for name in axes], "datasets": [{"path": "0"}]}])
    inside.create_array("0", data=values)


@pytest.fixture
def folders():
    """The same data as pictures, and as a plate and a Zarr image; classes are in a table."""
    for kind in ("pictures", "zarr"):
        for folder in ("images", "labels"):
            Path(kind, folder).mkdir(parents=True)
    group("zarr/images/plate.zarr", plate={"wells": [{"path": "A/1"}]})
    group("zarr/images/plate.zarr/A/1", well={"images": [{"path": "0"}, {"path": "1"}]})
    places = ("plate.zarr/A/1/0", "plate.zarr/A/1/1", "single.zarr")
    for name, place, image in zip(NAMES, places, IMAGES, strict=True):
        write_picture(f"pictures/images/{name}.png", image)
        write_labels(f"pictures/labels/{name}.png", LABELS)
        write_image(f"zarr/images/{place}", image)
        write_zarr_labels(f"zarr/labels/{name}.zarr", LABELS.shape, iter([LABELS]))
    for kind, suffix in (("pictures", ".png"), ("zarr", ".zarr")):
        rows = [f"{name}{suffix},{label},{'ab'[label == 5]}" for name in NAMES for label in (1, 2, 5)]
        Path(kind, "classes.csv").write_text("\n".join(["image,label,class", *rows]))
    return "pictures", "zarr"


def test_the_report_is_the_same(folders):
    pictures, zarr_report = (dataclasses.replace(check_data(folder), folder="") for folder in folders)
    assert zarr_report == dataclasses.replace(
        pictures,
        problems=tuple(
            dataclasses.replace(problem, files=found.files)
            for problem, found in zip(pictures.problems, zarr_report.problems, strict=True)
        ),
    )
    assert (zarr_report.pairs, zarr_report.usable, zarr_report.usable_for_training) == (3, 3, True)
    assert zarr_report.classes == {"a": 6, "b": 3}


def test_training_gets_the_same_batches(folders):
    pictures, from_zarr = (folder_data(Path(folder), SETTINGS) for folder in folders)
    assert from_zarr.class_names == pictures.class_names == ("a", "b")
    for one, other in zip(pictures.patches.batch(0), from_zarr.patches.batch(0), strict=True):
        assert np.array_equal(one, other)
    assert from_zarr.description == pictures.description
    assert sorted(from_zarr.description["validation_images"])[0] in NAMES


def test_labels_in_a_group_of_many_have_classes(folders):
    # Labels of a plate as a plate, whose parts lie deeper than the files of labels.
    shutil.move("zarr/images/plate.zarr", "plate.zarr")
    group("zarr/images/x.zarr", **{"bioformats2raw.layout": 3})
    group("zarr/labels/x.zarr", **{"bioformats2raw.layout": 3})
    for number in range(2):
        write_image(f"zarr/images/x.zarr/{number}", IMAGES[number])
        write_image(f"zarr/labels/x.zarr/{number}", LABELS)
        shutil.rmtree(f"zarr/labels/{NAMES[number]}.zarr")
    table = Path("zarr/classes.csv").read_text().replace("plate-A-1-", "x-")
    Path("zarr/classes.csv").write_text(table)
    data = folder_data(Path("zarr"), SETTINGS, val=Path("pictures"))
    assert data.description["training_images"] == 3
    assert data.class_names == ("a", "b")


def test_what_cannot_be_used_is_named(folders):
    field = Path("zarr/images/plate.zarr/A/1/1")
    chunk = next(field.glob("0/c/*/*"))
    chunk.write_bytes(chunk.read_bytes()[:9])
    shutil.rmtree("zarr/images/single.zarr")
    write_image("zarr/images/single.zarr", np.stack(IMAGES), "zyx")
    errors = {problem.what: problem for problem in check_data("zarr").problems if problem.severity == "error"}
    stack, damage = sorted(errors)
    assert damage.startswith("it is damaged") and errors[damage].files == ("images/plate.zarr/A/1/1",)
    assert stack == "it is a stack of 3 planes along Z of 40 x 36 pixels, expected one image"
    assert errors[stack].advice.startswith("predict takes every plane as an image by `planes=True`")
    # What claims more pixels than are read at once to learn from is not read.
    metadata = json.loads(Path("zarr/labels/single.zarr/0/zarr.json").read_text())
    metadata["shape"] = [15_000, 15_000]
    Path("zarr/labels/single.zarr/0/zarr.json").write_text(json.dumps(metadata))
    shutil.rmtree("zarr/images/single.zarr")
    write_image("zarr/images/single.zarr", IMAGES[2])
    whats = [problem.what for problem in check_data("zarr").problems if problem.severity == "error"]
    assert "it has 225 megapixels, more than the 200 that are read at once for training" in whats
