"""The `.npz` file between the network and the clustering: embeddings, foreground and further maps.

Any program can write one; `numpy.savez` is enough. Keys:

============  ====================================================================================
format        integer, 1: the version of this layout
embeddings    float (H, W, D): a vector for every pixel; (Z, Y, X, D) in volumes, and so on
foreground    float (H, W) in 0..1: probability that the pixel belongs to an object
seeds         optional float (H, W) in 0..1: how well the pixel represents its object
bandwidth     optional float (H, W), above 0: distance in embedding space at which membership is one half
classes       optional float (H, W, K) in 0..1: probability of each class if the pixel belongs to an object
class_names   optional text (K): what the classes are called
settings      optional text: the clustering settings the model was tuned to, as a JSON object
calibration   optional text: what the scores of instances mean (`ScoreCalibration`), as a JSON object
spacing       optional float (2) or (3), above 0: how far pixels lie apart along each axis, in columns
============  ====================================================================================

Half and double precision are read as well and become float32; unknown keys
are ignored. Files are written uncompressed: for 512 x 512 x 8 that takes 0.03 s
to write and 0.01 s to read against 0.7 s and 0.09 s compressed, which saves 9 %
of the bytes. Compressed files are read too. Pickled objects are neither written nor read.
"""

import io
import json
import math
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import MAP_NAMES, Embeddings
from instseg.errors import InstsegError, format_names
from instseg.io.atomic import StrPath, atomic_write
from instseg.io.json_text import parse_json
from instseg.settings import ClusterSettings

FORMAT = 1
"""The version of the layout that is written, and the newest that is read."""

MAX_BYTES = 2**34
"""Most bytes that one array of a file may claim."""
# Deflate packs at most 1,032 bytes into one; a member that claims more is not what it says.
_DEFLATE_RATIO = 1_100
# As many as NumPy reads of the header of an array, but it reads all that are claimed first.
_MAX_HEADER_BYTES = 10_000
# Far more than the texts of a file take, of which four bytes are a character, and the numbers of their elements.
_MAX_TEXT_BYTES = 2**24
_MAX_TEXTS = 65_536
_LONGEST_MESSAGE = 400


def write_embeddings(path: StrPath, embeddings: Embeddings) -> None:
    """Write embeddings to a `.npz` file, in one step where it exists.

    Raises
    ------
    InstsegError
        If the name does not end in .npz or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise InstsegError(f"cannot write {path}: embeddings are written as .npz; choose a name that ends in .npz")
    members: dict[str, NDArray[Any]] = {"format": np.array(FORMAT), **embeddings.arrays()}
    if embeddings.class_names:
        members["class_names"] = np.array(embeddings.class_names)
    if embeddings.settings is not None:
        members["settings"] = np.array(json.dumps(embeddings.settings.to_dict()))
    if embeddings.calibration is not None:
        members["calibration"] = np.array(embeddings.calibration.to_json())
    if embeddings.spacing is not None:
        members["spacing"] = np.array(embeddings.spacing, np.float64)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **members)


def read_embeddings(path: StrPath) -> Embeddings:
    """Read embeddings from a `.npz` file, whatever program wrote it.

    What the members claim is checked before memory is taken.

    Raises
    ------
    InstsegError
        If the file is missing, no `.npz`, damaged, of a newer format, lacks a
        key, or holds arrays of other types, shapes or ranges than `Embeddings` expects.
    """
    path = Path(path)
    if not path.is_file():
        what = "it is a folder, expected a .npz file" if path.is_dir() else "there is no such file"
        raise InstsegError(f"cannot read {path}: {what}; check the name")
    with _reading(path), path.open("rb") as file:
        size = path.stat().st_size
        if size == 0:
            raise InstsegError("the file is empty; write it again")
        if not zipfile.is_zipfile(file):
            raise InstsegError("it is no .npz file, or one cut off; write it with predict or numpy.savez")
        with zipfile.ZipFile(file) as archive:
            return _read(archive, size)


def _read(archive: zipfile.ZipFile, size: int) -> Embeddings:
    names = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    for name in ("format", "embeddings", "foreground"):
        if name not in names:
            present = format_names(sorted(names)) or "no arrays"
            raise InstsegError(f"the key '{name}' is missing (found: {present}); add it and write the file again")
    version = _member(archive, "format", size)
    if version.shape != () or version.dtype.kind not in "iu" or int(version) < 1:
        found = _shown(version)
        raise InstsegError(f"'format' is {found}, expected the integer {FORMAT}; write it as numpy.array({FORMAT})")
    if int(version) > FORMAT:
        raise InstsegError(f"it is of format {int(version)}, this version reads up to {FORMAT}; update instseg")
    arrays = {name: _member(archive, name, size) for name in MAP_NAMES if name in names}
    settings = _json_object(archive, "settings", size) if "settings" in names else None
    calibration = _json_object(archive, "calibration", size) if "calibration" in names else None
    named = {"class_names", "classes"} <= names
    class_names = _names(_member(archive, "class_names", size)) if named else ()
    spacing = _spacing(_member(archive, "spacing", size)) if "spacing" in names else None
    return Embeddings(
        **arrays,
        settings=None if settings is None else ClusterSettings.from_dict(settings),
        class_names=class_names,
        calibration=ScoreCalibration.from_stored(calibration),
        spacing=spacing,
    )


def _spacing(values: NDArray[Any]) -> tuple[float, ...]:
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise InstsegError(f"'spacing' is {_shown(values)}, expected a number for each axis; write it again")
    return tuple(float(value) for value in values)


def _names(text: NDArray[Any]) -> tuple[str, ...]:
    if text.dtype.kind != "U" or text.ndim != 1:
        raise InstsegError(f"'class_names' is {text.dtype} of shape {text.shape}, expected texts of shape (classes,)")
    _check_characters("class_names", text)
    return tuple(text.tolist())


def _check_characters(name: str, text: NDArray[Any]) -> None:
    """Check the numbers of characters, of which NumPy makes texts that Python cannot hold."""
    if text.dtype.itemsize == 0:
        return
    characters = text.astype(text.dtype.newbyteorder("=")).reshape(-1).view(np.uint32)
    if ((characters > sys.maxunicode) | ((characters >= 0xD800) & (characters <= 0xDFFF))).any():
        raise InstsegError(f"'{name}' holds what are no characters, it is damaged; write it again")


def _shown(array: NDArray[Any]) -> str:
    """Return an array for a message."""
    return str(array) if array.shape == () and array.dtype.kind in "iufb" else f"{array.dtype} of shape {array.shape}"


def _member(archive: zipfile.ZipFile, name: str, size: int) -> NDArray[Any]:
    """Read one array, after its size by its header has been compared with the space that it has in the file."""
    info = archive.getinfo(name + ".npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InstsegError(f"'{name}' is compressed in a way that NumPy has not; write it with numpy.savez_compressed")
    with archive.open(info) as stream:
        shape, dtype, _, header = read_claims(stream)
    if dtype.hasobject:
        raise InstsegError(f"'{name}' holds pickled objects, which are never read; save it as a plain array")
    if name in MAP_NAMES and dtype.kind != "f":
        raise InstsegError(f"'{name}' is {dtype}, expected floats; convert it with .astype('float32')")
    claim, most = math.prod(shape) * dtype.itemsize, MAX_BYTES if name in MAP_NAMES else _MAX_TEXT_BYTES
    # The archive's directory claims sizes as well; only that of the file is certain.
    room = min(info.file_size, info.compress_size * _DEFLATE_RATIO, size * _DEFLATE_RATIO) - header
    if claim > most:
        advice = "cut the image into tiles" if name in MAP_NAMES else "it is damaged; write it again"
        raise InstsegError(f"'{name}' claims {claim:,} bytes, expected at most {most:,}; {advice}")
    if name not in MAP_NAMES and math.prod(shape) > _MAX_TEXTS:
        # Empty texts take no bytes in the file.
        raise InstsegError(f"'{name}' is of shape {shape}, expected at most {_MAX_TEXTS:,} elements; write it again")
    if claim > room:
        raise InstsegError(f"'{name}' claims {claim:,} bytes and has {max(room, 0):,}, it is damaged; write it again")
    with archive.open(info) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


class ArrayClaims(NamedTuple):
    """What the header of an array in NumPy's format says.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    fortran_order : bool
        Whether the first index changes fastest.
    header_bytes : int
        How many bytes come before the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    header_bytes: int


def read_claims(stream: IO[bytes]) -> ArrayClaims:
    """Read the header of an array in NumPy's format.

    Raises
    ------
    ValueError, or whatever NumPy raises
        If it is damaged.
    """
    magic = stream.read(np.lib.format.MAGIC_LEN)
    version = np.lib.format.read_magic(io.BytesIO(magic))
    length = stream.read(2 if version == (1, 0) else 4)
    count = int.from_bytes(length, "little")
    if count > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {count:,} bytes, expected at most {_MAX_HEADER_BYTES:,}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(io.BytesIO(length + stream.read(count)))
    if any(side < 0 for side in shape):
        raise ValueError(f"the shape {shape}")
    return ArrayClaims(shape, dtype, fortran_order, len(magic) + len(length) + count)


def _json_object(archive: zipfile.ZipFile, name: str, size: int) -> dict[str, Any]:
    text = _member(archive, name, size)
    if text.dtype.kind == "U":
        _check_characters(name, text)
    try:
        values = parse_json(str(text[()])) if text.dtype.kind == "U" and text.shape == () else None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise InstsegError(f"'{name}' is no JSON object; write numpy.array(json.dumps(...)) or leave it out")
    return values


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in every message, and turn what damaged files cause into one line."""
    try:
        with warnings.catch_warnings():
            # That Python 2 has written a file.
            warnings.simplefilter("ignore")
            yield
    except InstsegError as error:
        raise InstsegError(f"cannot read {path}: {_cut(str(error))}") from error
    except MemoryError as error:
        raise InstsegError(f"cannot read {path}: there is not enough memory; cut the image into tiles") from error
    except OSError as error:
        reason = error.strerror or error
        raise InstsegError(f"cannot read {path}: {reason}; check the permissions and the disc") from error
    except Exception as error:
        # Archives and headers are parsed by Python and NumPy, which raise nearly everything there is.
        reason = _cut(" ".join(str(error).split())) or type(error).__name__
        raise InstsegError(f"cannot read {path}: it is damaged ({reason}); write it again") from error


def _cut(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}..."
