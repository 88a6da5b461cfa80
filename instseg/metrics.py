"""How well predicted labels agree with true ones: two label images in, scores out.

All scores rest on one sparse table of overlaps, made in one pass over the
pixels. A predicted instance is right (a true positive) at a threshold if it is
matched with a true one at an IoU (intersection over union) of at least that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Overlaps:
    """Which of N true and M predicted instances share pixels: K pairs, each once.

    Attributes
    ----------
    truth_ids, predicted_ids : (N,) and (M,) integers
        The labels of the instances, ascending, without the background 0.
    truth_areas, predicted_areas : (N,) and (M,) int64
        Their pixels, those on the other image's background included.
    truth_index, predicted_index : (K,) int64
        Positions in `truth_ids` and `predicted_ids` of each pair.
    intersection : (K,) int64
        Pixels that the pair shares, 1 or more.
    iou : (K,) float64
        Intersection over union, above 0 and at most 1.
    """

    truth_ids: NDArray[np.integer]
    predicted_ids: NDArray[np.integer]
    truth_areas: NDArray[np.int64]
    predicted_areas: NDArray[np.int64]
    truth_index: NDArray[np.int64]
    predicted_index: NDArray[np.int64]
    intersection: NDArray[np.int64]
    iou: NDArray[np.float64]

    def excused(self, removed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which predictions, (M,) bool, have more than half of their pixels on `removed` true instances, (N,).

        They are neither right nor wrong where these instances do not count.
        """
        on_removed = np.where(removed[self.truth_index], self.intersection, 0)
        return 2 * _sum_by(self.predicted_index, on_removed, len(self.predicted_ids)) > self.predicted_areas


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Matches:
    """K matched pairs of instances, ascending by true label.

    Attributes
    ----------
    truth_ids, predicted_ids : (K,) integers
        The labels of each pair.
    iou : (K,) float64
        Its intersection over union.
    """

    truth_ids: NDArray[np.integer]
    predicted_ids: NDArray[np.integer]
    iou: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scores:
    """Counts at T thresholds, of one image or pooled over several, and the ratios that follow from them.

    Where there is neither truth nor prediction all ratios are 1; where there is
    only one of the two they are 0.

    Attributes
    ----------
    thresholds : tuple of T floats
        IoU from which a matched pair counts.
    tp, fp, fn : (T,) int64
        Matched pairs, predictions without a partner, true instances without one.
    iou_sum : (T,) float64
        Sum of the IoU of the matched pairs.
    """

    thresholds: tuple[float, ...]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    iou_sum: NDArray[np.float64]

    @property
    def ap(self) -> NDArray[np.float64]:
        """Average precision as in the Data Science Bowl 2018, TP / (TP + FP + FN), shape (T,), 0..1."""
        return self._ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the predictions that are right, TP / (TP + FP), shape (T,), 0..1."""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the truth that is found, TP / (TP + FN), shape (T,), 0..1."""
        return self._ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), shape (T,), 0..1."""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def matched_iou(self) -> NDArray[np.float64]:
        """Mean IoU of the matched pairs, shape (T,), 0..1; 0 where something is there but nothing matched.

        The segmentation quality SQ of Kirillov et al. 2019 (1801.00868); their recognition quality RQ is `f1`.
        """
        return self._ratio(self.iou_sum, self.tp)

    @property
    def pq(self) -> NDArray[np.float64]:
        """Panoptic quality (Kirillov et al. 2019, 1801.00868), matched IoU times F1, shape (T,), 0..1."""
        return self.matched_iou * self.f1

    @property
    def mean_ap(self) -> float:
        """Mean of `ap` over the thresholds from 0.50 to 0.90, 0..1."""
        return _mean_ap(self.thresholds, self.ap)

    def _ratio(self, part: NDArray[np.number], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        nothing_there = (self.tp + self.fp + self.fn) == 0
        return np.where(nothing_there, 1.0, part / np.maximum(whole, 1))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MeanScores:
    """Ratios averaged over images, each image weighing the same whatever the number of its instances.

    Attributes
    ----------
    thresholds : tuple of T floats
        IoU from which a matched pair counts.
    images : int
        Number of images.
    ap, precision, recall, f1, matched_iou, pq : (T,) float64
        Means over the images of the ratios of the same names of `Scores`, 0..1.
    """

    thresholds: tuple[float, ...]
    images: int
    ap: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    matched_iou: NDArray[np.float64]
    pq: NDArray[np.float64]

    @property
    def mean_ap(self) -> float:
        """Mean of `ap` over the thresholds from 0.50 to 0.90, 0..1."""
        return _mean_ap(self.thresholds, self.ap)


def overlap_table(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> Overlaps:
    """List the pairs of instances that share pixels.

    The time is that of one pass over the pixels, whatever the number of instances.

    Parameters
    ----------
    truth, predicted : (H, W) integers
        One label per pixel, 0 is background; other labels may be any positive integers.

    Returns
    -------
    Overlaps

    Raises
    ------
    InstsegError
        If the shapes differ, or a label is negative or not an integer.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 7]])
    >>> predicted = np.array([[0, 4, 4, 9]])
    >>> table = overlap_table(truth, predicted)
    >>> table.truth_ids[table.truth_index], table.predicted_ids[table.predicted_index]
    (array([1, 7]), array([4, 9]))
    >>> table.iou.round(2)
    array([0.33, 1.  ])
    """
    _check(truth, predicted)
    truth_ids, truth_numbers = _consecutive(truth)
    predicted_ids, predicted_numbers = _consecutive(predicted)
    columns = len(predicted_ids) + 1
    rows, cols, counts = _count_pairs(truth_numbers, predicted_numbers, len(truth_ids) + 1, columns)
    truth_areas = _sum_by(rows, counts, len(truth_ids) + 1)[1:]
    predicted_areas = _sum_by(cols, counts, columns)[1:]
    both = (rows > 0) & (cols > 0)
    truth_index, predicted_index, intersection = rows[both] - 1, cols[both] - 1, counts[both]
    union = truth_areas[truth_index] + predicted_areas[predicted_index] - intersection
    return Overlaps(
        truth_ids=truth_ids,
        predicted_ids=predicted_ids,
        truth_areas=truth_areas,
        predicted_areas=predicted_areas,
        truth_index=truth_index,
        predicted_index=predicted_index,
        intersection=intersection,
        iou=intersection / union,
    )


def match(truth: NDArray[np.integer], predicted: NDArray[np.integer], iou_threshold: float = 0.5) -> Matches:
    """Match true and predicted instances one to one.

    As many pairs as possible with an IoU of at least `iou_threshold`; among the
    ways to have that many, the one of the largest sum of IoU. Above 0.5 there is
    only one way.

    Parameters
    ----------
    truth, predicted : (H, W) integers
        One label per pixel, 0 is background.
    iou_threshold : float
        Least IoU of a pair, above 0 and at most 1.

    Returns
    -------
    Matches

    Raises
    ------
    InstsegError
        If the labels cannot be compared (see `overlap_table`) or the threshold is out of bounds.

    Examples
    --------
    >>> matches = match(np.array([[1, 1, 2]]), np.array([[5, 5, 0]]))
    >>> matches.truth_ids, matches.predicted_ids, matches.iou
    (array([1]), array([5]), array([1.]))
    """
    _check_thresholds((iou_threshold,))
    table = overlap_table(truth, predicted)
    pairs = matched_pairs(table.truth_index, table.predicted_index, table.iou, iou_threshold)
    return Matches(
        truth_ids=table.truth_ids[table.truth_index[pairs]],
        predicted_ids=table.predicted_ids[table.predicted_index[pairs]],
        iou=table.iou[pairs],
    )


def score(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    min_truth_size: int = 0,
    ignored: NDArray[np.bool_] | None = None,
) -> Scores:
    """Count right, wrong and missed instances of one image.

    Parameters
    ----------
    truth, predicted : (H, W) integers
        One label per pixel, 0 is background.
    thresholds : sequence of T floats
        IoU thresholds, above 0 and at most 1.
    min_truth_size : int
        True instances of fewer pixels are taken out of the truth. A prediction
        that has more than half of its pixels on what was taken out counts neither
        as right nor as wrong. All other pairs keep their IoU.
    ignored : (H, W) bool or None
        Pixels to be taken out of the truth in the same way, before sizes are compared.

    Returns
    -------
    Scores
        All ratios are 1 where neither truth nor predictions are left, 0 where only one of them is.

    Raises
    ------
    InstsegError
        If the labels cannot be compared (see `overlap_table`) or a threshold is out of bounds.

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
    _check_thresholds(thresholds)
    _check(truth, predicted)
    truth, hidden = _hide(truth, ignored)
    table = overlap_table(truth, predicted)
    removed = table.truth_areas < min_truth_size
    if hidden is not None:
        removed |= table.truth_ids == hidden
    excused = table.excused(removed)
    kept = ~removed[table.truth_index] & ~excused[table.predicted_index]
    rows, cols, iou = table.truth_index[kept], table.predicted_index[kept], table.iou[kept]

    matched = [matched_pairs(rows, cols, iou, threshold) for threshold in thresholds]
    tp = np.array([len(pairs) for pairs in matched], np.int64)
    return Scores(
        thresholds=tuple(thresholds),
        tp=tp,
        fp=np.count_nonzero(~excused) - tp,
        fn=np.count_nonzero(~removed) - tp,
        iou_sum=np.array([iou[pairs].sum() for pairs in matched], np.float64),
    )


def average(scores: Sequence[Scores]) -> MeanScores:
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
        ap=np.mean([one.ap for one in scores], axis=0),
        precision=np.mean([one.precision for one in scores], axis=0),
        recall=np.mean([one.recall for one in scores], axis=0),
        f1=np.mean([one.f1 for one in scores], axis=0),
        matched_iou=np.mean([one.matched_iou for one in scores], axis=0),
        pq=np.mean([one.pq for one in scores], axis=0),
    )


def pool(scores: Sequence[Scores]) -> Scores:
    """Add up the counts of several images: each instance weighs the same.

    Parameters
    ----------
    scores : sequence of Scores
        One per image, of the same thresholds.

    Returns
    -------
    Scores
        With the ratios of the summed counts.

    Raises
    ------
    InstsegError
        If there are no scores or their thresholds differ.
    """
    return Scores(
        thresholds=_shared_thresholds(scores),
        tp=np.sum([one.tp for one in scores], axis=0),
        fp=np.sum([one.fp for one in scores], axis=0),
        fn=np.sum([one.fn for one in scores], axis=0),
        iou_sum=np.sum([one.iou_sum for one in scores], axis=0),
    )


def _mean_ap(thresholds: tuple[float, ...], ap: NDArray[np.float64]) -> float:
    counted = (np.array(thresholds) >= 0.5) & (np.array(thresholds) <= 0.9)
    return float(ap[counted].mean())


def _check(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
    if truth.shape != predicted.shape:
        raise InstsegError(
            f"the truth is of shape {truth.shape}, the prediction of {predicted.shape}; "
            "expected the same shape; give labels of the same image"
        )
    for name, labels in (("truth", truth), ("prediction", predicted)):
        if labels.dtype.kind not in "iu":
            raise InstsegError(f"the {name} is of type {labels.dtype}, expected integer labels; convert it first")
        if labels.size and labels.min() < 0:
            raise InstsegError(f"the {name} has the label {labels.min()}, expected 0 (background) and above")


def _check_thresholds(thresholds: Sequence[float]) -> None:
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise InstsegError(f"the IoU threshold is {threshold}, expected above 0 and at most 1")


def _shared_thresholds(scores: Sequence[Scores]) -> tuple[float, ...]:
    different = {one.thresholds for one in scores}
    if len(different) != 1:
        given = " and ".join(str(list(thresholds)) for thresholds in sorted(different)) or "no scores"
        raise InstsegError(f"got {given}, expected scores of at least one image, all at the same thresholds")
    return different.pop()


def _hide(truth: NDArray[np.integer], ignored: NDArray[np.bool_] | None) -> tuple[NDArray[np.integer], int | None]:
    """Give the ignored pixels a label of their own, and say which; the other labels become consecutive."""
    if ignored is None or not ignored.any():
        return truth, None
    if ignored.shape != truth.shape:
        raise InstsegError(f"ignored is of shape {ignored.shape}, the truth of {truth.shape}; expected the same shape")
    ids, numbers = _consecutive(truth)
    hidden = len(ids) + 1
    return np.where(ignored, hidden, numbers.reshape(truth.shape)), hidden


def _consecutive(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Return the ids of the N instances, ascending, and each pixel's number 0..N, flat."""
    flat = labels.ravel()
    if flat.size and flat.max() <= 4 * flat.size:
        # Counting beats sorting as long as the labels are not far larger than the image.
        present = np.zeros(int(flat.max()) + 1, np.bool_)
        present[flat] = True
        present[0] = False
        numbers = np.cumsum(present, dtype=np.int32) * present
        return np.flatnonzero(present).astype(labels.dtype), numbers[flat]
    ids, inverse = np.unique(flat, return_inverse=True)
    without_background = not ids.size or ids[0] > 0
    return ids if without_background else ids[1:], (inverse + without_background).astype(np.int32)


def _count_pairs(
    rows: NDArray[np.int32], cols: NDArray[np.int32], height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct pairs of numbers and how often each occurs, ascending."""
    codes = rows * np.int64(width)
    codes += cols
    if height * width <= 4 * codes.size:
        table = np.bincount(codes, minlength=1)
        distinct = np.flatnonzero(table)
        counts = table[distinct]
    else:
        distinct, counts = np.unique(codes, return_counts=True)
    return distinct // width, distinct % width, counts.astype(np.int64)


def _sum_by(index: NDArray[np.int64], values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    # Sums of pixels stay far below 2**53, so the doubles of bincount are exact.
    return np.bincount(index, weights=values, minlength=length).astype(np.int64)


def matched_pairs(
    rows: NDArray[np.int64], cols: NDArray[np.int64], iou: NDArray[np.float64], threshold: float
) -> NDArray[np.int64]:
    """Return which of K pairs make the best one-to-one matching at a threshold.

    Parameters
    ----------
    rows, cols : (K,) int64
        The true and the predicted instance of each pair, as in `Overlaps`.
    iou : (K,) float64
        Their IoU.
    threshold : float
        Least IoU of a matched pair.

    Returns
    -------
    (M,) int64
        Positions of the matched pairs, ascending.
    """
    candidates = np.flatnonzero(iou >= threshold)
    if not candidates.size:
        return candidates
    rows, cols = rows[candidates], cols[candidates]
    contested = (np.bincount(rows)[rows] > 1) | (np.bincount(cols)[cols] > 1)
    if not contested.any():
        return candidates
    chosen = _assign(rows[contested], cols[contested], iou[candidates[contested]])
    return np.sort(np.concatenate([candidates[~contested], candidates[contested][chosen]]))


def _assign(rows: NDArray[np.int64], cols: NDArray[np.int64], iou: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose the largest set of pairs that share no row and no column; of several, that of the largest sum of IoU."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    row_ids, rows = np.unique(rows, return_inverse=True)
    col_ids, cols = np.unique(cols, return_inverse=True)
    height, width = len(row_ids), len(col_ids)
    # Each row may also take a column of its own and so stay alone, at a cost above that of any rearrangement.
    alone = np.arange(height)
    costs = np.concatenate([2 - iou, np.full(height, height + 3.0)])
    pairs = (np.concatenate([rows, alone]), np.concatenate([cols, width + alone]))
    graph = csr_array((costs, pairs), shape=(height, width + height))
    _, partner = min_weight_full_bipartite_matching(graph)
    return np.flatnonzero(partner[rows] == cols)
