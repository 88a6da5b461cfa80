"""A function of a SavedModel, run by TensorFlow's C library: arrays in, arrays out."""

import ctypes
import os
import weakref
from collections.abc import Mapping
from ctypes import c_char_p, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.network.c_library import Library, Output, silent_log
from instseg.network.wire import Signature, TensorSpec, message_field, number_field, read_signature
from instseg.settings import Precision

_TAG = b"serve"
_FLOAT32 = 1
# Fields of ConfigProto, and of GPUOptions, GraphOptions and RewriterConfig in it.
_INTRA_OP_THREADS, _INTER_OP_THREADS, _PER_SESSION_THREADS, _GPU, _SOFT_PLACEMENT, _GRAPH = 2, 5, 9, 6, 7, 10
_ALLOW_GROWTH, _PLACE_PRUNED, _REWRITE = 4, 6, 10
_ITERATIONS, _MEMORY, _NO_GENERIC, _BFLOAT16 = 12, 4, 32, 31
# Rewriting of layouts, constants, arithmetic, dependencies, loops, shapes, scopes, places, kernels and equal parts.
_PASSES = (1, 3, 7, 8, 9, 13, 15, 18, 22, 24)
_ON = _ONE = _NONE = 1
_OFF = 2


class Session:
    """A signature of a SavedModel with its weights in memory.

    It is freed with the last reference to it; what it has returned lives on. Threads may call it at once.

    Parameters
    ----------
    library : Library
    folder : Path
        That of the SavedModel.
    name : str
        Of the signature. All that it takes and gives is float32.
    precision : {'float32', 'bfloat16'}
        What convolutions compute in.
    threads : int, optional
        Threads of operations side by side, and of one operation: the latter are shared by all sessions of a process,
        and the first one decides. By default as many as there are cores.
    on_gpu : bool
        Whether a GPU may run it.

    Attributes
    ----------
    signature : Signature

    Raises
    ------
    ValueError
        If there is no such SavedModel or signature, or it is damaged.
    MemoryError
    """

    def __init__(
        self,
        library: Library,
        folder: Path,
        name: str,
        *,
        precision: Precision,
        threads: int | None = None,
        on_gpu: bool = False,
    ) -> None:
        self._library = library
        graph = library.NewGraph()
        try:
            with silent_log():
                session, meta_graph = _load(library, graph, folder, _config(precision, threads, on_gpu))
        except BaseException:
            library.DeleteGraph(graph)
            raise
        # At the end of the process threads may still be at work, and the system frees all.
        weakref.finalize(self, _free, library, session, graph).atexit = False
        self._session = session
        self.signature: Signature = read_signature(meta_graph, name)
        self._inputs = _outputs(library, graph, self.signature.inputs)
        self._outputs = _outputs(library, graph, self.signature.outputs)

    def __call__(self, values: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Return what the signature gives for arrays of numbers by name.

        The arrays are converted into memory of TensorFlow, and what it returns is not copied.

        Raises
        ------
        ValueError
            If one is missing, or TensorFlow refuses them.
        MemoryError
            If memory does not suffice.
        """
        library = self._library
        missing = self.signature.inputs.keys() - values.keys()
        if missing:
            raise ValueError(f"the network was not given {', '.join(sorted(missing))}")
        given = [_Tensor.of(library, np.asarray(values[name])) for name in self.signature.inputs]
        pointers = (c_void_p * len(given))(*(tensor.pointer for tensor in given))
        results = (c_void_p * len(self._outputs))()
        with library.status() as status:
            library.SessionRun(
                self._session,
                None,
                self._inputs,
                pointers,
                len(given),
                self._outputs,
                results,
                len(results),
                None,
                0,
                None,
                status,
            )
        names = self.signature.outputs
        return {name: _Tensor(library, result).array() for name, result in zip(names, results, strict=True)}


class _Tensor:
    """A TF_Tensor, which is deleted with the last array on its memory."""

    def __init__(self, library: Library, pointer: int) -> None:
        self.pointer = pointer
        self._delete = library.DeleteTensor
        self._shape: tuple[int, ...] = tuple(library.Dim(pointer, axis) for axis in range(library.NumDims(pointer)))
        # NumPy asks for this, and keeps the object.
        self.__array_interface__ = {
            "version": 3,
            "shape": self._shape,
            "typestr": np.dtype(np.float32).str,
            "data": (library.TensorData(pointer) or 0, False),
        }

    @classmethod
    def of(cls, library: Library, values: NDArray[Any]) -> "_Tensor":
        """Return a tensor with a copy of values."""
        lengths = (c_int64 * max(values.ndim, 1))(*values.shape)
        size = values.size * np.dtype(np.float32).itemsize
        tensor = cls(library, library.AllocateTensor(_FLOAT32, lengths, values.ndim, size))
        if size and not library.TensorData(tensor.pointer):
            # A tensor without memory is what the library returns where there is none.
            raise MemoryError(f"there is no memory for {size:,} bytes")
        if size:
            np.copyto(tensor.array(), values, casting="unsafe")
        return tensor

    def array(self) -> NDArray[np.float32]:
        """Return the memory of the tensor as an array."""
        shape = self._shape
        if 0 in shape:
            # Where nothing is, the address may be none.
            return np.empty(shape, np.float32)
        values: NDArray[np.float32] = np.asarray(self)
        return values

    def __del__(self) -> None:
        self._delete(self.pointer)


def _load(library: Library, graph: int, folder: Path, config: bytes) -> tuple[int, bytes]:
    """Load a SavedModel into a graph; return its session, and its MetaGraphDef as bytes."""
    options, buffer = library.NewSessionOptions(), library.NewBuffer()
    try:
        with library.status() as status:
            library.SetConfig(options, config, len(config), status)
        tags = (c_char_p * 1)(_TAG)
        with library.status() as status:
            session: int = library.LoadSessionFromSavedModel(
                options, None, os.fsencode(folder), tags, len(tags), graph, buffer, status
            )
        content = buffer.contents
        return session, ctypes.string_at(content.data, content.length)
    finally:
        library.DeleteBuffer(buffer)
        library.DeleteSessionOptions(options)


def _free(library: Library, session: int, graph: int) -> None:
    for function in (library.CloseSession, library.DeleteSession):
        status = library.NewStatus()
        function(session, status)
        library.DeleteStatus(status)
    library.DeleteGraph(graph)


def _config(precision: Precision, threads: int | None, on_gpu: bool) -> bytes:
    """Return a ConfigProto: threads, GPUs that hand out their memory as it is needed, and the precision.

    On a CPU, TensorFlow's rewriting of graphs makes a network no faster, and loading it and its first run take twice as
    long. In float32 a session that places only what it runs goes without; for bfloat16, which is such a rewriting, what
    else would be rewritten is left as it is. The maps are the same, bit for bit.
    """
    if on_gpu:
        graph = b""
    elif precision == "float32":
        graph = number_field(_PLACE_PRUNED, 1)
    else:
        choices = {_BFLOAT16: _ON, _ITERATIONS: _ONE, _MEMORY: _NONE, _NO_GENERIC: 1, **dict.fromkeys(_PASSES, _OFF)}
        graph = message_field(_REWRITE, b"".join(number_field(number, value) for number, value in choices.items()))
    fields = [
        message_field(_GPU, number_field(_ALLOW_GROWTH, 1)),
        number_field(_SOFT_PLACEMENT, 1),
        message_field(_GRAPH, graph),
    ]
    if threads is not None:
        numbers = {_INTRA_OP_THREADS: threads, _INTER_OP_THREADS: threads, _PER_SESSION_THREADS: 1}
        fields += [number_field(number, value) for number, value in numbers.items()]
    return b"".join(fields)


def _outputs(library: Library, graph: int, specs: Mapping[str, TensorSpec]) -> "ctypes.Array[Output]":
    """Return where tensors are in a graph, all of which are float32."""
    found = []
    for name, spec in specs.items():
        operation = library.GraphOperationByName(graph, spec.operation.encode())
        if not operation or spec.output >= library.OperationNumOutputs(operation):
            raise ValueError(f"{name} of its signature is not in its graph")
        if spec.dtype != _FLOAT32:
            raise ValueError(f"{name} of its signature is of type {spec.dtype}, expected {_FLOAT32}, which is float32")
        found.append(Output(operation, spec.output))
    return (Output * len(found))(*found)
