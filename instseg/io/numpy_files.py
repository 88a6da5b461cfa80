"""Images in NumPy's files: an array in a `.npy`, which is read part by part, or one of a `.npz`."""

import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instseg.errors import format_names
from instseg.io.container import InnerPath
from instseg.io.image_file import ImageFileError
from instseg.io.npz import ArrayClaims, read_claims
from instseg.io.stored_array import StoredArray

_SUFFIX = ".npy"
# Deflate packs at most 1,032 bytes into one.
_DEFLATE_RATIO = 1_100
# What the embeddings that `predict` writes have.
_OF_EMBEDDINGS = {"embeddings", "foreground"}


@contextmanager
def open_npy(path: Path) -> Iterator[StoredArray]:
    """Open the array of a `.npy` file, whose values are read from the disc when they are needed."""
    with path.open("rb") as file:
        claims = _claims(path, file)
    _require_held(claims, path.stat().st_size - claims.header_bytes)
    order: Literal["C", "F"] = "F" if claims.fortran_order else "C"
    if math.prod(claims.shape) == 0:
        values: Any = np.empty(claims.shape, claims.dtype)
    else:
        values = _Mapped(path, claims, order)
    yield StoredArray.nameless(path, "NumPy", values)


@contextmanager
def open_npz(path: Path, place: InnerPath) -> Iterator[StoredArray]:
    """Open an array of a `.npz` file, the only one if none is named.

    Parameters
    ----------
    path : Path
        As it was given, for messages.
    place : InnerPath
        The file, and the name of the array.
    """
    with zipfile.ZipFile(place.file) as archive:
        names = {name.removesuffix(_SUFFIX): name for name in archive.namelist() if name.endswith(_SUFFIX)}
        if not names:
            raise ImageFileError(path, "it is a zip archive without arrays of NumPy", "unpack it")
        chosen = place.inner or _only(path, sorted(names))
        if chosen not in names:
            what = f"it holds no array {chosen} (found: {format_names(sorted(names))})"
            raise ImageFileError(path, what, "check the name")
        yield StoredArray.nameless(path, "NumPy", _Member(path, archive, archive.getinfo(names[chosen])))


def _only(path: Path, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if set(names) >= _OF_EMBEDDINGS:
        raise ImageFileError(path, "it holds embeddings, expected an image", "give the image, or cluster it instead")
    what = f"it holds {len(names)} arrays ({format_names(names)}), expected one"
    raise ImageFileError(path, what, f"give one of them, such as {path}:/{names[0]}")


class _Mapped:
    """The array of a `.npy`, mapped anew for each part, as the pages of a mapping that stays count as memory."""

    def __init__(self, path: Path, claims: ArrayClaims, order: Literal["C", "F"]) -> None:
        self._path, self._claims, self._order = path, claims, order
        self.shape, self.dtype = claims.shape, claims.dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        claims = self._claims
        mapped = np.memmap(self._path, claims.dtype, "r", claims.header_bytes, claims.shape, self._order)
        return np.array(mapped[index])


class _Member:
    """An array of a `.npz`, which is read whole when values of it are asked for."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ImageFileError(path, "it is compressed in a way that NumPy has not", "write it with numpy.savez")
        self._archive, self._info = archive, info
        self._values: NDArray[Any] | None = None
        with archive.open(info) as stream:
            claims = _claims(path, stream)
        # The archive's directory claims sizes as well; only that of the file is certain.
        size = Path(str(archive.filename)).stat().st_size
        _require_held(claims, min(info.file_size, info.compress_size * _DEFLATE_RATIO, size * _DEFLATE_RATIO))
        self.shape, self.dtype = claims.shape, claims.dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if self._values is None:
            with self._archive.open(self._info) as stream:
                self._values = np.lib.format.read_array(stream, allow_pickle=False)
        return np.asarray(self._values[index])


def _claims(path: Path, stream: Any) -> ArrayClaims:
    # Python 2 has written some, of which NumPy warns.
    with warnings.catch_warnings(action="ignore"):
        claims = read_claims(stream)
    if claims.dtype.hasobject:
        raise ImageFileError(path, "it holds pickled objects, which are never read", "save a plain array of numbers")
    return claims


def _require_held(claims: ArrayClaims, room: int) -> None:
    size = math.prod(claims.shape) * claims.dtype.itemsize
    if size > room:
        raise ValueError(f"{size:,} bytes are claimed, and at most {max(room, 0):,} are there")
