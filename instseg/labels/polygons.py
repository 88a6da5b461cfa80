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
        Corners (x, y), clockwise on the screen, without the first one again at the end.
    holes : list of (V, 2) int64
        The same, counter-clockwise.
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
    padded = np.pad(labels, 1)
    parts = connected_components(padded, connectivity=4).astype(np.int64)
    edges = _edges(parts)
    owner = np.zeros(int(parts.max(initial=0)) + 1, labels.dtype)
    owner[parts.ravel()] = padded.ravel()
    rings: dict[int, tuple[list[Ring], list[Ring]]] = {}
    for part, ring in _rings(edges, parts.shape[1]):
        outer, holes = rings.setdefault(part, ([], []))
        (outer if _area(ring) > 0 else holes).append(ring)
    traced = [Polygon(int(owner[part]), outer[0], holes) for part, (outer, holes) in rings.items()]
    return sorted(traced, key=lambda polygon: polygon.label)


class _Edges(NamedTuple):
    """Edges between a part and what is not of it: the part, the corner where it starts, and its direction 0..3."""

    part: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    direction: NDArray[np.int64]


def _edges(parts: NDArray[np.int64]) -> _Edges:
    inside = parts > 0
    collected = []
    for direction, outwards in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
        # The border makes it safe to roll: nothing but background comes in from the other side.
        neighbour = np.roll(parts, (-outwards[0], -outwards[1]), (0, 1))
        rows, columns = np.nonzero(inside & (parts != neighbour))
        start = _STARTS[direction]
        collected.append((parts[rows, columns], rows + start[0], columns + start[1], np.full(len(rows), direction)))
    return _Edges(*(np.concatenate(column) for column in zip(*collected, strict=True)))


def _rings(edges: _Edges, width: int) -> list[tuple[int, Ring]]:
    """Follow the edges of each part: where it meets itself at a corner, the ring turns right, along the same pixel."""
    row_length = width + 1
    corners = (edges.part * (int(edges.row.max(initial=0)) + 2) + edges.row) * row_length + edges.column
    keys = corners * 4 + edges.direction
    order = np.argsort(keys)
    ends = corners + _STEPS[edges.direction] @ np.array([row_length, 1])
    following = np.full(len(keys), -1)
    if len(keys):
        for turn in (1, 0, 3):
            wanted = ends * 4 + (edges.direction + turn) % 4
            candidate = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
            following = np.where((following < 0) & (keys[candidate] == wanted), candidate, following)
    chain, direction = following.tolist(), edges.direction.tolist()
    rows, columns = edges.row.tolist(), edges.column.tolist()
    visited = bytearray(len(chain))
    rings = []
    for first in order.tolist():
        if visited[first]:
            continue
        ring, edge, before = [], first, -1
        while not visited[edge]:
            visited[edge] = 1
            if direction[edge] != before:
                # The border of one pixel is taken off again.
                ring.append((columns[edge] - 1, rows[edge] - 1))
            before, edge = direction[edge], chain[edge]
        if before == direction[first]:
            ring.pop(0)
        rings.append((int(edges.part[first]), np.array(ring)))
    return rings


def _area(ring: Ring) -> int:
    """Return twice the area, above 0 for clockwise on the screen, where y points down."""
    x, y = ring[:, 0], ring[:, 1]
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
