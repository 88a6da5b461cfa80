"""`instseg predict`: levels by hand, and images of other kinds than pictures."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from instseg.io.images import read_image
from instseg.io.label_images import read_labels


@pytest.fixture
def expected(make_image, run, model):
    """The labels of the image by the model's rule."""
    make_image()
    assert run("predict", model, "image.png", "--out", "expected.png").exit_code == 0
    labels = read_labels("expected.png")
    assert labels.max() > 0
    return labels


def test_levels_are_chosen_and_noted(run, model, expected):
    pixels = read_image("image.png")
    low, high = np.percentile(pixels, [1, 99.8])
    for options in (("--levels", f"{low},{high}"), ("--percentiles", "1,99.8")):
        result = run("predict", model, "image.png", "--out-dir", "results", "--overwrite", *options, "--ignore-zeros")
        assert result.exit_code == 0
        settings = json.loads(Path("results/run.json").read_text())["settings"]
        assert settings[options[0][2:]] == [float(value) for value in options[1].split(",")]
        assert settings["ignore_zeros"] is True
    assert run("predict", model, "image.png", "--out", "none.png", "--levels", "70000,80000").exit_code == 0
    assert read_labels("none.png").max() == 0
    # Results of other levels are told from these.
    again = ("predict", model, "image.png", "--out-dir", "results", "--skip-existing", "--percentiles", "2,99")
    result = run(*again)
    assert result.exit_code == 1
    assert "percentiles=[1.0, 99.8], now [2.0, 99.0]" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--levels", "1"), "--levels is 1, expected two numbers with a comma between them, such as 100,4000"),
        (("--levels", "5,4"), "--levels is 5,4, expected two numbers, LOW,HIGH, of which the first is the smaller"),
        (("--percentiles", "1,101"), "--percentiles is 1,101, expected numbers from 0 to 100"),
        (("--levels", "1,2", "--percentiles", "1,2"), "--levels and --percentiles exclude each other; give one of"),
    ],
)
def test_levels_that_mean_nothing_are_refused(run, model, make_image, options, message):
    make_image()
    result = run("predict", model, "image.png", "--out", "labels.png", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_same_image_of_any_kind_has_the_same_labels(run, model, expected):
    pixels = read_image("image.png")[..., 0]
    Path("in").mkdir()
    np.save("in/a.npy", pixels)
    np.savez("in/b.npz", image=pixels)
    # Negative values are as good as others.
    tifffile.imwrite("in/c.tif", (pixels.astype(np.int32) - 32_768).astype(np.int16))
    with h5py.File("d.h5", "w") as file:
        file["volume"] = pixels
        file["other"] = pixels
    result = run("predict", model, "in", "d.h5:/volume", "d.h5:/other", "--out-dir", "out", "--overlay", "overlays")
    assert result.exit_code == 0
    for name in ("a", "b", "c", "d-volume", "d-other"):
        np.testing.assert_array_equal(read_labels(f"out/{name}.png"), expected)
        assert Path(f"overlays/{name}.png").is_file()
    assert (
        run("predict", model, "in", "d.h5:/volume", "d.h5:/other", "--out-dir", "out", "--skip-existing").exit_code == 0
    )


def test_one_of_several_images_has_to_be_named(run, model, make_image):
    make_image()
    with h5py.File("d.h5", "w") as file:
        file["a"] = file["b"] = np.zeros((9, 9))
    result = run("predict", model, "d.h5", "--out", "labels.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "d.h5: it holds 2 images (a, b), expected one; give one of them, such as d.h5:/a" in result.stderr


def test_all_images_of_a_group_are_segmented(run, model, expected):
    pixels = read_image("image.png")[..., 0]
    zarr.create_group("raw.zarr", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    for number in range(2):
        zarr.create_group(
            f"raw.zarr/{number}",
            zarr_format=2,
            attributes={
                "multiscales": [{"version": "0.4", "axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "0"}]}]
            },
        )
        zarr.create_array(f"raw.zarr/{number}/0", data=pixels, zarr_format=2)
    result = run("predict", model, "raw.zarr", "--out-dir", "out", "--format", "tif")
    assert result.exit_code == 0
    for name in ("raw-0", "raw-1"):
        assert read_labels(f"out/{name}.tif").max() == expected.max()
