"""The planes of a volume through a network of images: batches of planes along an axis, and their maps by voxel."""

import dataclasses
import math
from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from instseg.inference.embedder import Embedder
from instseg.inference.options import PredictOptions
from instseg.inference.volume_blocks import check_stretch
from instseg.preprocessing.levels import Levels
from instseg.tiling.grid import Box, Grid
from instseg.tiling.sizes import plan_tiles

# About so many pixels are given to the network at once: fewer leave cores idle, and more are no faster.
_BATCH_PIXELS = 2**19
# Planes are read in groups of a multiple of so many, as files and scratch hold chunks of them.
_READ_PLANES = 16
# So many values are read at once, unless a plane has more.
_READ_VALUES = 2**26
# Steps that differ from 1 by less than this part are taken for 1.
_SAME = 0.01


class Voxels(Protocol):
    """Whose voxels planes are cut from: its `shape` (Z, Y, X), and `read(box)`, which returns (z, y, x, C)."""

    shape: tuple[int, int, int]

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels (z, y, x, C) of a box."""


class PlaneBatch(NamedTuple):
    """The maps of planes that follow each other along an axis.

    Attributes
    ----------
    indices : (N,) intp
        Of the planes along the axis.
    maps : dict of str to (N, H, W) or (N, H, W, D) float32
        A value or vector for each voxel; embeddings with a position have it in X pixels from the first voxel of the
        plane.
    """

    indices: NDArray[np.intp]
    maps: dict[str, NDArray[np.float32]]


class PlaneNetwork:
    """A network that sees the planes of a volume, each resampled to pixels as wide as the volume's columns.

    Time is that of the network over all pixels of the resampled planes; memory is that of a batch.

    Parameters
    ----------
    embedder : Embedder
    levels : tuple of (C,) float32
        The values that become 0 and 1.
    magnification : float
        How many times larger the network sees the planes.
    spacing : tuple of 3 floats
        How far planes, rows and columns of the volume lie apart, in columns.
    options : PredictOptions
        `tta`, and the memory of `tiles`.
    """

    def __init__(
        self,
        embedder: Embedder,
        levels: Levels,
        magnification: float,
        spacing: tuple[float, float, float],
        options: PredictOptions,
    ) -> None:
        self._embedder, self._levels, self._magnification = embedder, levels, magnification
        self._spacing, self._options = spacing, options

    def batch_count(self, shape: tuple[int, int, int], axis: int, step: int = 1) -> int:
        """Return how many batches `embed` yields for a volume of a shape."""
        groups = _groups(plane_indices(shape[axis], step), self._read_planes(shape, axis))
        size = self._batch_size(self._tiles(_in_plane(shape, axis), axis))
        return sum(math.ceil(len(group) / size) for group in groups)

    def embed(self, volume: Voxels, axis: int, step: int = 1) -> Generator[PlaneBatch]:
        """Yield the maps of the planes along an axis, in their order.

        Parameters
        ----------
        volume : Voxels
        axis : int
            0 for planes along z, 1 and 2 for those along y and x. Rows and columns of a plane are the other two axes in
            their order.
        step : int
            Every so many-th plane is seen, and the last one.

        Raises
        ------
        InstsegError
            If the volume cannot be read, or there is not enough memory.
        """
        shape = volume.shape
        grid = self._tiles(_in_plane(shape, axis), axis)
        size = self._batch_size(grid)
        for group in _groups(plane_indices(shape[axis], step), self._read_planes(shape, axis)):
            box = Box.whole(shape).with_bounds(axis, int(group[0]), int(group[-1]) + 1)
            planes = np.moveaxis(volume.read(box), axis, 0)[group - group[0]]
            for first in range(0, len(group), size):
                yield PlaneBatch(group[first : first + size], self._maps(planes[first : first + size], axis, grid))

    def _maps(self, planes: NDArray[Any], axis: int, grid: Grid) -> dict[str, NDArray[np.float32]]:
        steps = _in_plane(self._spacing, axis)
        seen = planes
        for number, (step, length) in enumerate(zip(steps, grid.shape, strict=True), start=1):
            seen = seen if _is_one(step) else interpolated(seen, number, np.arange(length) / step)
        maps = self._tiled(seen, grid)
        for number, (step, length) in enumerate(zip(steps, planes.shape[1:3], strict=True), start=1):
            if not _is_one(step):
                places = np.arange(length) * step
                maps = {name: interpolated(values, number, places) for name, values in maps.items()}
        return maps

    def _tiled(self, planes: NDArray[Any], grid: Grid) -> dict[str, NDArray[np.float32]]:
        """Return the maps of planes (N, H, W, C), tile by tile where one is too large to be seen at once."""
        joined: dict[str, NDArray[np.float32]] = {}
        for tile in grid:
            rows, columns = tile.extent.slices_in(grid.box)
            maps = self._embedder.embed_planes(
                planes[:, rows, columns], self._levels, tta=self._options.tta, magnification=self._magnification
            )
            if len(grid) == 1:
                return maps
            if self._embedder.objective.positions:
                maps["embeddings"] = maps["embeddings"] + _padded(tile.extent.begin, maps["embeddings"].shape[-1])
            inside = (slice(None), *tile.core.slices_in(tile.extent))
            for name, values in maps.items():
                if name not in joined:
                    joined[name] = np.empty((len(planes), *grid.shape, *values.shape[3:]), np.float32)
                joined[name][:, *tile.core.slices_in(grid.box)] = values[inside]
        return joined

    def _tiles(self, plane: tuple[int, int], axis: int) -> Grid:
        """Return the tiles of a plane as the network sees it."""
        for step in _in_plane(self._spacing, axis):
            check_stretch(step, self._spacing)
        height, width = (
            length if _is_one(step) else math.ceil((length - 1) * step) + 1
            for length, step in zip(plane, _in_plane(self._spacing, axis), strict=True)
        )
        return plan_tiles(
            (height, width),
            self._embedder.settings,
            # A tile and an overlap that somebody gives are those of blocks.
            dataclasses.replace(self._options.tiles, tile=None, overlap=None),
            maps=self._embedder.objective.map_count,
            magnification=self._magnification,
        )

    def _batch_size(self, grid: Grid) -> int:
        scale = max(self._embedder.settings.scale * self._magnification, 0.25)
        return max(1, math.ceil(_BATCH_PIXELS / (math.prod(grid.shape) * scale * scale) - 0.5))

    def _read_planes(self, shape: tuple[int, int, int], axis: int) -> int:
        """Return how many planes are read at once."""
        size = self._batch_size(self._tiles(_in_plane(shape, axis), axis))
        wanted = _READ_PLANES * math.ceil(size / _READ_PLANES)
        height, width = _in_plane(shape, axis)
        values: int = height * width * self._embedder.settings.channels
        return max(1, min(wanted, _READ_VALUES // values))


def plane_indices(count: int, step: int) -> NDArray[np.intp]:
    """Return every so many-th index below a count, and the last one.

    Examples
    --------
    >>> plane_indices(6, 2)
    array([0, 2, 4, 5])
    """
    indices = np.arange(0, count, step)
    return indices if indices[-1] == count - 1 else np.append(indices, count - 1)


def interpolated(values: NDArray[Any], axis: int, places: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values at places between indices of an axis, by linear interpolation; beyond the ends those of the ends.

    Parameters
    ----------
    values : array of numbers
    axis : int
    places : (N,) floats
        Ascending.

    Returns
    -------
    float32
        With N in the place of the length of the axis.

    Examples
    --------
    >>> interpolated(np.array([0, 10, 30]), 0, np.array([0.0, 0.5, 1.5, 3.0]))
    array([ 0.,  5., 20., 30.], dtype=float32)
    """
    places = np.clip(places, 0, values.shape[axis] - 1)
    lower = places.astype(np.intp)
    share = (places - lower).astype(np.float32)
    below: NDArray[np.float32] = np.take(values, lower, axis).astype(np.float32, copy=False)
    between = np.flatnonzero(share)
    if not len(between):
        return below
    upper = np.minimum(lower + 1, values.shape[axis] - 1)
    above: NDArray[np.float32] = np.take(values, upper, axis).astype(np.float32, copy=False)
    above -= below
    above *= share.reshape([-1 if number == axis else 1 for number in range(values.ndim)])
    above += below
    return above


def _is_one(step: float) -> bool:
    return abs(step - 1) < _SAME


def _in_plane(values: tuple[Any, ...], axis: int) -> tuple[Any, Any]:
    """Return the values of rows and columns of planes along an axis."""
    rows, columns = (value for number, value in enumerate(values) if number != axis)
    return rows, columns


def _groups(indices: NDArray[np.intp], planes: int) -> list[NDArray[np.intp]]:
    """Return the indices in groups that lie in the same run of so many planes."""
    return np.split(indices, np.flatnonzero(np.diff(indices // planes)) + 1)


def _padded(values: tuple[int, ...], length: int) -> NDArray[np.float32]:
    padded = np.zeros(length, np.float32)
    padded[: len(values)] = values
    return padded
