"""Boxes of pixels, and the grid of overlapping tiles that an image or a volume is cut into."""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from instseg.errors import InstsegError

TileIndex = tuple[int, ...]
"""The place of a tile in its grid along each axis: row and column in an image."""

Side = tuple[int, int]
"""One of the sides of a tile: the axis that it is at right angles to, and -1 for the first side or 1 for the last."""


class Box(tuple[int, ...]):
    """A box of pixels: its first corner, then the corner after its last pixel.

    In an image these are four numbers: first row, first column, and the row and the column after the last. In a volume
    they are six, planes first.

    Parameters
    ----------
    *corners : int
        2n numbers for n axes.

    Examples
    --------
    >>> box = Box(2, 3, 12, 23)
    >>> box.begin, box.end, box.shape
    ((2, 3), (12, 23), (10, 20))
    >>> box
    Box(top=2, left=3, bottom=12, right=23)
    """

    __slots__ = ()

    def __new__(cls, *corners: int) -> Self:
        """Make a box of its two corners."""
        return super().__new__(cls, corners)

    def __getnewargs__(self) -> tuple[int, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        if self.ndim != 2:
            return f"Box{self[:]}"
        return f"Box(top={self.top}, left={self.left}, bottom={self.bottom}, right={self.right})"

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Self:
        """Return the box of all pixels of an array with these axes."""
        return cls(*(0 for _ in shape), *shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self) // 2

    @property
    def begin(self) -> tuple[int, ...]:
        """The first corner."""
        return self[: len(self) // 2]

    @property
    def end(self) -> tuple[int, ...]:
        """The corner after the last pixel."""
        return self[len(self) // 2 :]

    @property
    def top(self) -> int:
        """The first row; rows are the last axis but one."""
        return self[len(self) // 2 - 2]

    @property
    def left(self) -> int:
        """The first column; columns are the last axis."""
        return self[len(self) // 2 - 1]

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self[-2]

    @property
    def right(self) -> int:
        """The column after the last."""
        return self[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The length along each axis, such as height and width; 0 where there is none."""
        return tuple(max(0, end - begin) for begin, end in zip(self.begin, self.end, strict=True))

    def intersection(self, other: "Box") -> "Box":
        """Return what lies in both; perhaps nothing."""
        return Box(*map(max, self.begin, other.begin), *map(min, self.end, other.end))

    def slices_in(self, outer: "Box") -> tuple[slice, ...]:
        """Return where this box lies in an array that covers `outer`."""
        return tuple(
            slice(begin - offset, end - offset)
            for begin, end, offset in zip(self.begin, self.end, outer.begin, strict=True)
        )

    def translated(self, offset: Sequence[int]) -> "Box":
        """Return the box moved by so many pixels along each axis."""
        return Box(*(place + by for place, by in zip(self, (*offset, *offset), strict=True)))

    def with_bounds(self, axis: int, begin: int, end: int) -> "Box":
        """Return the box with other bounds along one axis."""
        corners = list(self)
        corners[axis], corners[axis + self.ndim] = begin, end
        return Box(*corners)


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image or of a volume.

    Attributes
    ----------
    index : TileIndex
        Its place in the grid.
    core : Box
        What the tile's results are taken for; every pixel lies in one core.
    extent : Box
        What the network sees: the core and the overlap around it, up to the edges.
    """

    index: TileIndex
    core: Box
    extent: Box


class Grid:
    """The tiles of an image or a volume, in raster order; along an axis all cores but the last are of one length.

    Parameters
    ----------
    shape : sequence of int
        Of the image or the volume, in pixels.
    side : int or sequence of int
        Largest length of a tile with its overlap, in pixels; one for all axes or one for each, as the others.
    overlap : int or sequence of int
        Pixels that a tile sees beyond its core.
    multiple : int or sequence of int
        All tiles begin at multiples of it.

    Attributes
    ----------
    shape, side : tuple of int
    overlap : tuple of int
        As given or larger, a multiple along each axis.

    Raises
    ------
    InstsegError
        If the overlap leaves nothing of such a tile.
    """

    def __init__(
        self,
        shape: Sequence[int],
        side: int | Sequence[int],
        overlap: int | Sequence[int],
        multiple: int | Sequence[int] = 1,
    ) -> None:
        self.shape = tuple(int(length) for length in shape)
        multiples = self._for_each_axis(multiple)
        self.overlap = tuple(
            step * math.ceil(one / step) for one, step in zip(self._for_each_axis(overlap), multiples, strict=True)
        )
        self.side = self._for_each_axis(side)
        axes = zip(self.shape, self.side, self.overlap, multiples, strict=True)
        self._parts = [_parts_along(*axis) for axis in axes]

    def _for_each_axis(self, value: int | Sequence[int]) -> tuple[int, ...]:
        return (value,) * len(self.shape) if isinstance(value, int) else tuple(value)

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Tile]:
        return self._tiles_at(*(range(count) for count in self.counts))

    def _tiles_at(self, *places: range) -> Iterator[Tile]:
        for index in itertools.product(*places):
            yield self.tile(*index)

    def tile(self, *index: int) -> Tile:
        """Return one tile by its index, such as row and column."""
        bounds = [parts[place] for parts, place in zip(self._parts, index, strict=True)]
        core = Box(*(begin for begin, _ in bounds), *(end for _, end in bounds))
        wider = [place - by for place, by in zip(core.begin, self.overlap, strict=True)]
        wider += [place + by for place, by in zip(core.end, self.overlap, strict=True)]
        return Tile(index, core, Box(*wider).intersection(self.box))

    def neighbours(self, tile: Tile) -> dict[Side, Tile]:
        """Return the tiles that share a side with one, by side; those before it in raster order are at sides of -1."""
        found = {}
        for axis, place in enumerate(tile.index):
            for step in (-1, 1):
                if 0 <= place + step < len(self._parts[axis]):
                    index = (*tile.index[:axis], place + step, *tile.index[axis + 1 :])
                    found[axis, step] = self.tile(*index)
        return found

    def tiles_in(self, box: Box) -> Iterator[Tile]:
        """Return the tiles whose cores lie in a part of the image or the volume, in raster order."""
        bounds = zip(self._parts, box.begin, box.end, strict=True)
        return self._tiles_at(
            *(
                range(bisect_right(parts, (begin, math.inf)) - 1, bisect_left(parts, (end, -math.inf)))
                for parts, begin, end in bounds
            )
        )

    @property
    def box(self) -> Box:
        """The whole image or volume."""
        return Box.whole(self.shape)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along each axis."""
        return tuple(len(parts) for parts in self._parts)

    def pixels(self) -> int:
        """Return how many pixels the network sees, those of overlaps as often as they are seen."""
        return sum(math.prod(tile.extent.shape) for tile in self)


def _parts_along(length: int, side: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Return where the cores along an axis begin and end, as equal as multiples allow."""
    if length <= side:
        return [(0, length)]
    most = (side - 2 * overlap) // multiple * multiple
    if most < multiple:
        least = 2 * overlap + multiple
        raise InstsegError(
            f"a tile of {side} pixels has nothing left beside an overlap of {overlap} on both sides, "
            f"expected at least {least}; make tiles larger or the overlap smaller"
        )
    core = multiple * math.ceil(length / math.ceil(length / most) / multiple)
    return [(begin, min(begin + core, length)) for begin in range(0, length, core)]


def shared_band(one: Tile, other: Tile) -> Box:
    """Return the band along the seam of two tiles that share a side, which both see."""
    common = one.extent.intersection(other.extent)
    for axis, (place, beside) in enumerate(zip(one.index, other.index, strict=True)):
        if place == beside:
            common = common.with_bounds(axis, one.core.begin[axis], one.core.end[axis])
    return common
