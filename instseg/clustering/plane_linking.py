"""Instances in the planes of a volume to instances of the volume: joined from plane to plane, cut where they waist.

Two sections in consecutive planes belong together as far as their masks overlap and as their embeddings reach each
other: the centre of the one, which the network sees from each of its pixels, lies within the bandwidth of the other.
Each section has at most one before it and one after it, by the assignment of the largest sum of scores. What is missing
in a single plane is filled. What narrows to a fraction and widens again is two objects, one on top of the other.

Three planes are held at a time: sections are numbered, and a table says in the end which object each is a part of.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import Instances, measure_instances, merge_instances
from instseg.labels.matching import contingency_table, matched_pairs
from instseg.labels.regions import equivalent_diameter

# Sections of a lower score are not joined. In generated volumes those of one ball had 0.65 and more, and those of two
# balls 0.12 and less.
_LEAST_SCORE = 0.25
# An object is cut where its area is no more than this share of what it is on both sides. In generated volumes in which
# 450 balls lie close together, the AP at IoU 0.5 was 0.939 with 0.6, 0.937 with 0.5 and 0.935 with 0.4 and 0.7.
_WAIST = 0.6
# So much of what two sections share has to be free in the plane between them for that plane to be a gap.
_FREE_SHARE = 0.5
# The score of a join into a filled gap: beyond all others, so that an object is never cut before its gap.
_CERTAIN = 2.0


class LinkedPlanes(NamedTuple):
    """The objects that the sections in planes are parts of.

    Attributes
    ----------
    label_of : (S + 1,) int32
        The label of each section by its number, 0 for what is too small; objects are 1..N in raster order.
    instances : Instances
        The N objects, measured in three dimensions.
    """

    label_of: NDArray[np.int32]
    instances: Instances


class _Plane:
    """The sections of a plane, by their place 1..S in it, and what joins them to those of other planes."""

    def __init__(self, labels: NDArray[np.int32], maps: Embeddings, *, positions: bool, first: int) -> None:
        self.maps = maps
        measured = measure_instances(labels, maps)
        count = len(measured)
        place_of = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
        place_of[measured.label] = np.arange(1, count + 1, dtype=np.int32)
        self.labels = place_of[labels]
        # The number in the volume of the section at each place.
        self.numbers = np.concatenate([[0], np.arange(first, first + count)]).astype(np.int32)
        self.instances = measured.relabelled(self.numbers[1:])
        self.area = measured.area
        self.centres, self.reach = _reaches(self.labels, maps, measured, positions=positions)
        self.has_previous, self.has_next = np.zeros(count, bool), np.zeros(count, bool)

    def fill(self, filled: NDArray[np.int32], numbers: NDArray[np.int32]) -> None:
        """Take further sections (H, W) under consecutive numbers (K,), which are joined to others on both sides."""
        pixels = filled > 0
        self.labels[pixels] = filled[pixels] - numbers[0] + len(self.numbers)
        self.numbers = np.concatenate([self.numbers, numbers])
        self.has_previous = np.append(self.has_previous, np.ones(len(numbers), bool))
        self.has_next = np.append(self.has_next, np.ones(len(numbers), bool))


class PlaneLinker:
    """Joins the instances of planes, which come one after the other, to objects of the volume.

    Memory is that of three planes with their maps and of some numbers for each section; time is O(pixels).

    Parameters
    ----------
    positions : bool
        Whether the first two dimensions of embeddings are the position, in pixels, of the centre of an instance. Where
        they are not, sections are joined by their masks alone.
    min_size : int
        Objects of fewer voxels become background.

    Examples
    --------
    >>> maps = Embeddings(embeddings=np.zeros((1, 4, 1), np.float32), foreground=np.ones((1, 4), np.float32))
    >>> linker = PlaneLinker(positions=False, min_size=2)
    >>> done = []
    >>> for plane in ([[1, 1, 0, 2]], [[1, 1, 0, 0]], [[0, 1, 0, 0]]):
    ...     done += linker.add(np.array(plane, np.int32), maps)
    >>> done += linker.flush()
    >>> linked = linker.finish()
    >>> [linked.label_of[numbers].tolist() for _, numbers in done]
    [[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[0, 1, 0, 0]]]
    >>> linked.instances.area, linked.instances.bbox
    (array([5]), array([[0, 0, 0, 3, 1, 2]]))
    """

    def __init__(self, *, positions: bool, min_size: int = 1) -> None:
        self._positions, self._min_size = positions, max(min_size, 1)
        self._held: list[_Plane] = []
        self._planes = self._count = 0
        self._parts: list[Instances] = []
        # Numbers of a section and of the one before it, and the score of the two.
        self._joins: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]] = []

    def add(self, labels: NDArray[np.int32], maps: Embeddings) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Take the instances of the next plane, and return the planes that are complete by that.

        Parameters
        ----------
        labels : (H, W) int32
            0 is background, instances 1..N.
        maps : Embeddings
            Of the same plane.

        Returns
        -------
        iterator of (int, (H, W) int32)
            Planes in their order, each with the numbers of its sections, which are unique in the volume.
        """
        plane = _Plane(labels, maps, positions=self._positions, first=self._count + 1)
        self._keep(plane.instances, self._planes)
        if self._held:
            before = self._held[-1]
            table = contingency_table(before.labels, plane.labels)
            pairs = _best(before, plane, table.truth_index, table.predicted_index, table.intersection)
            self._join(before, plane, pairs)
        self._held.append(plane)
        self._planes += 1
        if len(self._held) < 3:
            return iter(())
        self._close_gaps(*self._held)
        return self._release(1)

    def flush(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Return the planes that `add` has not returned yet, after the last one."""
        return self._release(len(self._held))

    def finish(self) -> LinkedPlanes:
        """Return what the sections are parts of, once all planes, one at least, have been added."""
        area, plane = np.zeros(self._count + 1, np.int64), np.zeros(self._count + 1, np.int64)
        for part in self._parts:
            area[part.label], plane[part.label] = part.area, part.bbox[:, 0]
        previous, scores = np.zeros(self._count + 1, np.int64), np.zeros(self._count + 1)
        for number, before, score in self._joins:
            previous[number], scores[number] = before, score
        objects = _objects(_cut_waists(previous, scores, area, plane, self._min_size))
        size = np.bincount(objects, area, len(objects))
        # An object is known by its first section, and these are numbered in raster order.
        is_first = (objects == np.arange(len(objects))) & (size >= self._min_size)
        label_of = (np.cumsum(is_first) * is_first)[objects].astype(np.int32)
        return LinkedPlanes(label_of, merge_instances(self._parts, label_of))

    def _keep(self, instances: Instances, plane: int) -> None:
        self._parts.append(instances.in_plane(plane))
        self._count += len(instances)

    def _release(self, count: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
        first = self._planes - len(self._held)
        released, self._held = self._held[:count], self._held[count:]
        return iter([(first + number, plane.numbers[plane.labels]) for number, plane in enumerate(released)])

    def _join(self, before: _Plane, after: _Plane, pairs: "_Pairs") -> None:
        self._joins.append((after.numbers[1 + pairs.after], before.numbers[1 + pairs.before], pairs.score))
        before.has_next[pairs.before] = after.has_previous[pairs.after] = True

    def _close_gaps(self, before: _Plane, between: _Plane, after: _Plane) -> None:
        """Join sections that have no partner in the plane between, and fill that with what both have and is free."""
        ends, begins = np.append(False, ~before.has_next), np.append(False, ~after.has_previous)
        pixels = np.flatnonzero(ends[before.labels] & begins[after.labels])
        if not len(pixels):
            return
        codes = before.labels.ravel()[pixels] * np.int64(len(begins)) + after.labels.ravel()[pixels]
        distinct, pair_of, shared = np.unique(codes, return_inverse=True, return_counts=True)
        is_free = between.labels.ravel()[pixels] == 0
        free = np.bincount(pair_of, is_free, len(distinct))
        possible = np.flatnonzero(free >= _FREE_SHARE * shared)
        one, other = distinct[possible] // len(begins) - 1, distinct[possible] % len(begins) - 1
        pairs = _best(before, after, one, other, shared[possible])
        if not len(pairs.place):
            return
        number_of = np.zeros(len(distinct), np.int32)
        number_of[possible[pairs.place]] = self._count + 1 + np.arange(len(pairs.place))
        filled = np.zeros_like(between.labels)
        filled.ravel()[pixels] = np.where(is_free, number_of[pair_of], 0)
        gaps = measure_instances(filled, between.maps)
        self._keep(gaps, self._planes - 2)
        numbers = number_of[possible[pairs.place]]
        self._joins.append((numbers, before.numbers[1 + pairs.before], np.full(len(numbers), _CERTAIN)))
        self._joins.append((after.numbers[1 + pairs.after], numbers, pairs.score))
        before.has_next[pairs.before] = after.has_previous[pairs.after] = True
        between.fill(filled, numbers)


class _Pairs(NamedTuple):
    """Sections that are joined: their places, from 0, in both planes, their scores, and which candidates they were."""

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    score: NDArray[np.float64]
    place: NDArray[np.int64]


def _best(
    before: _Plane, after: _Plane, one: NDArray[np.int64], other: NDArray[np.int64], shared: NDArray[np.int64]
) -> _Pairs:
    """Return the pairs of the largest sum of scores, of candidates that share so many pixels."""
    covered = shared / np.minimum(before.area[one], after.area[other])
    reach = np.maximum(before.reach[one], after.reach[other])
    squared = np.square(before.centres[one] - after.centres[other]).sum(axis=1)
    # The membership of the one's centre in the other, as in training.
    scores = covered * np.exp2(-squared / np.square(reach))
    place = matched_pairs(one, other, scores, _LEAST_SCORE, largest_sum=True)
    return _Pairs(one[place], other[place], scores[place], place)


def _reaches(
    labels: NDArray[np.int32], maps: Embeddings, instances: Instances, *, positions: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centres (S, 2) of instances, and how far from them the centre of the same object may be, in pixels."""
    if not positions or maps.bandwidth is None:
        return instances.centroid, equivalent_diameter(instances.area) / 2
    pixels = np.flatnonzero(labels)
    place, count = labels.ravel()[pixels] - 1, len(instances)
    points = maps.embeddings.reshape(-1, maps.embeddings.shape[-1])[:, :2]
    sums = [np.bincount(place, points[pixels, axis], count) for axis in range(2)]
    spread = np.bincount(place, np.log(maps.bandwidth.ravel()[pixels]), count)
    return np.stack(sums, axis=1) / instances.area[:, None], np.exp(spread / instances.area)


def _objects(previous: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first section of the chain that each section is in, from the section before each, 0 for none."""
    numbers = np.arange(len(previous))
    first = np.where(previous > 0, previous, numbers)
    while not np.array_equal(earlier := first[first], first):
        first = earlier
    return first


def _cut_waists(
    previous: NDArray[np.int64],
    scores: NDArray[np.float64],
    area: NDArray[np.int64],
    plane: NDArray[np.int64],
    min_size: int,
) -> NDArray[np.int64]:
    """Return `previous` without the joins at waists, unless what a cut leaves on either side is too small.

    Parameters
    ----------
    previous : (S + 1,) int64
        The section before each section, in the plane before; 0 for none.
    scores : (S + 1,) float64
        Of the join to it.
    area, plane : (S + 1,) int64
    min_size : int
    """
    cuts = _waists(previous, scores, area, plane)
    cut = previous.copy()
    cut[cuts] = 0
    objects = _objects(cut)
    size = np.bincount(objects, area, len(objects))
    large = (size[objects[cuts]] >= min_size) & (size[objects[previous[cuts]]] >= min_size)
    previous = previous.copy()
    previous[cuts[large]] = 0
    return previous


def _waists(
    previous: NDArray[np.int64], scores: NDArray[np.float64], area: NDArray[np.int64], plane: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sections before which objects narrow and widen again; of both joins of the narrowest, the weaker."""
    # By section, from where its object begins or was cut last: the largest area, the smallest since then, and the
    # section to cut before for that.
    highest, lowest, cut_at = area.copy(), area.copy(), np.zeros_like(previous)
    narrowest = np.arange(len(previous))
    cuts = []
    order = np.argsort(plane[1:], kind="stable") + 1
    for sections in np.split(order, np.flatnonzero(np.diff(plane[order])) + 1):
        after = sections[previous[sections] > 0]
        before, now = previous[after], area[after]
        high, low, cut = highest[before], lowest[before], cut_at[before]
        beyond = (narrowest[before] == before) & ((cut == 0) | (scores[after] < scores[cut]))
        cut = np.where(beyond, after, cut)
        widens = (low <= _WAIST * now) & (low <= _WAIST * high)
        cuts.append(cut[widens])
        begins = widens | (now > high)
        narrower = ~begins & (now <= low)
        highest[after] = np.where(begins, now, high)
        lowest[after] = np.where(begins | narrower, now, low)
        cut_at[after] = np.where(begins, 0, np.where(narrower, after, cut))
        narrowest[after] = np.where(begins | narrower, after, narrowest[before])
    return np.concatenate([np.zeros(0, np.int64), *cuts])
