"""Labels from top to bottom in bands: which objects there are, and the pixels of those that are complete.

A band is some rows of an image, or some planes of a volume: what follows each other along the first axis. An object is
measured once all of its pixels are there, so that bands change no number. Memory is that of a band and of
the objects that reach beyond its lower edge.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError
from instseg.measurements.borders import CONTEXT, border_pixels, padded_band

Strips = Callable[[int], Iterator[NDArray[np.integer]]]
"""Returns an image's labels from the top, as many rows (rows, W) at a time as it is told; the last may be fewer. Of a
volume these are planes (planes, Y, X)."""

# What objects that reach over the lower edge of a band may take.
_MAX_PENDING_BYTES = 4 * 2**30
# Labels up to this many times their number, or this, are found in a table.
_TABLE_FACTOR, _TABLE_LABELS = 4, 1 << 24
_LARGEST_LABEL = np.iinfo(np.int64).max


class Objects(NamedTuple):
    """The objects of an image of D axes.

    Attributes
    ----------
    labels : (N,) integers
        Ascending, above 0.
    area : (N,) int64
        In pixels, or voxels.
    bbox : (N, 2 D) int64
        First row and column (plane, row and column of a volume), and those after the last.
    """

    labels: NDArray[np.integer]
    area: NDArray[np.int64]
    bbox: NDArray[np.int64]

    @property
    def ndim(self) -> int:
        """Number of the axes."""
        return int(self.bbox.shape[1]) // 2

    def find(self, labels: NDArray[np.integer]) -> NDArray[np.intp]:
        """Return the numbers 0..N-1 of labels, each of which occurs."""
        largest = int(self.labels[-1])
        if largest > max(_TABLE_FACTOR * len(self.labels), _TABLE_LABELS):
            # Of other types both would become floats, and large numbers equal.
            return np.searchsorted(self.labels, labels.astype(self.labels.dtype, copy=False))
        table = np.zeros(largest + 1, np.intp)
        table[self.labels] = np.arange(len(self.labels))
        numbers: NDArray[np.intp] = table[labels]
        return numbers


class RowRuns(NamedTuple):
    """Runs of pixels of one object in a row: their object or label, first column, that after the last, and row.

    The places are the row, or the plane and the row, one array each.
    """

    objects: NDArray[np.intp]
    begin: NDArray[np.intp]
    end: NDArray[np.intp]
    places: tuple[NDArray[np.intp], ...]


class CompleteObjects(NamedTuple):
    """Some objects of which all pixels have been seen.

    Attributes
    ----------
    numbers : (M,) integers
        Of the objects, ascending.
    runs : RowRuns
        All of theirs, with numbers 0..M-1 as objects.
    kinds : (M, 3) int64
        Border pixels of each kind, for `instseg.measurements.borders.perimeters`; 0 in volumes.
    euler : (M,) int64
        0 in volumes.
    pixels : (P,) integers
        The number 0..M-1 of the object of each pixel, in any order; none without an image.
    values : (P, C) numbers
        The image there.
    """

    numbers: NDArray[np.intp]
    runs: RowRuns
    kinds: NDArray[np.int64]
    euler: NDArray[np.int64]
    pixels: NDArray[np.intp]
    values: NDArray[Any]


def find_objects(strips: Iterator[NDArray[np.integer]], ndim: int = 2) -> Objects:
    """Return the objects of an image of `ndim` axes whose labels come strip by strip.

    Raises
    ------
    UsageError
        If labels are negative, or more than int64 holds.
    """
    nothing = np.zeros(0, np.int64)
    found: list[tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64]]]
    found = [(nothing, nothing, np.zeros((0, 2 * ndim), np.int64))]
    top = 0
    for strip in strips:
        if strip.dtype.kind == "i" and strip.min(initial=0) < 0:
            raise UsageError(f"labels hold the negative value {strip.min()}, expected 0 for background and 1..N")
        if strip.dtype == np.uint64 and strip.max(initial=0) > _LARGEST_LABEL:
            raise UsageError(f"labels hold the value {strip.max()}, expected at most {_LARGEST_LABEL}")
        runs = _row_runs(strip, top)
        if len(runs.objects):
            found.append(_merged(runs.objects, runs.end - runs.begin, _boxes(runs)))
        top += len(strip)
    labels, area, bbox = (np.concatenate([part[index] for part in found]) for index in range(3))
    return Objects(*_merged(labels, area, bbox))


def check_memory(objects: Objects, height: int, pixel_bytes: int) -> None:
    """Check that the objects that reach over any row of an image of some height fit into memory; planes of a volume.

    Raises
    ------
    InstsegError
        If they do not.
    """
    # How many pixels objects have that begin in each row, less those of objects that ended before.
    change = np.zeros(height + 1)
    np.add.at(change, objects.bbox[:, 0], objects.area)
    np.subtract.at(change, objects.bbox[:, objects.ndim], objects.area)
    held = np.cumsum(change)
    row = int(held.argmax())
    if (size := held[row] * pixel_bytes) > _MAX_PENDING_BYTES:
        name = "row" if objects.ndim == 2 else "plane"
        raise InstsegError(
            f"the objects that reach over {name} {row} would take {size / 2**30:.1f} GiB at once, expected at most "
            f"{_MAX_PENDING_BYTES / 2**30:.0f} GiB; leave the largest out, or cut the image into parts"
        )


def _boxes(runs: RowRuns) -> NDArray[np.int64]:
    ends = [place + 1 for place in runs.places]
    return np.stack([*runs.places, runs.begin, *ends, runs.end], axis=1)


def _merged(
    labels: NDArray[np.integer], area: NDArray[np.int64], bbox: NDArray[np.int64]
) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels that occur, ascending, with the sums of areas and the boxes around boxes."""
    order = np.argsort(labels, kind="stable")
    labels = labels[order]
    begin = np.flatnonzero(np.diff(labels, prepend=-1))
    if not len(begin):
        return labels, area, bbox
    bbox = bbox[order]
    ndim = bbox.shape[1] // 2
    first, last = np.minimum.reduceat(bbox[:, :ndim], begin), np.maximum.reduceat(bbox[:, ndim:], begin)
    return labels[begin], np.add.reduceat(area[order], begin), np.concatenate([first, last], axis=1)


def _row_runs(labels: NDArray[np.integer], top: int) -> RowRuns:
    """Return the runs of equal labels above 0 in each row, in raster order."""
    starts = np.ones(labels.shape, bool)
    np.not_equal(labels[..., 1:], labels[..., :-1], out=starts[..., 1:])
    first = np.flatnonzero(starts)
    values = labels.ravel()[first]
    lengths = np.diff(first, append=labels.size)[values != 0]
    first, values = first[values != 0], values[values != 0]
    place, begin = np.divmod(first, max(labels.shape[-1], 1))
    places = np.divmod(place, max(labels.shape[1], 1)) if labels.ndim == 3 else (place,)
    return RowRuns(values.astype(np.int64), begin, begin + lengths, (places[0] + top, *places[1:]))


class Sweep:
    """Goes over the labels of an image, and yields objects as soon as they are complete.

    Parameters
    ----------
    objects : Objects
        What `find_objects` returned for the same labels.
    strips : iterator of (h, W) or (h, Y, X) integers
    read : callable or None
        Takes the first row (plane) of a band and that after its last one, and returns the image there, (h, W, C) or
        (h, Y, X, C).
    """

    def __init__(
        self,
        objects: Objects,
        strips: Iterator[NDArray[np.integer]],
        read: Callable[[int, int], NDArray[Any]] | None,
    ) -> None:
        self._objects, self._strips, self._read = objects, strips, read
        self._bottom = objects.bbox[:, objects.ndim]
        self._kinds = np.zeros((4, len(objects.labels)), np.int64)
        self._euler = np.zeros(len(objects.labels), np.int64)
        self._runs = _Pending(self._bottom)
        self._pixels = _Pending(self._bottom)

    def __iter__(self) -> Iterator[CompleteObjects]:
        """Yield the objects that end in each band; those of which nothing is left."""
        if not len(self._objects.labels):
            return
        before = bottom = 0
        for top, band, padded in _bands(self._strips):
            bottom = top + len(band)
            self._add(top, band, padded)
            complete = np.flatnonzero((self._bottom > before) & (self._bottom <= bottom))
            if len(complete):
                yield self._take(complete, bottom)
            before = bottom

    def _add(self, top: int, band: NDArray[np.integer], padded: NDArray[np.integer] | None) -> None:
        runs = _row_runs(band, top)
        if not len(runs.objects):
            return
        runs = runs._replace(objects=self._objects.find(runs.objects))
        self._runs.add((runs.objects, runs.begin, runs.end, *runs.places))
        if padded is not None:
            labels, kinds, euler = border_pixels(padded)
            numbers = self._objects.find(labels)
            for kind in (1, 2, 3):
                np.add.at(self._kinds[kind], numbers[kinds == kind], 1)
            np.add.at(self._euler, numbers[euler != 0], euler[euler != 0])
        if self._read is not None:
            values = self._read(top, top + len(band))
            pixels = np.repeat(runs.objects.astype(np.int32), runs.end - runs.begin)
            self._pixels.add((pixels, values[band != 0]))

    def _take(self, complete: NDArray[np.intp], bottom: int) -> CompleteObjects:
        number_of = np.full(len(self._bottom), -1, np.intp)
        number_of[complete] = np.arange(len(complete))
        objects, begin, end, *places = self._runs.take(bottom)
        runs = RowRuns(number_of[objects], begin, end, tuple(places))
        pixels, values = (
            self._pixels.take(bottom) if self._read is not None else (np.zeros(0, np.int32), np.zeros((0, 0)))
        )
        return CompleteObjects(
            complete, runs, self._kinds[1:, complete].T, self._euler[complete], number_of[pixels], values
        )


class _Pending:
    """Arrays of equal lengths, the first of which names objects, in the parts in which they came.

    Parameters
    ----------
    bottom : (N,) int64
        The row from which on nothing more of an object comes.
    """

    def __init__(self, bottom: NDArray[np.int64]) -> None:
        self._bottom = bottom
        self._parts: list[tuple[NDArray[Any], ...]] = []

    def add(self, part: tuple[NDArray[Any], ...]) -> None:
        """Take some more."""
        self._parts.append(tuple(part))

    def take(self, row: int) -> list[NDArray[Any]]:
        """Return, and forget, what belongs to the objects that end above a row."""
        taken, left = [], []
        for part in self._parts:
            ends = self._bottom[part[0]] <= row
            if ends.all():
                taken.append(part)
            elif not ends.any():
                left.append(part)
            else:
                taken.append(tuple(array[ends] for array in part))
                left.append(tuple(array[~ends] for array in part))
        self._parts = left
        return [np.concatenate(arrays) for arrays in zip(*taken, strict=True)]


def _bands(
    strips: Iterator[NDArray[np.integer]],
) -> Iterator[tuple[int, NDArray[np.integer], NDArray[np.integer] | None]]:
    """Yield the first row of each strip, the strip, and, in images, the strip with its context around it."""
    top = 0
    above: NDArray[np.integer] | None = None
    for band, below in itertools.pairwise(itertools.chain(strips, [None])):
        if band is None:
            break
        if above is None:
            above = band[:0]
        following = band[:0] if below is None else below[:CONTEXT]
        yield top, band, padded_band(above, band, following) if band.ndim == 2 else None
        above = np.concatenate([above, band[-CONTEXT:]])[-CONTEXT:]
        top += len(band)
