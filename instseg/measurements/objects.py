"""The numbers of objects: size, shape and intensity, as `skimage.measure.regionprops_table` defines and names them."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import UsageError, check_parameter
from instseg.labels.regions import equivalent_diameter
from instseg.measurements.borders import CONTEXT, perimeters
from instseg.measurements.hull import convex_areas
from instseg.measurements.intensities import STATISTICS, object_statistics
from instseg.measurements.sweep import CompleteObjects, Objects, RowRuns, Strips, Sweep, check_memory, find_objects

Columns = dict[str, NDArray[Any]]
"""A table: N values for each column."""

PixelSize = tuple[float, ...]
"""Height and width of a pixel in micrometres; of a voxel also its depth, which comes first."""

# Pixels of a band of an image in memory.
_BAND_PIXELS = 1 << 22
_SHAPES = (
    "perimeter",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "orientation",
    "solidity",
    "euler_number",
)
# Of these, what is measured in volumes; perimeter, eccentricity and orientation have no meaning there.
_VOLUME_SHAPES = ("axis_major_length", "axis_minor_length", "extent")
_LENGTHS = ("equivalent_diameter_area", "axis_major_length", "axis_minor_length")


def measure(labels: ArrayLike, image: ArrayLike | None = None, *, pixel_size: PixelSize | None = None) -> Columns:
    """Measure the objects of a label image, or of a volume of labels.

    Time is O(pixels), and a sort of those of the objects for each channel.

    Parameters
    ----------
    labels : (H, W) or (Z, Y, X) integers
        0 is background; every other number is an object, in one piece or in several.
    image : (H, W) or (H, W, C), (Z, Y, X) or (Z, Y, X, C) of numbers, optional
        What the intensities are measured in.
    pixel_size : (float, float) or (float, float, float), optional
        Height and width of a pixel in micrometres, or the sides of a voxel along Z, Y and X, for further columns.

    Returns
    -------
    dict of str to (N,) array
        Objects by ascending label, in the columns that `column_names` names. Rows and columns begin at 0 in the middle
        of the first pixel, boxes are half open, and intensities are float64 in the image's own values.

    Raises
    ------
    UsageError
        If labels are no integers of two or three dimensions, negative or more than int64 holds, the image has another
        size, or the size of pixels is not above 0.

    Examples
    --------
    >>> labels = np.array([[0, 1, 1, 0], [0, 1, 1, 5]])
    >>> columns = measure(labels, 10 * labels)
    >>> [columns[name].tolist() for name in ("label", "area", "centroid-1", "bbox-3", "intensity_mean")]
    [[1, 5], [4, 1], [1.5, 3.0], [3, 4], [10.0, 50.0]]
    >>> measure(labels, pixel_size=(0.5, 0.5))["area_um2"].tolist()
    [1.0, 0.25]
    """
    values = np.asarray(labels)
    if values.ndim not in (2, 3) or values.dtype.kind not in "iu":
        expected = "integers of shape (H, W) or (Z, Y, X)"
        raise UsageError(f"labels are {values.dtype} of shape {values.shape}, expected {expected}")
    pixels = None if image is None else np.asarray(image)
    if pixels is not None:
        if pixels.ndim - values.ndim not in (0, 1) or pixels.shape[: values.ndim] != values.shape:
            raise UsageError(
                f"the image has shape {pixels.shape}, expected {values.shape} as the labels have, with or without "
                "channels"
            )
        if pixels.dtype.kind not in "biuf":
            raise UsageError(f"the image is {pixels.dtype}, expected numbers")
        pixels = pixels[..., None] if pixels.ndim == values.ndim else pixels
        pixels = pixels.view(np.uint8) if pixels.dtype.kind == "b" else pixels

    def read(top: int, bottom: int) -> NDArray[Any]:
        return np.zeros(0) if pixels is None else pixels[top:bottom]

    return measure_strips(
        lambda rows: (values[top : top + rows] for top in range(0, len(values), rows)),
        values.shape,
        None if pixels is None else read,
        channels=0 if pixels is None else pixels.shape[-1],
        pixel_size=pixel_size,
    )


def measure_strips(
    strips: Strips,
    shape: tuple[int, ...],
    read: Callable[[int, int], NDArray[Any]] | None = None,
    *,
    channels: int = 0,
    pixel_size: PixelSize | None = None,
    rows: int | None = None,
) -> Columns:
    """Measure the objects of an image or a volume that does not fit into memory; the numbers are those of `measure`.

    Memory is that of some rows, of the table, and of the objects that reach from these rows to the next.

    Parameters
    ----------
    strips : callable
        Returns the labels from the top, so many rows (of a volume planes) at a time; it is called twice.
    shape : tuple of int
        Height and width, or planes, rows and columns.
    read : callable, optional
        Takes the first row and that after the last one, and returns the image there, (h, W, C); of a volume planes.
    channels : int
        C
    pixel_size : tuple of float, optional
        As `measure` takes it.
    rows : int, optional
        How many rows or planes at a time; by default about four million pixels.

    Raises
    ------
    UsageError, InstsegError
        As `measure` does; or if there are objects so large that their pixels do not fit into memory.
    """
    ndim = len(shape)
    if pixel_size is not None:
        check_pixel_size(pixel_size, ndim)
    rows = max(CONTEXT, _BAND_PIXELS // max(math.prod(shape[1:]), 1)) if rows is None else rows
    objects = find_objects(strips(rows), ndim)
    if rows < shape[0]:
        check_memory(objects, shape[0], 4 + 4 * channels)
    count = len(objects.labels)
    shapes = np.zeros((len(_SHAPES if ndim == 2 else _VOLUME_SHAPES), count))
    spread = np.zeros((len(_pairs(ndim)), count))
    centroid = np.zeros((ndim, count))
    intensities = np.zeros((channels, len(STATISTICS), count))
    for part in Sweep(objects, strips(rows), read):
        numbers = part.numbers
        of_part = Objects(objects.labels[numbers], objects.area[numbers], objects.bbox[numbers])
        centroid[:, numbers], spread[:, numbers] = _moments(of_part, part.runs)
        shapes[:, numbers] = (_shapes if ndim == 2 else _volume_shapes)(of_part, part, spread[:, numbers])
        for channel in range(channels):
            intensities[channel][:, numbers] = object_statistics(part.pixels, part.values[:, channel], len(numbers))
    columns = _table(objects, centroid, shapes, shape)
    columns |= dict(
        zip(_intensity_names(channels), intensities.reshape(channels * len(STATISTICS), count), strict=True)
    )
    return columns if pixel_size is None else columns | _in_micrometres(columns, spread, pixel_size)


def check_pixel_size(pixel_size: PixelSize, ndim: int | None = None) -> None:
    """Check the sides of a pixel, two, or of a voxel, three.

    Parameters
    ----------
    pixel_size : tuple of float
    ndim : int, optional
        How many are expected; by default two or three.

    Raises
    ------
    UsageError
        If they are not above 0, or not as many.
    """
    count = len(pixel_size)
    sound = count in (2, 3) and all(0 < side < np.inf for side in pixel_size)
    is_one_number = count == 2 and pixel_size[0] == pixel_size[1]
    shown = ",".join(f"{side:g}" for side in (pixel_size[:1] if is_one_number else pixel_size))
    expected = (
        "a number of micrometres above 0, one for rows and one for columns, or three for the z, y and x of a volume"
    )
    check_parameter(sound, "pixel_size", shown, expected)
    expected_of = {
        2: "a number of micrometres, or one for rows and one for columns, as these labels are an image",
        3: "three numbers of micrometres, along z, y and x, as these labels are a volume",
    }
    check_parameter(ndim in (None, count), "pixel_size", shown, expected_of[ndim or count])


def column_names(channels: int = 0, pixel_size: PixelSize | None = None, *, ndim: int = 2) -> list[str]:
    """Return the names of the columns of `measure` for an image of so many channels, or for a volume where `ndim` is 3.

    Returns
    -------
    list of str
        'label', 'centroid-0' (row), 'centroid-1' (column), 'bbox-0' to 'bbox-3' (first row and column, and those after
        the last), 'area', 'perimeter', 'equivalent_diameter_area', 'axis_major_length', 'axis_minor_length',
        'eccentricity', 'orientation' (angle between the rows' axis and the major axis, -pi/2 to pi/2,
        counter-clockwise), 'solidity', 'euler_number', all in pixels, and 'touches_border', which scikit-image has not.
        Then
        'intensity_mean', '_median', '_std', '_min', '_max' and '_sum': with several channels '-0', '-1', ... follow. In
        micrometres 'centroid_um-0', 'centroid_um-1', 'area_um2', 'perimeter_um' (of square pixels only),
        'equivalent_diameter_area_um', 'axis_major_length_um' and 'axis_minor_length_um'.

        In volumes, 'centroid-0' to 'centroid-2' are plane, row and column, 'bbox-0' to 'bbox-5' the first of these and
        those after the last, 'area' is the number of voxels, and 'extent' the share of the box that they fill; there is
        no perimeter, eccentricity, orientation, solidity and Euler number, and 'volume_um3' stands for 'area_um2'.
    """
    image = None if not channels else np.zeros((*(1,) * ndim, channels), np.uint8)
    return list(measure(np.zeros((1,) * ndim, np.uint8), image, pixel_size=pixel_size))


def _intensity_names(channels: int) -> list[str]:
    suffixes = [""] if channels == 1 else [f"-{channel}" for channel in range(channels)]
    return [f"intensity_{name}{suffix}" for suffix in suffixes for name in STATISTICS]


def _pairs(ndim: int) -> list[tuple[int, int]]:
    """Return the pairs of axes in the order of their covariances: each with itself first."""
    return [(axis, axis) for axis in range(ndim)] + list(itertools.combinations(range(ndim), 2))


def _moments(objects: Objects, runs: RowRuns) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centroids (D, M), and the covariances of the pairs of axes: rows, columns, and both.

    Sums are of whole numbers and relative to the box, so that their order does not matter.
    """
    count, area, ndim = len(objects.labels), objects.area, objects.ndim
    lengths = (runs.end - runs.begin).astype(np.float64)
    corner = objects.bbox[runs.objects].T[:ndim]
    lines = [(place - least).astype(np.float64) for place, least in zip(runs.places, corner[:-1], strict=True)]
    first = (runs.begin - corner[-1]).astype(np.float64)
    last = first + lengths - 1
    column_sum = lengths * (first + last) / 2
    # The sum of the squares of the whole numbers from `first` to `last`.
    squares = (last * (last + 1) * (2 * last + 1) - (first - 1) * first * (2 * first - 1)) / 6

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(runs.objects, values, count).astype(np.float64, copy=False)

    def product(one: int, other: int) -> NDArray[np.float64]:
        """Return the sums over pixels of the product of two coordinates, the first of which is not the later."""
        if one == ndim - 1:
            return total(squares)
        return total(lines[one] * (column_sum if other == ndim - 1 else lines[other] * lengths))

    sums = [*(total(line * lengths) for line in lines), total(column_sum)]
    covariances = [area * product(one, other) - sums[one] * sums[other] for one, other in _pairs(ndim)]
    centroid = np.stack([of_axis / area + objects.bbox[:, axis] for axis, of_axis in enumerate(sums)])
    return centroid, np.stack(covariances) / np.square(area.astype(np.float64))


def _shapes(objects: Objects, part: CompleteObjects, spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of `_SHAPES`."""
    major, minor = _axes(spread)
    rows, columns, both = spread
    eccentricity = np.sqrt(1 - np.divide(minor, major, out=np.ones_like(major), where=major > 0))
    # As scikit-image has it where an object is as high as wide.
    diagonal = np.where(both > 0, np.pi / 4, -np.pi / 4)
    orientation = np.where(rows == columns, diagonal, np.arctan2(2 * both, rows - columns) / 2)
    return np.stack(
        [
            perimeters(part.kinds),
            *_axis_lengths(spread),
            eccentricity,
            orientation,
            objects.area / _convex_areas(objects, part.runs),
            part.euler,
        ]
    )


def _volume_shapes(objects: Objects, part: CompleteObjects, spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of `_VOLUME_SHAPES`."""
    box = np.prod(objects.bbox[:, objects.ndim :] - objects.bbox[:, : objects.ndim], axis=1)
    return np.stack([*_axis_lengths(spread), objects.area / box])


def _axis_lengths(spread: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the longest and the shortest axis of the ellipse (ellipsoid) of the same covariances."""
    major, minor = _axes(spread)
    factor = 4.0 if len(spread) == len(_pairs(2)) else math.sqrt(20)
    return factor * np.sqrt(major), factor * np.sqrt(minor)


def _axes(spread: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest and the smallest variance along the main axes."""
    if len(spread) == len(_pairs(3)):
        matrices = np.empty((spread.shape[1], 3, 3))
        for (one, other), values in zip(_pairs(3), spread, strict=True):
            matrices[:, one, other] = matrices[:, other, one] = values
        variances = np.maximum(np.linalg.eigvalsh(matrices), 0.0)
        return variances[:, -1], variances[:, 0]
    rows, columns, both = spread
    middle, half = (rows + columns) / 2, np.hypot((rows - columns) / 2, both)
    return middle + half, np.maximum(middle - half, 0.0)


def _convex_areas(objects: Objects, runs: RowRuns) -> NDArray[np.int64]:
    # The first and the last column of each object in each row.
    (rows,) = runs.places
    order = np.lexsort((rows, runs.objects))
    number, row = runs.objects[order], rows[order]
    starts = np.flatnonzero((np.diff(number, prepend=-1) != 0) | (np.diff(row, prepend=-1) != 0))
    first = np.minimum.reduceat(runs.begin[order], starts)
    last = np.maximum.reduceat(runs.end[order], starts) - 1
    number = number[starts]
    return convex_areas(
        number,
        row[starts] - objects.bbox[number, 0],
        first - objects.bbox[number, 1],
        last - objects.bbox[number, 1],
        len(objects.labels),
    )


def _table(
    objects: Objects, centroid: NDArray[np.float64], shapes: NDArray[np.float64], shape: tuple[int, ...]
) -> Columns:
    named = dict(zip(_SHAPES if objects.ndim == 2 else _VOLUME_SHAPES, shapes, strict=True))
    columns: Columns = {"label": objects.labels}
    columns |= {f"centroid-{axis}": values for axis, values in enumerate(centroid)}
    columns |= {f"bbox-{index}": values for index, values in enumerate(objects.bbox.T)}
    columns["area"] = objects.area
    if objects.ndim == 2:
        named["euler_number"] = named["euler_number"].astype(np.int64)
        columns["perimeter"] = named.pop("perimeter")
    columns |= {
        "equivalent_diameter_area": equivalent_diameter(objects.area, objects.ndim),
        **named,
        "touches_border": touching(objects.bbox, shape),
    }
    return columns


def touching(bbox: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which boxes (N, 2 D), half open, touch the border of an image, or of a volume."""
    edge: NDArray[np.bool_] = ((bbox[:, : len(shape)] == 0) | (bbox[:, len(shape) :] == shape)).any(axis=1)
    return edge


def _in_micrometres(columns: Columns, spread: NDArray[np.float64], pixel_size: PixelSize) -> Columns:
    ndim = len(pixel_size)
    size = columns["area"] * math.prod(pixel_size)
    products = np.array([[pixel_size[one] * pixel_size[other]] for one, other in _pairs(ndim)])
    scaled: Columns = {
        f"centroid_um-{axis}": columns[f"centroid-{axis}"] * side for axis, side in enumerate(pixel_size)
    }
    scaled["area_um2" if ndim == 2 else "volume_um3"] = size
    if ndim == 2 and pixel_size[0] == pixel_size[1]:
        scaled["perimeter_um"] = columns["perimeter"] * pixel_size[0]
    lengths = (equivalent_diameter(size, ndim), *_axis_lengths(spread * products))
    return scaled | {f"{name}_um": values for name, values in zip(_LENGTHS, lengths, strict=True)}
