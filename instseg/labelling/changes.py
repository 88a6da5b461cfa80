"""A change of a document: what was there before and after, so that it can be applied, reverted and stored.

Labels are stored by the runs of pixels that change, as most changes touch one instance: applying a change takes time by
its pixels, and its size in the journal is that of its outline.
"""

import base64
import binascii
import zlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.tiling.grid import Box

# So many pixels are written at a time, which bounds the memory that their places take.
_PORTION = 1 << 22
# What is decompressed of one change at most: an image of a billion runs is no image.
_MOST_BYTES = 1 << 32


class Runs(NamedTuple):
    """Runs of pixels in the rows of a label image that change from one value to another, in raster order.

    Attributes
    ----------
    first_pixels : (R,) int64
        The first pixel of each, row * W + column.
    lengths : (R,) int32
        In pixels; a run ends with its row.
    before, after : (R,) int32
        The label of its pixels.
    """

    first_pixels: NDArray[np.int64]
    lengths: NDArray[np.int32]
    before: NDArray[np.int32]
    after: NDArray[np.int32]

    def reversed(self) -> "Runs":
        """Return the runs of the way back."""
        return Runs(self.first_pixels, self.lengths, self.after, self.before)

    def apply(self, labels: NDArray[np.int32]) -> None:
        """Write the values after the change into labels (H, W), in place."""
        flat = labels.reshape(-1)
        ends = np.cumsum(self.lengths, dtype=np.int64)
        start = 0
        while start < len(ends):
            done = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _PORTION, side="right")))
            part, lengths = slice(start, stop), self.lengths[start:stop]
            shift = self.first_pixels[part] - (ends[part] - lengths - done)
            pixels = np.repeat(shift, lengths) + np.arange(int(lengths.sum()))
            flat[pixels] = np.repeat(self.after[part], lengths)
            start = stop

    def box(self, width: int) -> Box:
        """Return the smallest box that holds all of them in an image of W columns; there is at least one."""
        rows, columns = np.divmod(self.first_pixels, width)
        right = int((columns + self.lengths).max())
        return Box(int(rows[0]), int(columns.min()), int(rows[-1]) + 1, right)

    def boxes_after(self, width: int) -> dict[int, Box]:
        """Return the smallest box of what each instance gains, by its label; 0 is left out."""
        order = np.argsort(self.after, kind="stable")
        order = order[self.after[order] > 0]
        if not len(order):
            return {}
        labels = self.after[order]
        begins = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
        rows, columns = np.divmod(self.first_pixels[order], width)
        edges = np.stack(
            [
                np.minimum.reduceat(rows, begins),
                np.minimum.reduceat(columns, begins),
                np.maximum.reduceat(rows, begins) + 1,
                np.maximum.reduceat(columns + self.lengths[order], begins),
            ],
            axis=1,
        )
        return {label: Box(*box) for label, box in zip(labels[begins].tolist(), edges.tolist(), strict=True)}


NO_RUNS = Runs(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32))
"""No pixel changes."""


def find_changes(box: Box, before: NDArray[np.int32], after: NDArray[np.int32], width: int) -> Runs:
    """Return the runs that differ in two versions of a box of an image.

    Parameters
    ----------
    box : Box
        Of h rows and w columns.
    before, after : (h, w) int32
    width : int
        Columns of the image.

    Examples
    --------
    >>> runs = find_changes(Box(1, 2, 2, 6), np.array([[0, 0, 5, 5]]), np.array([[0, 7, 7, 7]]), 10)
    >>> runs.first_pixels, runs.lengths, runs.before, runs.after
    (array([13, 14]), array([1, 2], dtype=int32), array([0, 5], dtype=int32), array([7, 7], dtype=int32))
    """
    changed = before != after
    rows = np.flatnonzero(changed.any(axis=1))
    if not len(rows):
        return NO_RUNS
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    changed, before, after = changed[top:bottom], before[top:bottom], after[top:bottom]
    goes_on = changed[:, 1:] & changed[:, :-1]
    goes_on &= (before[:, 1:] == before[:, :-1]) & (after[:, 1:] == after[:, :-1])
    begins, ends = changed.copy(), changed
    begins[:, 1:] &= ~goes_on
    ends[:, :-1] &= ~goes_on
    first, last = np.flatnonzero(begins), np.flatnonzero(ends)
    row, column = np.divmod(first, box.right - box.left)
    return Runs(
        (row + box.top + top) * width + column + box.left,
        (last - first + 1).astype(np.int32),
        before.reshape(-1)[first].astype(np.int32),
        after.reshape(-1)[first].astype(np.int32),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """What an action does to a document.

    Attributes
    ----------
    kind : str
        The action.
    selected : int or None
        The instance that it made or changed.
    runs : Runs
        Labels.
    confirmed, unconfirmed : tuple of int
        Labels of the instances that become confirmed, and of those that are so no longer.
    classes : dict of int to (int, int)
        The class of an instance before and after, 0 where it has none.
    known, forgotten : tuple of Box
        Boxes in which from now on it is known what is there, and those in which that is no longer so.
    accepted : (bool, bool)
        Whether the image is accepted, before and after.
    """

    kind: str
    selected: int | None = None
    runs: Runs = NO_RUNS
    confirmed: tuple[int, ...] = ()
    unconfirmed: tuple[int, ...] = ()
    classes: dict[int, tuple[int, int]] = field(default_factory=dict)
    known: tuple[Box, ...] = ()
    forgotten: tuple[Box, ...] = ()
    accepted: tuple[bool, bool] = (False, False)

    def is_empty(self) -> bool:
        """Return whether it changes nothing."""
        changes = (self.runs.lengths.size, self.confirmed, self.unconfirmed, self.classes, self.known, self.forgotten)
        return not any(changes) and self.accepted[0] == self.accepted[1]

    def reversed(self) -> "Change":
        """Return the change of the way back."""
        return Change(
            kind=self.kind,
            selected=self.selected,
            runs=self.runs.reversed(),
            confirmed=self.unconfirmed,
            unconfirmed=self.confirmed,
            classes={label: (after, before) for label, (before, after) in self.classes.items()},
            known=self.forgotten,
            forgotten=self.known,
            accepted=(self.accepted[1], self.accepted[0]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the change as an object that `from_json` takes; runs are compressed."""
        packed = b"".join(
            np.ascontiguousarray(values, dtype).tobytes()
            for values, dtype in (
                (np.diff(self.runs.first_pixels, prepend=0), "<i8"),
                (self.runs.lengths, "<i4"),
                (self.runs.before, "<i4"),
                (self.runs.after, "<i4"),
            )
        )
        return {
            "kind": self.kind,
            "selected": self.selected,
            "count": len(self.runs.lengths),
            "runs": base64.b64encode(zlib.compress(packed, 1)).decode("ascii"),
            "confirmed": list(self.confirmed),
            "unconfirmed": list(self.unconfirmed),
            "classes": [[label, *pair] for label, pair in self.classes.items()],
            "known": [list(box) for box in self.known],
            "forgotten": [list(box) for box in self.forgotten],
            "accepted": list(self.accepted),
        }

    @classmethod
    def from_json(cls, value: Any, shape: tuple[int, int]) -> Self:
        """Return the change that `to_json` stored.

        Parameters
        ----------
        value : object
            Parsed JSON.
        shape : tuple of int
            Height and width of the image, which runs may not leave.

        Raises
        ------
        InstsegError
            If it is damaged.
        """
        try:
            before, after = value["accepted"]
            return cls(
                kind=str(value["kind"]),
                selected=None if value["selected"] is None else int(value["selected"]),
                runs=_unpack(value["runs"], int(value["count"]), shape),
                confirmed=tuple(map(int, value["confirmed"])),
                unconfirmed=tuple(map(int, value["unconfirmed"])),
                classes={int(label): (int(old), int(new)) for label, old, new in value["classes"]},
                known=tuple(Box(*map(int, box)) for box in value["known"]),
                forgotten=tuple(Box(*map(int, box)) for box in value["forgotten"]),
                accepted=(bool(before), bool(after)),
            )
        except (KeyError, TypeError, ValueError, AttributeError, zlib.error, binascii.Error) as error:
            raise InstsegError(f"a change is damaged: {error}") from error


def _unpack(text: str, count: int, shape: tuple[int, int]) -> Runs:
    """Return the runs that a text holds, all of which lie in an image of H rows and W columns."""
    size = 20 * count
    if not 0 <= size <= _MOST_BYTES:
        raise ValueError(f"it says that it has {count} runs")
    packed = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    if len(packed) != size:
        raise ValueError(f"it does not hold the {count} runs that it should")
    steps = np.frombuffer(packed, "<i8", count)
    lengths, before, after = (np.frombuffer(packed, "<i4", count, 8 * count + 4 * part * count) for part in range(3))
    first = np.cumsum(steps)
    inside = (lengths > 0) & (first >= 0) & (first + lengths <= shape[0] * shape[1]) & (before >= 0) & (after >= 0)
    if not inside.all():
        raise ValueError("it leaves the image")
    return Runs(first, lengths.astype(np.int32), before.astype(np.int32), after.astype(np.int32))
