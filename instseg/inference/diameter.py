"""The size at which a network is to see an image, from the diameter of its objects."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.cluster import cluster
from instseg.clustering.instances import Instances, measure_instances, median_diameter
from instseg.inference.embedder import Embedder
from instseg.inference.options import Diameter, PercentileRange
from instseg.tiling.grid import Box

# Sizes are tried in steps of sqrt(2), two of which are an octave.
_STEP, _OCTAVE, _MOST_STEPS = math.sqrt(2), 2, 6
# Height and width of the part of an image that sizes are tried on, in its pixels and in those of the network: of what
# is enlarged it sees a part, which takes half of the time.
_CROP, _SMALLEST_SEEN = 384, 32
# So many rows and columns of a part tell how much its values differ.
_SAMPLED = 48
# How many times the confidence at a size a larger one needs, which costs more.
_MARGIN = 1.02
# How much surer, in shares, objects have to be at a size an octave further from that of the training; and, where it is
# a smaller size, if they look smaller by an octave there than those of the training: of small objects networks are
# surer than they are right. Larger sizes are not favoured so: at these, hot pixels look like objects. Of 60 images of
# eleven kinds, AP at IoU 0.5 of two models was 0.716 and 0.692 with the first alone, and 0.726 and 0.703 with both.
_FAR, _SMALL = 0.02, 0.2
# The first where the size is that of the training, and only checked. Of 86 images of six kinds, after training on five
# images from a general model, AP at IoU 0.5 was 0.753 without the check, 0.770 with 0.02, 0.769 with 0.1, which made
# none of the kinds worse, and 0.764 with 0.2; after one image 0.672, 0.678, 0.676 and 0.677; of 29 images of five kinds
# and models of 11 to 39 images 0.695, 0.738 and 0.731, most of it of one kind.
_FAR_CHECKED = 0.1
# No other size is tried where objects are surer than this as they are, and within so many octaves of the training's
# size: of 65 images of twelve sets these are 17, and none of them is segmented better at the size that would be found.
_SURE, _NEAR = 0.9, 1.0
# The least confidence at another size where nothing is found at the size of the training.
_LEAST = 0.5


def resolve_magnification(
    embedder: Embedder, image: NDArray[Any], levels: PercentileRange, diameter: Diameter
) -> float:
    """Return how many times larger the network is to see an image.

    Parameters
    ----------
    embedder : Embedder
    image : (H, W, C) of numbers
        As `Embedder.prepare_image` returns it.
    levels : tuple of (C,) float32
        The image's levels.
    diameter : float, 'auto' or None
        Typical diameter of the image's objects in pixels; None: as in training, 'auto' for a model that learnt
        objects of one size only, and of few images as in training unless others are surer by far.

    Raises
    ------
    UsageError
        If the diameter is out of all proportion to those of the training.
    """
    if diameter is not None and diameter != "auto":
        return embedder.settings.magnification(diameter)
    if not is_estimated(embedder, diameter):
        return 1.0
    checked = diameter is None and not embedder.settings.estimate_diameter
    return estimate_magnification(embedder, image, levels, far=_FAR_CHECKED if checked else _FAR)


def is_estimated(embedder: Embedder, diameter: Diameter) -> bool:
    """Return whether the diameter is to be found out by looking at an image."""
    settings = embedder.settings
    return diameter == "auto" or (diameter is None and (settings.estimate_diameter or settings.check_diameter))


def estimate_magnification(
    embedder: Embedder, image: NDArray[Any], levels: PercentileRange, *, far: float = _FAR
) -> float:
    """Return how many times larger a network has to see an image for its objects to be surest.

    Confidence is the mean over the pixels of the instances of their scores: objects seen too large fall into uncertain
    pieces, and too small ones into uncertain heaps. It is tried on a part of the image, as it is, then in steps of
    sqrt(2) smaller or else larger as long as it rises, and at last at half and at twice the size, whence it goes on if
    that is better: a search by octaves alone misses the best size, and one by small steps alone stops too early. Of two
    sizes at which objects are as sure, that is taken which is nearer to the training's, and at which they do not look
    smaller than those of the training. Costs about as much as an image of 700 x 700 pixels, and of 384 x 384 where
    objects are so sure as they are that no other size is tried.

    Parameters
    ----------
    embedder : Embedder
    image : (H, W, C) of numbers
        As `Embedder.prepare_image` returns it.
    levels : tuple of (C,) float32
        The image's levels.
    far : float
        How much surer, in shares, objects have to be at a size an octave further from that of the training.

    Returns
    -------
    float
        From 1/8 to 8; 1 where nothing is found.
    """
    tried = _TriedSizes(embedder, _highest_contrast_crop(image, levels), levels, far)
    if tried.are_sure_as_they_are():
        return 1.0

    def is_better(steps: int, than: int) -> bool:
        area = tried.area(max(steps, than))
        least = 0.0 if tried.confidence(0, tried.area(0)) else _LEAST
        margin = _MARGIN if steps > than else 1.0
        return tried.confidence(steps, area) > max(margin * tried.confidence(than, area), least)

    def climb(steps: int, directions: tuple[int, ...]) -> int:
        begin = steps
        for direction in directions:
            while is_better(steps + direction, steps):
                steps += direction
            if steps != begin:
                break
        return steps

    best = climb(0, (-1, 1))
    for octave, direction in ((-_OCTAVE, -1), (_OCTAVE, 1)):
        if is_better(best + octave, best):
            best = climb(best + octave, (direction,))
            break
    return float(_STEP**best)


class _Found(NamedTuple):
    """Instances, and the labels of the part that they were found in, at the part's resolution."""

    instances: Instances
    labels: NDArray[np.int32]
    seen: Box


class _TriedSizes:
    """The instances that a network finds in a part of an image at several sizes, each found once.

    Parameters
    ----------
    embedder : Embedder
    part : (H, W, C) of numbers
    levels : tuple of (C,) float32
    far : float
        As `estimate_magnification` takes it.
    """

    def __init__(self, embedder: Embedder, part: NDArray[Any], levels: PercentileRange, far: float) -> None:
        self._embedder, self._part, self._levels, self._far = embedder, part, levels, far
        self._found: dict[int, _Found | None] = {}
        self._areas: dict[int, Box] = {}

    def area(self, steps: int) -> Box:
        """Return what is looked at so many steps of magnification above the size of the training.

        It lies in what is looked at one step below, for the two to be compared.
        """
        if steps not in self._areas:
            outer = self.area(steps - 1) if steps > -_MOST_STEPS else Box.whole(self._part.shape[:2])
            most = math.ceil(_CROP / (_STEP**steps * self._embedder.settings.scale))
            sides = [min(length, most) for length in outer.shape]
            # Half of each lies in the next one.
            places = (
                np.linspace(0, length - side, 2 * -(-length // side) - 1).round().astype(int).tolist()
                for length, side in zip(outer.shape, sides, strict=True)
            )
            boxes = [
                Box(*place, *np.add(place, sides).tolist()).translated(outer.begin)
                for place in itertools.product(*places)
            ]
            self._areas[steps] = _highest_contrast(self._part, self._levels, boxes, max(1, min(sides) // _SAMPLED))
        return self._areas[steps]

    def are_sure_as_they_are(self) -> bool:
        """Return whether objects are about as large as the training's, and so sure that no other size need be tried."""
        found = self._find_once(0)
        if found is None or self.confidence(0, self.area(0)) <= _SURE:
            return False
        octaves = math.log2(median_diameter(found.instances.area) / self._embedder.settings.diameter)
        return abs(octaves) <= _NEAR

    def confidence(self, steps: int, area: Box) -> float:
        """Return how sure the network is of the instances in an area, by their pixels in it; 0 without any.

        What is larger than the area counts, too: without it, the inside of a large object would be a place where
        nothing is found as it is, and any size better.
        """
        found = self._find_once(steps)
        if found is None:
            return 0.0
        inside = found.labels[area.slices_in(found.seen)]
        pixels = np.bincount(inside.ravel(), minlength=found.labels.max() + 1)[found.instances.label]
        if not pixels.any():
            return 0.0
        sureness = float(np.average(found.instances.score, weights=pixels))
        sureness *= 1 - self._far * abs(steps) / _OCTAVE
        if steps < 0:
            seen = median_diameter(found.instances.area[pixels > 0]) * _STEP**steps
            octaves_smaller = max(0.0, math.log2(self._embedder.settings.diameter / seen))
            sureness *= max(0.0, 1 - _SMALL * octaves_smaller)
        return sureness

    def _find_once(self, steps: int) -> _Found | None:
        """Return what is found at a size, as `_find` does."""
        if steps not in self._found:
            self._found[steps] = self._find(steps)
        return self._found[steps]

    def _find(self, steps: int) -> _Found | None:
        """Return what is found at a size, None where that is too small or too large."""
        area, magnification = self.area(steps), _STEP**steps
        if abs(steps) > _MOST_STEPS or min(area.shape) * magnification * self._embedder.settings.scale < _SMALLEST_SEEN:
            return None
        seen = self._part[area.slices_in(Box.whole(self._part.shape[:2]))]
        maps = self._embedder.embed_tile(seen, self._levels, magnification=magnification)
        labels = cluster(maps)
        return _Found(measure_instances(labels, maps), labels, area)


def _highest_contrast_crop(image: NDArray[Any], levels: PercentileRange) -> NDArray[Any]:
    """Return the part of a large image whose values differ most: where there are objects."""
    whole = Box.whole(image.shape[:2])
    starts = (range(0, max(1, length - _CROP // 2), _CROP) for length in whole.shape)
    boxes = [Box(*place, *np.add(place, _CROP).tolist()).intersection(whole) for place in itertools.product(*starts)]
    return image[_highest_contrast(image, levels, boxes, _CROP // _SAMPLED).slices_in(whole)]


def _highest_contrast(image: NDArray[Any], levels: PercentileRange, boxes: Sequence[Box], step: int) -> Box:
    """Return the box in which the values of every so many rows and columns of an image differ most."""
    if len(boxes) == 1:
        return boxes[0]
    whole, extent = Box.whole(image.shape[:2]), np.maximum(levels[1] - levels[0], 1e-9)

    def contrast(box: Box) -> float:
        sampled = image[box.slices_in(whole)][::step, ::step].astype(np.float32)
        return float((sampled / extent).std(axis=(0, 1)).mean())

    return max(boxes, key=contrast)
