"""The kinds of errors in a prediction: which instances were missed, made up, split or merged."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instseg.labels.matching import contingency_table, matched_pairs

ERROR_KINDS = ("false_negatives", "false_positives", "splits", "merges")
"""Kinds of errors, named like the attributes of `ErrorAnalysis`."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ErrorAnalysis:
    """The instances of one image, sorted by whether and how they are wrong; each is in one array only.

    An instance lies mainly on another if more than half of its pixels do.

    Attributes
    ----------
    matched_truth, matched_predicted : integers
        Labels of the matched pairs.
    splits : integers
        True labels that two or more predictions lie mainly on.
    merges : integers
        Predicted labels that two or more true instances lie mainly on.
    false_negatives : integers
        True labels that are neither matched nor split, and lie mainly on no merge.
    false_positives : integers
        Predicted labels that are neither matched nor a merge, and lie mainly on no split instance.
    """

    matched_truth: NDArray[np.integer]
    matched_predicted: NDArray[np.integer]
    splits: NDArray[np.integer]
    merges: NDArray[np.integer]
    false_negatives: NDArray[np.integer]
    false_positives: NDArray[np.integer]

    def counts(self) -> dict[str, int]:
        """Return the number of errors of each of `ERROR_KINDS`."""
        return {kind: len(getattr(self, kind)) for kind in ERROR_KINDS}


def classify_errors(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], iou_threshold: float = 0.5
) -> ErrorAnalysis:
    """Sort the instances of one image by the kind of their error.

    An instance that is split or merged and matched all the same (when only a splinter was split off it) counts as split
    or merged.

    Parameters
    ----------
    truth, predicted : (H, W) or (Z, Y, X) integers
        One label per pixel, 0 is background.
    iou_threshold : float
        Least IoU of a matched pair, above 0 and at most 1.

    Returns
    -------
    ErrorAnalysis

    Raises
    ------
    InstsegError
        If the labels cannot be compared.

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2, 3, 3, 0, 4]])
    >>> predicted = np.array([[5, 5, 6, 6, 0, 7, 7, 7, 7, 0, 0]])
    >>> classify_errors(truth, predicted).counts()
    {'false_negatives': 1, 'false_positives': 0, 'splits': 1, 'merges': 1}
    """
    table = contingency_table(truth, predicted)
    rows, columns = table.truth_index, table.predicted_index
    matches = matched_pairs(rows, columns, table.iou, iou_threshold)
    split = _hosts(columns, rows, table.intersection, table.predicted_areas, len(table.truth_ids))
    merged = _hosts(rows, columns, table.intersection, table.truth_areas, len(table.predicted_ids))
    truth_on_merged = _mainly_on(merged[columns], rows, table.intersection, table.truth_areas)
    predicted_on_split = _mainly_on(split[rows], columns, table.intersection, table.predicted_areas)
    explained_truth = _mask(rows[matches], len(table.truth_ids)) | split | truth_on_merged
    explained_predicted = _mask(columns[matches], len(table.predicted_ids)) | merged | predicted_on_split
    correct = matches[~split[rows[matches]] & ~merged[columns[matches]]]
    return ErrorAnalysis(
        matched_truth=table.truth_ids[rows[correct]],
        matched_predicted=table.predicted_ids[columns[correct]],
        splits=table.truth_ids[split],
        merges=table.predicted_ids[merged],
        false_negatives=table.truth_ids[~explained_truth],
        false_positives=table.predicted_ids[~explained_predicted],
    )


def _hosts(
    guests: NDArray[np.int64],
    hosts: NDArray[np.int64],
    intersection: NDArray[np.int64],
    guest_areas: NDArray[np.int64],
    count: int,
) -> NDArray[np.bool_]:
    """Return which of `count` hosts two or more guests lie mainly on; guests and hosts are given by pair."""
    mainly = 2 * intersection > guest_areas[guests]
    hosted: NDArray[np.bool_] = np.bincount(hosts[mainly], minlength=count) > 1
    return hosted


def _mainly_on(
    is_host: NDArray[np.bool_],
    guests: NDArray[np.int64],
    intersection: NDArray[np.int64],
    guest_areas: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return which guests lie mainly on a host; `is_host` marks the pairs whose other side is one."""
    mainly = is_host & (2 * intersection > guest_areas[guests])
    return _mask(guests[mainly], len(guest_areas))


def _mask(index: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    mask = np.zeros(length, bool)
    mask[index] = True
    return mask
