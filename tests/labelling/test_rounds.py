"""Rounds of training: what becomes of the model, of a process that fails or is stopped, and how rounds are compared."""

import json
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from instseg.errors import InstsegError, UsageError
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.labelling import round_process
from instseg.labelling.round_model import recover
from instseg.labelling.rounds import Rounds
from instseg.models.builtin import find_model

TRUTH = np.zeros((20, 20), np.int32)
TRUTH[2:8, 2:8], TRUTH[10:16, 10:16] = 1, 2
ONE = np.where(TRUTH == 1, 1, 0)

# In place of a training: what it is given is in `order`, `copy(model)` makes what it trains, `tell` is an event, and
# `wait()` returns when it is asked to stop or nobody is there any more.
PREAMBLE = """
import json, os, shutil, sys
order = json.loads(sys.stdin.readline())
def tell(**event): print(json.dumps(event), flush=True)
def copy(model): shutil.copytree(model, order["target"], symlinks=True)
def wait(): sys.stdin.readline()
"""
ENDED = {"event": "ended", "finished": True, "iterations": 9, "seconds": 1.0, "ap": 0.5, "aside": True, "before": None}


class Session:
    """A folder with rounds whose process is a few lines of Python."""

    def __init__(self, folder, begin, monkeypatch):
        self.folder, self.begin, self._monkeypatch = folder, begin, monkeypatch
        self._changed = threading.Semaphore(0)
        self.rounds = self.open()

    def open(self):
        return Rounds(self.folder, self.begin, self._changed.release)

    def script(self, text):
        self._monkeypatch.setattr(round_process, "COMMAND", (sys.executable, "-c", PREAMBLE + text))

    def run(self, text, minutes=1.0):
        self.script(text)
        self.rounds.start(minutes)
        return self.wait()

    def wait(self):
        assert self._changed.acquire(timeout=60)
        return self.rounds.status()


def label(folder, *names):
    for name in names:
        write_picture(folder / f"{name}.png", np.full((20, 20), 90, np.uint8))
        write_labels(folder / "labels" / f"{name}.png", TRUTH)


@pytest.fixture
def session(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    (folder / "labels").mkdir(parents=True)
    (folder / ".labelling").mkdir()
    label(folder, "a", "b")
    return Session(folder, find_model(Path("shapes")), monkeypatch)


def good(model, **ended):
    return f"copy({str(model)!r})\ntell(**{ENDED | ended!r})"


def test_before_the_first_round_the_model_is_that_of_the_beginning(session):
    assert (session.rounds.number, session.rounds.model) == (0, session.begin)
    assert session.rounds.status() is None
    assert session.rounds.summary() == []


def test_a_round_that_ends_well_puts_its_model_in_place(session):
    steps = "tell(event='step', iteration=3, loss=0.5, progress=0.25)\ntell(event='validated', iteration=3, ap=0.4)\n"
    status = session.run(steps + good(session.begin), minutes=2)
    assert (status["state"], status["done"], status["message"]) == ("done", True, None)
    assert (status["round"], status["images"], status["of"], status["share"]) == (1, 2, 120, 0.25)
    assert (status["curve"], status["measure"]) == ([[3, 0.5]], "loss")
    assert (session.rounds.number, session.rounds.model) == (1, session.folder / "model")
    assert (session.folder / "model" / "instseg.json").is_file()
    assert not (session.folder / ".labelling" / "training").exists()
    (round_,) = session.rounds.summary()
    assert (round_["round"], round_["images"], round_["minutes"]) == (1, 2, 2)
    assert (round_["state"], round_["validation"], round_["ap_after"]) == ("done", 0.5, None)


def test_of_images_that_were_learnt_from_no_ap_is_told(session):
    session.run(good(session.begin, aside=False))
    (round_,) = session.rounds.summary()
    assert (round_["state"], round_["validation"]) == ("done", None)


def test_the_training_is_told_what_to_do_and_each_round_begins_with_the_same_model(session):
    keep = f"open({str(session.folder / 'order')!r}, 'w').write(json.dumps(order))\n"
    for number in (1, 2):
        session.run(keep + good(session.begin))
        order = json.loads((session.folder / "order").read_text())
        assert order["begin"] == str(session.begin)
        assert order["before"] == str(session.begin if number == 1 else session.folder / "model")
        assert order["settings"] == {"minutes": 1.0, "seed": number, "channels": None}
    assert session.rounds.number == 2
    assert (session.folder / ".labelling" / "model-before" / "instseg.json").is_file()


def test_gray_and_colour_images_are_learnt_together(session):
    write_picture(session.folder / "b.png", np.zeros((20, 20, 3), np.uint8))
    kept = session.folder / "order"
    session.run(f"open({str(kept)!r}, 'w').write(json.dumps(order))\n" + good(session.begin))
    assert json.loads(kept.read_text())["settings"]["channels"] == "rgb"
    session.rounds.start(1, channels="gray", seed=None)
    session.wait()
    assert json.loads(kept.read_text())["settings"] == {"minutes": 1, "seed": 2, "channels": "gray"}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "os.kill(os.getpid(), 9)",
            "the training was killed, perhaps as memory ran out; the model before stays in use",
        ),
        ("sys.exit(3)", "ended without a result (exit code 3)"),
        ("tell(event='failed', message='no label holds an instance')", "no label holds an instance"),
        ("print('not an event', flush=True)\ntell(event='ended')", "ended without a result (exit code 0)"),
        (f"tell(**{ENDED!r})", "there is no model"),
    ],
)
def test_a_training_that_fails_leaves_the_model_and_says_why(session, script, message):
    session.run(good(session.begin))
    before = (session.folder / "model" / "instseg.json").read_bytes()
    status = session.run(script)
    assert (status["state"], status["done"]) == ("failed", True)
    assert message in status["message"]
    assert (session.rounds.number, session.rounds.model) == (1, session.folder / "model")
    assert (session.folder / "model" / "instseg.json").read_bytes() == before
    assert session.rounds.summary()[-1]["message"] == status["message"]
    assert session.run(good(session.begin))["state"] == "done"
    assert session.rounds.number == 3


@pytest.mark.parametrize(
    ("ap", "before", "taken"), [(0.6, 0.5, True), (0.5, 0.5, True), (0.4, 0.5, False), (None, None, False)]
)
def test_what_a_stopped_round_learnt_is_kept_if_it_is_better(session, ap, before, taken):
    session.script(
        "tell(event='phase', phase='training')\nwait()\n" + good(session.begin, finished=False, ap=ap, before=before)
    )
    session.rounds.start(1)
    assert session.rounds.running
    with pytest.raises(InstsegError, match="a round of training is going on"):
        session.rounds.start(1)
    session.rounds.stop()
    status = session.wait()
    assert (status["state"], session.rounds.number) == ("stopped", int(taken))
    assert (status["message"] is None) == taken
    assert not session.rounds.running


def test_closing_ends_a_process_that_does_not_listen(session, monkeypatch):
    monkeypatch.setattr(round_process, "_PATIENCE", 0.2)
    session.script("import time\nwhile True: time.sleep(1)")
    session.rounds.start(1)
    session.rounds.close()
    assert session.rounds.status()["state"] == "failed"
    session.rounds.close()


def test_what_cannot_be_begun(session):
    with pytest.raises(UsageError, match="minutes is 0, expected above 0"):
        session.rounds.start(0)
    with pytest.raises(UsageError, match="at most 1440"):
        session.rounds.start(1e9)
    (session.folder / "model").mkdir()
    with pytest.raises(InstsegError, match="is of no round of training; rename it"):
        session.rounds.start(1)
    (session.folder / "model").rmdir()
    shutil.rmtree(session.folder / "labels")
    (session.folder / "labels").mkdir()
    with pytest.raises(InstsegError):
        session.rounds.start(1)
    assert not session.rounds.running


def test_a_crash_between_two_renamings_costs_nothing(session):
    session.run(good(session.begin))
    session.run(good(session.begin))
    shutil.rmtree(session.folder / "model")
    recover(session.folder)
    assert (session.folder / "model" / "instseg.json").is_file()
    recover(session.folder)
    assert (session.folder / "model" / "instseg.json").is_file()


def test_images_count_for_the_model_that_had_not_learnt_from_them(session):
    rounds = session.rounds
    rounds.record("c", TRUTH, ONE)
    session.run(good(session.begin))
    rounds.record("a", TRUTH, TRUTH)
    rounds.record("d", TRUTH, TRUTH, before=ONE)
    rounds.record("e", TRUTH, ONE)
    rounds.record("e", TRUTH, TRUTH)
    assert (rounds.ap("c"), rounds.ap("d"), rounds.ap("e"), rounds.ap("a")) == (0.5, 1.0, 0.5, None)
    first, second = rounds.summary()
    assert (first["round"], first["state"], first["ap_after"], first["gained"]) == (0, "begin", 0.5, None)
    assert (second["ap_after"], second["scored_on"], second["ap_before"], second["gained"]) == (0.75, 2, 0.5, 0.5)


def test_an_image_that_any_round_has_learnt_from_does_not_count(session):
    session.run(good(session.begin))
    (session.folder / "labels" / "a.png").unlink()
    session.run(good(session.begin))
    session.rounds.record("a", TRUTH, TRUTH, before=TRUTH)
    session.rounds.record("z", TRUTH, ONE, before=TRUTH)
    last = session.rounds.summary()[-1]
    assert (last["scored_on"], last["ap_after"], last["ap_before"], last["gained"]) == (1, 0.5, 1.0, -0.5)


def test_pixels_that_nobody_has_labelled_do_not_count(session):
    partly = np.where(np.arange(20)[:, None] >= 9, -1, TRUTH)
    session.rounds.record("c", partly, TRUTH)
    assert session.rounds.ap("c") == 1.0


def test_all_is_known_again_in_the_next_session(session):
    session.rounds.record("c", TRUTH, ONE)
    session.run(good(session.begin))
    session.rounds.record("d", TRUTH, TRUTH, before=ONE)
    again = session.open()
    assert again.summary() == session.rounds.summary()
    assert (again.number, again.model, again.ap("d")) == (1, session.folder / "model", 1.0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"rounds": [{}], "accepted": {}}', '{"rounds": [], "accepted": {"a": 1}}']
)
def test_a_damaged_state_is_named(session, text):
    path = Path(session.folder, ".labelling", "rounds.json")
    path.write_text(text)
    with pytest.raises(InstsegError, match=r"rounds\.json.*remove it to forget the rounds"):
        session.open()
