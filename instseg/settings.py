"""All settings, with their meaning, their defaults and their bounds. Standard library only.

Each group is a flat, frozen dataclass that checks its values when it is built; one out of bounds raises `UsageError`.
Defaults and descriptions are written here only: the command line makes its options from these classes.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from instseg.errors import InstsegError, UsageError, check_parameter
from instseg.field_types import is_of_type, shown, type_name

SCALE_JITTER = 1.4
"""Training shows objects at up to so many times their size, and down to the inverse."""

NETWORKS = {"small": (32, 64, 128, 192), "large": (64, 128, 192, 256)}
"""The channels of the levels of a network, finest first, by the name of the network: 1.6 and 3.4 million weights."""

VOLUME_PATCH_SIZE = 64
"""Height and width of the patches of volumes, where no other are asked for."""

MAX_INSTANCES = 512
"""Of a patch with more instances the overlap loss uses so many, chosen at random, as its memory grows with them."""

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
DistanceName = Literal["manhattan", "euclidean"]
ErrorName = Literal["squared", "logcosh"]
ClusterMethod = Literal["fast", "hdbscan"]
NoiseRule = Literal["nearest", "drop"]
Precision = Literal["float32", "bfloat16"]
LevelsRule = Literal["robust", "percentiles"]
AugmentationName = Literal["standard", "strong"]


def _option(default: Any, description: str) -> Any:
    """Declare a setting that is also an option of a command, with the description of the option."""
    return dataclasses.field(default=default, metadata={"help": description})


def _check_positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        check_parameter(0 < value < math.inf, name, value, "a number above 0")


def _check_not_negative(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        check_parameter(0 <= value < math.inf, name, value, "0 or a number above 0")


def _check_choice(settings: object, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(settings, name)
    check_parameter(value in choices, name, repr(value), "one of " + ", ".join(choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Base of all groups of settings, which converts them to plain data and back."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings from plain data, checking names, types and bounds.

        Raises
        ------
        InstsegError
            If a name is unknown or a value is of another type than the setting.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in fields:
                raise InstsegError(f"unknown {cls.__name__} value {shown(name)}; expected {', '.join(fields)}")
            kind = fields[name].type
            if not is_of_type(value, kind):
                raise InstsegError(f"{cls.__name__} value {name!r} is {shown(value)}, expected {type_name(kind)}")
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscSettings(Settings):
    """Settings of generated example images: bright discs on a dark ground."""

    size: int = _option(512, "Height and width of an image in pixels.")
    min_discs: int = _option(25, "Fewest discs drawn in an image; those that others cover get no label.")
    max_discs: int = _option(74, "Most discs drawn in an image.")
    noise: float = _option(0.05, "Share of white Gaussian noise, 0 to 1.")

    def __post_init__(self) -> None:
        _check_positive(self, "size")
        check_parameter(self.size <= 32_768, "size", self.size, "at most 32768 pixels")
        _check_not_negative(self, "min_discs")
        most = "at least `min_discs` and at most 65535, so that labels fit into 16 bits"
        check_parameter(self.min_discs <= self.max_discs <= 65_535, "max_discs", self.max_discs, most)
        check_parameter(0 <= self.noise <= 1, "noise", self.noise, "a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class BallSettings(Settings):
    """Settings of generated example volumes: bright balls on a dark ground.

    Attributes
    ----------
    size : int
        Height and width of a plane in pixels.
    noise : float
        Share of white Gaussian noise, 0 to 1.
    """

    # No options of their own: those of the discs are meant.
    size: int = 256
    noise: float = 0.05
    depth: int = _option(128, "With `volume`: number of planes.")
    spacing_z: float = _option(2.0, "With `volume`: distance of neighbouring planes, in pixels.")
    min_balls: int = _option(40, "With `volume`: fewest balls drawn; those that others cover get no label.")
    max_balls: int = _option(80, "With `volume`: most balls drawn.")

    def __post_init__(self) -> None:
        _check_positive(self, "size", "depth", "spacing_z")
        check_parameter(self.size <= 4_096, "size", self.size, "at most 4096 pixels for a volume")
        check_parameter(self.depth <= 4_096, "depth", self.depth, "at most 4096 planes")
        check_parameter(0.1 <= self.spacing_z <= 10, "spacing_z", self.spacing_z, "0.1 to 10 pixels")
        _check_not_negative(self, "min_balls")
        most = "at least `min_balls` and at most 65535, so that labels fit into 16 bits"
        check_parameter(self.min_balls <= self.max_balls <= 65_535, "max_balls", self.max_balls, most)
        check_parameter(0 <= self.noise <= 1, "noise", self.noise, "a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLossSettings(Settings):
    """Options of the plain discriminative loss (`instseg.loss.MetricLoss`), by name."""

    push_distance_metric: DistanceName = _option("manhattan", "Distance between centroids.")
    pull_distance_metric: DistanceName = _option("manhattan", "Distance of a pixel to its centroid.")
    push_error_metric: ErrorName = _option("squared", "What a distance below the push margin costs.")
    pull_error_metric: ErrorName = _option("squared", "What a distance beyond the pull margin costs.")
    push_margin: float = _option(0.25, "Centroids farther apart than this cost nothing.")
    pull_margin: float = _option(0.0, "Pixels nearer to their centroid than this cost nothing.")
    push_weight: float = _option(1.0, "Weight of the push term.")
    pull_weight: float = _option(1.0, "Weight of the pull term.")
    regularization_error_metric: ErrorName = _option("squared", "What a centroid far from 0 costs.")
    regularization_weight: float = _option(1e-4, "Weight of the regularization term.")
    # No option of its own: `train` has one for the data, whose 0 means this.
    ignore_label: int | None = None

    def __post_init__(self) -> None:
        _check_not_negative(self, "push_margin", "pull_margin", "push_weight", "pull_weight", "regularization_weight")
        for name in ("push_distance_metric", "pull_distance_metric"):
            _check_choice(self, name, ("manhattan", "euclidean"))
        for name in ("push_error_metric", "pull_error_metric", "regularization_error_metric"):
            _check_choice(self, name, ("squared", "logcosh"))
        if self.ignore_label is not None:
            # Patches number their instances anew.
            check_parameter(self.ignore_label == 0, "ignore_label", self.ignore_label, "0, the background")


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
    levels : {'robust', 'percentiles'}
        What the values are that become 0 and 1 in the network: see `instseg.preprocessing.levels`. Models that were
        stored without it know percentiles only.
    """

    channels: int = 1
    channel_choice: str | None = None
    embeddings: int = _option(8, "Dimensions of the embeddings.")
    classes: int = 2
    class_names: tuple[str, ...] = ()
    loss: LossName = _option(
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
    levels: LevelsRule = "robust"

    def __post_init__(self) -> None:
        _check_positive(self, "channels", "embeddings", "diameter", "scale")
        check_parameter(self.embeddings <= 256, "embeddings", self.embeddings, "at most 256 dimensions")
        check_parameter(self.classes >= 2, "classes", self.classes, "at least 2, background and foreground")
        _check_choice(self, "loss", ("overlap", "metric"))
        _check_choice(self, "levels", ("robust", "percentiles"))
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
                _check_positive(self, name)
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
        """Return the scale at which the network sees objects of a diameter (in pixels) as large as those of training.

        Tiny objects may remain smaller, as the memory for images grows with the square of the scale.
        """
        learnt = self.diameter if self.estimate_diameter else self._learnt(diameter)
        return self.scale * min(learnt / diameter, _LARGEST_FAMILIAR)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(Settings):
    """Settings of the training: Muon and AdamW, linear warm-up, cosine decay, and an average of the weights."""

    iterations: int = _option(2500, "Optimiser steps in all, those before a `resume` included.")
    minutes: float | None = _option(None, "Learn for so long instead, what came before a `resume` included.")
    batch_size: int = _option(8, "Patches in a step; 2 for volumes unless it is given.")
    patch_size: int = _option(
        128, "Height and width of a patch in pixels, a multiple of 16; 64 for volumes unless it is given."
    )
    patch_depth: int | None = _option(
        None, "Planes of a patch of volumes. By default it is as deep as wide, by the spacing."
    )
    learning_rate: float = _option(8e-3, "Peak of the learning rate.")
    weight_decay: float = 1e-4
    kernel_decay: float = 0.1
    warmup: int = 100
    averaging: float = 0.995
    precision: Precision | None = _option(
        None,
        "What hidden layers compute in while they learn. By default bfloat16 where the CPU is made for it.",
    )
    validation_share: float = _option(0.1, "Share of the data kept for validation, where `val` is not given.")
    validation_every: int = _option(500, "Iterations between validations; the model is saved with each.")
    augmentation: AugmentationName = _option(
        "standard",
        "standard: for images like these; strong: also dark for bright, half to twice the size, coarser, parts with "
        "levels of their own, for a model that is to work on other images, too.",
    )
    seed: int = _option(0, "Seed of weights, split, crops and augmentation.")

    def __post_init__(self) -> None:
        _check_positive(self, "iterations", "batch_size", "patch_size", "learning_rate", "validation_every")
        _check_not_negative(self, "weight_decay", "kernel_decay", "warmup", "seed")
        for name in ("iterations", "batch_size", "patch_size", "validation_every", "seed"):
            check_parameter(getattr(self, name) < 2**31, name, getattr(self, name), "a number below 2147483648")
        if self.minutes is not None:
            _check_positive(self, "minutes")
        if self.precision is not None:
            _check_choice(self, "precision", ("float32", "bfloat16"))
        _check_choice(self, "augmentation", ("standard", "strong"))
        check_parameter(0 <= self.averaging < 1, "averaging", self.averaging, "at least 0 and below 1")
        check_parameter(0 < self.validation_share < 1, "validation_share", self.validation_share, "above 0 and below 1")
        check_parameter(self.patch_size % 16 == 0, "patch_size", self.patch_size, "a multiple of 16")
        if self.patch_depth is not None:
            check_parameter(0 < self.patch_depth < 2**16, "patch_depth", self.patch_depth, "a number of planes above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSettings(Settings):
    """Settings of the overlapping tiles that large images are cut into; a smaller image is one tile."""

    tile: int | None = _option(
        None, "Largest height and width of what is looked at at once, in pixels. By default what `memory` allows."
    )
    overlap: int | None = _option(
        None, "Pixels that a tile sees beyond what it decides. By default what the network and the objects need."
    )
    memory: float = _option(2.25, "Memory to take, in GiB, about; images and labels that are read at once come on top.")

    def __post_init__(self) -> None:
        if self.tile is not None:
            check_parameter(0 < self.tile < 2**20, "tile", self.tile, "a number of pixels above 0")
        if self.overlap is not None:
            check_parameter(0 <= self.overlap < 2**20, "overlap", self.overlap, "a number of pixels from 0 on")
        _check_positive(self, "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings(Settings):
    """Settings of the clustering, which turns embeddings into labels."""

    method: ClusterMethod = _option("fast", "fast: modes of the embeddings; hdbscan: density clustering of all pixels.")
    foreground_threshold: float = _option(0.5, "Pixels of at least this foreground probability are clustered, 0 to 1.")
    bandwidth: float | None = _option(
        None, "Reach of an instance in embedding space. By default that of the file, else measured. Fast only."
    )
    seed_threshold: float = _option(
        0.5, "An instance starts at a pixel of at least this seed value, 0 to 1. Fast only."
    )
    seed_window: int = _option(
        1, "Seed values are averaged over a square of this side, so that single pixels start nothing. Fast only."
    )
    membership_threshold: float = _option(
        0.2, "Pixels of less membership in any instance are noise, 0 to 1. Fast only."
    )
    min_size: int = _option(10, "Smallest instance in pixels.")
    metric: DistanceName = _option("manhattan", "Distance between embeddings. HDBSCAN only.")
    min_cluster_size: int = _option(20, "Fewest pixels of a cluster. HDBSCAN only.")
    min_samples: int = _option(5, "Neighbours that make a pixel dense. HDBSCAN only.")
    position_weight: float = _option(0.0, "Pixel coordinates times this are appended to the embeddings.")
    noise: NoiseRule = _option("nearest", "Pixels of no instance go to the nearest that touches, or are dropped.")
    fill_holes: bool = _option(False, "Background that one instance surrounds becomes part of it.")

    def __post_init__(self) -> None:
        _check_choice(self, "method", ("fast", "hdbscan"))
        _check_choice(self, "metric", ("manhattan", "euclidean"))
        _check_choice(self, "noise", ("nearest", "drop"))
        for name in ("foreground_threshold", "seed_threshold", "membership_threshold"):
            value = getattr(self, name)
            check_parameter(0 < value < 1, name, value, "above 0 and below 1")
        if self.bandwidth is not None:
            _check_positive(self, "bandwidth")
            check_parameter(1e-6 <= self.bandwidth <= 1e6, "bandwidth", self.bandwidth, "0.000001 to 1000000")
        _check_positive(self, "min_size", "min_samples")
        check_parameter(1 <= self.seed_window <= 1001, "seed_window", self.seed_window, "1 to 1001 pixels")
        check_parameter(self.min_cluster_size >= 2, "min_cluster_size", self.min_cluster_size, "at least 2 pixels")
        _check_not_negative(self, "position_weight")
        check_parameter(self.position_weight <= 1e6, "position_weight", self.position_weight, "at most 1000000")

    def rescaled(self, magnification: float, ndim: int = 2) -> "ClusterSettings":
        """Return the settings for objects so many times as large in pixels along each of `ndim` axes."""
        # An odd number stays odd, as the window is centred on a pixel.
        window = 2 * round((self.seed_window * magnification - 1) / 2) + 1
        return dataclasses.replace(
            self,
            seed_window=min(max(1, window), 1001),
            min_size=max(1, round(self.min_size * magnification**ndim)),
            position_weight=self.position_weight / magnification,
        )

    def for_volume(self, spacing: Sequence[float]) -> "ClusterSettings":
        """Return the settings for volumes, from those for images: discs of so many pixels become balls of voxels.

        Parameters
        ----------
        spacing : sequence of float
            How far planes, rows and columns lie apart, in columns.

        Examples
        --------
        >>> ClusterSettings(min_size=79).for_volume((2.0, 1.0, 1.0)).min_size
        264
        """

        def ball(disc: int) -> int:
            return max(1, round(4 / 3 * math.pi * math.pow(disc / math.pi, 1.5) / math.prod(spacing)))

        return dataclasses.replace(
            self, min_size=ball(self.min_size), min_cluster_size=max(2, ball(self.min_cluster_size))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSettings(Settings):
    """Which instances are left out of the labels once they are known; their pixels become background.

    Unlike `ClusterSettings.min_size`, below which pieces are given to a neighbour or were never an object, filters
    change no other instance, and a whole instance counts, whatever tiles it was found in.
    """

    max_size: int | None = _option(None, "Instances of more pixels are left out.")
    exclude_border: bool = _option(False, "Instances that touch the border of the image are left out.")
    min_score: float = _option(0.0, "Instances of a lower score are left out, 0 to 1.")

    def __post_init__(self) -> None:
        if self.max_size is not None:
            _check_positive(self, "max_size")
        check_parameter(0 <= self.min_score <= 1, "min_score", self.min_score, "a score from 0 to 1")

    @property
    def active(self) -> bool:
        """Whether any instance may be left out."""
        return self.max_size is not None or self.exclude_border or self.min_score > 0


def split_settings(values: Mapping[str, Any], *groups: type[Settings]) -> tuple[dict[str, Any], ...]:
    """Sort keyword arguments by the groups of settings that they belong to; None stands for a default and is left out.

    Raises
    ------
    UsageError
        If a name belongs to no group.

    Examples
    --------
    >>> split_settings({"tile": 512, "min_size": 5}, ClusterSettings, TileSettings)
    ({'min_size': 5}, {'tile': 512})
    """
    names = [{field.name for field in dataclasses.fields(group) if "help" in field.metadata} for group in groups]
    for name in values:
        if not any(name in of_group for of_group in names):
            known = sorted(set().union(*names))
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise UsageError(f"there is no setting {name!r}; {advice}")
    return tuple(
        {name: value for name, value in values.items() if name in of_group and value is not None} for of_group in names
    )
