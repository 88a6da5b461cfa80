"""The settings of a training, and how far it went, as its model directory stores them."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from instseg.clustering.calibration import ScoreCalibration
from instseg.errors import InstsegError
from instseg.io.atomic import atomic_write
from instseg.models.directory import SETTINGS_FILE, damaged_model_error, read_settings
from instseg.settings import ClusterSettings, MetricLossSettings, ModelSettings, TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """All settings of one training, as its model directory stores them.

    Attributes
    ----------
    model : ModelSettings
    train : TrainSettings
    metric : MetricLossSettings
        Options of the loss, where `model.loss` is 'metric'.
    clustering : ClusterSettings
        What a prediction takes by default.
    calibration : ScoreCalibration or None
        What the scores of its instances mean; None where too little is known, and in models of earlier versions.
    data : dict
        JSON-ready: what the training data are and where they come from.
    pretrained : str or None
        Directory of the model whose weights the training begins with.
    """

    model: ModelSettings
    train: TrainSettings
    metric: MetricLossSettings = field(default_factory=MetricLossSettings)
    clustering: ClusterSettings = field(default_factory=ClusterSettings)
    calibration: ScoreCalibration | None = None
    data: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "TrainingConfig":
        """Build the settings from a model's settings file."""
        if not isinstance(stored["data"], dict):
            raise TypeError("'data' is no JSON object")
        # Format 2 has another name for it.
        pretrained = stored.get("pretrained", stored.get("begin_with"))
        if not isinstance(pretrained, str | None):
            raise TypeError("'pretrained' is no text")
        return cls(
            model=ModelSettings.from_dict(stored["model"]),
            train=TrainSettings.from_dict(stored["training"]),
            metric=MetricLossSettings.from_dict(stored["metric_loss"]),
            clustering=ClusterSettings.from_dict(stored["clustering"]),
            calibration=ScoreCalibration.from_stored(stored.get("calibration")),
            data=stored["data"],
            pretrained=pretrained,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return {
            "model": self.model.to_dict(),
            "training": self.train.to_dict(),
            "metric_loss": self.metric.to_dict(),
            "clustering": self.clustering.to_dict(),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "data": self.data,
            "pretrained": self.pretrained,
        }


class StoredTraining(NamedTuple):
    """What a model directory stores of its training.

    Attributes
    ----------
    config : TrainingConfig
    iteration : int
        Steps taken.
    seconds : float
        How long they took, validations on the way included.
    """

    config: TrainingConfig
    iteration: int
    seconds: float


def training_progress(train: TrainSettings, iteration: int, seconds: float) -> float:
    """Return the share of a training that is over after so many steps and so much time: 1 and above at its end."""
    return iteration / train.iterations if train.minutes is None else seconds / (60 * train.minutes)


def read_training(folder: Path) -> StoredTraining:
    """Return the settings of the model in `folder`, and how far its training went.

    Raises
    ------
    InstsegError
        If there is no such model or it is damaged.
    """
    _, stored = read_settings(folder)
    try:
        return StoredTraining(
            TrainingConfig.from_dict(stored), int(stored["iteration"]), float(stored.get("seconds", 0.0))
        )
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, InstsegError) as error:
        raise damaged_model_error(folder, error) from error


def write_calibration(folder: Path, calibration: ScoreCalibration | None) -> None:
    """Store what the scores of a finished model mean in its directory, in one step.

    Parameters
    ----------
    folder : Path
        A model directory that no training writes to meanwhile.
    calibration : ScoreCalibration or None
        None removes the one that is there.

    Raises
    ------
    InstsegError
        If there is no such model, it is damaged, or the file cannot be written.
    """
    generation, stored = read_settings(folder)
    stored["calibration"] = None if calibration is None else calibration.to_dict()
    with atomic_write(generation / SETTINGS_FILE) as temporary:
        temporary.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


def model_digest(folder: Path) -> str:
    """Return the SHA-256 of the settings, the graph and the weights of the model in `folder`.

    Raises
    ------
    InstsegError
        If there is no such model or it is damaged.
    """
    generation, _ = read_settings(folder)
    digest = hashlib.sha256()
    try:
        for path in sorted([*generation.glob("*.json"), *generation.glob("*.pb"), *generation.glob("variables/*")]):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    except OSError as error:
        raise damaged_model_error(folder, error) from error
    return digest.hexdigest()
