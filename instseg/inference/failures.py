"""What goes wrong with one image of many: as an error of its own, whatever was raised, so that it costs no other."""

import errno
import logging
import traceback

from instseg.errors import InstsegError, shorten

_LOGGER = logging.getLogger("instseg")
# After these no file can be written, whichever it is.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class UnexpectedError(InstsegError):
    """A fault of this package, or of one that it uses, that a single image brings to light.

    Parameters
    ----------
    message : str
        One line.
    details : str
        The traceback.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def as_instseg_error(error: Exception) -> InstsegError:
    """Return the error of an image for whatever was raised.

    What nobody has foreseen becomes an `UnexpectedError`; its traceback also goes to the logger 'instseg' at level
    DEBUG.
    """
    if isinstance(error, InstsegError):
        return error
    if isinstance(error, MemoryError):
        message = "there is not enough memory for this image; give less by `memory` or `tile`, or cut out a part"
        known = InstsegError(message)
    elif isinstance(error, OSError) and error.filename is not None:
        known = InstsegError(f"cannot use {error.filename}: {error.strerror}; check the name and the permissions")
    else:
        _LOGGER.debug("unexpected error", exc_info=error)
        what = " ".join(f"{type(error).__name__}: {error}".split())
        details = "".join(traceback.format_exception(error))
        known = UnexpectedError(f"unexpected {shorten(what)}; please report it", details)
    known.__cause__ = error
    return known


def without_frames(error: InstsegError) -> InstsegError:
    """Return an error to be kept: what raised it holds images in its frames, which are let go."""
    chain: list[BaseException] = [error]
    for one in chain:
        one.__traceback__ = None
        chain += [other for other in (one.__cause__, one.__context__) if other is not None and other not in chain]
    return error


def has_no_room(error: BaseException) -> bool:
    """Return whether a file could not be written for want of room, so that no other can be written either."""
    cause = error.__cause__
    return isinstance(error, OSError) and error.errno in _NO_ROOM or (cause is not None and has_no_room(cause))
