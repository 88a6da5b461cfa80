"""Reading and writing images and labels. Every check of what one picture file holds lives here."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from instseg.decoding import ImageFileError, ImageHeader, Place, decode, header, size_text
from instseg.errors import InstsegError, UsageError
from instseg.files import replacing
from instseg.regions import connected_pieces, remap_consecutive

LABEL_SUFFIXES = (".png", ".tif", ".tiff")
"""What the name of a file of labels ends in."""

_MAX_PNG_LABEL = 65_535
_MAX_INT32 = 2**31 - 1
_MAX_CLASS = 255
BAND = 512
"""Rows of a band of labels that are written one after another, and the side of the file's tiles."""

# Of the pixels' bytes: beyond, offsets in a TIFF might not fit into 32 bit.
_LARGEST_TIFF = 3 * 2**30
# imagecodecs' level for pictures and labels: higher ones cost time and save next to nothing.
_PNG_LEVEL = 3


def read_image(path: Path, *, stacked: bool = False) -> NDArray[Any]:
    """Read one image.

    Palette images become RGB and 1-bit images 0 and 255. Integers of other
    types that fit into 16 bit become uint16. An alpha channel that is opaque
    everywhere is dropped.

    Parameters
    ----------
    path : Path
    stacked : bool
        Take the planes of a stack as channels, in the file's order.

    Returns
    -------
    (H, W, C) uint8, uint16 or float32
        C is 1 (gray), 3 (RGB) or the number of channels that a TIFF declares,
        as samples per pixel or as a channel axis (OME, ImageJ). Floats, from
        float TIFF only, are finite and in the file's own range.

    Raises
    ------
    ImageFileError
        If the file is none that `header` reads, is a stack and `stacked` is not given, has transparent
        pixels, a colour space other than gray and RGB, values beyond 16 bit, NaN or infinity.
    """
    found = header(path)
    if found.planes > 1 and not stacked:
        what = f"it is a stack of {found.planes} planes of {size_text(found)} pixels, expected one image"
        advice = (
            "predict takes every plane as an image by --planes, --channels takes planes as channels; "
            "or save them one by one"
        )
        raise ImageFileError(path, what, advice)
    planes = read_planes(path)
    if len({plane.shape[:2] for plane in planes}) > 1:
        raise ImageFileError(path, "its planes differ in size, expected channels of one image", "save them one by one")
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)


def read_planes(path: Path) -> list[NDArray[Any]]:
    """Read every plane of a stack in the file's order; a single image gives a list of one.

    Returns
    -------
    list of (H, W, C) uint8, uint16 or float32
        As `read_image` returns them. All planes are in memory at once.

    Raises
    ------
    ImageFileError
        As `read_image` does, stacks apart.
    """
    found = header(path)
    if found.colour not in ("gray", "rgb", "palette"):
        raise ImageFileError(path, f"its colours are {found.colour}, expected gray or RGB", "convert it to RGB")
    return [_as_image(path, plane, found) for plane in decode(path, found)]


def read_labels(path: Path, *, connected_components: bool = False) -> NDArray[np.int32]:
    """Read one label image.

    Values are kept as they are, except those beyond int32: then all are
    renumbered 1..N in raster order, since numbers only tell instances apart.

    A binary mask is refused, as it does not say which pixels belong together:
    an image whose only nonzero value is 255 or 65,535 or comes from 1 bit,
    even in one piece, or whose only nonzero value lies in several
    8-connected pieces.

    Parameters
    ----------
    path : Path
        PNG, TIFF or BMP of integers, one channel.
    connected_components : bool
        Make every 8-connected piece of equal nonzero pixels an instance, 1..M in raster order.

    Returns
    -------
    (H, W) int32
        0 is background, every other value an instance.

    Raises
    ------
    ImageFileError
        If the file is none that `header` reads, a JPEG, a stack, in colours, floats,
        has alpha or negative values, or is a binary mask.
    """
    labels = _numbers(path)
    if labels.max() > _MAX_INT32:
        labels = remap_consecutive(labels)
    if connected_components:
        return connected_pieces(labels)
    _refuse_mask(path, labels)
    return np.ascontiguousarray(labels, np.int32)


def read_class_image(path: Path) -> NDArray[np.integer]:
    """Read an image that gives every pixel a class.

    Returns
    -------
    (H, W) integers, 0..255

    Raises
    ------
    ImageFileError
        As `read_labels` does, but for masks, or if a value is above 255.
    """
    classes = _numbers(path)
    if header(path).bits == 1:
        classes = np.minimum(classes, 1)
    if classes.max() > _MAX_CLASS:
        raise ImageFileError(path, f"it holds the class {classes.max()}, expected 0 to 255", "number the classes 1..K")
    return classes


def write_labels(path: Path, labels: NDArray[np.integer], where: Place | None = None) -> None:
    """Write labels: 16-bit PNG, or compressed 32-bit TIFF, by the name's suffix.

    Parameters
    ----------
    path : Path
        Ends in .png, .tif or .tiff. Replaced in one step where it exists.
    labels : (H, W) integer
        0 is background; values are written as they are.
    where : Place, optional
        The pixels' size and position, for a TIFF to say.

    Raises
    ------
    InstsegError
        If the suffix is another one, a value does not fit or the file cannot be written.
    UsageError
        If `labels` is not a 2-D array of integers that are not negative.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise UsageError(f"labels are {labels.dtype} of shape {labels.shape}, expected integers of shape (H, W)")
    if labels.min() < 0:
        raise UsageError(f"labels hold the negative value {labels.min()}, expected 0 for background and 1..N")
    suffix, largest = path.suffix.lower(), int(labels.max())
    if suffix == ".png":
        if largest > _MAX_PNG_LABEL:
            what = f"label {largest} does not fit into 16-bit PNG (up to {_MAX_PNG_LABEL})"
            raise InstsegError(
                f"cannot write {path}: {what}; write {path.with_suffix('.tif')} instead (with --out-dir: --format tif)"
            )
        _write_png(path, labels.astype(np.uint16))
    elif suffix in (".tif", ".tiff"):
        if largest > 2**32 - 1:
            raise InstsegError(f"cannot write {path}: label {largest} does not fit into 32 bit; renumber the labels")
        with replacing(path) as temporary:
            values = labels.astype(np.uint32)
            tifffile.imwrite(temporary, values, compression="zlib", photometric="minisblack", **_tags(where))
    else:
        raise InstsegError(
            f"cannot write {path}: labels are written as .png, .tif or .tiff; choose one of these suffixes"
        )


def write_label_bands(
    path: Path, shape: tuple[int, int], bands: Iterator[NDArray[np.int32]], where: Place | None = None
) -> None:
    """Write labels that come band by band: a tiled, compressed 32-bit TIFF (BigTIFF where it has to be).

    Parameters
    ----------
    path : Path
        Ends in .tif or .tiff. Replaced in one step where it exists.
    shape : tuple of int
        Height and width of the image.
    bands : iterator of (`BAND`, W) int32
        From the top; the last one may be lower.
    where : Place, optional
        The pixels' size and position, for the file to say.

    Raises
    ------
    InstsegError
        If the suffix is another one or the file cannot be written.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise InstsegError(
            f"cannot write {path}: labels of an image of {shape[0]} x {shape[1]} pixels are written as TIFF; "
            f"write {path.with_suffix('.tif')} instead (with --out-dir: --format tif)"
        )

    def tiles() -> Iterator[NDArray[np.uint32]]:
        for band in bands:
            for left in range(0, shape[1], BAND):
                tile = np.zeros((BAND, BAND), np.uint32)
                piece = band[:, left : left + BAND]
                tile[: piece.shape[0], : piece.shape[1]] = piece
                yield tile

    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            tiles(),
            shape=shape,
            dtype=np.uint32,
            tile=(BAND, BAND),
            compression="zlib",
            photometric="minisblack",
            bigtiff=4 * shape[0] * shape[1] > _LARGEST_TIFF,
            maxworkers=1,
            **_tags(where),
        )


def _tags(where: Place | None) -> dict[str, Any]:
    """Return what tifffile has to be told for a file to say where its pixels are."""
    if where is None:
        return {}
    tags: dict[str, Any] = {"resolution": tuple(1 / size for size in where.pixel_size), "resolutionunit": "CENTIMETER"}
    if where.position is not None:
        parts = [Fraction(value).limit_denominator(10**6) for value in where.position]
        tags["extratags"] = [
            (code, 5, 1, (part.numerator, part.denominator), True) for code, part in zip((286, 287), parts, strict=True)
        ]
    return tags


def write_picture(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write a picture as PNG.

    Parameters
    ----------
    path : Path
        Ends in .png. Replaced in one step where it exists.
    picture : (H, W, 3) uint8, or (H, W) uint8 or uint16

    Raises
    ------
    InstsegError
        If the suffix is another one or the file cannot be written.
    UsageError
        If `picture` is of another shape or type.
    """
    gray = picture.ndim == 2 and picture.dtype in (np.uint8, np.uint16)
    rgb = picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    if not (gray or rgb) or picture.size == 0:
        expected = "(H, W, 3) uint8, (H, W) uint8 or (H, W) uint16"
        raise UsageError(f"the picture is {picture.shape} {picture.dtype}, expected {expected}")
    if path.suffix.lower() != ".png":
        raise InstsegError(f"cannot write {path}: pictures are written as PNG; choose a name that ends in .png")
    _write_png(path, picture)


def _as_image(path: Path, pixels: NDArray[Any], found: ImageHeader) -> NDArray[Any]:
    """Make a decoded plane (H, W, C) uint8, uint16 or float32 without alpha."""
    # PNG's transparent colours come decoded as a further channel.
    transparent = 3 if found.colour in ("rgb", "palette") else 1
    if found.alpha or (found.format == "PNG" and pixels.shape[-1] > transparent):
        pixels = _without_alpha(path, pixels)
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    kind = pixels.dtype.kind
    if kind == "f":
        pixels = _finite(path, pixels)
    elif kind not in "iu":
        raise ImageFileError(path, f"its values are {pixels.dtype}, expected integers or floats", "save it as 16 bit")
    elif pixels.dtype not in (np.uint8, np.uint16):
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > 65_535:
            what = f"its {pixels.dtype} values go from {low} to {high}, expected 0 to 65535"
            raise ImageFileError(path, what, "save it as 16 bit or as 32-bit float")
        pixels = pixels.astype(np.uint16)
    if found.white_is_zero:
        pixels = (pixels.max() if kind == "f" else np.iinfo(pixels.dtype).max) - pixels
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))


def _without_alpha(path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
    alpha = pixels[..., -1]
    opaque = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    if not (alpha == opaque).all():
        what = f"it has transparent pixels ({int((alpha != opaque).sum())}), expected an opaque image"
        raise ImageFileError(path, what, "save it without an alpha channel, on a ground of one colour")
    return pixels[..., :-1]


def _finite(path: Path, pixels: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        pixels = pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        raise ImageFileError(
            path, f"it has values that are NaN, infinite or beyond float32 ({count})", "replace them, by 0 for example"
        )
    return pixels


def _require_label_header(path: Path, found: ImageHeader) -> None:
    gray = "save one gray channel, a number for each instance, as 16-bit PNG or 32-bit TIFF"
    if found.format == "JPEG":
        raise ImageFileError(path, "it is a JPEG, which does not keep labels' values", gray)
    if found.planes > 1:
        what = f"it is a stack of {found.planes} planes of {size_text(found)} pixels, expected one label image"
        raise ImageFileError(path, what, "save the planes one by one")
    if found.colour == "palette":
        indices = "save the palette's indices as gray (numpy.asarray(PIL.Image.open(FILE)) gives them)"
        raise ImageFileError(path, "it is a palette image, expected gray labels", indices)
    if found.alpha:
        raise ImageFileError(path, "it has an alpha channel, expected gray labels", gray)
    if found.colour != "gray" or found.channels != 1:
        name = {"gray": "", "rgb": " (RGB)"}.get(found.colour, f" ({found.colour})")
        what = f"it has {found.channels} channels{name}, expected gray labels"
        raise ImageFileError(path, what, gray)
    if np.dtype(found.dtype).kind not in "iub":
        raise ImageFileError(
            path, f"its values are {found.dtype}, expected integer labels", "save them as 32-bit integers"
        )


def _numbers(path: Path) -> NDArray[np.integer]:
    """Read an image (H, W) whose values are numbers of something, none below 0."""
    found = header(path)
    _require_label_header(path, found)
    labels = np.asarray(decode(path, found)[0])
    if labels.shape[-1] != 1:
        raise ImageFileError(path, "it has transparency, expected labels", "save it without an alpha channel")
    labels = labels[..., 0]
    if labels.dtype == bool:
        labels = labels * np.uint8(255)
    elif found.format == "PNG" and found.bits in (2, 4):
        # The decoder spreads 2 and 4 bits over 0..255.
        labels = labels // np.uint8(255 // (2**found.bits - 1))
    if labels.min() < 0:
        raise ImageFileError(
            path, f"it holds the negative value {labels.min()}", "make labels 0 for background and 1..N"
        )
    return labels


def _refuse_mask(path: Path, labels: NDArray[np.integer]) -> None:
    value = labels.max()
    if value == 0 or not ((labels == 0) | (labels == value)).all():
        return
    pieces = int(connected_pieces(labels).max())
    if value in (255, _MAX_PNG_LABEL) or pieces > 1:
        what = (
            f"it looks like a binary mask ({value} is its only value besides 0, in {pieces} pieces), "
            "expected a number for each instance"
        )
        advice = "number the instances, or give --connected-components to make every connected piece an instance"
        raise ImageFileError(path, what, advice)


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=_PNG_LEVEL))
