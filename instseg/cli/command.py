"""What all commands have in common: what goes wrong becomes one line on stderr and an exit code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from instseg.cli import terminal
from instseg.cli.options import OPTIONS, option_names
from instseg.errors import InstsegError, PeerLostError, printable

TRACEBACK = "INSTSEG_TRACEBACK"
"""The environment variable that, if it is set, has errors that nobody has foreseen print their tracebacks."""

_LONGEST = 300


class Group(TyperGroup):
    """A command with commands, whose refusals of arguments show these without control characters."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the options before the command."""
        with _printable_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Parse the arguments of the command, and run it."""
        with _printable_usage_errors():
            return super().invoke(ctx)


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Make the messages printable by which Typer refuses arguments: a shell's pattern may have given names of files."""
    try:
        yield
    except Exception as error:
        # Typer has its exceptions from Click, or from a copy of it, but each has its text in this attribute.
        if isinstance(getattr(error, "message", None), str):
            error.message = printable(error.message)  # type: ignore[attr-defined]
        raise


class Command(TyperCommand):
    """A command whose messages name its options, and those of other commands where it has none of that name."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and report what went wrong."""
        token = OPTIONS.set(option_names(ctx.find_root().command) | option_names(self))
        try:
            return super().invoke(ctx)
        except Exception as error:
            if _belongs_to_typer(error):
                raise
            line = error if isinstance(error, InstsegError) else _describe(error)
            if line is None:
                if TRACEBACK in os.environ:
                    raise
                line = _describe_unexpected(error)
            terminal.print_error(line)
            if isinstance(error, PeerLostError):
                _leave_at_once(error.exit_code)
            raise typer.Exit(error.exit_code if isinstance(error, InstsegError) else 1) from error
        finally:
            OPTIONS.reset(token)


def _leave_at_once(exit_code: int) -> NoReturn:
    """End the process without TensorFlow's last words, which would wait for a process that is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _belongs_to_typer(error: Exception) -> bool:
    return isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message")


def _describe(error: Exception) -> str | None:
    """Return a line for an error of the system that says what to do, None for others."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; use smaller images, or fewer at a time"
    if isinstance(error, OSError) and error.filename is not None:
        # Paths that cannot even be looked at: names that are too long, folders that may not be entered.
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return f"cannot use {name}: {error.strerror}; check the name and the permissions"
    return None


def _describe_unexpected(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror is not None:
        return f"the system refused something: {error.strerror}; check the space on discs and the permissions"
    text = " ".join(str(error).split())
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "..."
    return f"unexpected {type(error).__name__}: {text or '-'}; please report it, with what {TRACEBACK}=1 shows"
