"""Image files: their formats, their headers, their pixels as they are stored.

The format is recognised by the first bytes of a file, never by its name. What is read:

========  ==========================================================================
PNG       1 to 16 bit, gray, RGB, palette; by Pillow, except for 16-bit colours, which
          Pillow reduces to 8 bit without a warning: those by imagecodecs
TIFF      any compression, 8 to 64 bit integers, floats, 1-bit, stacks; by tifffile
JPEG      8 bit
BMP       as Pillow reads it
========  ==========================================================================

All are read the way up that viewers show them: the orientation of EXIF and of
TIFF is applied. A file's header is checked before its pixels take memory, and no
warning or log message of a decoder reaches the terminal.
"""

from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from instseg.io.atomic import StrPath
from instseg.io.image_file import ImageFileError, ImageHeader, decoder_errors, file_format, format_size
from instseg.io.png_jpeg_bmp import decode_picture, picture_header
from instseg.io.tiff_pages import open_tiff, tiff_header, tiff_images

MAX_PIXELS = 500_000_000
"""Most pixels (height x width x planes) that are read; three times as many values, all channels counted."""


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
        return [Plane(decode_picture(path, header), header)]
