"""Images in tiles: where these lie, and which instances of neighbouring tiles are the same. No TensorFlow here."""

import math
from bisect import bisect_left, bisect_right
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

    @property
    def place(self) -> tuple[int, int]:
        """Row and column."""
        return self.row, self.column


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
        for row in range(len(self._rows)):
            for column in range(len(self._columns)):
                yield self.tile(row, column)

    def tile(self, row: int, column: int) -> Tile:
        """Return one tile."""
        (top, bottom), (left, right) = self._rows[row], self._columns[column]
        overlap = self.overlap
        whole = Box(top - overlap, left - overlap, bottom + overlap, right + overlap)
        return Tile(row, column, Box(top, left, bottom, right), whole.common(self.box))

    def neighbours(self, tile: Tile) -> dict[str, Tile]:
        """Return the tiles beside, above and below one by 'left', 'above', 'right' and 'below', where there are any."""
        places = {
            name: (tile.row + rows, tile.column + columns)
            for name, (rows, columns) in {"left": (0, -1), "above": (-1, 0), "right": (0, 1), "below": (1, 0)}.items()
        }
        return {name: self.tile(*place) for name, place in places.items() if self._has(*place)}

    def _has(self, row: int, column: int) -> bool:
        return 0 <= row < len(self._rows) and 0 <= column < len(self._columns)

    def covering(self, box: Box) -> Iterator[Tile]:
        """Return the tiles whose cores lie in a part of the image, row by row."""
        rows, columns = (
            range(bisect_right(parts, (begin, math.inf)) - 1, bisect_left(parts, (end, -math.inf)))
            for parts, begin, end in ((self._rows, box.top, box.bottom), (self._columns, box.left, box.right))
        )
        for row in rows:
            for column in columns:
                yield self.tile(row, column)

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


def face(one: Tile, other: Tile) -> Box:
    """Return the band along the seam of two tiles side by side, or one above the other, that both see."""
    common = one.whole.common(other.whole)
    if one.row == other.row:
        return common._replace(top=one.core.top, bottom=one.core.bottom)
    return common._replace(left=one.core.left, right=one.core.right)


def same_instances(before: NDArray[np.integer], after: NDArray[np.integer]) -> NDArray[np.int64]:
    """Tell which instances are largely the same in two views of a band.

    Parameters
    ----------
    before, after : (h, w) integers
        0 is background.

    Returns
    -------
    (N, 2) int64
        Labels in the one and the other; none occurs twice.
    """
    if before.size == 0:
        return np.zeros((0, 2), np.int64)
    table = overlap_table(before, after)
    same = table.iou > _SAME
    pairs = (table.truth_ids[table.truth_index[same]], table.predicted_ids[table.predicted_index[same]])
    return np.stack(pairs, axis=1).astype(np.int64)


def components(count: int, pairs: NDArray[np.int64]) -> tuple[int, NDArray[np.int32]]:
    """Join what pairs say is the same.

    Parameters
    ----------
    count : int
        Of parts, which are numbered from 0.
    pairs : (N, 2) int64

    Returns
    -------
    count : int
        Of wholes.
    whole : (parts,) int32
        The number of the whole that each part belongs to.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    links = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    found, whole = connected_components(links, directed=False)
    return int(found), whole


def require_countable(count: int) -> None:
    """See that instances can be numbered.

    Raises
    ------
    InstsegError
        If there are more than 2**31 - 1.
    """
    if count > _MOST_INSTANCES:
        raise InstsegError(f"there are more than {_MOST_INSTANCES:,} instances; cut the image into parts")


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
        # What tiles have seen of the bands that they share with tiles to come, by the places of both.
        self._seen: dict[tuple[tuple[int, int], tuple[int, int]], NDArray[np.int64]] = {}
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
        for name, other in self._grid.neighbours(tile).items():
            band = numbers[face(tile, other).within(tile.whole)]
            if name in ("left", "above"):
                self._pairs.append(same_instances(self._seen.pop((other.place, tile.place)), band))
            else:
                self._seen[tile.place, other.place] = band.copy()
        self.count += count
        require_countable(self.count)
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
        labels = np.zeros(self.count + 1, np.int32)
        if self.count == 0:
            return labels
        count, instance = components(self.count, np.concatenate([np.zeros((0, 2), np.int64), *self._pairs]) - 1)
        area = np.bincount(instance, np.concatenate(self._areas), count)
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, instance, np.concatenate(self._first))
        kept = np.flatnonzero(area >= max(min_size, 1))
        of_instances = np.zeros(count, np.int32)
        of_instances[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1, dtype=np.int32)
        labels[1:] = of_instances[instance]
        return labels
