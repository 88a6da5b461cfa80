"""An image as the network sees it: its levels, its magnification, its tiles and their embeddings."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import Embeddings
from instseg.inference.background import LEAST_PIXELS, Background, find_background
from instseg.inference.diameter import is_estimated, resolve_magnification
from instseg.inference.embedder import Embedder
from instseg.inference.memory import check_tile
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader, ImageReader, whole_box
from instseg.preprocessing.levels import Levels
from instseg.settings import ClusterSettings
from instseg.tiling.grid import Box, Grid, Tile
from instseg.tiling.sizes import plan_tiles, tile_alignment

# Height and width in pixels of the part of a streamed image from which the diameter of its objects is estimated.
_SAMPLE_SIDE = 4096
# How many parts along each axis of an image say what its background looks like, and their height and width where the
# network sees objects in the image's own pixels.
_PARTS, _PART_SIDE = 8, 512
# A tile is seen as a whole where boxes in it have more than this share of its pixels: they are put together by copies.
_LEAST_SKIPPED = 0.9


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
    background : Background or None
        What need not be seen by the network, if anything.
    """

    levels: Levels
    magnification: float
    clustering: ClusterSettings
    grid: Grid
    picture: Box
    calibration: ScoreCalibration | None = None
    background: Background | None = None


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

    def plan(self, *, skip_background: bool = False) -> TilePlan:
        """Return how the image is cut, normalised and clustered.

        Parameters
        ----------
        skip_background : bool
            Whether to find out what of it the network need not see, where the options allow for that.

        Raises
        ------
        InstsegError
            If the overlap leaves nothing of a tile, or the image cannot be read.
        """
        embedder, options = self._embedder, self._options
        height, width, _ = self._reader.shape
        levels, magnification, picture = self._look()
        scale, maps = embedder.settings.scale * magnification, embedder.objective.map_count
        check_tile((height, width), embedder.settings, options.tiles, maps, scale)
        clustering = options.clustering or embedder.clustering.rescaled(1 / magnification)
        clustering = dataclasses.replace(clustering, **options.overrides)
        grid = plan_tiles(
            (height, width),
            embedder.settings,
            options.tiles,
            maps=maps,
            magnification=magnification,
            half=embedder.precision == "bfloat16",
            held=self._held(),
        )
        plan = TilePlan(levels, magnification, clustering, grid, picture, embedder.calibration)
        # Who wants the maps wants those of the background, too.
        if not (skip_background and options.tiles.skip_background) or options.return_embeddings:
            return plan
        return plan._replace(background=self._background(plan))

    def _held(self) -> int:
        """Return the bytes that the image and its labels take while tiles are looked at."""
        if not self._prepared:
            return 0
        height, width, _ = self._reader.shape
        pixel = self._reader.read(Box(0, 0, 1, 1))
        return height * width * (pixel.nbytes + np.dtype(np.int32).itemsize)

    def _background(self, plan: TilePlan) -> Background | None:
        pixels = math.prod(plan.picture.shape)
        if pixels < LEAST_PIXELS:
            return None
        embedder, tta = self._embedder, self._options.tta
        scale = embedder.settings.scale * plan.magnification

        def foreground(place: NDArray[Any]) -> NDArray[np.float32]:
            return embedder.embed_tile(place, plan.levels, tta=tta, magnification=plan.magnification).foreground

        parts = (self.read(box) for box in _spread_parts(plan.picture, scale))
        stride, threshold = 2 ** len(embedder.settings.widths), plan.clustering.foreground_threshold
        return find_background(parts, pixels, plan.levels, scale, stride, foreground, threshold)

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
            # To read it takes as long as to find the levels.
            estimated = is_estimated(embedder, options.diameter)
            sample = self.read(_middle(box) if estimated else Box(0, 0, 1, 1))
        return levels, resolve_magnification(embedder, sample, levels, options.diameter), picture

    def embed(self, plan: TilePlan, tile: Tile) -> Embeddings:
        """Return the embeddings and maps of a tile's whole extent; where background is skipped, nothing is there."""
        return self._see(plan, tile, tight=False)[1]

    def embed_occupied(self, plan: TilePlan, tile: Tile) -> tuple[Box, Embeddings]:
        """Return a box of a tile's extent outside of which is nothing but background, and its embeddings and maps.

        The box is in pixels of the image, and has one of them where all is background.
        """
        return self._see(plan, tile, tight=True)

    def _see(self, plan: TilePlan, tile: Tile, *, tight: bool) -> tuple[Box, Embeddings]:
        part, counted = self._read(tile.extent)
        whole = area = _box_of(part)
        inner = plan.picture.translated([-begin for begin in tile.extent.begin]).intersection(whole)
        if plan.background is None or 0 in inner.shape:
            embeddings = self._embed(part, plan.levels, plan.magnification, inner)
        else:
            area, embeddings = self._embed_occupied(part, plan, plan.background, inner, tight=tight)
        counted = None if counted is None else counted[area.slices_in(whole)]
        return area.translated(tile.extent.begin), _where_counted(embeddings, counted)

    def embed_whole(self) -> Embeddings:
        """Return the embeddings and maps of the image in one piece; errors as `plan`."""
        part, counted = self._read(whole_box(self._reader))
        return _where_counted(self._embed(part, *self._look()), counted)

    def _embed(self, part: NDArray[Any], levels: Levels, magnification: float, picture: Box) -> Embeddings:
        tta = self._options.tta
        return self._embedder.embed_tile(part, levels, tta=tta, magnification=magnification, picture=picture)

    def _embed_occupied(
        self, part: NDArray[Any], plan: TilePlan, background: Background, inner: Box, *, tight: bool
    ) -> tuple[Box, Embeddings]:
        """Return the maps of a part, or of all in it that is not background; the network sees boxes of that."""
        whole, embedder, options = _box_of(part), self._embedder, self._options
        # Boxes begin where the network's cells do, so that it sees them as it sees the whole.
        occupied = background.occupied(part[inner.slices_in(whole)], self._alignment(plan))
        boxes = [(core.translated(inner.begin), seen.translated(inner.begin)) for core, seen in occupied.boxes]
        if sum(math.prod(seen.shape) for _, seen in boxes) > _LEAST_SKIPPED * math.prod(inner.shape):
            return whole, self._embed(part, plan.levels, plan.magnification, inner)
        area = _around([core for core, _ in boxes]) if tight else whole
        embeddings = embedder.embed_boxes(
            part, plan.levels, boxes, area, tta=options.tta, magnification=plan.magnification
        )
        if boxes:
            kept = area.intersection(inner)
            embeddings.foreground[kept.slices_in(area)] *= occupied.kept[kept.slices_in(inner)]
        return area, embeddings

    def _alignment(self, plan: TilePlan) -> int:
        settings = self._embedder.settings
        return tile_alignment(settings.scale * plan.magnification, 2 ** len(settings.widths))


def _box_of(part: NDArray[Any]) -> Box:
    return Box(0, 0, *part.shape[:2])


def _around(boxes: Sequence[Box]) -> Box:
    if not boxes:
        return Box(0, 0, 1, 1)
    begins, ends = zip(*((box.begin, box.end) for box in boxes), strict=True)
    return Box(*np.min(begins, axis=0).tolist(), *np.max(ends, axis=0).tolist())


def _where_counted(embeddings: Embeddings, counted: NDArray[np.bool_] | None) -> Embeddings:
    if counted is None:
        return embeddings
    return dataclasses.replace(embeddings, foreground=np.where(counted, embeddings.foreground, np.float32(0)))


def _spread_parts(picture: Box, scale: float) -> Iterator[Box]:
    """Yield parts that are spread over a picture, 16 megapixels in all, and more where objects are large."""
    side = _PART_SIDE * max(1, round(1 / scale))
    starts = []
    for begin, end in zip(picture.begin, picture.end, strict=True):
        count = min(_PARTS, max(1, (end - begin) // side))
        places = np.linspace(begin, max(begin, end - side), count)
        # Chunks of files mostly begin at multiples of it.
        starts.append([max(begin, int(place) // _PART_SIDE * _PART_SIDE) for place in places])
    for top, left in itertools.product(*starts):
        yield Box(top, left, top + side, left + side).intersection(picture)


def _middle(box: Box) -> Box:
    """Return the middle part of an image, of `_SAMPLE_SIDE` at most."""
    top, left = max(0, (box.bottom - _SAMPLE_SIDE) // 2), max(0, (box.right - _SAMPLE_SIDE) // 2)
    return Box(top, left, min(top + _SAMPLE_SIDE, box.bottom), min(left + _SAMPLE_SIDE, box.right))
