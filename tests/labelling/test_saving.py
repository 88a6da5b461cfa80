import threading

import pytest

from instseg.errors import InstsegError
from instseg.labelling.label_files import ChangedMeanwhileError
from instseg.labelling.saving import Saver


def test_images_are_saved_once_for_all_changes_until_then():
    begun, go_on, saved = threading.Event(), threading.Event(), []

    def save(index):
        begun.set()
        go_on.wait()
        saved.append(index)

    saver = Saver(save)
    saver.queue(3)
    begun.wait()
    for _ in range(5):
        saver.queue(4)
    assert saver.is_waiting(3)
    assert saver.is_waiting(4)
    go_on.set()
    assert saver.flush()
    assert saved == [3, 4]
    assert not saver.is_waiting(4)
    saver.close()


@pytest.mark.parametrize(
    "problem", [InstsegError("the disc is full"), OSError(28, "the disc is full"), ValueError("the disc is full")]
)
def test_what_cannot_be_saved_is_said_and_tried_again(problem):
    full, saved = [True], []

    def save(index):
        if full[0]:
            raise problem
        saved.append(index)

    saver = Saver(save)
    saver.queue(0)
    assert not saver.flush()
    assert "the disc is full" in saver.error
    assert saver.is_waiting(0)
    full[0] = False
    assert saver.flush()
    assert saver.error is None
    assert saved == [0]
    saver.close()


def test_what_changes_meanwhile_is_saved_again(monkeypatch):
    monkeypatch.setattr("instseg.labelling.saving._MEANWHILE", 0.01)
    attempts = []

    def save(index):
        attempts.append(index)
        if len(attempts) < 3:
            raise ChangedMeanwhileError

    saver = Saver(save)
    saver.queue(0)
    assert saver.flush()
    assert attempts == [0, 0, 0]
    assert saver.error is None
    saver.close()


def test_closing_saves_what_is_left():
    saved = []
    saver = Saver(saved.append)
    for index in range(5):
        saver.queue(index)
    saver.close()
    assert saved == [0, 1, 2, 3, 4]
