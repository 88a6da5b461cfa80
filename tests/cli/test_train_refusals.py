"""`instseg train`: what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from instseg.io.label_images import write_labels
from instseg.models.directory import training_lock


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: shutil.rmtree(data), "cannot use data as data: there is no such folder; give a folder that"),
        (
            lambda data: shutil.rmtree(data / "labels"),
            "the folder data/labels is missing; put the labels into data/labels",
        ),
        (lambda data: [path.unlink() for path in (data / "images").iterdir()], "the folder data/images holds no image"),
        (lambda data: (data / "labels/1.png").unlink(), "cannot use data: 1 images without labels (1.png): add"),
        (lambda data: (data / "images/1.png").unlink(), "cannot use data: 1 labels without an image (1.png): add"),
        (
            lambda data: write_labels(data / "labels/1.png", np.eye(30, dtype=np.int32)),
            "data/images/1.png is 48 x 48 pixels and data/labels/1.png is 30 x 30, expected equal sizes; export the",
        ),
        (
            lambda data: [write_labels(path, np.zeros((48, 48), int)) for path in (data / "labels").iterdir()],
            "no label in data holds an instance, expected some pixels above 0; check the label images",
        ),
        (
            lambda data: Image.fromarray(np.eye(48, dtype=np.uint8)).convert("P").save(data / "labels/1.png"),
            "it is a palette image, expected gray labels",
        ),
        (
            lambda data: tifffile.imwrite(data / "labels/1.png", np.eye(48, dtype=np.float32)),
            "its values are float32, expected integer labels; save them as 32-bit integers",
        ),
        (
            lambda data: Image.fromarray(np.eye(48, dtype=np.uint8) * 255).save(data / "labels/1.png"),
            "it looks like a binary mask (255 is its only value besides 0, in 1 pieces), expected a number for each "
            "instance; number the instances, or give --connected-components",
        ),
    ],
    ids=[
        "no-folder",
        "no-labels-folder",
        "no-images",
        "image-alone",
        "label-alone",
        "sizes",
        "no-instance",
        "label-palette",
        "label-float",
        "label-binary",
    ],
)
def test_train_refuses_data_that_it_cannot_use(run, refused, make_data, spoil, message):
    data = make_data()
    spoil(data)
    assert message in refused(run("train", "model", "--data", data))
    assert not Path("model").exists()


@pytest.mark.parametrize(
    ("file", "kind", "message"),
    [
        ("images/1.png", "rgb16", "the images differ in channels: "),
        ("images/1.png", "huge", "it claims 25000 x 40000 pixels, more than"),
        ("images/1.png", "alpha", "it has transparent pixels"),
        ("images/1.png", "cut", "it is damaged or cut off"),
        ("labels/1.png", "cut", "it is damaged or cut off"),
        ("labels/1.png", "renamed", "its content is none that is known"),
        ("labels/1.png", "rgb16", "it has 3 channels (RGB), expected gray labels"),
    ],
)
def test_train_refuses_images_that_it_cannot_use(run, refused, make_data, write_bad_image, file, kind, message):
    data = make_data()
    write_bad_image(kind, data / file)
    assert message in refused(run("train", "model", "--data", data))
    assert not Path("model").exists()


def test_train_counts_files_without_partners_and_shows_a_few(run, refused, make_data):
    data = make_data(count=6)
    for index in range(5):
        (data / f"labels/{index}.png").unlink()
    error = refused(run("train", "model", "--data", data))
    assert error == (
        "cannot use data: 5 images without labels (0.png, 1.png, 2.png, ...): add their labels or remove them"
    )


def test_train_refuses_contradictions(run, refused, files):
    error = refused(run("train", "model", "--push-margin", 1, "--loss", "overlap"), code=2)
    assert error == "--push-margin belong to --loss metric; add it, or leave them out"
    error = refused(run("train", "model", "--push-margin", 1, "--ignore-label", 0), code=2)
    assert error == "--push-margin, --ignore-label belong to --loss metric; add it, or leave them out"
    error = refused(run("train", "model", "--iterations", 5, "--minutes", 5), code=2)
    assert error == "--iterations and --minutes both say when to end; give one of them"
    error = refused(run("train", "model", "--val", "val"), code=2)
    assert error == "--val is given without --data; give both, or neither to train on generated discs"
    assert files() == []


def test_train_refuses_places_where_no_model_can_be(run, refused, make_data):
    data = make_data(count=1)
    quick = ("--data", data, "--iterations", 1)
    Path("file").touch()
    error = refused(run("train", "file", *quick))
    assert error == "file is a file, expected a model directory; give the directory that train wrote"
    error = refused(run("train", "file/model", *quick))
    assert error == "cannot create the folder file/model/generations: file is a file; choose another"
    error = refused(run("train", data, *quick))
    assert error == "cannot train into data: it holds other files (images, labels); give a new directory"


def test_train_goes_on_or_begins_anew_only_when_asked(run, refused, model):
    before = sorted(path.name for path in (model / "generations").iterdir())
    error = refused(run("train", model), code=2)
    assert error == "model already holds a model; add --resume to go on with it, or --fresh to replace it"
    assert sorted(path.name for path in (model / "generations").iterdir()) == before


def test_resume_wants_a_model(run, refused, copied_model):
    Path("folder").mkdir()
    assert refused(run("train", "none", "--resume")) == "there is no model none; train one with: instseg train none"
    assert "folder holds no instseg model" in refused(run("train", "folder", "--resume"))
    (copied_model / "instseg.json").write_text("{")
    assert "the model model is damaged (" in refused(run("train", copied_model, "--resume"))
    assert not Path("none").exists()


def test_resume_refuses_a_model_that_does_not_say_what_it_learned_from(run, refused, copied_model):
    """As models that were trained from Python may be."""
    stored = json.loads((copied_model / "instseg.json").read_text())
    stored["data"] = {}
    (copied_model / "instseg.json").write_text(json.dumps(stored))
    error = refused(run("train", copied_model, "--resume", "--iterations", 1000), code=2)
    assert "give --data DIR" in error


def test_train_wants_data_for_what_is_said_of_it(run, refused, files):
    error = refused(run("train", "model", "--connected-components"), code=2)
    assert error == "--connected-components is given without --data; generated discs have labels"
    assert files() == []


@pytest.mark.parametrize(("network", "given"), [("large", "64,128,192,256"), ("4,8", "4,8")])
def test_a_network_of_other_levels_or_fewer_channels_is_no_beginning(run, refused, model, network, given):
    error = refused(run("train", "own", "--from", model, "--network", network), code=2)
    assert error == (
        f"--network has levels of {given} channels, expected at least those of model, 8,8; leave it out, or begin with "
        "a model of a smaller network"
    )
    assert not Path("own").exists()


def test_a_second_training_stays_out_of_a_model_that_is_being_trained(run, refused, tiny_model):
    shutil.copytree(tiny_model, "model", symlinks=True)
    with training_lock(Path("model")):
        error = refused(run("train", "model", "--fresh", "--iterations", 1))
    assert error == "another training is writing to model; wait for it, or give another directory"
