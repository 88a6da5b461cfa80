"""Settings of the training and of its losses."""

from dataclasses import dataclass
from typing import Literal

from instseg.errors import check_parameter
from instseg.settings.base import (
    DistanceName,
    Precision,
    Settings,
    check_choice,
    check_not_negative,
    check_positive,
    option,
)

VOLUME_PATCH_SIZE = 64
"""Height and width of the patches of volumes, where no other are asked for."""

MAX_INSTANCES = 512
"""Of a patch with more instances the overlap loss uses so many, chosen at random, as its memory grows with them."""

ErrorName = Literal["squared", "logcosh"]
AugmentationName = Literal["standard", "strong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLossSettings(Settings):
    """Options of the plain discriminative loss (`instseg.loss.MetricLoss`), by name."""

    push_distance_metric: DistanceName = option("manhattan", "Distance between centroids.")
    pull_distance_metric: DistanceName = option("manhattan", "Distance of a pixel to its centroid.")
    push_error_metric: ErrorName = option("squared", "What a distance below the push margin costs.")
    pull_error_metric: ErrorName = option("squared", "What a distance beyond the pull margin costs.")
    push_margin: float = option(0.25, "Centroids farther apart than this cost nothing.")
    pull_margin: float = option(0.0, "Pixels nearer to their centroid than this cost nothing.")
    push_weight: float = option(1.0, "Weight of the push term.")
    pull_weight: float = option(1.0, "Weight of the pull term.")
    regularization_error_metric: ErrorName = option("squared", "What a centroid far from 0 costs.")
    regularization_weight: float = option(1e-4, "Weight of the regularization term.")
    # No option of its own: `train` has one for the data, whose 0 means this.
    ignore_label: int | None = None

    def __post_init__(self) -> None:
        check_not_negative(self, "push_margin", "pull_margin", "push_weight", "pull_weight", "regularization_weight")
        for name in ("push_distance_metric", "pull_distance_metric"):
            check_choice(self, name, ("manhattan", "euclidean"))
        for name in ("push_error_metric", "pull_error_metric", "regularization_error_metric"):
            check_choice(self, name, ("squared", "logcosh"))
        if self.ignore_label is not None:
            # Patches number their instances anew.
            check_parameter(self.ignore_label == 0, "ignore_label", self.ignore_label, "0, the background")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(Settings):
    """Settings of the training: Muon and AdamW, linear warm-up, cosine decay, and an average of the weights."""

    iterations: int = option(2500, "Optimiser steps in all, those before a `resume` included.")
    minutes: float | None = option(None, "Learn for so long instead, what came before a `resume` included.")
    batch_size: int = option(8, "Patches in a step; 2 for volumes unless it is given.")
    patch_size: int = option(
        128, "Height and width of a patch in pixels, a multiple of 16; 64 for volumes unless it is given."
    )
    patch_depth: int | None = option(
        None, "Planes of a patch of volumes. By default it is as deep as wide, by the spacing."
    )
    learning_rate: float = option(8e-3, "Peak of the learning rate.")
    weight_decay: float = 1e-4
    kernel_decay: float = 0.1
    warmup: int = 100
    averaging: float = 0.995
    precision: Precision | None = option(
        None,
        "What hidden layers compute in while they learn. By default bfloat16 where the CPU is made for it.",
    )
    validation_share: float = option(0.1, "Share of the data kept for validation, where `val` is not given.")
    validation_every: int = option(500, "Iterations between validations; the model is saved with each.")
    augmentation: AugmentationName = option(
        "standard",
        "standard: for images like these; strong: also dark for bright, half to twice the size, coarser, parts with "
        "levels of their own, for a model that is to work on other images, too.",
    )
    seed: int = option(0, "Seed of weights, split, crops and augmentation.")

    def __post_init__(self) -> None:
        check_positive(self, "iterations", "batch_size", "patch_size", "learning_rate", "validation_every")
        check_not_negative(self, "weight_decay", "kernel_decay", "warmup", "seed")
        for name in ("iterations", "batch_size", "patch_size", "validation_every", "seed"):
            check_parameter(getattr(self, name) < 2**31, name, getattr(self, name), "a number below 2147483648")
        if self.minutes is not None:
            check_positive(self, "minutes")
        if self.precision is not None:
            check_choice(self, "precision", ("float32", "bfloat16"))
        check_choice(self, "augmentation", ("standard", "strong"))
        check_parameter(0 <= self.averaging < 1, "averaging", self.averaging, "at least 0 and below 1")
        check_parameter(0 < self.validation_share < 1, "validation_share", self.validation_share, "above 0 and below 1")
        check_parameter(self.patch_size % 16 == 0, "patch_size", self.patch_size, "a multiple of 16")
        if self.patch_depth is not None:
            check_parameter(0 < self.patch_depth < 2**16, "patch_depth", self.patch_depth, "a number of planes above 0")
