"""OME-Zarr: images of which parts are read, and labels that are written strip by strip.

Read are the finest level of OME-Zarr groups of versions 0.1 to 0.5, and plain Zarr arrays whose axes can be told.
Written are image-label groups of version 0.5 with a pyramid.

Metadata is read here rather than with ome-zarr-models, which validates versions 0.4 and 0.5 only, and of these refuses
groups without scales or named dimensions although their pixels can be read. As these need a reader all the same, it
would be a second one, with pydantic as a further dependency and 0.3 s of imports. The tests validate with it what is
written.
"""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.atomic import StrPath, check_zarr_writable, write_errors
from instseg.io.formats import ImageFileError
from instseg.io.label_images import STRIP_ROWS
from instseg.io.pixel_size import PixelGeometry, length_ratio
from instseg.tiling.grid import Box

# The order of axes in all versions, for metadata that does not name them.
_ORDER = "tczyx"
# About the side of the coarsest level: what a viewer shows at once.
_COARSEST = 1024
# Levels are cut out of strips of 512 rows, and each level halves their rows.
_MOST_LEVELS = 9


class ZarrReader:
    """The finest level of an OME-Zarr image, or a Zarr array.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    shape : tuple of int
        (H, W, C)
    dtype : numpy.dtype
        uint8, uint16 or float32.
    geometry : PixelGeometry or None
        The size and the position of the pixels, None where the metadata says nothing.
    streamed : bool
        True: parts are read from the file when they are needed.

    Raises
    ------
    ImageFileError
        If it cannot be read, or is no image of two dimensions with channels.
    """

    streamed = True

    def __init__(self, path: StrPath) -> None:
        import zarr

        self._path = path = Path(path)
        with _zarr_errors(path):
            node: Any = zarr.open(str(path), mode="r")
            attributes: dict[str, Any] = dict(node.attrs)
            images = (attributes.get("ome") or attributes).get("multiscales")
            metadata: dict[str, Any] = images[0] if images else {}
            self._array: Any = node
            if isinstance(node, zarr.Group):
                if not images:
                    raise ImageFileError(path, "it is a group without OME-Zarr metadata", "give the array in it")
                self._array = node[metadata["datasets"][0]["path"]]
            axes = _named_axes(path, self._array, metadata)
            self._names = [axis["name"] for axis in axes]
            self.geometry = _geometry(axes, metadata)
        sizes = dict(zip(self._names, self._array.shape, strict=True))
        if several := [f"{size} along {name}" for name, size in sizes.items() if name not in "cyx" and size != 1]:
            what = f"it has {' and '.join(several)}, expected one plane"
            raise ImageFileError(path, what, "save the planes one by one")
        self.dtype = np.dtype(self._array.dtype).newbyteorder("=")
        if self.dtype not in (np.uint8, np.uint16, np.float32):
            what = f"its values are {self.dtype}, expected uint8, uint16 or float32"
            raise ImageFileError(path, what, "convert it")
        self.shape = (sizes["y"], sizes["x"], sizes.get("c", 1))
        if 0 in self.shape:
            raise ImageFileError(path, "it holds no pixels", "export it again")

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the image.

        Raises
        ------
        ImageFileError
            If what is stored there is damaged. A chunk that is missing means the array's fill value.
        """
        slices = {"y": slice(box.top, box.bottom), "x": slice(box.left, box.right), "c": slice(None)}
        with _zarr_errors(self._path):
            part = np.asarray(self._array[tuple(slices.get(name, 0) for name in self._names)])
        axes = [name for name in self._names if name in slices]
        part, axes = (part, axes) if "c" in axes else (part[..., None], [*axes, "c"])
        part = np.moveaxis(part, [axes.index(name) for name in "yxc"], [0, 1, 2])
        return np.ascontiguousarray(part, self.dtype)

    def close(self) -> None:
        """Nothing is held open."""


def _named_axes(path: Path, array: Any, metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a dict with at least a name for each axis of the array."""
    axes = metadata.get("axes")
    if axes is None:
        names = getattr(array.metadata, "dimension_names", None)
        axes = names if names and all(names) else list(_ORDER[-len(array.shape) :])
        if not metadata and not names and len(array.shape) == 3:
            # In a plain array the axis of the channels is the first, or the last if it is short.
            axes = ["y", "x", "c"] if array.shape[2] <= 4 < array.shape[0] else ["c", "y", "x"]
    described = [dict(axis) if isinstance(axis, dict) else {"name": str(axis)} for axis in axes]
    names = [str(axis["name"]).lower() for axis in described]
    if len(names) != len(array.shape) or len(set(names)) < len(names) or not {"y", "x"} <= set(names):
        what = f"its axes are {', '.join(names)} and its shape is {array.shape}, expected y, x and perhaps c"
        raise ImageFileError(path, what, "name the axes in its metadata")
    return [{**axis, "name": name} for axis, name in zip(described, names, strict=True)]


def _geometry(axes: list[dict[str, Any]], metadata: dict[str, Any]) -> PixelGeometry | None:
    """Return the size and the position of the finest level's pixels, None where nothing is said of them."""
    names = [axis["name"] for axis in axes]
    indices = [names.index("y"), names.index("x")]
    size, position = [1.0, 1.0], [0.0, 0.0]
    # The transformations of the level are applied before those of all levels.
    holders = [*metadata.get("datasets", [])[:1], metadata]
    for step in (step for holder in holders for step in holder.get("coordinateTransformations") or []):
        values = step.get(step.get("type"))
        if not isinstance(values, list) or len(values) != len(names):
            continue
        row, column = (float(values[index]) for index in indices)
        if step["type"] == "scale":
            size, position = [size[0] * row, size[1] * column], [position[0] * row, position[1] * column]
        elif step["type"] == "translation":
            position = [position[0] + row, position[1] + column]
    unit, unit_of_columns = (axes[index].get("unit") or None for index in indices)
    if unit != unit_of_columns:
        ratio = length_ratio(unit_of_columns, unit)
        if ratio is None:
            return None
        size[1], position[1] = size[1] * ratio, position[1] * ratio
    if not all(0 < side < math.inf for side in size) or (size == [1, 1] and not any(position) and unit is None):
        return None
    return PixelGeometry((size[0], size[1]), (position[0], position[1]) if any(position) else None, unit)


@contextmanager
def _zarr_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except InstsegError:
        raise
    except Exception as error:  # Stores, codecs and metadata raise exceptions of any type.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageFileError(path, f"it is damaged ({reason})", "copy or export it again") from error


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
