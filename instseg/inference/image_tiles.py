"""An image as the network sees it: its levels, its magnification, its tiles and their embeddings."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import Embeddings
from instseg.inference.diameter import resolve_magnification
from instseg.inference.embedder import Embedder
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader, ImageReader, whole_box
from instseg.preprocessing.levels import Levels
from instseg.settings import ClusterSettings
from instseg.tiling.grid import Box, Grid, Tile
from instseg.tiling.sizes import plan_tiles

# Height and width in pixels of the part of a streamed image from which the diameter of its objects is estimated.
_SAMPLE_SIDE = 4096


class TilePlan(NamedTuple):
    """How an image is cut, normalised and clustered; small, so that it can be sent to other processes.

    Attributes
    ----------
    levels : tuple of (C,) float32
        The values that become 0 and 1.
    magnification : float
        How many times larger the network sees the image, beside the scale of the training.
    clustering : ClusterSettings
    grid : Grid
        The tiles.
    picture : Box
        The image without a border of one value around it, in which nothing is.
    calibration : ScoreCalibration or None
        What the scores of instances mean, once those of all tiles are joined.
    """

    levels: Levels
    magnification: float
    clustering: ClusterSettings
    grid: Grid
    picture: Box
    calibration: ScoreCalibration | None = None


class ImageTiles:
    """An image that a model embeds tile by tile.

    Parameters
    ----------
    embedder : Embedder
    reader : ImageReader
    options : PredictOptions

    Raises
    ------
    UsageError, InstsegError
        As `Embedder.prepare_image` does, or if the image cannot be read.
    """

    def __init__(self, embedder: Embedder, reader: ImageReader, options: PredictOptions) -> None:
        self._embedder, self._options = embedder, options
        self._prepared = not reader.streamed
        self._inverted = embedder.inverted_channels(reader.shape[2], options.channels)
        self._counted: NDArray[np.bool_] | None = None
        if self._prepared:
            image = reader.read(whole_box(reader))
            self._counted = self._which_count(image)
            # Once for all tiles, as a choice of channels copies the image.
            reader = ArrayReader(embedder.prepare_image(image, options.channels))
        self._reader = reader

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the image with the channels that the network takes."""
        return self._read(box)[0]

    def _read(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return a part (h, w, C) of the image, and which of its pixels (h, w) hold an image, None for all."""
        part = self._reader.read(box)
        if self._prepared:
            counted = None if self._counted is None else self._counted[box.slices_in(whole_box(self._reader))]
            return part, counted
        return self._embedder.prepare_image(part, self._options.channels), self._which_count(part)

    def _which_count(self, part: NDArray[Any]) -> NDArray[np.bool_] | None:
        if not self._options.level_choice.ignore_zeros:
            return None
        counted: NDArray[np.bool_] = part.astype(bool) if part.ndim == 2 else np.any(part, axis=2)
        return counted

    def plan(self) -> TilePlan:
        """Return how the image is cut, normalised and clustered.

        Raises
        ------
        InstsegError
            If the overlap leaves nothing of a tile, or the image cannot be read.
        """
        embedder, options = self._embedder, self._options
        height, width, _ = self._reader.shape
        levels, magnification, picture = self._look()
        clustering = options.clustering or embedder.clustering.rescaled(1 / magnification)
        clustering = dataclasses.replace(clustering, **options.overrides)
        grid = plan_tiles(
            (height, width),
            embedder.settings,
            options.tiles,
            maps=embedder.objective.map_count,
            magnification=magnification,
        )
        return TilePlan(levels, magnification, clustering, grid, picture, embedder.calibration)

    def _look(self) -> tuple[Levels, float, Box]:
        """Return the levels, the magnification, and where the picture is."""
        embedder, options = self._embedder, self._options
        height, width, _ = self._reader.shape
        box = whole_box(self._reader)
        if self._prepared:
            sample = self.read(box)
            levels, picture = embedder.levels(sample, options.level_choice, self._inverted, self._counted)
            sample = sample[picture.slices_in(box)]
        else:
            picture, rule = box, embedder.settings.levels
            levels = options.level_choice.estimate((height, width), self._read, rule, self._inverted)
            sample = self.read(_middle(box))
        return levels, resolve_magnification(embedder, sample, levels, options.diameter), picture

    def embed(self, plan: TilePlan, tile: Tile) -> Embeddings:
        """Return the embeddings and maps of a tile's whole extent."""
        return self._embed(tile.extent, plan.levels, plan.magnification, plan.picture)

    def embed_whole(self) -> Embeddings:
        """Return the embeddings and maps of the image in one piece; errors as `plan`."""
        return self._embed(whole_box(self._reader), *self._look())

    def _embed(self, extent: Box, levels: Levels, magnification: float, picture: Box) -> Embeddings:
        part, counted = self._read(extent)
        within = Box(
            picture.top - extent.top,
            picture.left - extent.left,
            picture.bottom - extent.top,
            picture.right - extent.left,
        )
        tta = self._options.tta
        embeddings = self._embedder.embed_tile(part, levels, tta=tta, magnification=magnification, picture=within)
        if counted is None:
            return embeddings
        return dataclasses.replace(embeddings, foreground=np.where(counted, embeddings.foreground, np.float32(0)))


def _middle(box: Box) -> Box:
    """Return the middle part of an image, of `_SAMPLE_SIDE` at most."""
    top, left = max(0, (box.bottom - _SAMPLE_SIDE) // 2), max(0, (box.right - _SAMPLE_SIDE) // 2)
    return Box(top, left, min(top + _SAMPLE_SIDE, box.bottom), min(left + _SAMPLE_SIDE, box.right))
