"""Settings of the network, and of what its outputs mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from instseg.errors import check_parameter
from instseg.settings.base import Settings, check_choice, check_positive, option

SCALE_JITTER = 1.4
"""Training shows objects at up to so many times their size, and down to the inverse."""

NETWORKS = {"tiny": (16, 32, 64, 128), "small": (32, 64, 128, 192), "large": (64, 128, 192, 256)}
"""The channels of the levels of a network, finest first, by its name: 0.5, 1.6 and 3.4 million weights.

Of the tiny one, 16 channels are as many numbers as the widest instructions of x86 take: with 20 the convolutions take
45 % of the small network's time instead of 33 %, as long as with (16, 32, 96, 160).
"""

# Beyond these, images would have too few pixels to show anything, or too many for the memory.
_SMALLEST_MAGNIFICATION, _LARGEST_MAGNIFICATION = 1 / 32, 8

# The memory for images grows with the square of the scale.
_LARGEST_FAMILIAR = 4

# Far beyond what anyone trains: a stored model with more than these is damaged.
_MOST_LEVELS, _MOST_CHANNELS, _MOST_CLASSES, _LARGEST_SCALE = 12, 65_536, 65_536, 1_000

# Relative to a pixel: voxels a hundred times as deep as wide show no object in more than one plane.
_LEAST_SPACING = 0.01

# Names of settings in models of format 2, and those of today.
_RENAMED = {"smallest_diameter": "diameter_p5", "largest_diameter": "diameter_p95"}

# The rule of models that do not say which they have learnt with.
_EARLIER_LEVELS = "percentiles"

LossName = Literal["overlap", "metric"]
LevelsRule = Literal["robust", "percentiles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings(Settings):
    """Settings of the network, and of what its outputs mean.

    Attributes
    ----------
    channels : int
        Number of channels that the network takes: 1 for gray, 3 for RGB.
    channel_choice : str or None
        The channels of an image that these are made of, as `instseg.preprocessing.channels` reads it; None stands for
        all channels as they are.
    embeddings : int
        Number of dimensions of the embeddings.
    classes : int
        Number of classes of the semantic segmentation; class 0 is background.
    class_names : tuple of str
        Names of the classes from 1 on; empty where all objects are of the same class.
    loss : {'overlap', 'metric'}
        What the embeddings are trained with. With 'overlap' the first dimensions, as many as the images have, are
        positions in pixels (row, column; of volumes plane, row, column), and the network also returns a seed and a
        bandwidth map. 'metric' is plain pull and push.
    ndim : int
        2 for images, 3 for volumes.
    spacing : tuple of float or None
        Of volumes: the size of a voxel along Z, Y and X in the training, relative to that along X; None for images.
    widths : tuple of int
        Channels of the levels of the network, finest first.
    diameter : float
        Typical diameter of the training objects in pixels; of volumes that of the ball of equal volume, in X pixels.
    diameter_p5, diameter_p95 : float or None
        5th and 95th percentile of the diameters of the training objects in pixels.
    scale : float
        At how many times their size the network sees images. Large objects are learnt and predicted in smaller images,
        so that the network sees them whole, and tiny ones in larger images.
    estimate_diameter : bool
        Whether predictions estimate the size of the objects unless it is given: training images were brought to one
        size of objects, and the model knows no other.
    check_diameter : bool
        Whether predictions look, unless the size of the objects is given, if the network is surer by far of objects
        that are seen smaller or larger than in the training: few images do not show all sizes that others have.
    levels : {'robust', 'percentiles'}
        What the values are that become 0 and 1 in the network: see `instseg.preprocessing.levels`. Models that were
        stored without it know percentiles only.
    """

    channels: int = 1
    channel_choice: str | None = None
    embeddings: int = option(8, "Dimensions of the embeddings.")
    classes: int = 2
    class_names: tuple[str, ...] = ()
    loss: LossName = option(
        "overlap", "What trains the embeddings: overlap of soft instances, or the plain push and pull of MetricLoss."
    )
    ndim: int = 2
    spacing: tuple[float, ...] | None = None
    widths: tuple[int, ...] = NETWORKS["small"]
    diameter: float = 20.0
    diameter_p5: float | None = None
    diameter_p95: float | None = None
    scale: float = 1.0
    estimate_diameter: bool = False
    check_diameter: bool = False
    levels: LevelsRule = "robust"

    def __post_init__(self) -> None:
        check_positive(self, "channels", "embeddings", "diameter", "scale")
        check_parameter(self.embeddings <= 256, "embeddings", self.embeddings, "at most 256 dimensions")
        check_parameter(self.classes >= 2, "classes", self.classes, "at least 2, background and foreground")
        check_choice(self, "loss", ("overlap", "metric"))
        check_choice(self, "levels", ("robust", "percentiles"))
        self._check_axes()
        least = self.ndim if self.loss == "overlap" else 1
        check_parameter(
            self.embeddings >= least, "embeddings", self.embeddings, f"at least {least} for `loss={self.loss!r}`"
        )
        check_parameter(self.channels <= _MOST_CHANNELS, "channels", self.channels, f"at most {_MOST_CHANNELS}")
        check_parameter(self.classes <= _MOST_CLASSES, "classes", self.classes, f"at most {_MOST_CLASSES}")
        check_parameter(self.scale <= _LARGEST_SCALE, "scale", self.scale, f"at most {_LARGEST_SCALE}")
        for name in ("diameter_p5", "diameter_p95"):
            if getattr(self, name) is not None:
                check_positive(self, name)
        for name in ("widths", "class_names"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        sound = 1 <= len(self.widths) <= _MOST_LEVELS and all(0 < width <= _MOST_CHANNELS for width in self.widths)
        expected = f"1 to {_MOST_LEVELS} numbers of channels from 1 to {_MOST_CHANNELS}"
        check_parameter(sound, "widths", self.widths, expected)
        named = len(self.class_names) in (0, self.classes - 1) and all(
            isinstance(name, str) for name in self.class_names
        )
        check_parameter(named, "class_names", self.class_names, f"none or {self.classes - 1} texts")
        text = self.channel_choice is None or isinstance(self.channel_choice, str)
        check_parameter(text, "channel_choice", self.channel_choice, "a text")

    def _check_axes(self) -> None:
        check_parameter(self.ndim in (2, 3), "ndim", self.ndim, "2 or 3 axes")
        if self.ndim == 2:
            check_parameter(self.spacing is None, "spacing", self.spacing, "none for images")
            return
        spacing = tuple(float(size) for size in self.spacing or (1.0,) * self.ndim)
        sound = len(spacing) == self.ndim and all(_LEAST_SPACING <= size <= 1 / _LEAST_SPACING for size in spacing)
        expected = f"three numbers from {_LEAST_SPACING:g} to {1 / _LEAST_SPACING:g}, those along Z, Y and X"
        check_parameter(sound, "spacing", spacing, expected)
        object.__setattr__(self, "spacing", spacing)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings from plain data, also from that of earlier models; errors as in `Settings`."""
        named = {_RENAMED.get(name, name): value for name, value in values.items()}
        return super(ModelSettings, cls).from_dict({"levels": _EARLIER_LEVELS, **named})

    def magnification(self, diameter: float) -> float:
        """Return at how many times its size an image has to be predicted for its objects to be as large as in training.

        Parameters
        ----------
        diameter : float
            Of the objects, in pixels.

        Returns
        -------
        float
            1 between the 5th and the 95th percentile of the diameters of the training objects, unless these were
            brought to one size: then the typical diameter of the training over the given one.

        Raises
        ------
        UsageError
            If the diameter is far below or far above those of the training.
        """
        smallest, largest = self._range()
        low, high = smallest / _LARGEST_MAGNIFICATION, largest / _SMALLEST_MAGNIFICATION
        expected = f"{low:.2g} to {high:.0f} pixels for a model of objects of {self.diameter:.3g}"
        check_parameter(low <= diameter <= high, "diameter", diameter, expected)
        return (self.diameter if self.estimate_diameter else self._learnt(diameter)) / diameter

    def scale_for_diameter(self, diameter: float) -> float:
        """Return the scale at which the network sees objects of a diameter (in pixels) as it has seen those it learnt.

        Where the training brought all to one size, larger ones are brought to it, too, and those below half of it to
        half. Tiny objects may remain smaller, as the memory for images grows with the square of the scale.
        """
        learnt = self._learnt(diameter)
        if self.estimate_diameter:
            # Enlarging all to one size made the largest too large where sizes vary: AP at IoU 0.5 of 0.54 for 0.75
            # after one image of precipitates. Leaving large ones as they are gave 0.38 for 0.46 after one of particles.
            learnt = min(max(diameter, self.diameter / 2), self.diameter)
        return self.scale * min(learnt / diameter, _LARGEST_FAMILIAR)

    def for_samples(self) -> Self:
        """Return the settings for images whose channels are chosen and whose size is right already."""
        return replace(self, channel_choice=None, estimate_diameter=False, check_diameter=False)

    def can_widen_to(self, widths: Sequence[int]) -> bool:
        """Return whether a network of other widths can begin with this one: as many levels, none of fewer channels."""
        return len(widths) == len(self.widths) and all(
            wide >= own for own, wide in zip(self.widths, widths, strict=True)
        )

    def is_out_of_range(self, diameter: float) -> bool:
        """Return whether objects of a diameter are smaller or larger than nearly all that the training showed."""
        smallest, largest = self._range()
        return not smallest / SCALE_JITTER <= diameter <= largest * SCALE_JITTER

    def _learnt(self, diameter: float) -> float:
        """Return the nearest diameter between the 5th and the 95th percentile of the training."""
        smallest, largest = self._range()
        return min(max(diameter, smallest), largest)

    def _range(self) -> tuple[float, float]:
        smallest = self.diameter if self.diameter_p5 is None else self.diameter_p5
        largest = self.diameter if self.diameter_p95 is None else self.diameter_p95
        return smallest, largest
