"""Points to modes: each foreground pixel to the instance that it is the most a member of.

A search among all modes costs several hundred nanoseconds a point. Most of the points need none: a pixel beside it has
a mode already, and within some distance of a mode no other one can be better. Only where none of the neighbours' modes
is certain by that bound, a tree is searched, so that the result is that of searching for every point.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.points import CHUNK, GroupSums, Points, chunks, reach, row_begins

if TYPE_CHECKING:
    from scipy.spatial import KDTree

NOISE = -1
"""The cluster of points that belong to none."""

# A point is compared with so many modes: its own is the nearest one, except for large modes beside small ones.
_NEIGHBOURS = 4
# So many points are searched for at once: each tree holds the modes near them only.
_SEARCHED = 2**14
# Pixels of a grid of the first step are searched for, those of each other grid begin with the modes of the one before.
_STEPS = (8, 4, 1)
# So many centres lie in a cell, where they are spread evenly.
_IN_CELL = 256
# Distances that differ by less are compared by the search, in double precision: so much for each dimension.
_MARGIN = 1e-6
# Squares of distances below this have lost digits.
_LEAST_SQUARE = 1e-30
_HALF = 0.5

Bandwidth = Callable[[NDArray[np.intp]], NDArray[np.float32]]
"""Takes pixels (P,), positions in the flat image, and returns the bandwidth of each."""


class Modes(NamedTuple):
    """The modes of embeddings: centres of instances in embedding space.

    Attributes
    ----------
    centres : (N, D) float32
        Embeddings of the centres.
    bandwidth : (N,) float32
        Distance from the centre at which membership is one half.
    """

    centres: NDArray[np.float32]
    bandwidth: NDArray[np.float32]

    def taken(self, which: NDArray[np.intp]) -> "Modes":
        """Return some of them, by their indices."""
        return Modes(self.centres[which], self.bandwidth[which])


class Search:
    """Searches for the modes of points among all modes.

    Parameters
    ----------
    modes : Modes
    least : float
        A mode of less membership is not found.
    """

    def __init__(self, modes: Modes, least: float) -> None:
        # No point beyond the largest reach is a member, and most of the speed comes from not searching there.
        self._bound = float(reach(least)) * float(modes.bandwidth.max()) * (1 + 1e-6)
        self._order = np.argsort(modes.centres[:, 0])
        self._modes = modes.taken(self._order)

    def __call__(self, points: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return the mode of each point (P,) with the highest membership.

        Parameters
        ----------
        points : (P, D) float32
            Some thousands; the fewer modes are near them, the faster.
        threshold : float
            Of at least `least`.

        Returns
        -------
        index : (P,) int32
            The mode, or `NOISE` where none is found.
        is_member : (P,) bool
            Whether the membership in it is at least the threshold.
        """
        from scipy.spatial import KDTree

        # NumPy is much slower along the first of two axes when the second is short.
        columns = np.ascontiguousarray(points.T)
        near = _around(self._modes.centres, columns.min(axis=1) - self._bound, columns.max(axis=1) + self._bound)
        if not len(near):
            return np.full(len(points), NOISE, np.int32), np.zeros(len(points), bool)
        # Points of a few rows of the image have few modes near, so that the depth of the tree does not depend on the
        # height of the image.
        tree = KDTree(self._modes.centres[near])
        # With a list of neighbours it returns (P, k), even for a single one.
        neighbours = range(1, min(_NEIGHBOURS, len(near)) + 1)
        distance, index = tree.query(points, k=neighbours, distance_upper_bound=self._bound)
        # Missing neighbours have an infinite distance and the index N.
        scaled = distance / np.append(self._modes.bandwidth[near], np.float32(1))[index]
        best = np.argmin(scaled, axis=1)[:, None]
        nearest = np.take_along_axis(scaled, best, 1)[:, 0]
        label = np.take_along_axis(np.append(self._order[near], NOISE)[index], best, 1)[:, 0]
        return label.astype(np.int32), nearest <= reach(threshold)


def _around(centres: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return which centres (N, D), sorted by their first coordinate, lie within two bounds (D,)."""
    first = int(np.searchsorted(centres[:, 0], low[0], "left"))
    last = int(np.searchsorted(centres[:, 0], high[0], "right"))
    span = centres[first:last]
    return first + np.flatnonzero(((span >= low) & (span <= high)).all(axis=1))


class _Check:
    """Says of points and guesses of their modes which guesses are certain. Modes are numbered from 1; 0 is no guess.

    Parameters
    ----------
    modes : Modes
    threshold : float
        Membership from which on a point is a member of its mode.
    """

    def __init__(self, modes: Modes, threshold: float) -> None:
        count, dimensions = modes.centres.shape
        margin = _MARGIN * (dimensions + 16)
        self._centres = np.zeros((count + 1, dimensions), np.float32)
        self._centres[1:] = modes.centres
        self._certain = np.full(count + 1, -1, np.float32)
        squares = np.square(_certain_radii(modes)) * (1 - margin)
        self._certain[1:] = np.where(squares > _LEAST_SQUARE, np.minimum(squares, np.finfo(np.float32).max), -1)
        member = np.square(modes.bandwidth * np.float64(reach(threshold)))
        # Between these the search decides whether a point is a member.
        self._inside, self._outside = np.zeros((2, count + 1), np.float32)
        self._inside[1:], self._outside[1:] = member * (1 - margin), member * (1 + margin)
        self._buffer = np.empty((CHUNK, dimensions), np.float32)

    def __call__(
        self, points: NDArray[np.float32], guess: NDArray[np.int32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which points (P,) are members of the modes guessed, and of which guesses that is certain.

        Where it is certain, no other mode is better.
        """
        apart = self._buffer[: len(points)]
        np.take(self._centres, guess, axis=0, out=apart, mode="clip")
        np.subtract(points, apart, out=apart)
        squared = np.einsum("ij,ij->i", apart, apart)
        is_member = squared <= self._inside.take(guess)
        certain = squared < self._certain.take(guess)
        certain &= is_member | (squared >= self._outside.take(guess))
        return is_member, certain


def _certain_radii(modes: Modes) -> NDArray[np.float64]:
    """Return how close to each mode (N,) a point has to be for the search to find this mode, whatever else there is.

    With a mode of bandwidth b and any other at a distance d, of bandwidth c, a point at a distance x from the one is at
    least d - x from the other, and so more of a member of the one if x < d b / (b + c). The search compares the nearest
    `_NEIGHBOURS` modes; the one is among them where so many others cannot be as near.
    """
    from scipy.spatial import KDTree

    count = len(modes.centres)
    if count == 1:
        return np.full(1, np.inf)
    order = _cell_order(modes.centres)
    centres, bandwidth = modes.centres[order], modes.bandwidth[order].astype(np.float64)
    tree = KDTree(centres, balanced_tree=False)
    radii = np.empty(count)
    for part in chunks(np.arange(count)):
        radii[order[part]] = _certain_radii_of(part, tree, centres, bandwidth)
    return radii


def _certain_radii_of(
    some: NDArray[np.intp], tree: "KDTree", centres: NDArray[np.float32], bandwidth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the radii of some modes, of all that are in a tree."""
    known = min(len(centres), _NEIGHBOURS + 2)
    distance, index = (np.asarray(found) for found in tree.query(centres[some], k=range(1, known + 1)))
    own = bandwidth[some]
    distance[index == some[:, None]] = np.inf
    of_each: NDArray[np.float64] = (distance * own[:, None] / (own[:, None] + bandwidth[index])).min(axis=1)
    distance.sort(axis=1)
    if len(centres) > known:
        # Of those farther away, nothing but that is known.
        of_each = np.minimum(of_each, distance[:, known - 2] * own / (own + bandwidth.max()))
    if known > _NEIGHBOURS:
        of_each = np.minimum(of_each, distance[:, _NEIGHBOURS - 1] / 2)
    return of_each


def _cell_order(centres: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return an order of centres (N, D) in which those near each other mostly lie close, also in memory.

    They are put into cells along the first two dimensions, of some hundred each where they are spread evenly.
    """
    across = max(1, round(math.sqrt(len(centres) / _IN_CELL)))
    low, extent = centres.min(axis=0), np.ptp(centres, axis=0)
    cells = ((centres - low) / np.maximum(extent, np.finfo(np.float32).tiny) * across)[:, :2].astype(np.int32)
    order: NDArray[np.intp] = np.lexsort(cells.T[::-1])
    return order


def assign_pixels(
    points: Points, foreground: NDArray[np.bool_], pixels: NDArray[np.intp], modes: Modes, least: float
) -> NDArray[np.int32]:
    """Assign each pixel of the foreground to its mode.

    Parameters
    ----------
    points : Points
    foreground : (H, W) or (Z, Y, X) bool
    pixels : (P,) intp
        Those of the foreground, as positions in the flat image.
    modes : Modes
    least : float
        The membership below which modes need not be found, one half at most.

    Returns
    -------
    int32 of the foreground's shape
        1 + the mode with the highest membership; with a minus sign where that is below one half, and 0 in the
        background and where there is no mode.
    """
    check, search = _Check(modes, _HALF), Search(modes, least)
    coarser: _Grid | None = None
    for step in _STEPS:
        grid = _Grid(foreground, step, pixels if step == 1 else None)
        left = grid.places
        if coarser is not None:
            ratio = coarser.step // step
            left = _joined(_settle(points, check, grid, coarser, part, ratio) for part in chunks(left))
        for part in chunks(left, _SEARCHED):
            index, is_member = search(points.all_of(grid.pixels(part)), _HALF)
            grid.found[part] = np.where(is_member, index + 1, -(index + 1))
        coarser = grid
    return grid.found.reshape(foreground.shape)


def _joined(parts: Iterable[NDArray[np.intp]]) -> NDArray[np.intp]:
    return np.concatenate([np.zeros(0, np.intp), *parts])


def refined(
    points: Points, bandwidth: Bandwidth, modes: Modes, pixels: NDArray[np.intp], found: NDArray[np.int32]
) -> tuple[Modes, NDArray[np.int32]]:
    """Move each mode to the mean of its members, which is how training defines the centre of an instance.

    Parameters
    ----------
    points : Points
    bandwidth : callable
        Takes pixels, and returns the bandwidth (P,) float32 of each.
    modes : Modes
        N of them.
    pixels : (P,) intp
        The foreground, as positions in the flat image.
    found : int32
        What `assign_pixels` returned for them.

    Returns
    -------
    modes : Modes
        Those that have members.
    number_of : (N + 1,) int32
        1 + the new number of each mode, by 1 + its number; 0 for those without members.
    """
    count, flat = len(modes.centres), found.ravel()
    sums = GroupSums(points.dimensions + 1)
    for part in chunks(pixels):
        sums.add(flat.take(part) - 1, (points.gather(part), np.log(bandwidth(part))))
    totals, size = sums.finish(count)
    present = size > 0
    means = totals[present] / size[present, None]
    number_of = np.zeros(count + 1, np.int32)
    number_of[1:][present] = np.arange(1, len(means) + 1)
    return Modes(means[:, :-1].astype(np.float32), np.exp(means[:, -1]).astype(np.float32)), number_of


def assign_again(
    points: Points,
    modes: Modes,
    threshold: float,
    pixels: NDArray[np.intp],
    found: NDArray[np.int32],
    number_of: NDArray[np.int32],
) -> None:
    """Assign pixels to their modes, which have changed a little; most stay with theirs.

    Parameters
    ----------
    points : Points
    modes : Modes
    threshold : float
        Pixels of less membership in their mode are noise.
    pixels : (P,) intp
        The foreground, as positions in the flat image.
    found : int32
        What `assign_pixels` returned for the modes as they were. It becomes 1 + the mode, 0 for noise, in place.
    number_of : (N + 1,) int32
        What `refined` returned.
    """
    check = _Check(modes, threshold)
    flat, left = found.reshape(-1), []
    for part in chunks(pixels):
        guess = number_of.take(np.abs(flat.take(part)))
        is_member, certain = check(points.gather(part), guess)
        flat[part] = np.where(is_member, guess, 0)
        left.append(part[~certain])
    search = Search(modes, threshold)
    for part in chunks(_joined(left), _SEARCHED):
        index, is_member = search(points.all_of(part), threshold)
        flat[part] = np.where(is_member, index + 1, 0)


class _Grid:
    """Every so many pixels of an image along each axis.

    Attributes
    ----------
    places : (P,) intp
        The foreground among them, as positions in the flat grid.
    found : (M,) int32
        What is known of each pixel of the grid, 0 for nothing.
    """

    def __init__(self, foreground: NDArray[np.bool_], step: int, places: NDArray[np.intp] | None = None) -> None:
        self.step = step
        parts = (slice(None, None, step),) * foreground.ndim
        shown = foreground[parts]
        self.shape = shown.shape
        self.places = np.flatnonzero(shown) if places is None else places
        self.found = np.zeros(shown.size, np.int32)
        self._rows: dict[int, NDArray[np.intp]] = {}
        self._begins = row_begins(foreground.shape, parts)

    def pixels(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the positions in the flat image of places in the flat grid."""
        if self.step == 1:
            return places
        row = places // self.shape[-1]
        pixels: NDArray[np.intp] = self._begins.take(row) + self.step * (places - row * self.shape[-1])
        return pixels

    def seen_from(self, finer: "_Grid", places: NDArray[np.intp], shifts: tuple[int, int]) -> NDArray[np.int32]:
        """Return the modes, from 1, that were found near some places of a finer grid, 0 for none.

        `shifts` are 0 for the pixel before, and the ratio of both steps less one for that after, in rows (and planes)
        and in columns.
        """
        ratio = self.step // finer.step
        if shifts[0] not in self._rows:
            near = [
                np.minimum((np.arange(many) + shifts[0]) // ratio, few - 1)
                for many, few in zip(finer.shape[:-1], self.shape[:-1], strict=True)
            ]
            self._rows[shifts[0]] = np.ravel_multi_index((*np.ix_(*near), 0), self.shape).ravel()
        row = places // finer.shape[-1]
        column = places - row * finer.shape[-1]
        column += shifts[1]
        column //= ratio
        np.minimum(column, self.shape[-1] - 1, out=column)
        column += self._rows[shifts[0]].take(row)
        modes: NDArray[np.int32] = np.abs(self.found.take(column))
        return modes


def _settle(
    points: Points, check: _Check, grid: _Grid, coarser: _Grid, places: NDArray[np.intp], ratio: int
) -> NDArray[np.intp]:
    """Try the modes around some places of a grid, note those that are certain, and return the places that are left."""
    last = ratio - 1
    for shifts in ((ratio // 2, ratio // 2), (0, 0), (last, last), (0, last), (last, 0)):
        guess = coarser.seen_from(grid, places, shifts)
        is_member, certain = check(points.gather(grid.pixels(places)), guess)
        # Of those that are left it is overwritten.
        grid.found[places] = np.where(is_member, guess, -guess)
        if certain.all():
            return places[:0]
        places = places[~certain]
    return places
