"""TensorFlow in this process: loading Python's, its threads, and the precision that suits the machine."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from instseg.errors import UsageError, check_parameter
from instseg.settings import Precision

# What Linux calls the instructions of x86 processors that multiply bfloat16, two (AVX-512) to four (AMX) times as fast
# as float32.
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}
_CPU_FILE = Path("/proc/cpuinfo")
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_MAX_THREADS = 1024
# How Linux shows that there are GPUs: of NVIDIA, of AMD, and under Windows.
_GPU_FILES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
# What sessions of the C library were given, the first of which decides for the process.
_settled: list[int | None] = []


def load_tensorflow(
    threads: int | None = None, first: Callable[[], None] = lambda: None, *, quiet: bool = False
) -> Any:
    """Import TensorFlow, once, and set it up.

    Where this is what loads TensorFlow, GPUs hand out their memory as it is needed. Nothing else of the process changes
    unless `quiet` asks for it.

    Parameters
    ----------
    threads : int, optional
        Threads of one operation and of operations side by side. By default as many as there are cores.
    first : callable
        What has to come before the first operation: making a strategy of several processes does.
    quiet : bool
        For a program that owns its process, such as the command line: keep what TensorFlow writes to stderr while it
        loads and looks for devices off the terminal, by redirecting file descriptor 2 and by environment variables, and
        show it after all if loading fails. Keras is loaded, too, without what only its plots need.

    Returns
    -------
    module
        `tensorflow`.

    Raises
    ------
    UsageError
        If the number of threads is out of range, or TensorFlow already runs with another.
    """
    check_threads(threads)
    if "tensorflow" in sys.modules:
        tf = sys.modules["tensorflow"]
        _set_threads(tf, threads)
        first()
        return tf
    if not quiet:
        return _load(threads, first)
    # Read when TensorFlow loads: errors only, from its C++ side, and oneDNN, which is what it takes by default on x86.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault(_ONEDNN, "1")
    # Keras imports pyplot where it is installed, for functions that no command calls: a tenth of the time.
    with captured_stderr(), _hidden("matplotlib"):
        tf = _load(threads, first)
        import keras  # noqa: F401

        tf.get_logger().setLevel("ERROR")
        # Devices have more to say when the first operation starts them, and oneDNN when it first moves integers.
        tf.transpose(tf.zeros((1, 1), tf.int32))
    return tf


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Have imports of a package fail while the block runs, unless it is imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def check_threads(threads: int | None) -> None:
    """Check that TensorFlow can be given a number of threads.

    Raises
    ------
    UsageError
        If it is out of range.
    """
    expected = f"a number above 0 and up to {_MAX_THREADS}"
    check_parameter(threads is None or 1 <= threads <= _MAX_THREADS, "threads", threads, expected)


def _load(threads: int | None, first: Callable[[], None]) -> Any:
    import tensorflow as tf

    _set_threads(tf, threads)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    first()
    return tf


def tensorflow_runs() -> bool:
    """Return whether a part of TensorFlow is in use in this process, so that its threads are decided."""
    return "tensorflow" in sys.modules or bool(_settled)


def settle_threads(threads: int | None) -> int | None:
    """Return how many threads a stored network is to be given.

    All of a process, Python's TensorFlow included, share the threads that compute.

    Parameters
    ----------
    threads : int, optional
        By default as many as TensorFlow has been told to take.

    Raises
    ------
    UsageError
        If the number is out of range, or TensorFlow already runs with another.
    """
    check_threads(threads)
    if "tensorflow" in sys.modules:
        # Waits where another thread is importing it.
        import tensorflow as tf

        _set_threads(tf, threads)
        threads = tf.config.threading.get_intra_op_parallelism_threads() or None
    elif threads is not None and _settled and threads != _settled[0]:
        raise _other_threads(threads)
    return _settled[0] if _settled else threads


def note_threads(threads: int | None) -> None:
    """Note with how many threads a session of TensorFlow's C library was begun, for those that follow."""
    _settled.append(threads)


def _set_threads(tf: Any, threads: int | None) -> None:
    threading = tf.config.threading
    if threads is None or threading.get_intra_op_parallelism_threads() == threads:
        return
    if _settled and threads != _settled[0]:
        raise _other_threads(threads)
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise _other_threads(threads) from error


def _other_threads(threads: int) -> UsageError:
    return UsageError(
        f"threads is {threads}, but TensorFlow already runs in this process with another number; leave it out",
        parameter="threads",
    )


def default_precision() -> Precision:
    """Return the precision that networks compute and learn fastest in on this machine: bfloat16 on CPUs made for it.

    A step takes 83 ms in bfloat16 for 128 in float32 on a CPU with matrix units (AMX), and after as many steps the mean
    AP of nuclei is 0.684 either way. Without such instructions bfloat16 is emulated, and slow.

    TensorFlow is not loaded to find out. Where it is not, any GPU of the machine counts as one that it would take.
    """
    if os.environ.get(_ONEDNN, "1").lower() in ("0", "false") or not _cpu_flags() & _BFLOAT16_FLAGS:
        return "float32"
    return "float32" if has_gpu() else "bfloat16"


def has_gpu() -> bool:
    """Return whether TensorFlow may run on a GPU here, without loading it to find out."""
    if "tensorflow" in sys.modules:
        return bool(load_tensorflow().config.list_physical_devices("GPU"))
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(path.exists() for path in _GPU_FILES)


def check_precision(precision: Precision) -> None:
    """Check that models can compute in a precision here.

    Raises
    ------
    UsageError
        If it is bfloat16 and the machine is not made for it: TensorFlow would quietly go on in float32.
    """
    if precision == "float32" or default_precision() == "bfloat16":
        return
    if has_gpu():
        # Only TensorFlow knows whether it can take the GPU.
        load_tensorflow()
    if default_precision() != "bfloat16":
        raise UsageError(
            "precision is bfloat16, expected float32: bfloat16 is for CPUs that are made for it (avx512_bf16 or "
            "amx_bf16 in /proc/cpuinfo), oneDNN and no GPU; leave it out here",
            parameter="precision",
        )


def set_precision(precision: Precision) -> None:
    """Set what the convolutions of functions that this thread calls next compute in, whatever they were made for.

    TensorFlow rewrites a function for each of these settings once, when it is first called with it, and keeps both.
    Their inputs, outputs and sums stay float32.
    """
    tf = load_tensorflow()
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": precision == "bfloat16"})


def _cpu_flags() -> set[str]:
    try:
        lines = _CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # Not Linux: nothing is known of the CPU.
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


@contextmanager
def captured_stderr() -> Iterator[None]:
    """Send file descriptor 2 to a file while the block runs, and replay it if the block raises."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(terminal, 2)
            held.seek(0)
            # Where stderr cannot be written, the error is still what counts.
            with suppress(OSError):
                os.write(2, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
