"""OME-Zarr images of which parts are read; labels are written by `instseg.io.zarr_labels`.

Read are the finest level of OME-Zarr groups of versions 0.1 to 0.5, and plain Zarr arrays whose axes can be told.

Metadata is read here rather than with ome-zarr-models, which validates versions 0.4 and 0.5 only, and of these refuses
groups without scales or named dimensions although their pixels can be read. As these need a reader all the same, it
would be a second one, with pydantic as a further dependency and 0.3 s of imports. The tests validate with it what is
written.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.atomic import StrPath
from instseg.io.formats import ImageFileError
from instseg.io.pixel_size import PixelGeometry, length_ratio
from instseg.tiling.grid import Box

# The order of axes in all versions, for metadata that does not name them.
_ORDER = "tczyx"


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
