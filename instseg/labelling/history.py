"""What was done to an image, step by step, to go back and forth in it."""

from dataclasses import dataclass

from instseg.labelling.changes import Change
from instseg.labelling.journal import Journal, Record


@dataclass(frozen=True, slots=True)
class _Step:
    """A change, in memory or in the journal, and who made it."""

    change: Change | None
    place: int
    kind: str
    selected: int | None
    by_model: bool


class History:
    """Steps that are done, and steps that were taken back.

    With a journal, changes are read from the disc when a step is taken back, so that memory holds no more than some
    numbers for each step.

    Parameters
    ----------
    journal : Journal, optional
        Without one, the history is lost with the process.
    """

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal
        self._steps: list[_Step] = []
        self._done = 0
        # The steps at the beginning that a model made are what the work began with: they are not taken back.
        self._fixed = 0

    @property
    def undoable(self) -> int:
        """How many steps can be taken back."""
        return self._done - self._fixed

    @property
    def redoable(self) -> int:
        """How many steps that were taken back can be done again."""
        return len(self._steps) - self._done

    @property
    def by_model(self) -> bool:
        """Whether any step that is done is a model's."""
        return any(step.by_model for step in self._steps[: self._done])

    def last_addition(self) -> int | None:
        """Return the instance that the last step added; None where it was another kind of step."""
        if not self.undoable or self._steps[self._done - 1].kind != "add":
            return None
        return self._steps[self._done - 1].selected

    def push(self, change: Change, *, by_model: bool = False) -> None:
        """Note a change that is about to be done; steps that were taken back are gone.

        Raises
        ------
        StorageError
            If it cannot be stored; nothing is noted then.
        """
        place = self.journal.append("do", change, by_model=by_model) if self.journal else -1
        self._push(change, place, by_model)

    def replace(self, change: Change) -> None:
        """Note a change in the place of the last one, which has been taken back.

        Raises
        ------
        StorageError
            If it cannot be stored; nothing is noted then.
        """
        place = self.journal.append("replace", change) if self.journal else -1
        self._done -= 1
        self._push(change, place, False)

    def is_last_by_model(self) -> bool:
        """Return whether the step that is next to be taken back is a model's."""
        return self.undoable > 0 and self._steps[self._done - 1].by_model

    def last(self) -> Change | None:
        """Return the change that is next to be taken back, None where there is none.

        Raises
        ------
        StorageError
            If it cannot be read.
        """
        return self._change(self._done - 1) if self.undoable else None

    def undo(self) -> None:
        """Note that the last change is about to be taken back.

        Raises
        ------
        StorageError
            If that cannot be stored.
        """
        if self.journal:
            self.journal.append("undo")
        self._done -= 1

    def next(self) -> Change | None:
        """Return the change that is next to be done again, None where there is none.

        Raises
        ------
        StorageError
            If it cannot be read.
        """
        return self._change(self._done) if self.redoable else None

    def redo(self) -> None:
        """Note that the next change is about to be done again.

        Raises
        ------
        StorageError
            If that cannot be stored.
        """
        if self.journal:
            self.journal.append("redo")
        self._done += 1

    def replay(self, record: Record) -> list[Change]:
        """Take in a record of the journal, and return the changes that it stands for, in order.

        Raises
        ------
        StorageError
            If an earlier change that it takes back cannot be read.
        """
        if record.change is not None and record.step == "base":
            return [record.change]
        if record.change is not None and record.step == "do":
            self._push(record.change, record.place, record.by_model)
            return [record.change]
        if record.change is not None and record.step == "replace" and (last := self.last()):
            self._done -= 1
            self._push(record.change, record.place, False)
            return [last.reversed(), record.change]
        if record.step == "undo" and (last := self.last()):
            self._done -= 1
            return [last.reversed()]
        if record.step == "redo" and (following := self.next()):
            self._done += 1
            return [following]
        return []

    def _push(self, change: Change, place: int, by_model: bool) -> None:
        del self._steps[self._done :]
        kept = None if self.journal else change
        if by_model and self._done == self._fixed:
            self._fixed += 1
        self._steps.append(_Step(kept, place, change.kind, change.selected, by_model))
        self._done += 1

    def _change(self, index: int) -> Change:
        step = self._steps[index]
        if step.change is not None:
            return step.change
        if self.journal is None:
            raise RuntimeError("a step has neither a change nor a place in a journal")
        return self.journal.change_at(step.place)
