"""Which array of an OME-Zarr group is the image, what its axes are, and how large its pixels are (OME-NGFF 0.1 to 0.5).

Metadata is read here rather than with ome-zarr-models, which validates versions 0.4 and 0.5 only, and of these refuses
groups without scales or named dimensions although their pixels can be read. As these need a reader all the same, it
would be a second one, with pydantic as a further dependency and 0.3 s of imports. The tests validate with it what is
written.
"""

import itertools
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from instseg.errors import format_names
from instseg.io.axes import MAX_SAMPLES, axis_role
from instseg.io.image_file import ImageFileError
from instseg.io.pixel_size import PixelGeometry, length_ratio
from instseg.io.remote import RemotePath, reached
from instseg.io.remote_address import remote_url
from instseg.io.zarr_metadata import ArrayLayout, ZarrNode, damaged, read_layout, read_node

# The order of axes in all versions, for metadata that does not name them.
_ORDER = "tczyx"
_VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5")
# An axis of another name than those that are known is what its type says, else one of planes.
_TYPES = {"channel": "c", "time": "t"}


@dataclass(frozen=True)
class Axis:
    """An axis of an array.

    Attributes
    ----------
    name : str
        As the metadata has it.
    role : str
        'y', 'x', 'c', or another name for axes of planes: 'z', 't' or the axis's own.
    unit : str or None
    """

    name: str
    role: str
    unit: str | None = None


@dataclass(frozen=True)
class ZarrImage:
    """An image in a Zarr store.

    Attributes
    ----------
    path : Path
        Of the file, as it was given.
    node : ZarrNode
        The array with its pixels.
    layout : ArrayLayout
        How these are stored.
    axes : tuple of Axis
        As many as the array has, with one y, one x and at most one c.
    geometry : PixelGeometry or None
        The size and the position of the pixels, None where the metadata says nothing.
    is_labels : bool
        Whether the metadata says that it is an image of labels.
    """

    path: Path
    node: ZarrNode
    layout: ArrayLayout
    axes: tuple[Axis, ...]
    geometry: PixelGeometry | None
    is_labels: bool = False


def find_image(path: Path, *, planes: bool = False, labels: bool = False) -> ZarrImage:
    """Return the image in a Zarr group, or a Zarr array.

    Parameters
    ----------
    path : Path
    planes : bool
        Whether the first of three axes that have no names is one of planes, rather than of channels.
    labels : bool
        Whether it may be an image of labels.

    Raises
    ------
    ImageFileError
        If there is none, there are several, or the metadata is damaged.
    """
    try:
        return _find_image(reached(path), planes, labels)
    except OSError as error:
        raise ImageFileError(path, error.strerror or str(error), "check the permissions and the disc") from error


def _find_image(path: Path, planes: bool, labels: bool) -> ZarrImage:
    node = read_node(path)
    if node is None:
        what = "it is a folder without Zarr metadata"
        what = "no Zarr metadata is there, or none that may be read" if remote_url(path) else what
        raise ImageFileError(path, what, "check the name")
    if node.is_array:
        return _image(path, node, {}, planes)
    for _ in range(2):
        if (image := _multiscale(node, labels)) is not None:
            array = child(node, _dataset_path(node, image))
            if array is None or not array.is_array:
                raise damaged(path, f"the array {_dataset_path(node, image)!r} is missing")
            found = _image(node.path, array, image, planes)
            return replace(found, is_labels="image-label" in ome_attributes(node))
        _refuse_other_groups(node, labels)
        node = _only_image(node)
    raise ImageFileError(path, "it is a group of groups of images", "give one image of them")


def _image(path: Path, array: ZarrNode, multiscale: dict[str, Any], planes: bool) -> ZarrImage:
    layout = read_layout(array)
    axes = tuple(_axis(path, axis) for axis in _described_axes(path, array, layout, multiscale, planes))
    names, roles = [axis.name for axis in axes], [axis.role for axis in axes]
    counts = [roles.count(role) for role in "yx"] + [max(1, roles.count("c"))]
    if len(axes) != len(layout.shape) or counts != [1, 1, 1] or len(set(names)) < len(names):
        what = f"its axes are {', '.join(names)} and its shape is {layout.shape}, expected y, x and perhaps c"
        raise ImageFileError(path, what, "name the axes in its metadata")
    return ZarrImage(path, array, layout, axes, _geometry(path, axes, multiscale))


def ome_attributes(node: ZarrNode) -> dict[str, Any]:
    """Return the attributes of OME-NGFF: since version 0.5 they are those named "ome"."""
    ome = node.attributes.get("ome")
    return ome if isinstance(ome, dict) else node.attributes


def _multiscale(node: ZarrNode, labels: bool) -> dict[str, Any] | None:
    """Return the first description of a pyramid in a group's metadata, None where there is none."""
    multiscales = ome_attributes(node).get("multiscales")
    if multiscales is None:
        return None
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], dict):
        raise damaged(node.path, f"multiscales is {str(multiscales)[:40]}, expected a list of objects")
    if "image-label" in ome_attributes(node) and not labels:
        raise ImageFileError(node.path, "it holds labels, expected an image", "give the image")
    return multiscales[0]


def _dataset_path(node: ZarrNode, multiscale: dict[str, Any]) -> str:
    datasets = multiscale.get("datasets")
    first = datasets[0] if isinstance(datasets, list) and datasets else None
    path = first.get("path") if isinstance(first, dict) else None
    if not isinstance(path, str):
        raise damaged(node.path, "its datasets have no path")
    return path


def child(node: ZarrNode, name: str) -> ZarrNode | None:
    """Return what lies at a path inside of a group."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name:
        raise damaged(node.path, f"the path {name!r} leads out of it")
    return read_node(node.path / parts)


def _refuse_other_groups(node: ZarrNode, labels: bool) -> None:
    """Refuse the groups of OME-NGFF that hold images, and are none."""
    path, ome = node.path, ome_attributes(node)
    if "plate" in ome:
        what = "it is a plate of wells, expected one image"
        raise ImageFileError(path, what, f"give a field, such as {path / 'A/1/0'}; predict takes all of a plate")
    if "well" in ome:
        what = "it is a well of fields, expected one image"
        raise ImageFileError(path, what, f"give a field, such as {path / '0'}; predict takes all of a well")
    if "labels" in ome and labels:
        raise ImageFileError(path, "it is a group of label images, expected one", "give one of them")
    if "labels" in ome:
        raise ImageFileError(path, "it holds labels, expected an image", "give the image")


def _only_image(node: ZarrNode) -> ZarrNode:
    """Return the image of a group that bioformats2raw has written, which holds one group for each image."""
    if "bioformats2raw.layout" not in ome_attributes(node) | node.attributes:
        raise ImageFileError(node.path, "it is a group without OME-Zarr metadata", "give the array in it")
    images = [name for name in image_names(node) if child(node, name) is not None]
    if len(images) > 1:
        what = f"it holds {len(images)} images ({format_names(images)}), expected one"
        raise ImageFileError(node.path, what, f"give one of them, such as {node.path / images[0]}")
    image = child(node, images[0]) if images else None
    if image is None:
        raise ImageFileError(node.path, "it holds no image", "copy or export it again")
    return image


def image_names(node: ZarrNode) -> list[str]:
    """Return the names of the images by the list in the group OME, else by the folders, which are numbered."""
    listed = child(node, "OME")
    series = None if listed is None else ome_attributes(listed).get("series")
    if isinstance(series, list) and all(isinstance(name, str) for name in series):
        return series
    if isinstance(node.path, RemotePath):
        # Servers need not list what they have.
        numbers = itertools.takewhile(lambda number: child(node, str(number)) is not None, itertools.count())
        return [str(number) for number in numbers]
    names = [inner.name for inner in node.path.iterdir() if inner.name.isdecimal()]
    return sorted(names, key=lambda name: (len(name), name))


def listed_paths(node: ZarrNode, listing: object, name: str) -> list[str]:
    """Return the paths in a list of the metadata: of the wells of a plate, or the images of a well.

    Raises
    ------
    ImageFileError
        If it is no list of objects with paths.
    """
    items = listing.get(name) if isinstance(listing, dict) else None
    found = [item.get("path") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    paths = [path for path in found if isinstance(path, str)]
    if not isinstance(items, list) or len(paths) < len(items):
        raise damaged(node.path, f"{name} is {str(items)[:40]}, expected a list of objects with paths")
    return paths


def _described_axes(
    path: Path, array: ZarrNode, layout: ArrayLayout, multiscale: dict[str, Any], planes: bool
) -> list[Any]:
    """Return the names or the descriptions of the axes."""
    shape = layout.shape
    axes = multiscale.get("axes")
    if axes is None and multiscale:
        version = multiscale.get("version")
        if version is not None and version not in _VERSIONS:
            what = f"it is OME-Zarr of version {str(version)[:20]}, expected {_VERSIONS[0]} to {_VERSIONS[-1]}"
            raise ImageFileError(path, what, f"export it as version {_VERSIONS[-1]}")
    elif axes is None:
        # The names of version 3, and those of xarray in version 2.
        axes = array.metadata.get("dimension_names") or array.attributes.get("_ARRAY_DIMENSIONS")
        if isinstance(axes, list) and not all(axes):
            axes = None
        if axes is None and len(shape) == 3:
            # In a plain array the axis of the channels is the first, or the last if it is short.
            axes = ["y", "x", "c"] if shape[2] <= MAX_SAMPLES < shape[0] else ["z" if planes else "c", "y", "x"]
    if axes is None:
        axes = list(_ORDER[-len(shape) :])
    if not isinstance(axes, list):
        raise damaged(path, f"axes is {str(axes)[:40]}, expected a list")
    return axes


def _axis(path: Path, axis: object) -> Axis:
    values = axis if isinstance(axis, dict) else {"name": axis}
    name, kind, unit = (values.get(key) for key in ("name", "type", "unit"))
    if not isinstance(name, str) or not isinstance(unit, str | None):
        raise damaged(path, f"an axis is {str(axis)[:40]}, expected an object with a name")
    lower = name.lower()
    role = axis_role(lower) or (_TYPES.get(kind.lower()) if isinstance(kind, str) else None)
    return Axis(lower, role or lower, unit or None)


def _geometry(path: Path, axes: tuple[Axis, ...], multiscale: dict[str, Any]) -> PixelGeometry | None:
    """Return the size and the position of the finest level's pixels, None where nothing is said of them."""
    roles = [axis.role for axis in axes]
    indices = [roles.index(role) for role in "yxz" if role in roles]
    size, position = [1.0] * len(indices), [0.0] * len(indices)
    # The transformations of the level are applied before those of all levels.
    for holder in (*multiscale.get("datasets", [])[:1], multiscale):
        for kind, values in _transformations(path, holder):
            # What has another number of axes is passed over, as what is none of the transformations that are known.
            if len(values) != len(axes):
                continue
            own = [values[index] for index in indices]
            if kind == "scale":
                size = [one * factor for one, factor in zip(size, own, strict=True)]
                position = [one * factor for one, factor in zip(position, own, strict=True)]
            else:
                position = [one + shift for one, shift in zip(position, own, strict=True)]
    unit = axes[indices[0]].unit
    ratios = [1.0 if axes[index].unit == unit else length_ratio(axes[index].unit, unit) for index in indices]
    if ratios[1] is None:
        return None
    if len(indices) > 2 and (ratios[2] is None or not 0 < size[2] < math.inf or not math.isfinite(position[2])):
        # Pixels have their size however far apart planes are.
        size, position, ratios = size[:2], position[:2], ratios[:2]
    size = [one * (ratio or 1.0) for one, ratio in zip(size, ratios, strict=True)]
    position = [one * (ratio or 1.0) for one, ratio in zip(position, ratios, strict=True)]
    if not all(math.isfinite(value) for value in (*size, *position)):
        raise damaged(path, "its pixels are infinitely large or far away")
    if min(size) <= 0 or (set(size) == {1.0} and not any(position) and unit is None):
        return None
    place = (position[0], position[1]) if any(position[:2]) else None
    depth, first = (size[2], position[2]) if len(size) > 2 else (None, 0.0)
    return PixelGeometry((size[0], size[1]), place, unit, depth, first or None)


def _transformations(path: Path, holder: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """Return the scales and translations, with their values, in the order in which they are applied."""
    found, steps = [], holder.get("coordinateTransformations") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise damaged(path, "coordinateTransformations is no list of objects")
    for step in steps:
        kind = step.get("type")
        if kind not in ("scale", "translation") or kind not in step:
            continue
        if not isinstance(step[kind], list) or not all(_is_number(value) for value in step[kind]):
            raise damaged(path, f"a {kind} is {str(step[kind])[:40]}, expected a list of numbers")
        found.append((kind, [float(value) for value in step[kind]]))
    return found


def _is_number(value: object) -> bool:
    # An integer beyond floats compares as one.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
