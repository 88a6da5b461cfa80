"""One description of an image, whatever it comes from: an array, a file read at once, or a file read part by part."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import UsageError
from instseg.io.atomic import is_zarr
from instseg.io.formats import read_header
from instseg.io.image_file import ImageHeader
from instseg.io.images import read_image, read_planes
from instseg.io.omezarr import ZarrReader, zarr_planes
from instseg.io.pixel_size import PixelGeometry, read_pixel_geometry
from instseg.io.tiff import TiffReader, supports_region_reads
from instseg.tiling.grid import Box

STREAMING_PIXELS = 100_000_000
"""Images of more pixels are streamed where their files allow that."""


class ImageReader(Protocol):
    """An image whose parts can be read: `ArrayReader`, `TiffReader` or `ZarrReader`.

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
        return None if self._path is None else read_pixel_geometry(self._path)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a view of a part."""
        return self.array[box.top : box.bottom, box.left : box.right]

    def close(self) -> None:
        """Nothing is open."""


def open_image(path: str | PathLike[str], *, planes_as_channels: bool = False) -> ImageReader:
    """Read an image, or open one to be streamed: Zarr, and TIFF of more than `STREAMING_PIXELS`.

    Parameters
    ----------
    path : path-like
    planes_as_channels : bool
        Whether the planes of a stack are channels, where its file does not name them.

    Raises
    ------
    ImageFileError
        If it cannot be read, or is a stack.
    """
    path = Path(path)
    if is_zarr(path):
        return ZarrReader(path)
    header = read_header(path, max_pixels=None)
    if _is_read_at_once(path, header, planes_as_channels):
        return ArrayReader(read_image(path, planes_as_channels=planes_as_channels), path)
    return TiffReader(path)


def open_planes(path: str | PathLike[str]) -> Sequence[ImageReader]:
    """Open every plane of a stack as an image of its own, in the file's order; a single image gives one.

    The planes of a TIFF are read at once, unless it is a single image that is streamed; those of Zarr are streamed.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """
    path = Path(path)
    if is_zarr(path):
        return zarr_planes(path)
    if not _is_read_at_once(path, read_header(path, max_pixels=None), False):
        return [TiffReader(path)]
    return [ArrayReader(plane, path) for plane in read_planes(path)]


def _is_read_at_once(path: Path, header: ImageHeader, planes_as_channels: bool) -> bool:
    small = header.height * header.width <= STREAMING_PIXELS
    return planes_as_channels or small or not supports_region_reads(path)


def read_geometry(path: Path) -> PixelGeometry | None:
    """Return the size and position of a file's pixels, None where nothing is known; the pixels are not read.

    Raises
    ------
    ImageFileError
        If the file cannot be read.
    """
    return ZarrReader(path).geometry if is_zarr(path) else read_pixel_geometry(path)


def whole_box(image: ImageReader) -> Box:
    """Return the box of a whole image."""
    return Box(0, 0, image.shape[0], image.shape[1])
