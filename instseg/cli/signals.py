"""Signals that end the process: what is being written is removed first, and a training saves."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from instseg.cli import terminal

# SIGHUP comes when the terminal goes; Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)
# Seconds after which a signal that a finalizer has swallowed is given once more.
_AGAIN = 0.05


def exit_in_order() -> None:
    """Have SIGTERM and SIGHUP end this process as an error does, by way of every `finally`; the exit code is 128 + N.

    Without that a process vanishes at once, and leaves the files that it was writing. Once more ends it at once, except
    by SIGHUP, which a shell and the system both send when a terminal goes.
    """
    numbers = _ending()

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        for each in numbers:
            signal.signal(each, signal.SIG_IGN if each == _HANGUP else signal.SIG_DFL)
        sys.exit(128 + number)

    for number in numbers:
        signal.signal(number, leave)
    _give_again(numbers, leave)


def _give_again(numbers: list[int], leave: Callable[[int, FrameType | None], None]) -> None:
    """Give a signal once more that came while Python ran a finalizer, of which all exceptions are ignored."""
    report = sys.unraisablehook

    def again(ignored: "sys.UnraisableHookArgs") -> None:
        error, number = ignored.exc_value, None
        if isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
        elif isinstance(error, SystemExit) and isinstance(error.code, int) and error.code - 128 in numbers:
            number = signal.Signals(error.code - 128)
            signal.signal(number, leave)
        if number is None:
            report(ignored)
            return
        # By then the finalizer has ended, and this function with it.
        timer = threading.Timer(_AGAIN, signal.pthread_kill, (threading.main_thread().ident, number))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether a signal has asked the work to save and end.

    The first Ctrl-C, SIGTERM or SIGHUP asks, the second ends the work at once, except for SIGHUP, which a shell and
    the system both send when a terminal goes.
    """
    asked = False
    pending: list[str] = []

    def tell() -> None:
        # A stream that the signal has interrupted in the middle of a line cannot be written to before that line ends.
        with suppress(RuntimeError):
            if pending:
                terminal.print_note(pending[0])
                pending.clear()

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del frame
        if asked and number == _HANGUP:
            return
        if asked:
            raise KeyboardInterrupt
        asked = True
        again = "" if number == _HANGUP else "; once more ends at once, unsaved"
        pending.append(f"{signal.Signals(number).name}: saving after this iteration{again}")
        tell()

    def stop() -> bool:
        tell()
        return asked

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, *_ending())}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending() -> list[int]:
    """Return SIGTERM, and SIGHUP where `nohup` has not turned it off."""
    if _HANGUP is None or signal.getsignal(_HANGUP) is signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, _HANGUP]
