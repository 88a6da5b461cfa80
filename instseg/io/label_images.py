"""Label images: one number for each instance, read from image files and written as PNG or TIFF."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError
from instseg.io.atomic import StrPath, atomic_write
from instseg.io.formats import decode, iterate_planes, read_header
from instseg.io.image_file import ImageFileError, ImageHeader
from instseg.io.images import describe_stack, white_and_black, write_png
from instseg.io.pixel_size import PixelGeometry, tiff_tags
from instseg.labels import regions
from instseg.labels.regions import IGNORED, relabel_sequential

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
"""What the name of a file of labels ends in."""

MAX_PNG_LABEL = 65_535
"""Largest number that a 16-bit PNG holds."""

# White of 8 and 16 bit.
_MASK_VALUES = (255, MAX_PNG_LABEL)
_MAX_INT32 = 2**31 - 1
_MAX_CLASS = 255
STRIP_ROWS = 512
"""Rows of the strips in which labels are written, and the side of the tiles of the file."""

# In bytes of labels.
_COMPRESSED_AT_ONCE = 2**24
# From so many bytes of pixels on, the offsets in a TIFF may not fit into 32 bit.
_LARGEST_TIFF = 3 * 2**30


def read_labels(
    path: StrPath, *, connected_components: bool = False, ignore_label: int | None = None, prediction: bool = False
) -> NDArray[np.int32]:
    """Read one label image.

    Values are kept as they are, except those beyond int32: then all are
    renumbered 1..N in raster order, since numbers only tell instances apart.

    A binary mask is refused, as it does not say which pixels belong together: an
    image whose only nonzero value is 255 or 65,535 or comes from 1 bit, even in
    one component, or whose only nonzero value is 1 and lies in several
    8-connected components. Any other value is the number of an instance.

    Parameters
    ----------
    path : path-like
        PNG, TIFF, BMP, Zarr or another array of integers, one channel.
    connected_components : bool
        Make every 8-connected component of equal nonzero pixels an instance, 1..M in raster order.
    ignore_label : int, optional
        Pixels of this value become `IGNORED`: they belong neither to the background nor to an instance.
    prediction : bool
        Whether another tool found these instances: then every value is a number, and nothing is taken for a mask.

    Returns
    -------
    (H, W) int32
        0 is background, `IGNORED` (-1) the pixels of `ignore_label`, every other value an instance.

    Raises
    ------
    ImageFileError
        If the file is none that `read_header` reads, a JPEG, a stack, in colours, floats,
        has alpha or negative values, or is a binary mask.
    """
    path = Path(path)
    values = read_label_values(path, ignore_label=ignore_label)
    return to_instances(path, values, connected_components=connected_components, prediction=prediction)


def read_label_values(path: StrPath, *, ignore_label: int | None = None) -> NDArray[np.int32]:
    """Read one label image without asking what its values mean; parameters, result and errors as `read_labels`."""
    return to_label_values(_read_integers(Path(path)), ignore_label)


def to_label_values(values: NDArray[np.integer], ignore_label: int | None = None) -> NDArray[np.int32]:
    """Return the labels of an image or a volume that integers stand for, as `read_label_values` returns them."""
    ignored = None if ignore_label is None else values == ignore_label
    if ignored is not None:
        values = np.where(ignored, values.dtype.type(0), values)
    if values.max() > _MAX_INT32:
        values = relabel_sequential(values)
    labels = np.ascontiguousarray(values, np.int32)
    if ignored is not None:
        labels[ignored] = IGNORED
    return labels


def read_label_planes(path: StrPath, *, connected_components: bool = False) -> Iterator[NDArray[np.int32]]:
    """Read the planes of a stack of labels in the file's order, one at a time where the format allows that.

    Parameters, values and errors are those of `read_labels`, with which a single image gives the same.
    """
    path = Path(path)
    header = read_header(path, max_pixels=None)
    require_label_header(path, replace(header, planes=1))
    for plane in iterate_planes(path, header):
        values = to_integers(path, header, plane)
        if values.max() > _MAX_INT32:
            values = relabel_sequential(values)
        labels = np.ascontiguousarray(values, np.int32)
        yield to_instances(path, labels, connected_components=connected_components)


def to_instances(
    path: StrPath, values: NDArray[np.int32], *, connected_components: bool = False, prediction: bool = False
) -> NDArray[np.int32]:
    """Return the instances of what `read_label_values` read; parameters and errors as `read_labels`.

    Labels (Z, Y, X) of a volume have 26-connected components.
    """
    if connected_components:
        return np.where(values < 0, np.int32(IGNORED), regions.connected_components(np.maximum(values, 0)))
    if not prediction:
        _refuse_mask(Path(path), values)
    return values


def read_class_image(path: StrPath) -> NDArray[np.integer]:
    """Read an image that gives every pixel a class.

    Returns
    -------
    (H, W) integers, 0..255

    Raises
    ------
    ImageFileError
        As `read_labels` does, masks apart, or if a value is above 255.
    """
    path = Path(path)
    classes = _read_integers(path)
    if read_header(path).bits == 1:
        classes = np.minimum(classes, 1)
    if classes.max() > _MAX_CLASS:
        raise ImageFileError(path, f"it holds the class {classes.max()}, expected 0 to 255", "number the classes 1..K")
    return classes


def write_labels(path: StrPath, labels: NDArray[np.integer], geometry: PixelGeometry | None = None) -> None:
    """Write labels: 16-bit PNG, compressed 32-bit TIFF, or an array of NumPy, by the name's suffix.

    Parameters
    ----------
    path : path-like
        Ends in .png, .tif, .tiff or .npy. Replaced in one step where it exists.
    labels : (H, W) integer
        0 is background; values are written as they are.
    geometry : PixelGeometry, optional
        The size and the position of the pixels, which a TIFF tells and a PNG cannot.

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
    path = Path(path)
    suffix, largest = path.suffix.lower(), int(labels.max())
    if suffix == ".png":
        if largest > MAX_PNG_LABEL:
            what = f"label {largest} does not fit into 16-bit PNG (up to {MAX_PNG_LABEL})"
            raise InstsegError(
                f"cannot write {path}: {what}; write {path.with_suffix('.tif')} instead "
                "(with `out_dir`: `file_format='tif'`)"
            )
        write_png(path, labels.astype(np.uint16))
    elif suffix in (".tif", ".tiff"):
        if largest > 2**32 - 1:
            raise InstsegError(f"cannot write {path}: label {largest} does not fit into 32 bit; renumber the labels")
        with atomic_write(path) as temporary:
            # Bit for bit the same where nothing is negative, without a copy.
            values = labels.view(np.uint32) if labels.dtype == np.int32 else labels.astype(np.uint32)
            tifffile.imwrite(
                temporary,
                values,
                compression="zlib",
                photometric="minisblack",
                # Half of the cores is tifffile's own choice, and one of two.
                maxworkers=os.cpu_count(),
                buffersize=_COMPRESSED_AT_ONCE,
                **tiff_tags(geometry),
            )
    elif suffix == ".npy":
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, labels.astype(np.int32 if largest <= _MAX_INT32 else np.int64), allow_pickle=False)
    else:
        raise InstsegError(
            f"cannot write {path}: labels are written as .png, .tif, .tiff or .npy; choose one of these suffixes"
        )


def write_labels_streamed(
    path: StrPath, shape: tuple[int, ...], strips: Iterator[NDArray[np.int32]], geometry: PixelGeometry | None = None
) -> None:
    """Write labels that come strip by strip: a tiled, compressed 32-bit TIFF (BigTIFF where it has to be), or a .npy.

    Parameters
    ----------
    path : path-like
        Ends in .tif, .tiff or .npy. Replaced in one step where it exists.
    shape : tuple of int
        Height and width of the image.
    strips : iterator of (`STRIP_ROWS`, W) int32
        From the top; the last one may be lower.
    geometry : PixelGeometry, optional
        The size and the position of the pixels.

    Raises
    ------
    InstsegError
        If the suffix is another one or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        write_array_streamed(path, shape, strips)
        return
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise InstsegError(
            f"cannot write {path}: labels of an image of {shape[0]} x {shape[1]} pixels are written as TIFF; "
            f"write {path.with_suffix('.tif')} instead (with `out_dir`: `file_format='tif'`)"
        )

    def tiles() -> Iterator[NDArray[np.uint32]]:
        for strip in strips:
            for left in range(0, shape[1], STRIP_ROWS):
                tile = np.zeros((STRIP_ROWS, STRIP_ROWS), np.uint32)
                part = strip[:, left : left + STRIP_ROWS]
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile

    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            tiles(),
            shape=shape,
            dtype=np.uint32,
            tile=(STRIP_ROWS, STRIP_ROWS),
            compression="zlib",
            photometric="minisblack",
            bigtiff=4 * shape[0] * shape[1] > _LARGEST_TIFF,
            maxworkers=1,
            **tiff_tags(geometry),
        )


def write_array_streamed(path: Path, shape: tuple[int, ...], strips: Iterator[NDArray[np.integer]]) -> None:
    """Write labels that come strip by strip along their first axis as an array of NumPy, in one step."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int32)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for strip in strips:
            file.write(np.ascontiguousarray(strip, np.int32).data)


def require_label_header(path: Path, header: ImageHeader) -> None:
    """Check that a file of this header holds one label image, or a plane of labels; an ImageFileError says why not."""
    gray = "save one gray channel, a number for each instance, as 16-bit PNG or 32-bit TIFF"
    if header.format in ("JPEG", "JPEG 2000", "WebP"):
        raise ImageFileError(path, f"it is a {header.format}, which does not keep labels' values", gray)
    if header.planes > 1:
        what = f"it is {describe_stack(header)}, expected one label image"
        raise ImageFileError(path, what, "save the planes one by one")
    if header.colour == "palette":
        indices = "save the palette's indices as gray (numpy.asarray(PIL.Image.open(FILE)) gives them)"
        raise ImageFileError(path, "it is a palette image, expected gray labels", indices)
    if header.alpha:
        raise ImageFileError(path, "it has an alpha channel, expected gray labels", gray)
    if header.colour != "gray" or header.channels != 1:
        name = {"gray": "", "rgb": " (RGB)"}.get(header.colour, f" ({header.colour})")
        what = f"it has {header.channels} channels{name}, expected gray labels"
        raise ImageFileError(path, what, gray)
    if np.dtype(header.dtype).kind not in "iub":
        raise ImageFileError(
            path, f"its values are {header.dtype}, expected integer labels", "save them as 32-bit integers"
        )


def _read_integers(path: Path) -> NDArray[np.integer]:
    """Read an image (H, W) of integers, none below 0."""
    header = read_header(path)
    require_label_header(path, header)
    return to_integers(path, header, decode(path, header)[0].pixels)


def to_integers(path: Path, header: ImageHeader, pixels: NDArray[Any]) -> NDArray[np.integer]:
    """Return the integers (H, W) of a decoded plane, or (Z, Y, X) of planes, none below 0."""
    if pixels.shape[-1] != 1:
        raise ImageFileError(path, "it has transparency, expected labels", "save it without an alpha channel")
    labels = pixels[..., 0]
    if labels.dtype == bool:
        labels = white_and_black(labels)
    elif header.format == "PNG" and header.bits in (2, 4):
        # The decoder spreads 2 and 4 bits over 0..255.
        labels = labels // np.uint8(255 // (2**header.bits - 1))
    if labels.min() < 0:
        raise ImageFileError(
            path, f"it holds the negative value {labels.min()}", "make labels 0 for background and 1..N"
        )
    whole: NDArray[np.integer] = labels
    return whole


def _refuse_mask(path: Path, labels: NDArray[np.integer]) -> None:
    value = labels.max()
    if value not in (1, *_MASK_VALUES) or not ((labels <= 0) | (labels == value)).all():
        return
    components = int(regions.connected_components(np.maximum(labels, 0)).max())
    if value in _MASK_VALUES or components > 1:
        what = (
            f"it looks like a binary mask ({value} is its only value besides 0, in {components} pieces), "
            "expected a number for each instance"
        )
        advice = "number the instances, or give `connected_components=True` to make every connected piece an instance"
        raise ImageFileError(path, what, advice)
