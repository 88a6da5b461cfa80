"""The `.npz` file between the network and the clustering: embeddings, foreground and what belongs to them.

Any program can write one; `numpy.savez` is enough. Keys:

============  ====================================================================================
format        integer, 1: the version of this layout
embeddings    float (H, W, D): a vector for every pixel
foreground    float (H, W) in 0..1: probability that the pixel belongs to an object
seeds         optional float (H, W) in 0..1: how well the pixel represents its object
bandwidth     optional float (H, W), above 0: distance in embedding space at which membership is one half
classes       optional float (H, W, K) in 0..1: probability of each class if the pixel belongs to an object
class_names   optional text (K): what the classes are called
settings      optional text: the clustering settings the model was tuned to, as a JSON object
============  ====================================================================================

Half and double precision are read as well and become float32; unknown keys
are ignored. Files are written uncompressed: for 512 x 512 x 8 that takes 0.03 s
to write and 0.01 s to read against 0.7 s and 0.09 s compressed, which saves 9 %
of the bytes. Compressed files are read too. Pickled objects are neither written nor read.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.files import replacing
from instseg.settings import ClusterSettings

FORMAT = 1
"""The version of the layout that is written, and the newest that is read."""

MAX_BYTES = 2**34
"""Most bytes that one array of a file may claim."""

_LARGEST = 1e15
_ARRAYS = ("embeddings", "foreground", "seeds", "bandwidth", "classes")
# Deflate packs at most 1,032 bytes into one; a member that claims more is not what it says.
_DEFLATE_RATIO = 1_100
# What zipfile, zlib and NumPy's reader raise on damaged files.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError, SyntaxError)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What the network says of one image, and all that clustering needs.

    Arrays are checked when this is built and become float32 where they are
    floats of other sizes. Rows come first.

    Attributes
    ----------
    embeddings : (H, W, D) float32
        A vector for every pixel, finite.
    foreground : (H, W) float32
        Probability that the pixel belongs to an object, 0..1.
    seeds : (H, W) float32 or None
        How well the pixel represents its object, 0..1.
    bandwidth : (H, W) float32 or None
        Distance in embedding space at which membership in the pixel's object is one half, above 0.
    settings : ClusterSettings or None
        Those that the model was tuned to.
    classes : (H, W, K) float32 or None
        Probability of each class if the pixel belongs to an object, 0..1.
    class_names : tuple of str
        K of them; by default 1, 2 ... K, and none without `classes`.

    Raises
    ------
    InstsegError
        If a shape, a type or a range is another one.
    """

    embeddings: NDArray[np.float32]
    foreground: NDArray[np.float32]
    seeds: NDArray[np.float32] | None = None
    bandwidth: NDArray[np.float32] | None = None
    settings: ClusterSettings | None = None
    classes: NDArray[np.float32] | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            if (array := getattr(self, name)) is not None:
                object.__setattr__(self, name, _finite(name, array))
        if self.embeddings.ndim != 3 or 0 in self.embeddings.shape:
            raise InstsegError(
                f"'embeddings' is of shape {self.embeddings.shape}, expected (height, width, dimensions)"
            )
        height, width = self.embeddings.shape[:2]
        for name in ("foreground", "seeds", "bandwidth"):
            array = getattr(self, name)
            if array is not None and array.shape != (height, width):
                expected = (height, width)
                raise InstsegError(f"'{name}' is of shape {array.shape}, expected {expected} as 'embeddings' has")
        if self.classes is not None and (self.classes.ndim != 3 or self.classes.shape[:2] != (height, width)):
            raise InstsegError(f"'classes' is of shape {self.classes.shape}, expected ({height}, {width}, classes)")
        count = 0 if self.classes is None else self.classes.shape[2]
        if count and not self.class_names:
            object.__setattr__(self, "class_names", tuple(str(number) for number in range(1, count + 1)))
        if len(self.class_names) != count:
            raise InstsegError(
                f"'class_names' holds {len(self.class_names)} names, expected {count}, one for each class"
            )
        for name in ("foreground", "seeds", "classes"):
            array = getattr(self, name)
            if array is not None and not (array.min() >= 0 and array.max() <= 1):
                raise InstsegError(f"'{name}' goes from {array.min():g} to {array.max():g}, expected 0 to 1")
        if self.bandwidth is not None and not self.bandwidth.min() > 0:
            raise InstsegError(f"'bandwidth' goes down to {self.bandwidth.min():g}, expected values above 0")
        # Squares of larger values overflow float32, those of smaller ones vanish.
        if (extreme := max(float(self.embeddings.max()), -float(self.embeddings.min()))) > _LARGEST:
            raise InstsegError(f"'embeddings' goes up to {extreme:g}, expected at most {_LARGEST:g}; scale them down")
        if self.bandwidth is not None:
            least, most = float(self.bandwidth.min()), float(self.bandwidth.max())
            if least < 1 / _LARGEST or most > _LARGEST:
                raise InstsegError(f"'bandwidth' goes from {least:g} to {most:g}, expected 1e-15 to 1e15; scale it")

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the maps that are there by name, embeddings included."""
        return {name: array for name in _ARRAYS if (array := getattr(self, name)) is not None}


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write embeddings to a `.npz` file, in one step where it exists.

    Raises
    ------
    InstsegError
        If the name does not end in .npz or the file cannot be written.
    """
    if path.suffix.lower() != ".npz":
        raise InstsegError(f"cannot write {path}: embeddings are written as .npz; choose a name that ends in .npz")
    members: dict[str, NDArray[Any]] = {"format": np.array(FORMAT), **embeddings.arrays()}
    if embeddings.class_names:
        members["class_names"] = np.array(embeddings.class_names)
    if embeddings.settings is not None:
        members["settings"] = np.array(json.dumps(embeddings.settings.to_dict()))
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **members)


def read_embeddings(path: Path) -> Embeddings:
    """Read embeddings from a `.npz` file, whoever wrote it.

    What the members claim is checked before memory is taken.

    Raises
    ------
    InstsegError
        If the file is missing, no `.npz`, damaged, of a newer format, lacks a
        key, or holds arrays of other types, shapes or ranges than `Embeddings` expects.
    """
    if not path.is_file():
        what = "it is a folder, expected a .npz file" if path.is_dir() else "there is no such file"
        raise InstsegError(f"cannot read {path}: {what}; check the name")
    with _reading(path), path.open("rb") as file:
        size = path.stat().st_size
        if size == 0:
            raise InstsegError("the file is empty; write it again")
        if not zipfile.is_zipfile(file):
            raise InstsegError("it is no .npz file, or one cut off; write it with predict --embeddings or numpy.savez")
        with zipfile.ZipFile(file) as archive:
            return _read(archive, size)


def _read(archive: zipfile.ZipFile, size: int) -> Embeddings:
    names = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    for name in ("format", "embeddings", "foreground"):
        if name not in names:
            found = ", ".join(sorted(names)) or "no arrays"
            raise InstsegError(f"the key '{name}' is missing (found: {found}); add it and write the file again")
    version = _member(archive, "format", size)
    if version.shape != () or version.dtype.kind not in "iu" or int(version) < 1:
        raise InstsegError(f"'format' is {version!r}, expected the integer {FORMAT}; write it as numpy.array({FORMAT})")
    if int(version) > FORMAT:
        raise InstsegError(f"it is of format {int(version)}, this version reads up to {FORMAT}; update instseg")
    arrays = {name: _member(archive, name, size) for name in _ARRAYS if name in names}
    settings = _settings(_member(archive, "settings", size)) if "settings" in names else None
    named = {"class_names", "classes"} <= names
    class_names = _names(_member(archive, "class_names", size)) if named else ()
    return Embeddings(**arrays, settings=settings, class_names=class_names)


def _names(text: NDArray[Any]) -> tuple[str, ...]:
    if text.dtype.kind != "U" or text.ndim != 1:
        raise InstsegError(f"'class_names' is {text.dtype} of shape {text.shape}, expected texts of shape (classes,)")
    return tuple(text.tolist())


def _member(archive: zipfile.ZipFile, name: str, size: int) -> NDArray[Any]:
    """Read one array, after its header has been held against the room that it has in the file."""
    info = archive.getinfo(name + ".npy")
    with archive.open(info) as stream:
        shape, dtype = _claims(stream)
        header = stream.tell()
    if dtype.hasobject:
        raise InstsegError(f"'{name}' holds pickled objects, which are never read; save it as a plain array")
    if name in _ARRAYS and dtype.kind != "f":
        raise InstsegError(f"'{name}' is {dtype}, expected floats; convert it with .astype('float32')")
    claim = math.prod(shape) * dtype.itemsize
    # The archive's directory claims sizes as well; only that of the file is certain.
    room = min(info.file_size, info.compress_size * _DEFLATE_RATIO, size * _DEFLATE_RATIO) - header
    if claim > MAX_BYTES:
        raise InstsegError(f"'{name}' claims {claim:,} bytes, expected at most {MAX_BYTES:,}; cut the image into tiles")
    if claim > room:
        raise InstsegError(f"'{name}' claims {claim:,} bytes and has {max(room, 0):,}, it is damaged; write it again")
    with archive.open(info) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _claims(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _settings(text: NDArray[Any]) -> ClusterSettings:
    try:
        values = json.loads(str(text[()])) if text.dtype.kind == "U" and text.shape == () else None
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise InstsegError("'settings' is no JSON object; write numpy.array(json.dumps(...)) or leave it out")
    try:
        return ClusterSettings.from_dict(values)
    except TypeError as error:  # A text where the default, None, does not tell that it is a number.
        raise InstsegError(f"'settings' holds a value of another type ({error}); leave it out") from error


def _finite(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise InstsegError(f"'{name}' is {array.dtype}, expected floats; convert it with .astype('float32')")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    # Extremes tell it without a second array of the same shape.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise InstsegError(f"'{name}' holds NaN or infinite values, expected finite floats")
    return array


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in every message and turn what damaged files raise into one line."""
    try:
        yield
    except InstsegError as error:
        raise InstsegError(f"cannot read {path}: {error}") from error
    except MemoryError as error:
        raise InstsegError(f"cannot read {path}: there is not enough memory; cut the image into tiles") from error
    except OSError as error:
        reason = error.strerror or error
        raise InstsegError(f"cannot read {path}: {reason}; check the permissions and the disc") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InstsegError(f"cannot read {path}: it is damaged ({reason}); write it again") from error
