"""What a training is to do, as its model directory keeps it."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from instseg.errors import InstsegError
from instseg.settings import ClusterSettings, MetricLossSettings, ModelSettings, TrainSettings
from instseg.store import damaged, read_settings

# Of a typical object's area: 20 pixels for the example discs, where it gave an AP at IoU 0.5 of 0.983 for 0.981.
_SMALLEST_SHARE = 0.07
# Of a typical object's diameter.
_SEED_WINDOW = 0.35
# Averages over a window are low in objects that are smaller than typical: 0.710 for 0.706 with a threshold of 0.5.
_SEED_THRESHOLD = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All settings of one training; `begin_with` is the directory of a model whose weights it begins with."""

    model: ModelSettings
    train: TrainSettings
    metric: MetricLossSettings = field(default_factory=MetricLossSettings)
    clustering: ClusterSettings = field(default_factory=ClusterSettings)
    data: dict[str, Any] = field(default_factory=dict)
    begin_with: str | None = None

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Plan":
        """Read the plan back from a model's settings file."""
        return cls(
            model=ModelSettings.from_dict(stored["model"]),
            train=TrainSettings.from_dict(stored["training"]),
            metric=MetricLossSettings.from_dict(stored["metric_loss"]),
            clustering=ClusterSettings.from_dict(stored["clustering"]),
            data=dict(stored["data"]),
            begin_with=stored.get("begin_with"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values."""
        return {
            "model": self.model.to_dict(),
            "training": self.train.to_dict(),
            "metric_loss": self.metric.to_dict(),
            "clustering": self.clustering.to_dict(),
            "data": self.data,
            "begin_with": self.begin_with,
        }


def fitting_clustering(model: ModelSettings, metric: MetricLossSettings) -> ClusterSettings:
    """Return the clustering settings that fit what the embeddings are trained for."""
    # Anything smaller is a splinter of an object rather than one.
    min_size = max(1, round(_SMALLEST_SHARE * math.pi / 4 * model.diameter**2))
    if model.loss == "overlap" or metric.push_margin == 0:
        # An odd number. Seeds as they are split objects whose middle is in doubt: on nuclei (diameter 20) a window of 7
        # gave a mean AP of 0.627 for 0.612, 5 gave 0.621 and 9 0.626.
        window = 2 * round(_SEED_WINDOW * model.diameter / 2 - 0.5) + 1
        return ClusterSettings(min_size=min_size, seed_window=max(1, window), seed_threshold=_SEED_THRESHOLD)
    # Centroids are trained to lie a push margin apart, but the network sees equal objects far apart as the same:
    # with positions, an instance reaches about as far as a typical radius. Of a short training on discs this gave
    # AP at IoU 0.5 of 0.95; without positions at most 0.73, and HDBSCAN 0.86.
    bandwidth = metric.push_margin / 4
    position_weight = round(bandwidth / (0.4 * model.diameter), 5)
    return ClusterSettings(min_size=min_size, bandwidth=bandwidth, position_weight=position_weight)


class Stored(NamedTuple):
    """What a model directory says of its training.

    Attributes
    ----------
    plan : Plan
    iteration : int
        Steps taken.
    seconds : float
        How long they took, validations on the way included.
    """

    plan: Plan
    iteration: int
    seconds: float


def progress(train: TrainSettings, iteration: int, seconds: float) -> float:
    """Return the share of a training that is over after so many steps and so much time: 1 and above at its end."""
    return iteration / train.iterations if train.minutes is None else seconds / (60 * train.minutes)


def stored_training(folder: Path) -> Stored:
    """Return the settings of the model in `folder`, and how far its training went.

    Raises
    ------
    InstsegError
        If there is no such model or it is damaged.
    """
    _, stored = read_settings(folder)
    try:
        return Stored(Plan.from_dict(stored), int(stored["iteration"]), float(stored.get("seconds", 0.0)))
    except (AttributeError, KeyError, TypeError, ValueError, InstsegError) as error:
        raise damaged(folder, error) from error
