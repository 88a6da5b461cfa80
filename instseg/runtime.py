"""Loading TensorFlow: with the settings that must come before it, and without its start-up noise."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instseg.errors import UsageError
from instseg.settings import Precision

# What Linux calls the instructions of x86 processors that multiply bfloat16, two (AVX-512) to four (AMX) times as fast
# as float32.
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}
_CPU_FILE = Path("/proc/cpuinfo")


def load_tensorflow(threads: int | None = None, first: Callable[[], None] = lambda: None) -> Any:
    """Import TensorFlow quietly, once, and set it up.

    What its C++ side writes to the terminal while it loads and looks for
    devices is held back, and shown after all if that fails. On a machine with GPUs
    memory is taken as it is needed.

    Parameters
    ----------
    threads : int, optional
        Threads of one operation and of operations side by side. By default as many as there are cores.
    first : callable
        What has to come before the first operation: making a strategy of several processes does.

    Returns
    -------
    module
        `tensorflow`.
    """
    # Read when TensorFlow loads; measured 1.3 to 2 times faster in training.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Errors only, from its C++ side.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules and threads is None:
        first()
        return sys.modules["tensorflow"]
    with held_back():
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
        first()
        # Devices have more to say when the first operation starts them, and oneDNN when it first moves integers.
        tf.transpose(tf.zeros((1, 1), tf.int32))
    return tf


def fastest_precision() -> Precision:
    """Return what networks learn fastest in here, for the same result: bfloat16 on CPUs that are made for it.

    A step takes 83 ms in bfloat16 for 128 in float32 on a CPU with matrix units (AMX), and after as many steps nuclei
    have a mean AP of 0.684 either way. Without such instructions bfloat16 is emulated, and slow.
    """
    tf = load_tensorflow()
    if os.environ["TF_ENABLE_ONEDNN_OPTS"].lower() in ("0", "false") or tf.config.list_physical_devices("GPU"):
        return "float32"
    return "bfloat16" if _cpu_flags() & _BFLOAT16_FLAGS else "float32"


def require_precision(precision: Precision) -> None:
    """See that models can compute in a precision here.

    Raises
    ------
    UsageError
        If it is bfloat16 and the machine is not made for it: TensorFlow would quietly go on in float32.
    """
    if precision == "bfloat16" and fastest_precision() != "bfloat16":
        raise UsageError(
            "--precision is bfloat16, expected float32: bfloat16 is for CPUs that are made for it (avx512_bf16 or "
            "amx_bf16 in /proc/cpuinfo), oneDNN and no GPU; leave it out here"
        )


def compute_in(precision: Precision) -> None:
    """Set what convolutions of functions that this thread calls next compute in, whatever they were made for.

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
def held_back() -> Iterator[None]:
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
            os.write(2, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
