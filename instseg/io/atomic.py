"""Writing files in one step, so that nobody sees half of one, and checks that they can be written."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instseg.errors import InstsegError

StrPath = str | os.PathLike[str]
"""The path of a file or a folder."""

# A folder that holds one of these is a Zarr group or array.
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it to `path` when the block ends without an error.

    The temporary name keeps the suffix, since writers choose the format by it.
    When the block raises, the temporary file is removed and `path` stays as it was.

    Raises
    ------
    InstsegError
        If the folder does not exist, is not writable or the disc is full.
    """
    check_writable(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        with write_errors(path):
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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
    """Return whether a folder is a Zarr group or array."""
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
