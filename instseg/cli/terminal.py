"""The terminal: results go to stdout, everything else to stderr, and names of files only as what can be shown."""

import errno
import io
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from instseg.cli.options import terminal_text
from instseg.errors import InstsegError, UsageError, printable
from instseg.io.remote_address import with_addresses

if TYPE_CHECKING:
    from rich.console import Console

# Work that takes less time, in seconds, needs no progress bar.
_DELAY = 1.0
# Columns that a table needs to hold anything.
_MIN_WIDTH = 40


# What paths are shown as.
_SHOWN_AS: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("_SHOWN_AS", default=())


class ProgressCallback(Protocol):
    """The function that `progress_bar` gives."""

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """Take how many of how many are done, and a detail to show."""


class _Descriptor(io.FileIO):
    """A file descriptor whose writing never fails: the work goes on where nobody reads what it says of itself."""

    error: OSError | None = None
    """The first error of writing."""

    def write(self, content: Any, /) -> int:
        """Write, or remember the error and drop what was to be written."""
        try:
            while (written := super().write(content)) is None:
                # Another process has set the pipe not to block.
                select.select([], [self], [])
            return written
        except OSError as error:
            self.error = self.error or error
            return memoryview(content).nbytes


class Streams:
    """stdout and stderr of this process, made such that what goes wrong with them stops no work.

    A descriptor that the shell has closed (`2>&-`) leads to the null device, so that no file of the user takes its
    number and receives what libraries write there. Characters that an encoding lacks are written as escapes.
    """

    def __init__(self) -> None:
        # A closed stdout is one that cannot be written; that nobody reads stderr is no error.
        for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
            try:
                os.fstat(number)
            except OSError:
                # The system gives out the lowest number that is free, which is this one.
                os.set_inheritable(os.open(os.devnull, flags), True)
        self._stdout = _Descriptor(1, "w", closefd=False)
        sys.stdout = _text(self._stdout, sys.stdout)
        sys.stderr = _text(_Descriptor(2, "w", closefd=False), sys.stderr)

    def exit_code(self, code: int) -> int:
        """Return the exit code of a command that ended with `code`: not 0 where its results could not be written.

        Nothing is printed if a reader has gone, such as `head`, which does so when it has enough.
        """
        sys.stdout.flush()
        error = self._stdout.error
        if error is None:
            return code
        if error.errno != errno.EPIPE:
            print_error(f"cannot write to stdout: {error.strerror}; check where it goes and the space there")
        return code or 1


def _text(descriptor: _Descriptor, before: Any) -> io.TextIOWrapper:
    """Return a text stream with the encoding of the one before, if there is one."""
    return io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor.fileno() == 2 or descriptor.isatty(),
    )


@contextmanager
def shown_as(names: Mapping[str, str]) -> Iterator[None]:
    """Show the paths of some files, in lines that a block or whoever reports its error prints, by other names."""
    token = _SHOWN_AS.set(tuple(names.items()))
    try:
        yield
    except InstsegError as error:
        # The error is reported when the names are forgotten.
        kind = UsageError if isinstance(error, UsageError) else InstsegError
        raise kind(_named(str(error)), parameter=error.parameter) from error
    finally:
        _SHOWN_AS.reset(token)


def _named(text: str) -> str:
    for path, name in _SHOWN_AS.get():
        text = text.replace(path, name)
    return with_addresses(text)


def count_text(number: int, noun: str) -> str:
    """Return a number of things in words, such as '1 image' or '3 images'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_result(message: str) -> None:
    """Write a line to stdout."""
    print(printable(_named(message)), flush=True)


def print_json(value: Any) -> None:
    """Write a value to stdout as JSON, in ASCII."""
    # The one control character that JSON does not escape.
    print(json.dumps(value, indent=2).replace("\x7f", "\\u007f"), flush=True)


def print_error(error: str | InstsegError) -> None:
    """Write one line to stderr; parameters become options."""
    print("instseg:", printable(_named(" ".join(terminal_text(error).split()))), file=sys.stderr, flush=True)


def print_note(message: str) -> None:
    """Write what is no result as a line to stderr; parameters become options."""
    print(printable(_named(terminal_text(message))), file=sys.stderr, flush=True)


def print_doubtful(count: int) -> None:
    """Say how many instances a model has left out by itself, if any."""
    if count:
        which = "1 instance that is" if count == 1 else f"{count} instances that are"
        print_note(f"Note: left out {which} probably wrong, as the model's scores say; `min_score` 0 keeps all")


def console(*, stderr: bool = False, **options: Any) -> "Console":
    """Return a console of Rich for tables and bars, which shows texts without the controls and emoji they may hold.

    Names have to be escaped where markup is on, which is Rich's default; `markup=False` turns it off.
    """
    from rich.console import Console
    from rich.text import Text

    class Printable(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str("\n".join(printable(line) for line in text.split("\n")), **options)

    made = Printable(stderr=stderr, emoji=False, **options)
    if made.file is sys.stdout:
        # Rich leaves out what does not fit; a terminal breaks lines that are too long.
        made.width = max(made.width, _MIN_WIDTH)
    return made


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
    if not sys.stderr.isatty():
        yield lambda done, total, detail="": None
        return
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    start = time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        # The name of a file may look like markup.
        TextColumn("{task.fields[detail]}", markup=False),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console(stderr=True), transient=True)
    task = progress.add_task(description, detail="")

    def count(done: int, total: int, detail: str = "") -> None:
        progress.update(task, completed=done, total=total, detail=printable(detail))
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
    if not sys.stderr.isatty():
        yield
        return
    # A descriptor of its own: the ordinary one is redirected while TensorFlow loads, to capture what it prints.
    with _text(_Descriptor(os.dup(2), "w"), sys.stderr) as own:
        # The usual dots are no ASCII.
        dots = "dots" if own.encoding.lower().startswith("utf") else "line"
        with console(file=own, force_terminal=True).status(description, spinner=dots):
            yield
