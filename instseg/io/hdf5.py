"""Images in HDF5 files: one dataset, of which parts are read.

Axes have the names that the file gives them, by its dimension scales or as ilastik and vigra note them (`axistags`);
otherwise they are those of any array. The size of the pixels is that of `element_size_um`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from instseg.errors import format_names
from instseg.io.axes import axis_role, nameless_roles
from instseg.io.container import InnerPath
from instseg.io.image_file import ImageFileError
from instseg.io.json_text import parse_json
from instseg.io.pixel_size import PixelGeometry
from instseg.io.stored_array import StoredArray

# Most values that nothing is stored of, and how many a stored byte stands for at most.
_VALUES_OF_NOTHING, _VALUES_PER_BYTE = 2**24, 2**13
# Values of a note: for z, y and x, or for each axis.
_MOST_NOTED = 3
# Datasets that are looked at in search of the only image.
_MOST_DATASETS = 10_000


@contextmanager
def open_hdf5(path: Path, place: InnerPath) -> Iterator[StoredArray]:
    """Open a dataset of an HDF5 file, the only image if none is named.

    Parameters
    ----------
    path : Path
        As it was given, for messages.
    place : InnerPath
        The file, and the path of the dataset.
    """
    import h5py

    with h5py.File(place.file, "r") as file:
        dataset = _dataset(path, file, place.inner) if place.inner else _only(path, file)
        _require_filters(path, dataset)
        _require_held(dataset)
        shape = dataset.shape
        roles = _names_of_axes(dataset) or (nameless_roles(shape) if len(shape) >= 2 else ())
        yield StoredArray(path, "HDF5", dataset, roles, _geometry(dataset, roles))


def _dataset(path: Path, file: Any, name: str) -> Any:
    import h5py

    node = file.get(name)
    if node is None:
        images = _images(file)
        what = f"it holds no {name} (its images: {format_names(images) or 'none'})"
        raise ImageFileError(path, what, "check the name")
    if not isinstance(node, h5py.Dataset):
        images = [f"{name}/{inner}" for inner in _images(node)]
        what = f"{name} is a group ({format_names(images) or 'without images'}), expected a dataset"
        raise ImageFileError(path, what, "give one of the datasets in it")
    if node.shape is None:
        raise ImageFileError(path, "it holds no pixels", "export it again")
    return node


def _only(path: Path, file: Any) -> Any:
    names = _images(file)
    if len(names) == 1:
        return file[names[0]]
    if not names:
        raise ImageFileError(path, "it holds no array of two axes or more", "export it again")
    what = f"it holds {len(names)} images ({format_names(names)}), expected one"
    raise ImageFileError(path, what, f"give one of them, such as {path}:/{names[0]}")


def _images(group: Any) -> list[str]:
    """Return the names of the datasets below a group that may be images."""
    import h5py

    found: list[str] = []

    def look(name: str, node: Any) -> bool | None:
        numbers = isinstance(node, h5py.Dataset) and node.shape is not None and node.dtype.kind in "biuf"
        # Lists of numbers, and what HDF5 itself notes of other datasets, are no images.
        if numbers and sum(size > 1 for size in node.shape) >= 2 and "CLASS" not in node.attrs:
            found.append(name)
        return True if len(found) > _MOST_DATASETS else None

    group.visititems(look)
    return sorted(found)


def _require_filters(path: Path, dataset: Any) -> None:
    """Check that the chunks of a dataset can be decoded, before that fails without a reason."""
    import h5py

    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if missing := [code for code in filters if not h5py.h5z.filter_avail(code)]:
        if find_spec("hdf5plugin") is not None:
            import hdf5plugin  # noqa: F401 (it makes its filters known)

            missing = [code for code in missing if not h5py.h5z.filter_avail(code)]
        if missing:
            what = f"its chunks are compressed by the HDF5 filter {missing[0]}, which is not installed"
            raise ImageFileError(path, what, "install hdf5plugin, or save it with gzip")


def _require_held(dataset: Any) -> None:
    """Check that a dataset is not far larger than what is stored: what is missing would be read as its fill value."""
    values, stored = math.prod(dataset.shape), int(dataset.id.get_storage_size())
    if dataset.external is None and values > _VALUES_OF_NOTHING + stored * _VALUES_PER_BYTE:
        raise ValueError(f"{values:,} values are claimed, and {stored:,} bytes are stored")


def _names_of_axes(dataset: Any) -> tuple[str, ...] | None:
    """Return what the axes are by their names, None where not all have one, or some have the same."""
    names: list[str] = []
    # Damaged notes say nothing of the pixels, which can be read all the same.
    with suppress(Exception):
        # Not by `dataset.dims`: HDF5's own function ends the process where its attribute is damaged.
        names = [_text(label).lower() for label in _note(dataset, "DIMENSION_LABELS")]
    with suppress(Exception):
        tags = parse_json(_text(_note(dataset, "axistags")))["axes"]
        names = [str(tag["key"]).lower() for tag in tags]
    roles = tuple(axis_role(name) or name for name in names)
    whole = len(roles) == len(dataset.shape) and all(roles) and {"y", "x"} <= set(roles)
    return roles if whole and len(set(roles)) == len(roles) else None


def _note(dataset: Any, name: str) -> Any:
    """Return an attribute of a dataset, which has a value for each axis or one for all.

    Raises
    ------
    KeyError, or whatever h5py raises
        If it is missing, or has more values or lists of values, as damage has it: reading them may never end.
    """
    import h5py

    note = dataset.attrs.get_id(name)
    plain = note.dtype.kind in "iuf" or h5py.check_string_dtype(note.dtype) is not None
    if not plain or math.prod(note.shape) > max(_MOST_NOTED, len(dataset.shape)):
        raise KeyError(name)
    return dataset.attrs[name]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _geometry(dataset: Any, roles: tuple[str, ...]) -> PixelGeometry | None:
    """Return the size of the pixels, which is noted for the axes z, y and x, or for all that are no channels."""
    with suppress(Exception):  # A damaged note says nothing of the pixels, which can be read all the same.
        sizes = np.asarray(_note(dataset, "element_size_um"), float).ravel()
        if len(sizes) >= 2 and np.isfinite(sizes).all() and (sizes[-2:] > 0).all():
            in_order = roles.index("y") < roles.index("x")
            height, width = sizes[-2:] if in_order else sizes[:-3:-1]
            # Three sizes are those of z, y and x, whatever else the axes are.
            depth = float(sizes[0]) if len(sizes) == 3 and sizes[0] > 0 else None
            return PixelGeometry((float(height), float(width)), None, "micrometer", depth)
    return None
