"""Training from Python: the command's options as keyword arguments, and a result instead of text."""

import dataclasses
import os
import subprocess
import sys
from typing import get_type_hints

import pytest

from instseg.data.generate import generate_discs
from instseg.errors import UsageError
from instseg.inference.model import load
from instseg.models.config import read_training
from instseg.settings import MetricLossSettings, ModelSettings, TrainSettings
from instseg.training.api import TrainingOptions, train
from instseg.training.events import CheckpointSaved, StepDone, WeightsTransferred

QUICK = {"network": (8, 8), "batch_size": 1, "patch_size": 32}


def test_a_model_is_trained_stopped_and_resumed(tmp_path):
    events = []
    model = tmp_path / "model"
    result = train(os.fspath(model), iterations=5, progress=events.append, stop=iter([False, True]).__next__, **QUICK)
    assert [type(event) for event in events if isinstance(event, StepDone | CheckpointSaved)] == [
        StepDone,
        StepDone,
        CheckpointSaved,
    ]
    assert (result.model, result.report, result.iterations, result.finished) == (model, model / "report", 2, False)
    assert (result.best_iteration, result.validation_images) == (2, 4)
    assert result.scores == events[-1].best.scores
    assert result.seconds > 0
    assert (result.report / "metrics.csv").exists()

    resumed = train(model, resume=True, iterations=3)
    assert (resumed.iterations, resumed.finished) == (3, True)
    assert resumed.seconds > result.seconds
    assert load(model).settings.widths == (8, 8)

    # Nothing is left to do.
    again = train(model, resume=True)
    assert dataclasses.replace(again, seconds=0.0) == dataclasses.replace(resumed, seconds=0.0)
    assert again.seconds == pytest.approx(resumed.seconds, abs=1e-3)


def test_the_settings_are_those_that_are_options():
    groups = (TrainSettings, ModelSettings, MetricLossSettings)
    options = [field.name for group in groups for field in dataclasses.fields(group) if "help" in field.metadata]
    assert list(get_type_hints(TrainingOptions)) == options


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("iteration", "did you mean iterations?"),
        ("pretraind", "did you mean pretrained?"),
        ("push_margins", "did you mean push_margin?"),
        ("xyz", "expected one of iterations, minutes, batch_size"),
        ("weight_decay", "expected one of|did you mean"),
    ],
)
def test_unknown_parameters_are_told_the_nearest(tmp_path, name, advice):
    with pytest.raises(UsageError, match=f"there is no parameter {name}; ({advice})".replace("?", r"\?")):
        train(tmp_path / "model", **{name: 1})
    assert not list(tmp_path.iterdir())


def test_parameters_are_named_as_python_has_them(tmp_path):
    with pytest.raises(UsageError, match=r"^batch_size is 0, expected a number above 0"):
        train(tmp_path / "model", batch_size=0)
    with pytest.raises(UsageError, match=r"^network is medium"):
        train(tmp_path / "model", network="medium")


# What the process is before and after: its file descriptor 2, its environment and its loggers.
UNCHANGED = """
import logging, os, sys

before = dict(os.environ), os.fstat(2), logging.getLogger("tensorflow").level
duplicated = []
os.dup2 = lambda *arguments: duplicated.append(arguments)
import instseg
from instseg.training.api import train
train(sys.argv[1], iterations=1, network="8,8", batch_size=1, patch_size=32)
instseg.load(sys.argv[1])
assert not duplicated
assert (dict(os.environ), os.fstat(2)) == before[:2], {k: v for k, v in os.environ.items() if before[0].get(k) != v}
"""


def test_the_library_leaves_the_process_alone(tmp_path):
    command = [sys.executable, "-c", UNCHANGED, str(tmp_path / "model")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""


def test_few_images_are_learnt_at_a_lower_rate_where_the_model_is_right_already(tmp_path):
    generate_discs(tmp_path / "discs", count=3)
    changes = {}

    def run(name, pretrained, **settings):
        def take(event):
            if isinstance(event, WeightsTransferred):
                changes[name] = event.changes

        given = {"iterations": 1, "patch_size": 32, "batch_size": 1, **settings}
        train(tmp_path / name, tmp_path / "discs", pretrained=pretrained, progress=take, **given)
        return read_training(tmp_path / name).config.train.learning_rate

    lowered = run("lowered", "shapes")
    assert 0.1 * 0.008 <= lowered < 0.5 * 0.008
    assert any(
        f"the learning rate is {lowered:g}, as the images are few and AP50 is" in one for one in changes["lowered"]
    )
    # Going on, it is known.
    train(tmp_path / "lowered", resume=True, iterations=2)
    assert read_training(tmp_path / "lowered").config.train.learning_rate == lowered
    assert run("given", "shapes", learning_rate=0.005) == 0.005
    train(tmp_path / "untrained", tmp_path / "discs", iterations=1, **QUICK)
    assert run("begun", tmp_path / "untrained") == 0.008
    assert not any("learning rate" in one for name in ("given", "begun") for one in changes[name])
