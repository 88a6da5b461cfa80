"""Packages that only some installations have."""

from importlib.util import find_spec

from instseg.errors import InstsegError

_ONNX = ("onnx", "tf2onnx", "onnxruntime")


def require_onnx() -> None:
    """See that the packages for ONNX are there.

    Raises
    ------
    InstsegError
        If one is missing.
    """
    missing = [name for name in _ONNX if find_spec(name) is None]
    if missing:
        raise InstsegError(
            f"ONNX needs {', '.join(missing)}; install what is missing with: python -m pip install '.[onnx]'"
        )
