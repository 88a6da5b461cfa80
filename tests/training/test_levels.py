"""A training shows images by the rule of levels of its model: a new one by that of today, an earlier one by its own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from instseg.data.discs import draw_discs
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.preprocessing.levels import image_levels
from instseg.training.prepare import TrainingRequest, check_request, prepare_training


@pytest.fixture
def data(tmp_path, tiny_discs):
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for seed in range(3):
        image, labels = draw_discs(np.random.default_rng(seed), tiny_discs)
        framed = np.pad(image, 9, constant_values=65535)
        write_picture(tmp_path / f"data/images/{seed}.png", framed)
        write_labels(tmp_path / f"data/labels/{seed}.png", np.pad(labels, 9))
    return tmp_path / "data"


def prepare(folder, data, **given):
    request = TrainingRequest(model_dir=folder, data=(data,), **given)
    return prepare_training(check_request(request))


def assert_levels(prepared, rule):
    assert prepared.config.model.levels == rule
    for sample in prepared.data.validation:
        assert np.array_equal([sample.low, sample.high], image_levels(sample.image, rule))
        assert (sample.high < 65535) == (rule == "robust")


def test_a_new_training_has_the_robust_rule(data, tmp_path):
    assert_levels(prepare(tmp_path / "new", data, train={"validation_share": 0.5}), "robust")


@pytest.mark.parametrize("rule", ["robust", "percentiles", None])
def test_a_resumed_training_keeps_its_rule(tiny_model, data, tmp_path, rule):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder, symlinks=True)
    file = Path(folder / "instseg.json").resolve()
    stored = json.loads(file.read_text())
    assert stored["model"].pop("levels") == "robust"
    if rule is not None:
        stored["model"]["levels"] = rule
    file.write_text(json.dumps(stored))
    assert_levels(prepare(folder, data, resume=True, train={"iterations": 70}), rule or "percentiles")
