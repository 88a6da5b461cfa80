"""Volumes through a network that learnt on volumes, block by block."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.errors import UsageError
from instseg.inference.embedder import Embedder
from instseg.inference.options import PredictOptions, ProgressCallback
from instseg.inference.volume_blocks import PreparedVolume, VolumePlan, check_stretch, plan_blocks, volume_clustering
from instseg.io.volumes import VolumeReader
from instseg.network.strides import strides
from instseg.preprocessing.levels import Levels
from instseg.settings import ModelSettings
from instseg.tiling.grid import Box
from instseg.tiling.sizes import tile_alignment

# In the network's pixels, how far beyond a block the volume still changes an object's outline: of generated balls no
# voxel changed from 8 on, and from 16 on centres moved by less than 0.4 pixels.
_REACH = 16
# The share of the diameter of a large object that may lie beyond a border, as in images.
_OBJECT_SHARE = 0.5
# Spacings that differ by less are taken for the same.
_SAME_SPACING = 1.1


class NativeBlocks:
    """A volume that a network of volumes embeds block by block: a `BlockSource`.

    A volume whose planes are farther apart than those of the training, or nearer, is shown with planes like these, as
    the nearest ones make them; its maps are those of its own planes. One that does not say how far apart its planes are
    is taken for one like those of the training.

    Parameters
    ----------
    embedder : Embedder
        Of a model of volumes.
    volume : VolumeReader
    options : PredictOptions

    Attributes
    ----------
    plan : VolumePlan
    positions : bool
        Whether embeddings begin with a position (plane, row, column) in X pixels from the first voxel of the block.
    stages : int
        0, as nothing comes before the first block.
    notes : tuple of str
        What is to be said of the volume, in place of what its reader says.

    Raises
    ------
    UsageError, InstsegError
        If an option is for images, the volume's channels do not fit, or the overlap leaves nothing of a block.
    """

    stages = 0

    def __init__(self, embedder: Embedder, volume: VolumeReader, options: PredictOptions) -> None:
        _check_options(options)
        self._embedder = embedder
        self._volume = PreparedVolume(embedder, volume, options)
        self.positions = embedder.objective.positions
        settings = embedder.settings
        shape, spacing = self._volume.shape, self._volume.spacing
        self.notes = volume.notes
        if (volume.geometry is None or volume.geometry.spacing is None) and settings.spacing is not None:
            spacing = settings.spacing[0], settings.spacing[1], settings.spacing[2]
            shown = " : ".join(f"{size:.3g}" for size in spacing)
            self.notes = (f"the file does not say how large a voxel is; {shown} is taken, as in the training",)
        levels, magnification = self._volume.levels_and_magnification()
        scale = settings.scale * magnification
        seen = _seen_planes(settings, spacing)
        check_stretch(seen, spacing)
        scales = (scale * seen, scale, scale)
        grid = plan_blocks(
            shape,
            spacing,
            embedder,
            _with_overlap(options, settings, scale, magnification),
            magnification=magnification,
            multiple=tuple(tile_alignment(*one) for one in zip(scales, strides(settings), strict=True)),
            voxel_bytes=_bytes_per_voxel(settings, embedder.objective.map_count, scale, seen),
        )
        clustering = volume_clustering(embedder, options, magnification, spacing)
        self.plan = VolumePlan(levels, magnification, clustering, grid, spacing, embedder.calibration)

    def prepare(self, progress: ProgressCallback) -> None:
        """Do nothing."""

    def embed(self, box: Box) -> Embeddings:
        """Return the embeddings and maps of the voxels in a box.

        Raises
        ------
        InstsegError
            If the volume cannot be read, or memory does not suffice.
        """
        plan = self.plan
        maps = embed_volume(
            self._embedder, self._volume.read(box), plan.levels, spacing=plan.spacing, magnification=plan.magnification
        )
        counted = self._volume.counted(box)
        if counted is None:
            return dataclasses.replace(maps, settings=plan.clustering)
        foreground = np.where(counted, maps.foreground, np.float32(0))
        return dataclasses.replace(maps, settings=plan.clustering, foreground=foreground)

    def close(self) -> None:
        """Nothing was made."""


def embed_volume(
    embedder: Embedder,
    volume: NDArray[Any],
    levels: Levels,
    *,
    spacing: tuple[float, ...] | None = None,
    magnification: float = 1.0,
) -> Embeddings:
    """Return the embeddings and maps of a volume, or of a part of a larger one, in one piece.

    Parameters
    ----------
    embedder : Embedder
        Of a model of volumes.
    volume : (Z, Y, X, C) of numbers
        With the channels that the network takes.
    levels : tuple of (C,) float32
        The values that become 0 and 1.
    spacing : tuple of float, optional
        How far planes, rows and columns lie apart, in columns. By default as in the training.
    magnification : float
        How many times larger the network sees the volume.

    Returns
    -------
    Embeddings
        (Z, Y, X, ...), with the clustering settings of the model. Positions are in X pixels from the first voxel.
    """
    settings = embedder.settings
    spacing = spacing or settings.spacing or (1.0,) * settings.ndim
    planes = len(volume)
    seen = max(1, round(planes * _seen_planes(settings, spacing)))
    shown = volume if seen == planes else _with_planes(volume, seen)
    batch = embedder.embed_planes(shown[None], levels, magnification=magnification)
    maps = {name: values[0] for name, values in batch.items()}
    if seen != planes:
        # Positions are where they are, whatever plane tells them.
        nearest = ((np.arange(planes) + 0.5) * seen / planes).astype(np.intp)
        maps = {name: values[nearest] for name, values in maps.items()}
    if embedder.objective.positions:
        maps["embeddings"] = _moved_positions(maps["embeddings"], settings, spacing, planes / seen)
    return Embeddings(
        **maps,
        settings=embedder.clustering.rescaled(1 / magnification, settings.ndim),
        class_names=settings.class_names if "classes" in maps else (),
        calibration=embedder.calibration,
        spacing=spacing,
    )


def _check_options(options: PredictOptions) -> None:
    if options.diameter == "auto":
        raise UsageError(
            "diameter is auto, expected a number of pixels for a model of volumes; give it, or leave it out",
            parameter="diameter",
        )
    if options.tta:
        raise UsageError("tta is for models of images; leave it out", parameter="tta")


def _with_overlap(
    options: PredictOptions, settings: ModelSettings, scale: float, magnification: float
) -> PredictOptions:
    """Return options that say how much blocks see beyond what they decide: all of what lies across their border."""
    if options.tiles.overlap is not None:
        return options
    largest = (settings.diameter_p95 or settings.diameter) / magnification
    overlap = math.ceil(_REACH / scale + _OBJECT_SHARE * largest)
    return dataclasses.replace(options, tiles=dataclasses.replace(options.tiles, overlap=overlap))


def _seen_planes(settings: ModelSettings, spacing: tuple[float, ...]) -> float:
    """Return how many planes the network is shown for each plane of a volume: 1 where the spacing is nearly its own."""
    ratio = spacing[0] / (settings.spacing or (1.0,))[0]
    return ratio if max(ratio, 1 / ratio) > _SAME_SPACING else 1.0


def _moved_positions(
    embeddings: NDArray[np.float32], settings: ModelSettings, spacing: tuple[float, ...], thinned: float
) -> NDArray[np.float32]:
    """Return positions in the spacing of a volume, of which planes were thinned out so, from those of the training."""
    shown = (spacing[0] * thinned, *spacing[1:])
    steps = np.array(shown) / (settings.spacing or spacing)
    # From the middle of the first plane that was shown to that of the first plane there is.
    offsets = (np.array(shown) - spacing) / 2
    if (steps == 1).all() and not offsets.any():
        return embeddings
    moved = embeddings.copy()
    axes = np.s_[..., : settings.ndim]
    moved[axes] = moved[axes] * steps.astype(np.float32) + offsets.astype(np.float32)
    return moved


def _with_planes(volume: NDArray[Any], planes: int) -> NDArray[np.float32]:
    """Return a volume with another number of planes over the same depth, interpolated between its own."""
    places = np.clip((np.arange(planes) + 0.5) * len(volume) / planes - 0.5, 0, len(volume) - 1)
    lower = np.floor(places).astype(np.intp)
    weight = (places - lower).astype(np.float32)[:, None, None, None]
    below, above = volume[lower].astype(np.float32), volume[np.minimum(lower + 1, len(volume) - 1)].astype(np.float32)
    between: NDArray[np.float32] = below + weight * (above - below)
    return between


def _bytes_per_voxel(model: ModelSettings, maps: int, scale: float, seen: float) -> float:
    """Return about how much memory a voxel takes at the moment at which it takes most: in the finest level.

    As measured on 4 megavoxels: 190 bytes with the small network, and what is clustered meanwhile comes on top.
    """
    return 8 * maps + scale**3 * seen * (3 * model.widths[0] + 4 * maps)
