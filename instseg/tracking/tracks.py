"""The tracks of a sequence: which object of which frame belongs to which, and what divided into what."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """M objects in all frames, and N tracks.

    Attributes
    ----------
    frame : (M,) int64
        Time of each object, as it was given; ascending.
    label : (M,) int64
        Its number in the label image of the frame, ascending within a frame.
    track : (M,) int64
        Its track, 1..N in the order of appearance.
    centroid : (M, 2) float64
        Row and column.
    area : (M,) int64
        In pixels.
    parent : (N,) int64
        The track that each divided from, 0 for none.
    begin, end : (N,) int64
        First and last frame of each track.
    reach : float
        The largest distance of a link to the next frame, in pixels.
    """

    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    track: NDArray[np.int64]
    centroid: NDArray[np.float64]
    area: NDArray[np.int64]
    parent: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    reach: float

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def divisions(self) -> int:
        """How many tracks divided."""
        return len(np.unique(self.parent[self.parent > 0]))

    @property
    def gaps(self) -> int:
        """How many times an object was missed and found again."""
        pieces, _ = self.pieces()
        return int(pieces.max(initial=0)) - len(self)

    def of_frame(self, time: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the labels (K,) of the objects of a frame, ascending, and their tracks (K,)."""
        begin, end = np.searchsorted(self.frame, [time, time + 1])
        return self.label[begin:end], self.track[begin:end]

    def relabel(self, time: int, labels: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return a frame's labels (H, W) with the number of its track for each object, 0 for background."""
        return _mapped(labels, *self.of_frame(time))

    def links(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the graph of objects.

        Returns
        -------
        links : (K, 2) int64
            Positions of two objects in the arrays of this class, the earlier one first.
        divided : (K,) bool
            Whether it leads from a track to one that divided from it.
        """
        order = np.lexsort((self.frame, self.track))
        track = self.track[order]
        goes_on = np.flatnonzero(track[1:] == track[:-1])
        first = np.flatnonzero(np.diff(track, prepend=0))
        last = np.append(first[1:], len(track)) - 1
        children = np.flatnonzero(self.parent)
        own = np.stack([order[goes_on], order[goes_on + 1]], axis=1)
        of_children = np.stack([order[last[self.parent[children] - 1]], order[first[children]]], axis=1)
        return np.concatenate([own, of_children]), np.repeat([False, True], [len(own), len(of_children)])

    def pieces(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cut tracks where an object was missed, as the Cell Tracking Challenge has no tracks with gaps.

        Returns
        -------
        piece : (M,) int64
            Of each object, 1..P: first pieces have the number of their track, others come after these.
        before : (P,) int64
            The piece that each comes from, by a gap or a division; 0 for none.
        """
        order = np.lexsort((self.frame, self.track))
        track, frame = self.track[order], self.frame[order]
        later = np.zeros(len(order), bool)
        later[1:] = (track[1:] == track[:-1]) & (frame[1:] > frame[:-1] + 1)
        number = track.copy()
        starts = np.flatnonzero(later)
        runs = np.maximum.accumulate(np.where(later, np.arange(len(order)), -1))
        first = np.flatnonzero(np.diff(track, prepend=0))
        begins = np.repeat(first, np.diff(first, append=len(order)))
        inside = runs >= begins
        index = np.searchsorted(starts, runs[inside])
        number[inside] = len(self) + 1 + index
        last = number[np.append(first[1:], len(order)) - 1] if len(order) else np.zeros(0, np.int64)
        parents = np.where(self.parent > 0, last[self.parent - 1], 0) if len(self) else self.parent
        piece = np.empty_like(number)
        piece[order] = number
        return piece, np.concatenate([parents, number[starts - 1]])

    def relabel_pieces(self, time: int, labels: NDArray[np.integer], piece: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return a frame's labels (H, W) with the number of the piece for each object, as `pieces` counts them."""
        begin, end = np.searchsorted(self.frame, [time, time + 1])
        return _mapped(labels, self.label[begin:end], piece[begin:end])


def _mapped(labels: NDArray[np.integer], numbers: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return labels with a value in the place of each of some ascending numbers, and 0 elsewhere."""
    if not len(numbers):
        return np.zeros(labels.shape, np.int32)
    if numbers[-1] <= 4 * labels.size:
        value_of = np.zeros(int(numbers[-1]) + 1, np.int32)
        value_of[numbers] = values
        return value_of[np.where((labels > 0) & (labels <= numbers[-1]), labels, 0)]
    place = np.minimum(np.searchsorted(numbers, labels), len(numbers) - 1)
    return np.where(numbers[place] == labels, values[place], 0).astype(np.int32)
