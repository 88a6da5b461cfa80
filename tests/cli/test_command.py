"""Errors of all kinds become one line and an exit code."""

import errno

import pytest

from instseg.errors import InstsegError

REPORT = "; please report it, with what INSTSEG_TRACEBACK=1 shows"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InstsegError("it is\n  too small; take another"), "it is too small; take another"),
        (MemoryError(), "there is not enough memory for this; use smaller images, or fewer at a time"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "the system refused something: No space left on device; check the space on discs and the permissions",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", b"a\x1b\xff"),
            r"cannot use a\x1b\udcff: Permission denied; check the name and the permissions",
        ),
        (OSError("what a library says"), f"unexpected OSError: what a library says{REPORT}"),
        (RecursionError("too deep"), f"unexpected RecursionError: too deep{REPORT}"),
        (KeyError(), f"unexpected KeyError: -{REPORT}"),
        (ValueError("x\n" * 1000), f"unexpected ValueError: {'x ' * 150}...{REPORT}"),
    ],
)
def test_an_error_is_one_line(run, refused, monkeypatch, make_npz, error, message):
    def fail(path):
        raise error

    monkeypatch.delenv("INSTSEG_TRACEBACK")
    monkeypatch.setattr("instseg.io.npz.read_embeddings", fail)
    assert refused(run("cluster", make_npz())) == message


def test_the_traceback_is_there_on_demand(run, monkeypatch, make_npz):
    def fail(path):
        raise KeyError("fault")

    monkeypatch.setenv("INSTSEG_TRACEBACK", "1")
    monkeypatch.setattr("instseg.io.npz.read_embeddings", fail)
    with pytest.raises(KeyError, match="fault"):
        run("cluster", make_npz())
