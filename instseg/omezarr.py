"""OME-Zarr: images that are read part by part, and labels that are written band by band.

Read are OME-Zarr groups (their finest level) of versions 0.1 to 0.5, and plain Zarr arrays whose axes can be told.
Written is version 0.5, as an image-label group with a pyramid.
"""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.decoding import ImageFileError
from instseg.errors import InstsegError
from instseg.extras import require_zarr
from instseg.files import require_zarr_target, writing
from instseg.images import BAND
from instseg.tiles import Box

# Axes where nothing names them: all versions' order.
_ORDER = "tczyx"
# Of the coarsest level, about: what a viewer shows at once.
_COARSEST = 1024
# Levels are cut out of bands of 512 rows, each of which is half as high as that before.
_MOST_LEVELS = 9


class ZarrSource:
    """The finest level of an OME-Zarr image, or a Zarr array.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    shape : tuple of int
        (H, W, C)
    axes : list of dict
        Of the spatial axes y and x: name, type and, where it is known, unit.
    pixel_size : tuple of float
        Of y and x, in these units; 1 where nothing is known.
    position : tuple of float
        Of the middle of the first pixel, in these units.

    Raises
    ------
    ImageFileError
        If it cannot be read, or is no image of two dimensions with channels.
    """

    def __init__(self, path: Path) -> None:
        require_zarr()
        import zarr

        self._path = path
        with _reading(path):
            found: Any = zarr.open(str(path), mode="r")
            attributes: dict[str, Any] = dict(found.attrs)
            images = (attributes.get("ome") or attributes).get("multiscales")
            image: dict[str, Any] = images[0] if images else {}
            self._array: Any = found
            if isinstance(found, zarr.Group):
                if not images:
                    raise ImageFileError(path, "it is a group without OME-Zarr metadata", "give the array in it")
                self._array = found[image["datasets"][0]["path"]]
            axes = self._name_axes(image)
        kinds = [axis["name"] for axis in axes]
        others = [(name, size) for name, size in zip(kinds, self._array.shape, strict=True) if name not in "cyx"]
        if many := [f"{size} along {name}" for name, size in others if size != 1]:
            raise ImageFileError(path, f"it has {' and '.join(many)}, expected one plane", "save the planes one by one")
        if np.dtype(self._array.dtype) not in (np.uint8, np.uint16, np.float32):
            what = f"its values are {self._array.dtype}, expected uint8, uint16 or float32"
            raise ImageFileError(path, what, "convert it")
        self._kinds = kinds
        sizes = dict(zip(kinds, self._array.shape, strict=True))
        self.shape = (sizes["y"], sizes["x"], sizes.get("c", 1))
        if 0 in self.shape:
            raise ImageFileError(path, "it holds no pixels", "export it again")
        self.axes = [axes[kinds.index(name)] for name in "yx"]
        self.pixel_size, self.position = self._find_place(image)

    def _name_axes(self, image: dict[str, Any]) -> list[dict[str, Any]]:
        shape = self._array.shape
        axes = image.get("axes")
        if axes is None:
            names = getattr(self._array.metadata, "dimension_names", None)
            axes = names if names and all(names) else list(_ORDER[-len(shape) :])
            if not image and not names and len(shape) == 3:
                # A plain array: channels are few, wherever they are.
                axes = ["y", "x", "c"] if shape[2] <= 4 < shape[0] else ["c", "y", "x"]
        named = [dict(axis) if isinstance(axis, dict) else {"name": str(axis)} for axis in axes]
        for axis in named:
            axis["name"] = str(axis["name"]).lower()
        kinds = [axis["name"] for axis in named]
        if len(kinds) != len(shape) or len(set(kinds)) < len(kinds) or not {"y", "x"} <= set(kinds):
            what = f"its axes are {', '.join(kinds)} and its shape is {shape}, expected y, x and perhaps c"
            raise ImageFileError(self._path, what, "name the axes in its metadata")
        return named

    def _find_place(self, image: dict[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
        size, position = dict.fromkeys("yx", 1.0), dict.fromkeys("yx", 0.0)
        # Those of the level come first, then those of all levels.
        parts = [*image.get("datasets", [])[:1], image]
        for step in (one for part in parts for one in part.get("coordinateTransformations", [])):
            values = step.get(step.get("type"))
            if not isinstance(values, list) or len(values) != len(self._kinds):
                continue
            for name in "yx":
                value = float(values[self._kinds.index(name)])
                if step["type"] == "scale":
                    size[name], position[name] = size[name] * value, position[name] * value
                elif step["type"] == "translation":
                    position[name] += value
        return (size["y"], size["x"]), (position["y"], position["x"])

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the image.

        Raises
        ------
        ImageFileError
            If what is stored there is damaged. A chunk that is missing means the array's fill value.
        """
        places = {"y": slice(box.top, box.bottom), "x": slice(box.left, box.right), "c": slice(None)}
        with _reading(self._path):
            part = np.asarray(self._array[tuple(places.get(name, 0) for name in self._kinds)])
        kept = [name for name in self._kinds if name in "cyx"]
        part = part if "c" in kept else part[..., None]
        kept = kept if "c" in kept else [*kept, "c"]
        return np.ascontiguousarray(np.moveaxis(part, [kept.index(name) for name in "yxc"], [0, 1, 2]))

    def close(self) -> None:
        """Nothing is held open."""


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except InstsegError:
        raise
    except Exception as error:  # Stores, codecs and metadata raise what they like.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageFileError(path, f"it is damaged ({reason})", "copy or export it again") from error


def write_zarr_labels(
    path: Path, shape: tuple[int, int], bands: Iterator[NDArray[np.int32]], like: ZarrSource | None = None
) -> None:
    """Write labels that come band by band as an OME-Zarr image-label group.

    Parameters
    ----------
    path : Path
        It appears when it is complete; a Zarr group that is there is replaced then.
    shape : tuple of int
        Height and width of the image.
    bands : iterator of (`BAND`, W) int32
        From the top; the last one may be lower.
    like : ZarrSource, optional
        The image, whose pixel size the labels take over.

    Raises
    ------
    InstsegError
        If something else is there, or it cannot be written.
    """
    require_zarr()
    require_zarr_target(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing(path):
            arrays = create_zarr_labels(partial, path.stem, shape, like)
            coarse: list[NDArray[np.int32]] = [np.zeros((0, array.shape[1]), np.int32) for array in arrays]
            top = [0] * len(arrays)
            for band in bands:
                for level, array in enumerate(arrays):
                    step = 2**level
                    coarse[level] = np.concatenate([coarse[level], band[::step, ::step]])
                    # Whole rows of chunks at a time: each is compressed once.
                    if len(coarse[level]) >= BAND or top[level] + len(coarse[level]) == array.shape[0]:
                        array[top[level] : top[level] + len(coarse[level])] = coarse[level].astype(np.uint32)
                        top[level] += len(coarse[level])
                        coarse[level] = coarse[level][:0]
            replace_zarr(partial, path)
    finally:
        with suppress(OSError):
            shutil.rmtree(partial)


def create_zarr_labels(path: Path, name: str, shape: tuple[int, int], like: ZarrSource | None = None) -> list[Any]:
    """Make an OME-Zarr image-label group with a pyramid of empty arrays.

    Parameters
    ----------
    path : Path
        Where there is nothing.
    name : str
        Of the labels.
    shape : tuple of int
        Height and width of the image.
    like : ZarrSource, optional
        The image, whose pixel size the labels take over.

    Returns
    -------
    list of zarr.Array
        uint32, the finest first; each has every second pixel in both directions of that before.
    """
    import zarr

    levels = 1 + max(0, min(_MOST_LEVELS, math.ceil(math.log2(max(*shape, 1) / _COARSEST))))
    size = (1.0, 1.0) if like is None else like.pixel_size
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    if like is not None:
        units = [{"unit": axis["unit"]} if axis.get("unit") else {} for axis in like.axes]
        axes = [{**axis, **unit} for axis, unit in zip(axes, units, strict=True)]
    datasets = []
    for level in range(levels):
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [side * 2**level for side in size]}]
        if like is not None and any(like.position):
            steps.append({"type": "translation", "translation": list(like.position)})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    multiscales = [{"name": name, "axes": axes, "datasets": datasets, "type": "nearest"}]
    attributes = {"ome": {"version": "0.5", "multiscales": multiscales, "image-label": {}}}
    group = zarr.create_group(str(path), attributes=attributes, zarr_format=3)
    return [
        group.create_array(
            str(level),
            shape=tuple(-(-side // 2**level) for side in shape),
            chunks=(BAND, BAND),
            dtype="uint32",
            dimension_names=("y", "x"),
        )
        for level in range(levels)
    ]


def open_zarr_labels(path: Path) -> list[Any]:
    """Return the arrays of `create_zarr_labels`, to write to."""
    import zarr

    group = zarr.open_group(str(path), mode="r+")
    return [group[str(level)] for level in range(len(list(group.array_keys())))]


def fill_level(arrays: list[Any], level: int, box: Box) -> None:
    """Write a part of a level of the pyramid, whole chunks, from the level before."""
    rows, columns = (slice(2 * begin, 2 * end) for begin, end in ((box.top, box.bottom), (box.left, box.right)))
    finer = arrays[level - 1][rows, columns]
    arrays[level][box.top : box.bottom, box.left : box.right] = finer[::2, ::2]


def replace_zarr(partial: Path, path: Path) -> None:
    """Put a complete group in the place of what is at `path`."""
    if path.exists():
        shutil.rmtree(path)
    partial.rename(path)
