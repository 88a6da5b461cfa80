"""Opening models that are damaged, that have lost their links, or that a training replaces meanwhile."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import instseg
import instseg.inference.loading as loading
from instseg.errors import InstsegError
from instseg.models.config import read_training
from instseg.models.directory import check_trainable, commit, read_settings
from instseg.models.weights import read_weights

STORED = Path(__file__).parent / "format-3" / "model"
LINKS = ["current", "fingerprint.pb", "instseg.json", "saved_model.pb", "variables"]


@pytest.fixture
def folder(tmp_path):
    """A model directory with a generation and its links."""
    folder = tmp_path / "model"
    check_trainable(folder)
    save_again(folder)
    return folder


def save_again(folder):
    """Commit the same model once more, as a training does."""
    source = STORED.resolve()
    stored = read_settings(source)[1]
    names = ("saved_model.pb", "fingerprint.pb", "variables")

    def write(generation):
        for name in names:
            path = source / name
            shutil.copytree(path, generation / name) if path.is_dir() else shutil.copy(path, generation)

    return commit(folder, stored, write)


def error_of(call, *args):
    with pytest.raises(InstsegError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def change(folder, **changes):
    path = folder / "current" / "instseg.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | changes))
    return stored


def lose_links(folder):
    for name in LINKS:
        (folder / name).unlink()


def make_texts_of_links(folder):
    for name in LINKS:
        target = str((folder / name).readlink())
        (folder / name).unlink()
        (folder / name).write_text(target)


@pytest.mark.parametrize("lose", [lose_links, make_texts_of_links])
def test_a_model_without_its_links_opens(folder, lose):
    lose(folder)
    assert instseg.load(folder).settings == instseg.load(STORED).settings
    assert read_weights(folder).keys() == read_weights(STORED).keys()
    assert read_training(folder).config == read_training(STORED).config


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"model": []},
        {"model": {"widths": [10**300]}},
        {"clustering": {"min_size": "all"}},
        {"calibration": {"slope": 0}},
        {"calibration": "steep"},
        {"training": {"iterations": [[]]}},
        {"metric_loss": 3},
        {"data": "here"},
        {"data": [[1, 2]]},
        {"iteration": None},
        {"iteration": float("inf")},
        {"seconds": {}},
        {"pretrained": ["a"]},
    ],
)
def test_odd_settings_are_told(folder, changes):
    change(folder, **changes)
    message = error_of(read_training, folder)
    assert message.startswith(f"the model {folder} is damaged (")
    if changes.keys() & {"model", "clustering", "calibration"}:
        assert error_of(instseg.load, folder).startswith(f"the model {folder} is damaged (")


def test_settings_of_another_network_are_told(folder):
    stored = change(folder)
    change(folder, model=stored["model"] | {"channels": 5})
    assert "takes 1 channels" in error_of(instseg.load, folder)


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
@pytest.mark.parametrize(
    ("damage", "checksums"),
    [("short", True), ("gone", False), ("empty", False), ("short", False), ("zeros", False), ("text", False)],
)
def test_damaged_files_are_told(folder, name, checksums, damage):
    if not checksums:
        change(folder, sha256=None)
    path = folder / "current" / name
    content = path.read_bytes()
    contents = {
        "empty": b"",
        "short": content[: len(content) // 2],
        "zeros": bytes(len(content)),
        "text": b"no model\n" * 99,
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(contents[damage])
    for call in (instseg.load, read_weights) if name != "saved_model.pb" or checksums else (instseg.load,):
        assert error_of(call, folder).startswith(f"the model {folder} is damaged (")


@pytest.mark.parametrize("error", [AssertionError, RecursionError("deep"), tf.errors.DataLossError(None, None, "a\nb")])
def test_whatever_tensorflow_raises_is_told(folder, monkeypatch, error):
    def raising(path, **options):
        raise error

    monkeypatch.setattr(loading, "open_network", raising)
    assert error_of(instseg.load, folder).startswith(f"the model {folder} is damaged (")


def test_a_model_that_a_training_saves_meanwhile_is_never_damaged(folder, monkeypatch):
    load, opened = loading.open_network, []

    def slow(path, **options):
        opened.append(Path(path).name)
        if len(opened) == 1:
            # The generation before the last one is removed.
            for _ in range(3):
                save_again(folder)
            assert not Path(path).exists()
        return load(path, **options)

    monkeypatch.setattr(loading, "open_network", slow)
    labels = instseg.load(folder).predict(np.zeros((32, 32), np.uint8))
    assert labels.shape == (32, 32)
    assert opened == ["000001", "000004"]
