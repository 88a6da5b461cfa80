"""Label images, one after the other, to tracks: candidates of each new frame, and optima in a sliding window.

Memory is that of a few label images and of the candidates in the window, whatever the number of frames; of each object
its place, its size and what it comes from are kept, some 90 bytes. Time is O(pixels) and that of the optima.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, check_parameter
from instseg.tracking.candidates import find_divisions, find_links, worth_having
from instseg.tracking.drift import common_shift
from instseg.tracking.motion import typical_reach
from instseg.tracking.objects import FrameObjects, frame_objects
from instseg.tracking.solving import best_packing
from instseg.tracking.tracks import Tracks

MAX_GAP = 10
"""Most frames that an object may be missed in."""

DECIDED = 16
"""Frames that are decided at once."""

# Frames after those that take part in the optimum. Objects of frames farther away hardly ever change it.
_AHEAD = 8
# Frames that the typical motion is measured in.
_MEASURED = 12


class Tracker:
    """Takes the frames of a sequence in their order, and gives their tracks.

    Parameters
    ----------
    max_distance : float, optional
        Largest distance of a link to the next frame in pixels; by default `typical_reach` of the first frames with
        objects.
    gap : int
        Most frames that an object may be missed in, 0 to `MAX_GAP`.
    divisions : bool
        Whether objects divide.
    drift : bool
        Whether all objects may have moved together, as `common_shift` finds it.
    window : int
        Frames that are decided at once.

    Raises
    ------
    UsageError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        *,
        max_distance: float | None = None,
        gap: int = 2,
        divisions: bool = True,
        drift: bool = True,
        window: int = DECIDED,
    ) -> None:
        if max_distance is not None:
            check_parameter(0 < max_distance < np.inf, "max_distance", max_distance, "a number of pixels above 0")
        check_parameter(0 <= gap <= MAX_GAP, "gap", gap, f"0 to {MAX_GAP} frames")
        check_parameter(window >= 1, "window", window, "1 frame or more")
        self._reach, self._gap, self._divisions, self._window = max_distance, gap, divisions, window
        self._drift, self._shift = drift, np.zeros(2, np.int64)
        self._ahead = max(_AHEAD, gap + 2)
        self._last: FrameObjects | None = None
        # Frames that wait for the reach to be measured, and those that the next one may be linked to.
        self._waiting: list[FrameObjects] = []
        self._recent: list[tuple[int, FrameObjects]] = []
        # The number of the first object of each frame, objects being counted through all frames, and of the next frame.
        self._starts = [0]
        self._candidates = _Candidates()
        self._chosen: list[NDArray[np.int64]] = []
        self._decided = 0
        self._columns: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]] = []

    def add(self, objects: FrameObjects) -> None:
        """Take the next frame.

        Raises
        ------
        InstsegError
            If its size is not that of the frames before, or it is not later than these.
        """
        self._require_next(objects)
        if self._drift and self._last is not None:
            self._shift = common_shift(self._last, objects, self._shift)
            objects = replace(objects, origin=self._last.origin + self._shift)
        self._last = objects
        if self._reach is not None:
            self._link(objects, self._reach)
        elif len(objects) or self._waiting:
            self._waiting.append(objects)
            if len(self._waiting) == _MEASURED:
                self._link_waiting()
        else:
            # What comes before the first object needs no reach.
            self._link(objects, 1.0)

    def finish(self) -> Tracks:
        """Decide what is left, and return the tracks."""
        self._link_waiting()
        self._decide(len(self._columns))
        return self._tracks()

    def _require_next(self, objects: FrameObjects) -> None:
        if self._last is None:
            return
        (height, width), (own_height, own_width) = self._last.numbers.shape, objects.numbers.shape
        if (height, width) != (own_height, own_width):
            raise InstsegError(
                f"frame {objects.time} has {own_height} x {own_width} pixels and frame {self._last.time} has "
                f"{height} x {width}, expected equal sizes; give the frames of one sequence"
            )
        if objects.time <= self._last.time:
            raise InstsegError(
                f"frame {objects.time} comes after frame {self._last.time}, expected a later one; give the frames in "
                "their order"
            )

    def _link_waiting(self) -> None:
        if self._reach is None:
            self._reach = typical_reach(self._waiting)
        for objects in self._waiting:
            self._link(objects, self._reach)
        self._waiting = []

    def _link(self, objects: FrameObjects, reach: float) -> None:
        """Find the candidates between a frame and those before it, and decide what is old enough."""
        start = self._starts[-1]
        self._recent = [(first, one) for first, one in self._recent if objects.time - one.time <= self._gap + 1]
        for first, before in self._recent:
            links = find_links(before, objects, reach)
            if self._divisions and objects.time == before.time + 1:
                divisions = find_divisions(before, objects, links, reach)
                self._candidates.add(first + divisions.mother, start + divisions.daughters, divisions.gain)
            links = worth_having(links)
            self._candidates.add(first + links.first, start + links.second[:, None], links.gain)
        self._recent.append((start, objects))
        self._starts.append(start + len(objects))
        self._columns.append((np.full(len(objects), objects.time), objects.labels, objects.centroids, objects.areas))
        if len(self._columns) >= self._decided + self._window + self._ahead:
            self._decide(self._decided + self._window)

    def _decide(self, frame: int) -> None:
        """Decide what the objects of the frames before one come from, in view of all frames that are there."""
        self._chosen.append(self._candidates.take_best(self._starts[frame]))
        self._decided = frame

    def _tracks(self) -> Tracks:
        if not self._columns:
            raise InstsegError("there are no frames; give label images")
        columns = [np.concatenate(column) for column in zip(*self._columns, strict=True)]
        count = self._starts[-1]
        past, divided = np.full(count, -1), np.zeros(count, bool)
        chosen = np.concatenate([np.zeros((0, 3), np.int64), *self._chosen])
        source, targets = chosen[:, 0] // 2, chosen[:, 1:] // 2
        past[targets[:, 0]] = source
        two = chosen[:, 2] >= 0
        past[targets[two, 1]] = source[two]
        divided[targets[two].ravel()] = True
        _revoke(targets[two], past, divided, self._starts)
        track, parent = _numbered(past, divided, self._starts)
        time, label, centroid, area = columns
        begin = time[np.unique(track, return_index=True)[1]]
        end = np.zeros(len(parent), np.int64)
        np.maximum.at(end, track - 1, time)
        return Tracks(
            frame=time,
            label=label,
            track=track,
            centroid=centroid,
            area=area,
            parent=parent,
            begin=begin,
            end=end,
            reach=float(self._reach or 0.0),
        )


class _Candidates:
    """What is not decided yet: sets of the future of an object (an even number) and the pasts of others (odd ones)."""

    def __init__(self) -> None:
        self._members: list[NDArray[np.int64]] = []
        self._gains: list[NDArray[np.float64]] = []

    def add(self, source: NDArray[np.int64], targets: NDArray[np.int64], gains: NDArray[np.float64]) -> None:
        """Add sets of a source (K,) and one or two targets (K, 1 or 2)."""
        members = np.full((len(source), 3), -1)
        members[:, 0] = 2 * source
        members[:, 1 : 1 + targets.shape[1]] = 2 * targets + 1
        self._members.append(members)
        self._gains.append(gains)

    def take_best(self, limit: int) -> NDArray[np.int64]:
        """Return the sets of the optimum whose targets are below a number, and keep those that may still be chosen."""
        if not self._members:
            return np.zeros((0, 3), np.int64)
        members, gains = np.concatenate(self._members), np.concatenate(self._gains)
        early = members[:, 1] < 2 * limit
        best = best_packing(members, gains)
        chosen = members[best[early[best]]]
        # Pasts below the limit and futures that are taken are settled.
        open_ = ~early & ~np.isin(members[:, 0], chosen[:, 0])
        self._members, self._gains = [members[open_]], [gains[open_]]
        return chosen


def _revoke(
    daughters: NDArray[np.int64], past: NDArray[np.int64], divided: NDArray[np.bool_], starts: list[int]
) -> None:
    """Make links of divisions (K, 2) one of whose daughters is seen in one frame only: a part of a torn object."""
    seen_again = np.zeros(len(past), bool)
    seen_again[past[past >= 0]] = True
    # What comes after the last frame is not known.
    seen_again[starts[-2] :] = True
    lost = ~seen_again[daughters]
    # Where both are lost, the object is torn and lost, or both are.
    one = lost.any(axis=1) & ~lost.all(axis=1)
    past[daughters[one][lost[one]]] = -1
    divided[daughters[one].ravel()] = False


def _numbered(
    past: NDArray[np.int64], divided: NDArray[np.bool_], starts: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tracks (M,) of objects in the order of appearance, and the parents (N,) of these."""
    track = np.zeros(len(past), np.int64)
    parents: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    count = 0
    for begin, end in zip(starts, starts[1:], strict=False):
        own, source = track[begin:end], past[begin:end]
        goes_on = (source >= 0) & ~divided[begin:end]
        own[goes_on] = track[source[goes_on]]
        new = np.flatnonzero(~goes_on)
        own[new] = count + 1 + np.arange(len(new))
        count += len(new)
        parents.append(np.where(source[new] >= 0, track[source[new]], 0))
    return track, np.concatenate(parents)


def track(
    labels: Iterable[NDArray[np.integer]],
    *,
    features: Iterable[NDArray[np.floating]] | None = None,
    max_distance: float | None = None,
    gap: int = 2,
    divisions: bool = True,
    drift: bool = True,
    window: int = DECIDED,
) -> Tracks:
    """Link the objects of consecutive label images to tracks.

    Links and divisions are the best ones of all frames together, by distance, overlap and size (and by `features`): see
    `instseg.tracking.candidates` for what one gains, and `instseg.tracking.solving` for the optimum. Of a long sequence
    `window` frames are decided at a time, in view of some more.

    Parameters
    ----------
    labels : (T, H, W) integers, or iterable of (H, W) integers
        The frames in their order; 0 is background, numbers tell the objects of a frame apart and mean nothing between
        frames.
    features : iterable of (N, D) floats, optional
        For each frame a row for each object, in the order of their numbers, such as mean embeddings: objects are less
        likely the same, the larger the angle between their rows.
    max_distance : float, optional
        Largest distance of centroids from one frame to the next in pixels, except for objects that overlap; by default
        three times the third quartile of the motion in the first frames, and at least three quarters of the diameter.
    gap : int
        Most frames that an object may be missed in, 0 to `MAX_GAP`.
    divisions : bool
        Whether objects may divide in two.
    drift : bool
        Whether all objects may move together, as when the stage drifts; distances are what is left without that.
    window : int
        See above.

    Returns
    -------
    Tracks
        `Tracks.relabel` gives a frame its labels that stay the same through time.

    Raises
    ------
    UsageError, InstsegError
        If a parameter is out of its range, there are no frames, or these differ in size.

    Examples
    --------
    >>> first, second = np.array([[0, 1, 1, 0, 0]]), np.array([[0, 0, 9, 9, 0]])
    >>> tracks = track([first, second])
    >>> tracks.relabel(1, second)
    array([[0, 0, 1, 1, 0]], dtype=int32)
    """
    tracker = Tracker(max_distance=max_distance, gap=gap, divisions=divisions, drift=drift, window=window)
    rows = repeat(None) if features is None else iter(features)
    for time, frame in enumerate(labels):
        tracker.add(frame_objects(np.asarray(frame), time, next(rows, None)))
    return tracker.finish()
