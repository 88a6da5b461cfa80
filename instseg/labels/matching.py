"""Which true and predicted instances share pixels, and which of them belong together.

One sparse table of overlaps, made in one pass over the pixels, whatever the number of instances.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.labels.regions import IGNORED, dense_labels

# So many pixels are compared at once: what is made of them fits into the processor's cache.
_CHUNK = 2**16
# The runs of so many pixels are held at once.
_PART = 2**21


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ContingencyTable:
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

    def ignored(self, removed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which predictions, (M,) bool, lie mainly (by more than half) on `removed` true instances, (N,) bool.

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


def contingency_table(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> ContingencyTable:
    """Count the pixels that true and predicted instances share.

    The time is that of one pass over the pixels, whatever the number of instances.

    Parameters
    ----------
    truth, predicted : (H, W) or (Z, Y, X) integers
        One label per pixel, 0 is background; other labels may be any positive integers.

    Returns
    -------
    ContingencyTable

    Raises
    ------
    InstsegError
        If the shapes differ, or a label is negative or not an integer.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 7]])
    >>> predicted = np.array([[0, 4, 4, 9]])
    >>> table = contingency_table(truth, predicted)
    >>> table.truth_ids[table.truth_index], table.predicted_ids[table.predicted_index]
    (array([1, 7]), array([4, 9]))
    >>> table.iou.round(2)
    array([0.33, 1.  ])
    """
    require_comparable(truth, predicted)
    of_truth, of_predicted, lengths = _pair_counts(truth, predicted)
    truth_ids, truth_numbers = dense_labels(of_truth)
    predicted_ids, predicted_numbers = dense_labels(of_predicted)
    columns = len(predicted_ids) + 1
    rows, cols, counts = _sum_pairs(truth_numbers, predicted_numbers, lengths, (len(truth_ids) + 1, columns))
    truth_areas = _sum_by(rows, counts, len(truth_ids) + 1)[1:]
    predicted_areas = _sum_by(cols, counts, columns)[1:]
    both = (rows > 0) & (cols > 0)
    truth_index, predicted_index, intersection = rows[both] - 1, cols[both] - 1, counts[both]
    union = truth_areas[truth_index] + predicted_areas[predicted_index] - intersection
    return ContingencyTable(
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
    truth, predicted : (H, W) or (Z, Y, X) integers
        One label per pixel, 0 is background.
    iou_threshold : float
        Least IoU of a pair, above 0 and at most 1.

    Returns
    -------
    Matches

    Raises
    ------
    InstsegError
        If the labels cannot be compared (see `contingency_table`) or the threshold is out of bounds.

    Examples
    --------
    >>> matches = match(np.array([[1, 1, 2]]), np.array([[5, 5, 0]]))
    >>> matches.truth_ids, matches.predicted_ids, matches.iou
    (array([1]), array([5]), array([1.]))
    """
    require_thresholds((iou_threshold,))
    table = contingency_table(truth, predicted)
    pairs = matched_pairs(table.truth_index, table.predicted_index, table.iou, iou_threshold)
    return Matches(
        truth_ids=table.truth_ids[table.truth_index[pairs]],
        predicted_ids=table.predicted_ids[table.predicted_index[pairs]],
        iou=table.iou[pairs],
    )


def _pair_counts(
    truth: NDArray[np.integer], predicted: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.int64]]:
    """Return pairs of labels and how many pixels they share; of a pair in several parts of the image, some for each.

    Pixels are counted part by part, as the runs of all of a large image would take more memory than the image.
    """
    flat = truth.reshape(-1), predicted.reshape(-1)
    if truth.size <= _PART:
        return _pair_runs(*flat)
    found = []
    for start in range(0, truth.size, _PART):
        of_truth, of_predicted, lengths = _pair_runs(*(labels[start : start + _PART] for labels in flat))
        (truth_ids, rows), (predicted_ids, cols) = dense_labels(of_truth), dense_labels(of_predicted)
        shape = len(truth_ids) + 1, len(predicted_ids) + 1
        one, other, counts = _sum_pairs(rows, cols, lengths, shape)
        found.append((np.insert(truth_ids, 0, 0)[one], np.insert(predicted_ids, 0, 0)[other], counts))
    of_truth, of_predicted, counts = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return of_truth, of_predicted, counts


def _pair_runs(
    truth: NDArray[np.integer], predicted: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.intp]]:
    """Return the labels and the lengths of runs of pixels (P,), in raster order, in which both labels stay the same.

    There are far fewer runs than pixels; those of background on both sides are left out.
    """
    found = [(truth[:0], predicted[:0], np.zeros(0, np.intp))]
    for start in range(0, truth.size, _CHUNK):
        one, other = truth[start : start + _CHUNK], predicted[start : start + _CHUNK]
        begins = np.ones(len(one), bool)
        np.not_equal(one[1:], one[:-1], out=begins[1:])
        begins[1:] |= other[1:] != other[:-1]
        first = np.flatnonzero(begins)
        lengths = np.diff(first, append=len(one))
        one, other = one[first], other[first]
        shown = np.flatnonzero((one != 0) | (other != 0))
        found.append((one[shown], other[shown], lengths[shown]))
    of_truth, of_predicted, lengths = zip(*found, strict=True)
    return np.concatenate(of_truth), np.concatenate(of_predicted), np.concatenate(lengths)


def _sum_pairs(
    rows: NDArray[np.int32], cols: NDArray[np.int32], lengths: NDArray[np.intp], shape: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct pairs of numbers and the sum of the lengths of each, ascending."""
    if math.prod(shape) <= 4 * lengths.size:
        codes = rows * np.int64(shape[1])
        codes += cols
        table = np.bincount(codes, lengths, 1)
        distinct = np.flatnonzero(table)
        return distinct // shape[1], distinct % shape[1], table[distinct].astype(np.int64)
    from scipy.sparse import coo_array

    # It counts where a sort of all codes would take several times as long.
    sums = coo_array((lengths.astype(np.int64), (rows, cols)), shape=shape).tocsr()
    sums.sort_indices()
    row = np.repeat(np.arange(shape[0]), np.diff(sums.indptr))
    return row, sums.indices.astype(np.int64), sums.data


def _sum_by(index: NDArray[np.int64], values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    # Sums of pixels stay far below 2**53, so the doubles of bincount are exact.
    return np.bincount(index, weights=values, minlength=length).astype(np.int64)


def matched_pairs(
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    iou: NDArray[np.float64],
    threshold: float,
    *,
    largest_sum: bool = False,
) -> NDArray[np.int64]:
    """Return which of K pairs make the best one-to-one matching at a threshold: the most pairs, or the largest sum.

    Parameters
    ----------
    rows, cols : (K,) int64
        The true and the predicted instance of each pair, as in `ContingencyTable`.
    iou : (K,) float64
        Their IoU, or another score above 0 and at most 1.
    threshold : float
        Least IoU of a matched pair.
    largest_sum : bool
        Whether the sum of the IoU counts alone, so that a good pair is not given up for two poor ones. Otherwise the
        number of pairs counts first.

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
    chosen = _assign(rows[contested], cols[contested], iou[candidates[contested]], largest_sum=largest_sum)
    return np.sort(np.concatenate([candidates[~contested], candidates[contested][chosen]]))


def _assign(
    rows: NDArray[np.int64], cols: NDArray[np.int64], iou: NDArray[np.float64], *, largest_sum: bool
) -> NDArray[np.int64]:
    """Choose the largest set of pairs that share no row and no column, or the set of the largest sum of IoU.

    Of several largest sets it is that of the largest sum, too.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    row_ids, rows = np.unique(rows, return_inverse=True)
    col_ids, cols = np.unique(cols, return_inverse=True)
    height, width = len(row_ids), len(col_ids)
    # Each row may also take a column of its own and so stay alone: at a cost above that of any rearrangement, or at
    # that of a pair without overlap.
    alone = np.arange(height)
    costs = np.concatenate([2 - iou, np.full(height, 2.0 if largest_sum else height + 3.0)])
    pairs = (np.concatenate([rows, alone]), np.concatenate([cols, width + alone]))
    graph = csr_array((costs, pairs), shape=(height, width + height))
    _, partner = min_weight_full_bipartite_matching(graph)
    return np.flatnonzero(partner[rows] == cols)


def drop_ignored(
    truth: NDArray[np.integer], predicted: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Make ignored pixels background on both sides, and leave out the predictions that lie mainly on them.

    What is predicted on ignored pixels is neither right nor wrong: a prediction that has more than half of its pixels
    there is left out, and of any other only the rest is compared.

    Parameters
    ----------
    truth : (H, W) integers
        0 is background, `IGNORED` the pixels to ignore.
    predicted : (H, W) integers
        0 is background.

    Returns
    -------
    truth, predicted : (H, W) integers
        The same labels, 0 where something was left out; the same arrays where nothing is ignored.

    Raises
    ------
    InstsegError
        If the labels cannot be compared (see `contingency_table`).

    Examples
    --------
    >>> truth = np.array([[1, 1, -1, -1, -1, 0]])
    >>> predicted = np.array([[4, 4, 4, 6, 6, 6]])
    >>> truth, predicted = drop_ignored(truth, predicted)
    >>> truth.tolist(), predicted.tolist()
    ([[1, 1, 0, 0, 0, 0]], [[4, 4, 0, 0, 0, 0]])
    """
    if not truth.size or truth.min() > IGNORED:
        return truth, predicted
    ignored = truth == IGNORED
    truth = np.where(ignored, 0, truth).astype(truth.dtype)
    require_comparable(truth, predicted)
    ids, numbers = dense_labels(predicted)
    areas = np.bincount(numbers.ravel(), minlength=len(ids) + 1)
    left_out = 2 * np.bincount(numbers[ignored], minlength=len(ids) + 1) > areas
    return truth, np.where(ignored | left_out[numbers], 0, predicted).astype(predicted.dtype)


def require_comparable(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
    """Raise InstsegError unless both are integers from 0 on, of the same shape."""
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


def require_thresholds(thresholds: Sequence[float]) -> None:
    """Raise InstsegError unless all are above 0 and at most 1."""
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise InstsegError(f"the IoU threshold is {threshold}, expected above 0 and at most 1")
