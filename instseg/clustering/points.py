"""Pixels as points in embedding space, gathered some thousands at a time, and sums over those of each instance.

Most of an image's memory is its embeddings, of which only the foreground is needed. Memory that is used for the first
time costs more than what is computed with it, so that points are never copied all at once: buffers of a fixed size,
which fit into the processor's cache, are filled again and again.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.embeddings import Embeddings

CHUNK = 2**13
"""So many points are gathered at once."""


def chunks(values: NDArray[np.intp], size: int = CHUNK) -> Iterator[NDArray[np.intp]]:
    """Return parts of an array (P,) of at most so many values."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def row_begins(shape: tuple[int, ...], parts: Sequence[slice]) -> NDArray[np.intp]:
    """Return where the rows (R,) of a part of an image begin in the flat image; a row lies along the last axis."""
    *rows, columns = (np.arange(length)[part] for length, part in zip(shape, parts, strict=True))
    begins: NDArray[np.intp] = np.zeros(1, np.intp)
    for length, places in zip(shape, rows, strict=False):
        begins = (begins[:, None] * length + places).ravel()
    first: NDArray[np.intp] = begins * shape[-1] + int(columns[:1].sum())
    return first


def pixels_within(mask: NDArray[np.bool_], parts: tuple[slice, ...]) -> NDArray[np.intp]:
    """Return the pixels of a mask that lie in a part of the image, as positions in the flat image, ascending."""
    shown = mask[parts]
    places = np.flatnonzero(shown)
    row = places // max(shown.shape[-1], 1)
    pixels: NDArray[np.intp] = row_begins(mask.shape, parts).take(row) + (places - row * shown.shape[-1])
    return pixels


class Points:
    """The embeddings of the pixels of an image or a volume, with their weighted positions where these count.

    Parameters
    ----------
    maps : Embeddings
    position_weight : float
        Positions, in columns, times this are further dimensions; 0 for none.
    """

    def __init__(self, maps: Embeddings, position_weight: float = 0.0) -> None:
        self._table = maps.embeddings.reshape(-1, maps.embeddings.shape[-1])
        self._shape = maps.foreground.shape
        self._weights = np.multiply(maps.steps, position_weight).astype(np.float32) if position_weight > 0 else None
        self.dimensions = self._table.shape[1] + (0 if self._weights is None else len(self._weights))
        self._gathered = np.empty((CHUNK, self._table.shape[1]), np.float32)
        self._extended = np.empty((CHUNK, self.dimensions), np.float32)

    def gather(self, pixels: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the points (P, D) of at most `CHUNK` pixels, given by their positions in the flat image.

        The array is a buffer: the next call fills it again.
        """
        gathered = self._gathered[: len(pixels)]
        # With a mode other than 'raise', NumPy fills the array without another one in between.
        np.take(self._table, pixels, axis=0, out=gathered, mode="clip")
        if self._weights is None:
            return gathered
        extended = self._extended[: len(pixels)]
        extended[:, : gathered.shape[1]] = gathered
        places = np.unravel_index(pixels, self._shape)
        for column, (place, weight) in enumerate(zip(places, self._weights, strict=True), gathered.shape[1]):
            extended[:, column] = place.astype(np.float32) * weight
        return extended

    def all_of(self, pixels: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the points (P, D) of any number of pixels, in an array of their own."""
        points = np.empty((len(pixels), self.dimensions), np.float32)
        for start, part in zip(range(0, len(pixels), CHUNK), chunks(pixels), strict=True):
            points[start : start + len(part)] = self.gather(part)
        return points


class GroupSums:
    """Sums of values over the pixels of each group, which come in raster order, so that groups come in runs.

    Runs are summed first, as there are far fewer of them than pixels.

    Parameters
    ----------
    columns : int
        K values for each pixel.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._buffers: dict[int, NDArray[np.float64]] = {}
        self._ones, self._order = np.ones(CHUNK), np.arange(CHUNK, dtype=np.int32)
        self._numbers: list[NDArray[np.integer]] = []
        self._sums: list[list[NDArray[np.float64]]] = []
        self._sizes: list[NDArray[np.integer]] = []

    def add(self, numbers: NDArray[np.integer], values: Sequence[NDArray[np.floating]]) -> None:
        """Take some more pixels.

        Parameters
        ----------
        numbers : (P,) integers
            The group of each, `CHUNK` at most; pixels of numbers below 0 belong to none.
        values : sequence of (P,) or (P, n) floats
            K columns in all.
        """
        from scipy.sparse import csr_array

        count = len(numbers)
        if not count:
            return
        begins = np.concatenate([[0], np.flatnonzero(numbers[1:] != numbers[:-1]) + 1, [count]]).astype(np.int32)
        runs = csr_array((self._ones[:count], self._order[:count], begins), shape=(len(begins) - 1, count))
        sums = []
        for place, some in enumerate(values):
            if some.ndim == 1:
                sums.append(np.add.reduceat(some, begins[:-1], dtype=np.float64)[:, None])
            else:
                if place not in self._buffers:
                    self._buffers[place] = np.empty((CHUNK, some.shape[1]))
                self._buffers[place][:count] = some
                sums.append(np.asarray(runs @ self._buffers[place][:count]))
        of_runs = numbers[begins[:-1]]
        counted = of_runs >= 0
        self._numbers.append(of_runs[counted])
        self._sums.append([values[counted] for values in sums])
        self._sizes.append(np.diff(begins)[counted])

    def finish(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the sums (count, K) of groups 0..count - 1, and how many pixels (count,) each has."""
        if not self._numbers:
            return np.zeros((count, self._columns)), np.zeros(count, np.int64)
        numbers = np.concatenate(self._numbers)
        size = np.bincount(numbers, np.concatenate(self._sizes), count).astype(np.int64)
        columns = [
            np.bincount(numbers, column, count)
            for parts in zip(*self._sums, strict=True)
            for column in np.concatenate(parts).T
        ]
        return np.stack(columns, axis=1), size


def reach(membership: float) -> np.float32:
    """Return the distance, in bandwidths, at which the membership 2^(-distance^2) of the loss falls to a value."""
    return np.float32(math.sqrt(-math.log2(membership)))
