"""Instances of tiles to those of the image or the volume: what a tile has to say of itself, and how tiles are joined.

A tile is described by a record of numbers (`TileInstances`) and by the bands that it shares with its neighbours. Where
these lie, in memory or in a file for each tile, and who makes them, one process or many, is not known here: the same
records joined by the same code give the same labels.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.labels.matching import contingency_table
from instseg.tiling.grid import Grid, Side, Tile, TileIndex, shared_band

# Instances of two tiles that share more than this of what either has of them in the band that both see are one. Above
# one half, nothing has two partners.
_SAME_IOU = 0.5
_MAX_INSTANCES = 2**31 - 1
_NOWHERE = np.iinfo(np.int64).max
# So many pixels are gone through at once: what is made of them fits into the processor's cache.
_CHUNK = 2**16


class TileInstances(NamedTuple):
    """The instances of a tile, by their numbers in the tile.

    Attributes
    ----------
    largest : int
        The largest number, 0 without instances.
    inner : (I,) int32
        Those of which no other tile can have a part, and which are large enough.
    inner_first : (I,) int64
        Their first pixel in raster order, as a position in the flat image: row times width plus column.
    seam : (S,) int32
        Those that reach into the bands that other tiles see, too.
    seam_area : (S,) int64
        How many pixels of each lie in the tile's core.
    seam_first : (S,) int64
        The first of these pixels; the largest int64 where there is none.
    """

    largest: int
    inner: NDArray[np.int32]
    inner_first: NDArray[np.int64]
    seam: NDArray[np.int32]
    seam_area: NDArray[np.int64]
    seam_first: NDArray[np.int64]


class LabelTable(NamedTuple):
    """The labels of a tile's instances: `inner` (I,) int32 and `seam` (S,) int32, in the order of `TileInstances`."""

    inner: NDArray[np.int32]
    seam: NDArray[np.int32]

    def lookup(self, record: TileInstances) -> NDArray[np.int32]:
        """Return the label (largest + 1,) int32 of each number of the tile; 0 for what is too small or in no core."""
        label_of = np.zeros(record.largest + 1, np.int32)
        label_of[record.inner] = self.inner
        label_of[record.seam] = self.seam
        return label_of


def tile_bands(grid: Grid, tile: Tile, labels: NDArray[np.int32]) -> dict[Side, NDArray[np.int32]]:
    """Return the parts of a tile's labels that its neighbours see, too, by side."""
    return {
        side: labels[shared_band(tile, other).slices_in(tile.extent)] for side, other in grid.neighbours(tile).items()
    }


def tile_instances(grid: Grid, tile: Tile, labels: NDArray[np.int32], min_size: int = 1) -> TileInstances:
    """Describe the instances of a tile.

    Time and memory are O(pixels of the tile).

    Parameters
    ----------
    grid : Grid
    tile : Tile
        One of the grid.
    labels : (h, w) or (d, h, w) int32
        Of the tile's whole extent: 0 is background, instances 1..N.
    min_size : int
        Instances of fewer pixels are left out of `inner`; of the others the whole area is not known yet.

    Returns
    -------
    TileInstances
    """
    core = labels[tile.core.slices_in(tile.extent)]
    numbers = 1 + int(labels.max(initial=0))
    values, pixels, lengths = _runs(core)
    area = np.bincount(values, lengths, numbers).astype(np.int64)
    first = _first_pixels(grid, tile, values, pixels, numbers)
    shared = np.zeros(numbers, bool)
    for band in tile_bands(grid, tile, labels).values():
        shared[band] = True
    shared[0] = False
    inner = np.flatnonzero(~shared & (area >= max(min_size, 1)))
    seam = np.flatnonzero(shared)
    return TileInstances(
        numbers - 1, inner.astype(np.int32), first[inner], seam.astype(np.int32), area[seam], first[seam]
    )


def _runs(labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.intp], NDArray[np.intp]]:
    """Return the numbers of runs of equal pixels other than 0, their first pixels in the flat array, and their lengths.

    There are far fewer of them than pixels.
    """
    size = math.prod(labels.shape[1:])
    rows = max(_CHUNK // max(size, 1), 1)
    found = [(np.zeros(0, np.int32), np.zeros(0, np.intp), np.zeros(0, np.intp))]
    for top in range(0, len(labels), rows):
        flat = labels[top : top + rows].reshape(-1)
        begins = np.ones(len(flat), bool)
        np.not_equal(flat[1:], flat[:-1], out=begins[1:])
        first = np.flatnonzero(begins)
        lengths, values = np.diff(first, append=len(flat)), flat[first]
        shown = np.flatnonzero(values)
        found.append((values[shown], first[shown] + top * size, lengths[shown]))
    values, pixels, lengths = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return values, pixels, lengths


def _first_pixels(
    grid: Grid, tile: Tile, values: NDArray[np.int32], pixels: NDArray[np.intp], numbers: int
) -> NDArray[np.int64]:
    """Return the first pixel of each number in the tile's core, as a position in the raster order of the whole."""
    first = np.full(numbers, _NOWHERE)
    # Of several values assigned to one place NumPy keeps the last: backwards, that is the first pixel.
    first[values[::-1]] = pixels[::-1]
    present = np.flatnonzero(first != _NOWHERE)
    position = np.zeros(len(present), np.int64)
    places = np.unravel_index(first[present], tile.core.shape)
    for place, begin, length in zip(places, tile.core.begin, grid.shape, strict=True):
        position = position * length + place + begin
    first[present] = position
    return first


def match_instances(before: NDArray[np.integer], after: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return which instances are largely the same in two views of a band.

    Time is O(pixels of the band).

    Parameters
    ----------
    before, after : (h, w) or (d, h, w) integers
        0 is background.

    Returns
    -------
    (N, 2) int64
        Labels in the one and the other; none occurs twice.
    """
    if before.size == 0:
        return np.zeros((0, 2), np.int64)
    table = contingency_table(before, after)
    same = table.iou > _SAME_IOU
    pairs = (table.truth_ids[table.truth_index[same]], table.predicted_ids[table.predicted_index[same]])
    return np.stack(pairs, axis=1).astype(np.int64)


class LabelMerger:
    """Gives the instances of all tiles their labels in the image or the volume.

    Labels are 1..N in raster order of the instances' first pixels, as in an image of one tile. Memory is some 26 bytes
    for each instance at most; time is O(N log N) at most.

    Parameters
    ----------
    grid : Grid
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._records: dict[TileIndex, TileInstances] = {}
        self._pairs: list[tuple[TileIndex, TileIndex, NDArray[np.int64]]] = []

    def add(self, index: TileIndex, record: TileInstances) -> None:
        """Take the record of a tile; its `inner` numbers are not needed."""
        self._records[index] = record

    def match(self, index: TileIndex, pairs: Mapping[TileIndex, NDArray[np.int64]]) -> None:
        """Take, by neighbour, pairs (N, 2) of a number there and the number of the same instance in the tile."""
        self._pairs += [(other, index, numbers) for other, numbers in pairs.items()]

    def finish(self, min_size: int = 1) -> tuple[dict[TileIndex, LabelTable], int]:
        """Return the tables of all tiles, and how many instances the image has.

        Parameters
        ----------
        min_size : int
            Instances of fewer pixels become background.

        Raises
        ------
        InstsegError
            If there are more than 2**31 - 1 instances.
        """
        indices = sorted(self._records)
        records = [self._records[index] for index in indices]
        begin = np.cumsum([0, *(len(record.seam) for record in records)])
        count, instance = _merge_pairs(dict(zip(indices, begin.tolist(), strict=False)), self._records, self._pairs)
        area = np.bincount(instance, _joined(record.seam_area for record in records), count)
        first = np.full(count, _NOWHERE)
        np.minimum.at(first, instance, _joined(record.seam_first for record in records))
        kept = np.flatnonzero(area >= max(min_size, 1))
        kept = kept[np.argsort(first[kept])]
        _check_countable(len(kept) + sum(len(record.inner_first) for record in records))
        inner, seam, total = self._number_rows(indices, kept, first[kept], count)
        labels = seam[instance]
        tables = {
            index: LabelTable(inner[index], labels[begin[number] : begin[number + 1]])
            for number, index in enumerate(indices)
        }
        return tables, total

    def _number_rows(
        self, indices: list[TileIndex], kept: NDArray[np.intp], first: NDArray[np.int64], count: int
    ) -> tuple[dict[TileIndex, NDArray[np.int32]], NDArray[np.int32], int]:
        """Label instances in raster order, from one place on the first axis to the next, to sort few at once.

        Parameters
        ----------
        indices : list of TileIndex
            Ascending.
        kept : (K,) integers
            Which of `count` instances at seams are large enough, in the order of their first pixels `first`.

        Returns
        -------
        inner : dict of TileIndex to (I,) int32
            Labels of the inner instances.
        seam : (count,) int32
            Labels of the instances at seams, 0 for those that are too small.
        total : int
        """
        inner: dict[TileIndex, NDArray[np.int32]] = {}
        seam = np.zeros(count, np.int32)
        total = begin = 0
        for _, row in itertools.groupby(indices, key=lambda index: index[0]):
            tiles = list(row)
            beyond = self._grid.tile(*tiles[0]).core.end[0] * math.prod(self._grid.shape[1:])
            end = int(np.searchsorted(first, beyond))
            firsts = [self._records[index].inner_first for index in tiles]
            positions = np.concatenate([*firsts, first[begin:end]])
            labels = np.empty(len(positions), np.int32)
            labels[np.argsort(positions)] = np.arange(total + 1, total + 1 + len(positions), dtype=np.int32)
            *of_tiles, of_seams = np.split(labels, np.cumsum([len(values) for values in firsts]))
            inner |= dict(zip(tiles, of_tiles, strict=True))
            seam[kept[begin:end]] = of_seams
            total, begin = total + len(positions), end
        return inner, seam, total


def _merge_pairs(
    begins: Mapping[TileIndex, int],
    records: Mapping[TileIndex, TileInstances],
    pairs: list[tuple[TileIndex, TileIndex, NDArray[np.int64]]],
) -> tuple[int, NDArray[np.int32]]:
    """Join the parts of instances at seams, which are numbered tile by tile from `begins` on.

    Returns
    -------
    count : int
        Of instances.
    instance : (parts,) int32
        The number of the instance that each part belongs to.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = [np.zeros((0, 2), np.int64)]
    for one, other, numbers in pairs:
        sides = [
            begins[index] + np.searchsorted(records[index].seam, numbers[:, side])
            for side, index in enumerate((one, other))
        ]
        links.append(np.stack(sides, axis=1))
    joined = np.concatenate(links)
    parts = sum(len(record.seam) for record in records.values())
    graph = coo_array((np.ones(len(joined), np.int8), (joined[:, 0], joined[:, 1])), shape=(parts, parts))
    count, instance = connected_components(graph, directed=False)
    return int(count), instance


def _joined(arrays: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def _check_countable(count: int) -> None:
    if count > _MAX_INSTANCES:
        raise InstsegError(f"there are more than {_MAX_INSTANCES:,} instances; cut the image into parts")
