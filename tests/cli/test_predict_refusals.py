"""`instseg predict`: what is refused, and what is never replaced."""

import json
import re
import shutil
from pathlib import Path

import pytest

from instseg.io.label_images import read_labels
from instseg.models.directory import FORMAT


def test_predict_replaces_results_only_when_asked(run, refused, make_image, model):
    make_image()
    Path("out").mkdir()
    Path("out/image.png").write_bytes(b"mine")
    error = refused(run("predict", model, "image.png", "--out-dir", "out"))
    assert error == "out holds 1 files; add --overwrite or --skip-existing, or give another folder"
    assert Path("out/image.png").read_bytes() == b"mine"
    assert run("predict", model, "image.png", "--out-dir", "out", "--overwrite").exit_code == 0
    assert read_labels(Path("out/image.png")).shape == (48, 48)
    # One named file is replaced without asking.
    assert run("predict", model, "image.png", "--out", "out/image.png").exit_code == 0


def test_predict_never_replaces_the_images(run, refused, make_image, model):
    make_image()
    before = Path("image.png").read_bytes()
    for options in (["--out", "image.png"], ["--out", "labels.png", "--overlay", "./image.png"]):
        error = refused(run("predict", model, "image.png", *options), code=2)
        assert error == "image.png is the image itself and would be replaced; give the results another name"
    error = refused(run("predict", model, "image.png", "--out-dir", ".", "--overwrite"), code=2)
    assert error == ". holds the images, which results could replace; give another folder"
    assert Path("image.png").read_bytes() == before


def test_predict_wants_one_kind_of_target(run, refused, files, make_image):
    make_image("a.png")
    make_image("b.png")
    either = "expected either --out FILE for one image or --out-dir DIR for many; give one of them"
    assert refused(run("predict", "model", "a.png"), code=2) == either
    assert refused(run("predict", "model", "a.png", "--out", "l.png", "--out-dir", "out"), code=2) == either
    error = refused(run("predict", "model", "a.png", "b.png", "--out", "l.png"), code=2)
    assert error == "--out is for one image, but 2 were found; give --out-dir DIR"
    error = refused(run("predict", "model", "a.png", "--out-dir", "out", "--overlay", "out"), code=2)
    assert error == "labels, embeddings and pictures cannot share a folder; give each its own"
    same = Path("out").absolute()
    assert refused(run("predict", "model", "a.png", "--out-dir", "out", "--overlay", same), code=2) == error
    Path("more").mkdir()
    make_image("more/a.png")
    error = refused(run("predict", "model", "a.png", "more", "--out-dir", "out"), code=2)
    assert error == "1 image names occur twice (a); segment their folders apart"
    assert files() == ["a.png", "b.png", "more/a.png"]


def test_predict_never_writes_two_results_to_one_file(run, refused, files, make_image, model):
    make_image()
    refused(run("predict", model, "image.png", "--out", "same.png", "--overlay", "same.png"), code=2)
    assert files() == ["image.png"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (("--out", "missing/l.png"), "cannot write missing/l.png: the folder missing does not exist; create it first"),
        (("--out", "l.bmp"), "cannot write l.bmp: expected a name that ends in .png or .tif or .tiff"),
        (("--out", "l.png", "--overlay", "o.jpg"), "cannot write o.jpg: expected a name that ends in .png"),
        (
            ("--out", "l.png", "--outlines", "o.txt"),
            "cannot write o.txt: expected a name that ends in .geojson or .zip",
        ),
        (("--out", "l.png", "--scores", "s.txt"), "cannot write s.txt: expected a name that ends in .csv"),
        (("--out", "l.png", "--embeddings", "e.png"), "cannot write e.png: expected a name that ends in .npz"),
        (("--out-dir", "image.png"), "cannot use image.png as a folder: it is a file"),
        (("--out-dir", "image.png/out"), "cannot create the folder image.png/out: image.png is a file; choose another"),
    ],
)
def test_predict_refuses_targets_before_the_model_is_read(run, refused, files, make_image, target, message):
    make_image()
    assert refused(run("predict", "model", "image.png", *target)).startswith(message)
    assert files() == ["image.png"]


def test_predict_refuses_images_that_are_not_there(run, refused):
    Path("empty").mkdir()
    kinds = (
        "expected files named *.png, *.tif, *.tiff, *.jpg, *.jpeg, *.bmp, *.webp, *.gif, *.jp2, *.j2k, *.jpx, *.npy, "
        "*.npz, *.h5, *.hdf5, *.czi, *.nd2, *.svs, *.ndpi, *.scn, *.zarr"
    )
    for name, message in (
        ("none.png", "there is no file or folder none.png; check the name"),
        ("empty", f"the folder empty holds no image; {kinds}"),
        ("none*.png", f"no image matches none*.png; {kinds}"),
    ):
        assert refused(run("predict", "model", name, "--out", "labels.png")) == message


BAD_IMAGES = {
    "alpha": "it has transparent pixels (",
    "cmyk": "its colours are SEPARATED, expected gray or RGB; convert it to RGB",
    "cut": "it is damaged or cut off (",
    "renamed": "its content is none that is known (PNG, TIFF, JPEG, BMP, GIF, WebP, JPEG 2000, NumPy, "
    "HDF5, CZI, ND2); convert it to PNG or TIFF",
    "nan": "it has values that are NaN, infinite",
    "empty": "the file is empty; copy or export it again",
    "huge": "it claims 25000 x 40000 pixels, more than the 500,000,000 pixels that are read; cut it into tiles",
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_predict_refuses_bad_images(run, refused, files, write_bad_image, model, kind):
    write_bad_image(kind, Path("bad.png"))
    error = refused(run("predict", model, "bad.png", "--out", "labels.png"))
    assert error.startswith(f"cannot read bad.png: {BAD_IMAGES[kind]}")
    assert files() == ["bad.png"]


def test_predict_refuses_other_channels_than_the_model_takes(run, refused, files, write_coloured, model):
    write_coloured("rgb.png")
    error = refused(run("predict", model, "rgb.png", "--out", "labels.png"))
    assert error == (
        "the image has 3 channels, the model takes 1 channel (gray); "
        "choose some by --channels, such as 2 or gray, or train a model on such images"
    )
    error = refused(run("predict", model, "rgb.png", "--out", "labels.png", "--channels", "1,2"), code=2)
    assert error == "--channels 1,2 makes 2 channels, the model takes 1 channel (gray); choose as many"
    error = refused(run("predict", model, "rgb.png", "--out", "labels.png", "--channels", "4"))
    assert error == "the image has 3 channels, but --channels 4 takes channel 4"
    assert files() == ["rgb.png"]


def test_predict_refuses_what_is_no_model(run, refused, files, make_image):
    make_image()
    Path("folder").mkdir()
    for name, message in (
        ("no/model", "there is no model no/model; train one with: instseg train no/model"),
        ("image.png", "image.png is a file, expected a model directory; give the directory that train wrote"),
        ("folder", "folder holds no instseg model (instseg.json is missing); give a directory that train wrote"),
    ):
        assert refused(run("predict", name, "image.png", "--out", "labels.png")) == message
    assert files() == ["image.png"]


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    "damage",
    [
        lambda model: cut(model / "saved_model.pb", 1000),
        lambda model: cut(model / "saved_model.pb", 0),
        lambda model: (model / "saved_model.pb").unlink(),
        lambda model: shutil.rmtree(model / "variables"),
        lambda model: cut(next((model / "variables").glob("*.index")), 50),
        lambda model: cut(next((model / "variables").glob("*.data*")), 500),
        lambda model: (model / "instseg.json").write_text("{"),
        lambda model: (model / "instseg.json").write_text("[]"),
        lambda model: (model / "instseg.json").write_text(json.dumps({"format": FORMAT})),
        lambda model: (model / "instseg.json").write_bytes(b"\xff\xfe\0"),
    ],
    ids=["pb-cut", "pb-empty", "pb-gone", "variables-gone", "index-cut", "data-cut", "json", "list", "keys", "bytes"],
)
def test_predict_refuses_damaged_models(run, refused, make_image, copied_model, damage):
    make_image()
    damage(copied_model)
    error = refused(run("predict", copied_model, "image.png", "--out", "labels.png"))
    assert re.fullmatch(r"the model model is damaged \(.+\); copy or train it again", error)
    assert not Path("labels.png").exists()


def test_predict_refuses_a_model_of_another_format(run, refused, make_image, copied_model):
    make_image()
    text = (copied_model / "instseg.json").read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}')
    (copied_model / "instseg.json").write_text(text)
    error = refused(run("predict", copied_model, "image.png", "--out", "labels.png"))
    expected = (
        f"the model model has format {FORMAT + 1}, this version reads 2 and {FORMAT}; install the version that wrote it"
    )
    assert error == expected


@pytest.mark.parametrize("value", [0, -3, 1e9, "nan", "inf", 0.001])
def test_a_diameter_out_of_all_proportion_is_refused(run, refused, make_image, model, value):
    make_image()
    error = refused(run("predict", model, "image.png", "--diameter", value, "--out", "labels.png"), code=2)
    assert error.startswith(f"--diameter is {float(value)}, expected 2.4 to 608 pixels for a model of objects of 19")
    assert not Path("labels.png").exists()
