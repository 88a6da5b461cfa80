"""Whether scores mean what they say: the instances that match true ones, and how far scores are from their share."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.labels.matching import drop_ignored, match

BINS = 10
"""Scores are put into so many bins of equal width."""


class ReliabilityBin(NamedTuple):
    """The instances whose scores are in a bin.

    Attributes
    ----------
    low, high : float
        The scores from and up to which it goes.
    instances : int
        How many there are, at least one.
    mean_score : float
    share_right : float
        The share that matches a true instance at IoU 0.5.
    """

    low: float
    high: float
    instances: int
    mean_score: float
    share_right: float


def matched_iou(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], label: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which predicted instances count, and the IoU of each of these with the true one that it matches.

    Parameters
    ----------
    truth, predicted : (H, W) or (Z, Y, X) integers
        0 is background; true pixels of `IGNORED` do not count, nor do predictions that lie mainly on them.
    label : (N,) integers
        Of the instances.

    Returns
    -------
    counts : (N,) bool
    iou : (M,) float64
        Of the M instances that count; 0 of those that match none at an IoU of 0.5.

    Examples
    --------
    >>> matched_iou(np.array([[1, 1, -1, 0]]), np.array([[2, 2, 5, 7]]), np.array([2, 5, 7]))
    (array([ True, False,  True]), array([1., 0.]))
    """
    truth, predicted = drop_ignored(truth, predicted)
    counts = np.isin(label, predicted)
    matches = match(truth, predicted)
    iou = np.zeros(np.count_nonzero(counts))
    _, places, pairs = np.intersect1d(label[counts], matches.predicted_ids, return_indices=True)
    iou[places] = matches.iou[pairs]
    return counts, iou


def reliability(score: NDArray[np.floating], is_right: NDArray[np.bool_]) -> list[ReliabilityBin]:
    """Compare scores with the share of instances that are right, in `BINS` bins of equal width.

    Parameters
    ----------
    score : (M,) floats
        0..1.
    is_right : (M,) bool

    Returns
    -------
    list of ReliabilityBin
        Those that hold an instance, from low to high scores.

    Examples
    --------
    >>> [low, high] = reliability(np.array([0.25, 0.95, 0.95]), np.array([False, True, False]))
    >>> high.instances, high.mean_score, high.share_right
    (2, 0.95, 0.5)
    """
    number = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(number, minlength=BINS)
    scores, right = (np.bincount(number, values, BINS) for values in (score, is_right))
    return [
        ReliabilityBin(
            index / BINS,
            (index + 1) / BINS,
            int(count[index]),
            float(scores[index] / count[index]),
            float(right[index] / count[index]),
        )
        for index in np.flatnonzero(count).tolist()
    ]


def expected_calibration_error(bins: list[ReliabilityBin]) -> float | None:
    """Return how far scores are from the share of instances that are right: the mean over the instances of their bins.

    As M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    AAAI 2015, define it.

    Returns
    -------
    float or None
        0..1, 0 where scores are probabilities; None without an instance.

    Examples
    --------
    >>> expected_calibration_error(reliability(np.array([0.75, 0.75, 0.75, 0.75]), np.array([1, 1, 1, 0], bool)))
    0.0
    """
    total = sum(one.instances for one in bins)
    if not total:
        return None
    return sum(one.instances * abs(one.mean_score - one.share_right) for one in bins) / total
