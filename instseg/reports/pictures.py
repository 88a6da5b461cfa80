"""Images reduced to what a page shows of them: read by bands, stretched to 8 bit, encoded within a number of bytes."""

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Bytes of an image that are read at a time.
_BAND_BYTES = 128_000_000
# Pixels that the levels of the display are found from.
_SAMPLED_PIXELS = 65_536
# As `instseg.visualization.pictures.to_rgb8` has them.
_LOW, _HIGH = 1.0, 99.8
_QUALITIES = (80, 62, 45)
_SMALLEST_SIDE = 64


class Budget(NamedTuple):
    """How much of a page an image may take.

    Attributes
    ----------
    side : int
        Height or width of the picture, whichever is larger, in pixels.
    picture_bytes : int
        Of the picture as JPEG.
    large_side, large_bytes : int
        The same for the few images that are shown larger; 0 where all are shown alike.
    outline_bytes : int
        Of the outlines with the numbers of their objects.
    """

    side: int
    picture_bytes: int
    large_side: int
    large_bytes: int
    outline_bytes: int

    @property
    def traced_side(self) -> int:
        """Height or width of the labels that outlines are traced in."""
        return max(self.side, self.large_side)


def budget_for(images: int) -> Budget:
    """Return what each of some images may take, so that a page of 100 has less than 15 MB."""
    if images <= 4:
        return Budget(2048, 1_500_000, 0, 0, 1_500_000)
    if images <= 24:
        return Budget(1024, 250_000, 0, 0, 160_000)
    return Budget(512, 44_000, 1024, 240_000, 48_000)


class Picture(NamedTuple):
    """A picture in a page.

    Attributes
    ----------
    uri : str
        Its data.
    width, height : int
        What it covers, in pixels of the image.
    """

    uri: str
    width: int
    height: int


class Reduced(NamedTuple):
    """An image reduced by a whole number.

    Attributes
    ----------
    values : (h, w, C) numbers
        Means of squares of `factor` pixels, of one channel or of the first three.
    covered : tuple of int
        Height and width of what it covers in the image: sides may end some pixels before those of the image.
    """

    values: NDArray[Any]
    covered: tuple[int, int]


class Reducer:
    """Reduces an image that is read by bands, to one or three channels and to a side that is no less than is wanted.

    Parameters
    ----------
    shape : tuple of int
        (H, W, C) of the image.
    side : int
    """

    def __init__(self, shape: tuple[int, int, int], side: int) -> None:
        height, width, channels = shape
        self.factor = max(1, max(height, width) // side)
        # A side that is shorter than the factor keeps one pixel.
        self._row_factor, self._column_factor = min(self.factor, height), min(self.factor, width)
        self._channels = 3 if channels >= 3 else 1
        self._parts: list[NDArray[Any]] = []

    @property
    def rows_multiple(self) -> int:
        """What the number of rows of a band is a multiple of."""
        return self._row_factor

    def add(self, band: NDArray[Any]) -> None:
        """Take the next rows (h, W) or (h, W, C), a multiple of `rows_multiple` but for the last."""
        band = band[:, :, None] if band.ndim == 2 else band[:, :, : self._channels]
        down, across = self._row_factor, self._column_factor
        rows, columns = len(band) // down, band.shape[1] // across
        if self.factor == 1:
            self._parts.append(band)
        elif rows:
            squares = band[: rows * down, : columns * across].reshape(rows, down, columns, across, -1)
            self._parts.append(squares.mean(axis=(1, 3), dtype=np.float32))

    def finish(self) -> Reduced:
        """Return the image, once all of its rows are there."""
        values = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        return Reduced(values, (len(values) * self._row_factor, values.shape[1] * self._column_factor))


def band_rows(shape: tuple[int, int, int], bytes_per_value: int, multiple: int) -> int:
    """Return how many rows of an image (H, W, C) to read at a time."""
    per_row = max(1, shape[1] * shape[2] * bytes_per_value)
    return max(1, _BAND_BYTES // per_row // multiple) * multiple


def to_8bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch an image (h, w, C) as `instseg.visualization.pictures.to_rgb8` does, by the levels of a sample."""
    pixels = values.reshape(-1, values.shape[2])
    sample = np.nan_to_num(pixels[:: max(1, len(pixels) // _SAMPLED_PIXELS)].astype(np.float32), posinf=0, neginf=0)
    low, high = np.percentile(sample, (_LOW, _HIGH), axis=0)
    scale = np.divide(255.0, high - low, out=np.zeros_like(high), where=high > low)
    with np.errstate(invalid="ignore", over="ignore"):
        stretched = values.astype(np.float32)
        stretched -= low.astype(np.float32)
        stretched *= scale.astype(np.float32)
        if values.dtype.kind == "f":
            np.nan_to_num(stretched, copy=False, posinf=255, neginf=0)
        np.clip(stretched, 0, 255, out=stretched)
    return (stretched + np.float32(0.5)).astype(np.uint8)


def encode(pixels: NDArray[np.uint8], side: int, max_bytes: int, covered: tuple[int, int]) -> Picture:
    """Encode a picture, smaller and coarser until it fits.

    Parameters
    ----------
    pixels : (h, w, C) uint8
        C is 1 or 3.
    side : int
        Largest height or width.
    max_bytes : int
    covered : tuple of int
        Height and width of what it covers in the image.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    while True:
        image = _fitted(image, side)
        for quality in _QUALITIES:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=quality)
            if file.tell() <= max_bytes:
                break
        if file.tell() <= max_bytes or side <= _SMALLEST_SIDE:
            data = base64.b64encode(file.getvalue()).decode()
            return Picture(f"data:image/jpeg;base64,{data}", covered[1], covered[0])
        side = int(min(side, max(image.size)) * 0.75)


def _fitted(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    scale = side / max(width, height)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return image.resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BILINEAR)
