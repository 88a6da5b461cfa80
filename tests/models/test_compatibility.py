"""Models that released versions wrote go on working; `models/make.py` makes one for each format."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import instseg
from instseg.cli import app
from instseg.evaluation.metrics import score
from instseg.io.images import read_image
from instseg.io.npz import read_embeddings
from instseg.models.directory import FORMAT

FOLDERS = sorted(Path(__file__).parent.glob("format-*"))
MAPS = ("embeddings", "foreground", "seeds", "bandwidth")


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def stored(request):
    return request.param


def test_there_is_a_model_of_the_present_format():
    assert f"format-{FORMAT}" in [folder.name for folder in FOLDERS]


def assert_same_maps(found, stored):
    expected = read_embeddings(stored / "maps.npz")
    for name in MAPS:
        # Other processors add up in another order.
        np.testing.assert_allclose(found[name], getattr(expected, name), rtol=1e-3, atol=1e-2, err_msg=name)


def test_it_gives_the_same_maps_and_labels(stored):
    model, image = instseg.load(stored / "model", precision="float32"), read_image(stored / "image.png")
    maps = model.embed(image)
    assert_same_maps({name: getattr(maps, name) for name in MAPS}, stored)
    assert maps.settings == read_embeddings(stored / "maps.npz").settings
    assert score(np.asarray(Image.open(stored / "labels.png")), model.predict(image)).mean_ap == 1


PLAIN = """
import sys
import numpy as np
import tensorflow as tf

image = tf.constant(np.load(sys.argv[2]))
maps = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](image=image)
np.savez(sys.argv[3], **{name: values.numpy()[0] for name, values in maps.items()})
assert not any(name.startswith("instseg") for name in sys.modules), "our code was needed"
"""


def test_plain_tensorflow_opens_it(stored, tmp_path):
    np.save(tmp_path / "image.npy", read_image(stored / "image.png").astype(np.float32)[None])
    command = [sys.executable, "-c", PLAIN, stored / "model", tmp_path / "image.npy", tmp_path / "maps.npz"]
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert_same_maps(np.load(tmp_path / "maps.npz"), stored)


def test_a_training_begins_with_it(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(stored / "model", "model")
    options = ["--iterations", "1", "--batch-size", "1", "--patch-size", "32"]
    begun = CliRunner().invoke(app, ["train", "own", "--from", "model", *options], catch_exceptions=False)
    assert begun.exit_code == 0, begun.output
    assert (tmp_path / "own" / "instseg.json").exists()
