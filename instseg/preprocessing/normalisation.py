"""Normalisation by percentiles: every channel is mapped to about 0..1, whatever the camera's range."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import UsageError
from instseg.tiling.grid import Box

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8
"""The percentiles of an image that become 0 and 1."""


def percentiles(
    image: NDArray[Any], low: float = LOW_PERCENTILE, high: float = HIGH_PERCENTILE
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
    lows, highs = np.array(pairs, np.float32).T
    return lows.copy(), highs.copy()


def _counted_percentiles(values: NDArray[Any], low: float, high: float) -> list[float]:
    counts = np.zeros(1 << (8 * values.dtype.itemsize), np.int64)
    # In parts, as counting takes a copy of 8 bytes per value.
    for start in range(0, values.size, 1 << 22):
        counts += np.bincount(values[start : start + (1 << 22)], minlength=counts.size)
    ranks = np.cumsum(counts)
    values_at = []
    for percentile in (low, high):
        position = (values.size - 1) * (percentile / 100)
        index = min(math.floor(position), values.size - 1)
        share = position - index
        below, above = (int(v) for v in np.searchsorted(ranks, [index, min(index + 1, values.size - 1)], "right"))
        # NumPy's own interpolation, from the nearer end.
        values_at.append(below + (above - below) * share if share < 0.5 else above - (above - below) * (1 - share))
    return values_at


def _sorted_percentiles(values: NDArray[Any], low: float, high: float) -> list[float]:
    return [float(value) for value in np.percentile(values, [low, high])]


def normalise(image: NDArray[np.generic], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map `low` to 0 and `high` to 1, channel by channel; a constant channel becomes 0.

    Parameters
    ----------
    image : (..., C) of numbers
        As it was read.
    low, high : (C,) float32
        Percentiles of the whole image.

    Returns
    -------
    (..., C) float32
    """
    extent = high - low
    scale = np.where(extent > 0, 1 / np.where(extent > 0, extent, 1), 0).astype(np.float32)
    return (image.astype(np.float32) - low) * scale


# The number and the side of the parts, spread over an image, from which its percentiles are estimated.
_SAMPLES, _SAMPLE_SIDE = 64, 512


def estimate_percentiles(
    shape: tuple[int, int], read: Callable[[Box], NDArray[Any]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate the percentiles that normalisation maps to 0 and 1 from parts that are spread over an image.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    read : callable
        Returns the part (h, w, C) in a Box.

    Returns
    -------
    low, high : (C,) float32
    """
    height, width = shape
    count = round(_SAMPLES**0.5)
    side = _SAMPLE_SIDE
    tops = np.unique(np.linspace(0, max(0, height - side), count).round().astype(int))
    lefts = np.unique(np.linspace(0, max(0, width - side), count).round().astype(int))
    parts = []
    for top in tops.tolist():
        for left in lefts.tolist():
            part = read(Box(top, left, min(top + side, height), min(left + side, width)))
            # Every second pixel along both axes gives the same estimate in a quarter of the memory.
            parts.append(part[::2, ::2].reshape(-1, part.shape[2]))
    values = np.concatenate(parts)
    low, high = np.percentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE], axis=0).astype(np.float32)
    return low, high
