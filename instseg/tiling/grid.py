"""Boxes of pixels, and the grid of overlapping tiles that an image is cut into."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from instseg.errors import InstsegError

TileIndex = tuple[int, int]
"""Row and column of a tile in its grid."""


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

    def intersection(self, other: "Box") -> "Box":
        """Return what lies in both; perhaps nothing."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def slices_in(self, outer: "Box") -> tuple[slice, slice]:
        """Return where this box lies in an array that covers `outer`."""
        rows = slice(self.top - outer.top, self.bottom - outer.top)
        return rows, slice(self.left - outer.left, self.right - outer.left)


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image.

    Attributes
    ----------
    row, column : int
        Its index in the grid.
    core : Box
        What the tile's results are taken for; every pixel lies in one core.
    extent : Box
        What the network sees: the core and the overlap around it, up to the image's edge.
    """

    row: int
    column: int
    core: Box
    extent: Box

    @property
    def index(self) -> TileIndex:
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
        All tiles begin at multiples of it.

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
        return Tile(row, column, Box(top, left, bottom, right), whole.intersection(self.box))

    def neighbours(self, tile: Tile) -> dict[str, Tile]:
        """Return the tiles beside, above and below one by 'left', 'above', 'right' and 'below', where there are any."""
        indices = {
            name: (tile.row + rows, tile.column + columns)
            for name, (rows, columns) in {"left": (0, -1), "above": (-1, 0), "right": (0, 1), "below": (1, 0)}.items()
        }
        return {name: self.tile(*index) for name, index in indices.items() if self._has(*index)}

    def _has(self, row: int, column: int) -> bool:
        return 0 <= row < len(self._rows) and 0 <= column < len(self._columns)

    def tiles_in(self, box: Box) -> Iterator[Tile]:
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
        """Return how many pixels the network sees, those of overlaps as often as they are seen."""
        return sum(math.prod(tile.extent.shape) for tile in self)


def shared_band(one: Tile, other: Tile) -> Box:
    """Return the band along the seam of two tiles side by side, or one above the other, that both see."""
    common = one.extent.intersection(other.extent)
    if one.row == other.row:
        return common._replace(top=one.core.top, bottom=one.core.bottom)
    return common._replace(left=one.core.left, right=one.core.right)
