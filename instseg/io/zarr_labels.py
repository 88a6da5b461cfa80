"""Labels as OME-Zarr: image-label groups of version 0.5 with a pyramid, written strip by strip or part by part."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.atomic import (
    StrPath,
    check_zarr_writable,
    hidden_sibling,
    synchronise,
    synchronise_tree,
    write_errors,
)
from instseg.io.json_text import read_json
from instseg.io.label_images import STRIP_ROWS
from instseg.io.locks import file_lock
from instseg.io.pixel_size import PixelGeometry
from instseg.tiling.grid import Box

# About the side of the coarsest level: what a viewer shows at once.
_COARSEST = 1024
# Levels are cut out of strips of 512 rows, and each level halves their rows.
_MOST_LEVELS = 9
# The attribute of a group that says what it consists of.
_NOTED = "instseg"


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
    partial = partial_zarr(path)
    with zarr_lock(path), write_errors(path):
        try:
            restore_zarr(path)
            shutil.rmtree(partial, ignore_errors=True)
            _write_levels(create_zarr_labels(partial, path.stem, shape, geometry), strips)
            replace_zarr(partial, path)
        finally:
            with suppress(OSError):
                shutil.rmtree(partial)


def partial_zarr(path: Path) -> Path:
    """Return where a group is written until it is complete: `.NAME.partial`, beside `path`."""
    return hidden_sibling(path, ".partial")


@contextmanager
def zarr_lock(path: Path) -> Iterator[None]:
    """Keep other processes from writing the group `path` while the block runs.

    Raises
    ------
    InstsegError
        If another process writes it, something else is there, or it cannot be written.
    """
    check_zarr_writable(path)
    with ExitStack() as held:
        with write_errors(path):
            busy = f"cannot write {path}: another process is writing it; wait for it, or choose another name"
            held.enter_context(file_lock(hidden_sibling(path, ".lock"), busy))
        yield


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

    `zarr_lock` has to be held. Two renames are needed, as a folder that is not empty cannot be replaced in one. If the
    second one fails, the old group is put back; if the process ends between them, `restore_zarr` does that at the next
    writing. A group that replaces another one is on the disc before it does so.
    """
    restore_zarr(path)
    _note_contents(complete)
    replaces = path.exists()
    replaced = _replaced(path)
    if replaces:
        synchronise_tree(complete)
        path.rename(replaced)
    try:
        complete.rename(path)
    except OSError:
        restore_zarr(path)
        raise
    if replaces:
        synchronise(path.parent)
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


def is_complete_zarr(path: StrPath) -> bool:
    """Return whether a folder is a group of labels with all of its chunks, and not a copy that was broken off.

    A group appears under its name when it is complete, and says how many chunks of how many bytes it has. One that
    says nothing, of an earlier version, counts as complete if the metadata of all levels are there and no chunk is
    empty.
    """
    path = Path(path)
    try:
        attributes = read_json(path / "zarr.json")["attributes"]
        levels = [path / level["path"] for level in attributes["ome"]["multiscales"][0]["datasets"]]
        kinds = {read_json(level / "zarr.json")["node_type"] for level in levels}
        sizes = _chunk_sizes(path)
    except (InstsegError, OSError, LookupError, TypeError):
        return False
    if kinds != {"array"} or 0 in sizes:
        return False
    noted = attributes.get(_NOTED)
    return noted is None or noted == _contents(sizes)


def _note_contents(path: Path) -> None:
    """Write what `is_complete_zarr` compares into the attributes of a complete group."""
    metadata = read_json(path / "zarr.json")
    metadata["attributes"][_NOTED] = _contents(_chunk_sizes(path))
    (path / "zarr.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def _contents(sizes: list[int]) -> dict[str, int]:
    return {"chunks": len(sizes), "bytes": sum(sizes)}


def _chunk_sizes(path: Path) -> list[int]:
    """Return the bytes of all chunks of all levels; those of background alone are not stored."""
    return [
        Path(folder, name).stat().st_size
        for chunks in path.glob("*/c")
        for folder, _, names in os.walk(chunks)
        for name in names
        if not name.startswith(".")
    ]


def _replaced(path: Path) -> Path:
    return hidden_sibling(path, ".replaced")
