"""Images read from files as arrays, with every check of what they hold, and pictures written as PNG."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError
from instseg.io.atomic import StrPath, atomic_write
from instseg.io.formats import decode, read_header
from instseg.io.image_file import ImageFileError, ImageHeader, decoder_errors, format_size

# imagecodecs' level for pictures and labels: higher ones cost time and save next to nothing.
_PNG_LEVEL = 3


def read_image(path: StrPath, *, planes_as_channels: bool = False) -> NDArray[Any]:
    """Read one image.

    Palette images become RGB and 1-bit images 0 and 255. Integers of other
    types that fit into 16 bit become uint16, or int16 where some are negative.
    An alpha channel that is opaque everywhere is dropped.

    Parameters
    ----------
    path : path-like
    planes_as_channels : bool
        Take the planes of a stack as channels, in the file's order, where the file does not name them.

    Returns
    -------
    (H, W, C) uint8, uint16, int16 or float32
        C is 1 (gray), 3 (RGB) or the number of channels that a TIFF declares,
        as samples per pixel or as a channel axis (OME, ImageJ). Floats, from
        float TIFF only, are finite and in the file's own range.

    Raises
    ------
    ImageFileError
        If the file is none that `read_header` reads, is a stack whose planes are no channels (`planes_as_channels` is
        not given, or the file names their axis, such as Z or T), has transparent pixels, a colour space other than
        gray and RGB, values beyond 16 bit, NaN or infinity.
    """
    path = Path(path)
    header = read_header(path)
    if header.planes > 1 and not (planes_as_channels and not header.plane_axes):
        advice = "predict takes every plane as an image by `planes=True`"
        if not header.plane_axes:
            advice += ", `channels` takes planes as channels"
        raise ImageFileError(
            path, f"it is {describe_stack(header)}, expected one image", f"{advice}; or save them one by one"
        )
    planes = read_planes(path)
    if len({plane.shape[:2] for plane in planes}) > 1:
        raise ImageFileError(path, "its planes differ in size, expected channels of one image", "save them one by one")
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)


def read_planes(path: StrPath) -> list[NDArray[Any]]:
    """Read every plane of a stack in the file's order; a single image gives a list of one.

    Returns
    -------
    list of (H, W, C) uint8, uint16, int16 or float32
        As `read_image` returns them. All planes are in memory at once.

    Raises
    ------
    ImageFileError
        As `read_image` does, stacks apart.
    """
    path = Path(path)
    header = read_header(path)
    if header.is_labels:
        raise ImageFileError(path, "it holds labels, expected an image", "give the image")
    planes = decode(path, header)
    with decoder_errors(path):
        return [to_image(path, plane.pixels, plane.header) for plane in planes]


def describe_stack(header: ImageHeader) -> str:
    """Return 'a stack of 3 planes along Z of 100 x 120 pixels'."""
    along = f" along {header.plane_axes}" if header.plane_axes else ""
    return f"a stack of {header.planes} planes{along} of {format_size(header)} pixels"


def write_picture(path: StrPath, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write a picture as PNG.

    Parameters
    ----------
    path : path-like
        Ends in .png. Replaced in one step where it exists.
    picture : (H, W, 3) uint8, or (H, W) uint8 or uint16

    Raises
    ------
    InstsegError
        If the suffix is another one or the file cannot be written.
    UsageError
        If `picture` is of another shape or type.
    """
    path = Path(path)
    gray = picture.ndim == 2 and picture.dtype in (np.uint8, np.uint16)
    rgb = picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    if not (gray or rgb) or picture.size == 0:
        expected = "(H, W, 3) uint8, (H, W) uint8 or (H, W) uint16"
        raise UsageError(f"the picture is {picture.shape} {picture.dtype}, expected {expected}")
    if path.suffix.lower() != ".png":
        raise InstsegError(f"cannot write {path}: pictures are written as PNG; choose a name that ends in .png")
    write_png(path, picture)


def to_image(path: Path, pixels: NDArray[Any], header: ImageHeader, where: str = "") -> NDArray[Any]:
    """Make decoded pixels (..., C) uint8, uint16, int16 or float32 without alpha, by the rules of `read_image`.

    `where` is for messages, as `to_image_values` takes it.
    """
    if header.colour not in ("gray", "rgb", "palette"):
        raise ImageFileError(path, f"its colours are {header.colour}, expected gray or RGB", "convert it to RGB")
    # PNG's transparent colours come decoded as a further channel.
    transparent = 3 if header.colour in ("rgb", "palette") else 1
    if header.alpha or (header.format == "PNG" and pixels.shape[-1] > transparent):
        pixels = _without_alpha(path, pixels)
    pixels = to_image_values(path, pixels, where)
    if header.white_is_zero:
        # Values of 2, 4 or 12 bit go up to less than their type does.
        white = (
            pixels.max()
            if pixels.dtype.kind == "f"
            else pixels.dtype.type(min(2**header.bits, 2 ** (8 * pixels.itemsize)) - 1)
        )
        pixels = white - pixels
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))


def to_image_values(path: Path, values: NDArray[Any], where: str = "") -> NDArray[Any]:
    """Return values of any type in one that images have: the rule of all formats.

    Parameters
    ----------
    path : Path
        The file that they are from.
    values : array of any shape
    where : str
        For messages: which values these are, such as ' in the part that was read'.

    Returns
    -------
    array of uint8, uint16, int16 or float32
        In any byte order. Truth values become 0 and 255, other integers uint16, or int16 where some are negative, other
        floats float32.

    Raises
    ------
    ImageFileError
        If they are no numbers, do not fit into 16 bit, or are NaN, infinite or beyond float32.
    """
    kind = values.dtype.kind
    if kind == "b":
        return white_and_black(values)
    if kind == "f":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            what = f"it has values that are NaN, infinite or beyond float32 ({count}{where})"
            raise ImageFileError(path, what, "replace them, by 0 for example")
    elif kind not in "iu":
        raise ImageFileError(path, f"its values are {values.dtype}, expected integers or floats", "save it as 16 bit")
    elif kind == "i" or values.dtype.itemsize > 2:
        low, high = int(values.min()), int(values.max())
        fitting = np.dtype(np.uint16 if low >= 0 else np.int16)
        if low < np.iinfo(fitting).min or high > np.iinfo(fitting).max:
            name = values.dtype.newbyteorder("=")
            what = f"its {name} values go from {low} to {high}{where}, expected 0 to 65535 or -32768 to 32767"
            raise ImageFileError(path, what, "save it as 16 bit or as 32-bit float")
        values = values.astype(fitting)
    return values


def image_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of an image that is read part by part, whose stored values are of another type.

    Integers that may be negative beyond 16 bit are taken for what has none below 0, as it takes all values to tell.
    """
    if stored.kind == "f":
        return np.dtype(np.float32)
    if stored.kind == "i" and stored.itemsize <= 2:
        return np.dtype(np.int16)
    return np.dtype(np.uint8 if stored.kind == "b" or stored == np.uint8 else np.uint16)


def white_and_black(pixels: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return 255 for True and 0 for False."""
    values = pixels.astype(np.uint8)
    return np.multiply(values, np.uint8(255), out=values)


def _without_alpha(path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
    alpha = pixels[..., -1]
    opaque = 1 if alpha.dtype.kind in "fb" else np.iinfo(alpha.dtype).max
    if not (alpha == opaque).all():
        what = f"it has transparent pixels ({int((alpha != opaque).sum())}), expected an opaque image"
        raise ImageFileError(path, what, "save it without an alpha channel, on a ground of one colour")
    return pixels[..., :-1]


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write pixels, (H, W) or (H, W, C) uint8 or uint16, as PNG: in one step, and whatever the name ends in."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=_PNG_LEVEL))
