"""A simulated person who corrects the instances of a model by the tools of `instseg label` until all objects are right.

The person looks at the largest error first and does what is usual for its kind:

* An object that is missing gets a click in the middle of what is missing of it. Where the object comes out too large or
  too small, the wheel is turned, a step at a time, as long as that helps; then a second click says inside of what is
  missing, or outside of what is too much.
* Objects that were found as one are parted by a straight line along the border between them.
* Pieces of one object are joined by a line through their middles.
* An outline that is nearly right is mended by the brush: a stroke over the largest piece that is missing or too much.
* What is no object is deleted; and so is an object of a wrong outline, which is then missing.
* What is wrong after that is drawn as a polygon, whose points lie within 2 pixels of the outline.

Each click, line, stroke, step of the wheel and point of a polygon is an action.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instseg.labelling.document import Document
from instseg.labelling.selection import REACHES
from instseg.labels.polygons import polygons

SECONDS = {
    "add": 2.5,
    "wheel": 0.5,
    "click": 2.0,
    "delete": 1.5,
    "join": 3.0,
    "split": 3.0,
    "stroke": 3.0,
    "point": 1.2,
}
"""What is assumed of each kind of action, the search for the place included."""

TOLERANCE = 2.0
_TRIES = 3
# From this IoU on an outline is worth mending.
_NEARLY = 0.4
# A part of an object, or an object within an instance, is worth an action from this share on.
_PART = 0.2


@dataclass
class Work:
    """What a person has done to an image.

    Attributes
    ----------
    objects, right : int
        True objects, and those that were right before anything was done.
    actions : dict of str to int
        By kind.
    reached : int
        Objects that were right in the end.
    curve : list of (int, (H, W) int32)
        How many actions had been taken when the labels looked so; only where asked for.
    """

    objects: int
    right: int
    actions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SECONDS, 0))
    reached: int = 0
    curve: list[tuple[int, NDArray[np.int32]]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of actions."""
        return sum(self.actions.values())

    @property
    def seconds(self) -> float:
        """How long they take."""
        return sum(number * SECONDS[kind] for kind, number in self.actions.items())


class Annotator:
    """A person at one image.

    Parameters
    ----------
    document : Document
        With the instances of a model, and its embeddings.
    truth : (H, W) int32
        0 is background, objects are 1..N.
    threshold : float
        The IoU from which on an object is right.
    remember : bool
        Whether the labels are kept after each correction.
    """

    def __init__(
        self, document: Document, truth: NDArray[np.int32], threshold: float, *, remember: bool = False
    ) -> None:
        self._document, self._truth, self._threshold, self._remember = document, truth, threshold, remember
        self._areas = np.bincount(truth.ravel())
        self._tried: dict[tuple[str, int], int] = {}
        iou = self._overlaps().best[1:]
        self.work = Work(len(iou), int((iou >= threshold).sum()))
        self._note()

    def correct(self) -> Work:
        """Correct until all is right, or nothing that a person would try is left."""
        while (target := self._largest_error()) is not None:
            kind, number = target
            if kind == "false":
                self._click("delete", self._middle(self._labels() == number))
            else:
                self._mend(number)
            self._note()
        self.work.reached = int((self._overlaps().best[1:] >= self._threshold).sum())
        return self.work

    def _labels(self) -> NDArray[np.int32]:
        return self._document.read()

    def _note(self) -> None:
        if self._remember:
            self.work.curve.append((self.work.count, self._labels()))

    def _act(self, kind: str, counted: str, number: int = 1, **content: object) -> int | None:
        self.work.actions[counted] += number
        return self._document.act({"kind": kind, **content}).selected

    def _click(self, kind: str, point: Sequence[float]) -> int | None:
        return self._act(kind, kind, point=list(point))

    def _overlaps(self) -> "Overlaps":
        return Overlaps(self._truth, self._labels(), self._areas)

    def _largest_error(self) -> tuple[str, int] | None:
        """Return what is wrong in most pixels: a true object, or an instance that is none."""
        found = self._overlaps()
        open_ = (found.best < self._threshold) & (np.arange(len(found.best)) > 0)
        open_ &= np.array([self._tried.get(("", one), 0) < 3 * _TRIES for one in range(len(open_))])
        missed = self._areas - found.shared.max(axis=1)
        errors = [("object", number, int(missed[number])) for number in np.flatnonzero(open_).tolist()]
        # An instance that lies mainly on what nobody has to look at any more.
        elsewhere = found.shared[~open_].sum(axis=0)
        is_match = (found.iou >= self._threshold).any(axis=0)
        false = (found.areas > 0) & ~is_match & (2 * elsewhere > found.areas)
        false[0] = False
        errors += [("false", number, int(found.areas[number])) for number in np.flatnonzero(false).tolist()]
        return max(errors, key=lambda error: error[2])[:2] if errors else None

    def _mend(self, number: int) -> None:
        self._tried["", number] = self._tried.get(("", number), 0) + 1
        found = self._overlaps()
        shared, areas = found.shared[number], found.areas
        parts = [
            one for one in np.flatnonzero(2 * shared > areas).tolist() if one and shared[one] >= _PART * areas[one]
        ]
        host = 1 + int(np.argmax(shared[1:])) if len(shared) > 1 else 0
        if self._may("split", number) and self._is_merged(found, number, host):
            self._split(number, host)
        elif len(parts) > 1 and self._may("join", number) and self._joined_iou(number, parts) > found.best[number]:
            self._join(number, parts)
        elif found.best[number] >= _NEARLY and self._may("stroke", number):
            self._stroke(number, int(np.argmax(found.iou[number])))
        elif (missing := self._missing(number)).sum() >= 0.5 * self._areas[number] and self._may("add", number, 1):
            self._add(number, missing)
        elif parts and self._may("delete", number):
            for one in parts:
                self._click("delete", self._middle(self._labels() == one))
        else:
            self._draw(number)

    def _may(self, kind: str, number: int, most: int = _TRIES) -> bool:
        """Return whether a person tries this once more at an object, and count it."""
        tried = self._tried.get((kind, number), 0)
        return tried < most

    def _count(self, kind: str, number: int) -> None:
        self._tried[kind, number] = self._tried.get((kind, number), 0) + 1

    def _is_merged(self, found: "Overlaps", number: int, host: int) -> bool:
        """Return whether most of an object is in an instance that has much of another one, or mostly other things."""
        if not host or found.shared[number, host] < 0.5 * self._areas[number]:
            return False
        others = found.shared[1:, host] >= np.maximum(0.5 * self._areas[1:], 1)
        return bool(others.sum() > 1 or 2 * found.shared[number, host] < found.areas[host])

    def _split(self, number: int, host: int) -> None:
        self._count("split", number)
        line = self._border(number, host)
        if line is not None:
            self._act("split", "split", line=line.tolist())

    def _border(self, number: int, host: int) -> NDArray[np.float64] | None:
        """Return a straight line along the border of an object within an instance, from one side of that to another."""
        instance = self._labels() == host
        inside = instance & (self._truth == number)
        others = instance & (self._truth != number)
        touching = others & (self._truth > 0) if (others & (self._truth > 0)).any() else others
        rows, columns = np.nonzero(inside & ndimage.binary_dilation(touching, iterations=2))
        if len(rows) < 2:
            rows, columns = np.nonzero(inside & ndimage.binary_dilation(others, iterations=2))
        if len(rows) < 2:
            return None
        points = np.stack([rows, columns], axis=1) + 0.5
        middle = points.mean(axis=0)
        direction = np.linalg.svd(points - middle, full_matrices=False)[2][0]
        along = (points - middle) @ direction
        return middle + np.outer([along.min() - 2, along.max() + 2], direction)

    def _joined_iou(self, number: int, parts: Sequence[int]) -> float:
        found = self._overlaps()
        shared = found.shared[number, parts].sum()
        return float(shared / (self._areas[number] + found.areas[parts].sum() - shared))

    def _join(self, number: int, parts: Sequence[int]) -> None:
        self._count("join", number)
        labels = self._labels()
        middles = np.array([self._middle(labels == one) for one in parts])
        # Along the longer way of the object, so that the line does not go to and fro.
        direction = np.linalg.svd(middles - middles.mean(axis=0), full_matrices=False)[2][0]
        self._act("join", "join", line=middles[np.argsort(middles @ direction)].tolist())

    def _missing(self, number: int) -> NDArray[np.bool_]:
        return (self._truth == number) & (self._labels() == 0)

    def _add(self, number: int, missing: NDArray[np.bool_]) -> None:
        """Click in the middle, turn the wheel as long as that helps, and click once more where it does not."""
        self._count("add", number)
        inside, outside = [self._middle(missing)], []
        begin = REACHES.index(1.0)
        made = self._act("add", "add", inside=inside, reach=1.0)
        if made is None:
            return
        iou, size = self._iou(number, made)
        step, best = begin, iou
        turn = 1 if size < self._areas[number] else -1
        while best < self._threshold and 0 <= step + turn < len(REACHES):
            again = self._act("add", "wheel", inside=inside, reach=REACHES[step + turn], replace=made)
            iou, size = self._iou(number, made if again is None else again)
            if iou <= best:
                # It is turned back.
                self._act("add", "wheel", inside=inside, reach=REACHES[step], replace=made)
                break
            step, best = step + turn, iou
        if best < min(self._threshold, _NEARLY):
            object_, labels = self._truth == number, self._labels()
            lacking, surplus = object_ & (labels == 0), (labels == made) & ~object_
            if lacking.sum() >= surplus.sum() and lacking.any():
                inside = [*inside, self._middle(lacking)]
            elif surplus.any():
                outside = [self._middle(surplus)]
            content = {"inside": inside, "outside": outside, "reach": REACHES[step]}
            self._act("add", "click", **content, replace=made)
            if self._iou(number, made)[0] < best:
                self._act("undo", "click")

    def _iou(self, number: int, instance: int) -> tuple[float, int]:
        mask = self._labels() == instance
        shared = int((mask & (self._truth == number)).sum())
        size = int(mask.sum())
        return shared / max(1, size + int(self._areas[number]) - shared), size

    def _stroke(self, number: int, instance: int) -> None:
        """Paint or erase along the largest piece of an object that is missing, or of an instance that is too much."""
        self._count("stroke", number)
        object_, labels = self._truth == number, self._labels()
        before = self._iou(number, instance)[0]
        pieces = [
            (self._largest_piece(object_ & (labels == 0)), "paint"),
            (self._largest_piece((labels == instance) & ~object_), "erase"),
        ]
        piece, kind = max(pieces, key=lambda one: one[0].sum())
        if not piece.any():
            return
        depth = ndimage.distance_transform_edt(np.pad(piece, 1))
        line = _middle_line(piece, float(depth.max()))
        self._act(kind, "stroke", line=line.tolist(), radius=float(depth.max()), id=instance)
        if self._iou(number, instance)[0] <= before:
            self._act("undo", "stroke")
            self._tried["stroke", number] = _TRIES

    @staticmethod
    def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        pieces, count = ndimage.label(mask)
        return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])) if count else mask

    def _draw(self, number: int) -> None:
        """Delete what lies on an object, and draw its outline."""
        labels, object_ = self._labels(), self._truth == number
        found = self._overlaps()
        is_match = (found.iou >= self._threshold).any(axis=0)
        for one in np.flatnonzero(found.shared[number] >= _PART * self._areas[number]).tolist():
            if one and not is_match[one]:
                self._click("delete", self._middle(labels == one))
        self._tried["", number] = 3 * _TRIES
        self._act("polygon", "point", len(outline := hand_outline(object_)), points=outline.tolist())

    @staticmethod
    def _middle(region: NDArray[np.bool_]) -> list[float]:
        """Return the point of a region that is farthest from its border."""
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        top, left = int(rows[0]), int(columns[0])
        part = np.pad(region[top : rows[-1] + 1, left : columns[-1] + 1], 1)
        row, column = np.unravel_index(int(np.argmax(ndimage.distance_transform_edt(part))), part.shape)
        return [float(top + row - 0.5), float(left + column - 0.5)]


class Overlaps:
    """How true objects and instances overlap.

    Attributes
    ----------
    shared : (N + 1, M + 1) int64
        Pixels that each object and each instance have in common; the first row and column are the background.
    areas : (M + 1,) int64
        Of the instances; 0 for numbers that do not occur.
    iou : (N + 1, M + 1) float64
        0 for the background.
    best : (N + 1,) float64
        The highest of each object.
    """

    def __init__(self, truth: NDArray[np.int32], labels: NDArray[np.int32], sizes: NDArray[np.int64]) -> None:
        width = int(labels.max()) + 1
        codes = truth.ravel().astype(np.int64) * width + labels.ravel()
        self.shared = np.bincount(codes, minlength=len(sizes) * width).reshape(len(sizes), width)
        self.areas = self.shared.sum(axis=0)
        self.iou = self.shared / np.maximum(1, sizes[:, None] + self.areas - self.shared)
        self.iou[0], self.iou[:, 0] = 0, 0
        self.best = self.iou.max(axis=1)


def _middle_line(piece: NDArray[np.bool_], step: float) -> NDArray[np.float64]:
    """Return points (N, 2) through the middle of a piece, from one end of its longer way to the other."""
    points = np.stack(np.nonzero(piece), axis=1) + 0.5
    middle = points.mean(axis=0)
    along = (points - middle) @ np.linalg.svd(points - middle, full_matrices=False)[2][0]
    bins = np.floor((along - along.min()) / max(step, 1.0)).astype(int)
    counts = np.bincount(bins)
    sums = np.stack([np.bincount(bins, points[:, axis]) for axis in (0, 1)], axis=1)
    return sums[counts > 0] / counts[counts > 0, None]


def hand_outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the points (N, 2), row and column, by which a hand draws the largest part of an object."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.int32)
    outers = [polygon.outer for polygon in polygons(part)]
    ring = max(outers, key=lambda outer: abs(_area(outer)))[:, ::-1].astype(np.float64) + (rows[0], columns[0])
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    first, second = _simplified(ring[: far + 1]), _simplified(np.concatenate([ring[far:], ring[:1]]))
    points = np.concatenate([first[:-1], second[:-1]])
    return points if len(points) > 2 else ring[:: max(1, len(ring) // 4)]


def _area(ring: NDArray[np.integer]) -> float:
    x, y = ring[:, 0].astype(float), ring[:, 1].astype(float)
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def _simplified(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points of a line that are needed to stay within the tolerance (Ramer, Douglas and Peucker)."""
    if len(line) < 3:
        return line
    way = line[-1] - line[0]
    length = float(np.hypot(*way))
    beside = line - line[0]
    away = np.abs(beside @ (-way[1], way[0])) / length if length else np.hypot(*beside.T)
    farthest = int(np.argmax(away))
    if away[farthest] <= TOLERANCE:
        return line[[0, -1]]
    return np.concatenate([_simplified(line[: farthest + 1])[:-1], _simplified(line[farthest:])])
