"""The process of a round, with a real training of few steps."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from instseg.data.generate import generate_discs
from instseg.errors import InstsegError
from instseg.labelling.round_process import COMMAND
from instseg.labelling.training_process import TrainingOrder, order_line, train_order
from instseg.models.directory import read_settings
from instseg.settings import DiscSettings

SETTINGS = {"iterations": 2, "batch_size": 2, "patch_size": 32, "seed": 1, "channels": None}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds") / "data"
    generate_discs(folder, count=3, settings=DiscSettings(size=64, min_discs=4, max_discs=6))
    return folder


def ordered(data, model, target, **settings):
    return TrainingOrder(
        target=str(target), data=str(data), begin=str(model), before=str(model), settings=SETTINGS | settings
    )


def test_a_training_tells_what_it_does(data, tiny_model, tmp_path):
    told = []
    train_order(ordered(data, tiny_model, tmp_path / "model"), lambda **event: told.append(event), lambda: False)
    assert json.loads(json.dumps(told)) == told
    kinds = [event["event"] for event in told]
    assert (kinds[0], kinds[-1]) == ("phase", "ended")
    assert {"phase", "step", "validated", "ended"} <= set(kinds)
    steps = [event for event in told if event["event"] == "step"]
    assert (steps[-1]["iteration"], steps[-1]["progress"]) == (2, 1.0)
    assert np.isfinite(steps[-1]["loss"])
    ended = told[-1]
    assert (ended["finished"], ended["iterations"], ended["before"]) == (True, 2, None)
    assert 0 <= ended["ap"] <= 1
    assert read_settings(tmp_path / "model")[1]["iteration"] == 2


def test_a_stopped_training_is_compared_with_the_model_before(data, tiny_model, tmp_path):
    told = []
    order = ordered(data, tiny_model, tmp_path / "model", iterations=1000)
    train_order(order, lambda **event: told.append(event), lambda: True)
    ended = told[-1]
    assert (ended["event"], ended["finished"], ended["iterations"]) == ("ended", False, 1)
    assert 0 <= ended["before"] <= 1


def test_what_cannot_be_trained_on_is_an_error(data, tiny_model, tmp_path):
    with pytest.raises(InstsegError, match="there is no such folder"):
        train_order(ordered(tmp_path / "none", tiny_model, tmp_path / "model"), lambda **event: None, lambda: False)


def test_the_process_speaks_lines_of_json_and_says_what_is_wrong(tiny_model, tmp_path):
    line = order_line(ordered(tmp_path / "none", tiny_model, tmp_path / "model"))
    done = subprocess.run(COMMAND, input=line, capture_output=True, text=True, timeout=120, check=True)
    events = [json.loads(event) for event in done.stdout.splitlines()]
    assert events[-1]["event"] == "failed"
    assert str(Path(tmp_path / "none")) in events[-1]["message"]
    assert not (tmp_path / "model").exists()
