"""What may have become of an object: links to objects of later frames and divisions, each with what it is worth.

A gain is a share from 0 to 1: how much the objects of two frames are alike in place, pixels and size, and by the given
features. That nothing is known of an object's past or future gains 0, so that the best tracks are those of the largest
sum of gains in which no object has two pasts or two futures.

    link      = (p distance + (1 - p) overlap) * (size) * (features)
    division  = the same of both daughters together and the mother, less for daughters that are unequal or far apart

A division competes with the link of the mother to one of the daughters. An object that goes on and has a new neighbour
loses half of the overlap and of the distance if the two are taken for daughters, so that it is not.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from instseg.tracking.objects import FrameObjects, overlaps

# Share of distance in a gain; the rest is overlap.
_DISTANCE = 0.55
# How much a gain loses where sizes differ, and where features do.
_SIZE, _FEATURES = 0.5, 0.5
# How much a division loses for daughters of unequal size.
_BALANCE = 0.15
# What a link over a frame without the object gains of one to the next frame. Below one half, so that a link to the next
# frame is mostly better than the two links over a missing frame that it excludes.
_GAP = 0.45
# What a division gains less than its likeness says, as objects divide seldom.
_RARE = 0.03
# Distance between daughters, in sums of their radii, from which on a division loses, and at which it has lost all.
_APART, _TOO_FAR = 1.8, 4.0
_LEAST_GAIN = 0.02
# Most objects of a frame that one may be linked to, besides those that it overlaps: time and memory stay linear.
_NEAREST = 16


class Links(NamedTuple):
    """K candidate links between the objects of two frames.

    Attributes
    ----------
    first, second : (K,) int64
        Positions in the earlier and the later frame.
    shared : (K,) int64
        Pixels that both have.
    gain : (K,) float64
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shared: NDArray[np.int64]
    gain: NDArray[np.float64]


class Divisions(NamedTuple):
    """K candidate divisions between two consecutive frames.

    Attributes
    ----------
    mother : (K,) int64
        Position in the earlier frame.
    daughters : (K, 2) int64
        Positions in the later one.
    gain : (K,) float64
    """

    mother: NDArray[np.int64]
    daughters: NDArray[np.int64]
    gain: NDArray[np.float64]


def find_links(before: FrameObjects, after: FrameObjects, reach: float) -> Links:
    """Find the pairs of objects of two frames that are near to each other or overlap.

    Parameters
    ----------
    before, after : FrameObjects
        Of frames of the same size.
    reach : float
        Largest distance of centroids in pixels, from one frame to the next; it grows with the square root of the
        frames between. Objects that overlap may be farther apart.
    """
    steps = after.time - before.time
    first, second, shared = _neighbours(before, after, reach * steps**0.5)
    offsets = after.places[second] - before.places[first]
    areas = before.areas[first], after.areas[second]
    near = np.maximum(1 - (offsets**2).sum(axis=1) / (reach**2 * steps), 0)
    alike = _DISTANCE * near + (1 - _DISTANCE) * shared / (areas[0] + areas[1] - shared)
    gain = alike * (1 - _SIZE + _SIZE * np.minimum(*areas) / np.maximum(*areas))
    if before.features is not None and after.features is not None:
        gain *= 1 - _FEATURES + _FEATURES * _likeness(before.features[first], after.features[second])
    return Links(first, second, shared, gain * _GAP ** (steps - 1))


def _neighbours(
    before: FrameObjects, after: FrameObjects, reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs that share pixels or are the nearest within reach, each once, and the pixels that they share."""
    if not len(before) or not len(after):
        return (np.zeros(0, np.int64),) * 3
    one, other, shared = overlaps(before, after)
    distance, nearest = cKDTree(after.places).query(
        before.places, k=list(range(1, min(_NEAREST, len(after)) + 1)), distance_upper_bound=reach
    )
    within = np.isfinite(distance)
    places = np.nonzero(within)[0] * len(after) + np.asarray(nearest)[within]
    codes = np.concatenate([one * len(after) + other, places])
    pixels = np.concatenate([shared, np.zeros(len(places), np.int64)])
    codes, position = np.unique(codes, return_index=True)
    # The first of equal codes is that of the pair that shares pixels.
    return codes // len(after), codes % len(after), pixels[position]


def _likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine between rows, 0 where it is negative or a row is 0."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = np.einsum("nd,nd->n", one, other)
    cosines: NDArray[np.float64] = np.divide(products, lengths, out=np.zeros(len(one)), where=lengths > 0)
    return np.clip(cosines, 0, 1, out=cosines)


def find_divisions(before: FrameObjects, after: FrameObjects, links: Links, reach: float) -> Divisions:
    """Find the pairs of objects of the next frame that an object may have divided into.

    Parameters
    ----------
    before, after : FrameObjects
        Consecutive frames.
    links : Links
        Between them; daughters are two objects that their mother is linked to.
    reach : float
        As in `find_links`, for the distance of the mother from the centroid of both daughters.
    """
    left, right = _pairs_of_equal(links.first)
    mother = links.first[left]
    daughters = np.stack([links.second[left], links.second[right]], axis=1)
    area = before.areas[mother].astype(np.float64)
    areas = after.areas[daughters].astype(np.float64)
    together = areas.sum(axis=1)
    places = after.places[daughters]
    middle = (places * areas[..., None]).sum(axis=1) / together[:, None]
    near = np.maximum(1 - ((middle - before.places[mother]) ** 2).sum(axis=1) / reach**2, 0)
    shared = links.shared[left] + links.shared[right]
    alike = _DISTANCE * near + (1 - _DISTANCE) * shared / (area + together - shared)
    gain = alike * (1 - _SIZE + _SIZE * np.minimum(area, together) / np.maximum(area, together))
    gain *= 1 - _BALANCE + _BALANCE * areas.min(axis=1) / areas.max(axis=1)
    apart = np.linalg.norm(places[:, 0] - places[:, 1], axis=1) / after.diameters[daughters].mean(axis=1)
    gain *= np.clip((_TOO_FAR - apart) / (_TOO_FAR - _APART), 0, 1)
    if before.features is not None and after.features is not None:
        mean = (after.features[daughters] * areas[..., None]).sum(axis=1) / together[:, None]
        gain *= 1 - _FEATURES + _FEATURES * _likeness(before.features[mother], mean)
    gain -= _RARE
    kept = gain > np.maximum(links.gain[left], links.gain[right])
    return Divisions(mother[kept], daughters[kept], gain[kept])


def _pairs_of_equal(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of all pairs of equal values, of ascending values."""
    ends = np.searchsorted(values, values, side="right")
    counts = ends - np.arange(len(values)) - 1
    left = np.repeat(np.arange(len(values)), counts)
    start = np.cumsum(counts) - counts
    return left, left + 1 + np.arange(len(left)) - np.repeat(start, counts)


def worth_having(links: Links) -> Links:
    """Return the links without those that gain nothing."""
    kept = links.gain > _LEAST_GAIN
    return Links(links.first[kept], links.second[kept], links.shared[kept], links.gain[kept])
