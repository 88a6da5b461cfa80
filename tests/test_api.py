"""The package's public names: listed, lazily loaded, and doing what the commands do."""

import subprocess
import sys

import numpy as np
import pytest

import instseg
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError, UsageError
from instseg.io.images import write_picture
from instseg.settings import DiscSettings


def test_every_public_name_is_listed_and_loads():
    for name in instseg.__all__:
        assert name in dir(instseg)
        assert getattr(instseg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = instseg.no_such_name


def test_importing_loads_nothing_heavy_and_changes_nothing():
    code = (
        "import os, sys; before = dict(os.environ); import instseg;"
        "heavy = {'numpy', 'tensorflow', 'keras', 'scipy', 'typer', 'rich', 'matplotlib', 'zarr'} & set(sys.modules);"
        "assert not heavy, heavy; assert dict(os.environ) == before; instseg.InstsegError; instseg.ClusterSettings;"
        "assert not {'numpy', 'tensorflow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr == ""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for seed in range(3):
        discs = DiscSettings(size=64, min_discs=3, max_discs=3)
        write_picture(tmp_path / "images" / f"{seed}.png", draw_discs(np.random.default_rng(seed), discs)[0])
    return tmp_path


def test_predict_files_writes_what_is_wanted_and_returns_figures(tiny_model, folder):
    steps = []
    result = instseg.predict_files(
        tiny_model,
        folder / "images",
        out_dir=folder / "labels",
        scores=folder / "scores",
        min_size=5,
        progress=lambda done, total, detail: steps.append((done, total)),
    )
    assert [image.path.name for image in result.images] == ["0.png", "1.png", "2.png"]
    assert (result.skipped, result.failed) == (0, ())
    assert steps == [(1, 3), (2, 3), (3, 3)]
    model = instseg.load(tiny_model)
    for image in result.images:
        labels = instseg.read_labels(folder / "labels" / image.path.name)
        expected = model.segment(image.path, instseg.ClusterSettings(**model.clustering.to_dict() | {"min_size": 5}))
        np.testing.assert_array_equal(labels, expected.labels)
        assert image.summary.instances == labels.max()
        assert image.summary.pixels == 64 * 64
    assert result.instances == sum(image.summary.instances for image in result.images)
    where = {"out_dir": folder / "labels", "skip_existing": True}
    again = instseg.predict_files(tiny_model, folder / "images", **where, min_size=5)
    assert (again.images, again.skipped) == ((), 3)
    with pytest.raises(InstsegError, match=r"3 of the images that were made otherwise \(min_size=5, now 10\)"):
        instseg.predict_files(tiny_model, folder / "images", **where)


def test_one_image_goes_into_one_file(tiny_model, folder):
    image = folder / "images" / "1.png"
    result = instseg.predict_files(str(tiny_model), str(image), out=str(folder / "l.tif"))
    np.testing.assert_array_equal(instseg.read_labels(folder / "l.tif"), instseg.load(tiny_model).predict(image))
    assert len(result.images) == 1


def test_a_file_that_cannot_be_read_costs_no_other(tiny_model, folder):
    (folder / "images" / "bad.png").write_bytes(b"no image")
    result = instseg.predict_files(tiny_model, folder / "images", out_dir=folder / "labels")
    assert len(result.images) == 4
    (failure,) = result.failed
    assert failure.path.name == "bad.png"
    assert isinstance(failure.error, InstsegError)
    assert len(list((folder / "labels").glob("*.png"))) == 3
    assert result.failures == folder / "labels" / "failed.csv"
    assert result.stopped is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected either `out=FILE` for one image or `out_dir=DIR` for many"),
        ({"out": "a.png", "out_dir": "b"}, "expected either `out=FILE`"),
        ({"out": "a.png"}, "`out` is for one image, but 3 were found"),
        ({"out_dir": "b", "tiel": 5}, "there is no setting 'tiel'; did you mean tile?"),
        ({"out_dir": "b", "tile": 0}, "tile is 0, expected a number of pixels above 0"),
        ({"out_dir": "b", "diameter": "large"}, "diameter is large, expected a number of pixels, or auto"),
        ({"out_dir": "b", "shard": "5/4"}, "shard is 5/4, expected I/N"),
        ({"out": "a.png", "skip_existing": True}, "`skip_existing` and `shard` are for many images"),
        ({"out_dir": "b", "workers": 0}, "workers is 0, expected a number from 1 to 1024"),
        ({"out_dir": "b", "workers": 2, "scheduler": "x"}, "`workers` and `scheduler` cannot go together"),
        ({"out_dir": "b", "foreground_threshold": 2}, "foreground_threshold is 2, expected above 0 and below 1"),
    ],
)
def test_parameters_are_named_in_errors(tiny_model, folder, monkeypatch, options, message):
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError) as raised:
        instseg.predict_files(tiny_model, "images", **options)
    assert message in str(raised.value)
    assert "--" not in str(raised.value)
    assert not (folder / "b").exists()
