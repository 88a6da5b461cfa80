"""Zarr images on servers: `https://`, `s3://` and other addresses that fsspec knows, by paths that behave like files.

Metadata is read here; the chunks are read by Zarr (`instseg.io.zarr_chunks`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import Any

from instseg.errors import InstsegError
from instseg.io.image_file import ImageFileError
from instseg.io.remote_address import remote_url
from instseg.optional import require_extra

# What servers answer where nothing is: some say that it is forbidden, so as not to tell.
_ABSENT = (401, 403, 404, 410)


class RemotePath(PosixPath):
    """A path whose file is on a server. Only what metadata of Zarr is read by does as paths do."""

    def __str__(self) -> str:
        """Return the address with both of the slashes, of which a path keeps one."""
        text = super().__str__()
        return remote_url(text) or text

    def read_bytes(self) -> bytes:
        """Return what the file holds.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ImageFileError
            If the server cannot be reached or refuses it.
        """
        require_extra("remote")
        import fsspec

        with fetch_errors(self):
            system, path = fsspec.core.url_to_fs(str(self))
            try:
                content: bytes = system.cat_file(path)
            except FileNotFoundError:
                raise
            except PermissionError as error:
                raise FileNotFoundError(str(self)) from error
            except Exception as error:
                if getattr(error, "status", None) in _ABSENT:
                    raise FileNotFoundError(str(self)) from error
                raise
        return content

    def is_dir(self, **options: Any) -> bool:
        """Return True: what is not there is found out when something in it is read."""
        return True

    def exists(self, **options: Any) -> bool:
        """Return True, as `is_dir` does."""
        return True


def reached(path: Path) -> Path:
    """Return a path whose file can be read, wherever it is.

    Examples
    --------
    >>> str(reached(Path("https://host/a.zarr")) / "0"), str(reached(Path("a.zarr")))
    ('https://host/a.zarr/0', 'a.zarr')
    """
    return path if isinstance(path, RemotePath) or remote_url(path) is None else RemotePath(path)


@contextmanager
def fetch_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a server into an ImageFileError of one line; `FileNotFoundError` passes."""
    try:
        yield
    except (InstsegError, FileNotFoundError):
        raise
    except Exception as error:  # Each protocol raises what its own library has.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageFileError(path, f"it cannot be fetched ({reason})", "check the address and the network") from error
