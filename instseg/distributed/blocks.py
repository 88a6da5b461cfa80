"""The tiles of a large image in a folder that any number of processes share: embedded, joined and written apart.

    folder/
      0.3.npz        the tile of row 0 and column 3: appears when it is complete, and is never written again
      2.0.3.npz      of a volume it is the block of these places along planes, rows and columns

1. `segment_tile`: the network and the clustering, tile by tile, each on its own.
2. `match_seams`: which instances of a tile are the same as those of its neighbours above and to the left, and in the
   planes before, from the bands that both see.
3. `instseg.tiling.stitch.LabelMerger`: one process gives the instances their labels, from numbers only.
4. `write_tile`: the pixels get their labels, again tile by tile.

The labels are those that `instseg.inference.tiled.segment` gives for the same tiles. No TensorFlow here.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import Instances, measure_instances, median_diameter
from instseg.errors import InstsegError
from instseg.inference.segmentation import AssemblyPlan
from instseg.io.atomic import atomic_write
from instseg.tiling.grid import Box, Grid, Side, Tile, TileIndex, shared_band
from instseg.tiling.stitch import LabelTable, TileInstances, match_instances, tile_bands, tile_instances

# Fast, and labels shrink to a fiftieth all the same.
_ZSTD_LEVEL = 1
_MEASURED = "instances."


class TileSummary(NamedTuple):
    """What the process that joins has to know of a tile.

    Attributes
    ----------
    record : TileInstances
        Without the `inner` numbers, which only the tile's own file needs.
    diameter : float
        Median of the instances that have pixels in the core, 0 without any.
    """

    record: TileInstances
    diameter: float


class EmbedsTiles(Protocol):
    """A model at an image or a volume: `ImageTiles` or `VolumeTiles`."""

    def embed(self, plan: Any, tile: Tile, /) -> Embeddings:
        """Return the embeddings and maps of a tile's whole extent."""


def segment_tile(
    tiles: EmbedsTiles, plan: AssemblyPlan, index: TileIndex, folder: Path, *, measure: bool = False
) -> None:
    """Segment a tile and keep what it holds.

    Parameters
    ----------
    tiles : ImageTiles or VolumeTiles
        The model at the image.
    plan : TilePlan or VolumePlan
    index : TileIndex
    folder : Path
    measure : bool
        Whether to measure the instances.

    Raises
    ------
    InstsegError
        If the image cannot be read or the file cannot be written.
    """
    grid = plan.grid
    tile = grid.tile(*index)
    embeddings = tiles.embed(plan, tile)
    labels = cluster(embeddings, plan.clustering)
    core = tile.core.slices_in(tile.extent)
    areas = np.bincount(labels[core].ravel())[1:]
    contents: dict[str, Any] = {
        **tile_instances(grid, tile, labels, plan.clustering.min_size)._asdict(),
        "diameter": median_diameter(areas[areas > 0], embeddings.steps),
        "core": _compress(labels[core]),
        **{_band_name(side): _compress(band) for side, band in tile_bands(grid, tile, labels).items()},
    }
    if measure:
        part = measure_instances(labels, embeddings, core).translated(tile.extent.begin)
        contents |= {f"{_MEASURED}{name}": values for name, values in part.to_arrays().items()}
    with atomic_write(_path(folder, index)) as temporary:
        np.savez(temporary, **contents)


def tile_exists(folder: Path, index: TileIndex) -> bool:
    """Return whether `segment_tile` has been done."""
    return _path(folder, index).exists()


def read_summary(folder: Path, index: TileIndex) -> TileSummary:
    """Return what joining needs of a tile.

    Raises
    ------
    InstsegError
        If the file is missing or damaged.
    """
    contents = _read(folder, index, *TileInstances._fields, "diameter")
    record = _record(contents)
    return TileSummary(record._replace(inner=record.inner[:0]), float(contents["diameter"]))


def match_seams(folder: Path, grid: Grid, index: TileIndex) -> dict[TileIndex, NDArray[np.int64]]:
    """Return which instances of a tile are the same as those of the neighbours before it, such as left and above.

    Time is O(pixels of a band along each axis).

    Returns
    -------
    dict of TileIndex to (N, 2) int64
        By neighbour: the number in the neighbour, and in the tile.

    Raises
    ------
    InstsegError
        If a file is missing or damaged.
    """
    tile = grid.tile(*index)
    pairs = {}
    for (axis, step), other in grid.neighbours(tile).items():
        if step < 0:
            shape = shared_band(other, tile).shape
            name, across = _band_name((axis, step)), _band_name((axis, -step))
            before = _decompress(_read(folder, other.index, across)[across], shape)
            after = _decompress(_read(folder, index, name)[name], shape)
            pairs[other.index] = match_instances(before, after)
    return pairs


class Target(Protocol):
    """An array that parts are written to."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]

    def __setitem__(self, places: tuple[slice, ...], values: NDArray[Any], /) -> None:
        """Write a part."""


def tables_for(grid: Grid, index: TileIndex, chunks: tuple[int, ...]) -> list[TileIndex]:
    """Return the tiles whose label tables `write_tile` needs for one."""
    return [tile.index for tile in grid.tiles_in(_chunks_of(grid, index, chunks))]


def write_tile(
    folder: Path, grid: Grid, index: TileIndex, tables: Mapping[TileIndex, LabelTable], target: Target
) -> None:
    """Write the labels of the pixels of all of an array's chunks that begin in the core of a tile.

    So no two tiles write to one chunk; what a chunk has of the tiles around comes from their files.

    Parameters
    ----------
    folder : Path
    grid : Grid
    index : TileIndex
    tables : mapping of TileIndex to LabelTable
        Of the tiles that `tables_for` names.
    target : array-like
        (H, W) or (D, H, W)

    Raises
    ------
    InstsegError
        If a file is missing or damaged.
    """
    box = _chunks_of(grid, index, target.chunks)
    if 0 in box.shape:
        return
    labels = np.zeros(box.shape, np.uint32)
    for tile in grid.tiles_in(box):
        contents = _read(folder, tile.index, "core", *TileInstances._fields)
        core = _decompress(contents["core"], tile.core.shape)
        common = tile.core.intersection(box)
        label_of = tables[tile.index].lookup(_record(contents))
        labels[common.slices_in(box)] = label_of[core[common.slices_in(tile.core)]]
    target[box.slices_in(grid.box)] = labels


def read_instances(folder: Path, index: TileIndex, table: LabelTable) -> Instances:
    """Return what is known of the parts of instances in a tile, by their labels, which several parts can share.

    Raises
    ------
    InstsegError
        If the file is missing or damaged, or the instances were not measured.
    """
    names = [f"{_MEASURED}{name}" for name in Instances.array_names()]
    contents = _read(folder, index, *TileInstances._fields, *names)
    instances = Instances.from_arrays({name.removeprefix(_MEASURED): contents[name] for name in names})
    return instances.relabelled(table.lookup(_record(contents))[instances.label])


def _record(contents: Mapping[str, NDArray[Any]]) -> TileInstances:
    return TileInstances(int(contents["largest"]), *(contents[name] for name in TileInstances._fields[1:]))


def _chunks_of(grid: Grid, index: TileIndex, chunks: tuple[int, ...]) -> Box:
    """Return the chunks that begin in the core of a tile."""
    core = grid.tile(*index).core
    corners = (-(-place // length) * length for place, length in zip(core, (*chunks, *chunks), strict=True))
    return Box(*corners).intersection(grid.box)


def _path(folder: Path, index: TileIndex) -> Path:
    return folder / f"{'.'.join(map(str, index))}.npz"


def _band_name(side: Side) -> str:
    """Return under which name a tile's file has the band at one of its sides."""
    axis, step = side
    return f"band {axis} {'before' if step < 0 else 'after'}"


def _compress(labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    data = imagecodecs.zstd_encode(np.ascontiguousarray(labels).tobytes(), level=_ZSTD_LEVEL)
    return np.frombuffer(data, np.uint8)


def _decompress(data: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int32]:
    return np.frombuffer(imagecodecs.zstd_decode(data.tobytes()), np.int32).reshape(shape)


def _read(folder: Path, index: TileIndex, *names: str) -> dict[str, NDArray[Any]]:
    path = _path(folder, index)
    try:
        # Opened here, as NumPy leaves it open where it is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as contents:
            return {name: contents[name] for name in names}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InstsegError(f"cannot read {path} ({error}); remove it, and run the same command again") from error
