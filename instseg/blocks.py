"""A large image segmented by any number of processes that share a folder: block by block, joined face by face.

    folder/
      0.3.npz        what the tile of row 0 and column 3 holds: appears when it is complete, and is never written again

1. `segment_block`: the network and the clustering, tile by tile, each on its own.
2. `join_block`: which instances of a tile are the same as those of its neighbours above and to the left, told from the
   bands that both see.
3. `Numbering`: one process learns how many instances lie clear of all seams, and which others are the same: the
   instances' labels follow. It sees numbers only, no labels of pixels.
4. `write_block`: the pixels get their labels, again tile by tile.

The instances are those that `instseg.segment` gives for the same tiles. No TensorFlow here.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from instseg.cluster import cluster
from instseg.errors import InstsegError
from instseg.files import replacing
from instseg.instances import Instances, describe, median_diameter
from instseg.tiles import Box, Grid, components, face, require_countable, same_instances

if TYPE_CHECKING:
    from instseg.segment import Layout, Looking

Place = tuple[int, int]
# Fast, and labels shrink to a fiftieth all the same.
_LEVEL = 1
_DESCRIBED = "instances."


class Seams(NamedTuple):
    """The instances of a tile.

    Attributes
    ----------
    inner : (I,) int32
        Numbers, in the tile, of those that no other tile can have a part of.
    numbers : (S,) int32
        Of those that reach into the bands that other tiles see, too.
    areas : (S,) int64
        How many pixels of each of the latter lie in the tile's core.
    diameter : float
        Median of the instances that have pixels in the core, 0 without any.
    """

    inner: NDArray[np.int32]
    numbers: NDArray[np.int32]
    areas: NDArray[np.int64]
    diameter: float


class Table(NamedTuple):
    """The labels of a tile's instances: `first`, `first + 1`, ... of the inner ones, `labels` (S,) of the others."""

    first: int
    labels: NDArray[np.int32]


def segment_block(looking: "Looking", layout: "Layout", place: Place, folder: Path, *, described: bool = False) -> None:
    """Segment a tile and keep what it holds.

    Parameters
    ----------
    looking : Looking
        The model at the image.
    layout : Layout
    place : tuple of int
        Row and column of the tile.
    folder : Path
    described : bool
        Whether to measure the instances.

    Raises
    ------
    InstsegError
        If the image cannot be read or the file cannot be written.
    """
    grid = layout.grid
    tile = grid.tile(*place)
    maps = looking.embed(layout, tile)
    labels = cluster(maps, layout.clustering)
    core = tile.core.within(tile.whole)
    areas = np.bincount(labels[core].ravel(), minlength=int(labels.max(initial=0)) + 1)
    areas[0] = 0
    bands = {name: labels[face(tile, other).within(tile.whole)] for name, other in grid.neighbours(tile).items()}
    shared = np.zeros(len(areas), bool)
    for band in bands.values():
        shared[band] = True
    shared[0] = False
    inner = np.flatnonzero(~shared & (areas >= max(layout.clustering.min_size, 1)))
    numbers = np.flatnonzero(shared)
    contents: dict[str, Any] = {
        "inner": inner.astype(np.int32),
        "numbers": numbers.astype(np.int32),
        "areas": areas[numbers],
        "diameter": median_diameter(areas[areas > 0]),
        "core": _packed(labels[core]),
        **{name: _packed(band) for name, band in bands.items()},
    }
    if described:
        found = describe(labels, maps, core).moved(tile.whole.top, tile.whole.left)
        contents |= {f"{_DESCRIBED}{name}": value for name, value in found.arrays().items()}
    with replacing(_path(folder, place)) as temporary:
        np.savez(temporary, **contents)


def holds_block(folder: Path, place: Place) -> bool:
    """Return whether `segment_block` has been done."""
    return _path(folder, place).exists()


def read_seams(folder: Path, place: Place) -> Seams:
    """Return the numbers of the instances of a tile.

    Raises
    ------
    InstsegError
        If the file is missing or damaged.
    """
    found = _read(folder, place, *Seams._fields)
    return Seams(found["inner"], found["numbers"], found["areas"], float(found["diameter"]))


def join_block(folder: Path, grid: Grid, place: Place) -> dict[Place, NDArray[np.int64]]:
    """Tell which instances of a tile are the same as those of its neighbours to the left and above.

    Time is that of the pixels of two bands.

    Returns
    -------
    dict of place to (N, 2) int64
        By neighbour: the number in the neighbour, and in the tile.

    Raises
    ------
    InstsegError
        If a file is missing or damaged.
    """
    tile = grid.tile(*place)
    pairs = {}
    for name, across in (("left", "right"), ("above", "below")):
        other = grid.neighbours(tile).get(name)
        if other is not None:
            shape = face(other, tile).shape
            before = _unpacked(_read(folder, other.place, across)[across], shape)
            after = _unpacked(_read(folder, place, name)[name], shape)
            pairs[other.place] = same_instances(before, after)
    return pairs


class Numbering:
    """Gives the instances of all tiles their labels.

    Memory and time are those of the tiles and of the instances that reach into bands.
    """

    def __init__(self) -> None:
        self._seams: dict[Place, Seams] = {}
        self._inner: dict[Place, int] = {}
        self._pairs: list[tuple[Place, Place, NDArray[np.int64]]] = []

    def add(self, place: Place, seams: Seams) -> None:
        """Take the instances of a tile."""
        # How many there are inside is enough to know.
        self._inner[place] = len(seams.inner)
        self._seams[place] = seams._replace(inner=seams.inner[:0])

    def join(self, place: Place, pairs: Mapping[Place, NDArray[np.int64]]) -> None:
        """Take what `join_block` found of a tile."""
        self._pairs += [(other, place, found) for other, found in pairs.items()]

    def finish(self, min_size: int = 1) -> tuple[dict[Place, Table], int]:
        """Return the tables of all tiles, and how many instances there are.

        Parameters
        ----------
        min_size : int
            Instances of fewer pixels become background.

        Raises
        ------
        InstsegError
            If there are more than 2**31 - 1 instances.
        """
        places = sorted(self._seams)
        # Parts are numbered tile by tile.
        begin = np.cumsum([0, *(len(self._seams[place].numbers) for place in places)])
        begins = dict(zip(places, begin.tolist(), strict=False))
        links = [np.zeros((0, 2), np.int64)]
        for one, other, found in self._pairs:
            sides = [
                begins[place] + np.searchsorted(self._seams[place].numbers, found[:, side])
                for side, place in enumerate((one, other))
            ]
            links.append(np.stack(sides, axis=1))
        count, whole = components(int(begin[-1]), np.concatenate(links))
        areas = np.concatenate([np.zeros(0, np.int64), *(self._seams[place].areas for place in places)])
        area = np.bincount(whole, areas, count)
        first = np.full(count, begin[-1])
        np.minimum.at(first, whole, np.arange(begin[-1]))
        kept = np.flatnonzero(area >= max(min_size, 1))
        kept = kept[np.argsort(first[kept])]
        # An instance is numbered with the first tile that knows of it.
        owner = np.searchsorted(begin, first[kept], side="right") - 1
        inner = np.array([self._inner[place] for place in places], np.int64)
        starts = 1 + np.cumsum([0, *(inner + np.bincount(owner, minlength=len(places)))])
        total = int(starts[-1]) - 1
        require_countable(total)
        rank = np.arange(len(kept)) - np.searchsorted(owner, owner)
        label_of = np.zeros(count, np.int32)
        label_of[kept] = starts[owner] + inner[owner] + rank
        labels = label_of[whole]
        tables = {
            place: Table(int(starts[number]), labels[begin[number] : begin[number + 1]])
            for number, place in enumerate(places)
        }
        return tables, total


class Target(Protocol):
    """An array that parts are written to."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]

    def __setitem__(self, places: tuple[slice, slice], values: NDArray[Any], /) -> None:
        """Write a part."""


def tables_for(grid: Grid, place: Place, chunks: tuple[int, ...]) -> list[Place]:
    """Return the tiles whose tables `write_block` needs for one."""
    return [tile.place for tile in grid.covering(_chunks_of(grid, place, chunks))]


def write_block(folder: Path, grid: Grid, place: Place, tables: Mapping[Place, Table], target: Target) -> None:
    """Write the labels of the pixels of all of an array's chunks that begin in the core of a tile.

    So no two tiles write to one chunk; what a chunk has of the tiles around comes from their files.

    Parameters
    ----------
    folder : Path
    grid : Grid
    place : tuple of int
        Row and column of the tile.
    tables : mapping of place to Table
        Of the tiles in `tables_for`.
    target : array-like
        (H, W)

    Raises
    ------
    InstsegError
        If a file is missing or damaged.
    """
    box = _chunks_of(grid, place, target.chunks)
    if 0 in box.shape:
        return
    found = np.zeros(box.shape, np.uint32)
    for tile in grid.covering(box):
        contents = _read(folder, tile.place, "core", "inner", "numbers")
        core = _unpacked(contents["core"], tile.core.shape)
        common = tile.core.common(box)
        label_of = _label_of(contents, tables[tile.place], int(core.max(initial=0)))
        found[common.within(box)] = label_of[core[common.within(tile.core)]]
    target[box.within(grid.box)] = found


def read_instances(folder: Path, place: Place, table: Table) -> Instances:
    """Return what is known of the parts of instances in a tile, by their labels, which several parts can share.

    Raises
    ------
    InstsegError
        If the file is missing or damaged, or the instances were not described.
    """
    names = [f"{_DESCRIBED}{name}" for name in Instances.names()]
    found = _read(folder, place, "inner", "numbers", *names)
    instances = Instances.from_arrays({name.removeprefix(_DESCRIBED): found[name] for name in names})
    return instances.chosen(_label_of(found, table, int(instances.id.max(initial=0)))[instances.id])


def _label_of(contents: Mapping[str, NDArray[Any]], table: Table, largest: int) -> NDArray[np.int32]:
    """Return the label of each number of a tile up to `largest`; too small instances are in neither list, and get 0."""
    inner, numbers = contents["inner"], contents["numbers"]
    label_of = np.zeros(1 + max(largest, int(inner.max(initial=0)), int(numbers.max(initial=0))), np.int32)
    label_of[inner] = np.arange(table.first, table.first + len(inner))
    label_of[numbers] = table.labels
    return label_of


def _chunks_of(grid: Grid, place: Place, chunks: tuple[int, ...]) -> Box:
    """Return the chunks that begin in the core of a tile."""
    core = grid.tile(*place).core
    tall, wide = chunks
    top, left = -(-core.top // tall) * tall, -(-core.left // wide) * wide
    bottom, right = -(-core.bottom // tall) * tall, -(-core.right // wide) * wide
    return Box(top, left, bottom, right).common(grid.box)


def _path(folder: Path, place: Place) -> Path:
    return folder / f"{place[0]}.{place[1]}.npz"


def _packed(labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    return np.frombuffer(imagecodecs.zstd_encode(np.ascontiguousarray(labels).tobytes(), level=_LEVEL), np.uint8)


def _unpacked(packed: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.int32]:
    return np.frombuffer(imagecodecs.zstd_decode(packed.tobytes()), np.int32).reshape(shape)


def _read(folder: Path, place: Place, *names: str) -> dict[str, NDArray[Any]]:
    path = _path(folder, place)
    try:
        # Opened here, as NumPy leaves it open where it is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as contents:
            return {name: contents[name] for name in names}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InstsegError(f"cannot read {path} ({error}); remove it, and run the same command again") from error
