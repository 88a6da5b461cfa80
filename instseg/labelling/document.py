"""One image in work: what a person does to it, what that changes, and the way back."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.labelling import tools
from instseg.labelling.actions import Action, parse_action
from instseg.labelling.changes import Change
from instseg.labelling.edits import Edit, NoEffectError, require_instance
from instseg.labelling.history import History
from instseg.labelling.image_state import ImageState, State
from instseg.labelling.instance_table import enclosing
from instseg.labelling.journal import Journal
from instseg.labelling.outcome import Objects, Outcome
from instseg.labelling.predictions import merge_prediction
from instseg.labelling.state_changes import base_change, change_of, changed_boxes, note, require_labels
from instseg.labelling.tools import EmbeddingsSource
from instseg.tiling.grid import Box

# More boxes than this are answered as the one that holds all of them.
_MOST_BOXES = 32


class Document:
    """An image in work.

    Any thread may call any method. `act` and `set_prediction` run one after the other, and readers wait only while a
    change is written into the labels, not while it is computed: what they see is one version, complete.

    With a journal that has records, labels are what these say; `labels`, `classes` and `accepted` count without.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image.
    embeddings : callable, optional
        Takes a box of the image and returns embeddings and the box that they cover, which holds that box as far as it
        can; None while they are not there. It is called in the thread of `act`, and readers go on meanwhile.
    labels : (H, W) int32, optional
        What exists already: 0 is background. All of these instances are confirmed.
    classes : mapping of int to int, optional
        The class of each of them that has one.
    accepted : bool
        Whether these labels are right.
    journal : Journal, optional
        Where every change is stored before it is done.
    array : (H, W) int32, optional
        Zeros, in which labels are kept, such as a memory map.

    Attributes
    ----------
    embeddings : callable or None
        As it was given; it may be set later.
    on_change : callable or None
        Is called after each change, in the thread of `act`.

    Raises
    ------
    UsageError
        If `labels` has another shape or negative values.
    InstsegError
        If the journal cannot be read, or belongs to another image.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        embeddings: EmbeddingsSource | None = None,
        labels: NDArray[np.integer] | None = None,
        classes: Mapping[int, int] | None = None,
        accepted: bool = False,
        journal: Journal | None = None,
        array: NDArray[np.int32] | None = None,
    ) -> None:
        self.embeddings = embeddings
        self.on_change: Callable[[], None] | None = None
        self._state = ImageState(np.zeros(shape, np.int32) if array is None else array)
        self._history = History(journal)
        self._version = 0
        self._writing = threading.RLock()
        self._lock = threading.RLock()
        for record in journal.records() if journal else ():
            for change in self._history.replay(record):
                self._state.apply(change)
            self._version += 1
        if not self._version and labels is not None:
            change = base_change(self._state, labels, classes or {}, accepted)
            if journal:
                journal.append("base", change)
            self._state.apply(change)
            self._version += 1
        self._journal_size = journal.size if journal else 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self._state.shape

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    @property
    def state(self) -> State:
        """'new', 'partly' or 'accepted'."""
        return self._state.state

    @property
    def predicted(self) -> bool:
        """Whether a model's instances have been set, and not taken back."""
        return self._history.by_model

    @property
    def journal(self) -> Journal | None:
        """Where changes are stored."""
        return self._history.journal

    @property
    def journal_size(self) -> int:
        """Bytes of the journal that labels hold; those of a change that is stored but not made yet do not count."""
        return self._journal_size

    def outcome(self) -> Outcome:
        """Return how the image is, as if an action had changed nothing."""
        with self._lock:
            return Outcome(
                version=self._version,
                objects=len(self._state.table.boxes),
                confirmed=self._state.confirmed_count,
                state=self._state.state,
                undo=self._history.undoable,
                redo=self._history.redoable,
            )

    def read(self, box: Box | None = None, *, mark_unknown: bool = False, step: int = 1) -> NDArray[np.int32]:
        """Return a copy (h, w) of a box of the labels, cut at the image's edges; by default of the whole image.

        Parameters
        ----------
        box : Box, optional
        mark_unknown : bool
            Whether background of which nobody has said anything is `IGNORED` (-1), in a 'partly' labelled image.
        step : int
            Of all rows and columns of the box, every step-th is returned, from the first on.
        """
        with self._lock:
            return self._state.read(self._within(box), mark_unknown, step)

    def known(self, box: Box | None = None) -> NDArray[np.bool_]:
        """Return where in a box (h, w), cut at the image's edges, it is known what is there; by default in all of it.

        That is everywhere in an accepted image. Else it is known of confirmed instances, of `RING` pixels around each,
        and of boxes that were accepted, but for the pixels of unconfirmed instances.
        """
        with self._lock:
            return self._state.known_in(self._within(box))

    def confirmed_in(self, box: Box | None = None) -> NDArray[np.int32]:
        """Return a copy (h, w) of a box of the labels with confirmed instances only."""
        with self._lock:
            labels = self._state.read(self._within(box), False)
            labels[~self._state.confirmed_of(labels)] = 0
            return labels

    def objects(self) -> Objects:
        """Return all instances."""
        with self._lock:
            ids = np.array(sorted(self._state.table.boxes), np.int32)
            boxes = [self._state.table.boxes[label] for label in ids.tolist()]
            classes = [self._state.classes.get(label, 0) for label in ids.tolist()]
            confirmed = self._state.confirmed_of(ids)
        return Objects(ids, confirmed, np.array(classes, np.int32), np.array(boxes, np.int32).reshape(-1, 4))

    def _within(self, box: Box | None) -> Box:
        whole = Box(0, 0, *self.shape)
        if box is None:
            return whole
        top, left, bottom, right = Box(*box).intersection(whole)
        return Box(min(top, self.shape[0]), min(left, self.shape[1]), max(top, bottom), max(left, right))

    def act(self, action: Mapping[str, Any]) -> Outcome:
        """Do what a person wants.

        Parameters
        ----------
        action : mapping
            `kind` and what it takes, as `instseg.labelling.actions` checks it.

        Raises
        ------
        UsageError
            If the action is none that there is, or a value is out of its range.
        StorageError
            If it cannot be stored; nothing has changed then.
        """
        checked = parse_action(action)
        with self._writing:
            version = self._version
            try:
                outcome = self._handlers().get(checked.kind, self._edit)(checked)
            except NoEffectError as error:
                outcome = replace(self.outcome(), message=str(error))
            self._tell(version)
            return outcome

    def _tell(self, version: int) -> None:
        if self._version != version and self.on_change is not None:
            self.on_change()

    def _handlers(self) -> dict[str, Callable[[Action], Outcome]]:
        return {
            **{"add": self._add, "class": self._classify, "confirm": self._confirm, "accept_box": self._accept_box},
            **{"accept": self._accept, "reopen": self._reopen, "undo": self._undo, "redo": self._redo},
        }

    def _edit(self, action: Action) -> Outcome:
        edit = tools.edit(self._state.labels, self._state.table.boxes, action, self._state.next_label, self.embeddings)
        return self._do(change_of(self._state, action.kind, edit))

    def _add(self, action: Action) -> Outcome:
        labels, boxes = self._state.labels, self._state.table.boxes
        region = tools.select_region(labels, boxes, action, self.embeddings)
        if action.instance is None or action.instance not in boxes:
            return self._do(change_of(self._state, "add", tools.put_new(labels, region, self._state.next_label)))
        if self._history.last_addition() != action.instance:
            return self._do(change_of(self._state, "add", tools.put_instead(labels, region, action.instance, boxes)))
        last = self._history.last()
        if last is None:
            raise RuntimeError("the last addition is not in the history")
        with self._lock:
            state = self._state.state
            self._state.apply(last.reversed())
            try:
                # An object that was added anew is put back under its own label; one that was there changes again.
                if action.instance in self._state.table.boxes:
                    edit = tools.put_instead(labels, region, action.instance, self._state.table.boxes)
                else:
                    edit = tools.put_new(labels, region, action.instance)
                change = change_of(self._state, "add", edit)
                self._history.replace(change)
            except BaseException:
                self._state.apply(last)
                raise
            return self._applied(change, last, state=state)

    def _classify(self, action: Action) -> Outcome:
        label = require_instance(self._state.labels, action.points[0], "give a class to")
        old = self._state.classes.get(label, 0)
        classes = {} if old == action.class_number else {label: (old, action.class_number)}
        return self._do(
            note(self._state, "class", label, confirmed=self._state.unconfirmed_among([label]), classes=classes)
        )

    def _confirm(self, action: Action) -> Outcome:
        label = require_instance(self._state.labels, action.points[0], "confirm")
        return self._do(note(self._state, "confirm", label, confirmed=self._state.unconfirmed_among([label])))

    def _accept_box(self, action: Action) -> Outcome:
        box = self._within(action.box)
        if 0 in box.shape:
            raise NoEffectError("this box is outside of the image")
        if self._state.accepted:
            raise NoEffectError("all of this image is accepted already")
        confirmed = self._state.unconfirmed_among(self._state.mainly_in(box))
        return self._do(note(self._state, "accept_box", None, confirmed=confirmed, known=(box,)))

    def _accept(self, action: Action) -> Outcome:
        return self._do(
            replace(
                note(self._state, "accept", None, confirmed=self._state.unconfirmed_among(self._state.table.boxes)),
                accepted=(self._state.accepted, True),
            )
        )

    def _reopen(self, action: Action) -> Outcome:
        return self._do(replace(note(self._state, "reopen", None), accepted=(self._state.accepted, False)))

    def _undo(self, action: Action) -> Outcome:
        if (change := self._history.last()) is None:
            raise NoEffectError("there is nothing to undo")
        message = (
            "the objects that the new model had found are taken back" if self._history.is_last_by_model() else None
        )
        with self._lock:
            self._history.undo()
            return replace(self._applied(change.reversed()), message=message)

    def _redo(self, action: Action) -> Outcome:
        if (change := self._history.next()) is None:
            raise NoEffectError("there is nothing to redo")
        with self._lock:
            self._history.redo()
            return self._applied(change)

    def _do(self, change: Change, *, by_model: bool = False) -> Outcome:
        """Store a change, then make it."""
        if change.is_empty():
            return replace(self.outcome(), selected=change.selected)
        self._history.push(change, by_model=by_model)
        with self._lock:
            return self._applied(change)

    def _applied(self, change: Change, undone: Change | None = None, state: State | None = None) -> Outcome:
        """Make a change that is stored, and return what it and the one that was undone before it have changed."""
        state = state or self._state.state
        changes = [change] if undone is None else [undone, change]
        boxes = [box for one in changes for box in changed_boxes(self._state, one)]
        self._state.apply(change)
        boxes += changed_boxes(self._state, change)
        if self._state.state != state:
            boxes = [Box(0, 0, *self.shape)]
        elif len(boxes := list(dict.fromkeys(boxes))) > _MOST_BOXES:
            boxes = [enclosing(boxes)]
        self._version += 1
        self._journal_size = self.journal.size if self.journal else 0
        selected = change.selected if change.selected in self._state.table.boxes else None
        return replace(self.outcome(), boxes=tuple(boxes), selected=selected)

    def set_prediction(self, labels: NDArray[np.integer], classes: Mapping[int, int] | None = None) -> Outcome:
        """Put the instances that a model has found in the place of all unconfirmed ones.

        Those that lie for more than a quarter on confirmed instances or in boxes that were accepted are dropped, the
        others have what is free of their pixels. Before a person has done anything it cannot be taken back; afterwards
        it is a step like others.

        Parameters
        ----------
        labels : (H, W) integers
            0 is background. They get other numbers, which no instance has had before.
        classes : mapping of int to int, optional
            The class of each of them that has one.

        Raises
        ------
        UsageError
            If they have another shape or negative values.
        StorageError
            If they cannot be stored; nothing has changed then.
        """
        require_labels(labels, self.shape)
        with self._writing:
            if self._state.accepted:
                return replace(self.outcome(), message="the image is accepted, so that its objects stay as they are")
            after, numbers = merge_prediction(self._state, labels.astype(np.int32, copy=False))
            change = change_of(self._state, "predict", Edit(Box(0, 0, *self.shape), after, (), None))
            found = {numbers[label]: (0, number) for label, number in (classes or {}).items() if label in numbers}
            change = replace(change, classes=change.classes | found)
            # Even one that finds nothing is noted, as the image has been looked at.
            self._history.push(change, by_model=True)
            with self._lock:
                outcome = self._applied(change)
            self._tell(outcome.version - 1)
            return outcome

    def load_labels(self, labels: NDArray[np.integer], classes: Mapping[int, int], *, accepted: bool) -> Outcome:
        """Take labels of other origin in the place of all that there is, as a step that can be taken back.

        Parameters
        ----------
        labels, classes, accepted
            As they are given to a new document.

        Raises
        ------
        UsageError
            If labels have another shape or negative values.
        StorageError
            If they cannot be stored; nothing has changed then.
        """
        with self._writing:
            outcome = self._do(base_change(self._state, labels, classes, accepted, kind="load"))
            self._tell(outcome.version - 1)
            return outcome

    def close(self) -> None:
        """Close the journal."""
        if self._history.journal:
            self._history.journal.close()
