"""How far objects move from frame to frame, measured where it is known which object is which."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from instseg.tracking.objects import FrameObjects

# The reach is so many times the third quartile of the motion, and no less than this share of the diameter.
_TIMES, _LEAST = 3.0, 0.75


def typical_reach(frames: Sequence[FrameObjects]) -> float:
    """Return how far an object may be from its place in the frame before, in pixels.

    It is three times the third quartile of the distances between centroids of objects of consecutive frames each of
    which is the nearest to the other, and no less than three quarters of the median diameter.

    Parameters
    ----------
    frames : sequence of FrameObjects
        Some frames of the sequence.

    Returns
    -------
    float
        Above 0; 1 where there are no objects.
    """
    diameters = np.concatenate([frame.diameters for frame in frames]) if frames else np.zeros(0)
    least = _LEAST * float(np.median(diameters)) if diameters.size else 1.0
    moved = np.concatenate([np.zeros(0), *(_distances(one, other) for one, other in pairwise(frames))])
    return max(least, _TIMES * float(np.quantile(moved, 0.75))) if moved.size else least


def _distances(before: FrameObjects, after: FrameObjects) -> NDArray[np.float64]:
    """Return the distances of the pairs of objects that are each the other's nearest."""
    if not len(before) or not len(after):
        return np.zeros(0)
    distance, nearest = map(np.asarray, cKDTree(after.places).query(before.places))
    back = np.asarray(cKDTree(before.places).query(after.places)[1])
    return np.asarray(distance[back[nearest] == np.arange(len(before))], np.float64)
