"""Networks as they are stored: functions from images to maps, whichever part of TensorFlow runs them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instseg.network.c_library import Library, LibraryError, find_library, load_library, silent_log
from instseg.network.runtime import has_gpu, load_tensorflow, note_threads, set_precision
from instseg.network.session import Session
from instseg.settings import Precision

_SIGNATURE = "with_percentiles"
# Of the image that a network is shown first, in pixels.
_SMALL = 8


class StoredNetwork(Protocol):
    """A network of a SavedModel.

    Attributes
    ----------
    channels : int
        Of the images that it takes.
    embeddings : int
        How many dimensions they have.
    note : str
        What somebody should know of how it is run; empty where all is as it should be.
    """

    channels: int
    embeddings: int
    note: str

    def __call__(
        self, image: NDArray[Any], low: NDArray[Any], high: NDArray[Any], magnification: np.float32
    ) -> Mapping[str, NDArray[np.float32]]:
        """Return the maps (B, H, W, ...) of images (B, H, W, C) with their levels (B, C), and a magnification.

        Raises
        ------
        MemoryError
            If memory does not suffice.
        """


def open_network(
    folder: Path, *, precision: Precision = "float32", threads: int | None = None, quiet: bool = False
) -> StoredNetwork:
    """Open the network of a SavedModel.

    TensorFlow's C library runs it, which starts in a fraction of the time that importing TensorFlow takes, and returns
    the same numbers. Where the package comes without it, or it cannot be loaded, Python's TensorFlow is imported.

    Parameters
    ----------
    folder : Path
        That of the SavedModel.
    precision : {'float32', 'bfloat16'}
        What convolutions compute in; inputs, outputs and sums are float32.
    threads : int, optional
        What `instseg.network.runtime.settle_threads` has returned.
    quiet : bool
        As `instseg.network.runtime.load_tensorflow` has it.

    Raises
    ------
    MemoryError
    Exception
        Of any kind, if it is damaged.
    """
    path = find_library()
    note = ""
    if path is not None:
        try:
            library = load_library(path, quiet=quiet)
        except LibraryError as error:
            reason = str(error).removeprefix(f"{path}: ")
            note = (
                f"the network is run by Python's TensorFlow, which starts slowly, as {path} cannot be used ({reason})"
            )
        else:
            return _SessionNetwork(library, folder, precision, threads)
    return _PythonNetwork(folder, precision, load_tensorflow(threads, quiet=quiet), note)


def as_network(function: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, NDArray[np.float32]]]:
    """Return a function of Python's TensorFlow, from images with their levels to maps, as one that returns arrays.

    Where memory does not suffice, what is returned raises `MemoryError`, as `StoredNetwork` does.
    """

    def run(*values: Any) -> Mapping[str, NDArray[np.float32]]:
        import tensorflow as tf

        try:
            return {name: np.asarray(tensor) for name, tensor in function(*values).items()}
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(str(error)) from error

    return run


class _SessionNetwork:
    """A network that the C library runs."""

    note = ""

    def __init__(self, library: Library, folder: Path, precision: Precision, threads: int | None) -> None:
        self._session = Session(library, folder, _SIGNATURE, precision=precision, threads=threads, on_gpu=has_gpu())
        note_threads(threads)
        signature = self._session.signature
        image = signature.inputs["image"].shape
        self.channels, self.embeddings = image[-1], signature.outputs["embeddings"].shape[-1]
        # TensorFlow prepares a graph when it is run first, whatever the size, which takes as long as loading it.
        black = np.zeros((1, *(_SMALL for _ in image[2:-1]), _SMALL, self.channels), np.float32)
        levels = np.zeros((1, self.channels), np.float32)
        with silent_log():
            self(black, levels, levels, np.float32(1))

    def __call__(
        self, image: NDArray[Any], low: NDArray[Any], high: NDArray[Any], magnification: np.float32
    ) -> Mapping[str, NDArray[np.float32]]:
        return self._session({"image": image, "low": low, "high": high, "magnification": magnification})


class _PythonNetwork:
    """A network that Python's TensorFlow runs."""

    def __init__(self, folder: Path, precision: Precision, tf: Any, note: str) -> None:
        self._tf, self._precision, self.note = tf, precision, note
        # It owns the variables that the signature reads.
        self._restored = tf.saved_model.load(str(folder))
        self._signature = self._restored.signatures[_SIGNATURE]
        self.channels = self._signature.structured_input_signature[1]["image"].shape[-1]
        self.embeddings = self._signature.structured_outputs["embeddings"].shape[-1]

    def __call__(
        self, image: NDArray[Any], low: NDArray[Any], high: NDArray[Any], magnification: np.float32
    ) -> Mapping[str, NDArray[np.float32]]:
        tf = self._tf

        def run(*values: Any) -> Any:
            names = ("image", "low", "high", "magnification")
            tensors = (tf.constant(np.asarray(value, np.float32)) for value in values)
            return self._signature(**dict(zip(names, tensors, strict=True)))

        # Another model in this process may compute in another.
        set_precision(self._precision)
        return as_network(run)(image, low, high, magnification)
