"""Image files: their formats, their headers, their pixels as they are stored.

The format is recognised by the first bytes of a file, never by its name. What is read:

========  ==========================================================================
PNG       1 to 16 bit, gray, RGB, palette; by Pillow, except for 16-bit colours, which
          Pillow reduces to 8 bit without a warning: those by imagecodecs
TIFF      any compression, 8 to 64 bit integers, floats, 1-bit, stacks; by tifffile
JPEG      8 bit, rotated by its EXIF orientation
BMP       as Pillow reads it
========  ==========================================================================

A file's header is checked before its pixels take memory, and no warning or
log message of Pillow or tifffile reaches the terminal.
"""

import logging
import math
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from instseg.errors import InstsegError
from instseg.io.atomic import StrPath

MAX_PIXELS = 500_000_000
"""Most pixels (height x width x planes) that are read; three times as many values, all channels counted."""

# Bits per value of PNG's colour types: gray, RGB, palette, gray with alpha, RGB with alpha.
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}

# Without a handler of its own, tifffile's messages on damaged files would reach stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class ImageFileError(InstsegError):
    """A file that cannot be used as an image or as labels.

    Attributes
    ----------
    path : Path
    what : str
        What is wrong, without the file's name.
    advice : str
        What to do.
    """

    def __init__(self, path: Path, what: str, advice: str) -> None:
        super().__init__(f"cannot read {path}: {what}; {advice}")
        self.path, self.what, self.advice = path, what, advice

    def __reduce__(self) -> tuple[Any, ...]:
        """Let processes exchange it, although it is built from other values than its message."""
        return type(self), (self.path, self.what, self.advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """The properties of an image file that are known before its pixels are read.

    Attributes
    ----------
    format : str
        'PNG', 'TIFF', 'JPEG' or 'BMP'.
    height, width : int
        Of one plane in pixels, EXIF orientation applied.
    channels : int
        Values per pixel as stored: an alpha channel counts, a palette image has 1.
    bits : int
        Per value, as stored.
    dtype : str
        NumPy's name of the stored values' type; 1-bit images are 'bool'.
    planes : int
        Images in the file, 1 unless it is a TIFF stack.
    colour : str
        'gray' (any number of channels), 'rgb', 'palette', or the name of a colour space that is not read.
    alpha : bool
        Whether the last channel is transparency.
    white_is_zero : bool
        Whether a gray TIFF of 8 bit or more calls its 0 white. `read_image` inverts it, `read_labels` does not.
    """

    format: str
    height: int
    width: int
    channels: int
    bits: int
    dtype: str
    planes: int = 1
    colour: str = "gray"
    alpha: bool = False
    white_is_zero: bool = False


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
        if kind == "PNG":
            header = _png_header(path)
        elif kind == "TIFF":
            with tifffile.TiffFile(path) as tiff:
                header = _tiff_header(tiff)
        else:
            with _pillow_file(path, kind) as picture:
                header = _pillow_header(picture, kind)
    if min(header.height, header.width, header.channels, header.planes) < 1:
        raise ImageFileError(path, "it holds no pixels", "export it again")
    pixels = header.height * header.width * header.planes
    if max_pixels is not None and max(pixels, pixels * header.channels / 3) > max_pixels:
        size = f"{header.planes} x {header.height} x {header.width}" if header.planes > 1 else format_size(header)
        channels = f" of {header.channels} channels" if header.channels > 1 else ""
        what = f"it claims {size} pixels{channels}, more than the {max_pixels:,} pixels that are read"
        raise ImageFileError(path, what, "cut it into tiles")
    return header


@contextmanager
def decoder_errors(path: Path) -> Iterator[None]:
    """Turn any exception of a decoder into an ImageFileError of one line."""
    again = "copy or export it again"
    try:
        yield
    except InstsegError:
        raise
    except MemoryError as error:
        raise ImageFileError(path, "there is not enough memory for it", "cut it into tiles") from error
    except Exception as error:  # On damaged files the decoders raise anything from KeyError to their own types.
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageFileError(path, str(error.strerror), "check the permissions and the disc") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageFileError(path, f"it is damaged or cut off ({reason})", again) from error


def file_format(path: Path) -> str:
    """Return the format of an image file by its first bytes: 'PNG', 'TIFF', 'JPEG' or 'BMP'.

    Raises
    ------
    ImageFileError
        If the file is missing, empty, a folder or of another format.
    """
    if path.is_dir():
        raise ImageFileError(path, "it is a folder, expected an image file", "give the files in it")
    if not path.is_file():
        what = "it is no regular file" if path.exists() else "there is no such file"
        raise ImageFileError(path, what, "check the name")
    with decoder_errors(path), path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise ImageFileError(path, "the file is empty", "copy or export it again")
    if start == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if start[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if start[:2] == b"BM":
        return "BMP"
    raise ImageFileError(path, "its content is no PNG, TIFF, JPEG or BMP", "convert it to PNG or TIFF")


def _png_header(path: Path) -> ImageHeader:
    with path.open("rb") as file:
        start = file.read(26)
    if len(start) < 26 or start[12:16] != b"IHDR":
        raise ValueError("no header")
    width, height, bits, colour_type = struct.unpack(">IIBB", start[16:26])
    if bits not in _PNG_BITS.get(colour_type, ()):
        raise ValueError("impossible header")
    return ImageHeader(
        format="PNG",
        height=height,
        width=width,
        channels={0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type],
        bits=bits,
        dtype={1: "bool", 16: "uint16"}.get(bits, "uint8"),
        colour={0: "gray", 3: "palette", 4: "gray"}.get(colour_type, "rgb"),
        alpha=colour_type in (4, 6),
    )


@contextmanager
def _pillow_file(path: Path, kind: str) -> Iterator[ImageFile]:
    # The format's own class rather than Image.open: no check against Pillow's global limit, no warnings.
    reader: Callable[[IO[bytes]], ImageFile] = {"PNG": PngImageFile, "JPEG": JpegImageFile, "BMP": BmpImageFile}[kind]
    with path.open("rb") as file, reader(file) as picture:
        yield picture


def _pillow_header(picture: ImageFile, kind: str) -> ImageHeader:
    width, height = picture.size
    with warnings.catch_warnings(action="ignore"):
        turned = picture.getexif().get(0x0112) in (5, 6, 7, 8)
    mode = picture.mode
    return ImageHeader(
        format=kind,
        height=width if turned else height,
        width=height if turned else width,
        channels=len(picture.getbands()),
        bits=1 if mode == "1" else 8,
        dtype="bool" if mode == "1" else "uint8",
        colour={"1": "gray", "L": "gray", "RGB": "rgb", "RGBA": "rgb", "P": "palette"}.get(mode, mode),
        alpha=mode == "RGBA",
    )


def _tiff_header(tiff: Any) -> ImageHeader:
    first = tiff.series[0]
    page, sizes = first.keyframe, dict(zip(first.axes, first.shape, strict=True))
    channels = sizes[axis] if (axis := _channel_axis(first.axes)) else 1
    extra = tuple(int(sample) for sample in page.extrasamples)
    colour = tiff_colour(page)
    return ImageHeader(
        format="TIFF",
        height=sizes["Y"],
        width=sizes["X"],
        channels=channels,
        bits=int(np.max(page.bitspersample)),
        dtype=str(first.dtype),
        planes=sum(_tiff_planes(series.axes, series.shape) for series in tiff.series),
        colour=colour,
        # Many writers leave the fourth sample of RGB unspecified, and mean transparency.
        alpha=len(extra) == 1 and (extra[0] in (1, 2) or colour == "rgb"),
        white_is_zero=int(page.photometric) == 0 and first.dtype != bool,
    )


def tiff_colour(page: Any) -> str:
    """Return 'gray', 'rgb', 'palette', or the name of another colour space, of a page of a TIFF."""
    photometric = int(page.photometric)
    if photometric == 6 and int(page.compression) in (6, 7):
        return "rgb"  # JPEG's YCbCr, which the decoder turns into RGB.
    names = {0: "gray", 1: "gray", 2: "rgb", 3: "palette"}
    return names.get(photometric) or str(getattr(page.photometric, "name", photometric))


def _channel_axis(axes: str) -> str:
    """Return the axis that holds a pixel's values: samples, else what the file declares as channels."""
    return "S" if "S" in axes else "C" if "C" in axes else ""


def _tiff_planes(axes: str, shape: tuple[int, ...]) -> int:
    channel = _channel_axis(axes)
    return math.prod(size for axis, size in zip(axes, shape, strict=True) if axis not in ("Y", "X", channel))


def decode(path: Path, header: ImageHeader) -> list[NDArray[Any]]:
    """Read the pixels of every plane.

    Parameters
    ----------
    path : Path
    header : ImageHeader
        As `read_header` returns it.

    Returns
    -------
    list of (H, W, C) arrays
        As stored, in colours where the file has a palette; a transparent colour of a PNG becomes an alpha channel.

    Raises
    ------
    ImageFileError
        If the file is damaged.
    """
    with decoder_errors(path):
        if header.format == "TIFF":
            with tifffile.TiffFile(path) as tiff:
                return [plane for series in tiff.series for plane in _tiff_decode(series)]
        if header.format == "PNG" and header.bits == 16 and header.channels > 1:
            pixels = imagecodecs.png_decode(path.read_bytes())
        else:
            with _pillow_file(path, header.format) as picture, warnings.catch_warnings(action="ignore"):
                pixels = np.asarray(_oriented(picture, header))
        return [pixels.reshape(header.height, header.width, -1)]


def _oriented(picture: ImageFile, header: ImageHeader) -> Image:
    """Apply the orientation, the palette and the transparent colour of a picture."""
    if header.format == "JPEG":
        return ImageOps.exif_transpose(picture)
    if "transparency" in picture.info and header.bits <= 8:
        return picture.convert("LA" if header.colour == "gray" else "RGBA")
    return picture.convert("RGB") if header.colour == "palette" else picture


def _tiff_decode(series: Any) -> Iterator[NDArray[Any]]:
    page, axes = series.keyframe, series.axes
    channel = _channel_axis(axes)
    pixels = np.asarray(series.asarray()).reshape(series.shape)
    pixels = pixels if channel else pixels[..., None]
    axes, channel = (axes, channel) if channel else (axes + "S", "S")
    pixels = np.moveaxis(pixels, [axes.index(axis) for axis in ("Y", "X", channel)], (-3, -2, -1))
    for plane in pixels.reshape(-1, *pixels.shape[-3:]):
        if tiff_colour(page) == "palette" and page.colormap is not None:
            yield _tiff_colours(page.colormap)[plane[..., 0]]
        else:
            yield plane


def _tiff_colours(colormap: Any) -> NDArray[np.uint8]:
    """Return a TIFF's palette as (values, 3): 16 bit by the standard, 8 bit by some writers' habit."""
    colours = np.asarray(colormap).T
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def format_size(header: ImageHeader) -> str:
    """Return 'height x width'."""
    return f"{header.height} x {header.width}"
