"""The numbers of objects: size, shape and intensity, as `skimage.measure.regionprops_table` defines and names them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import UsageError, check_parameter
from instseg.measurements.borders import CONTEXT, perimeters
from instseg.measurements.hull import convex_areas
from instseg.measurements.intensities import STATISTICS, object_statistics
from instseg.measurements.sweep import CompleteObjects, Objects, RowRuns, Strips, Sweep, check_memory, find_objects

Columns = dict[str, NDArray[Any]]
"""A table: N values for each column."""

PixelSize = tuple[float, float]
"""Height and width of a pixel in micrometres."""

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
_LENGTHS = ("equivalent_diameter_area", "axis_major_length", "axis_minor_length")


def measure(labels: ArrayLike, image: ArrayLike | None = None, *, pixel_size: PixelSize | None = None) -> Columns:
    """Measure the objects of a label image.

    Time is O(pixels), and a sort of those of the objects for each channel.

    Parameters
    ----------
    labels : (H, W) integers
        0 is background; every other number is an object, in one piece or in several.
    image : (H, W) or (H, W, C) of numbers, optional
        What the intensities are measured in.
    pixel_size : (float, float), optional
        Height and width of a pixel in micrometres, for further columns.

    Returns
    -------
    dict of str to (N,) array
        Objects by ascending label, in the columns that `column_names` names. Rows and columns begin at 0 in the middle
        of the first pixel, boxes are half open, and intensities are float64 in the image's own values.

    Raises
    ------
    UsageError
        If labels are no integers of two dimensions, negative or more than int64 holds, the image has another size, or
        the size of pixels is not above 0.

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
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise UsageError(f"labels are {values.dtype} of shape {values.shape}, expected integers of shape (H, W)")
    pixels = None if image is None else np.asarray(image)
    if pixels is not None:
        if pixels.ndim not in (2, 3) or pixels.shape[:2] != values.shape:
            raise UsageError(
                f"the image has shape {pixels.shape}, expected {values.shape} as the labels have, with or without "
                "channels"
            )
        if pixels.dtype.kind not in "biuf":
            raise UsageError(f"the image is {pixels.dtype}, expected numbers")
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        pixels = pixels.view(np.uint8) if pixels.dtype.kind == "b" else pixels

    def read(top: int, bottom: int) -> NDArray[Any]:
        return np.zeros(0) if pixels is None else pixels[top:bottom]

    return measure_strips(
        lambda rows: (values[top : top + rows] for top in range(0, len(values), rows)),
        (values.shape[0], values.shape[1]),
        None if pixels is None else read,
        channels=0 if pixels is None else pixels.shape[2],
        pixel_size=pixel_size,
    )


def measure_strips(
    strips: Strips,
    shape: tuple[int, int],
    read: Callable[[int, int], NDArray[Any]] | None = None,
    *,
    channels: int = 0,
    pixel_size: PixelSize | None = None,
    rows: int | None = None,
) -> Columns:
    """Measure the objects of a label image that does not fit into memory; the numbers are those of `measure`.

    Memory is that of some rows, of the table, and of the objects that reach from these rows to the next.

    Parameters
    ----------
    strips : callable
        Returns the labels from the top, so many rows at a time; it is called twice.
    shape : (int, int)
        Height and width.
    read : callable, optional
        Takes the first row and that after the last one, and returns the image there, (h, W, C).
    channels : int
        C
    pixel_size : (float, float), optional
        As `measure` takes it.
    rows : int, optional
        How many at a time; by default about four million pixels.

    Raises
    ------
    UsageError, InstsegError
        As `measure` does; or if there are objects so large that their pixels do not fit into memory.
    """
    if pixel_size is not None:
        check_pixel_size(pixel_size)
    rows = max(CONTEXT, _BAND_PIXELS // max(shape[1], 1)) if rows is None else rows
    objects = find_objects(strips(rows))
    if rows < shape[0]:
        check_memory(objects, shape[0], 4 + 4 * channels)
    count = len(objects.labels)
    shapes = np.zeros((len(_SHAPES), count))
    spread = np.zeros((3, count))
    centroid = np.zeros((2, count))
    intensities = np.zeros((channels, len(STATISTICS), count))
    for part in Sweep(objects, strips(rows), read):
        numbers = part.numbers
        of_part = Objects(objects.labels[numbers], objects.area[numbers], objects.bbox[numbers])
        centroid[:, numbers], spread[:, numbers] = _moments(of_part, part.runs)
        shapes[:, numbers] = _shapes(of_part, part, spread[:, numbers])
        for channel in range(channels):
            intensities[channel][:, numbers] = object_statistics(part.pixels, part.values[:, channel], len(numbers))
    columns = _table(objects, centroid, shapes, shape)
    columns |= dict(
        zip(_intensity_names(channels), intensities.reshape(channels * len(STATISTICS), count), strict=True)
    )
    return columns if pixel_size is None else columns | _in_micrometres(columns, spread, pixel_size)


def check_pixel_size(pixel_size: PixelSize) -> None:
    """Check the height and the width of a pixel.

    Raises
    ------
    UsageError
        If they are not above 0.
    """
    sound = len(pixel_size) == 2 and all(0 < side < np.inf for side in pixel_size)
    shown = ",".join(dict.fromkeys(f"{side:g}" for side in pixel_size))
    check_parameter(sound, "pixel_size", shown, "a number of micrometres above 0, or one for rows and one for columns")


def column_names(channels: int = 0, pixel_size: PixelSize | None = None) -> list[str]:
    """Return the names of the columns of `measure` for an image of so many channels.

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
    """
    image = None if not channels else np.zeros((1, 1, channels), np.uint8)
    return list(measure(np.zeros((1, 1), np.uint8), image, pixel_size=pixel_size))


def _intensity_names(channels: int) -> list[str]:
    suffixes = [""] if channels == 1 else [f"-{channel}" for channel in range(channels)]
    return [f"intensity_{name}{suffix}" for suffix in suffixes for name in STATISTICS]


def _moments(objects: Objects, runs: RowRuns) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centroids (2, M), and variances (3, M): of rows, of columns, and of both.

    Sums are of whole numbers and relative to the box, so that their order does not matter.
    """
    count, area = len(objects.labels), objects.area
    lengths = (runs.end - runs.begin).astype(np.float64)
    row = (runs.rows - objects.bbox[runs.objects, 0]).astype(np.float64)
    first = (runs.begin - objects.bbox[runs.objects, 1]).astype(np.float64)
    last = first + lengths - 1
    column_sum = lengths * (first + last) / 2
    # The sum of the squares of the whole numbers from `first` to `last`.
    squares = (last * (last + 1) * (2 * last + 1) - (first - 1) * first * (2 * first - 1)) / 6

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(runs.objects, values, count).astype(np.float64, copy=False)

    rows, columns = total(row * lengths), total(column_sum)
    variances = [
        area * total(row * row * lengths) - rows * rows,
        area * total(squares) - columns * columns,
        area * total(row * column_sum) - rows * columns,
    ]
    centroid = np.stack([rows / area + objects.bbox[:, 0], columns / area + objects.bbox[:, 1]])
    return centroid, np.stack(variances) / np.square(area.astype(np.float64))


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
            4 * np.sqrt(major),
            4 * np.sqrt(minor),
            eccentricity,
            orientation,
            objects.area / _convex_areas(objects, part.runs),
            part.euler,
        ]
    )


def _axes(spread: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the larger and the smaller variance along the main axes."""
    rows, columns, both = spread
    middle, half = (rows + columns) / 2, np.hypot((rows - columns) / 2, both)
    return middle + half, np.maximum(middle - half, 0.0)


def _convex_areas(objects: Objects, runs: RowRuns) -> NDArray[np.int64]:
    # The first and the last column of each object in each row.
    order = np.lexsort((runs.rows, runs.objects))
    number, row = runs.objects[order], runs.rows[order]
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
    objects: Objects, centroid: NDArray[np.float64], shapes: NDArray[np.float64], shape: tuple[int, int]
) -> Columns:
    named = dict(zip(_SHAPES, shapes, strict=True))
    named["euler_number"] = named["euler_number"].astype(np.int64)
    columns: Columns = {"label": objects.labels, "centroid-0": centroid[0], "centroid-1": centroid[1]}
    columns |= {f"bbox-{index}": values for index, values in enumerate(objects.bbox.T)}
    columns |= {
        "area": objects.area,
        "perimeter": named.pop("perimeter"),
        "equivalent_diameter_area": np.sqrt(4 * objects.area / np.pi),
        **named,
        "touches_border": touching(objects.bbox, shape),
    }
    return columns


def touching(bbox: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which boxes (N, 4), half open, touch the border of an image of a height and a width."""
    top, left, bottom, right = bbox.T
    edge: NDArray[np.bool_] = (top == 0) | (left == 0) | (bottom == shape[0]) | (right == shape[1])
    return edge


def _in_micrometres(columns: Columns, spread: NDArray[np.float64], pixel_size: PixelSize) -> Columns:
    height, width = pixel_size
    area = columns["area"] * (height * width)
    major, minor = _axes(spread * np.array([[height * height], [width * width], [height * width]]))
    scaled: Columns = {
        "centroid_um-0": columns["centroid-0"] * height,
        "centroid_um-1": columns["centroid-1"] * width,
        "area_um2": area,
    }
    if height == width:
        scaled["perimeter_um"] = columns["perimeter"] * height
    lengths = (np.sqrt(4 * area / np.pi), 4 * np.sqrt(major), 4 * np.sqrt(minor))
    return scaled | {f"{name}_um": values for name, values in zip(_LENGTHS, lengths, strict=True)}
