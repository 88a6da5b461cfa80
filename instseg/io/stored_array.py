"""Arrays in files that are made for arrays (NumPy, HDF5, Zarr): which axes are rows, columns, channels and planes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.axes import NAMELESS, nameless_roles
from instseg.io.image_file import ImageFileError, ImageHeader
from instseg.io.pixel_size import PixelGeometry

_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class StoredArray:
    """An array in an open file, of which parts are read by indexing.

    Attributes
    ----------
    path : Path
        As it was given, for messages.
    kind : str
        Of the file, such as 'HDF5'.
    values : array-like
        With a `shape` and a `dtype`; indexing by integers and slices gives an array.
    roles : tuple of str
        Of each axis 'y', 'x', 'c', or what else it is; '' where it has no name.
    geometry : PixelGeometry or None
        The size of the pixels, where the file says it.
    is_labels : bool
        Whether the file says that these are labels.

    Raises
    ------
    ImageFileError
        If the values are no numbers, or the axes none of an image.
    """

    path: Path
    kind: str
    values: Any
    roles: tuple[str, ...]
    geometry: PixelGeometry | None = None
    is_labels: bool = False

    def __post_init__(self) -> None:
        shape, dtype = self.values.shape, np.dtype(self.values.dtype)
        if dtype.kind not in "biuf":
            name = dtype.name if dtype.names is None and len(dtype.name) <= 40 else "of a compound type"
            raise ImageFileError(self.path, f"its values are {name}, expected integers or floats", "save it as 16 bit")
        if not 2 <= len(shape) <= _MAX_DIMENSIONS:
            what = f"its array has {len(shape)} axes, expected rows, columns and perhaps channels"
            raise ImageFileError(self.path, what, "save an image as (H, W) or (H, W, C)")
        if 0 in shape:
            raise ImageFileError(self.path, "it holds no pixels", "export it again")
        counts = [self.roles.count(role) for role in "yx"] + [max(1, self.roles.count("c"))]
        if len(self.roles) != len(shape) or counts != [1, 1, 1]:
            what = f"its axes are {', '.join(self.roles)} and its shape is {shape}, expected y, x and perhaps c"
            raise ImageFileError(self.path, what, "name the axes y, x and c")

    @classmethod
    def nameless(cls, path: Path, kind: str, values: Any, geometry: PixelGeometry | None = None) -> "StoredArray":
        """Return an array whose axes have no names."""
        roles = nameless_roles(values.shape) if len(values.shape) >= 2 else ()
        return cls(path, kind, values, roles, geometry)

    @property
    def header(self) -> ImageHeader:
        """What is known before values are read."""
        sizes = dict(zip(self.roles, self.values.shape, strict=True))
        along = {role: size for role, size in self._plane_axes() if size > 1}
        dtype = np.dtype(self.values.dtype)
        return ImageHeader(
            format=self.kind,
            height=sizes["y"],
            width=sizes["x"],
            channels=sizes.get("c", 1),
            bits=1 if dtype.kind == "b" else 8 * dtype.itemsize,
            dtype=dtype.newbyteorder("=").name,
            planes=math.prod(size for _, size in self._plane_axes()),
            plane_axes=" and ".join(role.upper() for role in along if role != NAMELESS),
            colour="rgb" if sizes.get("c") == 3 else "gray",
            is_labels=self.is_labels,
        )

    def _plane_axes(self) -> list[tuple[str, int]]:
        return [pair for pair in zip(self.roles, self.values.shape, strict=True) if pair[0] not in ("y", "x", "c")]

    def planes(self) -> Iterator[NDArray[Any]]:
        """Yield all planes (H, W, C), as they are stored."""
        for index in range(self.header.planes):
            yield self.read(index, slice(None), slice(None))

    def read(self, plane: int, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a part (h, w, C) of a plane, which is counted in the order of the array."""
        places = iter(np.unravel_index(plane, [size for _, size in self._plane_axes()]) if self._plane_axes() else ())
        slices = {"y": rows, "x": columns, "c": slice(None)}
        indices = tuple(slices[role] if role in slices else int(next(places)) for role in self.roles)
        part, roles = np.asarray(self.values[indices]), [role for role in self.roles if role in slices]
        if "c" not in roles:
            part, roles = part[..., None], [*roles, "c"]
        return np.moveaxis(part, [roles.index(role) for role in "yxc"], [0, 1, 2])
