"""Means, medians, deviations, extremes and sums of the values of objects, all objects at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

STATISTICS = ("mean", "median", "std", "min", "max", "sum")
"""What `object_statistics` returns, in this order."""


def object_statistics(objects: NDArray[np.intp], values: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return statistics of the values of each object.

    Values are sorted by object and value, so that results do not depend on the order of pixels.

    Parameters
    ----------
    objects : (P,) integers
        The object of each pixel, 0..N-1; each occurs.
    values : (P,) numbers
    count : int
        N

    Returns
    -------
    (6, N) float64
        In the order of `STATISTICS`; the standard deviation is that of the pixels (divided by their number). All of
        an object with a NaN are NaN.

    Examples
    --------
    >>> object_statistics(np.array([0, 1, 0, 0]), np.array([1, 7, 4, 2], np.uint8), 2).round(2).T.tolist()
    [[2.33, 2.0, 1.25, 1.0, 4.0, 7.0], [7.0, 7.0, 0.0, 7.0, 7.0, 7.0]]
    """
    area = np.bincount(objects, minlength=count)
    begin = np.cumsum(area) - area
    ordered = _sorted(objects, values, area)
    middle = (ordered[begin + (area - 1) // 2] + ordered[begin + area // 2]) / 2
    total = np.add.reduceat(ordered, begin)
    mean = total / area
    # Infinite values have no deviation, which is NaN.
    with np.errstate(invalid="ignore"):
        deviation = ordered - np.repeat(mean, area)
    variance = np.add.reduceat(np.square(deviation, out=deviation), begin) / area
    # Sorted last, NaN would be in the maximum alone.
    unknown = np.where(np.isnan(total), np.nan, 0.0)
    low, high = ordered[begin] + unknown, ordered[begin + area - 1] + unknown
    return np.stack([mean, middle + unknown, np.sqrt(variance), low, high, total])


def _sorted(objects: NDArray[np.intp], values: NDArray[Any], area: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the values by object and then ascending, as float64."""
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    if kind in "iu" and bits <= 16:
        # One sort of integers that hold object and value is many times as fast as two sorts of both.
        lowest = np.iinfo(values.dtype).min
        key_type = np.uint32 if len(area) << bits <= 1 << 32 else np.uint64
        keys: NDArray[Any] = objects.astype(key_type)
        keys <<= key_type(bits)
        keys |= (values.astype(np.int32) - lowest).astype(key_type)
        keys.sort()
        ordered: NDArray[np.float64] = (keys & key_type((1 << bits) - 1)).astype(np.float64) + lowest
        return ordered
    if values.dtype == np.float32:
        # Floats of one sign are ordered like their bits.
        pattern = np.ascontiguousarray(values).view(np.uint32)
        pattern = pattern ^ np.where(pattern >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
        wide = (objects.astype(np.uint64) << np.uint64(32)) | pattern
        wide.sort()
        pattern = wide.astype(np.uint32)
        pattern ^= np.where(pattern >> 31, np.uint32(0x80000000), np.uint32(0xFFFFFFFF))
        return pattern.view(np.float32).astype(np.float64)
    return np.asarray(values[np.lexsort((values, objects))], np.float64)
