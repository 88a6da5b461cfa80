"""Label images of other tools: in colours, or as indices of a palette, one for each object, besides plain numbers."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.PngImagePlugin import PngImageFile

from instseg.io.formats import read_header
from instseg.io.image_file import ImageFileError, ImageHeader, decoder_errors, upright
from instseg.io.images import read_image
from instseg.io.label_images import read_label_values, to_instances

# The index and the colour by which Pascal VOC marks the rims of objects, which nobody knows whose they are.
_RIM, _RIM_COLOUR = 255, (224, 224, 192)
_BLACK, _WHITE = 0, 0xFFFFFF


class ForeignLabels(NamedTuple):
    """A label image of another tool.

    Attributes
    ----------
    labels : (H, W) int32
        0 is background.
    ignored : (H, W) bool, or None
        The rims that Pascal VOC leaves out.
    """

    labels: NDArray[np.int32]
    ignored: NDArray[np.bool_] | None = None


def read_foreign_labels(path: Path, *, connected_components: bool = False) -> ForeignLabels:
    """Read a label image in numbers, in indices of a palette, or in colours.

    Numbers and indices are kept; 0 is background. Each different colour is an object, and black is background, or white
    where nothing is black.

    Parameters
    ----------
    path : Path
    connected_components : bool
        Whether the caller takes each connected piece for an object: then masks of several objects are read, too.

    Raises
    ------
    ImageFileError
        As `read_labels` does, palettes and colours apart; if it is in colours and neither black nor white occurs.
    """
    header = read_header(path)
    ignored = None
    if header.colour == "palette" and header.format in ("PNG", "BMP"):
        values, ignored = _indices(path, header)
    elif header.format != "JPEG" and header.planes == 1 and header.colour == "rgb":
        values = _colours(path)
    else:
        values = read_label_values(path)
    return ForeignLabels(values if connected_components else to_instances(path, values), ignored)


def _indices(path: Path, header: ImageHeader) -> tuple[NDArray[np.int32], NDArray[np.bool_] | None]:
    reader: Any = PngImageFile if header.format == "PNG" else BmpImageFile
    with (
        decoder_errors(path),
        path.open("rb") as file,
        warnings.catch_warnings(action="ignore"),
        reader(file) as opened,
    ):
        picture = opened
        picture.load()
        values = upright(np.asarray(picture), header.orientation).astype(np.int32)
        palette = picture.getpalette() or []
    if tuple(palette[3 * _RIM : 3 * _RIM + 3]) != _RIM_COLOUR or not (values == _RIM).any():
        return values, None
    ignored = values == _RIM
    values[ignored] = 0
    return values, ignored


def _colours(path: Path) -> NDArray[np.int32]:
    pixels = read_image(path)
    if (pixels == pixels[..., :1]).all():
        # Numbers that were saved as gray in three channels.
        return np.ascontiguousarray(pixels[..., 0], np.int32)
    if pixels.dtype != np.uint8:
        raise ImageFileError(path, f"its colours are {pixels.dtype}, expected 8 bit", "save it as 8-bit RGB")
    packed = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    colours, places = np.unique(packed, return_inverse=True)
    background = next((colour for colour in (_BLACK, _WHITE) if colour in colours), None)
    if background is None:
        what = f"it is in {len(colours)} colours and has neither black nor white for the background"
        raise ImageFileError(path, what, "make the background black")
    numbers = np.cumsum(colours != background) * (colours != background)
    # A single colour is a mask, whatever it is.
    numbers = numbers * 255 if len(colours) == 2 else numbers
    labels: NDArray[np.int32] = numbers.astype(np.int32)[places].reshape(packed.shape)
    return labels
