"""An image as the network sees it: its levels, its magnification, its tiles and their embeddings."""

import dataclasses
from typing import Any, NamedTuple

from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import Embeddings
from instseg.inference.diameter import resolve_magnification
from instseg.inference.embedder import Embedder
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader, ImageReader, whole_box
from instseg.preprocessing.levels import Levels, estimate_levels
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
        if self._prepared:
            # Once for all tiles, as a choice of channels copies the image.
            reader = ArrayReader(embedder.prepare_image(reader.read(whole_box(reader)), options.channels))
        self._reader = reader

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the image with the channels that the network takes."""
        part = self._reader.read(box)
        return part if self._prepared else self._embedder.prepare_image(part, self._options.channels)

    def plan(self) -> TilePlan:
        """Return how the image is cut, normalised and clustered.

        Raises
        ------
        InstsegError
            If the overlap leaves nothing of a tile, or the image cannot be read.
        """
        embedder, options = self._embedder, self._options
        height, width, _ = self._reader.shape
        box = whole_box(self._reader)
        if self._prepared:
            sample = self.read(box)
            levels, picture = embedder.levels(sample)
            sample = sample[picture.slices_in(box)]
        else:
            levels, picture = estimate_levels((height, width), self.read, embedder.settings.levels), box
            sample = self.read(_middle(box))
        magnification = resolve_magnification(embedder, sample, levels, options.diameter)
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

    def embed(self, plan: TilePlan, tile: Tile) -> Embeddings:
        """Return the embeddings and maps of a tile's whole extent."""
        part, extent, picture = self.read(tile.extent), tile.extent, plan.picture
        within = Box(
            picture.top - extent.top,
            picture.left - extent.left,
            picture.bottom - extent.top,
            picture.right - extent.left,
        )
        return self._embedder.embed_tile(
            part, plan.levels, tta=self._options.tta, magnification=plan.magnification, picture=within
        )


def _middle(box: Box) -> Box:
    """Return the middle part of an image, of `_SAMPLE_SIDE` at most."""
    top, left = max(0, (box.bottom - _SAMPLE_SIDE) // 2), max(0, (box.right - _SAMPLE_SIDE) // 2)
    return Box(top, left, min(top + _SAMPLE_SIDE, box.bottom), min(left + _SAMPLE_SIDE, box.right))
