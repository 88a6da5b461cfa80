"""GIF and WebP: pictures for screens, which may be several, one after the other."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from instseg.io.image_file import ORIENTATION_TAG, ImageHeader, is_turned, upright, valid_orientation

_READERS: dict[str, Callable[[IO[bytes]], ImageFile]] = {"GIF": GifImageFile, "WebP": WebPImageFile}
# Pixels that need not be accounted for, and how many a byte of a file stands for at most (LZW has 4,096 in 12 bit).
_PIXELS_OF_NOTHING, _PIXELS_PER_BYTE = 2**24, 2**14


def animation_header(path: Path, kind: str) -> ImageHeader:
    """Return the header of a GIF or a WebP; its pictures are planes along T."""
    with _picture_file(path, kind) as picture:
        width, height = picture.size
        frames = int(getattr(picture, "n_frames", 1))
        gray = frames == 1 and _is_gray(picture)
        alpha = not gray and (picture.mode != "RGB" or frames > 1)
        orientation = valid_orientation(picture.getexif().get(ORIENTATION_TAG)) if kind == "WebP" else 1
        if height * width > _PIXELS_OF_NOTHING + path.stat().st_size * _PIXELS_PER_BYTE:
            raise ValueError(f"{path.stat().st_size} bytes cannot hold {height} x {width} pixels")
        return ImageHeader(
            format=kind,
            height=width if is_turned(orientation) else height,
            width=height if is_turned(orientation) else width,
            channels=1 if gray else 3 + alpha,
            bits=8,
            dtype="uint8",
            planes=frames,
            plane_axes="T" if frames > 1 else "",
            colour="gray" if gray else "palette" if kind == "GIF" else "rgb",
            alpha=alpha,
            orientation=orientation,
        )


def decode_animation(path: Path, header: ImageHeader) -> Iterator[NDArray[Any]]:
    """Yield the pictures (H, W, C) of a GIF or a WebP, as they are shown and upright."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[header.channels]
    with _picture_file(path, header.format) as picture:
        for index in range(header.planes):
            picture.seek(index)
            pixels = upright(np.asarray(picture.convert(mode)), header.orientation)
            yield pixels.reshape(header.height, header.width, header.channels)


def _is_gray(picture: ImageFile) -> bool:
    """Return whether a picture has shades of gray only, as GIF has them in a palette."""
    if "transparency" in picture.info or picture.mode not in ("L", "P"):
        return False
    colours = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


@contextmanager
def _picture_file(path: Path, kind: str) -> Iterator[ImageFile]:
    with path.open("rb") as file, warnings.catch_warnings(action="ignore"), _READERS[kind](file) as picture:
        yield picture
