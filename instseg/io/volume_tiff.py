"""Volumes as TIFF stacks that carry the size of their voxels: hyperstacks of ImageJ, or OME-TIFF.

ImageJ's own format is what Fiji opens with planes, spacing and unit, without an importer; napari, QuPath and tifffile
read it as well. It has 8 and 16 bit, floats and 8-bit colours, and no file beyond 4 GiB. All else is OME-TIFF, and so
is a file whose name ends in `.ome.tif`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError
from instseg.io.atomic import StrPath, atomic_write
from instseg.io.pixel_size import PixelGeometry, length_ratio, tiff_tags

TIFF_SUFFIXES = (".tif", ".tiff")
_OME_SUFFIXES = (".ome.tif", ".ome.tiff")
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
# From so many bytes of voxels on, the offsets in a TIFF may not fit into 32 bit.
_LARGEST_TIFF = 3 * 2**30
# How OME-XML writes units of length.
_OME_UNITS = {
    **{"picometer": "pm", "angstrom": "Å", "nanometer": "nm", "micrometer": "µm", "millimeter": "mm"},
    **{"centimeter": "cm", "inch": "in", "decimeter": "dm", "meter": "m"},
}
_IMAGEJ_UNITS = {**_OME_UNITS, "micrometer": "um", "angstrom": "A", "inch": "inch"}
# Sizes of pixels whose number fits into TIFF's fractions; OME-XML holds any.
_LEAST_SIZE, _LARGEST_SIZE = 1e-6, 1e6


def write_volume(path: StrPath, volume: NDArray[Any], geometry: PixelGeometry | None = None) -> None:
    """Write a volume as a TIFF stack, uncompressed, in one step where it exists.

    Parameters
    ----------
    path : path-like
        Ends in .tif or .tiff.
    volume : (Z, Y, X) or (Z, Y, X, 3) uint8, uint16, int16 or float32
    geometry : PixelGeometry, optional
        The size of its voxels.

    Raises
    ------
    InstsegError
        If the suffix is another one or the file cannot be written.
    UsageError
        If `volume` is of another shape or type.
    """
    path = Path(path)
    gray, known = volume.ndim == 3, volume.dtype.name in ("uint8", "uint16", "int16", "float32")
    if not (gray or (volume.ndim == 4 and volume.shape[3] == 3)) or not known or volume.size == 0:
        expected = "(Z, Y, X) or (Z, Y, X, 3) uint8, uint16, int16 or float32"
        raise UsageError(f"the volume is {volume.shape} {volume.dtype}, expected {expected}")
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise InstsegError(f"cannot write {path}: volumes are written as TIFF; choose a name that ends in .tif")
    write_tiff_planes(path, volume.shape, volume.dtype, iter(volume), geometry)


def write_tiff_planes(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    planes: Iterable[NDArray[Any]],
    geometry: PixelGeometry | None,
    *,
    largest: int | None = None,
    compression: str | None = None,
) -> str | None:
    """Write the planes of a volume one by one, in the format that its type, its size and its name ask for.

    Parameters
    ----------
    path : Path
        Replaced in one step where it exists.
    shape : tuple of int
        (Z, Y, X) or (Z, Y, X, 3)
    dtype : numpy.dtype
    planes : iterable of (Y, X) or (Y, X, 3)
    geometry : PixelGeometry or None
    largest : int, optional
        The value that a viewer shows as white.
    compression : str, optional
        As tifffile names it.

    Returns
    -------
    str or None
        In a clause, what the file lacks of the geometry, as the format does not hold it.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    colours = len(shape) == 4
    fits = geometry is None or all(_LEAST_SIZE <= side <= _LARGEST_SIZE for side in geometry.pixel_size)
    of_imagej = fits and dtype.name in (("uint8",) if colours else _IMAGEJ_TYPES) and size <= _LARGEST_TIFF
    imagej = of_imagej and not path.name.lower().endswith(_OME_SUFFIXES)
    axes = "ZYXS" if colours else "ZYX"
    described = _imagej_description(geometry, largest) if imagej else _ome_description(geometry)
    pixels = _imagej_resolution(geometry) if imagej else tiff_tags(geometry)
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            _contiguous(planes, dtype),
            shape=shape,
            dtype=dtype,
            imagej=imagej,
            ome=not imagej,
            bigtiff=size > _LARGEST_TIFF,
            photometric="rgb" if colours else "minisblack",
            compression=compression,
            metadata={"axes": axes, **described},
            maxworkers=1,
            **pixels,
        )
    return None if imagej else _left_out(geometry, pixels)


def _left_out(geometry: PixelGeometry | None, tags: dict[str, Any]) -> str | None:
    """Return what an OME-TIFF lacks, whose position is that of TIFF's tags, which have rows and columns above 0."""
    if geometry is None or (geometry.position is None and geometry.depth_position is None):
        return None
    if geometry.depth_position is None and "extratags" in tags:
        return None
    return "the position of the volume does not fit into an OME-TIFF and is left out"


def _contiguous(planes: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for plane in planes:
        yield np.ascontiguousarray(plane, dtype)


def _imagej_description(geometry: PixelGeometry | None, largest: int | None) -> dict[str, Any]:
    described: dict[str, Any] = {} if largest is None else {"min": 0.0, "max": float(max(1, largest))}
    if geometry is None:
        return described
    described["unit"] = _IMAGEJ_UNITS.get(geometry.unit or "", "pixel")
    if geometry.depth is not None:
        described["spacing"] = geometry.depth
    # ImageJ has the place of zero, in pixels.
    height, width = geometry.pixel_size
    if geometry.position is not None:
        described |= {"xorigin": -geometry.position[1] / width, "yorigin": -geometry.position[0] / height}
    if geometry.depth_position is not None:
        described["zorigin"] = -geometry.depth_position / (geometry.depth or 1.0)
    return described


def _imagej_resolution(geometry: PixelGeometry | None) -> dict[str, Any]:
    """Return the tags of the size of pixels, whose unit is that of the description."""
    if geometry is None:
        return {}
    height, width = geometry.pixel_size
    return {"resolution": (1 / width, 1 / height), "resolutionunit": "NONE"}


def _ome_description(geometry: PixelGeometry | None) -> dict[str, Any]:
    if geometry is None:
        return {}
    # A unit that is none of length cannot be said.
    known = length_ratio(geometry.unit, "micrometer") is not None
    unit = _OME_UNITS[geometry.unit] if known and geometry.unit in _OME_UNITS else "pixel"
    sizes = {"Z": geometry.depth, "Y": geometry.pixel_size[0], "X": geometry.pixel_size[1]}
    described: dict[str, Any] = {}
    for axis, size in sizes.items():
        if size is not None:
            described |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    return described
