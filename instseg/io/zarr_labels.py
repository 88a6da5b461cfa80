"""Labels as OME-Zarr: image-label groups of version 0.5 with a pyramid, written strip by strip or part by part."""

import math
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.atomic import StrPath, check_zarr_writable, write_errors
from instseg.io.label_images import STRIP_ROWS
from instseg.io.pixel_size import PixelGeometry
from instseg.tiling.grid import Box

# About the side of the coarsest level: what a viewer shows at once.
_COARSEST = 1024
# Levels are cut out of strips of 512 rows, and each level halves their rows.
_MOST_LEVELS = 9


def write_zarr_labels(
    path: StrPath, shape: tuple[int, int], strips: Iterator[NDArray[np.int32]], geometry: PixelGeometry | None = None
) -> None:
    """Write labels that come strip by strip as an OME-Zarr image-label group.

    Parameters
    ----------
    path : path-like
        It appears when it is complete; a Zarr group that is there stays until then and is replaced.
    shape : tuple of int
        Height and width of the image.
    strips : iterator of (`STRIP_ROWS`, W) int32
        From the top; the last one may be lower.
    geometry : PixelGeometry, optional
        The size and the position of the pixels.

    Raises
    ------
    InstsegError
        If something else is there, or it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with write_errors(path):
            restore_zarr(path)
            check_zarr_writable(path)
            shutil.rmtree(partial, ignore_errors=True)
            _write_levels(create_zarr_labels(partial, path.stem, shape, geometry), strips)
            replace_zarr(partial, path)
    finally:
        with suppress(OSError):
            shutil.rmtree(partial)


def _write_levels(arrays: list[Any], strips: Iterator[NDArray[np.int32]]) -> None:
    pending: list[NDArray[np.int32]] = [np.zeros((0, array.shape[1]), np.int32) for array in arrays]
    top = [0] * len(arrays)
    for strip in strips:
        for level, array in enumerate(arrays):
            step = 2**level
            pending[level] = np.concatenate([pending[level], strip[::step, ::step]])
            # Whole rows of chunks at a time: each is compressed once.
            bottom = top[level] + len(pending[level])
            if len(pending[level]) >= STRIP_ROWS or bottom == array.shape[0]:
                array[top[level] : bottom] = pending[level].astype(np.uint32)
                top[level], pending[level] = bottom, pending[level][:0]


def create_zarr_labels(
    path: StrPath, name: str, shape: tuple[int, int], geometry: PixelGeometry | None = None
) -> list[Any]:
    """Make an OME-Zarr image-label group with a pyramid of empty arrays.

    Parameters
    ----------
    path : path-like
        Where there is nothing.
    name : str
        Of the labels.
    shape : tuple of int
        Height and width of the image.
    geometry : PixelGeometry, optional
        The size and the position of the pixels.

    Returns
    -------
    list of zarr.Array
        uint32, the finest first; each has every second pixel in both directions of the one before.
    """
    import zarr

    levels = 1 + max(0, min(_MOST_LEVELS, math.ceil(math.log2(max(*shape, 1) / _COARSEST))))
    geometry = geometry or PixelGeometry((1.0, 1.0))
    unit = {} if geometry.unit is None else {"unit": geometry.unit}
    datasets = []
    for level in range(levels):
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [side * 2**level for side in geometry.pixel_size]}]
        if geometry.position is not None:
            # Every level has the first pixel of the image.
            steps.append({"type": "translation", "translation": list(geometry.position)})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    axes = [{"name": axis, "type": "space", **unit} for axis in "yx"]
    multiscales = [{"name": name, "axes": axes, "datasets": datasets, "type": "nearest"}]
    attributes = {"ome": {"version": "0.5", "multiscales": multiscales, "image-label": {}}}
    group = zarr.create_group(str(path), attributes=attributes, zarr_format=3)
    return [
        group.create_array(
            str(level),
            shape=tuple(-(-side // 2**level) for side in shape),
            chunks=(STRIP_ROWS, STRIP_ROWS),
            dtype="uint32",
            dimension_names=("y", "x"),
        )
        for level in range(levels)
    ]


def open_zarr_labels(path: StrPath) -> list[Any]:
    """Return the arrays of `create_zarr_labels`, to write to."""
    import zarr

    group = zarr.open_group(str(path), mode="r+")
    return [group[str(level)] for level in range(len(list(group.array_keys())))]


def downsample_level(arrays: list[Any], level: int, box: Box) -> None:
    """Write a part of a level of the pyramid, whole chunks, from the level before."""
    rows, columns = (slice(2 * begin, 2 * end) for begin, end in ((box.top, box.bottom), (box.left, box.right)))
    finer = arrays[level - 1][rows, columns]
    arrays[level][box.top : box.bottom, box.left : box.right] = finer[::2, ::2]


def replace_zarr(complete: Path, path: Path) -> None:
    """Rename a complete group to `path`; what is there is deleted when the new group is in its place.

    Two renames are needed, as a folder that is not empty cannot be replaced in one. If the second one fails, the old
    group is put back; if the process ends between them, `restore_zarr` does that at the next writing.
    """
    restore_zarr(path)
    replaced = _replaced(path)
    if path.exists():
        path.rename(replaced)
    try:
        complete.rename(path)
    except OSError:
        restore_zarr(path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def restore_zarr(path: Path) -> None:
    """Put back, or delete, the old group that a process has left that ended while it replaced it."""
    replaced = _replaced(path)
    if not replaced.exists():
        return
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        replaced.rename(path)


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")
