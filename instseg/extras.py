"""Packages that only some installations have."""

from importlib.util import find_spec

from instseg.errors import InstsegError

_PACKAGES = {"onnx": ("onnx", "tf2onnx", "onnxruntime"), "zarr": ("zarr",), "dask": ("dask", "distributed")}


def require_onnx() -> None:
    """See that the packages for ONNX are there.

    Raises
    ------
    InstsegError
        If one is missing.
    """
    _require("ONNX", "onnx")


def require_zarr() -> None:
    """See that the package for OME-Zarr is there; errors as `require_onnx` has them."""
    _require("OME-Zarr", "zarr")


def require_dask() -> None:
    """See that the packages for Dask are there; errors as `require_onnx` has them."""
    _require("A cluster of workers", "dask")


def _require(what: str, extra: str) -> None:
    missing = [name for name in _PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise InstsegError(
            f"{what} needs {', '.join(missing)}; install what is missing with: python -m pip install '.[{extra}]'"
        )
