"""Where the instances of an image in work are, and how large: kept up to date change by change."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instseg.labelling.changes import Runs
from instseg.tiling.grid import Box


class InstanceTable:
    """The box and the area of each instance.

    Attributes
    ----------
    boxes : dict of int to Box
        The smallest box of each instance.
    areas : dict of int to int
        Its pixels.
    """

    def __init__(self) -> None:
        self.boxes: dict[int, Box] = {}
        self.areas: dict[int, int] = {}

    def vanishing(self, runs: Runs) -> tuple[int, ...]:
        """Return the instances that runs would leave without a pixel."""
        return tuple(label for label, step in _steps(runs).items() if step < 0 and self.areas.get(label, 0) + step <= 0)

    def update(self, labels: NDArray[np.int32], runs: Runs) -> None:
        """Take notice of runs that have been applied to labels (H, W)."""
        gained = runs.boxes_after(labels.shape[1])
        for label, step in _steps(runs).items():
            area = self.areas.get(label, 0) + step
            if area <= 0:
                self.areas.pop(label, None)
                self.boxes.pop(label, None)
                gained.pop(label, None)
            else:
                self.areas[label] = area
        for label in np.unique(runs.before).tolist():
            if label in self.boxes:
                self.boxes[label] = _shrunk(labels, self.boxes[label], label)
        for label, box in gained.items():
            self.boxes[label] = enclosing([self.boxes[label], box]) if label in self.boxes else box


def enclosing(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that holds all of some boxes.

    Examples
    --------
    >>> enclosing([Box(0, 5, 2, 6), Box(1, 1, 2, 2)])
    Box(top=0, left=1, bottom=2, right=6)
    """
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return Box(min(tops), min(lefts), max(bottoms), max(rights))


def _steps(runs: Runs) -> dict[int, int]:
    """Return by how many pixels each instance grows or shrinks; also of those whose area stays."""
    labels, index = np.unique(np.concatenate([runs.before, runs.after]), return_inverse=True)
    lengths = runs.lengths.astype(np.int64)
    steps = np.bincount(index, np.concatenate([-lengths, lengths]), len(labels)).astype(np.int64)
    return {label: step for label, step in zip(labels.tolist(), steps.tolist(), strict=True) if label > 0}


def _shrunk(labels: NDArray[np.int32], box: Box, label: int) -> Box:
    mask = labels[box.top : box.bottom, box.left : box.right] == label
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        # Where it was it is no longer; where it is now, the runs say.
        return Box(2**31, 2**31, 0, 0)
    return Box(
        box.top + int(rows[0]), box.left + int(columns[0]), box.top + int(rows[-1]) + 1, box.left + int(columns[-1]) + 1
    )
