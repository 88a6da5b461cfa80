"""Signals that end the process: what is being written is removed, a training is asked to save, `nohup` is respected."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instseg.cli.signals import stop_on_signals

ENDING = [signal.SIGTERM, signal.SIGHUP]

WRITING = """
import os, signal, sys
from pathlib import Path
from instseg.cli import signals
from instseg.io.atomic import atomic_write

first, again = (int(number) for number in sys.argv[1:])
signals.exit_in_order()
try:
    with atomic_write(Path("a.txt")) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), first)
        print("went on")
finally:
    if again:
        os.kill(os.getpid(), again)
        print("went on")
"""


def ended(*numbers, prefix=()):
    command = [*prefix, sys.executable, "-c", WRITING, *(str(int(number)) for number in numbers)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    return run.returncode, run.stdout


@pytest.mark.parametrize("number", ENDING)
def test_what_was_being_written_is_removed(number):
    assert ended(number, 0) == (128 + number, "")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("number", ENDING)
def test_a_second_one_ends_the_process_at_once_unless_it_says_that_the_terminal_went(number):
    assert ended(number, signal.SIGTERM) == (-signal.SIGTERM, "")
    # A shell and the system both say so.
    assert ended(number, signal.SIGHUP) == (128 + number, "went on\n")


SWALLOWED = """
import os, sys, threading
from instseg.cli import signals

class Ended:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        sum(range(1000))

signals.exit_in_order()
Ended()
print("went on", flush=True)
threading.Event().wait(60)
print("was not asked again")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_one_that_a_finalizer_has_swallowed_comes_again(number):
    # As a shell that runs the tests in the background has its children ignore Ctrl-C.
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{SWALLOWED}"
    done = subprocess.run([sys.executable, "-c", code, str(int(number))], capture_output=True, text=True)
    assert done.stdout == "went on\n"
    if number == signal.SIGINT:
        assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
        assert "Exception ignored" not in done.stderr
    else:
        assert (done.returncode, done.stderr) == (128 + number, "")


def test_nohup_is_respected():
    assert ended(signal.SIGHUP, 0, prefix=["nohup"]) == (0, "went on\n")
    assert Path("a.txt").read_text() == "half"


def test_a_command_that_is_ended_leaves_no_half_files(start, finish):
    started = start("data", "generate", "--count", 9_999)
    while not list(Path().glob("discs/images/[0-9]*.png")):
        assert started.poll() is None
    started.send_signal(signal.SIGHUP)
    assert finish(started)[:2] == (129, "")
    assert not [path for path in Path().rglob("*") if path.name.startswith(".")]


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr("instseg.cli.terminal.print_note", lines.append)
    return lines


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_the_first_signal_asks_and_the_handlers_are_put_back(number, said):
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
    assert said == [
        f"{number.name}: saving after this iteration"
        + ("" if number == signal.SIGHUP else "; once more ends at once, unsaved")
    ]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_work(number, said):
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), number)


def test_a_terminal_that_goes_is_told_twice_and_ends_nothing_at_once(said):
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop()
    assert len(said) == 1


def test_a_line_that_is_being_written_does_not_keep_the_signal_away(monkeypatch):
    def reentrant(message):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr("instseg.cli.terminal.print_note", reentrant)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()


def test_nohup_is_respected_while_a_training_could_save(said):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said == []


def test_the_note_waits_where_the_signal_has_interrupted_a_line(monkeypatch):
    printed = []

    def interrupted(message):
        raise RuntimeError("reentrant call")

    with stop_on_signals() as stop:
        monkeypatch.setattr("instseg.cli.terminal.print_note", interrupted)
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr("instseg.cli.terminal.print_note", printed.append)
        assert stop()
        assert stop()
    assert printed == ["SIGINT: saving after this iteration; once more ends at once, unsaved"]
