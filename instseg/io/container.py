"""Paths that lead into a file or a Zarr group: `file.h5:/volume`, `arrays.npz:/image`, `images.zarr:/A/1/0`."""

from pathlib import Path
from typing import NamedTuple

from instseg.io.atomic import is_zarr

ZARR_SUFFIX = ".zarr"
"""What the name of a Zarr group or array in a folder of images ends in."""


class InnerPath(NamedTuple):
    """A file, and what is meant in it.

    Attributes
    ----------
    file : Path
    inner : str
        The path within the file, such as 'raw/volume'; '' where all of the file is meant.
    """

    file: Path
    inner: str


def split_inner(path: Path) -> InnerPath:
    """Take a path apart where it leads into a file: at a colon after the name of something that exists.

    A file or folder that exists under the whole name is meant itself.

    Examples
    --------
    >>> split_inner(Path("a/b.png"))
    InnerPath(file=PosixPath('a/b.png'), inner='')
    """
    if ":" not in str(path) or path.exists():
        return InnerPath(path, "")
    for above in path.parents:
        if above.name.endswith(":") and len(above.name) > 1 and (file := above.with_name(above.name[:-1])).exists():
            return InnerPath(file, path.relative_to(above).as_posix())
    if path.name.endswith(":") and len(path.name) > 1 and (file := path.with_name(path.name[:-1])).exists():
        return InnerPath(file, "")
    return InnerPath(path, "")


def located(path: Path) -> Path:
    """Return a path into a Zarr group as that of the folder in it, and any other path as it is."""
    file, inner = split_inner(path)
    return file / inner if inner and file.is_dir() else path


def result_stem(path: Path) -> str:
    """Return the name without a suffix that results for an image have.

    Those for a part of a file or of a Zarr group have the names of both, as the parts of all plates have the same ones.

    Examples
    --------
    >>> result_stem(Path("images/a.ome.tif")), result_stem(Path("https://host/plate.zarr/A/1/0"))
    ('a.ome', 'plate-A-1-0')
    """
    file, inner = _holder(path)
    return "-".join([file.stem, *inner.split("/")]) if inner else path.stem


def shown_name(path: Path) -> str:
    """Return the name by which messages tell a file from others of its folder; for a part of one, with that part.

    Examples
    --------
    >>> shown_name(Path("images/a.png")), shown_name(Path("https://host/plate.zarr/A/1/0"))
    ('a.png', 'plate.zarr/A/1/0')
    """
    file, inner = _holder(path)
    return f"{file.name}/{inner}" if inner else path.name


def _holder(path: Path) -> InnerPath:
    """Return the file or the outermost Zarr group that a path leads into."""
    file, inner = split_inner(path)
    if not inner:
        for above in path.parents:
            if above.suffix.lower() == ZARR_SUFFIX and is_zarr(above):
                file, inner = above, path.relative_to(above).as_posix()
    return InnerPath(file, inner)
