"""Cellpose and Omnipose: labels beside the images, `a_cp_masks.png`, `a_masks.tif` or `a_seg.npy` for `a.tif`.

A `_seg.npy` is a pickled dict, and unpickling may run anything. It is read here by an unpickler that knows arrays and
nothing else: every name in the file is looked up among a few stand-ins of this module, and no other code runs.
"""

import functools
import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.annotations.label_files import ending_of, is_no_image, load_labels, pair_by_endings
from instseg.annotations.objects import AnnotatedImage, Annotations, LabelImage
from instseg.annotations.source import MAX_TEXT, ReadOptions, Source, image_stem
from instseg.errors import InstsegError, printable
from instseg.labels.regions import relabel_sequential

NAME = "cellpose"
TITLE = "Cellpose"

_ARRAYS = "_seg.npy"
_ENDINGS = ("_cp_masks", "_masks")
_ADVICE = "open it in Cellpose and save the masks as PNG or TIFF"


def detect(source: Source) -> str | None:
    """Say by what the source is recognised as this format, None if it is not."""
    arrays = source.named(_ARRAYS)
    if arrays:
        return f"{len(arrays)} files *{_ARRAYS}, such as {printable(arrays[0].name)}"
    if not source.path.is_dir():
        return None
    masks = [path for path in source.image_files if ending_of(path) == "_cp_masks"]
    return f"{len(masks)} files *_cp_masks, such as {printable(masks[0].name)}" if masks else None


def read(source: Source, options: ReadOptions) -> Annotations:
    """Read the annotations of a source: of an image its masks, where there are some, else its `_seg.npy`."""
    images = [path for path in source.image_files if not ending_of(path) and not is_no_image(path)]
    masks = [path for path in source.image_files if ending_of(path) in _ENDINGS]
    pairs = pair_by_endings(images, masks)
    arrays = {(path.parent, path.name[: -len(_ARRAYS)]): path for path in source.named(_ARRAYS)}
    result = Annotations()
    for image in images:
        names = [(image.parent, stem) for stem in dict.fromkeys([image.stem, image_stem(image)])]
        found = [arrays.pop(name) for name in names if name in arrays]
        if image in pairs:
            load = functools.partial(load_labels, pairs[image], options.connected_components)
        elif found:
            load = functools.partial(_load_arrays, found[0])
        else:
            result.unannotated.append(image)
            continue
        result.images.append(AnnotatedImage(image, load))
    result.missing = [(source.relative(path), "there is no such image") for path in arrays.values()]
    return result


def _load_arrays(path: Path) -> LabelImage:
    masks = _masks(path)
    if masks.ndim != 2 or masks.dtype.kind not in "iu" or masks.size == 0 or masks.min() < 0:
        what = f"its masks are {masks.dtype} of shape {masks.shape}, expected integers of shape (H, W)"
        raise InstsegError(f"cannot read {path}: {what}; {_ADVICE}")
    return LabelImage(masks.astype(np.int32) if masks.max() < 2**31 else relabel_sequential(masks))


def _masks(path: Path) -> NDArray[Any]:
    """Return the array `masks` of the dict in a file.

    Raises
    ------
    InstsegError
        If the file is not such a dict, holds anything but arrays, texts and numbers, or is larger than half a GiB.
    """
    try:
        size = path.stat().st_size
        if size > MAX_TEXT:
            raise InstsegError(f"cannot read {path}: it has {size / 2**20:,.0f} MiB, expected at most 512; {_ADVICE}")
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            _, _, dtype = header(file)
            if not dtype.hasobject:
                raise ValueError("it is an array, not a dict of arrays")
            content = _unpickle(file.read())
        masks = content.values["masks"]
        if not isinstance(masks, _StoredArray):
            raise ValueError("its masks are no array")
        return masks.array()
    except InstsegError:
        raise
    except Exception as error:  # Damaged pickles raise anything.
        reason = error.strerror if isinstance(error, OSError) else str(error) or type(error).__name__
        raise InstsegError(f"cannot read {path} without running what is in it: {reason}; {_ADVICE}") from error


class _StoredArray:
    """Stands for an array while a pickle is read."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def values(self) -> dict[str, Any]:
        """The dict that an array of objects holds."""
        (value,) = self.state[4]
        if not isinstance(value, dict):
            raise ValueError("it holds no dict")
        return value

    def array(self) -> NDArray[Any]:
        """Return the array, of numbers."""
        _, shape, dtype, by_columns, content = self.state
        if not isinstance(dtype, _StoredType) or not isinstance(content, bytes):
            raise ValueError("it holds objects where numbers are expected")
        flat = np.frombuffer(content, dtype.dtype())
        return flat.reshape(shape, order="F" if by_columns else "C")


class _StoredType:
    """Stands for the type of an array's values."""

    __slots__ = ("name", "state")

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.state = name, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def dtype(self) -> np.dtype[Any]:
        """Return the type, of plain numbers."""
        order = self.state[1] if len(self.state) > 1 else "="
        dtype = np.dtype(f"{order if order in ('<', '>') else '='}{self.name}")
        if dtype.kind not in "iubf":
            raise ValueError(f"its values are {dtype}")
        return dtype


def _unpickle(content: bytes) -> _StoredArray:
    """Read a pickle of arrays. The stand-ins are made anew for each file, since a pickle may change what it gets."""

    class Array(_StoredArray):
        __slots__ = ()

    class Type(_StoredType):
        __slots__ = ()

    def make_array(*_: Any) -> _StoredArray:
        return Array()

    def make_scalar(*_: Any) -> None:
        return None

    def encode(text: Any, _: Any = None) -> bytes:
        # Protocol 2 has bytes as texts.
        return text.encode("latin1") if isinstance(text, str) else b""

    known: dict[tuple[str, str], Callable[..., Any]] = {("numpy", "ndarray"): Array, ("numpy", "dtype"): Type}
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        known |= {(module, "_reconstruct"): make_array, (module, "scalar"): make_scalar}
    known["numpy._core.numeric", "_frombuffer"] = known["numpy.core.numeric", "_frombuffer"] = make_scalar
    known["_codecs", "encode"] = encode

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            try:
                return known[module, name]
            except KeyError:
                raise ValueError(f"it names {printable(module)[:60]}.{printable(name)[:60]}") from None

    for operation, argument, _ in pickletools.genops(content):
        # The memo is as long as its largest index says.
        if operation.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= len(content):
            raise ValueError("its memo is out of range")
    value = Unpickler(io.BytesIO(content)).load()
    if not isinstance(value, _StoredArray):
        raise ValueError("it holds no array")
    return value
