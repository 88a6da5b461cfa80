"""One description of an image, whatever it comes from: an array, a file read at once, or a file read part by part."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import UsageError
from instseg.io.atomic import is_zarr
from instseg.io.container import located
from instseg.io.formats import ARRAY_FORMATS, open_stored_array, read_header
from instseg.io.image_file import ImageFileError, ImageHeader, decoder_errors, file_format
from instseg.io.images import read_image, read_planes, to_image_values
from instseg.io.omezarr import ZarrReader, zarr_planes
from instseg.io.pixel_size import PixelGeometry, read_pixel_geometry
from instseg.io.tiff import TiffReader, supports_region_reads
from instseg.tiling.grid import Box

STREAMING_PIXELS = 100_000_000
"""Images of more pixels are streamed where their files allow that."""


MAX_PLANES = 100_000
"""Most planes of an array that are taken as images one by one."""


class ImageReader(Protocol):
    """An image whose parts can be read: `ArrayReader`, `StoredArrayReader`, `TiffReader` or `ZarrReader`.

    Attributes
    ----------
    shape : tuple of int
        (H, W, C)
    streamed : bool
        Whether parts are read from the file when they are needed, as the image need not fit into memory.
    """

    shape: tuple[int, int, int]
    streamed: bool

    @property
    def geometry(self) -> PixelGeometry | None:
        """The size and position of its pixels, None where nothing is known."""

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of it."""

    def close(self) -> None:
        """Close the file."""


class ArrayReader:
    """An image in memory.

    Parameters
    ----------
    image : (H, W) or (H, W, C) of numbers
    path : Path, optional
        The file that it was read from, which knows the size of its pixels.

    Raises
    ------
    UsageError
        If the image has another number of dimensions, or no pixels.
    """

    streamed = False

    def __init__(self, image: ArrayLike, path: Path | None = None) -> None:
        self.array: NDArray[Any] = np.asarray(image)
        if self.array.ndim not in (2, 3) or self.array.size == 0:
            raise UsageError(
                f"the image has shape {self.array.shape}, expected (H, W) or (H, W, C); give one plane at a time"
            )
        self._path = path
        height, width, channels = (*self.array.shape, 1)[:3]
        self.shape = (height, width, channels)

    @property
    def geometry(self) -> PixelGeometry | None:
        """See `ImageReader`; it is read from the file when it is asked for."""
        return None if self._path is None else read_geometry(self._path)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a view of a part."""
        return self.array[box.top : box.bottom, box.left : box.right]

    def close(self) -> None:
        """Nothing is open."""


class StoredArrayReader:
    """A plane of an array in a file that is made for arrays. The file is opened anew for each part that is read.

    Parameters
    ----------
    path : Path
        Of the file, or of an array in it.
    plane : int
        Of the planes in the array's order.

    Attributes
    ----------
    shape : tuple of int
        (H, W, C)
    streamed : bool
        Whether the plane has more than `STREAMING_PIXELS`.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """

    def __init__(self, path: Path, plane: int = 0) -> None:
        self._path, self._plane, self._kind = path, plane, file_format(path)
        header = read_header(path, max_pixels=None)
        self.shape = (header.height, header.width, header.channels)
        self.streamed = header.height * header.width > STREAMING_PIXELS

    @property
    def geometry(self) -> PixelGeometry | None:
        """See `ImageReader`."""
        return read_geometry(self._path)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the plane.

        Raises
        ------
        ImageFileError
            If what is stored there is damaged, or its values are NaN, infinite or beyond 16 bit.
        """
        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        with decoder_errors(self._path), open_stored_array(self._path, self._kind) as stored:
            part = stored.read(self._plane, rows, columns)
        return np.ascontiguousarray(to_image_values(self._path, part, " in the part that was read"))

    def close(self) -> None:
        """Nothing is held open."""


def open_image(path: str | PathLike[str], *, planes_as_channels: bool = False) -> ImageReader:
    """Read an image, or open one to be streamed: Zarr, and TIFF, NumPy and HDF5 of more than `STREAMING_PIXELS`.

    Parameters
    ----------
    path : path-like
        Of a file, or of a part of one, such as 'file.h5:/volume'.
    planes_as_channels : bool
        Whether the planes of a stack are channels, where its file does not name them.

    Raises
    ------
    ImageFileError
        If it cannot be read, or is a stack.
    """
    path = located(Path(path))
    if is_zarr(path):
        return ZarrReader(path)
    header = read_header(path, max_pixels=None)
    if _is_large(header) and header.planes == 1 and file_format(path) in ARRAY_FORMATS:
        return StoredArrayReader(path)
    if _is_read_at_once(path, header, planes_as_channels):
        return ArrayReader(read_image(path, planes_as_channels=planes_as_channels), path)
    return TiffReader(path)


def open_planes(path: str | PathLike[str]) -> Sequence[ImageReader]:
    """Open every plane of a stack as an image of its own, in the file's order; a single image gives one.

    The planes of a TIFF are read at once, unless it is a single image that is streamed; those of Zarr are streamed, and
    those of other arrays are read one by one.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """
    path = located(Path(path))
    if is_zarr(path):
        return zarr_planes(path)
    header = read_header(path, max_pixels=None)
    if file_format(path) in ARRAY_FORMATS and header.planes > 1:
        if header.planes > MAX_PLANES:
            what = f"it has {header.planes:,} planes, more than the {MAX_PLANES:,} that are taken one by one"
            raise ImageFileError(path, what, "choose a part of them")
        return [StoredArrayReader(path, plane) for plane in range(header.planes)]
    if not _is_read_at_once(path, header, False):
        return [TiffReader(path)]
    return [ArrayReader(plane, path) for plane in read_planes(path)]


def is_streamed(path: str | PathLike[str]) -> bool:
    """Return whether `open_image` opens a file to be read part by part, so that its labels are written so.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """
    path = located(Path(path))
    if is_zarr(path):
        return True
    header = read_header(path, max_pixels=None)
    if file_format(path) in ARRAY_FORMATS:
        return _is_large(header) and header.planes == 1
    return not _is_read_at_once(path, header, False)


def _is_read_at_once(path: Path, header: ImageHeader, planes_as_channels: bool) -> bool:
    return planes_as_channels or not _is_large(header) or not supports_region_reads(path)


def _is_large(header: ImageHeader) -> bool:
    return header.height * header.width > STREAMING_PIXELS


def read_geometry(path: Path) -> PixelGeometry | None:
    """Return the size and position of a file's pixels, None where nothing is known; the pixels are not read.

    Raises
    ------
    ImageFileError
        If the file cannot be read.
    """
    path = located(path)
    if is_zarr(path):
        return ZarrReader(path).geometry
    if not path.is_dir() and (kind := file_format(path)) in ARRAY_FORMATS:
        with decoder_errors(path), open_stored_array(path, kind) as stored:
            return None if stored.geometry is None else stored.geometry.plane
    return read_pixel_geometry(path)


def whole_box(image: ImageReader) -> Box:
    """Return the box of a whole image."""
    return Box(0, 0, image.shape[0], image.shape[1])
