"""Packages that only some installations have."""

from importlib.util import find_spec

from instseg.errors import InstsegError

# Of each extra of the installation: what it is for, and the packages in it.
_PURPOSES = {
    "onnx": "ONNX needs",
    "dask": "A cluster of workers needs",
    "imagej": "ImageJ ROIs need",
    "czi": "CZI needs",
    "nd2": "ND2 needs",
    "remote": "Images on servers need",
    "parquet": "Parquet tables need",
    "label": "The page for labelling needs",
}
_PACKAGES = {
    "onnx": ("onnx", "tf2onnx", "onnxruntime"),
    "dask": ("dask", "distributed", "cryptography"),
    "imagej": ("roifile",),
    "czi": ("pylibCZIrw",),
    "nd2": ("nd2",),
    "remote": ("fsspec", "aiohttp", "s3fs"),
    "parquet": ("pyarrow",),
    "label": ("starlette", "uvicorn"),
}


def require_extra(name: str) -> None:
    """Check that the packages of an extra are installed.

    Parameters
    ----------
    name : {'onnx', 'dask', 'imagej', 'czi', 'nd2', 'remote', 'parquet', 'label'}
        The extra, as the installation names it.

    Raises
    ------
    InstsegError
        If one is missing.
    """
    missing = [package for package in _PACKAGES[name] if find_spec(package) is None]
    if missing:
        raise InstsegError(
            f"{_PURPOSES[name]} {', '.join(missing)}; install what is missing with: python -m pip install '.[{name}]'"
        )
