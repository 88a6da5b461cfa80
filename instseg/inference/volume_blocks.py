"""A volume as a model sees it: how it is cut, normalised and clustered, and what gives the embeddings of a block."""

import dataclasses
import math
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError, UsageError
from instseg.inference.diameter import resolve_magnification
from instseg.inference.embedder import Embedder
from instseg.inference.options import PredictOptions, ProgressCallback
from instseg.io.volumes import VolumeReader
from instseg.preprocessing.levels import Levels
from instseg.settings import ClusterSettings
from instseg.tiling.grid import Box, Grid

# Levels are those of so many voxels at most, in planes that are spread over the volume.
_SAMPLE_VOXELS = 2**24
# The size of objects is estimated in that of so many planes whose values differ most.
_SAMPLE_PLANES = 16
# About so much memory a voxel of a block takes while it is clustered and the next one is made: 24 bytes for the maps of
# each, and 23 for the clustering where objects fill a quarter of the volume, with a reserve.
_BLOCK_BYTES = 120
# What the network takes while it sees planes, in GiB.
_BASE_MEMORY = 0.75
# The share of the diameter of a large object that a block sees beyond what it decides: then it sees the whole object,
# or the other block does.
_OBJECT_SHARE = 0.75
# In X pixels: the windows of the clustering.
_WINDOWS = 6
# The network is not shown a volume with more than so many pixels for a voxel, or with fewer.
_LARGEST_STRETCH = 100.0


class VolumePlan(NamedTuple):
    """How a volume is cut, normalised and clustered.

    Attributes
    ----------
    levels : tuple of (C,) float32
        The values that become 0 and 1.
    magnification : float
        How many times larger the network sees the volume, beside the scale of the training.
    clustering : ClusterSettings
        Sizes in voxels, windows in X pixels.
    grid : Grid
        The blocks, along three axes.
    spacing : tuple of 3 floats
        How far planes, rows and columns lie apart, in columns.
    calibration : ScoreCalibration or None
        What the scores of instances mean, once those of all blocks are joined.
    """

    levels: Levels
    magnification: float
    clustering: ClusterSettings
    grid: Grid
    spacing: tuple[float, float, float]
    calibration: ScoreCalibration | None = None


class BlockSource(Protocol):
    """A volume seen by a model, block by block.

    Attributes
    ----------
    plan : VolumePlan
    positions : bool
        Whether embeddings begin with a position (plane, row, column) in X pixels from the first voxel of the block.
    stages : int
        Steps of progress that `prepare` takes.
    notes : tuple of str
        What is to be said of the volume.
    """

    plan: VolumePlan
    positions: bool
    stages: int
    notes: tuple[str, ...]

    def prepare(self, progress: ProgressCallback) -> None:
        """Do what has to be done before the first block; `progress` takes steps from 1 to `stages`."""

    def embed(self, box: Box) -> Embeddings:
        """Return the embeddings and maps of the voxels in a box."""

    def close(self) -> None:
        """Let go of what `prepare` has made."""


class PreparedVolume:
    """A volume with the channels that a network takes.

    Parameters
    ----------
    embedder : Embedder
    volume : VolumeReader
    options : PredictOptions

    Attributes
    ----------
    shape : tuple of int
        (Z, Y, X)
    spacing : tuple of 3 floats
        How far planes, rows and columns lie apart, in columns.

    Raises
    ------
    UsageError, InstsegError
        As `Embedder.prepare_image` does.
    """

    def __init__(self, embedder: Embedder, volume: VolumeReader, options: PredictOptions) -> None:
        self._embedder, self._volume, self._options = embedder, volume, options
        self.shape = volume.shape[:3]
        self.spacing = volume.spacing
        # Channels that do not fit are refused before anything else is read.
        self.read(Box(0, 0, 0, 1, 1, 1))

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels (z, y, x, C) of a box.

        Raises
        ------
        UsageError, InstsegError
            As `Embedder.prepare_image` does, or if they cannot be read.
        """
        part = self._volume.read(box)
        depth, height, width, channels = part.shape
        # Channels are chosen pixel by pixel, so that planes may lie one under another.
        image = self._embedder.prepare_image(part.reshape(depth * height, width, channels), self._options.channels)
        return image.reshape(depth, height, width, image.shape[2])

    def counted(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which voxels (z, y, x) of a box hold an image; None for all."""
        if not self._options.level_choice.ignore_zeros:
            return None
        counted: NDArray[np.bool_] = np.any(self._volume.read(box), axis=3)
        return counted

    def levels_and_magnification(self) -> tuple[Levels, float]:
        """Return the values that become 0 and 1, and how many times larger the network is to see the volume."""
        planes = _spread(self.shape[0], max(1, _SAMPLE_VOXELS // math.prod(self.shape[1:])))
        boxes = [Box.whole(self.shape).with_bounds(0, z, z + 1) for z in planes]
        sample = np.concatenate([self.read(box)[0] for box in boxes])
        counted = None
        if self._options.level_choice.ignore_zeros:
            counted = np.concatenate([mask[0] for box in boxes if (mask := self.counted(box)) is not None])
        inverted = self._embedder.inverted_channels(self._volume.shape[3], self._options.channels)
        levels, _ = self._embedder.levels(sample, self._options.level_choice, inverted, counted)
        stack = sample.reshape(len(planes), -1, *sample.shape[1:])[:: max(1, len(planes) // _SAMPLE_PLANES)]
        # Every eighth row and column tells where values differ most.
        busiest = max(stack, key=lambda plane: float(plane[::8, ::8].astype(np.float32).std()))
        return levels, resolve_magnification(self._embedder, busiest, levels, self._options.diameter)


def _spread(count: int, most: int) -> list[int]:
    """Return up to `most` indices that are spread evenly over `count`."""
    chosen = min(count, most)
    return [(2 * number + 1) * count // (2 * chosen) for number in range(chosen)]


def volume_clustering(
    embedder: Embedder, options: PredictOptions, magnification: float, spacing: tuple[float, float, float]
) -> ClusterSettings:
    """Return the settings of the clustering of a volume: those of the options, else the model's for such a volume."""
    if options.clustering is None:
        ndim = embedder.settings.ndim
        clustering = embedder.clustering.rescaled(1 / magnification, ndim)
        clustering = clustering if ndim == 3 else clustering.for_volume(spacing)
    else:
        clustering = options.clustering
    return dataclasses.replace(clustering, **options.overrides)


def plan_blocks(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    embedder: Embedder,
    options: PredictOptions,
    *,
    magnification: float,
    reach: float = 0.0,
    multiple: int | tuple[int, ...] = 1,
    voxel_bytes: float = _BLOCK_BYTES,
) -> Grid:
    """Return the blocks of a volume: as large as memory allows, as long along each axis as its voxels make them.

    Parameters
    ----------
    shape : tuple of int
        (Z, Y, X)
    spacing : tuple of 3 floats
        How far planes, rows and columns lie apart, in columns.
    embedder : Embedder
    options : PredictOptions
        `tile` and `overlap` are in columns.
    magnification : float
        How many times larger the network sees the volume.
    reach : float
        In columns, how far beyond a block the volume still changes what the network says of it.
    multiple : int or tuple of int
        All blocks begin at multiples of it, in voxels.
    voxel_bytes : float
        The memory that a voxel takes.

    Raises
    ------
    InstsegError
        If the overlap leaves nothing of a block.
    """
    tiles, model = options.tiles, embedder.settings
    multiples = (multiple,) * 3 if isinstance(multiple, int) else multiple
    overlap = tiles.overlap
    if overlap is None:
        largest = (model.diameter_p95 or model.diameter) / magnification
        overlap = math.ceil(reach + _OBJECT_SHARE * largest + _WINDOWS)
    overlaps = tuple(math.ceil(overlap / step) for step in spacing)
    least = tuple(step * (2 * math.ceil(over / step) + 1) for over, step in zip(overlaps, multiples, strict=True))
    if tiles.tile is not None:
        sides = tuple(max(1, math.floor(tiles.tile / step)) for step in spacing)
        axes = zip(shape, sides, least, spacing, strict=True)
        if short := [long * step for length, side, long, step in axes if side < min(length, long)]:
            raise InstsegError(
                f"a block of {tiles.tile} pixels has nothing left beside an overlap of {overlap} on both sides, "
                f"expected at least {math.ceil(max(short))}; make `tile` larger or `overlap` smaller"
            )
    else:
        voxels = max(tiles.memory - _BASE_MEMORY, 0) * 2**30 / voxel_bytes
        # What blocks decide is at least as long as their overlap, as they would else see nearly all of it in vain.
        least = tuple(
            max(long, 3 * step * math.ceil(over / step))
            for long, over, step in zip(least, overlaps, multiples, strict=True)
        )
        sides = _sides(shape, spacing, voxels, least)
    return Grid(shape, side=sides, overlap=overlaps, multiple=multiples)


def check_stretch(factor: float, spacing: tuple[float, ...]) -> None:
    """Check that a network is not to see a volume stretched, or pressed together, beyond what memory allows.

    Raises
    ------
    UsageError
        If it is.
    """
    if not 1 / _LARGEST_STRETCH <= factor <= _LARGEST_STRETCH:
        shown = " : ".join(f"{size:.3g}" for size in spacing)
        raise UsageError(
            f"voxels are {shown} along Z, Y and X, which would be resampled {max(factor, 1 / factor):.3g} times, "
            f"expected up to {_LARGEST_STRETCH:g}; give the right `spacing`, or see planes along z by "
            "`planes_from='z'`"
        )


def _sides(
    shape: tuple[int, ...], spacing: tuple[float, ...], voxels: float, least: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the sides of a block of so many voxels: a cube in columns, longer where an axis is shorter than that."""
    sides = list(shape)
    free = list(range(len(shape)))
    while free:
        taken = math.prod(sides[axis] for axis in range(len(shape)) if axis not in free)
        edge = (voxels / taken * math.prod(spacing[axis] for axis in free)) ** (1 / len(free))
        short = [axis for axis in free if shape[axis] * spacing[axis] <= edge]
        if not short:
            for axis in free:
                sides[axis] = max(math.floor(edge / spacing[axis]), least[axis])
            break
        free = [axis for axis in free if axis not in short]
    return tuple(sides)
