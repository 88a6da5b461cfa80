"""Image files: their formats, their headers, their pixels as they are stored.

The format is recognised by the first bytes of a file, or the metadata in a folder,
never by its name. What is read:

========= ==========================================================================
PNG       1 to 16 bit, gray, RGB, palette; by Pillow, except for 16-bit colours, which
          Pillow reduces to 8 bit without a warning: those by imagecodecs
TIFF      any compression, 8 to 64 bit integers, floats, 1-bit, stacks; by tifffile
JPEG      8 bit
BMP       as Pillow reads it
GIF       one picture, or several as planes along T
WebP      the same
JPEG 2000 8 to 16 bit, gray and RGB
NumPy     an array of numbers in a .npy or a .npz
HDF5      a dataset of numbers
CZI       a scene; by pylibCZIrw
ND2       a position of the stage; by nd2
Zarr      an image of OME-Zarr, or an array, or labels; by zarr
========= ==========================================================================

All are read the way up that viewers show them: the orientation of EXIF and of
TIFF is applied. A file's header is checked before its pixels take memory, and no
warning or log message of a decoder reaches the terminal.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.io.animations import animation_header, decode_animation
from instseg.io.atomic import StrPath
from instseg.io.container import located, split_inner
from instseg.io.czi import open_czi
from instseg.io.hdf5 import open_hdf5
from instseg.io.image_file import ImageFileError, ImageHeader, decoder_errors, file_format, format_size
from instseg.io.jpeg2000 import decode_jpeg2000, jpeg2000_header
from instseg.io.nd2_file import open_nd2
from instseg.io.numpy_files import open_npy, open_npz
from instseg.io.png_jpeg_bmp import decode_picture, picture_header
from instseg.io.stored_array import StoredArray
from instseg.io.tiff_pages import open_tiff, tiff_header, tiff_images
from instseg.io.zarr_array import open_zarr

MAX_PIXELS = 500_000_000
"""Most pixels (height x width x planes) that are read; three times as many values, all channels counted."""


ARRAY_FORMATS = ("NumPy", "HDF5", "CZI", "ND2", "zip", "Zarr")
"""Formats whose files are made for arrays, and are read part by part."""


class Plane(NamedTuple):
    """A plane of an image file.

    Attributes
    ----------
    pixels : (H, W, C)
        As stored, in colours where the file has a palette; a transparent colour of a PNG becomes an alpha channel.
        1-bit pixels are True where they are white.
    header : ImageHeader
        What holds for this plane; those of a TIFF may differ.
    """

    pixels: NDArray[Any]
    header: ImageHeader


def read_header(path: StrPath, max_pixels: int | None = MAX_PIXELS) -> ImageHeader:
    """Read the header of an image file, without its pixels.

    Parameters
    ----------
    path : path-like
    max_pixels : int or None
        Most pixels that the file may claim, None for any number.

    Raises
    ------
    ImageFileError
        If the file is missing, empty, a folder, no known image, damaged or claims more pixels.
    """
    path = Path(path)
    kind = file_format(path)
    with decoder_errors(path):
        if kind == "TIFF":
            with open_tiff(path) as tiff:
                header = tiff_header(path, tiff)
        elif kind in ARRAY_FORMATS:
            with open_stored_array(path, kind) as stored:
                header = stored.header
        elif kind in ("GIF", "WebP"):
            header = animation_header(path, kind)
        elif kind == "JPEG 2000":
            header = jpeg2000_header(path)
        else:
            header = picture_header(path, kind)
    if min(header.height, header.width, header.channels, header.planes) < 1:
        raise ImageFileError(path, "it holds no pixels", "export it again")
    pixels = header.height * header.width * header.planes
    if max_pixels is not None and max(pixels, pixels * header.channels / 3) > max_pixels:
        size = f"{header.planes} x {header.height} x {header.width}" if header.planes > 1 else format_size(header)
        channels = f" of {header.channels} channels" if header.channels > 1 else ""
        what = f"it claims {size} pixels{channels}, more than the {max_pixels:,} pixels that are read"
        if header.format == "TIFF" and header.orientation != 1:
            turned = f"{what} at once, and its orientation is {header.orientation}"
            raise ImageFileError(path, turned, "store its pixels upright (orientation 1), or cut it into tiles")
        raise ImageFileError(path, what, "cut it into tiles")
    return header


def decode(path: Path, header: ImageHeader) -> list[Plane]:
    """Read the pixels of every plane.

    Parameters
    ----------
    path : Path
    header : ImageHeader
        As `read_header` returns it.

    Raises
    ------
    ImageFileError
        If the file is damaged.
    """
    with decoder_errors(path):
        if header.format == "TIFF":
            with open_tiff(path) as tiff:
                return [
                    Plane(pixels, image.header) for image in tiff_images(path, tiff) for pixels in image.read_planes()
                ]
        if (kind := file_format(path)) in ARRAY_FORMATS:
            with open_stored_array(path, kind) as stored:
                return [Plane(np.asarray(plane), header) for plane in stored.planes()]
        if header.format in ("GIF", "WebP"):
            return [Plane(pixels, header) for pixels in decode_animation(path, header)]
        if header.format == "JPEG 2000":
            return [Plane(decode_jpeg2000(path, header), header)]
        return [Plane(decode_picture(path, header), header)]


def iterate_planes(path: Path, header: ImageHeader) -> Iterator[NDArray[Any]]:
    """Read the pixels (H, W, C) of one plane after the other, so that a long stack need not fit into memory.

    Parameters and errors are those of `decode`. Files whose format has no separate planes are read at once.
    """
    with decoder_errors(path):
        if header.format == "TIFF":
            with open_tiff(path) as tiff:
                for image in tiff_images(path, tiff):
                    yield from image.read_planes()
        elif (kind := file_format(path)) in ARRAY_FORMATS:
            with open_stored_array(path, kind) as stored:
                yield from (np.asarray(plane) for plane in stored.planes())
        else:
            yield from (plane.pixels for plane in decode(path, header))


@contextmanager
def open_stored_array(path: Path, kind: str, *, planes: bool = False) -> Iterator[StoredArray]:
    """Open the array of a file that is made for arrays.

    Parameters
    ----------
    path : Path
        Of the file, or of an array in it.
    kind : str
        One of `ARRAY_FORMATS`.
    planes : bool
        Whether the first of three axes that have no names is one of planes also in Zarr, where it else is of channels.
    """
    place = split_inner(path)
    if kind == "NumPy":
        opened = open_npy(path)
    elif kind == "zip":
        opened = open_npz(path, place)
    elif kind == "Zarr":
        opened = open_zarr(located(path), planes=planes)
    elif kind == "CZI":
        opened = open_czi(path, place)
    elif kind == "ND2":
        opened = open_nd2(path, place)
    else:
        opened = open_hdf5(path, place)
    with opened as stored:
        yield stored
