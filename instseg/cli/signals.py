"""Signals that end the process: what is being written is removed first, and a training saves."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from instseg.cli import terminal

# SIGHUP comes when the terminal goes; Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)


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
