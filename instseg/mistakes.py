"""What went wrong in a prediction: which instances were missed, made up, split or merged."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instseg.overlaps import Overlaps, matched_pairs, overlap_table

MISTAKES = ("missed", "false_alarms", "splits", "merges")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Mistakes:
    """The instances of one image by what became of them, each in one array only.

    An instance lies mainly on another if more than half of its pixels do.

    Attributes
    ----------
    matched_truth, matched_predicted : integers
        Labels of the pairs that are right.
    splits : integers
        True labels that two or more predictions lie mainly on.
    merges : integers
        Predicted labels that two or more true instances lie mainly on.
    missed : integers
        True labels that are neither matched nor split, and lie mainly on no merge.
    false_alarms : integers
        Predicted labels that are neither matched nor a merge, and lie mainly on no split instance.
    """

    matched_truth: NDArray[np.integer]
    matched_predicted: NDArray[np.integer]
    splits: NDArray[np.integer]
    merges: NDArray[np.integer]
    missed: NDArray[np.integer]
    false_alarms: NDArray[np.integer]

    def counts(self) -> dict[str, int]:
        """Return how many there are of each of `MISTAKES`."""
        return {name: len(getattr(self, name)) for name in MISTAKES}


def find_mistakes(truth: NDArray[np.integer], predicted: NDArray[np.integer], iou_threshold: float = 0.5) -> Mistakes:
    """Compare a prediction with the truth.

    A split or merged instance that is matched all the same, as when only a
    splinter was split off it, counts as split or merged.

    Parameters
    ----------
    truth, predicted : (H, W) integers
        One label per pixel, 0 is background.
    iou_threshold : float
        Least IoU of a pair that is right, above 0 and at most 1.

    Returns
    -------
    Mistakes

    Raises
    ------
    InstsegError
        If the labels cannot be compared.

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2, 3, 3, 0, 4]])
    >>> predicted = np.array([[5, 5, 6, 6, 0, 7, 7, 7, 7, 0, 0]])
    >>> find_mistakes(truth, predicted).counts()
    {'missed': 1, 'false_alarms': 0, 'splits': 1, 'merges': 1}
    """
    table = overlap_table(truth, predicted)
    rows, cols = table.truth_index, table.predicted_index
    pairs = matched_pairs(rows, cols, table.iou, iou_threshold)
    split = _hosts(cols, rows, table.intersection, table.predicted_areas, len(table.truth_ids))
    merge = _hosts(rows, cols, table.intersection, table.truth_areas, len(table.predicted_ids))
    truth_done = _marked(rows[pairs], len(table.truth_ids)) | split | _on(merge[cols], rows, table, table.truth_areas)
    predicted_done = (
        _marked(cols[pairs], len(table.predicted_ids)) | merge | _on(split[rows], cols, table, table.predicted_areas)
    )
    right = pairs[~split[rows[pairs]] & ~merge[cols[pairs]]]
    return Mistakes(
        matched_truth=table.truth_ids[rows[right]],
        matched_predicted=table.predicted_ids[cols[right]],
        splits=table.truth_ids[split],
        merges=table.predicted_ids[merge],
        missed=table.truth_ids[~truth_done],
        false_alarms=table.predicted_ids[~predicted_done],
    )


def _hosts(
    guests: NDArray[np.int64],
    hosts: NDArray[np.int64],
    shared: NDArray[np.int64],
    guest_areas: NDArray[np.int64],
    count: int,
) -> NDArray[np.bool_]:
    """Return which of `count` instances two or more guests lie mainly on."""
    mainly = 2 * shared > guest_areas[guests]
    hosted: NDArray[np.bool_] = np.bincount(hosts[mainly], minlength=count) > 1
    return hosted


def _on(
    host: NDArray[np.bool_], guests: NDArray[np.int64], table: Overlaps, guest_areas: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which instances lie mainly on one of the hosts, which are marked by pair."""
    mainly = host & (2 * table.intersection > guest_areas[guests])
    return _marked(guests[mainly], len(guest_areas))


def _marked(index: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    marks = np.zeros(count, bool)
    marks[index] = True
    return marks
