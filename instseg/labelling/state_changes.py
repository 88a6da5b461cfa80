"""The changes of an image in work that actions and existing labels make, and where they can be seen."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from instseg.errors import UsageError
from instseg.labelling.changes import Change, find_changes
from instseg.labelling.edits import Edit
from instseg.labelling.image_state import RING, ImageState, grown
from instseg.tiling.grid import Box


def require_labels(labels: NDArray[np.integer], shape: tuple[int, int]) -> None:
    """Check labels of an image.

    Raises
    ------
    UsageError
        If they are no integers, of another shape, or negative.
    """
    if labels.shape != shape or labels.dtype.kind not in "iu":
        given = f"{labels.dtype} of shape {labels.shape}"
        raise UsageError(f"labels are {given}, expected integers of shape {shape}", parameter="labels")
    if labels.size and labels.min() < 0:
        raise UsageError(f"labels hold {labels.min()}, expected 0 for background and 1..N", parameter="labels")


def base_change(
    state: ImageState, labels: NDArray[np.integer], classes: Mapping[int, int], accepted: bool, kind: str = "base"
) -> Change:
    """Return the change that puts labels of other origin in the place of all that there is; all are confirmed.

    Raises
    ------
    UsageError
        As `require_labels` does.
    """
    require_labels(labels, state.shape)
    new_labels = labels.astype(np.int32, copy=False)
    runs = find_changes(Box(0, 0, *state.shape), state.labels, new_labels, state.shape[1])
    present = np.unique(new_labels[new_labels > 0]).tolist()
    gone = [label for label in state.table.boxes if label not in set(present)]
    old = {label: state.classes.get(label, 0) for label in (*present, *gone)}
    new = {label: classes.get(label, 0) for label in present}
    return Change(
        kind=kind,
        runs=runs,
        confirmed=state.unconfirmed_among(present),
        unconfirmed=tuple(label for label in gone if state.is_confirmed(label)),
        classes={label: (number, new.get(label, 0)) for label, number in old.items() if number != new.get(label, 0)},
        forgotten=tuple(state.known),
        accepted=(state.accepted, accepted),
    )


def note(
    state: ImageState,
    kind: str,
    selected: int | None,
    *,
    confirmed: tuple[int, ...] = (),
    classes: dict[int, tuple[int, int]] | None = None,
    known: tuple[Box, ...] = (),
) -> Change:
    """Return a change that leaves labels as they are; the arguments are attributes of `Change`."""
    accepted = (state.accepted, state.accepted)
    return Change(
        kind=kind, selected=selected, confirmed=confirmed, classes=classes or {}, known=known, accepted=accepted
    )


def change_of(state: ImageState, kind: str, edit: Edit) -> Change:
    """Return the change that an edit makes; instances that it touches are confirmed."""
    box = edit.box
    before = state.labels[box.top : box.bottom, box.left : box.right]
    runs = find_changes(box, before, edit.after, state.shape[1])
    gone = set(state.table.vanishing(runs))
    kept = [label for label in edit.touched if label not in gone]
    classes = {label: (state.classes[label], 0) for label in gone if label in state.classes}
    if edit.like is not None and (number := state.classes.get(edit.like)):
        classes |= dict.fromkeys((label for label in kept if label not in state.table.boxes), (0, number))
    return Change(
        kind=kind,
        selected=None if edit.selected in gone else edit.selected,
        runs=runs,
        confirmed=state.unconfirmed_among(kept),
        unconfirmed=tuple(label for label in sorted(gone) if state.is_confirmed(label)),
        classes=classes,
        accepted=(state.accepted, state.accepted),
    )


def changed_boxes(state: ImageState, change: Change) -> list[Box]:
    """Return where a change that is done, or about to be, changes labels and what is known of them."""
    table = state.table.boxes
    boxes = [table[label] for label in (*change.confirmed, *change.unconfirmed) if label in table]
    if len(change.runs.lengths):
        boxes.append(change.runs.box(state.shape[1]))
    return [grown(box, RING, state.shape) for box in boxes] + [*change.known, *change.forgotten]
