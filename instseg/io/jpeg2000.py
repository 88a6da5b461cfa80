"""JPEG 2000: 8 bit by Pillow, more by imagecodecs, as Pillow reduces colours to 8 bit and stretches 12 bit to 16."""

import struct
import warnings
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from instseg.io.image_file import ImageHeader

# The beginning of a codestream, and how many bytes of a file are searched for it.
_START, _SEARCHED = b"\xff\x4f\xff\x51", 2**20
# Pixels that need not be accounted for, and how many a byte of a file stands for at most.
_PIXELS_OF_NOTHING, _PIXELS_PER_BYTE = 2**24, 2**14
_COLOURS = {"L": "gray", "LA": "gray", "I;16": "gray", "I": "gray", "RGB": "rgb", "RGBA": "rgb"}


def jpeg2000_header(path: Path) -> ImageHeader:
    """Return the header of a JPEG 2000, of a file (JP2) or a bare codestream."""
    with path.open("rb") as file:
        start = file.read(_SEARCHED)
    height, width, bits, components = _codestream(start)
    with path.open("rb") as file, warnings.catch_warnings(action="ignore"), Jpeg2KImageFile(file) as picture:
        mode = picture.mode
        if picture.size != (width, height):
            raise ValueError("its header and its codestream differ in size")
    if height * width > _PIXELS_OF_NOTHING + path.stat().st_size * _PIXELS_PER_BYTE:
        raise ValueError(f"{path.stat().st_size} bytes cannot hold {height} x {width} pixels")
    if len(set(bits)) > 1:
        raise ValueError("its channels differ in bits")
    depth, signed = bits[0]
    palette = mode == "P" or (components == 1 and mode in ("RGB", "RGBA"))
    channels = components if depth > 8 else {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}.get(mode, components)
    return ImageHeader(
        format="JPEG 2000",
        height=height,
        width=width,
        channels=channels,
        bits=depth,
        dtype=f"{'' if signed else 'u'}int{8 if depth <= 8 else 16}",
        colour="palette" if palette else _COLOURS.get(mode, mode),
        alpha=channels in (2, 4),
    )


def decode_jpeg2000(path: Path, header: ImageHeader) -> NDArray[Any]:
    """Return the pixels (H, W, C) of a JPEG 2000, or (H, W, 3) of one with a palette."""
    if header.bits > 8:
        pixels = np.asarray(imagecodecs.jpeg2k_decode(path.read_bytes()))
    else:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"), Jpeg2KImageFile(file) as picture:
            pixels = np.asarray(picture.convert("RGB") if header.colour == "palette" else picture)
    return pixels.reshape(header.height, header.width, -1)


def _codestream(start: bytes) -> tuple[int, int, list[tuple[int, bool]], int]:
    """Return height, width, the bits of each component and whether it is signed, and how many there are."""
    at = start.find(_START)
    if at < 0 or len(start) < at + 42:
        raise ValueError("no codestream")
    right, bottom, left, top = struct.unpack(">4I", start[at + 8 : at + 24])
    (components,) = struct.unpack(">H", start[at + 40 : at + 42])
    sizes = start[at + 42 : at + 42 + 3 * components]
    if not 1 <= components <= 16 or len(sizes) < 3 * components:
        raise ValueError(f"{components} channels")
    bits = [((size & 0x7F) + 1, bool(size & 0x80)) for size in sizes[::3]]
    if max(depth for depth, _ in bits) > 16 or set(sizes[1::3] + sizes[2::3]) != {1}:
        raise ValueError("its channels are of more than 16 bit, or of different sizes")
    return bottom - top, right - left, bits, components
