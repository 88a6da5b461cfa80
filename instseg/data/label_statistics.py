"""What a label image holds: areas and pieces of its instances, and signs that its values are no instance numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.labels.regions import IGNORED, equivalent_diameter
from instseg.labels.runs import Runs, find_runs

PERCENTILES = (5, 50, 95)
"""Of the diameters of instances."""

# Instances of so few pixels, and of so small a share of the typical area, are taken for slips of the annotation. The
# smallest instances of sets of tiny objects are larger, or not so far from the typical one.
_LARGEST_CRUMB, _CRUMB_SHARE = 9, 1 / 25
# Pieces of so few pixels at the rim of another are steps of a smoothed edge.
_LARGEST_STEP = 4
# Values that stand for "white" or "nothing" and are only rarely the number of an instance.
_RESERVED = (255, 65_535)
_MOST_CLASSES = 20


class Suspicion(NamedTuple):
    """A sign that the values of a label image do not number its instances.

    Attributes
    ----------
    what, advice : str
        What speaks for it, and what to do. Parameters are in backticks.
    """

    what: str
    advice: str


class LabelStatistics(NamedTuple):
    """The instances of a label image.

    Attributes
    ----------
    ids, areas, pieces : (N,) integers
        Of each instance: its label, ascending, its pixels, and the number of its 8-connected components.
    ignored : int
        Number of pixels that take no part.
    suspicion : Suspicion or None
    """

    ids: NDArray[np.integer]
    areas: NDArray[np.int64]
    pieces: NDArray[np.int64]
    ignored: int
    suspicion: Suspicion | None


class Diameters(NamedTuple):
    """Percentiles of the diameters of instances in pixels, each that of the disc of equal area or ball of equal volume.

    Attributes
    ----------
    smallest, typical, largest : float
        5th, 50th and 95th percentile.
    """

    smallest: float
    typical: float
    largest: float


def label_statistics(values: NDArray[np.integer], *, connected_components: bool = False) -> LabelStatistics:
    """Count and measure the instances of a label image, and look whether its values number them.

    Parameters
    ----------
    values : (H, W) or (Z, H, W) integers
        As the file has them: 0 is background, `IGNORED` takes no part.
    connected_components : bool
        Whether each connected piece of equal values is an instance, whose label is its number in raster order.
    """
    runs = find_runs(values)
    pieces = _pieces(runs)
    ids, owner = np.unique(pieces.values, return_inverse=True)
    counted = np.bincount(owner, minlength=len(ids))
    areas = np.bincount(owner, pieces.areas, len(ids)).astype(np.int64)
    instances = ids > 0
    ignored = int(areas[~instances].sum())
    suspicion = None
    if instances.any():
        touching = _touching(runs, values.shape[-1])
        suspicion = _suspicion(values, ids[instances], areas[instances], pieces, runs, touching, connected_components)
    if not connected_components:
        return LabelStatistics(ids[instances], areas[instances], counted[instances], ignored, suspicion)
    found = pieces.areas[pieces.values > 0]
    numbers = np.arange(1, len(found) + 1)
    return LabelStatistics(numbers, found, np.ones_like(numbers), ignored, suspicion)


def crumb_limit(areas: NDArray[np.int64]) -> int:
    """Return up to how many pixels instances are crumbs, which say nothing of the objects' size; 0 where none are.

    Parameters
    ----------
    areas : (N,) int64
        Of all instances of a data set, in pixels. The typical area is that of the instance which the median pixel
        belongs to, so that crumbs do not move it as long as they are the smaller part of the foreground.

    Examples
    --------
    >>> import numpy as np
    >>> crumb_limit(np.array([1, 1, 1, 1, 200, 300])), crumb_limit(np.array([5, 6, 7, 8]))
    (9, 0)
    """
    ascending = np.sort(areas)
    if not len(ascending):
        return 0
    total = np.cumsum(ascending)
    typical = ascending[np.searchsorted(total, total[-1] / 2)]
    return int(min(_LARGEST_CRUMB, np.ceil(typical * _CRUMB_SHARE) - 1))


def measure_diameters(areas: NDArray[np.int64], crumbs: int = 0, spacing: Sequence[float] | None = None) -> Diameters:
    """Return percentiles of the diameters of instances.

    Parameters
    ----------
    areas : (N,) int64
        In pixels; at least one.
    crumbs : int
        Instances of up to so many pixels are not measured, unless there is no other.
    spacing : sequence of float, optional
        Of volumes: the size of a voxel along Z, Y and X, relative to that along X, whose pixels diameters are in.
    """
    percentiles = np.percentile(without_crumbs(areas, crumbs), PERCENTILES)
    if spacing is None:
        diameters = equivalent_diameter(percentiles)
    else:
        diameters = np.cbrt(6 / math.pi * percentiles * math.prod(spacing))
    return Diameters(*(round(float(value), 2) for value in diameters))


def without_crumbs(areas: NDArray[np.int64], crumbs: int) -> NDArray[np.int64]:
    """Return the areas above that of crumbs, or all if there is none."""
    measured = areas[areas > crumbs]
    return measured if len(measured) else areas


class _Pieces(NamedTuple):
    """The connected components of a label image: value and area of each, in raster order."""

    values: NDArray[np.integer]
    areas: NDArray[np.int64]


def _pieces(runs: Runs) -> _Pieces:
    inside = runs.components > 0
    components = runs.components[inside] - 1
    areas = np.bincount(components, runs.lengths[inside]).astype(np.int64)
    values = np.zeros(len(areas), runs.values.dtype)
    values[components] = runs.values[inside]
    return _Pieces(values, areas)


def _touching(runs: Runs, width: int) -> NDArray[np.intp]:
    """Return the runs of instances that touch the next run of their row, if that is of an instance, too."""
    same_row = runs.first_pixels[1:] % width != 0
    return np.flatnonzero(same_row & (runs.values[:-1] > 0) & (runs.values[1:] > 0))


def _suspicion(
    values: NDArray[np.integer],
    ids: NDArray[np.integer],
    areas: NDArray[np.int64],
    pieces: _Pieces,
    runs: Runs,
    touching: NDArray[np.intp],
    connected_components: bool,
) -> Suspicion | None:
    """Return the likeliest reason for which values do not number instances."""
    if _has_smooth_edges(values, ids, areas) or _has_steps(pieces, runs, touching):
        what = f"its {len(ids)} values look like smoothed or compressed edges (values between those of the objects)"
        return Suspicion(
            what,
            "save labels without interpolation or JPEG; of a smoothed mask, make 255 what is 128 and more, else 0, and "
            "give `connected_components=True`",
        )
    if connected_components:
        return None
    if _are_classes(pieces, ids):
        many = f"{len(pieces.values)} pieces" if len(ids) == 1 else f"{len(pieces.values)} pieces of {len(ids)} values"
        return Suspicion(
            f"its values look like classes, not instances: {many}",
            "give every object a number of its own, or give `connected_components=True` to make every connected piece "
            "an instance; the classes can be given in classes/",
        )
    return _hub(values, ids, areas, pieces, runs, touching)


def _has_smooth_edges(values: NDArray[np.integer], ids: NDArray[np.integer], areas: NDArray[np.int64]) -> bool:
    """Return whether most pixels between black and white lie on a slope from one to the other."""
    white = ids[-1]
    if white not in _RESERVED or len(ids) < 4 or areas[-1] < 0.2 * areas.sum():
        return False
    lowest, highest = values.copy(), values.copy()
    for axis in range(values.ndim):
        for function, kept in ((np.minimum, lowest), (np.maximum, highest)):
            before, after = np.moveaxis(kept, axis, 0)[:-1].copy(), np.moveaxis(kept, axis, 0)[1:].copy()
            turned = np.moveaxis(kept, axis, 0)
            function(turned[1:], before, out=turned[1:])
            function(turned[:-1], after, out=turned[:-1])
    between = (values > 0) & (values < white)
    on_slope = between & (lowest < values) & (values < highest)
    return bool(on_slope.sum() > 0.5 * between.sum())


def _has_steps(pieces: _Pieces, runs: Runs, touching: NDArray[np.intp]) -> bool:
    """Return whether most pieces are tiny and touch others."""
    tiny = (pieces.areas <= _LARGEST_STEP) & (pieces.values > 0)
    if tiny.sum() < 5:
        return False
    touches = np.zeros(len(tiny) + 1, bool)
    touches[runs.components[touching]] = True
    touches[runs.components[touching + 1]] = True
    return bool((tiny & touches[1:]).sum() > 0.5 * (pieces.values > 0).sum())


def _are_classes(pieces: _Pieces, ids: NDArray[np.integer]) -> bool:
    """Return whether there are few values, and most of them lie in many pieces."""
    if len(ids) > _MOST_CLASSES:
        return False
    sizeable = pieces.values[(pieces.values > 0) & (pieces.areas > _LARGEST_STEP)]
    of_each = np.bincount(np.searchsorted(ids, sizeable), minlength=len(ids))
    return bool(np.median(of_each) >= 3)


def _hub(
    values: NDArray[np.integer],
    ids: NDArray[np.integer],
    areas: NDArray[np.int64],
    pieces: _Pieces,
    runs: Runs,
    touching: NDArray[np.intp],
) -> Suspicion | None:
    """Return what one label that lies between the others, or nearly everywhere, is taken for."""
    zeros = values.size - int(areas.sum()) - int((values == IGNORED).sum())
    others = len(ids) - 1
    gap = np.isin(ids, _RESERVED) & (np.diff(ids, prepend=-1) > 1)
    neighbours = _neighbours(ids, runs, touching)
    between = (others > 0) & (neighbours >= np.where(gap, 0.5 * others, max(5, 0.8 * others)))
    large = areas > 0.5 * values.size
    for index in np.flatnonzero(between | gap | large):
        label = int(ids[index])
        around = others >= 3 and zeros < 0.2 * values.size and _at_all_edges(values, label)
        everywhere = large[index] and (zeros == 0 or around)
        in_pieces = gap[index] and (pieces.values == label).sum() >= 3
        if not (everywhere or between[index] or in_pieces):
            continue
        if everywhere or (areas[index] >= 0.3 * values.size and _at_all_edges(values, label)):
            share = f"covers {areas[index] / values.size:.0%} of the image"
            missing = ", and 0 does not occur" if zeros == 0 else ""
            what = f"the label {label} looks like the background: it {share}{missing}"
            unknown = f"if nobody knows what these pixels are, give `ignore_label={label}`, which leaves them out"
            return Suspicion(what, f"make the background 0 in the label images; {unknown}")
        what = f"the label {label} looks like boundaries or unlabelled ground between the instances"
        return Suspicion(what, f"give `ignore_label={label}` to leave these pixels out, or make them 0, the background")
    return None


def _neighbours(ids: NDArray[np.integer], runs: Runs, touching: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return how many other labels each label touches at its left or right."""
    if not len(touching):
        return np.zeros(len(ids), np.int64)
    one = np.searchsorted(ids, runs.values[touching]).astype(np.int64)
    other = np.searchsorted(ids, runs.values[touching + 1]).astype(np.int64)
    pairs = np.unique(np.concatenate([one * len(ids) + other, other * len(ids) + one]))
    return np.bincount(pairs // len(ids), minlength=len(ids))


def _at_all_edges(values: NDArray[np.integer], label: int) -> bool:
    edges = ((end, axis) for axis in range(values.ndim) for end in (0, -1))
    return all((values.take(end, axis) == label).any() for end, axis in edges)
