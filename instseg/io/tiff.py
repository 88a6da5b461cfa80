"""TIFF images of which parts are read, from tiles or strips of any compression."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.atomic import StrPath
from instseg.io.formats import MAX_PIXELS, read_header
from instseg.io.image_file import ImageFileError, ImageHeader, decoder_errors
from instseg.io.pixel_size import tiff_geometry
from instseg.io.tiff_claims import guard_decoder, require_complete
from instseg.io.tiff_pages import open_tiff, tiff_colour, tiff_images
from instseg.io.tiff_parts import PartReader
from instseg.tiling.grid import Box

IMAGE_TYPES = (np.uint8, np.uint16, np.int16, np.float32)
"""The types of the values of images that are read part by part."""

# Most bytes of decoded tiles or strips that are kept from one part to the next.
_KEPT_BYTES = 256 * 2**20


class TiffReader:
    """A TIFF file of one image, in tiles or strips of any compression; of a pyramid its finest level.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    shape : tuple of int
        (H, W, C)
    dtype : numpy.dtype
        uint8, uint16, int16 or float32.
    geometry : PixelGeometry or None
        The size and the position of the pixels, None where the file says nothing.
    streamed : bool
        True: parts are read from the file when they are needed.

    Raises
    ------
    ImageFileError
        If it cannot be read, is no TIFF, ends too early, or is of a kind that is not read part by part.
    """

    streamed = True
    _types: Sequence[Any] = IMAGE_TYPES

    def __init__(self, path: StrPath) -> None:
        self._path = path = Path(path)
        header = read_header(path, max_pixels=None)
        if not supports_region_reads(path, self._types):
            raise ImageFileError(
                path, "it cannot be read part by part", "save it as a tiled TIFF with samples side by side"
            )
        self.shape = (header.height, header.width, header.channels)
        with decoder_errors(path), ExitStack() as stack:
            self._tiff = stack.enter_context(open_tiff(path))
            self._page: Any = tiff_images(path, self._tiff)[0].page
            self.dtype = np.dtype(self._page.dtype).newbyteorder("=")
            self.geometry = tiff_geometry(self._tiff)
            require_complete(self._page)
            _require_moderate_chunks(self._page)
            guard_decoder(self._page)
            self._parts = None if self._page.is_final else PartReader(self._page, _KEPT_BYTES)
            # Only where something of this fails, the file is closed here.
            self._open = stack.pop_all()

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the image.

        Raises
        ------
        ImageFileError
            If what the file holds there is damaged. A tile or strip that was never written means zeros.
        """
        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        with decoder_errors(self._path):
            if self._parts is None:
                part = np.array(self._mapped()[rows, columns], self.dtype)
            else:
                part = np.asarray(self._parts.read(rows, columns), self.dtype)
        return part.reshape(*box.shape, self.shape[2])

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def _mapped(self) -> NDArray[Any]:
        """Return all pixels of a file that has them neither compressed nor in tiles.

        Its only strip is the whole image, which would be read for any part of it. The file is mapped anew for each
        part, as the pages of a mapping that stays count as memory of the process.
        """
        dtype = self.dtype.newbyteorder(self._tiff.byteorder)
        return np.memmap(self._path, dtype, "r", self._page.dataoffsets[0], self._page.shape)


def supports_region_reads(path: StrPath, types: Sequence[Any] = IMAGE_TYPES) -> bool:
    """Return whether a file is a TIFF whose image, of values of some types, can be read part by part.

    Raises
    ------
    ImageFileError
        If the file cannot be read.
    """
    path = Path(path)
    header = read_header(path, max_pixels=None)
    if header.format != "TIFF" or header.planes != 1 or header.alpha or header.white_is_zero:
        return False
    if header.orientation != 1:
        return False
    with decoder_errors(path), open_tiff(path) as tiff:
        return _is_plain(tiff_images(path, tiff)[0].page, header, types)


def _is_plain(page: Any, header: ImageHeader, types: Sequence[Any]) -> bool:
    """Return whether the values of a page are the image, with the samples of a pixel side by side."""
    plain = tiff_colour(page) in ("gray", "rgb") and np.dtype(page.dtype) in types
    beside = page.planarconfig == 1 and page.samplesperpixel == header.channels
    return bool(plain and beside and page.imagedepth == 1 and page.shape[:2] == (header.height, header.width))


def _require_moderate_chunks(page: Any) -> None:
    """Check that a tile or strip, which is decoded at once, is no larger than an image that is read at once."""
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if not page.is_final and rows * columns > MAX_PIXELS:
        raise ValueError(f"its tiles or strips have {rows} x {columns} pixels")
