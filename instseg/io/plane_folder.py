"""A folder of images that are the planes of one volume, in the order of the numbers in their names."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.folders import find_images
from instseg.io.formats import decode, read_header
from instseg.io.image_file import ImageFileError, ImageHeader, format_size
from instseg.io.image_names import DIGITS, counted_name, stem_of
from instseg.io.source import read_geometry
from instseg.io.stored_array import StoredArray


def open_plane_folder(path: Path) -> tuple[StoredArray, ImageHeader]:
    """Open a folder of single images of one size and type as the planes of a volume.

    Parameters
    ----------
    path : Path
        Images in it are ordered as people count: `z2` comes before `z10`.

    Returns
    -------
    stored : StoredArray
        With the axes z, y, x and c.
    header : ImageHeader
        Of each plane.

    Raises
    ------
    ImageFileError
        If there is no image, one holds several planes, or they differ.
    """
    files = sorted(find_images([path]), key=counted_name)
    first = read_header(files[0])
    for file in files:
        header = read_header(file)
        if header.planes > 1:
            what = f"{file.name} has {header.planes} planes, so that the folder is none of the planes of one volume"
            raise ImageFileError(path, what, "give the volumes in it one by one")
        if header != first:
            what = f"{file.name} is {_kind(header)} and {files[0].name} is {_kind(first)}, expected planes of one kind"
            raise ImageFileError(path, what, "keep the planes of one volume in it")
    values = _FolderValues(files, first)
    return StoredArray(path, "folder", values, ("z", "y", "x", "c"), read_geometry(files[0]), planewise=True), first


def is_plane_folder(path: Path) -> bool:
    """Return whether the first image in a folder, by its name, is a single plane, so that all may be a volume."""
    try:
        return read_header(min(find_images([path]), key=counted_name), max_pixels=None).planes == 1
    except ImageFileError:
        # One damaged file of many fails alone, where it is opened.
        return False


def has_gaps(path: Path) -> bool:
    """Return whether the numbers in the names of a folder's planes rise unevenly, as they do where one is missing."""
    parts = [DIGITS.split(stem_of(file)) for file in sorted(find_images([path]), key=counted_name)]
    if len({len(one) for one in parts}) > 1:
        return False
    varying = [place for place in range(1, len(parts[0]), 2) if len({one[place] for one in parts}) > 1]
    if len(varying) != 1:
        return False
    numbers = [int(one[varying[0]]) for one in parts]
    return len({after - before for before, after in pairwise(numbers)}) > 1


def _kind(header: ImageHeader) -> str:
    return f"{header.format} {header.dtype} of {format_size(header)} pixels and {header.channels} channels"


class _FolderValues:
    """The pixels of images as an array; a plane is read by its number."""

    def __init__(self, files: list[Path], header: ImageHeader) -> None:
        self._files, self._header = files, header
        self.shape = (len(files), header.height, header.width, header.channels)
        self.dtype = np.dtype(header.dtype)

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[Any]:
        # A view of a part would keep all of the plane in memory.
        return np.array(decode(self._files[index[0]], self._header)[0].pixels[index[1:]])
