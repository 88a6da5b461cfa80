"""Locks on files, which the operating system takes back from a process that ends, however it ends."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instseg.errors import InstsegError

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems answer that know no locks."""


@contextmanager
def file_lock(path: Path, busy: str) -> Iterator[None]:
    """Hold the file `path` while the block runs; it is made for that, and removed afterwards.

    Where the file system has no locks the block runs without one.

    Raises
    ------
    InstsegError
        With the text `busy`, if another process or thread holds it.
    OSError
        If the file cannot be made.
    """
    try:
        descriptor = acquire(path)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        yield
        return
    if descriptor is None:
        raise InstsegError(busy)
    try:
        yield
    finally:
        # Removed while it is held: `acquire` sees that a file that it has waited for has no name any more.
        release(path, descriptor)


def acquire(path: Path, flags: int = 0) -> int | None:
    """Open a file, make it where it is missing, and lock it.

    Parameters
    ----------
    path : Path
        The file; a link is not followed.
    flags : int
        Of `os.open`, such as `os.O_EXCL` for a file that must be new.

    Returns
    -------
    int or None
        The descriptor, which keeps the lock until it is closed; None if another process or thread holds the file.

    Raises
    ------
    OSError
        If it cannot be opened, or the file system has no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may have renamed or removed it since it was opened.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def release(path: Path, descriptor: int) -> None:
    """Remove a file that `acquire` returned, and close it."""
    try:
        with suppress(OSError):
            path.unlink()
    finally:
        os.close(descriptor)
