"""Tracks compared with true ones by the measures of the Cell Tracking Challenge: TRA, DET and SEG.

A true object is found if an object of the result covers more than half of it. TRA counts what it takes to turn the
graph of the result into the true one: objects to split, to add and to remove, and links to add, to remove and to
change, each with its weight (AOGM), as a share of what it takes to make the true graph from nothing. DET does so
without links; SEG is the mean IoU of true objects with those that find them.

Matula et al. 2015, https://doi.org/10.1371/journal.pone.0144959
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.ctc import TrackTable
from instseg.labels.matching import contingency_table

_SPLIT, _MISSED, _WRONG = 5.0, 10.0, 1.0
_LINK_WRONG, _LINK_MISSED, _LINK_KIND = 1.0, 1.5, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackScores:
    """What the comparison says.

    Attributes
    ----------
    tra, det : float or None
        0 to 1; None where there is no true object.
    seg : float or None
        0 to 1; None where the truth has no segmentation.
    frames : int
        Frames that were compared.
    objects, links : int
        In the truth.
    splits, missed, wrong : int
        Objects of the result that hold several true ones, each of these but one; true objects that are not found;
        objects of the result that find none.
    links_wrong, links_missed, links_of_other_kind : int
        Links to remove and to add, and those where a track goes on instead of dividing, or the other way round.
    """

    tra: float | None
    det: float | None
    seg: float | None
    frames: int
    objects: int
    links: int
    splits: int
    missed: int
    wrong: int
    links_wrong: int
    links_missed: int
    links_of_other_kind: int

    def to_dict(self) -> dict[str, Any]:
        """Return all figures by name, for JSON."""
        return asdict(self)


class _Frame(NamedTuple):
    """The objects of a frame: true ones, those of the result, and which of these finds each true one, or -1."""

    true: NDArray[np.int64]
    found: NDArray[np.int64]
    match: NDArray[np.int64]


class TrackScorer:
    """Takes the frames of a sequence in their order, and compares their tracks; memory is O(objects).

    Parameters
    ----------
    truth, result : TrackTable
        The tracks of both.
    """

    def __init__(self, truth: TrackTable, result: TrackTable) -> None:
        self._truth, self._result = truth, result
        self._frames: list[_Frame] = []
        self._times: list[int] = []
        self._ious: list[NDArray[np.float64]] = []

    def add(self, time: int, truth: NDArray[np.integer], result: NDArray[np.integer]) -> None:
        """Take the label images (H, W) of a frame, 0 being background.

        Raises
        ------
        InstsegError
            If they differ in size.
        """
        true, found, match, _ = _matched(truth, result)
        self._times.append(time)
        self._frames.append(_Frame(true, found, match))

    def add_segmentation(self, truth: NDArray[np.integer], result: NDArray[np.integer]) -> None:
        """Take the true label image (H, W) of a frame whose objects are segmented, and that of the result."""
        self._ious.append(_matched(truth, result)[3])

    def scores(self) -> TrackScores:
        """Return the scores of all frames.

        Raises
        ------
        InstsegError
            If a table has tracks that the label images do not show.
        """
        true_links = self._links("truth", self._truth, [frame.true for frame in self._frames])
        found_links = self._links("result", self._result, [frame.found for frame in self._frames])
        starts = np.cumsum([0, *(len(frame.found) for frame in self._frames)])
        matches = [
            np.where(frame.match >= 0, frame.match + start, -1)
            for frame, start in zip(self._frames, starts[:-1], strict=True)
        ]
        match = np.concatenate([np.zeros(0, np.int64), *matches])
        holds = np.bincount(match[match >= 0], minlength=int(starts[-1]))
        # Only objects that find a single one can have the links of that.
        true_of = np.full(len(holds), -1)
        true_of[match[match >= 0]] = np.flatnonzero(match >= 0)
        true_of[holds != 1] = -1
        ends = true_of[found_links[:, :2]]
        both = (ends >= 0).all(axis=1)
        kinds = {tuple(link[:2]): link[2] for link in true_links.tolist()}
        ours = {
            tuple(pair): kind for pair, kind in zip(ends[both].tolist(), found_links[both, 2].tolist(), strict=True)
        }
        shared = kinds.keys() & ours.keys()
        return self._summary(
            objects=len(match),
            links=len(kinds),
            splits=int(np.maximum(holds - 1, 0).sum()),
            missed=int((match < 0).sum()),
            wrong=int((holds == 0).sum()),
            links_wrong=len(ours) - len(shared),
            links_missed=len(kinds) - len(shared),
            links_of_other_kind=sum(kinds[pair] != ours[pair] for pair in shared),
        )

    def _summary(self, **counts: int) -> TrackScores:
        detection = _SPLIT * counts["splits"] + _MISSED * counts["missed"] + _WRONG * counts["wrong"]
        linking = (
            _LINK_WRONG * counts["links_wrong"]
            + _LINK_MISSED * counts["links_missed"]
            + _LINK_KIND * counts["links_of_other_kind"]
        )
        objects, links = _MISSED * counts["objects"], _LINK_MISSED * counts["links"]
        ious = np.concatenate([np.zeros(0), *self._ious])
        return TrackScores(
            tra=None if not objects else 1 - min(detection + linking, objects + links) / (objects + links),
            det=None if not objects else 1 - min(detection, objects) / objects,
            seg=float(ious.mean()) if ious.size else None,
            frames=len(self._frames),
            **counts,
        )

    def _links(self, what: str, table: TrackTable, ids: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the links (K, 3) between objects counted through all frames; the last column is 1 for parents."""
        starts = np.cumsum([0, *map(len, ids)])
        found: list[NDArray[np.int64]] = [np.zeros((0, 3), np.int64)]
        for number, (one, other) in enumerate(zip(ids, ids[1:], strict=False)):
            if self._times[number + 1] == self._times[number] + 1:
                _, left, right = np.intersect1d(one, other, assume_unique=True, return_indices=True)
                left, right = left + starts[number], right + starts[number + 1]
                found.append(np.stack([left, right, np.zeros(len(left), np.int64)], axis=1))
        end_of = dict(zip(table.track.tolist(), table.end.tolist(), strict=True))
        frame_of = {time: number for number, time in enumerate(self._times)}

        def position(track: int, time: int) -> int:
            number = frame_of.get(time, -1)
            place = int(np.searchsorted(ids[number], track)) if number >= 0 else 0
            if number < 0 or place == len(ids[number]) or ids[number][place] != track:
                raise InstsegError(
                    f"the {what} says that track {track} is in frame {time}, whose labels do not show it; give tables "
                    "and label images that belong together"
                )
            return int(starts[number]) + place

        children = np.flatnonzero(table.parent)
        parents = [
            (position(parent, end_of[parent]), position(int(table.track[child]), int(table.begin[child])), 1)
            for child in children.tolist()
            for parent in (int(table.parent[child]),)
        ]
        return np.concatenate([*found, np.array(parents, np.int64).reshape(-1, 3)])


def _matched(
    truth: NDArray[np.integer], result: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return true labels, those of the result, the position of what finds each true one or -1, and its IoU or 0."""
    table = contingency_table(truth, result)
    covered = 2 * table.intersection > table.truth_areas[table.truth_index]
    match, iou = np.full(len(table.truth_ids), -1), np.zeros(len(table.truth_ids))
    match[table.truth_index[covered]] = table.predicted_index[covered]
    iou[table.truth_index[covered]] = table.iou[covered]
    return table.truth_ids.astype(np.int64), table.predicted_ids.astype(np.int64), match, iou


def score_frames(
    truth: TrackTable,
    result: TrackTable,
    frames: Iterable[tuple[NDArray[np.integer], NDArray[np.integer]]],
    *,
    segmentation: bool = True,
) -> TrackScores:
    """Compare the tracks of sequences that are at hand as arrays, from frame 0 on.

    Parameters
    ----------
    truth, result : TrackTable
    frames : iterable of pairs of (H, W) integers
        The true labels and those of the result.
    segmentation : bool
        Whether the true labels are the whole objects, so that SEG can be given.

    Examples
    --------
    >>> table = TrackTable.of([(1, 0, 1, 0)])
    >>> truth, other = np.array([[1, 1, 0]]), np.array([[2, 2, 0]])
    >>> perfect = score_frames(table, table, [(truth, truth), (truth, truth)])
    >>> perfect.tra, perfect.det, perfect.seg
    (1.0, 1.0, 1.0)
    >>> cut = TrackTable.of([(1, 0, 0, 0), (2, 1, 1, 0)])
    >>> score_frames(table, cut, [(truth, truth), (truth, other)]).links_missed
    1
    """
    scorer = TrackScorer(truth, result)
    for time, (true, found) in enumerate(frames):
        scorer.add(time, true, found)
        if segmentation:
            scorer.add_segmentation(true, found)
    return scorer.scores()
