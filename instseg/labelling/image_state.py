"""What is known of an image in work: labels, which instances are confirmed, their classes, and where all is known."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instseg.labelling.changes import Change
from instseg.labelling.instance_table import InstanceTable
from instseg.labels.regions import IGNORED
from instseg.tiling.grid import Box

RING = 3
"""Pixels around a confirmed instance in which it is known that there is no other, unless one that a model found is."""

State = Literal["new", "partly", "accepted"]
"""Nobody has said anything of an image; some is known; all is right."""

_FIRST_CAPACITY = 1024


class ImageState:
    """The labels of an image and what is known of them; changes are applied one by one.

    Parameters
    ----------
    labels : (H, W) int32
        All 0; changed in place.

    Attributes
    ----------
    table : InstanceTable
    classes : dict of int to int
        The class of each instance that has one.
    known : list of Box
        Where all is known.
    accepted : bool
    next_label : int
        Above all labels that there have ever been.
    """

    def __init__(self, labels: NDArray[np.int32]) -> None:
        self.labels = labels
        self.table = InstanceTable()
        self.classes: dict[int, int] = {}
        self.known: list[Box] = []
        self.accepted = False
        self.next_label = 1
        self._confirmed = np.zeros(_FIRST_CAPACITY, bool)
        self.confirmed_count = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def state(self) -> State:
        """'new', 'partly' or 'accepted'."""
        if self.accepted:
            return "accepted"
        return "partly" if self.confirmed_count or self.known else "new"

    def apply(self, change: Change) -> None:
        """Do a change."""
        if len(change.runs.lengths):
            change.runs.apply(self.labels)
            self.table.update(self.labels, change.runs)
            self.next_label = max(self.next_label, int(change.runs.after.max()) + 1, int(change.runs.before.max()) + 1)
        if self.next_label > len(self._confirmed):
            self._confirmed = np.append(self._confirmed, np.zeros(2 * self.next_label, bool))
        self._confirmed[list(change.confirmed)] = True
        self._confirmed[list(change.unconfirmed)] = False
        self.confirmed_count += len(change.confirmed) - len(change.unconfirmed)
        for label, (_, after) in change.classes.items():
            if after:
                self.classes[label] = after
            else:
                self.classes.pop(label, None)
        self.known += change.known
        for box in change.forgotten:
            # The last of equal ones.
            del self.known[len(self.known) - 1 - self.known[::-1].index(box)]
        self.accepted = change.accepted[1]

    def is_confirmed(self, label: int) -> bool:
        """Return whether an instance is confirmed."""
        return label < len(self._confirmed) and bool(self._confirmed[label])

    def unconfirmed_among(self, labels: Iterable[int]) -> tuple[int, ...]:
        """Return those of some instances that are not confirmed."""
        return tuple(label for label in labels if not self.is_confirmed(label))

    def confirmed_of(self, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return for labels of any shape, none of them above all that there are, whether each is confirmed."""
        return self._confirmed[labels]

    def known_in(self, box: Box, step: int = 1) -> NDArray[np.bool_]:
        """Return where it is known what is there, for every step-th pixel (h, w) of a box within the image.

        With a step above 1 the ring around instances is as wide as that many pixels can show.
        """
        shape = (-(-box.shape[0] // step), -(-box.shape[1] // step))
        if self.accepted:
            return np.ones(shape, bool)
        if not self.confirmed_count and not self.known:
            return np.zeros(shape, bool)
        ring = -(-RING // step)
        # As many pixels more at each side as the ring needs, at places that the steps of the box come to, too.
        above, left = min(ring, box.top // step), min(ring, box.left // step)
        rows = slice(box.top - above * step, box.bottom + ring * step, step)
        columns = slice(box.left - left * step, box.right + ring * step, step)
        around = self.labels[rows, columns]
        confirmed = self._confirmed[around]
        inner = np.s_[above : above + shape[0], left : left + shape[1]]
        known = _dilated(confirmed, ring)[inner].copy()
        for whole in self.known:
            part = whole.intersection(box)
            if 0 not in part.shape:
                begin = -(-(part.top - box.top) // step), -(-(part.left - box.left) // step)
                end = -(-(part.bottom - box.top) // step), -(-(part.right - box.left) // step)
                known[begin[0] : end[0], begin[1] : end[1]] = True
        # The place of an instance that nobody has looked at is not known, wherever it is.
        known &= confirmed[inner] | (around[inner] == 0)
        return known

    def read(self, box: Box, mark_unknown: bool, step: int = 1) -> NDArray[np.int32]:
        """Return a copy of every step-th pixel (h, w) of a box of the labels within the image."""
        labels = self.labels[box.top : box.bottom : step, box.left : box.right : step].copy()
        if mark_unknown and self.state == "partly":
            labels[(labels == 0) & ~self.known_in(box, step)] = IGNORED
        return labels

    def mainly_in(self, box: Box) -> list[int]:
        """Return the instances with half of their pixels or more in a box."""
        mainly = []
        for label, of_label in self.table.boxes.items():
            part = of_label.intersection(box)
            if 0 in part.shape:
                continue
            if part == of_label:
                mainly.append(label)
                continue
            inside = np.count_nonzero(self.labels[part.top : part.bottom, part.left : part.right] == label)
            if 2 * inside >= self.table.areas[label]:
                mainly.append(label)
        return sorted(mainly)


def grown(box: Box, by: int, shape: tuple[int, int]) -> Box:
    """Return a box with more pixels at all sides, up to the edges of the image."""
    larger = Box(box.top - by, box.left - by, box.bottom + by, box.right + by)
    return larger.intersection(Box(0, 0, *shape))


def _dilated(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Return a mask (H, W) that is true in the squares of side 2 * by + 1 around true pixels.

    Whole rows are combined at a time, which takes a tenth of the time of a filter of that size.
    """
    for axis in (0, 1):
        for _ in range(by):
            ahead, behind = np.moveaxis(mask.copy(), axis, 0), np.moveaxis(mask, axis, 0)
            ahead[1:] |= behind[:-1]
            ahead[:-1] |= behind[1:]
            mask = np.moveaxis(ahead, 0, axis)
    return mask
