"""The clustering's thresholds, tuned on images whose true labels are known."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.chance import clearly_better
from instseg.cluster import cluster
from instseg.embeddings import Embeddings
from instseg.metrics import THRESHOLDS, score
from instseg.settings import ClusterSettings

# Fewer instances than this say nothing about thresholds.
_LEAST_INSTANCES = 50
_SEED_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_COUNTED = tuple(threshold for threshold in THRESHOLDS if threshold <= 0.9)


def tune(
    maps: Sequence[Embeddings],
    truths: Sequence[NDArray[np.int32]],
    settings: ClusterSettings,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> ClusterSettings:
    """Search the settings of the fast clustering for the highest mean AP, one setting after the other.

    At most 24 clusterings of each image.

    Parameters
    ----------
    maps : sequence of Embeddings
        Of validation images.
    truths : sequence of (H, W) int32
        Their true labels, 0 is background.
    settings : ClusterSettings
        Where the search begins, and what is returned where it finds nothing that is better by more than chance.
    stop : callable
        Asked before every clustering whether to return the best so far.

    Returns
    -------
    ClusterSettings
    """
    if sum(len(np.unique(truth[truth > 0])) for truth in truths) < _LEAST_INSTANCES:
        return settings
    chosen = list(zip(maps, truths, strict=True))
    best, reached = settings, _of_images(chosen, settings)
    for name, values in _choices(settings):
        found = []
        for value in values:
            if stop():
                return best
            tried = dataclasses.replace(best, **{name: value})
            found.append((_of_images(chosen, tried), tried))
        highest, tried = max(found, key=lambda one: np.mean(one[0]))
        if clearly_better(highest, reached):
            best, reached = tried, highest
    return best


def _choices(settings: ClusterSettings) -> Iterator[tuple[str, list[Any]]]:
    """Name the settings that are tuned and the values to try, those that matter most first."""
    if settings.bandwidth is not None:
        yield "bandwidth", [round(settings.bandwidth * factor, 6) for factor in (0.5, 0.7, 1.4, 2.0)]
    yield "foreground_threshold", [0.3, 0.35, 0.4, 0.45, 0.55, 0.6]
    yield "membership_threshold", [0.1, 0.15, 0.25, 0.3, 0.4]
    if settings.bandwidth is None:
        yield "seed_window", [side for side in (settings.seed_window - 2, settings.seed_window + 2) if side > 0]
        yield "seed_threshold", [value for value in _SEED_THRESHOLDS if value != settings.seed_threshold]
    yield "min_size", [max(1, round(settings.min_size * factor)) for factor in (0.5, 1.5, 2.0)]


def _of_images(examples: Sequence[tuple[Embeddings, NDArray[np.int32]]], settings: ClusterSettings) -> list[float]:
    return [score(truth, cluster(maps, settings), _COUNTED).mean_ap for maps, truth in examples]
