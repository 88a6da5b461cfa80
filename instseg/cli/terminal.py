"""What the commands have in common towards the terminal: results on stdout, everything else on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import typer

from instseg.errors import UsageError


class Counter(Protocol):
    """What `counting` gives."""

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """Take how many of how many are done, and what else is to be shown."""


# Anything shorter needs no progress bar.
_SHORT = 1.0
_MOST_THREADS = 1024


def complain(message: str) -> None:
    """Write one line to stderr."""
    typer.echo("instseg: " + " ".join(message.split()), err=True)


def note(message: str) -> None:
    """Tell the user something on stderr that is no result."""
    typer.echo(message, err=True)


def require_threads(threads: int | None) -> None:
    """See that a number of threads is one that TensorFlow can be told."""
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise UsageError(f"--threads is {threads}, expected a number above 0 and up to {_MOST_THREADS}")


@contextmanager
def counting(description: str) -> Iterator[Counter]:
    """Give a function that is told how many of how many are done, and show a bar once it takes longer than a second.

    Off a terminal nothing is shown: a count that ends within a command's own lines needs none.
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, visible=False, detail="")

        def count(done: int, total: int, detail: str = "") -> None:
            late = time.perf_counter() - start > _SHORT
            progress.update(task, completed=done, total=total, visible=late, detail=detail)

        yield count


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Show a spinner while something without steps goes on, such as loading TensorFlow."""
    import os

    from rich.console import Console

    if not sys.stderr.isatty():
        yield
        return
    # A descriptor of its own: TensorFlow's start-up noise is held back by redirecting the ordinary one.
    with os.fdopen(os.dup(2), "w") as own, Console(file=own, force_terminal=True).status(description):
        yield
