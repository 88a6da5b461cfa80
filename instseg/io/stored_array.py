"""Arrays in files that are made for arrays (NumPy, HDF5, Zarr): which axes are rows, columns, channels and planes."""

import math
from collections.abc import Iterator, Sequence
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
    planewise : bool
        Whether the axes of planes are indexed by integers alone, so that planes are read one by one.

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
    planewise: bool = False

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
        along = {role: size for role, size in self.plane_sizes if size > 1}
        dtype = np.dtype(self.values.dtype)
        return ImageHeader(
            format=self.kind,
            height=sizes["y"],
            width=sizes["x"],
            channels=sizes.get("c", 1),
            bits=1 if dtype.kind == "b" else 8 * dtype.itemsize,
            dtype=dtype.newbyteorder("=").name,
            planes=math.prod(size for _, size in self.plane_sizes),
            plane_axes=" and ".join(role.upper() for role in along if role != NAMELESS),
            colour="rgb" if sizes.get("c") == 3 else "gray",
            is_labels=self.is_labels,
        )

    @property
    def plane_sizes(self) -> list[tuple[str, int]]:
        """The role and the size of each axis of planes, in their order."""
        return [pair for pair in zip(self.roles, self.values.shape, strict=True) if pair[0] not in ("y", "x", "c")]

    def planes(self) -> Iterator[NDArray[Any]]:
        """Yield all planes (H, W, C), as they are stored."""
        for index in range(self.header.planes):
            yield self.read(index, slice(None), slice(None))

    def read(self, plane: int, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a part (h, w, C) of a plane, which is counted in the order of the array."""
        sizes = [size for _, size in self.plane_sizes]
        return self._part(np.unravel_index(plane, sizes) if sizes else (), rows, columns)

    def read_volume(self, places: Sequence[int | slice], rows: slice, columns: slice) -> NDArray[Any]:
        """Return a part (z, h, w, C) of a volume.

        Parameters
        ----------
        places : sequence of int or slice
            For each of `plane_sizes` an index, or for the axis that is the volume's depth a slice with both of its
            ends; without one the part has one plane.
        rows, columns : slice
        """
        depth = next((number for number, place in enumerate(places) if isinstance(place, slice)), None)
        if depth is None:
            return self._part(places, rows, columns)[None]
        if not self.planewise:
            return self._part(places, rows, columns)
        first, last = places[depth].start, places[depth].stop  # type: ignore[union-attr]
        parts = (
            self._part((*places[:depth], index, *places[depth + 1 :]), rows, columns) for index in range(first, last)
        )
        plane = next(parts)
        slab = np.empty((last - first, *plane.shape), plane.dtype)
        slab[0] = plane
        for number, plane in enumerate(parts, start=1):
            slab[number] = plane
        return slab

    def _part(self, places: Sequence[Any], rows: slice, columns: slice) -> NDArray[Any]:
        """Return (h, w, C), or (z, h, w, C) where one of the places is a slice."""
        slices, remaining = {"y": rows, "x": columns, "c": slice(None)}, iter(places)
        indices = tuple(slices[role] if role in slices else next(remaining) for role in self.roles)
        part = np.asarray(self.values[tuple(i if isinstance(i, slice) else int(i) for i in indices)])
        sliced = zip(self.roles, indices, strict=True)
        roles = [role if role in slices else "depth" for role, index in sliced if isinstance(index, slice)]
        if "c" not in roles:
            part, roles = part[..., None], [*roles, "c"]
        return part.transpose([roles.index(role) for role in ("depth", "y", "x", "c") if role in roles])
