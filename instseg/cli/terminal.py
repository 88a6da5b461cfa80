"""The terminal: results go to stdout, everything else to stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import typer

from instseg.cli.options import terminal_text
from instseg.errors import InstsegError

# Work that takes less time, in seconds, needs no progress bar.
_DELAY = 1.0


class ProgressCallback(Protocol):
    """The function that `progress_bar` gives."""

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """Take how many of how many are done, and a detail to show."""


def print_error(error: str | InstsegError) -> None:
    """Write one line to stderr; parameters become options."""
    typer.echo("instseg: " + " ".join(terminal_text(error).split()), err=True)


def print_note(message: str) -> None:
    """Write what is no result to stderr; parameters become options."""
    typer.echo(terminal_text(message), err=True)


def check_threads(threads: int | None) -> None:
    """Check that TensorFlow can be given a number of threads.

    Raises
    ------
    UsageError
        If it is out of range.
    """
    from instseg.network.runtime import check_threads as check

    check(threads)


@contextmanager
def progress_bar(description: str) -> Iterator[ProgressCallback]:
    """Give a function that takes how many of how many are done, and show a bar once that takes longer than a second.

    Nothing is shown where stderr is no terminal. The bar starts with the first count after that second: a spinner may
    be shown before.
    """
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        yield lambda done, total, detail="": None
        return
    start = time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(description, detail="")

    def count(done: int, total: int, detail: str = "") -> None:
        progress.update(task, completed=done, total=total, detail=detail)
        if time.perf_counter() - start > _DELAY:
            progress.start()

    try:
        yield count
    finally:
        if progress.live.is_started:
            progress.stop()


@contextmanager
def spinner(description: str) -> Iterator[None]:
    """Show a spinner during work without steps, such as loading TensorFlow."""
    import os

    from rich.console import Console

    if not sys.stderr.isatty():
        yield
        return
    # A descriptor of its own: the ordinary one is redirected while TensorFlow loads, to capture what it prints.
    with os.fdopen(os.dup(2), "w") as own, Console(file=own, force_terminal=True).status(description):
        yield
