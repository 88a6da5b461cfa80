"""Whatever one image raises becomes an error of one line, which can be kept and sent to other processes."""

import errno
import logging
import pickle
import weakref

import numpy as np
import pytest

from instseg.errors import InstsegError, UsageError
from instseg.inference.failures import UnexpectedError, as_instseg_error, has_no_room, without_frames


def caught(error):
    try:
        raise error
    except Exception as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TypeError("no\nnumber"), "unexpected TypeError: no number; please report it"),
        (ValueError("x" * 400), f"unexpected ValueError: {'x' * 288}...; please report it"),
        (RecursionError("maximum depth"), "unexpected RecursionError: maximum depth; please report it"),
        (OSError(5, "Input/output error"), "unexpected OSError: [Errno 5] Input/output error; please report it"),
        (OSError(13, "Permission denied", "a.png"), "cannot use a.png: Permission denied; check the name and the"),
        (MemoryError(), "there is not enough memory for this image; give less by `memory` or `tile`"),
        (StopIteration(), "unexpected StopIteration:; please report it"),
    ],
)
def test_whatever_is_raised_becomes_a_line(error, message):
    found = as_instseg_error(caught(error))
    assert str(found).startswith(message)
    assert "\n" not in str(found)
    assert found.__cause__ is error


def test_mistakes_of_the_user_stay_as_they_are():
    error = UsageError("tile is 0", parameter="tile")
    assert as_instseg_error(error) is error


def test_the_traceback_is_kept_and_logged(caplog):
    with caplog.at_level(logging.DEBUG, "instseg"):
        found = as_instseg_error(caught(TypeError("of a library")))
    assert "TypeError: of a library" in caplog.text
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, UnexpectedError)
    assert (str(again), again.details) == (str(found), found.details)
    assert "in caught" in again.details


def test_an_error_that_is_kept_holds_no_image():
    def fail():
        image = np.zeros(3)
        held.append(weakref.ref(image))
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise InstsegError("outer") from inner

    held = []
    try:
        fail()
    except InstsegError as error:
        kept = without_frames(error)
    assert held[0]() is None
    assert isinstance(kept.__cause__, KeyError)


def test_a_full_disc_is_recognised_behind_the_error():
    def written(code):
        try:
            raise InstsegError("cannot write a.png") from OSError(code, "...")
        except InstsegError as error:
            return error

    assert has_no_room(written(errno.ENOSPC))
    assert has_no_room(written(errno.EDQUOT))
    assert not has_no_room(written(errno.EACCES))
    assert not has_no_room(InstsegError("no such thing"))
