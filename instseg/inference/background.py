"""Where an image is background, which the network need not see: it has found nothing in places that look the same.

Glass around tissue, the dark ground of fluorescence and padding are flat but for noise, and most of a slide. Whether
a network finds nothing in such noise, nobody but the network can say: it is shown a few places of each brightness
(`find_background`), and what is flat and as bright as a place in which it found nothing is background
(`Background.occupied`). The rest, and what lies near it, is cut into boxes.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.preprocessing.levels import Levels
from instseg.tiling.grid import Box

LEAST_PIXELS = 1 << 22
"""Images of fewer pixels are shown as they are: what is found out about them would cost too large a part of them."""

# All in the network's pixels. The side of the blocks that are background or not, and the sides of the squares whose
# means are compared within them: objects of three pixels change the smallest, blurred ones the largest.
_BLOCK = 16
_SQUARES = (2, 4, 8, 16)
# In so many blocks beside one that is not background the rim of its object may lie.
_KEPT_BLOCKS = 3
# How far beyond a pixel the network looks, in its strides: 101 pixels with one of 16.
_REACH = 6.5
# Means of neighbours differ by at most so many standard deviations in noise, in a hundred megapixels of it. They are
# those of the flattest blocks, by chance a seventh less than those of all.
_DEVIATIONS = 7.0
_FLATTEST = 0.1
# Means of squares of four times the side differ by a quarter where there is noise only, and by as much in structures.
_AVERAGED_OUT = 0.5
# What is as bright as a place that was shown differs from it by less than this share of the extent of the levels.
_BRIGHTNESS_STEP = 0.05
# The side, in blocks, of places that are shown; how many of one brightness, and of how many; and the margin, in blocks,
# in which the edge of a place may be taken for something.
_PLACE, _PLACES, _BRIGHTNESSES, _PLACE_MARGIN = 16, 3, 8, 4
# Such a share of a place may be of another brightness than most of it, which the network has then been shown, too.
_MUCH = 0.1
# The largest foreground probability in such places, as a share of that from which on pixels are clustered.
_NOTHING = 0.5
# Showing places has to be worth it: background is so many times as large at least.
_WORTH = 8
# A box of the network's is cut in two where they have this share of its pixels at most.
_CUT_GAIN = 0.9


class _Statistics(NamedTuple):
    """Of the blocks of a part: the mean (h, w, C), and the largest and the mean difference (h, w, S, C) of squares."""

    mean: NDArray[np.float32]
    largest: NDArray[np.float32]
    typical: NDArray[np.float32]


class Occupied(NamedTuple):
    """What of a part (H, W) of an image is not background.

    Attributes
    ----------
    boxes : list of (Box, Box)
        What the network's maps are taken for, which do not overlap, and what it is to see for it.
    kept : (H, W) bool
        Where there may be objects; nothing is elsewhere, whatever the network says.
    """

    boxes: list[tuple[Box, Box]]
    kept: NDArray[np.bool_]


class Background(NamedTuple):
    """What the background of an image looks like.

    Attributes
    ----------
    unit : int
        How many of the image's pixels a pixel of the network is along each side, at least 1.
    margin : int
        How far beyond a pixel the network looks, in pixels of the image.
    steps : (S, C) float32
        How much the means of neighbouring squares may differ, by the size of the squares and by channel.
    origin, step : (C,) float32
        Brightness is told in whole steps from an origin.
    brightness : (N, C) int64
        Those of places in which the network has found nothing.
    """

    unit: int
    margin: int
    steps: NDArray[np.float32]
    origin: NDArray[np.float32]
    step: NDArray[np.float32]
    brightness: NDArray[np.int64]

    def occupied(self, part: NDArray[Any], multiple: int = 1) -> Occupied:
        """Return what of a part (H, W, C) of the image is not background.

        What an object's pixels are depends on nothing beyond the box that it lies in, as the network looks no farther.
        About 8 ms a megapixel and channel; the memory is that of 6 bytes a pixel.

        Parameters
        ----------
        part : (H, W, C) of numbers
        multiple : int
            Boxes begin at multiples of so many pixels.
        """
        found, side = _statistics(part, self.unit), _BLOCK * self.unit
        flat = (found.largest <= self.steps).all(axis=(2, 3))
        empty = flat & _among(_brightness(found.mean, self.origin, self.step), self.brightness)
        kept = _dilated(~empty, _KEPT_BLOCKS)
        seen = math.ceil(max(0, self.margin / side - _KEPT_BLOCKS))
        whole = Box(0, 0, *part.shape[:2])
        boxes = []
        for core in _cut(kept, seen):
            pixels, wider = (
                Box(*(place * side for place in box)).intersection(whole) for box in (core, _widened(core, seen))
            )
            boxes.append((pixels, Box(*(place // multiple * multiple for place in wider.begin), *wider.end)))
        of_pixels = kept.repeat(side, axis=0).repeat(side, axis=1)
        return Occupied(boxes, of_pixels[: part.shape[0], : part.shape[1]])


def find_background(
    parts: Iterator[NDArray[Any]],
    pixels: int,
    levels: Levels,
    scale: float,
    stride: int,
    foreground: Callable[[NDArray[Any]], NDArray[np.float32]],
    threshold: float,
) -> Background | None:
    """Find out what the background of an image looks like, and whether the network finds nothing in it.

    Parameters
    ----------
    parts : iterator of (H, W, C) of numbers
        Parts that are spread over the image.
    pixels : int
        Of the image.
    levels : tuple of (C,) float32
    scale : float
        How many times larger the network sees the image.
    stride : int
        That of the network's coarsest cells.
    foreground : callable
        Takes a place (h, w, C) of the image, and returns the foreground probabilities (h, w).
    threshold : float
        The foreground probability from which on pixels are clustered.

    Returns
    -------
    Background or None
        None where there is none, where it is small, or where the network finds something in it.
    """
    unit = max(1, round(1 / scale))
    kept = [(part, _statistics(part, unit)) for part in parts if min(part.shape[:2]) >= _PLACE * _BLOCK * unit]
    if not kept:
        return None
    mean, largest, typical = (
        np.concatenate([values.reshape(-1, *values.shape[2:]) for values in several])
        for several in zip(*(found for _, found in kept), strict=True)
    )
    limits = _noise_limits(largest, typical)
    if limits is None:
        return None
    flat = (largest <= limits).all(axis=(1, 2))
    if not flat.any():
        return None
    # Most of a background is in the middle of a step so.
    origin = np.median(mean[flat], axis=0)
    step = np.maximum((levels[1] - levels[0]) * np.float32(_BRIGHTNESS_STEP), np.float32(1e-12))
    side = _PLACE * _BLOCK * unit
    shown = _chosen(
        (
            place
            for part, found in kept
            for place in _flat_places(part, found, limits, _brightness(found.mean, origin, step), unit)
        ),
        round(flat.mean() * pixels / (_WORTH * side * side)),
    )
    if not shown:
        return None
    margin = _PLACE_MARGIN * _BLOCK * unit
    seen = np.stack([foreground(place.pixels) for place in shown])
    inside = seen[:, margin : side - margin, margin : side - margin].reshape(len(shown), -1).max(axis=1)
    # One place with something is enough for a brightness not to be background.
    something = [place for place, highest in zip(shown, inside, strict=True) if highest >= _NOTHING * threshold]
    brightness = np.concatenate([place.others for place in shown])
    nothing = brightness[~_among(brightness, np.array([place.brightness for place in something]))]
    if not len(nothing):
        return None
    return Background(unit, math.ceil(_REACH * stride / scale), limits, origin, step, np.unique(nothing, axis=0))


def _cut(kept: NDArray[np.bool_], margin: int, within: Box | None = None) -> list[Box]:
    """Return boxes around what is kept (h, w), cut along lines where nothing is, as long as that is worth it.

    Parameters
    ----------
    kept : (h, w) bool
    margin : int
        How many blocks are seen beyond a box.
    within : Box, optional
        The part to look at; by default all.
    """
    whole = Box.whole(kept.shape)
    core, lines = _bounds(kept, within or whole)
    if core is None:
        return []
    best, cut = _CUT_GAIN * _area(core, margin, whole), None
    for axis in range(2):
        for end, begin in _gaps(lines[axis]):
            parts = core.with_bounds(axis, core.begin[axis], end), core.with_bounds(axis, begin, core.end[axis])
            area = sum(_area(_bounds(kept, part)[0] or part, margin, whole) for part in parts)
            if area < best:
                best, cut = area, parts
    return [core] if cut is None else [box for part in cut for box in _cut(kept, margin, part)]


def _area(box: Box, margin: int, whole: Box) -> int:
    return math.prod(_widened(box, margin).intersection(whole).shape)


def _bounds(kept: NDArray[np.bool_], within: Box) -> tuple[Box | None, list[NDArray[np.intp]]]:
    """Return the box around what is kept in a part, None for nothing, and the rows and the columns where any is."""
    part = kept[within.slices_in(Box.whole(kept.shape))]
    lines = [np.flatnonzero(part.any(axis=1 - axis)) + within.begin[axis] for axis in range(2)]
    if not len(lines[0]):
        return None, lines
    return Box(*(int(line[0]) for line in lines), *(int(line[-1]) + 1 for line in lines)), lines


def _gaps(line: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return where each gap between ascending indices begins and ends."""
    before = np.flatnonzero(np.diff(line) > 1)
    return [(int(line[index]) + 1, int(line[index + 1])) for index in before]


def _widened(box: Box, margin: int) -> Box:
    return Box(*(begin - margin for begin in box.begin), *(end + margin for end in box.end))


def _dilated(mask: NDArray[np.bool_], blocks: int) -> NDArray[np.bool_]:
    wide = mask.copy()
    for axis in range(2):
        before, after = np.moveaxis(wide.copy(), axis, 0), np.moveaxis(wide, axis, 0)
        for step in range(1, min(blocks, len(before) - 1) + 1):
            after[step:] |= before[:-step]
            after[:-step] |= before[step:]
    return wide


class _Place(NamedTuple):
    """A place of an image: its pixels, how bright most of it is, and what else (N, C) much of it is."""

    pixels: NDArray[Any]
    brightness: tuple[int, ...]
    others: NDArray[np.int64]


def _flat_places(
    part: NDArray[Any], found: _Statistics, limits: NDArray[np.float32], brightness: NDArray[np.int64], unit: int
) -> Iterator[_Place]:
    """Yield places of a part that are flat and of one brightness mostly, side by side."""
    side = _PLACE * _BLOCK * unit
    flat: NDArray[np.bool_] = np.all(found.largest <= limits, axis=(2, 3))
    for top in range(0, flat.shape[0] - _PLACE + 1, _PLACE):
        for left in range(0, flat.shape[1] - _PLACE + 1, _PLACE):
            window = np.s_[top : top + _PLACE, left : left + _PLACE]
            pixels = part[top * _BLOCK * unit :, left * _BLOCK * unit :][:side, :side]
            if pixels.shape[:2] != (side, side) or not flat[window].all():
                continue
            values, counts = np.unique(brightness[window].reshape(-1, brightness.shape[2]), axis=0, return_counts=True)
            frequent = values[counts >= _MUCH * _PLACE**2]
            yield _Place(pixels, tuple(values[counts.argmax()].tolist()), frequent)


def _chosen(places: Iterable[_Place], most: int) -> list[_Place]:
    """Return a few places of each brightness, spread over the image, the most frequent first, as long as they fit."""
    of: dict[tuple[int, ...], list[_Place]] = {}
    for place in places:
        of.setdefault(place.brightness, []).append(place)
    chosen: list[_Place] = []
    for several in sorted(of.values(), key=len, reverse=True)[:_BRIGHTNESSES]:
        # The network says one thing of all places of one value.
        count = 1 if np.ptp(several[0].pixels, axis=(0, 1)).max() == 0 else min(_PLACES, len(several))
        if len(chosen) + count > most:
            break
        chosen += [several[index * len(several) // count] for index in range(count)]
    return chosen


def _noise_limits(steps: NDArray[np.float32], typical: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return how much means of neighbours may differ (S, C) in noise; None where the flattest blocks are no noise.

    Parameters
    ----------
    steps, typical : (N, S, C) float32
        The largest difference in each block, and the mean.
    """
    # What is of one value says nothing of the noise elsewhere.
    noisy = typical[(steps[:, 0] > 0).any(axis=1)]
    if not len(noisy):
        return np.zeros(steps.shape[1:], np.float32)
    order = np.argsort(noisy[:, 0].max(axis=1), kind="stable")
    # The median, as many of these blocks may be beside others of another brightness.
    middle = np.median(noisy[order[: max(1, round(_FLATTEST * len(noisy)))]], axis=0)
    limits: NDArray[np.float32] = (middle * (_DEVIATIONS * math.sqrt(math.pi / 2))).astype(np.float32)
    # Not the largest squares: light falls off slowly in most images.
    return limits if bool((limits[-2] <= _AVERAGED_OUT * limits[0]).all()) else None


def _statistics(part: NDArray[Any], unit: int) -> _Statistics:
    side = _SQUARES[0] * unit
    squares = np.stack([_in_squares(part[..., channel], side) for channel in range(part.shape[2])])
    largest, typical = [], []
    blocks = _BLOCK // _SQUARES[0]
    for size in _SQUARES:
        if size > _SQUARES[0]:
            squares = _reduced(np.add, squares, 2) / np.float32(4)
            blocks //= 2
        across, down = (np.abs(np.diff(squares, axis=axis, append=_last(squares, axis))) for axis in (2, 1))
        largest.append(_reduced(np.maximum, np.maximum(across, down), blocks))
        typical.append(_reduced(np.add, across + down, blocks) / np.float32(2 * blocks * blocks))
    return _Statistics(*(np.moveaxis(one, 0, -1) for one in (squares, np.stack(largest, 3), np.stack(typical, 3))))


def _in_squares(channel: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Return the means of squares (h, w), as many as fill blocks; beyond the edges those at the edges are repeated."""
    height, width = (max(1, length // side) for length in channel.shape)
    sums = np.uint32 if channel.dtype in (np.uint8, np.uint16) else np.float32
    rows: NDArray[Any] = channel[: height * side : side].astype(sums)
    for row in range(1, min(side, channel.shape[0])):
        rows += channel[row : height * side : side]
    total = rows[:, : width * side : side].astype(np.float32)
    for column in range(1, min(side, channel.shape[1])):
        total += rows[:, column : width * side : side]
    total *= np.float32(1 / side**2)
    count = _BLOCK // _SQUARES[0]
    return np.pad(total, [(0, -length % count) for length in total.shape], mode="edge")


def _last(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    return values.take([-1], axis)


def _reduced(function: np.ufunc, values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Reduce squares of so many rows and columns, a power of two, of values (C, h, w)."""
    while count > 1:
        values = function(values[:, ::2], values[:, 1::2])
        values = function(values[:, :, ::2], values[:, :, 1::2])
        count //= 2
    return values


def _brightness(
    means: NDArray[np.float32], origin: NDArray[np.float32], step: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the brightness (..., C) of blocks in whole steps."""
    brightness: NDArray[np.int64] = np.rint(np.clip((means - origin) / step, -(2**20), 2**20)).astype(np.int64)
    return brightness


def _among(brightness: NDArray[np.int64], known: Iterable[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Return which brightnesses (..., C) are among some (N, C)."""
    found = np.zeros(brightness.shape[:-1], bool)
    for one in known:
        found |= (brightness == one).all(axis=-1)
    return found
