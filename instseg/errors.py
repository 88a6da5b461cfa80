"""Exceptions for mistakes that a user can mend, and how their messages are worded.

A message says what was given, what was expected and what to do. It names parameters as Python has them:
at its beginning (`UsageError("tile is 0, expected ...", parameter="tile")`), or in backticks inside of advice
("choose some with `channels='2'`"). The command line catches `InstsegError`, puts its own options in the place of
the parameters, prints one line and exits with `exit_code`. Anything else is a bug: it prints one line of that, too, or
the traceback if it is asked for it.
"""

import re
from collections.abc import Sequence

_LISTED = 3
_LONGEST_TEXT = 300
# Controls of terminals (C0, DEL, C1), separators of lines, what turns the direction of the text around it, and lone
# surrogates, by which Python represents the bytes of names that are no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class InstsegError(Exception):
    """Something that the user gave, or that the machine lacks, and that the user can mend.

    Parameters
    ----------
    message : str
        What was given, what was expected, what to do.
    parameter : str, optional
        The parameter whose name the message begins with, where it begins with one.
    """

    exit_code = 1
    # AutoGraph replaces an error that a `tf.function` raises by one of its own, unless the error has this attribute.
    ag_pass_through = True

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter

    def located(self, path: object) -> "InstsegError":
        """Return the error with the file that it is about at its beginning, unless its message has that already."""
        message = str(self)
        # Paths keep one slash of an address.
        if str(path) in message or str(path) in message.replace("://", ":/"):
            return self
        if self.parameter is not None:
            message = f"`{self.parameter}`{message.removeprefix(self.parameter)}"
        error = InstsegError(f"{path}: {message}")
        error.__cause__ = self
        return error


class UsageError(InstsegError):
    """A wrong use of the tool or of a function: a parameter out of its range, parameters that exclude each other."""

    exit_code = 2


class PeerLostError(InstsegError):
    """Another process of the same training is gone.

    TensorFlow's runtime may wait for it for ever when this process ends in order, so a program should end at once, as
    by `os._exit`.
    """


def check_parameter(condition: bool, name: str, value: object, expected: str) -> None:
    """Check a parameter; a value that fills pages is cut in the message.

    Raises
    ------
    UsageError
        "NAME is VALUE, expected EXPECTED", if the condition does not hold.
    """
    if not condition:
        raise UsageError(f"{name} is {shorten(str(value))}, expected {expected}", parameter=name)


def shorten(text: str) -> str:
    """Return a text for a message, cut where it would fill pages."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def format_names(names: Sequence[object]) -> str:
    """Return the first few names for a message, with commas and an ellipsis where there are more.

    Examples
    --------
    >>> format_names(["a.png", "b.png", "c.png", "d.png"])
    'a.png, b.png, c.png, ...'
    """
    return ", ".join(str(name) for name in names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def printable(text: str) -> str:
    r"""Return a text with visible escapes in the place of what a terminal would obey instead of showing.

    Names of files, classes and columns come from others. A terminal takes control characters in them for commands,
    characters that turn the direction of writing make a name look like another, and lone surrogates, which stand for
    the bytes of names that are no UTF-8, cannot be encoded.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The same text if there is nothing of that kind in it. Backslashes stay as they are.

    Examples
    --------
    >>> print(printable("nuclei\x1b[2J\n\u202egnp.exe"))
    nuclei\x1b[2J\n\u202egnp.exe
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
