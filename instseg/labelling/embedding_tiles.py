"""The embeddings of the images in work, tile by tile, in a bounded memory.

A tile is what the network sees at once. It is kept without its overlap, in half precision: a position in it is an
offset from the pixel, which is small, so that it stays exact to some hundredths of a pixel. The tiles that were used
longest ago go first.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.inference.embedder import Embedder
from instseg.inference.image_tiles import ImageTiles, TilePlan
from instseg.inference.options import PredictOptions
from instseg.io.source import ImageReader
from instseg.tiling.grid import Box, Tile, TileIndex
from instseg.tiling.sizes import plan_tiles

BUDGET = 2**30
"""Bytes that tiles may take. An image of 4096 x 4096 pixels with 8 dimensions takes 402 MB of it."""

# Height and width of what the network sees at once, in its own pixels. A click waits for one such tile, a second or so
# on two cores, and overlaps make the work for large images a third larger.
_SIDE = 1024
_LEAST_SIDE = 256
# Images whose pixels are kept as the network takes them: the one in work, the next, and one that is being segmented.
_PREPARED = 3
# Values beyond do not fit into half precision, and are kept as they are.
_LARGEST_HALF = 6e4

Key = tuple[int, TileIndex]
"""The index of an image, and of a tile in its grid."""


class EmbeddingTiles:
    """What one model says of images.

    `compute` is for one thread; all else may be called by any.

    Parameters
    ----------
    embedder : Embedder
    open_image : callable
        Takes the index of an image and opens it.
    options : PredictOptions
        How images are seen: channels and diameter.
    budget : int
        Bytes that tiles may take.

    Attributes
    ----------
    embedder : Embedder
    """

    def __init__(
        self,
        embedder: Embedder,
        open_image: Callable[[int], ImageReader],
        options: PredictOptions,
        budget: int = BUDGET,
    ) -> None:
        self.embedder = embedder
        self._open, self._options, self._budget = open_image, options, budget
        self._lock = threading.Lock()
        self._plans: dict[int, TilePlan] = {}
        self._prepared: OrderedDict[int, ImageTiles] = OrderedDict()
        self._tiles: OrderedDict[Key, _Packed] = OrderedDict()
        self._bytes = 0
        self._kept: frozenset[Key] = frozenset()

    def plan(self, image: int) -> TilePlan:
        """Return how an image is cut and seen; the first time it is looked at, for which the network may take seconds.

        Raises
        ------
        UsageError, InstsegError
            If the image cannot be read, or has other channels than the model takes.
        """
        plan = self._plans.get(image)
        if plan is None:
            plan = self._plans[image] = self._with_small_tiles(self._prepare(image).plan())
        return plan

    def known_plan(self, image: int) -> TilePlan | None:
        """Return the plan of an image if it has been looked at."""
        return self._plans.get(image)

    def compute(self, image: int, tile: Tile, *, keep: bool = True) -> Embeddings:
        """Return the embeddings of a tile's extent, with positions from its corner; computed where they are not kept.

        Parameters
        ----------
        image : int
        tile : Tile
            Of the image's plan.
        keep : bool
            Whether to keep them.

        Raises
        ------
        UsageError, InstsegError
            As `plan` does.
        """
        embeddings = self._prepare(image).embed(self.plan(image), tile)
        if keep:
            self._put((image, tile.index), _pack(embeddings, tile, self.embedder.objective.positions))
        return embeddings

    def missing(self, image: int, box: Box | None = None) -> list[Tile] | None:
        """Return the tiles of an image, or under a part of it, that are not kept; None before it has been looked at."""
        plan = self._plans.get(image)
        if plan is None:
            return None
        tiles = plan.grid if box is None else tiles_under(plan, box)
        with self._lock:
            return [tile for tile in tiles if (image, tile.index) not in self._tiles]

    def share(self, image: int) -> float:
        """Return which share of an image's tiles is kept."""
        missing, plan = self.missing(image), self._plans.get(image)
        return 0.0 if missing is None or plan is None else 1 - len(missing) / len(plan.grid)

    def fits(self, image: int, box: Box | None = None) -> bool:
        """Return whether the tiles under a part of an image fit into half of the memory, so that others fit beside."""
        plan = self._plans.get(image)
        if plan is None:
            return False
        tiles = plan.grid if box is None else tiles_under(plan, box)
        pixels = sum(tile.core.shape[0] * tile.core.shape[1] for tile in tiles)
        settings = self.embedder.settings
        classes = settings.classes - 1 if settings.classes > 2 else 0
        # Foreground and seeds, and the bandwidth in full precision.
        return pixels * (2 * (settings.embeddings + classes + 2) + 4) <= self._budget / 2

    def touch(self, image: int) -> None:
        """Make the tiles of an image the last to go."""
        with self._lock:
            for key in [key for key in self._tiles if key[0] == image]:
                self._tiles.move_to_end(key)

    def keep(self, keys: Iterable[Key]) -> None:
        """Say which tiles somebody waits for: they stay, whatever comes."""
        self._kept = frozenset(keys)

    def window(self, image: int, box: Box) -> tuple[Embeddings, Box] | None:
        """Return the embeddings of a part of an image, with positions from its corner, and which part it is.

        Parameters
        ----------
        image : int
        box : Box
            What reaches beyond the image is cut off.

        Returns
        -------
        tuple of Embeddings and Box, or None
            None where a tile of it is not kept.
        """
        plan = self._plans.get(image)
        if plan is None:
            return None
        box = box.intersection(plan.grid.box)
        tiles = list(tiles_under(plan, box))
        with self._lock:
            parts = [self._tiles.get((image, tile.index)) for tile in tiles]
            for tile, part in zip(tiles, parts, strict=True):
                if part is None:
                    return None
                self._tiles.move_to_end((image, tile.index))
        maps = _join(box, ((tile.core, part.maps) for tile, part in zip(tiles, parts, strict=True) if part is not None))
        if self.embedder.objective.positions:
            _add_positions(maps["embeddings"], 1)
        names = self.embedder.settings.class_names if "classes" in maps else ()
        calibration = plan.calibration
        return Embeddings(
            **maps, settings=plan.clustering, class_names=names, calibration=calibration, spacing=None
        ), box

    def _prepare(self, image: int) -> ImageTiles:
        prepared = self._prepared.get(image)
        if prepared is None:
            prepared = self._prepared[image] = ImageTiles(self.embedder, self._open(image), self._options)
        self._prepared.move_to_end(image)
        while len(self._prepared) > _PREPARED:
            self._prepared.popitem(last=False)
        return prepared

    def _with_small_tiles(self, plan: TilePlan) -> TilePlan:
        """Return a plan with tiles for which nobody waits long."""
        settings = self.embedder.settings
        seen = settings.scale * plan.magnification
        # In pixels of the image; where the network sees it smaller, the maps are what takes time and memory.
        side = int(np.clip(_SIDE / seen, _LEAST_SIDE, _SIDE))
        options = self._options.tiles
        automatic = plan_tiles(
            plan.grid.shape, settings, options, maps=self.embedder.objective.map_count, magnification=plan.magnification
        )
        least = 2 * max(automatic.overlap) + 1
        tiles = type(options)(tile=max(side, 2 * least), overlap=options.overlap, memory=options.memory)
        grid = plan_tiles(
            plan.grid.shape, settings, tiles, maps=self.embedder.objective.map_count, magnification=plan.magnification
        )
        return plan._replace(grid=grid)

    def _put(self, key: Key, packed: "_Packed") -> None:
        with self._lock:
            old = self._tiles.pop(key, None)
            self._bytes += packed.bytes - (0 if old is None else old.bytes)
            self._tiles[key] = packed
            for other in list(self._tiles):
                if self._bytes <= self._budget:
                    break
                if other != key and other not in self._kept:
                    self._bytes -= self._tiles.pop(other).bytes


class _Packed(NamedTuple):
    """The maps of a tile's core, without positions."""

    maps: dict[str, NDArray[Any]]

    @property
    def bytes(self) -> int:
        return sum(values.nbytes for values in self.maps.values())


def tiles_under(plan: TilePlan, box: Box) -> Iterator[Tile]:
    """Return the tiles whose cores have a pixel of a part of the image."""
    for tile in plan.grid:
        if 0 not in tile.core.intersection(box).shape:
            yield tile


def _pack(embeddings: Embeddings, tile: Tile, positions: bool) -> _Packed:
    core = tile.core.slices_in(tile.extent)
    maps: dict[str, NDArray[Any]] = {name: values[core] for name, values in embeddings.arrays().items()}
    if positions:
        maps["embeddings"] = maps["embeddings"].copy()
        _add_positions(maps["embeddings"], -1, (core[0].start, core[1].start))
    for name, values in maps.items():
        # Bandwidths may be tiny, and are one map of many.
        half = name != "bandwidth" and float(np.abs(values).max(initial=0)) <= _LARGEST_HALF
        maps[name] = values.astype(np.float16 if half else np.float32)
    return _Packed(maps)


def _join(box: Box, parts: Iterable[tuple[Box, dict[str, NDArray[Any]]]]) -> dict[str, NDArray[np.float32]]:
    """Return the maps of a box from those of the cores that cover it."""
    maps: dict[str, NDArray[np.float32]] = {}
    for core, values_by_name in parts:
        common = core.intersection(box)
        for name, values in values_by_name.items():
            if name not in maps:
                maps[name] = np.empty((*box.shape, *values.shape[2:]), np.float32)
            maps[name][common.slices_in(box)] = values[common.slices_in(core)]
    return maps


def _add_positions(vectors: NDArray[np.float32], sign: int, corner: tuple[int, int] = (0, 0)) -> None:
    """Add the position of each pixel, in pixels, to the first two dimensions of vectors (h, w, D), in place."""
    rows = np.arange(corner[0], corner[0] + vectors.shape[0], dtype=np.float32)
    columns = np.arange(corner[1], corner[1] + vectors.shape[1], dtype=np.float32)
    vectors[..., 0] += sign * rows[:, np.newaxis]
    vectors[..., 1] += sign * columns
