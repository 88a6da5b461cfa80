"""From clicks on an object to its pixels, by the embeddings of a model.

The embedding at a click stands for the object: what is connected with the click, and whose embedding lies within the
bandwidth, is the object. A model misses objects because it doubts that they are foreground, so that what counts as
foreground is relative to that at the click. The embedding is taken as it is there: that of the mode, the mean of the
members, found no more objects, and left fewer to growing and shrinking.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.clustering.embeddings import Embeddings

REACHES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Steps from small to large in which a person grows an object; 1 is where it begins."""

# A membership that falls as a Gaussian with the distance of embeddings, times the foreground probability relative to
# that at the click, is compared with a bound. At a reach of 1 it is met at so many bandwidths where the foreground is
# the same, and at this share of the foreground where the embedding is. Both were chosen by clicks at random places in
# objects of eight sets of images with two models.
_BANDWIDTHS, _FOREGROUND_SHARE = 1.1, 0.2
# The embedding at a click is the median of a square with this distance from its middle to its sides.
_AROUND = 1
# Where embeddings tell two clicks hardly apart, the nearer one in the image has the pixel: the distance between both
# counts as so many bandwidths.
_PLACE = 0.5
# The bandwidth of embeddings without one, in median distances of neighbouring pixels, as the clustering has it.
_NOISE_REACH = 3.0
_LEAST_FOREGROUND = 1e-4


def select(
    maps: Embeddings,
    inside: ArrayLike,
    outside: ArrayLike = (),
    *,
    reach: float = 1.0,
    free: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Return the pixels of the object that clicks lie on.

    Time is O(pixels) for each click, some ten milliseconds for 256 x 256 pixels.

    Parameters
    ----------
    maps : Embeddings
        Of H rows and W columns. Without a bandwidth, that of the settings is used, or a multiple of the median distance
        between the embeddings of neighbouring pixels.
    inside : (N, 2) floats
        Row and column of clicks on the object; those outside of the maps do not count.
    outside : (M, 2) floats
        Of clicks on what does not belong to it: a pixel goes to the click that its embedding is nearest to.
    reach : float
        How far the object reaches in the space of embeddings: a larger reach only adds pixels.
    free : (H, W) bool, optional
        The pixels that it may have; by default all.

    Returns
    -------
    (H, W) bool
        What is connected with the clicks inside, with holes filled as far as they are free. Nothing, if no click lies
        on a free pixel.

    Examples
    --------
    >>> values = np.array([[0, 0, 0, 9, 9, 9]] * 4, np.float32)[..., None]
    >>> maps = Embeddings(embeddings=values, foreground=np.ones((4, 6)), bandwidth=np.ones((4, 6)))
    >>> select(maps, [(1.5, 1.5)])[0]
    array([ True,  True,  True, False, False, False])
    """
    from scipy import ndimage

    shape = (maps.foreground.shape[0], maps.foreground.shape[1])
    free = np.ones(shape, bool) if free is None else free
    here = [pixel for pixel in _pixels(inside, shape) if free[pixel]]
    if not here:
        return np.zeros(shape, bool)
    cost = np.full(shape, np.inf, np.float32)
    near = [_distance(maps, pixel) for pixel in here]
    for pixel, distance in zip(here, near, strict=True):
        np.minimum(cost, (distance / np.float32(_BANDWIDTHS)) ** 2 + _doubt(maps.foreground, pixel), out=cost)
    member = (cost <= reach**2) & free
    for pixel in _pixels(outside, shape):
        member &= ~_nearer(pixel, _distance(maps, pixel), here, near)
    for pixel in here:
        member[pixel] = True
    pieces, count = ndimage.label(member)
    of_clicks = np.zeros(count + 1, bool)
    of_clicks[[pieces[pixel] for pixel in here]] = True
    return _filled(of_clicks[pieces]) & free


def _pixels(points: ArrayLike, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the pixels of points that lie in the maps."""
    values = np.floor(np.asarray(points, np.float64).reshape(-1, 2)).astype(np.int64)
    return [(row, column) for row, column in values.tolist() if 0 <= row < shape[0] and 0 <= column < shape[1]]


def _distance(maps: Embeddings, click: tuple[int, int]) -> NDArray[np.float32]:
    """Return how far (H, W) each pixel's embedding is from that at a click, in bandwidths of the click."""
    row, column = click
    around = np.s_[max(row - _AROUND, 0) : row + _AROUND + 1, max(column - _AROUND, 0) : column + _AROUND + 1]
    centre = np.median(maps.embeddings[around].reshape(-1, maps.embeddings.shape[2]), axis=0)
    offsets = maps.embeddings - centre
    distance: NDArray[np.float32] = np.sqrt(np.einsum("ijk,ijk->ij", offsets, offsets))
    distance /= np.float32(_bandwidth(maps, around))
    return distance


def _bandwidth(maps: Embeddings, around: tuple[slice, slice]) -> float:
    if maps.settings is not None and maps.settings.bandwidth is not None:
        return maps.settings.bandwidth
    if maps.bandwidth is not None:
        return float(np.median(maps.bandwidth[around]))
    steps = [np.linalg.norm(np.diff(maps.embeddings, axis=axis), axis=2).ravel() for axis in (0, 1)]
    return _NOISE_REACH * float(np.median(np.concatenate(steps))) or 1.0


def _doubt(foreground: NDArray[np.float32], click: tuple[int, int]) -> NDArray[np.float32]:
    """Return how much less (H, W) pixels are foreground than a click is: 0 for the same, 1 for the share at reach 1."""
    at_click = np.maximum(foreground[click], np.float32(_LEAST_FOREGROUND))
    doubt: NDArray[np.float32] = np.log(at_click / np.clip(foreground, _LEAST_FOREGROUND, at_click))
    doubt /= np.float32(-math.log(_FOREGROUND_SHARE))
    return doubt


def _nearer(
    click: tuple[int, int],
    distance: NDArray[np.float32],
    others: list[tuple[int, int]],
    distances: list[NDArray[np.float32]],
) -> NDArray[np.bool_]:
    """Return which pixels (H, W) belong to a click rather than to one of the others."""
    rows, columns = np.ogrid[: distance.shape[0], : distance.shape[1]]

    def way(pixel: tuple[int, int]) -> NDArray[np.float32]:
        length: NDArray[np.float32] = np.hypot(rows - pixel[0], columns - pixel[1]).astype(np.float32)
        return length

    nearer = np.ones(distance.shape, bool)
    for other, of_other in zip(others, distances, strict=True):
        scale = _PLACE / max(math.dist(click, other), 1.0)
        nearer &= distance + scale * way(click) < of_other + scale * way(other)
    return nearer


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask (H, W) without holes."""
    from scipy import ndimage

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    mask[window] = ndimage.binary_fill_holes(mask[window])
    return mask
