"""What all image files have in common: their header, the errors that they cause, and which way up they are shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.atomic import is_zarr
from instseg.io.container import located, split_inner

ORIENTATION_TAG = 0x0112
"""EXIF's and TIFF's tag of the orientation, a number from 1 (as stored) to 8."""


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


FORMATS: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG": (b"\xff\xd8\xff",),
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "WebP": (b"RIFF",),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "NumPy": (b"\x93NUMPY",),
    "HDF5": (b"\x89HDF\r\n\x1a\n",),
    "CZI": (b"ZISRAWFILE",),
    "ND2": (b"\xda\xce\xbe\n",),
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
}
"""The formats of image files, and what they begin with. Of zip archives those with arrays of NumPy are read."""

CONTAINERS = ("HDF5", "CZI", "ND2", "zip")
"""Formats of which a path may name a part, as `file.h5:/volume`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """The properties of an image file that are known before its pixels are read.

    Attributes
    ----------
    format : str
        As `file_format` names it.
    height, width : int
        Of one plane in pixels, as the image is shown: the orientation is applied.
    channels : int
        Values per pixel as stored: an alpha channel counts, a palette image has 1.
    bits : int
        Per value, as stored.
    dtype : str
        NumPy's name of the stored values' type; 1-bit images are 'bool'.
    planes : int
        Images in the file, 1 unless it is a TIFF stack.
    plane_axes : str
        The axes of the planes in words, such as 'Z' or 'T and Z', where the file names them; '' where it does not,
        so that its planes may be channels.
    colour : str
        'gray' (any number of channels), 'rgb', 'palette', or the name of a colour space that is not read.
    alpha : bool
        Whether the last channel is transparency.
    white_is_zero : bool
        Whether a gray TIFF of 2 bit or more calls its 0 white. `read_image` inverts it, `read_labels` does not.
    orientation : int
        How the stored pixels are turned or mirrored to be shown, as EXIF numbers it; 1 is not at all.
    is_labels : bool
        Whether the file says that it holds labels, as those of OME-Zarr do.
    """

    format: str
    height: int
    width: int
    channels: int
    bits: int
    dtype: str
    planes: int = 1
    plane_axes: str = ""
    colour: str = "gray"
    alpha: bool = False
    white_is_zero: bool = False
    orientation: int = 1
    is_labels: bool = False


@contextmanager
def decoder_errors(path: Path) -> Iterator[None]:
    """Turn any exception of a decoder into an ImageFileError of one line, and ignore what NumPy warns of."""
    again = "copy or export it again"
    try:
        with np.errstate(all="ignore"):
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
    """Return the format of an image file: 'Zarr' for a folder of that kind, else one of `FORMATS` by its first bytes.

    Raises
    ------
    ImageFileError
        If the file is missing, empty, a folder or of another format, or the path leads into one that has no parts.
    """
    if is_zarr(located(path)):
        return "Zarr"
    named = path
    path, inner = split_inner(path)
    if path.is_dir():
        raise ImageFileError(path, "it is a folder, expected an image file", "give the files in it")
    if not path.is_file():
        what = "it is no regular file" if path.exists() else "there is no such file"
        raise ImageFileError(path, what, "check the name")
    with decoder_errors(path), path.open("rb") as file:
        start = file.read(12)
    if not start:
        raise ImageFileError(path, "the file is empty", "copy or export it again")
    for kind, beginnings in FORMATS.items():
        if start.startswith(beginnings) and (kind != "WebP" or start[8:] == b"WEBP"):
            if inner and kind not in CONTAINERS:
                raise ImageFileError(named, f"it leads into a {kind}, which has no parts", f"give {path}")
            return kind
    known = ", ".join(kind for kind in FORMATS if kind != "zip")
    raise ImageFileError(named, f"its content is none that is known ({known})", "convert it to PNG or TIFF")


def format_size(header: ImageHeader) -> str:
    """Return 'height x width'."""
    return f"{header.height} x {header.width}"


def valid_orientation(value: object) -> int:
    """Return an orientation from 1 to 8; 1, as any viewer does, where a file has none or a number without meaning."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def is_turned(orientation: int) -> bool:
    """Return whether an orientation makes rows of the stored columns."""
    return orientation >= 5


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels the way up that they are shown.

    Parameters
    ----------
    pixels : (H, W, ...)
        As stored.
    orientation : int
        1 to 8, as EXIF and TIFF number them.

    Returns
    -------
    (H, W, ...), or (W, H, ...) where the orientation is 5 or more; a view

    Examples
    --------
    >>> upright(np.array([[1, 2], [3, 4]]), 6).tolist()
    [[3, 1], [4, 2]]
    """
    turned = np.swapaxes(pixels, 0, 1) if is_turned(orientation) else pixels
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return turned
