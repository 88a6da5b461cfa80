"""Scores of predicted labels against true ones: two label images in, counts and ratios out.

All scores rest on one sparse table of overlaps (`instseg.labels.matching`). A predicted instance is a true positive at
a threshold if it is matched with a true one at an IoU (intersection over union) of at least that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.labels.matching import (
    contingency_table,
    drop_ignored,
    matched_pairs,
    require_comparable,
    require_thresholds,
)
from instseg.labels.regions import dense_labels

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scores:
    """Counts at T thresholds, of one image or summed over several, and the ratios that follow from them.

    Where there is only one of truth and prediction all ratios are 0. Where there is neither they are 1 in one image,
    which is as it should be, and NaN in the sum over several, which is of nothing.

    Attributes
    ----------
    thresholds : tuple of T floats
        IoU from which a matched pair counts.
    tp, fp, fn : (T,) int64
        Matched pairs, predictions without a partner, true instances without image.
    iou_sum : (T,) float64
        Sum of the IoU of the matched pairs.
    of_nothing : float
        What the ratios are where there is neither truth nor prediction: 1 or NaN.
    """

    thresholds: tuple[float, ...]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    iou_sum: NDArray[np.float64]
    of_nothing: float = 1.0

    @property
    def ap(self) -> NDArray[np.float64]:
        """Average precision as in the Data Science Bowl 2018, TP / (TP + FP + FN), shape (T,), 0..1."""
        return self._ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the predictions that match, TP / (TP + FP), shape (T,), 0..1."""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the truth that is matched, TP / (TP + FN), shape (T,), 0..1."""
        return self._ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), shape (T,), 0..1."""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def mean_matched_iou(self) -> NDArray[np.float64]:
        """Mean IoU of the matched pairs, shape (T,), 0..1; 0 where something is there but nothing matched.

        The segmentation quality SQ of Kirillov et al. 2019 (1801.00868); their recognition quality RQ is `f1`.
        """
        return self._ratio(self.iou_sum, self.tp)

    @property
    def pq(self) -> NDArray[np.float64]:
        """Panoptic quality (Kirillov et al. 2019, 1801.00868), matched IoU times F1, shape (T,), 0..1."""
        return self.mean_matched_iou * self.f1

    @property
    def mean_ap(self) -> float:
        """Mean of `ap` over the thresholds from 0.50 to 0.90, 0..1."""
        return _mean_ap(self.thresholds, self.ap)

    def _ratio(self, part: NDArray[np.number], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        nothing_there = (self.tp + self.fp + self.fn) == 0
        return np.where(nothing_there, self.of_nothing, part / np.maximum(whole, 1))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MeanScores:
    """Ratios averaged over images, each image weighing the same whatever the number of its instances.

    Attributes
    ----------
    thresholds : tuple of T floats
        IoU from which a matched pair counts.
    images : int
        Number of images.
    ap, precision, recall, f1, mean_matched_iou, pq : (T,) float64
        Means over the images of the ratios of the same names of `Scores`, 0..1.
    """

    thresholds: tuple[float, ...]
    images: int
    ap: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    mean_matched_iou: NDArray[np.float64]
    pq: NDArray[np.float64]

    @property
    def mean_ap(self) -> float:
        """Mean of `ap` over the thresholds from 0.50 to 0.90, 0..1."""
        return _mean_ap(self.thresholds, self.ap)


def score(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    min_truth_size: int = 0,
    ignored: NDArray[np.bool_] | None = None,
) -> Scores:
    """Count true positives, false positives and false negatives of one image.

    Parameters
    ----------
    truth, predicted : (H, W) or (Z, Y, X) integers
        One label per pixel, 0 is background. Pixels whose true label is `IGNORED` do not count, nor do predictions that
        lie mainly on them: see `drop_ignored`.
    thresholds : sequence of T floats
        IoU thresholds, above 0 and at most 1.
    min_truth_size : int
        True instances of fewer pixels are taken out of the truth. A prediction that has more than half of its pixels on
        what was taken out counts neither as right nor as wrong. All other pairs keep their IoU.
    ignored : bool of the shape of the labels, or None
        Pixels to be taken out of the truth in the same way, before sizes are compared.

    Returns
    -------
    Scores
        All ratios are 1 where neither truth nor predictions are left, 0 where only one of them is.

    Raises
    ------
    InstsegError
        If the labels cannot be compared (see `contingency_table`) or a threshold is out of bounds.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 2, 2]])
    >>> predicted = np.array([[1, 1, 0, 0, 3]])
    >>> scores = score(truth, predicted, thresholds=(0.5, 0.75))
    >>> scores.tp, scores.fp, scores.fn
    (array([2, 1]), array([0, 1]), array([0, 1]))
    >>> scores.ap.round(2)
    array([1.  , 0.33])
    """
    require_thresholds(thresholds)
    truth, predicted = drop_ignored(truth, predicted)
    require_comparable(truth, predicted)
    truth, ignored_label = _relabel_ignored(truth, ignored)
    table = contingency_table(truth, predicted)
    removed = table.truth_areas < min_truth_size
    if ignored_label is not None:
        removed |= table.truth_ids == ignored_label
    on_removed = table.ignored(removed)
    counted = ~removed[table.truth_index] & ~on_removed[table.predicted_index]
    rows, columns, iou = table.truth_index[counted], table.predicted_index[counted], table.iou[counted]

    matches = [matched_pairs(rows, columns, iou, threshold) for threshold in thresholds]
    tp = np.array([len(pairs) for pairs in matches], np.int64)
    return Scores(
        thresholds=tuple(thresholds),
        tp=tp,
        fp=np.count_nonzero(~on_removed) - tp,
        fn=np.count_nonzero(~removed) - tp,
        iou_sum=np.array([iou[pairs].sum() for pairs in matches], np.float64),
    )


def macro_average(scores: Sequence[Scores]) -> MeanScores:
    """Average the ratios of several images: each image weighs the same.

    Parameters
    ----------
    scores : sequence of Scores
        One per image, of the same thresholds.

    Returns
    -------
    MeanScores

    Raises
    ------
    InstsegError
        If there are no scores or their thresholds differ.
    """
    return MeanScores(
        thresholds=_shared_thresholds(scores),
        images=len(scores),
        ap=np.mean([image.ap for image in scores], axis=0),
        precision=np.mean([image.precision for image in scores], axis=0),
        recall=np.mean([image.recall for image in scores], axis=0),
        f1=np.mean([image.f1 for image in scores], axis=0),
        mean_matched_iou=np.mean([image.mean_matched_iou for image in scores], axis=0),
        pq=np.mean([image.pq for image in scores], axis=0),
    )


def micro_average(scores: Sequence[Scores]) -> Scores:
    """Add up the counts of several images: each instance weighs the same.

    Parameters
    ----------
    scores : sequence of Scores
        One per image, of the same thresholds.

    Returns
    -------
    Scores
        With the ratios of the summed counts, which are NaN if no image has an instance, true or predicted.

    Raises
    ------
    InstsegError
        If there are no scores or their thresholds differ.
    """
    return Scores(
        thresholds=_shared_thresholds(scores),
        tp=np.sum([image.tp for image in scores], axis=0),
        fp=np.sum([image.fp for image in scores], axis=0),
        fn=np.sum([image.fn for image in scores], axis=0),
        iou_sum=np.sum([image.iou_sum for image in scores], axis=0),
        of_nothing=math.nan,
    )


def _mean_ap(thresholds: tuple[float, ...], ap: NDArray[np.float64]) -> float:
    averaged = (np.array(thresholds) >= 0.5) & (np.array(thresholds) <= 0.9)
    return float(ap[averaged].mean())


def _shared_thresholds(scores: Sequence[Scores]) -> tuple[float, ...]:
    different = {image.thresholds for image in scores}
    if len(different) != 1:
        given = " and ".join(str(list(thresholds)) for thresholds in sorted(different)) or "no scores"
        raise InstsegError(f"got {given}, expected scores of at least one image, all at the same thresholds")
    return different.pop()


def _relabel_ignored(
    truth: NDArray[np.integer], ignored: NDArray[np.bool_] | None
) -> tuple[NDArray[np.integer], int | None]:
    """Give the ignored pixels a label of their own, and return it; the other labels become consecutive."""
    if ignored is None or not ignored.any():
        return truth, None
    if ignored.shape != truth.shape:
        raise InstsegError(f"ignored is of shape {ignored.shape}, the truth of {truth.shape}; expected the same shape")
    ids, numbers = dense_labels(truth)
    ignored_label = len(ids) + 1
    return np.where(ignored, ignored_label, numbers.reshape(truth.shape)), ignored_label
