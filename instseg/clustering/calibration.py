"""From the score of an instance to the probability that it is right, as validation images tell it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import InstsegError, check_parameter
from instseg.settings import Settings

MIN_INSTANCES = 5
"""Fewer instances than this say nothing of an image as a whole."""

# Scores are kept so far from 0 and 1, whose log-odds are infinite.
_MARGIN = 1e-6
# Standard deviations, before anything is known, of the intercept and of the logarithm of the slope, about those of the
# identity: few instances change little, and hundreds are believed.
_INTERCEPT_SD, _SLOPE_SD = 1.0, 0.5
_SLOPES = (0.1, 10.0)
# The log-odds of the median scores of images of one kind: their standard deviation before anything is known, as if from
# so many images, and how many of them below the mean is beyond what such images show.
_MEDIANS_SD, _MEDIANS_WEIGHT, _UNFAMILIAR = 0.6, 4, 2.5


class ScoredImage(NamedTuple):
    """The instances that a model found in an image whose true labels are known.

    Attributes
    ----------
    score : (N,) float64
        As `instseg.clustering.instances.measure_instances` returns it, 0..1.
    is_right : (N,) bool
        Whether each matches a true instance at IoU 0.5.
    """

    score: NDArray[np.float64]
    is_right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCalibration(Settings):
    """A line in log-odds from the score of an instance to the probability that it is right [1]_.

    It is rising, so that it never changes the order of instances; a slope of 1 and an intercept of 0 are the identity.

    Attributes
    ----------
    slope, intercept : float
        The log-odds of the probability are `slope` times those of the score plus `intercept`.
    least_median : float or None
        The median score, before calibration, that hardly an image like the training's is below; None where there were
        no images to tell.
    min_score : float
        The probability below which instances are left out unless something else is asked for: so on the images that
        the calibration is of, more of what is left out was wrong than is worth keeping. 0 leaves none out.

    Examples
    --------
    >>> ScoreCalibration(slope=2.0, intercept=0.5).apply([0.2, 0.5, 0.9]).round(2)
    array([0.09, 0.62, 0.99])

    References
    ----------
    .. [1] J. Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood
       Methods", Advances in Large Margin Classifiers, 1999. With the log-odds of the score in its place it is beta
       calibration with two parameters: M. Kull, T. Silva Filho, P. Flach, "Beta calibration", AISTATS 2017.
    """

    slope: float = 1.0
    intercept: float = 0.0
    least_median: float | None = None
    min_score: float = 0.0

    def __post_init__(self) -> None:
        check_parameter(0 < self.slope <= 100, "slope", self.slope, "above 0 and at most 100")
        check_parameter(-100 <= self.intercept <= 100, "intercept", self.intercept, "-100 to 100")
        if self.least_median is not None:
            check_parameter(0 <= self.least_median <= 1, "least_median", self.least_median, "0 to 1")
        check_parameter(0 <= self.min_score <= 1, "min_score", self.min_score, "0 to 1")

    def apply(self, score: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (N,) that instances are right, from their scores (N,)."""
        return _probability(self.slope * _log_odds(np.asarray(score, np.float64)) + self.intercept)

    def is_unfamiliar(self, probability: NDArray[np.float64]) -> bool:
        """Return whether the instances of an image are less certain than in images like those of the training.

        Parameters
        ----------
        probability : (N,) float64
            What `apply` returned for the scores of all instances of the image.

        Returns
        -------
        bool
            Never of fewer than `MIN_INSTANCES`.
        """
        if self.least_median is None or len(probability) < MIN_INSTANCES:
            return False
        return bool(np.median(probability) < self.apply([self.least_median])[0])

    def to_json(self) -> str:
        """Return the calibration as a text that `from_stored` takes once it is parsed."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_stored(cls, values: Any) -> Self | None:
        """Build the calibration from what a model or a file has stored; None where it has none.

        Raises
        ------
        InstsegError
            If it is no JSON object, or a value has another type or is out of bounds.
        """
        if values is None:
            return None
        if not isinstance(values, dict):
            raise InstsegError("'calibration' is no JSON object; write it again, or leave it out")
        return cls.from_dict(values)


def fit_score_calibration(images: Sequence[ScoredImage]) -> ScoreCalibration | None:
    """Fit a calibration to the instances of some images.

    It is the most probable one, where the identity was the most probable before anything was known: five instances
    change it a little, and even if all of them are right (or wrong) no score becomes 1 (or 0).

    Parameters
    ----------
    images : sequence of ScoredImage

    Returns
    -------
    ScoreCalibration or None
        None without an instance.

    Examples
    --------
    >>> image = ScoredImage(np.full(400, 0.7), np.arange(400) < 360)
    >>> fit_score_calibration([image]).apply([0.7]).round(2)
    array([0.9])
    """
    if not sum(len(image.score) for image in images):
        return None
    odds = _log_odds(np.concatenate([image.score for image in images]))
    sign = np.where(np.concatenate([image.is_right for image in images]), -1.0, 1.0)

    def cost(parameters: NDArray[np.float64]) -> float:
        log_slope, intercept = parameters
        misfit = np.logaddexp(0, sign * (math.exp(log_slope) * odds + intercept)).sum()
        return float(misfit + (intercept / _INTERCEPT_SD) ** 2 / 2 + (log_slope / _SLOPE_SD) ** 2 / 2)

    from scipy.optimize import minimize

    bounds = [(math.log(_SLOPES[0]), math.log(_SLOPES[1])), (-20.0, 20.0)]
    log_slope, intercept = minimize(cost, [0.0, 0.0], method="L-BFGS-B", bounds=bounds).x
    return ScoreCalibration(
        slope=round(math.exp(log_slope), 4), intercept=round(float(intercept), 4), least_median=_least_median(images)
    )


def _least_median(images: Sequence[ScoredImage]) -> float | None:
    """Return the median score that hardly an image of this kind is below."""
    medians = [float(np.median(image.score)) for image in images if len(image.score) >= MIN_INSTANCES]
    if not medians:
        return None
    odds = _log_odds(np.array(medians))
    squares = _MEDIANS_WEIGHT * _MEDIANS_SD**2 + np.sum((odds - odds.mean()) ** 2)
    # Of another image, whose mean is known from these few.
    deviation = math.sqrt(squares / (_MEDIANS_WEIGHT + len(odds) - 1) * (1 + 1 / len(odds)))
    return round(float(_probability(odds.mean() - _UNFAMILIAR * deviation)), 4)


def _log_odds(score: NDArray[np.float64]) -> NDArray[np.float64]:
    score = np.clip(score, _MARGIN, 1 - _MARGIN)
    odds: NDArray[np.float64] = np.log(score / (1 - score))
    return odds


def _probability(odds: Any) -> NDArray[np.float64]:
    probability: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
    return probability
