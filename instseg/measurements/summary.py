"""Figures of a whole image: how many objects it has, how densely they lie, how large they are, what they cover."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.measurements.objects import PixelSize

SUMMARY_COLUMNS = (
    *("height", "width", "count", "density", "median_area", "foreground_share"),
    *("density_per_mm2", "median_area_um2"),
)
"""What `summarise` returns."""

_MEGAPIXEL, _SQUARE_MILLIMETRE = 1e6, 1e6


def summarise(
    areas: NDArray[np.integer], shape: tuple[int, int], pixel_size: PixelSize | None = None
) -> dict[str, Any]:
    """Return the figures of an image.

    Parameters
    ----------
    areas : (N,) integers
        Pixels of each object.
    shape : (int, int)
        Height and width of the image.
    pixel_size : (float, float), optional
        Height and width of a pixel in micrometres.

    Returns
    -------
    dict of str to number or None
        'height' and 'width' in pixels, 'count', 'density' in objects for each million pixels, 'median_area' in pixels
        (None without objects), 'foreground_share' from 0 to 1, and where the size of pixels is known
        'density_per_mm2' and 'median_area_um2', else None.

    Examples
    --------
    >>> figures = summarise(np.array([40, 60, 80]), (100, 50), (0.5, 0.5))
    >>> figures["count"], figures["density"], figures["foreground_share"], figures["median_area_um2"]
    (3, 600.0, 0.036, 15.0)
    """
    height, width = shape
    # An image without pixels has no objects, and figures of 0.
    pixels, count = max(height * width, 1), len(areas)
    figures: dict[str, Any] = dict.fromkeys(SUMMARY_COLUMNS)
    figures |= {"height": height, "width": width, "count": count, "density": count / pixels * _MEGAPIXEL}
    figures["foreground_share"] = int(areas.sum()) / pixels
    median = float(np.median(areas)) if count else None
    figures["median_area"] = median
    if pixel_size is not None:
        area = pixel_size[0] * pixel_size[1]
        figures["density_per_mm2"] = count / (pixels * area) * _SQUARE_MILLIMETRE
        figures["median_area_um2"] = None if median is None else median * area
    return figures
