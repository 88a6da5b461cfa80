"""Outlines of labels as paths of SVG: as fine as a picture shows them, and within a number of characters."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.labels.polygons import polygons

# Edges of pixels from one point of an outline to the next, in the labels that are traced; the second is for outlines
# that would take more room than there is.
_STEPS = (3, 6)
# Points that a small outline has at least.
_FEWEST_POINTS = 10
# Numbers of an object in a table take about as many characters.
_ROW_CHARACTERS = 48


class Outlines(NamedTuple):
    """Outlines of an image.

    Attributes
    ----------
    paths : dict of int to str
        The `d` of a path by label, ascending, in halves of pixels of the labels.
    left_out : int
        Labels that there was no room for, the smallest ones.
    """

    paths: dict[int, str]
    left_out: int


def outline_paths(labels: NDArray[np.integer], max_characters: int) -> Outlines:
    """Trace labels as paths.

    Points are middles of pixels' edges, so that outlines are smooth where the edges of pixels are stairs.

    Parameters
    ----------
    labels : (h, w) integers
        0 is background.
    max_characters : int
        That all paths may have, with the numbers of their objects; outlines become coarser first, then the smallest are
        left out.

    Returns
    -------
    Outlines

    Examples
    --------
    >>> outline_paths(np.array([[0, 7, 7], [0, 7, 7]]), 1000).paths
    {7: 'M3 0l2 0 1 1 0 2-1 1-2 0-1-1 0-2z'}
    """
    traced = polygons(labels)
    rings = [ring for polygon in traced for ring in polygon.rings]
    if not rings:
        return Outlines({}, 0)
    owners = [polygon.label for polygon in traced for _ in polygon.rings]
    paths: dict[int, str] = {}
    for step in _STEPS:
        paths = {}
        for label, path in zip(owners, _paths(rings, step), strict=True):
            paths[label] = paths.get(label, "") + path
        if sum(map(len, paths.values())) + _ROW_CHARACTERS * len(paths) <= max_characters:
            return Outlines(paths, 0)
    longest = sorted(paths, key=lambda label: -len(paths[label]))
    room = np.cumsum([len(paths[label]) + _ROW_CHARACTERS for label in longest])
    kept = set(longest[: int(np.searchsorted(room, max_characters, side="right"))])
    return Outlines({label: path for label, path in paths.items() if label in kept}, len(paths) - len(kept))


def _paths(rings: list[NDArray[np.int64]], step: int) -> list[str]:
    """Return a closed path for each ring of corners, all at once but for the texts."""
    corners = np.concatenate(rings)
    sizes = np.array([len(ring) for ring in rings])
    ends = np.cumsum(sizes)
    following = np.arange(1, len(corners) + 1)
    following[ends - 1] = ends - sizes
    way = corners[following] - corners
    lengths = np.abs(way).sum(axis=1)
    # The edges of a side, each by its middle in halves of pixels.
    sides = np.repeat(np.arange(len(corners)), lengths)
    before = np.cumsum(lengths) - lengths
    along = 2 * (np.arange(len(sides)) - before[sides]) + 1
    middles = 2 * corners[sides] + np.sign(way)[sides] * along[:, None]
    around = np.add.reduceat(lengths, ends - sizes)
    counts = np.maximum(around // step, np.minimum(around, _FEWEST_POINTS))
    firsts = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(rings)), counts)
    place = (np.arange(len(owner)) - firsts[owner]) * around[owner] // counts[owner]
    points = middles[before[ends - sizes][owner] + place]
    steps = np.diff(points, axis=0, prepend=points[:1]).tolist()
    starts = points[firsts].tolist()
    texts = []
    for (x, y), first, count in zip(starts, firsts.tolist(), counts.tolist(), strict=True):
        moves = " ".join([f"{dx} {dy}" for dx, dy in steps[first + 1 : first + count]])
        texts.append(f"M{x} {y}l{moves}z".replace(" -", "-"))
    return texts
