"""The one exception for mistakes that a user can mend.

The command line catches `InstsegError` alone, prints its message as one line
and exits with its `exit_code`. Anything else is a bug and keeps its traceback.
"""


class InstsegError(Exception):
    """Something that the user gave, or that the machine lacks, and that the user can mend.

    The message says what was given, what was expected and what to do.
    """

    exit_code = 1


class UsageError(InstsegError):
    """A wrong use of the tool or of a function: an option out of its range, options that exclude each other."""

    exit_code = 2
