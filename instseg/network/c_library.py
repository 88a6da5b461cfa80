"""TensorFlow's C library, which lies beside its Python package: found and loaded without importing that.

`import tensorflow` takes seconds, nearly all of them for what a stored network does not need. The functions are those
of https://www.tensorflow.org/install/lang_c, which do not change within a major version; other programs are built on
them. Nothing here is called with a wrong number or type of arguments: each function has a prototype.
"""

import ctypes
import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

# On Linux and on macOS.
_FILES = ("libtensorflow_cc.so.*", "libtensorflow_cc.*.dylib")
_LOG_LEVEL, _ONEDNN = "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"
_RESOURCE_EXHAUSTED = 8
_LONGEST_MESSAGE = 2**16


class Output(ctypes.Structure):
    """TF_Output: an output of an operation of a graph."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


class Buffer(ctypes.Structure):
    """TF_Buffer: bytes that the library has filled in."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


# Results and arguments of the functions that are called, without the prefix of their names.
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "NewStatus": (c_void_p, ()),
    "DeleteStatus": (None, (c_void_p,)),
    "GetCode": (c_int, (c_void_p,)),
    "Message": (c_char_p, (c_void_p,)),
    "NewGraph": (c_void_p, ()),
    "DeleteGraph": (None, (c_void_p,)),
    "NewBuffer": (POINTER(Buffer), ()),
    "DeleteBuffer": (None, (POINTER(Buffer),)),
    "NewSessionOptions": (c_void_p, ()),
    "DeleteSessionOptions": (None, (c_void_p,)),
    "SetConfig": (None, (c_void_p, c_char_p, c_size_t, c_void_p)),
    "LoadSessionFromSavedModel": (
        c_void_p,
        (
            c_void_p,
            c_void_p,
            c_char_p,
            POINTER(c_char_p),
            c_int,
            c_void_p,
            POINTER(Buffer),
            c_void_p,
        ),
    ),
    "CloseSession": (None, (c_void_p, c_void_p)),
    "DeleteSession": (None, (c_void_p, c_void_p)),
    "GraphOperationByName": (c_void_p, (c_void_p, c_char_p)),
    "OperationNumOutputs": (c_int, (c_void_p,)),
    "SessionRun": (
        None,
        (
            c_void_p,
            c_void_p,
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            c_void_p,
            c_int,
            c_void_p,
            c_void_p,
        ),
    ),
    "AllocateTensor": (c_void_p, (c_int, POINTER(c_int64), c_int, c_size_t)),
    "DeleteTensor": (None, (c_void_p,)),
    "TensorData": (c_void_p, (c_void_p,)),
    "TensorType": (c_int, (c_void_p,)),
    "NumDims": (c_int, (c_void_p,)),
    "Dim": (c_int64, (c_void_p, c_int)),
}


class LibraryError(Exception):
    """The library is there, and cannot be used."""


class Library:
    """The functions of the library as attributes, by their names without TF_.

    Parameters
    ----------
    loaded : ctypes.CDLL

    Raises
    ------
    LibraryError
        If it lacks one of them.
    """

    def __init__(self, loaded: ctypes.CDLL) -> None:
        for name, (result, arguments) in _PROTOTYPES.items():
            try:
                function = getattr(loaded, f"TF_{name}")
            except AttributeError as error:
                raise LibraryError(f"it has no function TF_{name}") from error
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        """Tell type checkers that attributes are functions; those that are not there are not here either."""
        raise AttributeError(name)

    @contextmanager
    def status(self) -> Iterator[int]:
        """Give a status to a block that calls a function, and raise what the function has noted in it.

        Raises
        ------
        MemoryError
            If it says that memory does not suffice.
        ValueError
            If it says anything else.
        """
        status = self.NewStatus()
        try:
            yield status
            code = self.GetCode(status)
            if code:
                message = (self.Message(status) or b"")[:_LONGEST_MESSAGE].decode(errors="replace")
                raise (MemoryError if code == _RESOURCE_EXHAUSTED else ValueError)(message)
        finally:
            self.DeleteStatus(status)


_loading = threading.RLock()
_loaded: Library | None = None


def find_library() -> Path | None:
    """Return where the library is; None where TensorFlow is not installed, or its package comes without it."""
    try:
        spec = importlib.util.find_spec("tensorflow")
    except (ImportError, ValueError):
        return None
    folders = (Path(folder) for folder in (spec.submodule_search_locations if spec is not None else None) or ())
    return next((path for folder in folders for name in _FILES for path in sorted(folder.glob(name))), None)


def load_library(path: Path, *, quiet: bool = False) -> Library:
    """Load the library, once; it stays loaded as long as the process lives.

    Where Python's TensorFlow is imported, before or afterwards, both are the same code in the same memory.

    Parameters
    ----------
    path : Path
        As `find_library` returns it.
    quiet : bool
        Whether TensorFlow is to write errors alone to stderr from now on, by an environment variable.

    Raises
    ------
    LibraryError
        If it cannot be loaded, or is another one than expected.
    """
    global _loaded
    with _loading:
        if quiet and _loaded is None:
            os.environ.setdefault(_LOG_LEVEL, "2")
            # What it takes by default on x86; said so that it does not say so.
            os.environ.setdefault(_ONEDNN, "1")
        if _loaded is None:
            with silent_log():
                _loaded = Library(_opened(path))
        return _loaded


def begin_loading() -> None:
    """Begin to load the library in a thread, for a command that will need it and imports much first.

    What goes wrong is raised by `load_library` when it is needed; nothing but errors is written from now on.
    """
    path = find_library()
    if path is None:
        return

    def load() -> None:
        with suppress(LibraryError):
            load_library(path, quiet=True)

    threading.Thread(target=load, name="tensorflow").start()


def _opened(path: Path) -> ctypes.CDLL:
    try:
        # ctypes binds all functions of a library at once, which takes a tenth of a second for 170,000 of which thirty
        # are called. Their names stay those of this handle, as they are none of the process's.
        function = ctypes.CDLL(None).dlopen
        function.restype, function.argtypes = c_void_p, (c_char_p, c_int)
        handle = function(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL)
        return ctypes.CDLL(str(path), handle=handle or None)
    except (OSError, AttributeError) as error:
        raise LibraryError(str(error)) from error


@contextmanager
def silent_log() -> Iterator[None]:
    """Keep what C code writes to its stderr off the terminal while the block runs.

    TensorFlow reports how it loads; what goes wrong is in the errors that it returns. The stream of C is exchanged and
    descriptor 2 is not, so that what other threads write by Python appears. Nothing is kept back where
    TF_CPP_MIN_LOG_LEVEL is 0, which asks for it.
    """
    with _loading:
        stream, nowhere = _c_stderr(), _nowhere()
        if stream is None or nowhere is None or os.environ.get(_LOG_LEVEL) == "0":
            yield
            return
        before, stream.value = stream.value, nowhere
        try:
            yield
        finally:
            stream.value = before


def _c_stderr() -> c_void_p | None:
    """Return the variable that holds C's stream of stderr."""
    try:
        return c_void_p.in_dll(ctypes.CDLL(None), "__stderrp" if sys.platform == "darwin" else "stderr")
    except (OSError, ValueError):
        return None


@functools.cache
def _nowhere() -> int | None:
    """Return a stream of C that leads to the null device; it is never closed, as a thread may be about to write."""
    function = ctypes.CDLL(None).fopen
    function.restype, function.argtypes = c_void_p, (c_char_p, c_char_p)
    opened: int | None = function(os.fsencode(os.devnull), b"w")
    return opened
