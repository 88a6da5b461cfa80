"""All settings, with their defaults and their bounds. Standard library only.

Each group is a flat, frozen dataclass that checks itself once, when it is
built; a value out of bounds raises `UsageError`. Every default is written
here and nowhere else: the command line reads them from these classes.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from instseg.errors import InstsegError, UsageError

LossName = Literal["overlap", "metric"]
DistanceName = Literal["manhattan", "euclidean"]
ErrorName = Literal["squared", "logcosh"]
ClusterMethod = Literal["fast", "hdbscan"]
NoiseRule = Literal["nearest", "drop"]


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        option = "--" + name.replace("_", "-")
        raise UsageError(f"{option} is {value}, expected {expected}")


def _positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _require(math.isfinite(value) and value > 0, name, value, "a number above 0")


def _not_negative(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _require(math.isfinite(value) and value >= 0, name, value, "0 or a number above 0")


def _one_of(settings: object, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(settings, name)
    _require(value in choices, name, repr(value), "one of " + ", ".join(choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all groups of settings share: they become plain data and come back from it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings from plain data, checking names, types and bounds.

        Raises
        ------
        InstsegError
            If a name is unknown or a value is of another type than its default.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in fields:
                raise InstsegError(f"unknown {cls.__name__} value {name!r}; expected {', '.join(fields)}")
            default = fields[name].default
            same = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
            integer_for_float = isinstance(default, float) and type(value) is int
            if not (same or integer_for_float or (value is None or default is None)):
                raise InstsegError(f"{cls.__name__} value {name!r} is {value!r}, expected a {type(default).__name__}")
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscSettings(Settings):
    """The generated example images: bright discs on a dark ground.

    Attributes
    ----------
    size : int
        Height and width in pixels.
    min_discs, max_discs : int
        Bounds of the number of discs drawn per image, both included. A disc
        that later ones cover completely has no label, so an image may hold fewer.
    noise : float
        Share of white Gaussian noise in the image, 0..1.
    """

    size: int = 512
    min_discs: int = 25
    max_discs: int = 74
    noise: float = 0.05

    def __post_init__(self) -> None:
        _positive(self, "size")
        _require(self.size <= 32_768, "size", self.size, "at most 32768 pixels")
        _not_negative(self, "min_discs")
        most = "at least --min-discs and at most 65535, so that labels fit into 16 bits"
        _require(self.min_discs <= self.max_discs <= 65_535, "max_discs", self.max_discs, most)
        _require(0 <= self.noise <= 1, "noise", self.noise, "a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLossSettings(Settings):
    """Options of the plain discriminative loss (`instseg.loss.MetricLoss`), by name."""

    push_distance_metric: DistanceName = "manhattan"
    pull_distance_metric: DistanceName = "manhattan"
    push_error_metric: ErrorName = "squared"
    pull_error_metric: ErrorName = "squared"
    push_margin: float = 0.25
    pull_margin: float = 0.0
    push_weight: float = 1.0
    pull_weight: float = 1.0
    regularization_error_metric: ErrorName = "squared"
    regularization_weight: float = 1e-4
    ignore_label: int | None = None

    def __post_init__(self) -> None:
        _not_negative(self, "push_margin", "pull_margin", "push_weight", "pull_weight", "regularization_weight")
        for name in ("push_distance_metric", "pull_distance_metric"):
            _one_of(self, name, ("manhattan", "euclidean"))
        for name in ("push_error_metric", "pull_error_metric", "regularization_error_metric"):
            _one_of(self, name, ("squared", "logcosh"))
        if self.ignore_label is not None:
            _not_negative(self, "ignore_label")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings(Settings):
    """What the network is and how its outputs are to be read.

    Attributes
    ----------
    channels : int
        Channels of the images: 1 for gray, 3 for RGB.
    embeddings : int
        Dimensions D of the embeddings.
    classes : int
        Classes of the semantic segmentation; class 0 is background.
    loss : {'overlap', 'metric'}
        What the embeddings are trained with. 'overlap': the first two
        dimensions are positions in pixels (row, column), and the network
        also gives a seed and a bandwidth map. 'metric': plain pull and push.
    widths : tuple of int
        Channels of the network's levels, finest first.
    diameter : float
        Typical diameter of the training objects in pixels.
    """

    channels: int = 1
    embeddings: int = 8
    classes: int = 2
    loss: LossName = "overlap"
    widths: tuple[int, ...] = (32, 64, 128, 192)
    diameter: float = 20.0

    def __post_init__(self) -> None:
        _positive(self, "channels", "embeddings", "diameter")
        _require(self.embeddings <= 256, "embeddings", self.embeddings, "at most 256 dimensions")
        _require(self.classes >= 2, "classes", self.classes, "at least 2, background and foreground")
        _one_of(self, "loss", ("overlap", "metric"))
        least = 2 if self.loss == "overlap" else 1
        _require(self.embeddings >= least, "embeddings", self.embeddings, f"at least {least} for --loss {self.loss}")
        object.__setattr__(self, "widths", tuple(self.widths))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(Settings):
    """How training goes.

    Attributes
    ----------
    iterations : int
        Optimiser steps in all, those before a resume included.
    batch_size, patch_size : int
        Patches per step, and their height and width in pixels.
    learning_rate : float
        Peak of the schedule (linear warm-up, then cosine decay).
    validation_share : float
        Part of the data that is kept for validation where no other folder is given.
    seed : int
        Seed of the weights, the split, the crops and the augmentation.
    """

    iterations: int = 2500
    batch_size: int = 8
    patch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 100
    averaging: float = 0.995
    validation_share: float = 0.1
    validation_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(self, "iterations", "batch_size", "patch_size", "learning_rate", "validation_every")
        _not_negative(self, "weight_decay", "warmup", "seed")
        _require(0 <= self.averaging < 1, "averaging", self.averaging, "at least 0 and below 1")
        _require(0 < self.validation_share < 1, "validation_share", self.validation_share, "above 0 and below 1")
        _require(self.patch_size % 16 == 0, "patch_size", self.patch_size, "a multiple of 16")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings(Settings):
    """How embeddings become labels.

    Attributes
    ----------
    method : {'fast', 'hdbscan'}
        'fast' finds the modes of the embeddings; 'hdbscan' is a density clustering of all foreground pixels.
    foreground_threshold : float
        Pixels whose foreground probability is at least this are clustered, 0..1.
    bandwidth : float or None
        Distance in embedding space within which pixels belong to a mode, for
        embeddings that bring no bandwidth map. None: the file's own, else measured on the embeddings.
    seed_threshold : float
        A pixel may start an instance where its seed value is at least this, 0..1. Fast method with a seed map only.
    membership_threshold : float
        A pixel whose soft membership of its nearest instance is below this is noise, 0..1. Fast method only.
    min_size : int
        Smallest instance in pixels.
    metric : {'manhattan', 'euclidean'}
        Distance between embeddings, HDBSCAN only.
    min_cluster_size : int
        Fewest pixels of a cluster, HDBSCAN only.
    min_samples : int
        Neighbours that make a pixel dense, HDBSCAN only.
    position_weight : float
        Pixel coordinates (row, column) times this are appended to the embeddings.
    noise : {'nearest', 'drop'}
        Whether foreground pixels of no cluster go to the nearest instance or to the background.
    """

    method: ClusterMethod = "fast"
    foreground_threshold: float = 0.5
    bandwidth: float | None = None
    seed_threshold: float = 0.5
    membership_threshold: float = 0.2
    min_size: int = 10
    metric: DistanceName = "manhattan"
    min_cluster_size: int = 20
    min_samples: int = 5
    position_weight: float = 0.0
    noise: NoiseRule = "nearest"

    def __post_init__(self) -> None:
        _one_of(self, "method", ("fast", "hdbscan"))
        _one_of(self, "metric", ("manhattan", "euclidean"))
        _one_of(self, "noise", ("nearest", "drop"))
        for name in ("foreground_threshold", "seed_threshold", "membership_threshold"):
            value = getattr(self, name)
            _require(0 < value < 1, name, value, "above 0 and below 1")
        if self.bandwidth is not None:
            _positive(self, "bandwidth")
        _positive(self, "min_size", "min_samples")
        _require(self.min_cluster_size >= 2, "min_cluster_size", self.min_cluster_size, "at least 2 pixels")
        _not_negative(self, "position_weight")
