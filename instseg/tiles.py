"""Images in tiles: where these lie, and which instances of neighbouring tiles are the same. No TensorFlow here."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.overlaps import overlap_table

# Instances of two tiles that share more than this of what either has of them in the band that both see are one. Above a
# half, nothing has two partners.
_SAME = 0.5
_MOST_INSTANCES = 2**31 - 1


class Box(NamedTuple):
    """A rectangle of pixels: rows top to bottom and columns left to right, the latter of both without."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, 0 where there is none."""
        return max(0, self.bottom - self.top), max(0, self.right - self.left)

    def common(self, other: "Box") -> "Box":
        """Return what lies in both; perhaps nothing."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def within(self, outer: "Box") -> tuple[slice, slice]:
        """Return where this box lies in an array that covers `outer`."""
        rows = slice(self.top - outer.top, self.bottom - outer.top)
        return rows, slice(self.left - outer.left, self.right - outer.left)


class Tile(NamedTuple):
    """A part of an image.

    Attributes
    ----------
    row, column : int
        Which one of the grid.
    core : Box
        What the tile's results are taken for; every pixel lies in one core.
    whole : Box
        What is looked at: the core and the overlap around it, up to the image's edge.
    """

    row: int
    column: int
    core: Box
    whole: Box


class Grid:
    """The tiles of an image, row by row; all but the last of each row and column have cores of one size.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    side : int
        Largest height and width of a tile with its overlap, in pixels.
    overlap : int
        Pixels that a tile sees beyond its core.
    multiple : int
        Of which the places of all tiles are multiples.

    Raises
    ------
    InstsegError
        If the overlap leaves nothing of such a tile.
    """

    def __init__(self, height: int, width: int, side: int, overlap: int, multiple: int = 1) -> None:
        self.overlap = multiple * math.ceil(overlap / multiple)
        self.shape = (height, width)
        self._rows = self._parts(height, side, multiple)
        self._columns = self._parts(width, side, multiple)

    def _parts(self, length: int, side: int, multiple: int) -> list[tuple[int, int]]:
        """Return where the cores along an axis begin and end, as equal as multiples allow."""
        if length <= side:
            return [(0, length)]
        most = (side - 2 * self.overlap) // multiple * multiple
        if most < multiple:
            least = 2 * self.overlap + multiple
            raise InstsegError(
                f"a tile of {side} pixels has nothing left beside an overlap of {self.overlap} on both sides, "
                f"expected at least {least}; make tiles larger or the overlap smaller"
            )
        core = multiple * math.ceil(length / math.ceil(length / most) / multiple)
        return [(begin, min(begin + core, length)) for begin in range(0, length, core)]

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def __iter__(self) -> Iterator[Tile]:
        height, width = self.shape
        for row, (top, bottom) in enumerate(self._rows):
            for column, (left, right) in enumerate(self._columns):
                whole = Box(
                    max(0, top - self.overlap),
                    max(0, left - self.overlap),
                    min(height, bottom + self.overlap),
                    min(width, right + self.overlap),
                )
                yield Tile(row, column, Box(top, left, bottom, right), whole)

    @property
    def box(self) -> Box:
        """The whole image."""
        return Box(0, 0, *self.shape)

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return len(self._columns)

    def pixels(self) -> int:
        """Return how many pixels are looked at, those of overlaps as often as they are."""
        return sum(math.prod(tile.whole.shape) for tile in self)


class _Seen(NamedTuple):
    """The numbers of a part of a tile."""

    box: Box
    numbers: NDArray[np.int64]


class Stitcher:
    """Joins the instances of tiles to those of the image.

    Each tile's instances get numbers of their own. Two tiles side by side both see the band along their seam: what is
    largely the same there is one instance. Memory is that of the bands along one row of tiles and of some numbers for
    each instance; time that of the bands' pixels.

    Parameters
    ----------
    grid : Grid
        Whose tiles will be added, in its order.

    Attributes
    ----------
    count : int
        Instances so far: those of the next tile are numbered from the one after it.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.count = 0
        self._left: _Seen | None = None
        # By column: what the tiles above have seen of the bands that they share with those below.
        self._above: dict[int, _Seen] = {}
        self._pairs: list[NDArray[np.int64]] = []
        self._areas: list[NDArray[np.int64]] = []
        self._first: list[NDArray[np.int64]] = []

    def add(self, tile: Tile, labels: NDArray[np.int32]) -> NDArray[np.int64]:
        """Take a tile's labels.

        Parameters
        ----------
        tile : Tile
            The next of the grid.
        labels : (h, w) int32
            Of the whole tile: 0 is background, instances 1..N.

        Returns
        -------
        (h, w) int64
            Of its core: 0, or the number of the instance among those of all tiles, which `finish` translates.

        Raises
        ------
        InstsegError
            If there are more than 2**31 - 1 instances in all.
        """
        count = int(labels.max(initial=0))
        numbers = labels.astype(np.int64)
        numbers[labels > 0] += self.count
        core = tile.core.within(tile.whole)
        self._measure(tile.core, labels[core], count)
        if tile.column > 0 and self._left is not None:
            self._join(self._left, tile, numbers)
        if tile.row > 0:
            self._join(self._above[tile.column], tile, numbers)
        overlap = self._grid.overlap
        right = tile.whole._replace(left=tile.core.right - overlap, top=tile.core.top, bottom=tile.core.bottom)
        below = tile.whole._replace(top=tile.core.bottom - overlap, left=tile.core.left, right=tile.core.right)
        # At the image's edge there is no band, and a core can be narrower than one.
        self._left, self._above[tile.column] = (
            _Seen(box, numbers[box.within(tile.whole)].copy())
            for box in (tile.whole.common(right), tile.whole.common(below))
        )
        self.count += count
        if self.count > _MOST_INSTANCES:
            raise InstsegError(f"there are more than {_MOST_INSTANCES:,} instances; cut the image into parts")
        return numbers[core]

    def _measure(self, box: Box, labels: NDArray[np.int32], count: int) -> None:
        flat = labels.ravel()
        self._areas.append(np.bincount(flat, minlength=count + 1)[1:])
        first = np.full(count + 1, np.iinfo(np.int64).max)
        # Of several values assigned to one place NumPy keeps the last: backwards, that is the first pixel.
        held = np.flatnonzero(flat)[::-1]
        first[flat[held]] = (
            (held // labels.shape[1] + box.top) * self._grid.shape[1] + held % labels.shape[1] + box.left
        )
        self._first.append(first[1:])

    def _join(self, before: _Seen, tile: Tile, numbers: NDArray[np.int64]) -> None:
        band = before.box.common(tile.whole)
        if 0 in band.shape:
            return
        table = overlap_table(before.numbers[band.within(before.box)], numbers[band.within(tile.whole)])
        same = table.iou > _SAME
        pairs = (table.truth_ids[table.truth_index[same]], table.predicted_ids[table.predicted_index[same]])
        self._pairs.append(np.stack(pairs, axis=1))

    def finish(self, min_size: int = 1) -> NDArray[np.int32]:
        """Return the label of each number that `add` gave.

        Parameters
        ----------
        min_size : int
            Instances of fewer pixels become background.

        Returns
        -------
        (numbers + 1,) int32
            0 for the background, and for what lies in no core; else 1..N, in raster order of the first pixel.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        labels = np.zeros(self.count + 1, np.int32)
        if self.count == 0:
            return labels
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *self._pairs]) - 1
        ones = np.ones(len(pairs), np.int8)
        links = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(self.count, self.count))
        count, instance = connected_components(links, directed=False)
        area = np.bincount(instance, np.concatenate(self._areas), count)
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, instance, np.concatenate(self._first))
        kept = np.flatnonzero(area >= max(min_size, 1))
        of_instances = np.zeros(count, np.int32)
        of_instances[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1, dtype=np.int32)
        labels[1:] = of_instances[instance]
        return labels
