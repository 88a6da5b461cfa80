"""Writing files in one step, so that nobody sees half of one, and checks that they can be written."""

import errno
import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from instseg.errors import InstsegError
from instseg.io.locks import NO_LOCKS, acquire, release
from instseg.io.remote_address import remote_url

StrPath = str | os.PathLike[str]
"""The path of a file or a folder."""

# A folder that holds one of these is a Zarr group or array.
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
LONGEST_NAME = 255
"""Bytes that file systems allow for a name."""

# Characters that are kept of a name that is too long.
_KEPT_OF_NAME = 40


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it to `path` when the block ends without an error.

    The temporary name keeps the suffix, since writers choose the format by it. When the block raises, the temporary
    file is removed and `path` stays as it was. What a process has left that was killed while it wrote the same file is
    removed; several processes and threads may write it at a time, and the last one to end counts.

    A file that replaces another one is on the disc before it does so, together with its name: after a power failure
    either of the two is there. A new file is left to the operating system, as waiting for the disc takes longer than
    writing small results.

    Raises
    ------
    InstsegError
        If the folder does not exist, is not writable or the disc is full.
    """
    check_writable(path)
    with write_errors(path):
        temporary, descriptor = _temporary_file(path)
        try:
            yield temporary
            replaces = path.exists()
            if replaces:
                synchronise(temporary)
            temporary.replace(path)
        except BaseException:
            # Not once it has been renamed, when its name is free for another process.
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        if replaces:
            synchronise(path.parent)


def _temporary_file(path: Path) -> tuple[Path, int]:
    """Make a file beside `path`, and remove what is left of those of processes that were killed.

    The file is locked as long as its process lives. So one that can be locked is left over, whoever wrote it.

    Returns
    -------
    temporary : Path
    descriptor : int
        Holds the lock.
    """
    number = 0
    while (descriptor := _new_file(_temporary_path(path, number))) is None:
        number += 1
    for left in (_temporary_path(path, above) for above in itertools.count(number + 1)):
        if not left.exists():
            break
        _remove_left_over(left)
    return _temporary_path(path, number), descriptor


def _temporary_path(path: Path, number: int) -> Path:
    numbered = f".{number}" if number else ""
    return hidden_sibling(path.with_suffix(""), f"{numbered}.partial{path.suffix}")


def _new_file(path: Path) -> int | None:
    """Make a file and lock it, or return None where a file of another process is there."""
    while True:
        try:
            descriptor = acquire(path, os.O_EXCL)
        except FileExistsError:
            if not _remove_left_over(path):
                return None
            continue
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            # It has been made, and without locks nobody removes it.
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        if descriptor is not None:
            return descriptor


def _remove_left_over(path: Path) -> bool:
    """Remove a temporary file unless its process lives; return whether the name is free."""
    try:
        descriptor = acquire(path)
    except OSError:
        # That of another user, no file, or a file system without locks.
        return False
    if descriptor is None:
        return False
    release(path, descriptor)
    return True


def hidden_sibling(path: Path, ending: str) -> Path:
    """Return the path `.NAME` and `ending` beside a path `NAME`, shortened where the name would be too long.

    Examples
    --------
    >>> hidden_sibling(Path("results/labels.zarr"), ".partial").name
    '.labels.zarr.partial'
    """
    name = f".{path.name}{ending}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        name = f".{path.name[:_KEPT_OF_NAME]}.{digest}{ending}"
    return path.with_name(name)


def synchronise(path: Path) -> None:
    """Have the disc hold a file, or the names in a folder where its file system does that for folders.

    Raises
    ------
    OSError
        If the disc cannot.
    """
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Network file systems refuse it for folders, and a folder to write into need not be readable.
        if not (folder and error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES)):
            raise


def synchronise_tree(folder: Path) -> None:
    """Have the disc hold a folder with all that is in it.

    Raises
    ------
    OSError
        If the disc cannot.
    """
    for path in folder.rglob("*"):
        synchronise(path)
    synchronise(folder)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Name `path` in the error of a block that writes it.

    Raises
    ------
    InstsegError
        In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InstsegError(
            f"cannot write {path}: {error.strerror or error}; check the permissions and the space"
        ) from error


def check_writable(path: Path, *suffixes: str) -> None:
    """Check that a file can be written, before the work whose result it is to hold.

    Parameters
    ----------
    path : Path
        The file.
    suffixes : str
        Such as '.png': what the name may end in, in lower case. Without any, all are allowed.

    Raises
    ------
    InstsegError
        If it is a folder, its folder does not exist or is not writable, or its suffix is another one.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        endings = " or ".join(suffixes)
        raise InstsegError(f"cannot write {path}: expected a name that ends in {endings}; choose such a name")
    if path.is_dir():
        raise InstsegError(f"cannot write {path}: it is a folder; give a file name")
    if not path.parent.is_dir():
        raise InstsegError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise InstsegError(f"cannot write {path}: the folder {path.parent} is not writable; choose another")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr group or array; what is on a server can be nothing else."""
    if remote_url(path) is not None:
        return True
    return path.is_dir() and any((path / name).is_file() for name in _ZARR_FILES)


def check_zarr_writable(path: Path) -> None:
    """Check that a Zarr group can be written: nothing is there, or a Zarr group or array that it replaces.

    Raises
    ------
    InstsegError
        If something else is there, or its folder does not exist or is not writable.
    """
    if path.exists() and not is_zarr(path):
        raise InstsegError(f"cannot write {path}: it exists and is no Zarr group; choose another name")
    if not path.exists():
        check_writable(path)
    elif not os.access(path.parent, os.W_OK):
        raise InstsegError(f"cannot write {path}: the folder {path.parent} is not writable; choose another")


def check_folder_writable(path: Path) -> None:
    """Check that a folder is there or can be created, before the work whose results it is to hold.

    Raises
    ------
    InstsegError
        If it is a file, lies in one, or is or would be in a folder that is not writable.
    """
    if path.exists() and not path.is_dir():
        raise InstsegError(f"cannot use {path} as a folder: it is a file; choose another name")
    nearest = next(above for above in (path, *path.absolute().parents) if above.exists())
    if not nearest.is_dir():
        raise InstsegError(f"cannot create the folder {path}: {nearest.name} is a file; choose another")
    if not os.access(nearest, os.W_OK):
        raise InstsegError(f"cannot write into the folder {path}: {nearest} is not writable; choose another")


def check_new(path: Path) -> None:
    """Check that nothing is at `path` yet and a folder can be created there.

    Raises
    ------
    InstsegError
        If there is something, or it would be in a folder that is not writable.
    """
    if path.exists():
        raise InstsegError(f"cannot write {path}: it exists; give the name of a new directory")
    check_folder_writable(path)


def ensure_dir(path: Path) -> Path:
    """Create `path` and its parents where they are missing.

    Raises
    ------
    InstsegError
        If it is a file or cannot be created.
    """
    check_folder_writable(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InstsegError(f"cannot create the folder {path}: {error.strerror or error}; choose another") from error
    return path
