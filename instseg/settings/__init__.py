"""All settings, with their meaning, their defaults and their bounds. Standard library only.

Each group is a flat, frozen dataclass that checks its values when it is built; one out of bounds raises `UsageError`.
Defaults and descriptions are written here only: the command line makes its options from these classes.
"""

from instseg.settings.base import DistanceName, Precision, Settings, split_settings
from instseg.settings.examples import BallSettings, DiscSettings
from instseg.settings.model import NETWORKS, SCALE_JITTER, LevelsRule, LossName, ModelSettings
from instseg.settings.prediction import ClusterMethod, ClusterSettings, FilterSettings, NoiseRule, TileSettings
from instseg.settings.training import (
    MAX_INSTANCES,
    VOLUME_PATCH_SIZE,
    AugmentationName,
    ErrorName,
    MetricLossSettings,
    TrainSettings,
)

__all__ = [
    "AugmentationName",
    "BallSettings",
    "ClusterMethod",
    "ClusterSettings",
    "DiscSettings",
    "DistanceName",
    "ErrorName",
    "FilterSettings",
    "LevelsRule",
    "LossName",
    "MAX_INSTANCES",
    "MetricLossSettings",
    "ModelSettings",
    "NETWORKS",
    "NoiseRule",
    "Precision",
    "SCALE_JITTER",
    "Settings",
    "TileSettings",
    "TrainSettings",
    "VOLUME_PATCH_SIZE",
    "split_settings",
]
