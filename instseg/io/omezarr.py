"""OME-Zarr images of which parts are read; labels are written by `instseg.io.zarr_labels`.

Read are the finest level of OME-Zarr groups of versions 0.1 to 0.5, the only image of what bioformats2raw writes, and
plain Zarr arrays whose axes can be told. What the metadata says is found out by `instseg.io.ngff`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.atomic import StrPath
from instseg.io.image_file import ImageFileError
from instseg.io.images import image_dtype, to_image_values
from instseg.io.ngff import ZarrImage, find_image
from instseg.io.remote import reached
from instseg.io.zarr_array import ZarrValues
from instseg.tiling.grid import Box

# Values of all channels in the smallest part of a large image that is read at once.
_MAX_PART_VALUES, _PART_SIDE = 2**28, 512
# Where values are that cannot be used.
_WHERE = " in the part that was read"


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
        uint8, uint16, int16 or float32, as `read_image` would give the same values of a TIFF: 1-bit values become 0
        and 255, signed integers of 8 and 16 bit int16, other integers uint16 and other floats float32.
    geometry : PixelGeometry or None
        The size and the position of the pixels, None where the metadata says nothing.
    streamed : bool
        True: parts are read from the file when they are needed.

    Raises
    ------
    ImageFileError
        If it cannot be read, is no image of two dimensions with channels, or has several planes.
    """

    streamed = True
    _takes_labels = False

    def __init__(self, path: StrPath) -> None:
        image = find_image(Path(path), labels=self._takes_labels)
        if several := _several(image):
            sizes = " and ".join(f"{size} along {name}" for name, size in several.items())
            advice = "predict takes every plane as an image by `planes=True`; or save them one by one"
            raise ImageFileError(reached(Path(path)), f"it has {sizes}, expected one plane", advice)
        self._open(image, ZarrValues(image), (0,) * len(image.axes))

    def _open(self, image: ZarrImage, values: ZarrValues, plane: tuple[int, ...]) -> None:
        """Take one plane of an image: `plane` has an index for each axis, those of y, x and c are of no meaning."""
        sizes = {axis.role: size for axis, size in zip(image.axes, image.layout.shape, strict=True)}
        # What cannot be opened is refused here, and not when a part is read.
        values.open()
        self._path, self._values, self._plane = image.path, values, plane
        self._roles = [axis.role for axis in image.axes]
        self.dtype = image_dtype(image.layout.dtype)
        self.geometry = None if image.geometry is None else image.geometry.plane
        self.shape = (sizes["y"], sizes["x"], sizes.get("c", 1))
        if min(self.shape[0], _PART_SIDE) * min(self.shape[1], _PART_SIDE) * self.shape[2] > _MAX_PART_VALUES:
            what = f"it has {self.shape[2]:,} channels, more than can be read of a pixel at once"
            raise ImageFileError(self._path, what, "save those that are needed")

    @classmethod
    def _of_plane(cls, image: ZarrImage, values: ZarrValues, plane: tuple[int, ...]) -> "ZarrReader":
        reader = cls.__new__(cls)
        reader._open(image, values, plane)
        return reader

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the image.

        Raises
        ------
        ImageFileError
            If what is stored there is damaged, or its values are NaN, infinite or beyond 16 bit. A chunk that is
            missing means the array's fill value.
        """
        values = to_image_values(self._path, self._stored(box), _WHERE)
        if self.dtype.kind == "u" and values.dtype.kind == "i":
            what = f"its values go from {values.min()} to {values.max()}{_WHERE}, expected 0 to 65535"
            raise ImageFileError(self._path, what, "save it as signed 16 bit (int16) or as 32-bit float")
        return np.ascontiguousarray(values, self.dtype)

    def _stored(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of what is stored, in its own type."""
        slices = {"y": slice(box.top, box.bottom), "x": slice(box.left, box.right), "c": slice(None)}
        indices = zip(self._roles, self._plane, strict=True)
        part = self._values[tuple(slices.get(role, index) for role, index in indices)]
        roles = [role for role in self._roles if role in slices]
        part, roles = (part, roles) if "c" in roles else (part[..., None], [*roles, "c"])
        return np.moveaxis(part, [roles.index(role) for role in "yxc"], [0, 1, 2])

    def close(self) -> None:
        """Nothing is held open."""


def zarr_planes(path: StrPath) -> list[ZarrReader]:
    """Open every plane of a Zarr image.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of ZarrReader
        One for each index of the axes other than y, x and c, in the order of the array; one for an image of one plane.

    Raises
    ------
    ImageFileError
        As `ZarrReader` does, several planes apart.
    """
    image = find_image(Path(path), planes=True)
    values = ZarrValues(image)
    sizes = [
        1 if axis.role in ("y", "x", "c") else size for axis, size in zip(image.axes, image.layout.shape, strict=True)
    ]
    return [ZarrReader._of_plane(image, values, plane) for plane in np.ndindex(*sizes)]


def _several(image: ZarrImage) -> dict[str, int]:
    """Return the names and the sizes of the axes along which an image has several planes."""
    axes = zip(image.axes, image.layout.shape, strict=True)
    return {axis.name: size for axis, size in axes if axis.role not in ("y", "x", "c") and size != 1}
