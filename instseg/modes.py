"""The fast clustering: find the modes of the embeddings, give every pixel to one.

Pixels that represent their instance well start it (seeds), seeds that lie in
each other's reach become one, and every pixel goes to the mode that it is
the most a member of, each mode having a reach of its own (the idea of Neven et
al. 2019, 1906.11109, without its loop over instances).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.embeddings import Embeddings
from instseg.settings import ClusterSettings

NOISE = -1
# Seeds are sought as maxima in windows of this side: an instance of a few pixels still has one.
_WINDOW = 5
# Seeds that are compared with each other at once: any so many, and more where their pairs within reach are no more than
# so many could make: 8 MiB.
_BATCH = 1024
_MOST_PAIRS = 2**19
# Points that are given to their modes at once: what is held of them stays in the processor's cache.
_CHUNK = 2**14
# Pixels that are looked at together where an image is gone through in parts, for the same reason.
CACHED = 2**18
# Modes that a pixel is compared with: its own is the nearest but for large modes beside small ones.
_NEIGHBOURS = 4
# Embeddings that bring no bandwidth: neighbours within an object differ by noise, whose reach this covers.
_NOISE_REACH = 3.0


class Modes(NamedTuple):
    """Centres of instances in embedding space.

    Attributes
    ----------
    centres : (N, D) float32
        Their embeddings.
    bandwidth : (N,) float32
        Distance from the centre at which membership is one half.
    """

    centres: NDArray[np.float32]
    bandwidth: NDArray[np.float32]


def find_instances(
    maps: Embeddings, foreground: NDArray[np.bool_], points: NDArray[np.float32], settings: ClusterSettings
) -> NDArray[np.int32]:
    """Cluster the foreground pixels.

    Time is O(P log N) for P foreground pixels and N instances, plus one pass over all pixels; memory O(P · D).

    Parameters
    ----------
    maps : Embeddings
        Seeds and bandwidth are used where they are there. Else flat places of the embeddings are the seeds, and
        the bandwidth is that of the settings or a multiple of the median distance between neighbouring pixels.
    foreground : (H, W) bool
        Which pixels to cluster: P of them.
    points : (P, D) float32
        Their embeddings in raster order, a position encoding included where one is wanted.
    settings : ClusterSettings
        Thresholds.

    Returns
    -------
    (P,) int32
        0..N-1, or `NOISE` for pixels of no instance.
    """
    bandwidth = _bandwidth(maps, foreground, points, settings)
    seeds = maps.seeds
    threshold = settings.seed_threshold
    if seeds is None:
        seeds, threshold = flatness(foreground, points, float(np.median(bandwidth))), 0.0
    else:
        seeds = _averaged(np.where(foreground, seeds, np.float32(0)), settings.seed_window)
    start = _peaks(np.where(foreground, seeds, -1.0), foreground & (seeds >= threshold))[foreground]
    if not start.any():
        return np.full(len(points), NOISE, np.int32)
    order = np.argsort(-seeds[foreground][start], kind="stable")
    # A pixel that is a member of a better seed's instance starts none of its own. With half a membership as the bound
    # instead, pixels between two objects that might belong to either became a third: AP at IoU 0.5 on discs of 0.982
    # for 0.991.
    reach = _reach(settings.membership_threshold)
    merged = _merge(Modes(points[start][order], bandwidth[start][order] * reach))
    modes = Modes(merged.centres, merged.bandwidth / reach)
    return _assign(points, _refine(points, bandwidth, modes), settings.membership_threshold)


def flatness(foreground: NDArray[np.bool_], points: NDArray[np.float32], bandwidth: float) -> NDArray[np.float32]:
    """Return how little the embeddings change around each pixel: inside of objects is flat, borders are steep.

    Parameters
    ----------
    foreground : (H, W) bool
        P pixels.
    points : (P, D) float32
        Their embeddings in raster order.
    bandwidth : float
        The unit of change.

    Returns
    -------
    (H, W) float32
        1 where nothing changes, towards 0 where neighbours differ by many bandwidths or are background.
    """
    from scipy import ndimage

    steps = np.zeros(foreground.shape, np.float32)
    across = np.zeros(foreground.shape, np.float32)
    for first, second, change in _neighbour_changes(foreground, points):
        across[first] += change
        across[second] += change
        steps[first] += 1
        steps[second] += 1
    # A missing neighbour counts as a change of one bandwidth, so that maxima lie inside.
    change = np.where(foreground, across + (4 - steps) * bandwidth, 4 * bandwidth)
    smooth = ndimage.uniform_filter(change, _WINDOW, mode="nearest")
    flat: NDArray[np.float32] = np.exp(-smooth / (4 * bandwidth)).astype(np.float32)
    return flat


def _neighbour_changes(
    foreground: NDArray[np.bool_], points: NDArray[np.float32]
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]]:
    """For both axes: masks of the first and the second pixels of neighbouring pairs, and their distances."""
    number = np.cumsum(foreground.ravel()).reshape(foreground.shape) - 1
    found = []
    for axis in (0, 1):
        pair = np.logical_and(*_shifted(foreground, axis))
        first, second = np.zeros_like(foreground), np.zeros_like(foreground)
        _shifted(first, axis)[0][:] = pair
        _shifted(second, axis)[1][:] = pair
        change = np.linalg.norm(points[number[first]] - points[number[second]], axis=1).astype(np.float32)
        found.append((first, second, change))
    return found


def _shifted(array: NDArray[np.bool_], axis: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return (array[:-1], array[1:]) if axis == 0 else (array[:, :-1], array[:, 1:])


def _bandwidth(
    maps: Embeddings, foreground: NDArray[np.bool_], points: NDArray[np.float32], settings: ClusterSettings
) -> NDArray[np.float32]:
    """Return the reach of each point: asked for, else given with the embeddings, else measured."""
    if settings.bandwidth is not None:
        return np.full(len(points), settings.bandwidth, np.float32)
    if maps.bandwidth is not None:
        return maps.bandwidth[foreground]
    changes = np.concatenate([change for _, _, change in _neighbour_changes(foreground, points)])
    typical = float(np.median(changes)) if len(changes) else 0.0
    return np.full(len(points), _NOISE_REACH * typical or 1.0, np.float32)


def _averaged(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    from scipy import ndimage

    if window == 1:
        return values
    return _by_bands(lambda band: ndimage.uniform_filter(band, window, mode="constant"), values, window // 2)


def _by_bands(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], values: NDArray[np.float32], reach: int
) -> NDArray[np.float32]:
    """Filter an image (H, W) whose pixels see `reach` rows up and down, in bands that stay in the processor's cache."""
    height, width = values.shape
    rows = max(CACHED // width, 8 * reach, 1)
    found = np.empty_like(values)
    for top in range(0, height, rows):
        above = min(reach, top)
        found[top : top + rows] = run(values[top - above : top + rows + reach])[above:][:rows]
    return found


def _peaks(values: NDArray[np.float32], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    highest = _by_bands(lambda band: ndimage.maximum_filter(band, _WINDOW, mode="nearest"), values, _WINDOW // 2)
    peaks: NDArray[np.bool_] = (values == highest) & among
    return peaks


def _merge(seeds: Modes) -> Modes:
    """Drop every seed within the reach of a better one that stays; seeds come best first.

    The result is that of going through them one by one. Done batch by batch, as
    pairs of seeds are a quadratic number where a plateau makes every pixel one; each twice as large as the one before,
    as long as its pairs are few, so that all that is done once a batch is done a logarithmic number of times.
    """
    kept = []
    left = np.arange(len(seeds.centres))
    size = _BATCH // 2
    while len(left):
        size = _fitting(seeds, left, 2 * size)
        batch, left = left[:size], left[size:]
        chosen = batch[_stay(Modes(seeds.centres[batch], seeds.bandwidth[batch]))]
        kept.append(chosen)
        if len(left):
            left = left[~_reached(seeds.centres[left], Modes(seeds.centres[chosen], seeds.bandwidth[chosen]))]
    chosen = np.concatenate(kept)
    return Modes(seeds.centres[chosen], seeds.bandwidth[chosen])


def _fitting(seeds: Modes, left: NDArray[np.intp], size: int) -> int:
    """Return how many of the seeds that are left can be compared at once: `size`, or as few as it takes."""
    from scipy.spatial import KDTree

    size = min(size, len(left))
    while size > _BATCH:
        tree = KDTree(seeds.centres[left[:size]])
        # Each pair counts twice, and each seed makes one with itself.
        if tree.count_neighbors(tree, float(seeds.bandwidth[left[:size]].max())) <= 2 * _MOST_PAIRS:
            break
        size = max(_BATCH, size // 2)
    return size


def _reached(points: NDArray[np.float32], modes: Modes) -> NDArray[np.bool_]:
    """Return which points (P, D) lie within the reach of any mode."""
    from scipy.spatial import KDTree

    lists = KDTree(points).query_ball_point(modes.centres, modes.bandwidth)
    mode = np.repeat(np.arange(len(lists)), [len(found) for found in lists])
    point = np.concatenate([np.asarray(found, np.intp) for found in lists])
    # The tree counts what lies exactly at the reach as within.
    inside = np.linalg.norm(points[point] - modes.centres[mode], axis=1) < modes.bandwidth[mode]
    reached = np.zeros(len(points), bool)
    reached[point[inside]] = True
    return reached


def _stay(seeds: Modes) -> NDArray[np.bool_]:
    """Return which seeds stay, in a few rounds over all at once.

    A seed stays if no undecided better one reaches it, and what a seed that stays reaches is dropped.
    """
    from scipy.spatial import KDTree

    count = len(seeds.centres)
    pairs = KDTree(seeds.centres).query_pairs(float(seeds.bandwidth.max()), output_type="ndarray")
    better, worse = pairs.min(axis=1), pairs.max(axis=1)
    distance = np.linalg.norm(seeds.centres[better] - seeds.centres[worse], axis=1)
    reached = distance < seeds.bandwidth[better]
    better, worse = better[reached], worse[reached]
    undecided = np.ones(count, bool)
    kept = np.zeros(count, bool)
    while undecided.any():
        blocked = np.zeros(count, bool)
        blocked[worse[undecided[better]]] = True
        stays = undecided & ~blocked
        kept |= stays
        undecided &= ~stays
        undecided[worse[stays[better]]] = False
    return kept


def _refine(points: NDArray[np.float32], bandwidth: NDArray[np.float32], modes: Modes) -> Modes:
    """Move each mode to the mean of its members, as its centre is defined in training."""
    assigned = _assign(points, modes, 0.5)
    member = assigned != NOISE
    assigned, count = assigned[member], len(modes.centres)
    size = np.maximum(np.bincount(assigned, minlength=count), 1)
    columns = [np.bincount(assigned, column, count) / size for column in points[member].T]
    spread = np.exp(np.bincount(assigned, np.log(bandwidth[member]), count) / size)
    present = np.bincount(assigned, minlength=count) > 0
    centres = np.stack(columns, axis=1).astype(np.float32)
    return Modes(centres[present], spread[present].astype(np.float32))


def _reach(membership: float) -> np.float32:
    """Return the distance, in bandwidths, at which membership falls to a value: as in training, 2^(-distance^2)."""
    return np.float32(math.sqrt(-math.log2(membership)))


def _assign(points: NDArray[np.float32], modes: Modes, threshold: float) -> NDArray[np.int32]:
    """Give each point to the mode that it is the most a member of, or to none below the threshold."""
    from scipy.spatial import KDTree

    # Nothing beyond the farthest reach can be a member, and not to look there is most of the speed.
    farthest = _reach(threshold)
    bound = float(farthest) * float(modes.bandwidth.max()) * (1 + 1e-6)
    order = np.argsort(modes.centres[:, 0])
    modes = Modes(modes.centres[order], modes.bandwidth[order])
    found = np.full(len(points), NOISE, np.int32)
    for start in range(0, len(points), _CHUNK):
        part = points[start : start + _CHUNK]
        # NumPy is much slower along the first of two axes whose second is short.
        columns = np.ascontiguousarray(part.T)
        near = _around(modes.centres, columns.min(axis=1) - bound, columns.max(axis=1) + bound)
        if not len(near):
            continue
        # Points of a few rows of the image have few modes near, and a tree of these is as deep in an image of any size.
        tree = KDTree(modes.centres[near])
        # Asked for a list of neighbours, it returns (P, k) for a single one, too.
        neighbours = range(1, min(_NEIGHBOURS, len(near)) + 1)
        distance, index = tree.query(part, k=neighbours, distance_upper_bound=bound)
        # Missing neighbours have an infinite distance and the index N.
        scaled = distance / np.append(modes.bandwidth[near], np.float32(1))[index]
        best = np.argmin(scaled, axis=1)[:, None]
        nearest = np.take_along_axis(scaled, best, 1)[:, 0]
        label = np.take_along_axis(np.append(order[near], NOISE)[index], best, 1)[:, 0]
        found[start : start + _CHUNK] = np.where(nearest <= farthest, label, NOISE)
    return found


def _around(centres: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return which centres (N, D), sorted by their first number, lie within two bounds (D,)."""
    first = int(np.searchsorted(centres[:, 0], low[0], "left"))
    last = int(np.searchsorted(centres[:, 0], high[0], "right"))
    span = centres[first:last]
    return first + np.flatnonzero(((span >= low) & (span <= high)).all(axis=1))
