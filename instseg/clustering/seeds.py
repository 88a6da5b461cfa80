"""Where instances start: the pixels that represent their instance better than those around them."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Seeds are maxima in windows of this side: small enough for an instance of a few pixels to have one.
_WINDOW = 5
# So many pixels are processed at once, so that arrays of them fit into the processor's cache.
_BLOCK_PIXELS = 2**16


def find_seeds(
    seeds: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    threshold: float,
    side: int,
    spacing: Sequence[float],
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the pixels of the foreground at which instances start, and how well they represent them.

    Parameters
    ----------
    seeds : (H, W) or (Z, Y, X) float32
        0..1.
    foreground : bool of the seeds' shape
    threshold : float
        The least value of a seed, from 0 on.
    side : int
        Values are averaged over a window of this side, in which background and what is beyond the edges count as 0.
    spacing : sequence of float
        How far pixels lie apart along each axis, in columns: windows are that much narrower.

    Returns
    -------
    pixels : (S,) intp
        Positions in the flat image, ascending. Their averages are the largest in a window of `_WINDOW`.
    values : (S,) float32
        The averages.
    """
    averaged = windows_of(side, spacing)
    if seeds.ndim > 2:
        # Nothing is beyond the planes, and of few of them every mean would be of nothing mostly.
        averaged = tuple(min(window, n - 1 + n % 2) for window, n in zip(averaged, seeds.shape, strict=True))
    blocks = _Blocks(averaged, windows_of(_WINDOW, spacing), seeds.shape)
    places, values = [np.zeros(0, np.intp)], [np.zeros(0, np.float32)]
    for block in blocks.all():
        found, of_found = blocks.peaks(seeds, foreground, block, threshold)
        places.append(found)
        values.append(of_found)
    pixels = np.concatenate(places)
    order = np.argsort(pixels)
    return pixels[order], np.concatenate(values)[order]


class _Blocks:
    """Filters an image block by block, in buffers that are used again.

    A block lies in the middle of a buffer, as far from its edges as windows reach. In the flat buffer each step along
    an axis is the same distance, so that windows are sums and maxima of long rows of numbers; what they take from
    beyond the buffer's edges does not reach the block.
    """

    def __init__(self, averaged: tuple[int, ...], compared: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self._averaged, self._compared, self._image = averaged, compared, shape
        self._margins = [one // 2 + other // 2 for one, other in zip(averaged, compared, strict=True)]
        self._lengths = _block_lengths(shape, self._margins)
        self._shape = tuple(n + 2 * margin for n, margin in zip(self._lengths, self._margins, strict=True))
        size = int(np.prod(self._shape))
        self._seen, self._values = np.zeros(size, bool), np.zeros(size, np.float32)
        self._sums = np.zeros((3, size) if max(averaged) > 1 else (3, 0))
        self._highest = list(np.zeros((2, size), np.float32))
        self._strides = [int(np.prod(self._shape[axis + 1 :])) for axis in range(len(shape))]

    def all(self) -> Iterator[tuple[int, ...]]:
        """Return the first pixel of each block."""
        starts = (range(0, n, length) for n, length in zip(self._image, self._lengths, strict=True))
        return itertools.product(*starts)

    def peaks(
        self, seeds: NDArray[np.float32], foreground: NDArray[np.bool_], begin: tuple[int, ...], threshold: float
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return the peaks in a block, as positions in the flat image, and their averages."""
        ends = [min(first + n, of) for first, n, of in zip(begin, self._lengths, self._image, strict=True)]
        nothing = np.zeros(0, np.intp), np.zeros(0, np.float32)
        if not foreground[tuple(map(slice, begin, ends))].any():
            return nothing
        seen, values = self._seen.reshape(self._shape), self._values.reshape(self._shape)
        source = tuple(
            slice(max(first - margin, 0), end + margin)
            for first, end, margin in zip(begin, ends, self._margins, strict=True)
        )
        target = tuple(
            slice(max(margin - first, 0), max(margin - first, 0) + len(range(*part.indices(of))))
            for first, margin, part, of in zip(begin, self._margins, source, self._image, strict=True)
        )
        self._seen.fill(False)
        seen[target] = foreground[source]
        self._values.fill(0)
        np.multiply(seeds[source], seen[target], out=values[target])
        # A mean is no larger than the largest value, but for its last digit.
        if self._values.max() < threshold * (1 - 1e-6):
            return nothing
        self._average()
        np.multiply(self._values, self._seen, out=self._values)
        inner = tuple(
            slice(margin, margin + end - first) for margin, first, end in zip(self._margins, begin, ends, strict=True)
        )
        averages = values[inner]
        is_peak = averages == self._maxima().reshape(self._shape)[inner]
        is_peak &= averages >= threshold
        is_peak &= seen[inner]
        places = np.unravel_index(np.flatnonzero(is_peak), is_peak.shape)
        whole = tuple(place + first for place, first in zip(places, begin, strict=True))
        return np.ravel_multi_index(whole, self._image), averages[places]

    def _average(self) -> None:
        """Replace the values by their means in windows, along one axis after the other.

        In double precision the sum of some single ones is exact for nearly all, whatever their order.
        """
        for window, stride in zip(self._averaged, self._strides, strict=True):
            if window > 1:
                one, other, total = self._sums
                one[:] = self._values
                # The whole window begins `window // 2` before the pixel.
                _window_sums(one, other, total, window, stride)
                shift = window // 2 * stride
                np.divide(total[: total.size - shift], window, out=other[: total.size - shift])
                self._values[shift:] = other[: total.size - shift]

    def _maxima(self) -> NDArray[np.float32]:
        """Return the largest value in each window.

        The maxima of two windows of half the length make up one of the whole, also where the two overlap.
        """
        values, size = self._values, self._values.size
        for window, stride in zip(self._compared, self._strides, strict=True):
            if window == 1:
                continue
            length = 1
            while 2 * length <= window:
                free = self._highest[0] if values is not self._highest[0] else self._highest[1]
                end = size - length * stride
                np.maximum(values[:end], values[length * stride :], out=free[:end])
                values, length = free, 2 * length
            last, shift = (window - length) * stride, window // 2 * stride
            end = size - max(last, shift)
            free = self._highest[0] if values is not self._highest[0] else self._highest[1]
            np.maximum(values[:end], values[last : last + end], out=free[shift : shift + end])
            values = free
        return values


def _block_lengths(shape: tuple[int, ...], margins: list[int]) -> tuple[int, ...]:
    """Return how long blocks are along each axis: of similar sides, and not much smaller than their margins."""
    lengths = dict.fromkeys(range(len(shape)), 1)
    left = float(_BLOCK_PIXELS)
    for done, axis in enumerate(sorted(lengths, key=lambda axis: shape[axis])):
        side = round(left ** (1 / (len(shape) - done)))
        lengths[axis] = min(shape[axis], max(side, 4 * margins[axis]))
        left = max(left / lengths[axis], 1)
    return tuple(lengths.values())


def _window_sums(
    values: NDArray[np.float64], spare: NDArray[np.float64], total: NDArray[np.float64], window: int, stride: int
) -> None:
    """Sum values over windows that begin with each, in `total`; sums over 1, 2, 4, ... make up those of any length."""
    begin, length = 0, 1
    started = False
    while length <= window:
        if window & length:
            end = values.size - begin * stride
            if started:
                np.add(total[:end], values[begin * stride :], out=total[:end])
            else:
                total[:] = values
            started, begin = True, begin + length
        if 2 * length <= window:
            end = values.size - length * stride
            np.add(values[:end], values[length * stride :], out=spare[:end])
            values, spare = spare, values
        length *= 2


def windows_of(length: int, spacing: Sequence[float]) -> tuple[int, ...]:
    """Return how many pixels along each axis are about so many columns: odd numbers, for windows around a pixel.

    Examples
    --------
    >>> windows_of(5, (1.0, 1.0)), windows_of(5, (2.0, 1.0, 1.0)), windows_of(5, (5.0, 1.0, 1.0))
    ((5, 5), (3, 5, 5), (1, 5, 5))
    """
    return tuple(length if step == 1 else max(1, 2 * round((length / step - 1) / 2) + 1) for step in spacing)


def flatness(
    foreground: NDArray[np.bool_], points: NDArray[np.float32], bandwidth: float, spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Return how little the embeddings change around each pixel: little inside of objects, much at borders.

    Parameters
    ----------
    foreground : (H, W) or (Z, Y, X) bool
        Holds P pixels.
    points : (P, D) float32
        Their embeddings in raster order.
    bandwidth : float
        The unit in which changes are measured.
    spacing : sequence of float, optional
        How far pixels lie apart along each axis, in columns.

    Returns
    -------
    float32 of the foreground's shape
        1 where nothing changes, and close to 0 where neighbours differ by many bandwidths or are background.
    """
    from scipy import ndimage

    steps = np.zeros(foreground.shape, np.float32)
    across = np.zeros(foreground.shape, np.float32)
    for first, second, change in neighbour_changes(foreground, points):
        across[first] += change
        across[second] += change
        steps[first] += 1
        steps[second] += 1
    # A missing neighbour counts as a change of one bandwidth, so that the maxima lie inside of objects.
    sides = 2 * foreground.ndim
    change = np.where(foreground, across + (sides - steps) * bandwidth, sides * bandwidth)
    window = windows_of(_WINDOW, spacing or (1.0,) * foreground.ndim)
    smooth = ndimage.uniform_filter(change, window, mode="nearest")
    flat: NDArray[np.float32] = np.exp(-smooth / (sides * bandwidth)).astype(np.float32)
    return flat


def neighbour_changes(
    foreground: NDArray[np.bool_], points: NDArray[np.float32]
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]]:
    """Return for each axis the masks of the first and of the second pixels of pairs of neighbours, and distances."""
    number = np.cumsum(foreground.ravel()).reshape(foreground.shape) - 1
    changes = []
    for axis in range(foreground.ndim):
        pair = np.logical_and(*_shifted(foreground, axis))
        first, second = np.zeros_like(foreground), np.zeros_like(foreground)
        _shifted(first, axis)[0][:] = pair
        _shifted(second, axis)[1][:] = pair
        change = np.linalg.norm(points[number[first]] - points[number[second]], axis=1).astype(np.float32)
        changes.append((first, second, change))
    return changes


def _shifted(array: NDArray[np.bool_], axis: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    along = np.moveaxis(array, axis, 0)
    return np.moveaxis(along[:-1], 0, axis), np.moveaxis(along[1:], 0, axis)
