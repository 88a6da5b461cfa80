"""How far all objects have moved together from frame to frame, as when the stage of a microscope drifts."""

import numpy as np
from numpy.typing import NDArray

from instseg.tracking.objects import FrameObjects, shifted

# Where so much of the foreground overlaps as it is, nothing is looked for.
_STILL = 0.8
# Share of the foreground that has to overlap after a shift, and by how much more than before.
_MATCHED, _BETTER = 0.5, 0.1
# Objects of the earlier frame, the largest ones, whose ways to all others are counted; and shifts that are tried.
_VOTERS, _TRIED = 200, 8
_STEPS = (8, 4, 2, 1)
_DIRECTIONS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)], np.int64)


def common_shift(before: FrameObjects, after: FrameObjects, guess: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the shift of a frame against the one before, by which most of their foreground comes to lie on each other.

    The ways from each object to each object of the next frame are counted in squares of half a diameter. The most
    frequent ones, that of the whole foreground's centroid and the guess are tried, and the one by which most pixels
    overlap is improved by steps of 8 to 1 pixels. Half of the foreground has to overlap then, and much more than
    without a shift. Of a single object it is not known whether it or the stage has moved.

    Time is O(pixels + N), for N objects.

    Parameters
    ----------
    before, after : FrameObjects
    guess : (2,) int64
        The shift of the frame before.

    Returns
    -------
    (2,) int64
        Rows and columns; 0 where nothing has moved.
    """
    still = np.zeros(2, np.int64)
    if min(len(before), len(after)) < 2:
        return still
    masks = before.numbers > 0, after.numbers > 0
    foreground = min(before.areas.sum(), after.areas.sum())
    without = _overlap(*masks, still)
    if without >= _STILL * foreground:
        return still
    best, overlap = still, without
    for shift in [guess, _of_centroid(before, after), *_frequent(before, after)]:
        if (found := _overlap(*masks, shift)) > overlap:
            best, overlap = shift, found
    for step in _STEPS:
        for shift in best + step * _DIRECTIONS:
            if (found := _overlap(*masks, shift)) > overlap:
                best, overlap = shift, found
    enough = overlap >= _MATCHED * foreground and overlap - without >= _BETTER * foreground
    return best if enough else still


def _overlap(before: NDArray[np.bool_], after: NDArray[np.bool_], shift: NDArray[np.int64]) -> int:
    one, other = shifted(before, after, shift)
    return int(np.count_nonzero(one & other))


def _of_centroid(before: FrameObjects, after: FrameObjects) -> NDArray[np.int64]:
    """Return the way of the centroid of all objects together, in pixels."""
    one, other = (np.average(frame.centroids, axis=0, weights=frame.areas) for frame in (before, after))
    return np.rint(other - one).astype(np.int64)


def _frequent(before: FrameObjects, after: FrameObjects) -> list[NDArray[np.int64]]:
    """Return the most frequent ways between objects, in pixels."""
    voters = np.argsort(-before.areas, kind="stable")[:_VOTERS]
    ways = (after.centroids[None] - before.centroids[voters, None]).reshape(-1, 2)
    side = max(float(np.median(before.diameters)) / 2, 2.0)
    squares, counts = np.unique(np.rint(ways / side).astype(np.int64), axis=0, return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:_TRIED]
    near = [np.abs(ways - side * squares[square]).max(axis=1) <= side for square in largest]
    return [np.rint(np.median(ways[one], axis=0)).astype(np.int64) for one in near]
