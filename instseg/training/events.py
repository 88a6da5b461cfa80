"""What a training reports while it goes on."""

from dataclasses import dataclass
from typing import NamedTuple

from instseg.clustering.calibration import ScoreCalibration


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """An optimiser step was taken.

    Attributes
    ----------
    iteration : int
        Steps so far, those before a resume included.
    losses : dict of str to float
        The total, `loss`, first.
    progress : float
        Share of the training that is over, by iterations or by the clock, 0..1.
    images_per_second, waiting : float
        Patches per second since the start or resume, and the share of that time spent waiting for data, 0..1.
    """

    iteration: int
    losses: dict[str, float]
    progress: float
    images_per_second: float
    waiting: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """Something that takes some seconds begins.

    Attributes
    ----------
    phase : str
        Such as 'validating'.
    """

    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsTransferred:
    """The weights of a trained model were taken over.

    Attributes
    ----------
    model : str
        The directory that they are from.
    changes : tuple of str
        What was adapted or starts fresh, in words.
    """

    model: str
    changes: tuple[str, ...]


class Validation(NamedTuple):
    """How good a state is on the validation images, from real clustering.

    Attributes
    ----------
    scores : dict of str to float
        Mean AP over the images by IoU threshold ('AP50', 'AP75'), and its mean over 0.50 to 0.90 ('AP50-90'). Empty
        where the images hold no instance, so that there is nothing to measure.
    image_scores : list of float
        The mean AP over 0.50 to 0.90 of each image that is not ignored as a whole; empty where `scores` are.
    calibration : ScoreCalibration or None
        What the scores of instances mean, by those that were found; None where none were.
    """

    scores: dict[str, float]
    image_scores: list[float]
    calibration: ScoreCalibration | None = None


class Best(NamedTuple):
    """The last state that none before was significantly better than: the later of two equals has learnt more.

    Attributes
    ----------
    iteration : int
        Steps that it had.
    scores : dict of str to float
        As `Validation` has them.
    highest : list of float
        The images' mean APs of the state with the highest so far.
    """

    iteration: int
    scores: dict[str, float]
    highest: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    """A complete model, the best, was committed with the state to go on from.

    Attributes
    ----------
    iteration : int
        Steps so far.
    scores : dict of str to float
        Those of the network as it is now, as `Validation` has them.
    best : Best
        The step that the committed model is of, and its scores.
    seconds : float
        How long the training took so far.
    """

    iteration: int
    scores: dict[str, float]
    best: Best
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DataWarning:
    """The images or labels have something that may make the model worse; the training begins all the same.

    Attributes
    ----------
    message : str
        One line: the files, what is wrong, what to do. Parameters are in backticks.
    """

    message: str


Event = DataWarning | WeightsTransferred | StepDone | PhaseStarted | CheckpointSaved
