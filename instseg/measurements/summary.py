"""Figures of a whole image: how many objects it has, how densely they lie, how large they are, what they cover."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.measurements.objects import PixelSize

SUMMARY_COLUMNS = (
    *("height", "width", "count", "density", "median_area", "foreground_share"),
    *("density_per_mm2", "median_area_um2"),
)
"""What `summarise` returns of an image."""

VOLUME_SUMMARY_COLUMNS = (
    *("depth", "height", "width", "count", "density", "median_volume", "foreground_share"),
    *("density_per_mm3", "median_volume_um3"),
)
"""What `summarise` returns of a volume."""

_MILLION, _MICROMETRES = 1e6, 1e3


def summarise(
    areas: NDArray[np.integer], shape: tuple[int, ...], pixel_size: PixelSize | None = None
) -> dict[str, Any]:
    """Return the figures of an image, or of a volume.

    Parameters
    ----------
    areas : (N,) integers
        Pixels of each object.
    shape : tuple of int
        Height and width of the image; the number of planes of a volume before them.
    pixel_size : tuple of float, optional
        Height and width of a pixel in micrometres, or the sides of a voxel along Z, Y and X.

    Returns
    -------
    dict of str to number or None
        'height' and 'width' in pixels, 'count', 'density' in objects for each million pixels, 'median_area' in pixels
        (None without objects), 'foreground_share' from 0 to 1, and where the size of pixels is known
        'density_per_mm2' and 'median_area_um2', else None. Of a volume, also 'depth', and 'median_volume',
        'density_per_mm3' and 'median_volume_um3' in the place of what is of areas.

    Examples
    --------
    >>> figures = summarise(np.array([40, 60, 80]), (100, 50), (0.5, 0.5))
    >>> figures["count"], figures["density"], figures["foreground_share"], figures["median_area_um2"]
    (3, 600.0, 0.036, 15.0)
    >>> summarise(np.array([40, 60, 80]), (10, 100, 50), (2, 0.5, 0.5))["median_volume_um3"]
    30.0
    """
    ndim = len(shape)
    size, power = ("area", "2") if ndim == 2 else ("volume", "3")
    # An image without pixels has no objects, and figures of 0.
    pixels, count = max(math.prod(shape), 1), len(areas)
    figures: dict[str, Any] = dict.fromkeys(SUMMARY_COLUMNS if ndim == 2 else VOLUME_SUMMARY_COLUMNS)
    figures |= dict(zip(("depth", "height", "width")[-ndim:], shape, strict=True))
    figures |= {"count": count, "density": count / pixels * _MILLION, "foreground_share": int(areas.sum()) / pixels}
    median = float(np.median(areas)) if count else None
    figures[f"median_{size}"] = median
    if pixel_size is not None:
        of_pixel = math.prod(pixel_size)
        figures[f"density_per_mm{power}"] = count / (pixels * of_pixel) * _MICROMETRES**ndim
        figures[f"median_{size}_um{power}"] = None if median is None else median * of_pixel
    return figures
