"""Outlines of instances as polygons along the edges of their pixels.

Corners of pixels are whole numbers (x, y): the first pixel covers (0, 0) to (1, 1).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.labels.regions import connected_components

Ring = NDArray[np.int64]

# Steps (row, column) along the upper, right, lower and left edge of a pixel: clockwise, the pixel on the right hand.
_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
_STARTS = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])


class Polygon(NamedTuple):
    """A part of an instance whose pixels are connected over their edges.

    Attributes
    ----------
    label : int
        Of the instance.
    outer : (V, 2) int64
        Corners (x, y), clockwise on the screen, without the first one again at the end. No corner is there twice.
    holes : list of (V, 2) int64
        The same, counter-clockwise. Holes may touch each other, and the outer ring, at corners: so a polygon is valid
        as the Simple Features standard has it.
    """

    label: int
    outer: Ring
    holes: list[Ring]

    @property
    def rings(self) -> list[Ring]:
        """The outer ring, then the holes."""
        return [self.outer, *self.holes]


def polygons(labels: NDArray[np.integer]) -> list[Polygon]:
    """Trace the outlines of all instances.

    Painting the polygons gives the labels back exactly. Time is that of one
    pass over the pixels plus the length of all outlines.

    Parameters
    ----------
    labels : (H, W) integers
        0 is background.

    Returns
    -------
    list of Polygon
        Ascending by label; an instance has one for each of its parts that touch at corners only.

    Examples
    --------
    >>> (polygon,) = polygons(np.array([[0, 7, 7], [0, 7, 7]]))
    >>> polygon.label, polygon.outer.tolist()
    (7, [[1, 0], [3, 0], [3, 2], [1, 2]])
    """
    # A border of one background pixel, so that every pixel has four neighbours.
    parts = np.pad(connected_components(labels, connectivity=4), 1)
    edges = _edges(parts)
    owner = np.zeros(int(parts.max(initial=0)) + 1, labels.dtype)
    # The first edge of every part is the upper one of its first pixel.
    upper = edges.direction == 0
    owner[edges.part[upper]] = labels[edges.row[upper] - 1, edges.column[upper] - 1]
    rings: dict[int, tuple[list[Ring], list[Ring]]] = {}
    for part, ring, is_outer in _rings(edges, parts.shape[1]):
        outer, holes = rings.setdefault(part, ([], []))
        (outer if is_outer else holes).append(ring)
    traced = [Polygon(int(owner[part]), outer[0], holes) for part, (outer, holes) in rings.items()]
    return sorted(traced, key=lambda polygon: polygon.label)


class _Edges(NamedTuple):
    """Edges between a part and what is not of it: the part, the corner where it starts, and its direction 0..3."""

    part: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    direction: NDArray[np.int64]


def _edges(parts: NDArray[np.integer]) -> _Edges:
    own = parts[1:-1, 1:-1]
    above, below, left, right = parts[:-2, 1:-1], parts[2:, 1:-1], parts[1:-1, :-2], parts[1:-1, 2:]
    inside = own > 0
    collected = []
    for direction, neighbour in enumerate((above, right, below, left)):
        rows, columns = np.divmod(np.flatnonzero((own != neighbour) & inside), own.shape[1])
        start = _STARTS[direction] + 1
        part = own[rows, columns].astype(np.int64)
        collected.append((part, rows + start[0], columns + start[1], np.full(len(rows), direction)))
    return _Edges(*(np.concatenate(column) for column in zip(*collected, strict=True)))


def _rings(edges: _Edges, width: int) -> list[tuple[int, Ring, bool]]:
    """Follow the edges of each part: where it meets itself at a corner, the ring turns right, along the same pixel.

    Returns
    -------
    list of (int, Ring, bool)
        The part, the corners of a ring, and whether it goes round the part and not round a hole.
    """
    if len(edges.part) == 0:
        return []
    row_length = width + 1
    corners = (edges.part * (int(edges.row.max()) + 2) + edges.row) * row_length + edges.column
    following = _following(edges, corners, row_length)
    # Edges at whose beginning the ring turns, in the order of their beginnings: the others add no corner.
    turns = np.ones(len(corners), bool)
    turns[following] = edges.direction[following] != edges.direction
    ahead = np.flatnonzero(~turns[following])
    while len(ahead):
        following[ahead] = following[following[ahead]]
        ahead = ahead[~turns[following[ahead]]]
    chosen = np.flatnonzero(turns)
    chosen = chosen[np.argsort(corners[chosen], kind="stable")]
    number = np.empty(len(corners), np.int64)
    number[chosen] = np.arange(len(chosen))
    order, starts = _cycles(number[following[chosen]])
    # The border of one pixel is taken off again.
    points = np.stack([edges.column[chosen] - 1, edges.row[chosen] - 1], axis=1)[order]
    part = edges.part[chosen][order[starts]].tolist()
    ends = np.append(starts[1:], len(order))
    beyond = np.arange(1, len(order) + 1)
    beyond[ends - 1] = starts
    outer = np.add.reduceat(_crosses(points, points[beyond]), starts) > 0
    meets = np.zeros(len(chosen), bool)
    meets[1:] = corners[chosen[1:]] == corners[chosen[:-1]]
    divided = np.logical_or.reduceat(meets[order], starts)
    rings: list[tuple[int, Ring, bool]] = []
    bounds = zip(starts.tolist(), ends.tolist(), part, outer.tolist(), divided.tolist(), strict=True)
    for start, end, of_part, is_outer, is_divided in bounds:
        ring = points[start:end]
        if is_divided:
            loops = [np.array(loop) for loop in _loops(list(map(tuple, ring.tolist())))]
            rings += [(of_part, loop, _crosses(loop, np.roll(loop, -1, 0)).sum() > 0) for loop in loops]
        else:
            rings.append((of_part, ring, is_outer))
    return rings


def _following(edges: _Edges, corners: NDArray[np.int64], row_length: int) -> NDArray[np.int64]:
    """Return the edge that comes after each, by the numbers of the corners where edges begin."""
    keys = corners * 4 + edges.direction
    order = np.argsort(keys)
    ends = corners + _STEPS[edges.direction] @ np.array([row_length, 1])
    following = np.full(len(keys), -1)
    for turn in (1, 0, 3):
        left = np.flatnonzero(following < 0)
        wanted = ends[left] * 4 + (edges.direction[left] + turn) % 4
        candidate = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
        found = keys[candidate] == wanted
        following[left[found]] = candidate[found]
    return following


def _cycles(following: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return numbers 0..N-1 in the order in which they follow each other, and where in it each cycle begins.

    Cycles begin with the least of their numbers, and are in the order of these.
    """
    chain = following.tolist()
    visited = bytearray(len(chain))
    order: list[int] = []
    starts: list[int] = []
    for first in range(len(chain)):
        if not visited[first]:
            starts.append(len(order))
            at = first
            while not visited[at]:
                visited[at] = 1
                order.append(at)
                at = chain[at]
    return np.array(order, np.int64), np.array(starts, np.int64)


def _loops(ring: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Divide a ring that comes to a corner more than once into rings that do not.

    Of these one goes round all others or none does, as what they bound is connected over edges.
    """
    loops: list[list[tuple[int, int]]] = []
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for corner in ring:
        if (start := place.get(corner)) is not None:
            loops.append(path[start:])
            for passed in path[start:]:
                del place[passed]
            del path[start:]
        place[corner] = len(path)
        path.append(corner)
    return [*loops, path]


def _crosses(points: Ring, beyond: Ring) -> NDArray[np.int64]:
    """Return terms whose sum over a ring is twice its area: above 0 if it goes clockwise on the screen, y downwards."""
    crosses: NDArray[np.int64] = points[:, 0] * beyond[:, 1] - beyond[:, 0] * points[:, 1]
    return crosses
