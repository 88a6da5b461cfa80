"""PNG, JPEG and BMP: their headers and pixels.

Pillow reads all but PNGs of 16-bit colours, which it reduces to 8 bit without a warning.
"""

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import Exif, Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from instseg.io.image_file import ORIENTATION_TAG, ImageHeader, is_turned, upright, valid_orientation
from instseg.io.png_chunks import PNG_CHANNELS, decode_png16

# Bits per value of PNG's colour types: gray, RGB, palette, gray with alpha, RGB with alpha.
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Most pixels that a byte of a file can stand for: deflate has 1,032 bytes (of 8 pixels of 1 bit) for one, JPEG a block
# of 64 pixels for a bit (and as many again where colours are stored at half the resolution), BMP a run of 255 for two.
_PIXELS_PER_BYTE = {"PNG": 1032 * 8, "JPEG": 1024, "BMP": 128}
# Pixels that are copied out of a picture of Pillow at a time.
_STRIP_PIXELS = 2**24


def picture_header(path: Path, kind: str) -> ImageHeader:
    """Return the header of a PNG, JPEG or BMP."""
    if kind == "PNG":
        return _png_header(path)
    with _pillow_file(path, kind) as picture:
        width, height = picture.size
        orientation = valid_orientation(picture.getexif().get(ORIENTATION_TAG))
        mode = picture.mode
        return ImageHeader(
            format=kind,
            height=width if is_turned(orientation) else height,
            width=height if is_turned(orientation) else width,
            channels=len(picture.getbands()),
            bits=1 if mode == "1" else 8,
            dtype="bool" if mode == "1" else "uint8",
            colour={"1": "gray", "L": "gray", "RGB": "rgb", "RGBA": "rgb", "P": "palette"}.get(mode, mode),
            alpha=mode == "RGBA",
            orientation=orientation,
        )


def decode_picture(path: Path, header: ImageHeader) -> NDArray[Any]:
    """Return the pixels (H, W, C) of a PNG, JPEG or BMP, upright."""
    if header.height * header.width > path.stat().st_size * _PIXELS_PER_BYTE[header.format]:
        raise ValueError(f"{path.stat().st_size} bytes cannot hold {header.height} x {header.width} pixels")
    if header.format == "PNG" and header.bits == 16 and header.channels > 1:
        pixels = decode_png16(path.read_bytes())
    else:
        with _pillow_file(path, header.format) as picture:
            if picture.width * picture.height != header.width * header.height:
                raise ValueError("it has several headers")
            picture.load()
            pixels = _to_array(picture, header)
    pixels = upright(pixels, header.orientation)
    return pixels.reshape(header.height, header.width, -1)


@contextmanager
def _pillow_file(path: Path, kind: str) -> Iterator[ImageFile]:
    # The format's own class rather than Image.open: no check against Pillow's global limit, no warnings.
    reader: Callable[[IO[bytes]], ImageFile] = {"PNG": PngImageFile, "JPEG": JpegImageFile, "BMP": BmpImageFile}[kind]
    with path.open("rb") as file, warnings.catch_warnings(action="ignore"), reader(file) as picture:
        yield picture


def _in_colours(picture: Image, header: ImageHeader) -> Image:
    """Apply the palette and the transparent colour of a picture."""
    if "transparency" in picture.info and header.bits <= 8:
        return picture.convert("LA" if header.colour == "gray" else "RGBA")
    return picture.convert("RGB") if header.colour == "palette" else picture


def _to_array(picture: ImageFile, header: ImageHeader) -> NDArray[Any]:
    """Return the pixels of a picture, in strips where it is large, as each copy exists several times for a moment."""
    width, height = picture.size
    rows = max(_STRIP_PIXELS // width, 1)
    if rows >= height:
        return np.asarray(_in_colours(picture, header))
    tops = range(0, height, rows)
    strips = (picture.crop((0, top, width, min(top + rows, height))) for top in tops)
    pixels: NDArray[Any] | None = None
    for top, strip in zip(tops, strips, strict=True):
        part = np.asarray(_in_colours(strip, header))
        pixels = np.empty((height, *part.shape[1:]), part.dtype) if pixels is None else pixels
        pixels[top : top + rows] = part
    return np.asarray(pixels)


def _png_header(path: Path) -> ImageHeader:
    # A buffer would be filled anew for the head of every chunk.
    with path.open("rb", buffering=0) as file:
        start = file.read(29)
        if len(start) < 29 or start[12:16] != b"IHDR":
            raise ValueError("no header")
        width, height, bits, colour_type, compression, filtering, interlaced = struct.unpack(">IIBBBBB", start[16:])
        if bits not in _PNG_BITS.get(colour_type, ()) or compression or filtering or interlaced > 1:
            raise ValueError("impossible header")
        orientation = _png_orientation(file)
    turned = is_turned(orientation)
    return ImageHeader(
        format="PNG",
        height=width if turned else height,
        width=height if turned else width,
        channels=PNG_CHANNELS[colour_type],
        bits=bits,
        dtype={1: "bool", 16: "uint16"}.get(bits, "uint8"),
        colour={0: "gray", 3: "palette", 4: "gray"}.get(colour_type, "rgb"),
        alpha=colour_type in (4, 6),
        orientation=orientation,
    )


def _png_orientation(file: IO[bytes]) -> int:
    """Return the orientation in a PNG's chunk of EXIF, which may come before its pixels or after them."""
    at = 8
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return 1
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return _exif_orientation(file.read(size))
        at += 12 + size


def _exif_orientation(content: bytes) -> int:
    exif = Exif()
    try:
        with warnings.catch_warnings(action="ignore"):
            exif.load(content)
            return valid_orientation(exif.get(ORIENTATION_TAG))
    except Exception:  # Damaged EXIF says nothing of the pixels, which can be read all the same, as viewers do.
        return 1
