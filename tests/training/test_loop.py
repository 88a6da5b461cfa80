"""Tiny trainings: they learn, repeat, stop, go on, survive being killed, and leave models that predict."""

import csv
import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import instseg
import instseg.training.clock as clock
import instseg.training.session as session
from instseg.data.datasets import Diameters, TrainingData, disc_data, folder_data
from instseg.data.discs import draw_discs
from instseg.data.patches import Batch
from instseg.errors import InstsegError, UsageError
from instseg.evaluation.metrics import score
from instseg.inference.model import load
from instseg.inference.tta import flip_rot90, undo_flip_rot90
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.models.config import read_training
from instseg.models.directory import FORMAT
from instseg.network.objective import objective_of
from instseg.settings import ClusterSettings, MetricLossSettings, ModelSettings
from instseg.training.events import CheckpointSaved, PhaseStarted, StepDone, Validation
from instseg.training.loop import iter_training
from instseg.training.report import TrainingReport
from instseg.training.train_step import TrainStep
from instseg.training.validation import ValidationImages, validate


@pytest.fixture(scope="session")
def run(tiny_discs):
    """A function that trains on small discs and returns the events."""

    def run(folder, plan, **options):
        events = iter_training(folder, plan, disc_data(plan.train, tiny_discs), **options)
        return [event for event in events if not isinstance(event, PhaseStarted)]

    return run


@pytest.fixture
def copied(tiny_model, tmp_path):
    """A copy of the tiny model that may be changed."""
    return shutil.copytree(tiny_model, tmp_path / "copied", symlinks=True)


def steps(events):
    return [event for event in events if isinstance(event, StepDone)]


def saves(events):
    return [event for event in events if isinstance(event, CheckpointSaved)]


def losses(events):
    return [step.losses for step in steps(events)]


def weights(folder):
    """All that a training goes on from: network, average and optimiser."""
    reader = tf.train.load_checkpoint(str(folder / "current" / "checkpoint" / "state"))
    names = sorted(name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE"))
    assert len(names) > 10
    return {name: reader.get_tensor(name) for name in names}


def assert_same_weights(one, other):
    first, second = weights(one), weights(other)
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def table(folder):
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def disc_image(discs, seed=3):
    return draw_discs(np.random.default_rng(seed), dataclasses.replace(discs, min_discs=3, max_discs=6))


# A training of 60 steps in one go, and the same in two parts: what both leave is compared.


@pytest.fixture(scope="session")
def in_parts(tmp_path_factory, tiny_training, run):
    """Folder and the two lists of events of the same 60 iterations, stopped after 12 and resumed."""
    folder = tmp_path_factory.mktemp("parts")
    _, plan, _ = tiny_training
    asked = iter(range(1, 100))
    first = run(folder / "model", plan, report=folder / "report", stop=lambda: next(asked) == 12)
    second = run(folder / "model", plan, report=folder / "report", resume=True)
    return folder, first, second


def test_the_loss_falls(tiny_training):
    *_, events = tiny_training
    totals = [one["loss"] for one in losses(events)]
    assert np.mean(totals[20:30]) < 0.8 * np.mean(totals[:5])
    assert np.mean(totals[-5:]) < 0.7 * np.mean(totals[:5])


def test_every_step_and_save_is_told(tiny_training):
    *_, events = tiny_training
    assert [(type(event), event.iteration) for event in events] == [
        *((StepDone, iteration) for iteration in range(1, 61)),
        (CheckpointSaved, 60),
    ]
    for step in steps(events):
        assert list(step.losses) == ["loss", "embedding", "bandwidth", "seed", "semantic"]
        parts = list(step.losses.values())
        assert parts[0] == pytest.approx(sum(parts[1:]), rel=1e-5)
        assert step.progress == step.iteration / 60
        assert step.images_per_second > 0
        assert 0 <= step.waiting <= 1
    for saved in saves(events):
        assert list(saved.scores) == ["AP50", "AP75", "AP50-90"]
        assert all(0 <= value <= 1 for value in saved.scores.values())


def test_stop_saves_and_ends(in_parts):
    _, first, _ = in_parts
    assert [(type(event), event.iteration) for event in first] == [
        *((StepDone, iteration) for iteration in range(1, 13)),
        (CheckpointSaved, 12),
    ]


def test_the_same_seed_gives_the_same_losses(tiny_training, in_parts):
    *_, events = tiny_training
    _, first, _ = in_parts
    assert losses(first) == losses(events)[:12]


def test_resumed_training_is_the_uninterrupted_one(tiny_training, in_parts):
    folder, _, events = tiny_training
    resumed, _, second = in_parts
    assert [step.iteration for step in steps(second)] == list(range(13, 61))
    assert losses(second) == losses(events)[12:]
    assert saves(second)[-1].scores == saves(events)[-1].scores
    assert_same_weights(folder / "model", resumed / "model")


def test_the_plan_is_stored(tiny_training, in_parts):
    folder, plan, _ = tiny_training
    resumed, _, _ = in_parts
    stored = read_training(folder / "model")
    assert stored.config.calibration is not None
    assert stored[:2] == (dataclasses.replace(plan, calibration=stored.config.calibration), 60)
    assert read_training(resumed / "model")[:2] == stored[:2]


def test_the_report_has_a_table_and_pictures(tiny_training):
    folder, _, events = tiny_training
    files = {path.name for path in (folder / "report").iterdir() if path.is_file()}
    pictures = {f"{kind}-{number}.png" for kind in ("validation", "embeddings") for number in (0, 1)}
    assert files == {"index.html", "metrics.csv", "curves.png", *pictures}
    rows = table(folder / "report")
    assert [row["iteration"] for row in rows if "AP50" in row] == [60]
    figures = [row for row in rows if "loss" in row]
    assert [row["iteration"] for row in figures] == [25, 50, 60]
    totals = [one["loss"] for one in losses(events)]
    expected = [np.mean(totals[start:end]) for start, end in pairwise([0, 25, 50, 60])]
    np.testing.assert_allclose([row["loss"] for row in figures], expected, rtol=1e-4)
    for row in figures:
        assert row["learning_rate"] > 0
        assert row["images_per_second"] > 0
    for row, saved in zip([row for row in rows if "AP50" in row], saves(events), strict=True):
        assert {name: row[name] for name in saved.scores} == pytest.approx(saved.scores, rel=1e-4)


@pytest.mark.parametrize("steps_per_read", [7, 1000])
def test_losses_that_are_read_later_are_the_same(tmp_path, tiny_training, run, steps_per_read):
    folder, plan, events = tiny_training
    plan = dataclasses.replace(plan, train=dataclasses.replace(plan.train, validation_every=26))
    report = tmp_path / "report"
    later = run(tmp_path / "model", plan, report=report, steps_per_read=steps_per_read)
    assert losses(later) == losses(events)
    assert [step.iteration for step in steps(later)] == list(range(1, 61))
    # Each save comes right after the step that it is of.
    saved_after = [step.iteration for step, event in pairwise(later) if isinstance(event, CheckpointSaved)]
    assert saved_after == [26, 52, 60]
    names = ("iteration", "learning_rate", "loss", "loss_embedding", "loss_semantic")
    rows, expected = (
        [{name: row[name] for name in names} for row in table(one) if "loss" in row and row["iteration"] in (25, 50)]
        for one in (report, folder / "report")
    )
    assert len(rows) == 2
    assert rows[0] == expected[0]


def test_a_stop_saves_whenever_losses_are_read(tmp_path, tiny_plan, run):
    events = run(tmp_path / "model", tiny_plan(20), stop=iter([False, False, True]).__next__, steps_per_read=10)
    assert [(type(event), event.iteration) for event in events] == [
        *((StepDone, iteration) for iteration in (1, 2, 3)),
        (CheckpointSaved, 3),
    ]


def test_the_table_goes_on_without_doubles_after_a_resume(in_parts):
    folder, _, _ = in_parts
    rows = table(folder / "report")
    assert [row["iteration"] for row in rows if "AP50" in row] == [12, 60]
    assert [row["iteration"] for row in rows if "loss" in row] == [12, 25, 50, 60]
    assert [row["iteration"] for row in rows] == sorted(row["iteration"] for row in rows)


def test_a_fresh_training_leaves_nothing_of_an_earlier_report(tmp_path):
    for name in ("validation-1.png", "embeddings-1.png", "tensorboard/events", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "metrics.csv").write_text("iteration,loss\n25,1.0\n")
    report = TrainingReport(tmp_path)
    assert not report._rows
    assert {path.name for path in tmp_path.iterdir()} - {"tensorboard"} == {"metrics.csv", "notes.txt"}
    assert not (tmp_path / "tensorboard" / "events").exists()


def test_a_fresh_training_removes_nothing_of_others(tmp_path):
    names = {"validation-1.png", "validation-set.png", "embeddings-1.png", "tensorboard/events", "metrics.csv"}
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("their own")
    TrainingReport(tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names <= found
    # Pictures of another name stay in a folder of ours, too.
    (tmp_path / "metrics.csv").write_text("iteration,loss\n25,1.0\n")
    TrainingReport(tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"validation-set.png"}


def test_a_damaged_table_is_told(copied, tiny_plan, tmp_path, run):
    report = tmp_path / "report"
    report.mkdir()
    (report / "metrics.csv").write_text("iteration,loss\n1,none\n")
    with pytest.raises(InstsegError, match=r"cannot read .*metrics.csv"):
        run(copied, tiny_plan(61), resume=True, report=report)


def test_minutes_end_a_training_and_count_on_after_a_resume(tmp_path, tiny_plan, run, monkeypatch):
    # A clock that goes half a second further whenever it is looked at.
    ticks = itertools.count()
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 2))
    plan = tiny_plan(7, minutes=1, validation_every=5)
    first = run(tmp_path / "model", plan, stop=lambda: True)
    assert [type(event) for event in first] == [StepDone, CheckpointSaved]
    before = read_training(tmp_path / "model")
    assert before.seconds / 60 >= steps(first)[0].progress > 0
    second = run(tmp_path / "model", plan, resume=True)
    progress = [step.progress for step in steps(second)]
    assert progress[0] > before.seconds / 60
    assert progress == sorted(progress)
    assert progress[-2] < 1 == progress[-1]
    # More than the number of iterations, which counts without minutes only.
    assert steps(second)[-1].iteration > 7
    after = read_training(tmp_path / "model")
    assert 60 <= after.seconds < 70
    assert run(tmp_path / "model", plan, resume=True) == []


def test_what_takes_its_time_is_told(tmp_path, tiny_plan, tiny_discs):
    plan = tiny_plan(2, validation_every=1)
    events = list(iter_training(tmp_path / "model", plan, disc_data(plan.train, tiny_discs)))
    assert [type(event) for event in events] == [
        StepDone,
        PhaseStarted,
        CheckpointSaved,
        StepDone,
        PhaseStarted,
        PhaseStarted,
        CheckpointSaved,
    ]
    assert [event.phase.split()[0] for event in events if isinstance(event, PhaseStarted)] == [
        "validating",
        "validating",
        "tuning",
    ]


def test_the_learning_rate_rises_and_comes_down(tiny_plan):
    plan = tiny_plan(1000)
    learner = TrainStep(plan.model, plan.train, plan.metric)
    rates = [learner.learning_rate(step, step / 1000) / plan.train.learning_rate for step in range(1001)]
    assert rates[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1], rel=1e-3)
    assert all(one > other for one, other in pairwise(rates[5:]))
    assert rates[500] == pytest.approx(0.505)
    assert rates[-1] == pytest.approx(0.01)


def test_nothing_is_left_to_do_for_a_finished_training(tiny_model, copied, tiny_plan, run):
    assert run(copied, tiny_plan(60), resume=True) == []
    assert_same_weights(tiny_model, copied)


# The best state is what is kept


def scripted(monkeypatch, *values):
    """Have validations give these values, one after the other."""
    given = iter(values)

    def validate(model, images, *, calibrate):
        value = next(given)
        return Validation({"AP50": 1.0, "AP50-90": value}, [value] * len(images))

    monkeypatch.setattr(session, "validate", validate)


def best_weights(folder):
    return {name: value for name, value in weights(folder).items() if name.startswith("best/")}


def test_the_best_state_is_kept_across_a_resume(tmp_path, tiny_plan, run, monkeypatch):
    folder = tmp_path / "model"
    scripted(monkeypatch, 0.4, 0.6, 0.5)
    events = run(folder, tiny_plan(6, validation_every=2))
    assert [(one.iteration, one.scores["AP50-90"], one.best.iteration) for one in saves(events)] == [
        (2, 0.4, 2),
        (4, 0.6, 4),
        (6, 0.5, 4),
    ]
    best = best_weights(folder)
    scripted(monkeypatch, 0.4, 0.6)
    run(tmp_path / "half", tiny_plan(6, validation_every=2), stop=iter([False, False, False, True]).__next__)
    ema = {name.replace("ema/", "best/"): value for name, value in weights(tmp_path / "half").items()}
    for name, value in best.items():
        np.testing.assert_array_equal(value, ema[name], err_msg=name)
    stored = json.loads((folder / "instseg.json").read_text())
    assert (stored["iteration"], stored["kept_iteration"], stored["validation"]["AP50-90"]) == (6, 4, 0.6)
    # Worse, then less so than chance would have it: of equals the later is kept, but never far below the highest.
    scripted(monkeypatch, 0.57, 0.59, 0.585, 0.575)
    events = run(folder, tiny_plan(14, validation_every=2), resume=True)
    assert [one.best.iteration for one in saves(events)] == [4, 10, 12, 12]
    # On other images nothing can be compared.
    scripted(monkeypatch, 0.1)
    other = dataclasses.replace(tiny_plan(16, validation_every=20), data={"source": "elsewhere"})
    assert saves(run(folder, other, resume=True))[0].best == (16, {"AP50": 1.0, "AP50-90": 0.1}, [0.1] * 4)


def test_what_was_tuned_at_the_end_can_be_compared_after_a_resume(tmp_path, tiny_plan, run, monkeypatch):
    folder = tmp_path / "model"
    tuned = ClusterSettings(min_size=11)
    monkeypatch.setattr(session, "tune", lambda embeddings, labels, settings, stop: tuned)
    scripted(monkeypatch, 0.6, 0.7)
    run(folder, tiny_plan(2))
    stored = json.loads((folder / "instseg.json").read_text())
    assert stored["clustering"] == tuned.to_dict() != stored["validated_with"]
    # The first is found with the settings before tuning, as those of the first training were.
    scripted(monkeypatch, 0.3, 0.3, 0.8)
    events = run(folder, tiny_plan(6, validation_every=2), resume=True)
    assert [one.best.iteration for one in saves(events)] == [2, 2]


def test_the_best_state_is_what_predicts(tmp_path, tiny_plan, tiny_discs, run, monkeypatch):
    scripted(monkeypatch, 0.9, 0.1)
    run(tmp_path / "best", tiny_plan(30, validation_every=20))
    scripted(monkeypatch, 0.1, 0.9)
    run(tmp_path / "last", tiny_plan(30, validation_every=20))
    scripted(monkeypatch, 0.9)
    run(tmp_path / "half", tiny_plan(30, validation_every=20), stop=iter([False] * 19 + [True]).__next__)
    image, _ = disc_image(tiny_discs)
    best, last, half = (load(tmp_path / name).embed(image).embeddings for name in ("best", "last", "half"))
    np.testing.assert_array_equal(best, half)
    assert np.abs(best - last).max() > 0.01


# Precision


def test_both_precisions_learn_and_leave_float32_weights(tmp_path, tiny_plan, run):
    for precision in ("float32", "bfloat16"):
        folder = tmp_path / precision
        totals = [one["loss"] for one in losses(run(folder, tiny_plan(40, precision=precision)))]
        assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])
        assert {value.dtype for value in weights(folder).values()} <= {np.dtype(np.float32), np.dtype(np.int64)}
        assert json.loads((folder / "instseg.json").read_text())["precision"] == precision
    assert losses(run(folder, tiny_plan(42, precision="float32"), resume=True))[-1]["loss"] < np.mean(totals[:5])


# What goes wrong


class Poisoned:
    """Batches whose images are not a number from the third on."""

    def __init__(self, patches):
        self.patches = patches

    def batch(self, number):
        images, labels, _ = self.patches.batch(number)
        return Batch(images * np.float32(np.nan), labels) if number >= 2 else Batch(images, labels)


def test_a_loss_that_is_no_number_ends_it_and_keeps_the_last_model(tmp_path, tiny_plan, tiny_discs):
    plan = tiny_plan(10, validation_every=2)
    data = disc_data(plan.train, tiny_discs)
    poisoned = dataclasses.replace(data, patches=Poisoned(data.patches))
    events = []
    keeps = "model keeps the last model saved before; lower `learning_rate`"
    with pytest.raises(InstsegError, match=f"the loss became nan at iteration 3; .*{keeps}"):
        for event in iter_training(tmp_path / "model", plan, poisoned):
            events.append(event)
    assert [type(event) for event in events] == [StepDone, StepDone, PhaseStarted, CheckpointSaved]
    assert read_training(tmp_path / "model")[1] == 2
    assert np.isfinite(load(tmp_path / "model").embed(disc_image(tiny_discs)[0]).embeddings).all()
    assert all(np.isfinite(value).all() for value in weights(tmp_path / "model").values())
    with pytest.raises(InstsegError, match="at iteration 3; .*none holds no model yet; lower `learning_rate`"):
        list(iter_training(tmp_path / "none", tiny_plan(10), poisoned))


def test_a_loss_that_is_no_number_is_found_when_losses_are_read_later(tmp_path, tiny_plan, tiny_discs):
    plan = tiny_plan(12, validation_every=9)
    data = disc_data(plan.train, tiny_discs)
    events = []
    with pytest.raises(InstsegError, match="the loss became nan at iteration 3; .*model holds no model yet"):
        poisoned = dataclasses.replace(data, patches=Poisoned(data.patches))
        for event in iter_training(tmp_path / "model", plan, poisoned, steps_per_read=5):
            events.append(event)
    assert [event.iteration for event in events] == [1, 2]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut off"])
def test_a_damaged_checkpoint_is_told(copied, tiny_plan, run, damage):
    for file in (copied / "current" / "checkpoint").iterdir():
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(b"" if damage == "empty" else file.read_bytes()[:100])
    with pytest.raises(InstsegError, match="is damaged"):
        run(copied, tiny_plan(61), resume=True)


def test_a_checkpoint_of_another_network_is_told(copied, tiny_plan, run):
    with pytest.raises(InstsegError, match="is damaged"):
        run(copied, tiny_plan(61, channels=3), resume=True)


def test_resuming_nothing_is_told(tmp_path, tiny_plan, run):
    with pytest.raises(InstsegError, match="holds no instseg model"):
        run(tmp_path / "model", tiny_plan(1), resume=True)


@pytest.mark.parametrize("damage", ["settings", "model settings", "saved_model.pb", "variables"])
def test_a_damaged_model_is_told(copied, damage):
    generation = copied / "current"
    if damage == "settings":
        (generation / "instseg.json").write_text(json.dumps({"format": FORMAT}))
    if damage == "model settings":
        text = (generation / "instseg.json").read_text()
        (generation / "instseg.json").write_text(text.replace('"embeddings": 4', '"embeddings": "four"'))
    if damage == "saved_model.pb":
        (generation / "saved_model.pb").write_bytes(b"nothing")
    if damage == "variables":
        shutil.rmtree(generation / "variables")
    with pytest.raises(InstsegError, match="is damaged"):
        load(copied)


# The SavedModel is written by then, the folder for the checkpoint is not.
KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
from instseg.network.runtime import load_tensorflow
load_tensorflow()
from instseg.data.datasets import disc_data
from instseg.models.config import read_training
from instseg.settings import DiscSettings
from instseg.training.loop import iter_training

def kill(event, arguments):
    if event == "os.mkdir" and str(arguments[0]).endswith("checkpoint"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
folder = Path(sys.argv[1])
plan, done, _ = read_training(folder)
plan = dataclasses.replace(plan, train=dataclasses.replace(plan.train, iterations=done + 1))
list(iter_training(folder, plan, disc_data(plan.train, DiscSettings(size=64)), resume=True))
"""


def test_a_training_killed_while_it_saves_leaves_the_model_before(
    tiny_model, copied, tiny_plan, run, tiny_discs, tmp_path
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(copied)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    # Sources of AutoGraph, which only processes that end by themselves remove.
    assert not list(temporary.iterdir())
    partial = copied / "generations" / "000002.partial"
    assert (partial / "saved_model.pb").is_file()
    assert read_training(copied) == read_training(tiny_model)
    assert_same_weights(copied, tiny_model)
    image, _ = disc_image(tiny_discs)
    np.testing.assert_array_equal(load(copied).predict(image), load(tiny_model).predict(image))
    assert sorted(tf.saved_model.load(str(copied)).signatures) == ["serving_default", "with_percentiles"]
    run(copied, tiny_plan(61), resume=True)
    assert read_training(copied)[1] == 61
    assert sorted(path.name for path in (copied / "generations").iterdir()) == ["000001", "000002"]


# Prediction


def test_the_tiny_model_finds_discs(tiny_model, tiny_discs):
    model = instseg.load(tiny_model)
    image, _ = disc_image(tiny_discs)
    found = model.predict(image)
    assert found.shape == (64, 64)
    assert found.dtype == np.int32
    assert set(np.unique(found)) == set(range(found.max() + 1))
    images = [disc_image(tiny_discs, seed) for seed in range(4)]
    assert np.mean([score(labels, model.predict(image), (0.5,)).ap[0] for image, labels in images]) > 0.5


def test_validation_scores_are_those_of_predictions(tiny_model, tiny_discs, tiny_plan):
    model = load(str(tiny_model))
    samples = disc_data(tiny_plan(1).train, tiny_discs).validation
    at = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]
    expected = np.array([score(one.labels, model.predict(one.image), at).ap for one in samples])
    means = expected.mean(axis=0)
    found = validate(model, ValidationImages(samples))
    assert found.scores == pytest.approx({"AP50": means[0], "AP75": means[5], "AP50-90": means.mean()})
    assert found.image_scores == pytest.approx(expected.mean(axis=1))


def test_channels_are_chosen_once_for_validation_as_for_prediction(tmp_path, tiny_plan, tiny_discs, monkeypatch):
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    image, labels = disc_image(tiny_discs), np.eye(64, dtype=np.int32)
    pixels = (image[0] >> 8).astype(np.uint8)
    raw = np.stack([pixels, pixels[::-1], pixels * 0], axis=-1)
    for number in range(2):
        write_picture(tmp_path / f"data/images/{number}.png", raw)
        write_labels(tmp_path / f"data/labels/{number}.png", labels)
    seen = []

    def keep(model, images, *, calibrate):
        seen.append(model.embed(images[0].image).foreground)
        return Validation({"AP50-90": 0.5}, [])

    monkeypatch.setattr(session, "validate", keep)
    plan = tiny_plan(2, channels=2)
    plan = dataclasses.replace(plan, model=dataclasses.replace(plan.model, channel_choice="2,1"))
    list(iter_training(tmp_path / "model", plan, folder_data(tmp_path / "data", plan.train, channels="2,1")))
    loaded = load(tmp_path / "model", precision="float32")
    np.testing.assert_allclose(loaded.embed(raw).foreground, seen[0], rtol=1e-5, atol=1e-6)
    assert np.abs(loaded.embed(raw, channels="1,2").foreground - seen[0]).max() > 1e-4


def test_settings_come_back(tiny_model, tiny_plan):
    model = load(tiny_model)
    assert model.settings == tiny_plan(60).model
    assert model.clustering == ClusterSettings()
    assert model.embed(np.eye(8)).settings == model.clustering


def test_types_and_shapes_of_the_same_image_give_the_same_labels(tiny_model, tiny_discs):
    model = load(tiny_model)
    image = (disc_image(tiny_discs)[0] >> 8).astype(np.uint8)
    expected = model.predict(image)
    assert expected.max() >= 2
    same = [
        image[..., None],
        image.astype(np.uint16) * 257,
        image.astype(np.float32),
        image.astype(np.float32)[..., None] / 255,
        image.astype(np.float64),
        image.astype(np.int32) - 100,
        np.asfortranarray(image),
    ]
    for other in same:
        np.testing.assert_array_equal(model.predict(other), expected)


def test_a_mask_is_an_image_too(tiny_model, tiny_discs):
    mask = disc_image(tiny_discs)[1] > 0
    np.testing.assert_array_equal(load(tiny_model).predict(mask), load(tiny_model).predict(mask.astype(np.uint8)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (17, 33)])
def test_images_of_any_size_are_predicted(tiny_model, shape):
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    labels = load(tiny_model).predict(image)
    assert labels.shape == shape
    assert labels.dtype == np.int32


def test_a_constant_image_is_predicted(tiny_model):
    assert load(tiny_model).predict(np.full((20, 20), 7, np.uint8)).shape == (20, 20)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((4, 5, 2)), InstsegError, "the image has 2 channels, the model takes 1 channel"),
        (np.zeros((2, 4, 5, 1)), UsageError, r"shape \(2, 4, 5, 1\), expected \(H, W\) or \(H, W, C\)"),
        (np.zeros(4), UsageError, r"shape \(4,\)"),
        (np.zeros((0, 4)), UsageError, r"shape \(0, 4"),
        (np.array([[1, np.nan]]), UsageError, "NaN"),
        (np.array([[1, np.inf]], np.float32), UsageError, "NaN or infinite"),
        (np.array([["a", "b"]]), UsageError, "expected numbers"),
        (np.array([[1j]]), UsageError, "expected numbers"),
    ],
)
def test_images_that_do_not_fit_are_told(tiny_model, image, error, message):
    with pytest.raises(InstsegError, match=message) as caught:
        load(tiny_model).predict(image)
    assert type(caught.value) is error


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_what_was_turned_comes_back(quarters, flip):
    """Positions point back to the pixel that they belong to."""
    rows, columns = np.indices((5, 7), np.float32)
    image = np.stack([rows, columns], axis=-1)
    there = flip_rot90(image, quarters, flip)
    own = np.stack(np.indices(there.shape[:2], np.float32), axis=-1)
    maps = {"embeddings": np.concatenate([own, there], axis=-1), "foreground": there[..., 0]}
    back = undo_flip_rot90(maps, quarters, flip, positions=True)
    np.testing.assert_array_equal(back["foreground"], rows)
    np.testing.assert_array_equal(back["embeddings"], np.concatenate([image, image], axis=-1))
    free = undo_flip_rot90(maps, quarters, flip, positions=False)
    np.testing.assert_array_equal(free["embeddings"][..., 2:], image)


def test_test_time_augmentation_does_not_depend_on_how_the_image_lies(tiny_model, tiny_discs):
    model, (image, _) = load(tiny_model), disc_image(tiny_discs)
    maps = model.embed(image[:, :48], tta=True)
    assert maps.embeddings.shape == (64, 48, 4)
    lying = model.embed(np.rot90(image[:, :48])[:, ::-1], tta=True)
    for name in ("foreground", "seeds", "bandwidth"):
        np.testing.assert_allclose(
            np.rot90(getattr(lying, name)[:, ::-1], -1), getattr(maps, name), rtol=1e-3, atol=1e-4, err_msg=name
        )


def test_a_diameter_magnifies_the_image_for_the_network(tiny_model, tiny_discs):
    model = load(tiny_model)
    image, _ = disc_image(tiny_discs)
    large = np.kron(image, np.ones((3, 3), image.dtype))
    found = model.predict(large, diameter=57)
    assert found.shape == (192, 192)
    expected = np.kron(model.predict(image), np.ones((3, 3), np.int32))
    assert score(expected, found, (0.5,)).f1[0] > 0.6
    assert score(expected, model.predict(large), (0.5,)).f1[0] < 0.4
    expected = np.kron(model.predict(image, tta=True), np.ones((3, 3), np.int32))
    assert score(expected, model.predict(large, diameter=57, tta=True), (0.5,)).f1[0] > 0.6
    np.testing.assert_array_equal(model.predict(image, diameter=19), model.predict(image))
    with pytest.raises(UsageError, match="^diameter is 0, expected"):
        model.predict(image, diameter=0)


def test_other_clustering_settings_can_be_asked_for(tiny_model, tiny_discs):
    model = load(tiny_model)
    image, _ = disc_image(tiny_discs)
    assert model.predict(image, ClusterSettings(min_size=64 * 64)).max() == 0
    assert model.predict(image).max() > 0


# The other loss, colour, and what is in memory against what is on disc.


def test_the_metric_loss_trains_on_colour_and_the_loaded_model_is_the_one_in_memory(
    tmp_path, tiny_plan, tiny_discs, monkeypatch
):
    in_memory = []

    def keep(model, images, *, calibrate):
        in_memory.append(model)
        return Validation({"AP50-90": 0.5}, [])

    monkeypatch.setattr(session, "validate", keep)
    plan = tiny_plan(30, loss="metric", channels=3)
    gray = disc_data(plan.train, tiny_discs)

    class Coloured:
        def batch(self, number):
            images, labels, _ = gray.patches.batch(number)
            return Batch(np.repeat(images, 3, axis=-1), labels)

    data = TrainingData(
        patches=Coloured(), validation=[], channels=3, diameters=Diameters(10.0, 19.0, 30.0), scale=1.0, description={}
    )
    events = list(iter_training(tmp_path / "model", plan, data))
    totals = [one["loss"] for one in losses(events)]
    assert list(losses(events)[0]) == ["loss", "embedding", "semantic"]
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])
    image = np.stack([disc_image(tiny_discs)[0]] * 3, axis=-1)[:61, :47]
    loaded = load(tmp_path / "model", precision="float32")
    one, other = loaded.embed(image), in_memory[0].embed(image)
    np.testing.assert_allclose(one.embeddings, other.embeddings, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one.foreground, other.foreground, rtol=1e-5, atol=1e-5)
    assert one.seeds is None
    assert one.bandwidth is None
    labels = loaded.predict(image)
    assert labels.shape == (61, 47)
    np.testing.assert_array_equal(labels, in_memory[0].predict(image))
    np.testing.assert_array_equal(loaded.predict(image[..., 0]), labels)
    with pytest.raises(InstsegError, match="the image has 2 channels, the model takes 3 channels"):
        loaded.predict(image[..., :2])


def test_the_clustering_fits_the_loss_and_the_size_of_objects():
    discs = ModelSettings(diameter=20.0)
    # 7 % of a disc of 20 pixels' diameter: 0.07 * pi * 10^2; and 35 % of the diameter.
    assert objective_of(discs).default_clustering(MetricLossSettings()) == ClusterSettings(
        min_size=22, seed_window=7, seed_threshold=0.4
    )
    plain = ModelSettings(diameter=20.0, loss="metric")
    expected = ClusterSettings(min_size=22, bandwidth=0.0625, position_weight=0.00781)
    assert objective_of(plain).default_clustering(MetricLossSettings()) == expected
    # Without a push margin nothing says how far instances reach: it is measured on the embeddings.
    assert objective_of(plain).default_clustering(MetricLossSettings(push_margin=0.0)).bandwidth is None
    assert objective_of(ModelSettings(diameter=1.0)).default_clustering(MetricLossSettings()) == ClusterSettings(
        min_size=1, seed_threshold=0.4
    )
    assert objective_of(ModelSettings(diameter=12.0)).default_clustering(MetricLossSettings()).seed_window == 5
