"""The thresholds of the clustering and of the scores, tuned on images whose true labels are known."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.evaluation.metrics import THRESHOLDS, score
from instseg.evaluation.significance import significantly_better
from instseg.settings import ClusterSettings

# Fewer instances than this say nothing about thresholds.
_MIN_INSTANCES = 50
_SEED_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_MIN_SCORES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
SCORED = tuple(threshold for threshold in THRESHOLDS if threshold <= 0.9)
"""The IoU thresholds that mean AP is of."""


def tune(
    embeddings: Sequence[Embeddings],
    truths: Sequence[NDArray[np.int32]],
    settings: ClusterSettings,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> ClusterSettings:
    """Search the settings of the fast clustering for the highest mean AP, one setting after the other.

    At most 24 clusterings of each image.

    Parameters
    ----------
    embeddings : sequence of Embeddings
        Of validation images.
    truths : sequence of (H, W) int32
        Their true labels, 0 is background; pixels of `IGNORED` do not count.
    settings : ClusterSettings
        Where the search begins.
    stop : callable
        Asked before every clustering whether to return the best so far.

    Returns
    -------
    ClusterSettings
        Those given where none are better by more than chance, or where the images hold too few instances to tell.
    """
    if sum(len(np.unique(truth[truth > 0])) for truth in truths) < _MIN_INSTANCES:
        return settings
    examples = list(zip(embeddings, truths, strict=True))
    best, best_scores = settings, _image_scores(examples, settings)
    for name, values in _candidates(settings):
        tried = []
        for value in values:
            if stop():
                return best
            candidate = dataclasses.replace(best, **{name: value})
            tried.append((_image_scores(examples, candidate), candidate))
        scores, candidate = max(tried, key=lambda one: np.mean(one[0]))
        if significantly_better(scores, best_scores):
            best, best_scores = candidate, scores
    return best


class FoundInstances(NamedTuple):
    """The instances that were found in an image whose true labels are known.

    Attributes
    ----------
    score : (N,) float64
        0..1.
    iou : (N,) float64
        With the true instance that each matches; 0 where it matches none at 0.5.
    true : int
        How many true instances there are.
    """

    score: NDArray[np.float64]
    iou: NDArray[np.float64]
    true: int

    def average_precision(self, min_score: float) -> list[float]:
        """Return AP at each IoU of `SCORED` without the instances of a lower score."""
        kept = self.iou[self.score >= min_score]
        right = [np.count_nonzero(kept >= threshold) for threshold in SCORED]
        return [count / (len(kept) + self.true - count) if len(kept) + self.true else 1.0 for count in right]


def tune_min_score(images: Sequence[FoundInstances]) -> float:
    """Return the probability below which leaving instances out gives the highest AP at IoU 0.5, the mean over images.

    An instance is worth keeping if it is right with a probability above AP / (1 + AP): below, one mistake less counts
    for more than the hit that it might have been. At 0.5, as that is what the probability is of, and as it leaves fewer
    out than the mean over higher IoUs, whose optimum is flat: of a model of fourteen sets 0.25 for 0.4, mean AP 0.519
    for 0.520.

    Parameters
    ----------
    images : sequence of FoundInstances
        Their scores are probabilities.

    Returns
    -------
    float
        0, which leaves none out, where no other is better by more than chance, or too few instances tell.

    Examples
    --------
    >>> image = FoundInstances(np.array([0.9, 0.8, 0.2, 0.2]), np.array([0.95, 0.95, 0.0, 0.0]), 2)
    >>> tune_min_score([image] * 30)
    0.25
    """

    def ap(min_score: float) -> list[float]:
        return [image.average_precision(min_score)[0] for image in images]

    if sum(image.true for image in images) < _MIN_INSTANCES:
        return 0.0
    best = max(_MIN_SCORES, key=lambda min_score: float(np.mean(ap(min_score))))
    return best if significantly_better(ap(best), ap(0.0)) else 0.0


def _candidates(settings: ClusterSettings) -> Iterator[tuple[str, list[Any]]]:
    """Return the names of the settings that are tuned and the values to try, those that matter most first."""
    if settings.bandwidth is not None:
        yield "bandwidth", [round(settings.bandwidth * factor, 6) for factor in (0.5, 0.7, 1.4, 2.0)]
    yield "foreground_threshold", [0.3, 0.35, 0.4, 0.45, 0.55, 0.6]
    yield "membership_threshold", [0.1, 0.15, 0.25, 0.3, 0.4]
    if settings.bandwidth is None:
        yield "seed_window", [side for side in (settings.seed_window - 2, settings.seed_window + 2) if side > 0]
        yield "seed_threshold", [value for value in _SEED_THRESHOLDS if value != settings.seed_threshold]
    yield "min_size", [max(1, round(settings.min_size * factor)) for factor in (0.5, 1.5, 2.0)]


def _image_scores(examples: Sequence[tuple[Embeddings, NDArray[np.int32]]], settings: ClusterSettings) -> list[float]:
    return [score(truth, cluster(maps, settings), SCORED).mean_ap for maps, truth in examples]
