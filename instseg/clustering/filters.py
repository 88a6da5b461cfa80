"""Which instances are left out once they are known: too large ones, those at the image's border, doubtful ones."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.instances import Instances
from instseg.settings import FilterSettings


def complete_filters(filters: FilterSettings, calibration: ScoreCalibration | None) -> FilterSettings:
    """Return filters that say themselves below which score instances are left out: what the model says, or none.

    Parameters
    ----------
    filters : FilterSettings
    calibration : ScoreCalibration or None
        That of the model.

    Examples
    --------
    >>> complete_filters(FilterSettings(), ScoreCalibration(min_score=0.25)).min_score
    0.25
    >>> complete_filters(FilterSettings(min_score=0.5), ScoreCalibration(min_score=0.25)).min_score
    0.5
    >>> complete_filters(FilterSettings(), None).min_score
    0.0
    """
    if filters.min_score is not None:
        return filters
    return dataclasses.replace(filters, min_score=0.0 if calibration is None else calibration.min_score)


def count_doubtful(instances: Instances, filters: FilterSettings, calibration: ScoreCalibration | None) -> int:
    """Return how many instances a model's own least score leaves out: none where filters say another.

    Parameters
    ----------
    instances : Instances
        All that were found, with calibrated scores.
    filters : FilterSettings
        As they were asked for, before `complete_filters`.
    calibration : ScoreCalibration or None
        That of the model.
    """
    if filters.min_score is not None or calibration is None:
        return 0
    return int(np.count_nonzero(instances.score < calibration.min_score))


def kept_instances(instances: Instances, filters: FilterSettings, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which instances filters keep.

    Parameters
    ----------
    instances : Instances
        N of them, those of a whole image.
    filters : FilterSettings
    shape : tuple of int
        Height and width of the image, or planes, height and width of the volume.

    Returns
    -------
    (N,) bool

    Examples
    --------
    >>> instances = Instances(
    ...     label=np.array([1, 2, 3], np.int32),
    ...     score=np.array([0.9, 0.2, 0.9]),
    ...     area=np.array([4, 2, 90]),
    ...     centroid=np.zeros((3, 2)),
    ...     bbox=np.array([[0, 3, 2, 5], [4, 4, 5, 6], [3, 3, 13, 12]]),
    ... )
    >>> kept_instances(instances, FilterSettings(max_size=50), (20, 20)).tolist()
    [True, True, False]
    >>> kept_instances(instances, FilterSettings(exclude_border=True, min_score=0.5), (20, 20)).tolist()
    [False, False, True]
    """
    kept = instances.score >= (filters.min_score or 0.0)
    if filters.max_size is not None:
        kept &= instances.area <= filters.max_size
    if filters.exclude_border:
        first, last = np.split(instances.bbox, 2, axis=1)
        kept &= (first > 0).all(axis=1) & (last < shape).all(axis=1)
    return kept


def filter_instances(
    instances: Instances, filters: FilterSettings, shape: tuple[int, ...], count: int
) -> tuple[Instances, NDArray[np.int32]]:
    """Leave instances out, and number the others anew, in their order.

    Parameters
    ----------
    instances, filters, shape
        As `kept_instances` takes them.
    count : int
        The largest label that there can be.

    Returns
    -------
    instances : Instances
        Those that are kept, with labels 1..M.
    label_of : (count + 1,) int32
        The new label of each, 0 for the background and what is left out.
    """
    kept = kept_instances(instances, filters, shape)
    label_of = np.zeros(count + 1, np.int32)
    label_of[instances.label[kept]] = np.arange(1, int(kept.sum()) + 1, dtype=np.int32)
    return instances.relabelled(label_of[instances.label]), label_of
