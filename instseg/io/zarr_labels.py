"""Labels as OME-Zarr: image-label groups of version 0.5 with a pyramid, written strip by strip or part by part.

Labels of an image have the axes y and x, those of a volume z, y and x.
"""

import itertools
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

# About the side of the coarsest level by the number of axes: what a viewer shows at once.
_COARSEST = {2: 1024, 3: 256}
# Chunks of a volume are of a megavoxel, few enough planes that slabs of them fit into memory.
_CHUNKS = {2: (STRIP_ROWS, STRIP_ROWS), 3: (16, 256, 256)}
# Levels are cut out of strips of 512 rows, and each level halves their rows.
_MOST_LEVELS = 9
# The attribute of a group that says what it consists of.
_NOTED = "instseg"


def write_zarr_labels(
    path: StrPath, shape: tuple[int, ...], strips: Iterator[NDArray[np.integer]], geometry: PixelGeometry | None = None
) -> None:
    """Write labels that come strip by strip as an OME-Zarr image-label group.

    Parameters
    ----------
    path : path-like
        It appears when it is complete; a Zarr group that is there stays until then and is replaced.
    shape : tuple of int
        Height and width of the image; planes, rows and columns of a volume.
    strips : iterator of (h, W) or (z, Y, X) integers
        From the top, or from the first plane on, of any height.
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


def _write_levels(arrays: list[Any], strips: Iterator[NDArray[np.integer]]) -> None:
    pending: list[NDArray[np.integer]] = [np.zeros((0, *array.shape[1:]), np.int32) for array in arrays]
    written, seen = [0] * len(arrays), 0
    steps = _steps(arrays)
    for strip in strips:
        for level, (array, step) in enumerate(zip(arrays, steps, strict=True)):
            # The first row of a strip that is one of the level's.
            first = -seen % step[0]
            part = strip[(slice(first, None, step[0]), *(slice(None, None, one) for one in step[1:]))]
            pending[level] = np.concatenate([pending[level], part]) if len(pending[level]) else part
            # Whole chunks at a time: each is compressed once.
            end = written[level] + len(pending[level])
            if end != array.shape[0]:
                end -= end % array.chunks[0]
            if (count := end - written[level]) > 0:
                array[written[level] : end] = pending[level][:count].astype(np.uint32)
                written[level], pending[level] = end, pending[level][count:]
        seen += len(strip)


def _steps(arrays: list[Any]) -> list[tuple[int, ...]]:
    """Return of each level of a pyramid how many pixels of the finest one of its pixels stands for along each axis."""
    steps = [(1,) * arrays[0].ndim]
    for finer, coarser in itertools.pairwise(arrays):
        factors = _factors(finer, coarser)
        steps.append(tuple(step * factor for step, factor in zip(steps[-1], factors, strict=True)))
    return steps


def _factors(finer: Any, coarser: Any) -> tuple[int, ...]:
    """Return along which axes a level has every second pixel of the one before; an axis of one pixel has it anyway."""
    return tuple(1 if one == other else 2 for one, other in zip(finer.shape, coarser.shape, strict=True))


def create_zarr_labels(
    path: StrPath, name: str, shape: tuple[int, ...], geometry: PixelGeometry | None = None
) -> list[Any]:
    """Make an OME-Zarr image-label group with a pyramid of empty arrays.

    Parameters
    ----------
    path : path-like
        Where there is nothing.
    name : str
        Of the labels.
    shape : tuple of int
        Height and width of the image; planes, rows and columns of a volume.
    geometry : PixelGeometry, optional
        The size and the position of the pixels.

    Returns
    -------
    list of zarr.Array
        uint32, the finest first; each has every second pixel of the one before along rows and columns, and every second
        plane where planes are no further apart than pixels.
    """
    import zarr

    axes = "zyx"[-len(shape) :]
    sizes, position, unit = _placed(geometry, len(shape))
    steps = _level_steps(shape, sizes)
    described = [{"name": axis, "type": "space", **({} if unit is None else {"unit": unit})} for axis in axes]
    datasets = [
        {"path": str(level), "coordinateTransformations": _transformations(sizes, position, step)}
        for level, step in enumerate(steps)
    ]
    multiscales = [{"name": name, "axes": described, "datasets": datasets, "type": "nearest"}]
    attributes = {"ome": {"version": "0.5", "multiscales": multiscales, "image-label": {}}}
    group = zarr.create_group(str(path), attributes=attributes, zarr_format=3)
    return [
        group.create_array(
            str(level),
            shape=tuple(-(-side // factor) for side, factor in zip(shape, step, strict=True)),
            chunks=_CHUNKS[len(shape)],
            dtype="uint32",
            dimension_names=tuple(axes),
        )
        for level, step in enumerate(steps)
    ]


def _placed(
    geometry: PixelGeometry | None, ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...] | None, str | None]:
    """Return the size and the position of pixels or voxels along each axis, and their unit."""
    geometry = geometry or PixelGeometry((1.0, 1.0))
    if ndim == 2:
        return geometry.pixel_size, geometry.position, geometry.unit
    sizes = geometry.spacing or (geometry.pixel_size[1], *geometry.pixel_size)
    placed = geometry.position is not None or geometry.depth_position is not None
    position = (geometry.depth_position or 0.0, *(geometry.position or (0.0, 0.0)))
    return sizes, position if placed else None, geometry.unit


def _level_steps(shape: tuple[int, ...], sizes: tuple[float, ...]) -> list[tuple[int, ...]]:
    """Return of each level how many pixels of the finest one of its pixels stands for along each axis."""
    count = 1 + max(0, min(_MOST_LEVELS, math.ceil(math.log2(max(*shape[-2:], 1) / _COARSEST[len(shape)]))))
    steps = [(1,) * len(shape)]
    while len(steps) < count:
        step = steps[-1]
        # Planes that are further apart than pixels are kept until the pixels of a level are as large.
        thick = [one * size > math.sqrt(2) * step[-1] * sizes[-1] for one, size in zip(step, sizes, strict=True)]
        thick[-2:] = False, False
        steps.append(tuple(one if keep else 2 * one for one, keep in zip(step, thick, strict=True)))
    return steps


def _transformations(
    sizes: tuple[float, ...], position: tuple[float, ...] | None, step: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Return the scale and the position of a level; every level has the first pixel of the image."""
    scale = [size * factor for size, factor in zip(sizes, step, strict=True)]
    scaled: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    return scaled if position is None else [*scaled, {"type": "translation", "translation": list(position)}]


def open_zarr_labels(path: StrPath) -> list[Any]:
    """Return the arrays of `create_zarr_labels`, to write to."""
    import zarr

    group = zarr.open_group(str(path), mode="r+")
    return [group[str(level)] for level in range(len(list(group.array_keys())))]


def downsample_level(arrays: list[Any], level: int, box: Box) -> None:
    """Write a part of a level of the pyramid, whole chunks, from the level before."""
    finer, coarser = arrays[level - 1], arrays[level]
    factors = _factors(finer, coarser)
    ends = list(zip(box.begin, box.end, factors, strict=True))
    part = finer[tuple(slice(factor * begin, factor * end) for begin, end, factor in ends)]
    kept = part[tuple(slice(None, None, factor) for factor in factors)]
    coarser[tuple(slice(begin, end) for begin, end, _ in ends)] = kept


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
