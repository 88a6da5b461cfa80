"""The levels of an image: the values that normalisation maps to 0 and 1, channel by channel, by one of two rules.

'percentiles' takes two percentiles of all pixels (`instseg.preprocessing.normalisation`). They are wrong where objects
cover less than the share above the higher one, as noise is then shown at full contrast, and where a border of one value
or hot pixels cover more than that. 'robust' begins with the same percentiles, and corrects them there. The network's
graph has the same rules (`instseg.network.serving_levels`), which a test compares with these.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import UsageError
from instseg.preprocessing.normalisation import (
    HIGH_PERCENTILE,
    LOW_PERCENTILE,
    channel_percentiles,
    count_values,
    counted_percentiles,
    estimate_percentiles,
    percentiles,
    read_samples,
)
from instseg.settings import LevelsRule
from instseg.tiling.grid import Box

NOISE_EXTENT = 30.0
"""The levels of an image without objects are so many standard deviations of its noise apart. Of 8 crops of background a
network found nuclei in 6 with 18, in 3 with 24 and in none with 30; a disc of 4 such deviations it found with all."""
SIGNIFICANT = 3.0
"""Squares of 2 x 2 pixels whose values are all so many standard deviations of the noise from the median are objects."""
ROUNDING = 0.5
"""How much farther from the median objects have to be where values are whole numbers, for an image not to be one of
noise: that of a value or two is otherwise beyond its own deviation, which is known to a part of a value only."""
ROUNDED_NOISE = 1.0
"""The least noise of whole numbers, if they have any: rounded, noise of a part of a value has steps of a whole one,
which are objects to a network at the extent of such noise."""
SPARSE = 0.01
"""Objects that cover less than this share are sparse: a percentile is one of the background, or of their borders."""
OBJECT_PERCENTILE = 90.0
"""The percentile of the pixels of sparse objects that is their level."""
HOT_NOISE, HOT_SHARE = 6.0, 0.5
"""Pixels that no neighbour resembles are hot if they move a level by more than so many standard deviations of the
noise, and by more than this share of the extent."""
NOISE_STEP, NOISE_SAMPLES = 1, 1 << 18
"""Noise is what differs over so many pixels; more would count the texture of tissue as noise. About so many pixels are
compared."""
MEDIAN_DEVIATION, UPPER_QUARTILE = 6 * 0.6745, 6 * 1.1503
"""The median and the third quartile of such a difference, without its sign, at a standard deviation of 1."""
LEAST_PICTURE = 1 / 32
"""The least share of an image that there has to be within a border."""
BORDER_WITHIN = 0.01
"""The largest share of a picture that may have the value of the border around it."""
LEAST_SIDE = 2 * NOISE_STEP + 1
"""The least height and width of an image in which a border, noise and objects can be told apart."""

# Images are looked at in bands of rows of about so many pixels.
_BAND = 1 << 22
# Differences are taken of about so many pixels at a time.
_NOISE_BAND = 1 << 15
_DIFFERENCES: dict[type[np.generic], type[np.generic]] = {np.uint8: np.int16, np.uint16: np.int32}

Levels = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The values (C,) that normalisation maps to 0 and to 1."""


def image_levels(image: NDArray[Any], rule: LevelsRule = "robust", counted: NDArray[np.bool_] | None = None) -> Levels:
    """Return the values that normalisation maps to 0 and 1.

    By the rule 'robust' they are the 1st and the 99.8th percentile of the pixels, with these exceptions:

    * A border of one exact value around the picture does not count: see `picture_box`.
    * Where single hot or dead pixels move a percentile far, pixels count as their most similar neighbour at most.
    * Where objects are sparse (less than 1 % of the pixels are beyond noise on their side, bright or dark), the level
      on this side is one that a tenth of their pixels exceed, if that is farther.
    * Where less than 1 % of the pixels are beyond noise at all, the levels are at least 30 standard deviations of the
      noise apart, the fewer such pixels the more: an image of noise is not stretched. Noise is estimated from second
      differences (Immerkaer 1996, Fast noise variance estimation), by their median instead of their mean; that of whole
      numbers counts as 1 at least.

    A channel of one value has equal levels, which `normalise` maps to 0. About 10 ms per megapixel and channel of 8 or
    16 bits, and 2 ms by percentiles; at most 4 bytes of memory per pixel of a channel beside the image.

    Parameters
    ----------
    image : (H, W, C) or (Z, H, W, C) of numbers
        As it was read: a whole image, or a part that is to be seen as if it were one. The planes of a volume are seen
        as one image, in which each is below the one before.
    rule : {'robust', 'percentiles'}
    counted : (H, W) or (Z, H, W) bool, optional
        The pixels that count, all by default. If none does, the levels are 0.

    Returns
    -------
    low, high : (C,) float32
        In the image's units.

    Raises
    ------
    UsageError
        If `image` is not 3-D or empty.

    Examples
    --------
    >>> image = np.zeros((100, 100, 1), np.uint16)
    >>> image[20:24, 30:34] = 1000
    >>> image_levels(image)
    (array([0.], dtype=float32), array([1000.], dtype=float32))
    >>> image_levels(image, "percentiles")
    (array([0.], dtype=float32), array([0.], dtype=float32))
    """
    if image.ndim == 4:
        image = image.reshape(-1, *image.shape[2:])
        counted = None if counted is None else counted.reshape(image.shape[:2])
    if rule == "percentiles":
        return percentiles(image, counted=counted)
    if image.ndim != 3 or image.size == 0:
        raise UsageError(f"the image is of shape {image.shape}, expected (H, W, C)")
    pairs = [_robust_levels(image[..., channel], counted) for channel in range(image.shape[2])]
    lows, highs = np.array(pairs, np.float32).T
    return lows.copy(), highs.copy()


def estimate_levels(shape: tuple[int, int], read: Callable[[Box], NDArray[Any]], rule: LevelsRule = "robust") -> Levels:
    """Estimate the levels of an image from parts that are spread over it, 16 megapixels in all.

    Objects so sparse that none of them is in these parts are not seen.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    read : callable
        Returns the part (h, w, C) in a Box.
    rule : {'robust', 'percentiles'}

    Returns
    -------
    low, high : (C,) float32
    """
    if rule == "percentiles":
        return estimate_percentiles(shape, read)
    return image_levels(read_samples(shape, read), rule)


def _robust_levels(channel: NDArray[Any], counted: NDArray[np.bool_] | None) -> tuple[float, float]:
    if channel.dtype not in (np.uint8, np.uint16):
        channel = channel.astype(np.float32)
    within = _border_box(channel).slices_in(Box(0, 0, *channel.shape))
    picture = np.ascontiguousarray(channel[within])
    counted = None if counted is None else counted[within]
    values = picture.ravel() if counted is None else picture[counted]
    if not values.size:
        return 0.0, 0.0
    low, middle, high = channel_percentiles(values, (LOW_PERCENTILE, 50.0, HIGH_PERCENTILE))
    if min(picture.shape) < LEAST_SIDE:
        return low, high
    noise = _noise(picture, counted)
    if counted is not None:
        # At the median it is on neither side.
        picture = np.where(counted, picture, picture.dtype.type(middle))
    below, above = middle - low, high - middle
    whole = picture.dtype.kind == "u" or bool((picture == np.floor(picture)).all())
    sure = SIGNIFICANT * noise + ROUNDING * whole
    bright_side, dark_side = (_Side(picture, counted, middle, noise, sure, bright=bright) for bright in (True, False))
    above, bright = bright_side.corrected(above, below, HIGH_PERCENTILE)
    below, dark = dark_side.corrected(below, above, 100 - LOW_PERCENTILE)
    if noise > 0 and whole:
        noise = max(noise, ROUNDED_NOISE)
    missing = max(0.0, NOISE_EXTENT * noise * max(0.0, 1 - (bright + dark) / SPARSE) - below - above)
    return (middle - below - missing, middle + above) if dark > bright else (middle - below, middle + above + missing)


def picture_box(image: NDArray[Any]) -> Box:
    """Return where the picture is in an image (H, W, C) that may have a border of one exact value around it.

    What all channels have around their pictures is border. It is none if the value is one of the picture, too (of more
    than 1 % of its pixels), as the ground is in images whose noise was cut off, or if less than 1/32 of the image is
    within it.

    Parameters
    ----------
    image : (H, W, C) of numbers

    Returns
    -------
    Box
    """
    boxes = [_border_box(image[..., channel]) for channel in range(image.shape[2])]
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return Box(min(tops), min(lefts), max(bottoms), max(rights))


def _border_box(channel: NDArray[Any]) -> Box:
    """Return the part of a channel (H, W) within a border of one value, or of two that meet."""
    whole = box = Box(0, 0, *channel.shape)
    if min(channel.shape) < LEAST_SIDE:
        return whole
    for corner in (0, -1):
        part = channel[box.slices_in(whole)]
        value = part[corner, corner]
        if not ((part[corner] == value).all() or (part[:, corner] == value).all()):
            continue
        different = part != value
        rows, columns = np.flatnonzero(different.any(axis=1)), np.flatnonzero(different.any(axis=0))
        if not len(rows):
            continue
        top, bottom, left, right = (int(index) for line in (rows, columns) for index in (line[0], line[-1] + 1))
        within = different[top:bottom, left:right]
        if within.size >= LEAST_PICTURE * channel.size and within.size - within.sum() <= BORDER_WITHIN * within.size:
            box = Box(box.top + top, box.left + left, box.top + bottom, box.left + right)
    return box


def _noise(picture: NDArray[Any], counted: NDArray[np.bool_] | None) -> float:
    """Return about the standard deviation of the noise of a picture (H, W), where all pixels count or some (H, W)."""
    every = max(1, round(picture.size / NOISE_SAMPLES))
    tops = range(0, picture.shape[0] - 2 * NOISE_STEP, every)
    # Few rows at a time, so that their differences stay in the processor's cache.
    band = max(1, _NOISE_BAND // picture.shape[1])
    parts = (tops[first : first + band] for first in range(0, len(tops), band))
    differences = np.concatenate([_second_differences(picture, counted, rows) for rows in parts])
    if not differences.size:
        return 0.0
    # Differences of integers are counted, which takes a fifth of the time of sorting them.
    quartiles = (50.0, 75.0)
    counting = differences.dtype.kind == "i"
    median, upper = counted_percentiles(differences, quartiles) if counting else np.percentile(differences, quartiles)
    # In images of few levels most pixels are equal to their neighbours, whatever the noise.
    return float(median / MEDIAN_DEVIATION if median > 0 else upper / UPPER_QUARTILE)


def _second_differences(picture: NDArray[Any], counted: NDArray[np.bool_] | None, tops: range) -> NDArray[Any]:
    """Return second differences along both axes, without their sign, of all columns in rows from `tops` on."""

    def below(values: NDArray[Any], step: int) -> NDArray[Any]:
        return values[tops.start + step : tops.stop + step : tops.step]

    steps = (0, NOISE_STEP, 2 * NOISE_STEP)
    # The differences of 8 bits fit into 16, and those of 16 into 32.
    kind = _DIFFERENCES.get(picture.dtype.type, np.float64)
    above, middle, under = (below(picture, step).astype(kind) for step in steps)
    difference = above - 2 * middle + under
    left, middle, right = (_columns(difference, step) for step in steps)
    differences: NDArray[Any] = np.abs(left - 2 * middle + right)
    if counted is None:
        return differences.ravel()
    column = np.logical_and.reduce([below(counted, step) for step in steps])
    count: NDArray[np.bool_] = np.logical_and.reduce([_columns(column, step) for step in steps])
    return differences[count]


def _columns(values: NDArray[Any], step: int) -> NDArray[Any]:
    return values[:, step : values.shape[1] - 2 * NOISE_STEP + step]


class _Side:
    """What is brighter than the median of a picture (H, W), or what is darker, by its distance from it."""

    def __init__(
        self,
        picture: NDArray[Any],
        counted: NDArray[np.bool_] | None,
        middle: float,
        noise: float,
        sure: float,
        *,
        bright: bool,
    ) -> None:
        self._picture, self._middle, self._bright = picture, middle, bright
        self._noise, self._sure = noise, sure
        # Of every second pixel of every second row, as the squares and the neighbours are.
        self._counted = None if counted is None else counted[1:-1:2, 1:-1:2].ravel()
        self._nearer: np.ufunc = np.minimum if bright else np.maximum
        self._farther: np.ufunc = np.maximum if bright else np.minimum

    def corrected(self, reach: float, other: float, percentile: float) -> tuple[float, float]:
        """Return how far the level is from the median, and the share of the picture that is beyond noise.

        Parameters
        ----------
        reach, other : float
            The distance of a percentile on this side, and that of the level on the other.
        percentile : float
            The share in % of all pixels that are nearer than `reach`.
        """
        squares = self._distances(self._in_squares())
        if not squares.size:
            return reach, 0.0
        significant = squares.beyond(SIGNIFICANT * self._noise)
        share = significant.size / squares.size
        # Where a smoother picture moves the level as little, hot pixels need not be looked for.
        if self._is_hot(reach, squares.at(percentile), other):
            similar = self._distances(self._as_neighbours()).at(percentile)
            reach = similar if self._is_hot(reach, similar, other) else reach
        if 0 < share < SPARSE:
            reach = max(reach, significant.at(OBJECT_PERCENTILE))
        return reach, squares.beyond(self._sure).size / squares.size

    def _is_hot(self, reach: float, without: float, other: float) -> bool:
        return reach - without > max(HOT_NOISE * self._noise, HOT_SHARE * (without + other))

    def _distances(self, values: NDArray[Any]) -> "_Distances":
        values = values.ravel() if self._counted is None else values.ravel()[self._counted]
        counts = None
        # As many values as there can be are counted in a third of the time that sorting takes.
        if values.dtype in (np.uint8, np.uint16) and values.size and values.size >= values.max():
            counts = count_values(values)
            values = np.arange(counts.size)
        distances = values.astype(np.float32) - np.float32(self._middle)
        if self._bright:
            return _Distances(distances, counts)
        return _Distances(-distances[::-1], None if counts is None else counts[::-1])

    def _in_squares(self) -> NDArray[Any]:
        """Return, of every second pixel of every second row, how far all pixels of a square of 2 x 2 with it are.

        On the bright side that is an opening (a closing on the other), which no hot pixel passes.
        """
        bands = []
        for band in self._bands():
            pairs = self._nearer(band[:-1], band[1:])
            squares = self._nearer(pairs[:, :-1], pairs[:, 1:])
            rows = self._farther(squares[:-1:2], squares[1::2])
            bands.append(self._farther(rows[:, :-1:2], rows[:, 1::2]))
        return np.concatenate(bands)

    def _as_neighbours(self) -> NDArray[Any]:
        """Return every second pixel of every second row, as far as the farthest of its eight neighbours at most."""
        bands = []
        for band in self._bands():
            height, width = band.shape
            shifts = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
            neighbours = (band[row : height - 2 + row : 2, column : width - 2 + column : 2] for row, column in shifts)
            bands.append(self._nearer(band[1:-1:2, 1:-1:2], functools.reduce(self._farther, neighbours)))
        return np.concatenate(bands)

    def _bands(self) -> Iterator[NDArray[Any]]:
        """Yield bands of an even number of rows, and two more that the next one begins with."""
        rows = max(2, _BAND // self._picture.shape[1] // 2 * 2)
        return (self._picture[top : top + rows + 2] for top in range(0, self._picture.shape[0] - 2, rows))


class _Distances:
    """Distances (N,) of pixels, or all that there can be, ascending, and how many pixels (N,) have each."""

    def __init__(self, distances: NDArray[np.float32], counts: NDArray[np.int64] | None) -> None:
        self._distances, self._counts = distances, counts
        self.size = distances.size if counts is None else int(counts.sum())

    def beyond(self, limit: float) -> "_Distances":
        """Return those of pixels beyond a distance."""
        those = self._distances > limit
        return _Distances(self._distances[those], None if self._counts is None else self._counts[those])

    def at(self, percentile: float) -> float:
        """Return the distance at a percentile of the pixels, without interpolation."""
        index = int((self.size - 1) * (percentile / 100))
        if self._counts is None:
            return float(np.partition(self._distances, index)[index])
        return float(self._distances[np.searchsorted(np.cumsum(self._counts), index, "right")])
