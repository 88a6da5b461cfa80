"""Reading and writing images and labels. Every check of one picture file lives here.

A file is told by its first bytes, never by its name. What is read:

========  ==========================================================================
PNG       1 to 16 bit, gray, RGB, palette; through imagecodecs, since Pillow silently
          cuts 16-bit RGB down to 8 bit
TIFF      any compression, 8 to 64 bit integers, floats, 1-bit, stacks; tifffile
JPEG      8 bit, turned upright by its EXIF orientation; images only, never labels
BMP       as Pillow reads it
========  ==========================================================================

A file's header is judged before its pixels take memory, and nothing that
Pillow, tifffile or imagecodecs warn or log reaches the terminal.
"""

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from instseg.errors import InstsegError, UsageError
from instseg.files import replacing
from instseg.regions import connected_pieces, remap_consecutive

MAX_PIXELS = 500_000_000
"""Most pixels (height x width x planes) that are read; three times as many values, all channels counted."""

LABEL_SUFFIXES = (".png", ".tif", ".tiff")
"""What the name of a file of labels ends in."""

_MAX_PNG_LABEL = 65_535
_MAX_INT32 = 2**31 - 1
# imagecodecs' level for pictures and labels: higher ones cost time and save next to nothing.
_PNG_LEVEL = 3
# Bits per value of PNG's colour types: gray, RGB, palette, gray with alpha, RGB with alpha.
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}

# Without a handler of its own, tifffile's remarks on damaged files would reach stderr.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What a file says of itself before its pixels are read.

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
        Whether a gray TIFF of 8 bit or more calls its 0 white. `read_image` turns it over, `read_labels` does not.
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


def header(path: Path) -> ImageHeader:
    """Read what a file says of itself, without its pixels.

    Raises
    ------
    ImageFileError
        If the file is missing, empty, a folder, no known image, damaged or claims more than `MAX_PIXELS`.
    """
    kind = _format(path)
    with _decoding(path):
        if kind == "PNG":
            found = _png_header(path)
        elif kind == "TIFF":
            with tifffile.TiffFile(path) as tiff:
                found = _tiff_header(tiff)
        else:
            with _pillow_file(path, kind) as picture:
                found = _pillow_header(picture, kind)
    if min(found.height, found.width, found.channels, found.planes) < 1:
        raise ImageFileError(path, "it holds no pixels", "export it again")
    pixels = found.height * found.width * found.planes
    if pixels > MAX_PIXELS or pixels * found.channels > 3 * MAX_PIXELS:
        size = f"{found.planes} x {found.height} x {found.width}" if found.planes > 1 else _size(found)
        channels = f" of {found.channels} channels" if found.channels > 1 else ""
        what = f"it claims {size} pixels{channels}, more than the {MAX_PIXELS:,} pixels that are read"
        raise ImageFileError(path, what, "cut it into tiles")
    return found


def read_image(path: Path) -> NDArray[Any]:
    """Read one image.

    Palette images become RGB and 1-bit images 0 and 255. Integers of other
    types that fit into 16 bit become uint16. An alpha channel that is opaque
    everywhere is dropped.

    Returns
    -------
    (H, W, C) uint8, uint16 or float32
        C is 1 (gray), 3 (RGB) or the number of channels that a TIFF declares,
        as samples per pixel or as a channel axis (OME, ImageJ). Floats, from
        float TIFF only, are finite and in the file's own range.

    Raises
    ------
    ImageFileError
        If the file is none that `header` reads, is a stack, has transparent
        pixels, a colour space other than gray and RGB, values beyond 16 bit, NaN or infinity.
    """
    found = header(path)
    if found.planes > 1:
        what = f"it is a stack of {found.planes} planes of {_size(found)} pixels, expected one image"
        raise ImageFileError(path, what, "give --planes to take every plane as an image, or save the planes one by one")
    return read_planes(path)[0]


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
    return [_as_image(path, plane, found) for plane in _decode(path, found)]


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
    found = header(path)
    _require_label_header(path, found)
    labels = np.asarray(_decode(path, found)[0])
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
    if labels.max() > _MAX_INT32:
        labels = remap_consecutive(labels)
    if connected_components:
        return connected_pieces(labels)
    _refuse_mask(path, labels)
    return np.ascontiguousarray(labels, np.int32)


def write_labels(path: Path, labels: NDArray[np.integer]) -> None:
    """Write labels: 16-bit PNG, or compressed 32-bit TIFF, by the name's suffix.

    Parameters
    ----------
    path : Path
        Ends in .png, .tif or .tiff. Replaced in one step where it exists.
    labels : (H, W) integer
        0 is background; values are written as they are.

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
            raise InstsegError(f"cannot write {path}: {what}; write {path.with_suffix('.tif')} instead")
        _write_png(path, labels.astype(np.uint16))
    elif suffix in (".tif", ".tiff"):
        if largest > 2**32 - 1:
            raise InstsegError(f"cannot write {path}: label {largest} does not fit into 32 bit; renumber the labels")
        with replacing(path) as temporary:
            tifffile.imwrite(temporary, labels.astype(np.uint32), compression="zlib", photometric="minisblack")
    else:
        raise InstsegError(
            f"cannot write {path}: labels are written as .png, .tif or .tiff; choose one of these suffixes"
        )


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


def percentiles(
    image: NDArray[Any], low: float = 1.0, high: float = 99.8
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two percentiles of each channel, over all pixels.

    Equal to `numpy.percentile` with linear interpolation; 8- and 16-bit
    images are counted rather than sorted.

    Parameters
    ----------
    image : (H, W, C) uint8, uint16 or float
    low, high : float
        Percentiles, 0..100.

    Returns
    -------
    low, high : (C,) float32
        In the image's units.

    Raises
    ------
    UsageError
        If `image` is not 3-D or empty, or a percentile is outside 0..100.
    """
    if image.ndim != 3 or image.size == 0:
        raise UsageError(f"the image is of shape {image.shape}, expected (H, W, C)")
    if not (0 <= low <= 100 and 0 <= high <= 100):
        raise UsageError(f"the percentiles are {low} and {high}, expected 0 to 100")
    counted = image.dtype in (np.uint8, np.uint16)
    of_channel = _counted_percentiles if counted else _sorted_percentiles
    pairs = [of_channel(image[..., channel].ravel(), low, high) for channel in range(image.shape[2])]
    found = np.array(pairs, np.float32)
    return found[:, 0].copy(), found[:, 1].copy()


def _counted_percentiles(values: NDArray[Any], low: float, high: float) -> list[float]:
    counts = np.zeros(1 << (8 * values.dtype.itemsize), np.int64)
    # In parts, as counting takes a copy of 8 bytes per value.
    for start in range(0, values.size, 1 << 22):
        counts += np.bincount(values[start : start + (1 << 22)], minlength=counts.size)
    ranks = np.cumsum(counts)
    found = []
    for percentile in (low, high):
        position = (values.size - 1) * (percentile / 100)
        index = min(math.floor(position), values.size - 1)
        share = position - index
        below, above = (int(v) for v in np.searchsorted(ranks, [index, min(index + 1, values.size - 1)], "right"))
        # NumPy's own interpolation, from the nearer end.
        found.append(below + (above - below) * share if share < 0.5 else above - (above - below) * (1 - share))
    return found


def _sorted_percentiles(values: NDArray[Any], low: float, high: float) -> list[float]:
    return [float(value) for value in np.percentile(values, [low, high])]


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one line."""
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


def _format(path: Path) -> str:
    """Tell a file's format by its first bytes."""
    if path.is_dir():
        raise ImageFileError(path, "it is a folder, expected an image file", "give the files in it")
    if not path.is_file():
        what = "it is no regular file" if path.exists() else "there is no such file"
        raise ImageFileError(path, what, "check the name")
    with _decoding(path), path.open("rb") as file:
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
    with path.open("rb") as file, JpegImageFile(file) if kind == "JPEG" else BmpImageFile(file) as picture:
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
    colour = _tiff_colour(page)
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


def _tiff_colour(page: Any) -> str:
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


def _decode(path: Path, found: ImageHeader) -> list[NDArray[Any]]:
    """Read every plane as (H, W, samples), in colours where the file has a palette."""
    with _decoding(path):
        if found.format == "PNG":
            pixels = imagecodecs.png_decode(_plain_png(path.read_bytes(), found))
            return [pixels.reshape(found.height, found.width, -1)]
        if found.format == "TIFF":
            with tifffile.TiffFile(path) as tiff:
                return [plane for series in tiff.series for plane in _tiff_decode(series)]
        with _pillow_file(path, found.format) as picture, warnings.catch_warnings(action="ignore"):
            upright = ImageOps.exif_transpose(picture)
            pixels = np.asarray(upright.convert("RGB") if found.colour == "palette" else upright)
            return [pixels.reshape(found.height, found.width, -1)]


def _plain_png(content: bytes, found: ImageHeader) -> bytes:
    """Rebuild a PNG of nothing but what its pixels need, its rows unpacked and of the right length.

    libpng, behind imagecodecs, writes its remarks on anything else straight to
    stderr: on colour profiles, which many programs get wrong, on surplus data,
    on colours outside the palette.
    """
    parts = _png_chunks(content)
    head = parts[b"IHDR"]
    if len(head) != 13 or head[10:12] != b"\0\0" or head[12] > 1:
        raise ValueError("impossible header")
    length = _png_rows_length(found, interlaced=head[12] == 1)
    rows = _inflate(parts.get(b"IDAT", b""), length)
    if len(rows) < length:
        raise ValueError("rows are missing")
    plain = [(b"IHDR", head)]
    entries = 2**found.bits if found.colour == "palette" else 0
    if entries:
        plain.append((b"PLTE", parts[b"PLTE"][: 3 * entries].ljust(3 * entries, b"\0")))
    transparent = parts.get(b"tRNS", b"")
    if 0 < len(transparent) <= entries:
        plain.append((b"tRNS", transparent))
    elif not (entries or found.alpha) and len(transparent) == 2 * found.channels:
        samples = np.frombuffer(transparent, ">u2") & (2**found.bits - 1)
        plain.append((b"tRNS", samples.astype(">u2").tobytes()))
    plain += [(b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")]
    chunks = ((struct.pack(">I", len(data)), name, data, _crc(name, data)) for name, data in plain)
    return b"".join([content[:8], *(part for chunk in chunks for part in chunk)])


def _inflate(data: bytes, length: int) -> bytes:
    """Unpack the first `length` bytes of a zlib stream, fewer if it holds fewer."""
    try:
        return bytes(imagecodecs.deflate_decode(data, out=length))
    except imagecodecs.DeflateError:  # Surplus data, which this decoder refuses, or damage.
        unpack = zlib.decompressobj()
        rows = unpack.decompress(data, length)
        unpack.decompress(unpack.unconsumed_tail, 1)  # Goes on to the checksum.
        return rows


def _png_chunks(content: bytes) -> dict[bytes, bytes]:
    """Return the data of the chunks that pixels need, by name; those of one name joined."""
    parts: dict[bytes, list[bytes]] = {}
    place, name = 8, b""
    while place < len(content) and name != b"IEND":
        length, name = struct.unpack_from(">I4s", content, place)
        data = content[place + 8 : place + 8 + length]
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
            if content[place + 8 + length : place + 12 + length] != _crc(name, data):
                raise ValueError(f"{name.decode()} is cut off or changed")
            parts.setdefault(name, []).append(data)
        place += 12 + length
    return {name: b"".join(data) for name, data in parts.items()}


def _crc(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _png_rows_length(found: ImageHeader, *, interlaced: bool) -> int:
    """Return the bytes of all rows, each with the one that names its filter."""
    whole = ((0, 0, 1, 1),)
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    length = 0
    for left, top, across, down in adam7 if interlaced else whole:
        columns, rows = -((left - found.width) // across), -((top - found.height) // down)
        if columns > 0 and rows > 0:
            length += rows * (1 + (columns * found.bits * found.channels + 7) // 8)
    return length


def _tiff_decode(series: Any) -> Iterator[NDArray[Any]]:
    page, axes = series.keyframe, series.axes
    channel = _channel_axis(axes)
    pixels = np.asarray(series.asarray()).reshape(series.shape)
    pixels = pixels if channel else pixels[..., None]
    axes, channel = (axes, channel) if channel else (axes + "S", "S")
    pixels = np.moveaxis(pixels, [axes.index(axis) for axis in ("Y", "X", channel)], (-3, -2, -1))
    for plane in pixels.reshape(-1, *pixels.shape[-3:]):
        if _tiff_colour(page) == "palette" and page.colormap is not None:
            yield _tiff_colours(page.colormap)[plane[..., 0]]
        else:
            yield plane


def _tiff_colours(colormap: Any) -> NDArray[np.uint8]:
    """Return a TIFF's palette as (values, 3): 16 bit by the standard, 8 bit by some writers' habit."""
    colours = np.asarray(colormap).T
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


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
        what = f"it is a stack of {found.planes} planes of {_size(found)} pixels, expected one label image"
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


def _size(found: ImageHeader) -> str:
    return f"{found.height} x {found.width}"
