"""The levels of an image where somebody chooses them: values, percentiles, and which pixels count.

Levels by a rule (`instseg.preprocessing.levels`) are wrong where the brightest or the darkest part of an image is none
of its objects: debris, hot pixels in clusters, a white frame that is torn, the black triangles beside a turned mosaic.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import UsageError, check_parameter
from instseg.preprocessing.levels import Levels, estimate_levels, image_levels
from instseg.preprocessing.normalisation import percentiles, read_samples
from instseg.settings import LevelsRule
from instseg.tiling.grid import Box

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LevelChoice:
    """What is chosen of an image's levels; by default nothing, so that the model's rule finds them.

    Attributes
    ----------
    levels : (float, float) or None
        The values, in the file's units, that become 0 and 1 in every channel. An inverted channel has them inverted.
    percentiles : (float, float) or None
        The percentiles, 0..100, of the file's values in each channel that become 0 and 1.
    ignore_zeros : bool
        Whether pixels that are 0 in all channels hold no image: they do not count, and no object is there.

    Raises
    ------
    UsageError
        If the first of two is not below the second, a percentile is out of range, or both pairs are given.
    """

    levels: Range | None = None
    percentiles: Range | None = None
    ignore_zeros: bool = False

    def __post_init__(self) -> None:
        for name in ("levels", "percentiles"):
            if (pair := getattr(self, name)) is None:
                continue
            try:
                low, high = (float(value) for value in pair)
            except (TypeError, ValueError):
                low = high = math.nan
            in_order = low < high and math.isfinite(low) and math.isfinite(high)
            check_parameter(in_order, name, _shown(pair), "two numbers, LOW,HIGH, of which the first is the smaller")
            if name == "levels":
                # What the network is given.
                with np.errstate(over="ignore"):
                    singles = np.array((low, high)).astype(np.float32)
                distinct = bool(np.isfinite(singles).all()) and singles[0] < singles[1]
                check_parameter(distinct, name, _shown(pair), "two numbers that float32 holds and tells apart")
            object.__setattr__(self, name, (low, high))
        if self.levels is not None and self.percentiles is not None:
            raise UsageError("`levels` and `percentiles` exclude each other; give one of them")
        if self.percentiles is not None:
            low, high = self.percentiles
            check_parameter(low >= 0 and high <= 100, "percentiles", _shown((low, high)), "numbers from 0 to 100")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        pairs = {"levels": self.levels, "percentiles": self.percentiles}
        listed = {name: None if pair is None else list(pair) for name, pair in pairs.items()}
        return {**listed, "ignore_zeros": self.ignore_zeros}

    def of_image(
        self,
        image: NDArray[Any],
        rule: LevelsRule,
        inverted: Sequence[bool] = (),
        counted: NDArray[np.bool_] | None = None,
    ) -> Levels:
        """Return the levels of an image.

        Parameters
        ----------
        image : (H, W, C) of numbers
            With the channels that the network takes.
        rule : {'robust', 'percentiles'}
            By which levels are found that are not chosen.
        inverted : sequence of bool
            Of each channel whether it is the negative of the file's values; by default none is.
        counted : (H, W) bool, optional
            The pixels that count; by default all do.

        Returns
        -------
        low, high : (C,) float32

        Examples
        --------
        >>> image = np.arange(101, dtype=np.uint8).reshape(101, 1, 1)
        >>> LevelChoice(percentiles=(10, 90)).of_image(image, "robust")
        (array([10.], dtype=float32), array([90.], dtype=float32))
        >>> LevelChoice(levels=(5, 50)).of_image(-image.astype(float), "robust", [True])
        (array([-50.], dtype=float32), array([-5.], dtype=float32))
        """
        channels = image.shape[2]
        flags = np.array(inverted if len(inverted) else [False] * channels)
        if self.levels is not None:
            low, high = (np.full(channels, value, np.float32) for value in self.levels)
            return np.where(flags, -high, low), np.where(flags, -low, high)
        if self.percentiles is None:
            return image_levels(image, rule, counted)
        below, above = self.percentiles
        low, high = percentiles(image, below, above, counted)
        if flags.any():
            # Of the negative of the values, percentiles count from the other end.
            other_low, other_high = percentiles(image, 100 - above, 100 - below, counted)
            low, high = np.where(flags, other_low, low), np.where(flags, other_high, high)
        return low, high

    def estimate(
        self,
        shape: tuple[int, int],
        read: Callable[[Box], tuple[NDArray[Any], NDArray[np.bool_] | None]],
        rule: LevelsRule,
        inverted: Sequence[bool] = (),
    ) -> Levels:
        """Estimate the levels of an image that is read part by part, from 16 megapixels that are spread over it.

        Parameters
        ----------
        shape : tuple of int
            Height and width.
        read : callable
            Returns the part (h, w, C) in a Box, and which of its pixels (h, w) count, None for all.
        rule, inverted
            As `of_image` takes them.

        Returns
        -------
        low, high : (C,) float32
        """
        if self == LevelChoice():
            return estimate_levels(shape, lambda box: read(box)[0], rule)

        def with_counted(box: Box) -> NDArray[Any]:
            part, counted = read(box)
            flags = np.ones((*part.shape[:2], 1), bool) if counted is None else counted[..., None]
            return np.concatenate([part, flags.astype(part.dtype)], axis=2)

        samples = read_samples(shape, with_counted)
        counted = samples[..., -1] != 0
        return self.of_image(samples[..., :-1], rule, inverted, None if counted.all() else counted)


def parse_range(text: str, name: str) -> Range:
    """Read two numbers with a comma between them.

    Parameters
    ----------
    text : str
        Such as '100,4000'.
    name : str
        The parameter, for the message.

    Raises
    ------
    UsageError
        If it is something else.
    """
    parts = text.split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        expected = "two numbers with a comma between them, such as 100,4000"
        raise UsageError(f"{name} is {text}, expected {expected}", parameter=name) from None
    return low, high


def _shown(pair: object) -> str:
    values = pair if isinstance(pair, tuple | list) else [pair]
    return ",".join(f"{value:g}" if isinstance(value, int | float) else str(value) for value in values)
