"""Images of any size to instances: tile after tile, the network and the clustering side by side."""

import dataclasses
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.cluster import cluster
from instseg.embeddings import Embeddings
from instseg.errors import InstsegError
from instseg.instances import Instances, describe, joined
from instseg.normalisation import percentiles
from instseg.settings import ClusterSettings, ModelSettings, TileSettings
from instseg.tiles import Grid, Stitcher, Tile

if TYPE_CHECKING:
    from instseg.predict import Model

# In the network's pixels, what a pixel's output still notices of the image beside it: see `tests/test_segment.py`.
_REACH = 64
# Objects as large as nine of ten of the training's lie wholly within the overlap where they cross a seam.
_OBJECTS = 1.0


@dataclass(frozen=True, kw_only=True)
class How:
    """How images are segmented.

    Attributes
    ----------
    tta, diameter, channels
        As `Model.predict` takes them.
    clustering : ClusterSettings or None
        By default the model's, for objects of the diameter.
    tiles : TileSettings
        What is looked at at once.
    described, mapped : bool
        Whether to measure the instances, and to keep the embeddings and maps of the whole image.
    """

    tta: bool = False
    diameter: float | None = None
    channels: str | None = None
    clustering: ClusterSettings | None = None
    tiles: TileSettings = field(default_factory=TileSettings)
    described: bool = False
    mapped: bool = False


class Segmented(NamedTuple):
    """What was found in an image.

    Attributes
    ----------
    labels : (H, W) int32
        0 is background, instances 1..N in raster order of their first pixel.
    instances : Instances or None
        Where asked for. Of an instance that crosses a seam, the score is the mean over its pixels, too.
    maps : Embeddings or None
        What was clustered, where asked for.
    image : array
        As it was read.
    """

    labels: NDArray[np.int32]
    instances: Instances | None
    maps: Embeddings | None
    image: NDArray[np.generic]


def segment(model: "Model", image: NDArray[np.generic], how: How) -> Segmented:
    """Segment one image.

    Time is that of the network over all tiles, overlaps counted as often as they are seen; memory is that of a tile and
    of the image with its labels. Instances do not depend on the tiles but for some pixels.

    Parameters
    ----------
    model : Model
    image : (H, W) or (H, W, C) of numbers
        As `Model.predict` takes it.
    how : How

    Raises
    ------
    UsageError, InstsegError
        As `Model.predict` does, or if the overlap leaves nothing of a tile.
    """
    for found in segment_all(model, [lambda: image], how):
        if isinstance(found, InstsegError):
            raise found
        return found
    raise AssertionError("an image gives a result")


def segment_all(
    model: "Model", images: Iterable[Callable[[], NDArray[np.generic]]], how: How
) -> Iterator[Segmented | InstsegError]:
    """Segment image after image; while one is clustered and made use of, the network is at the next.

    Parameters
    ----------
    model : Model
    images : iterable of callables
        Each reads an image, in a thread of its own.
    how : How

    Yields
    ------
    Segmented, or InstsegError
        In the images' order; the error where one could not be read or segmented.
    """
    begun: _Begun | None = None
    for event in _ahead(_parts(model, images, how)):
        if isinstance(event, InstsegError):
            begun = None
            yield event
            continue
        if begun is None:
            settings = how.clustering or model.clustering_for(how.diameter)
            begun = _Begun(event.grid, settings, how, positions=model.settings.loss == "overlap")
        begun.add(event)
        if begun.complete:
            found, begun = begun.finish(event.image), None
            # Nothing of this image is to take memory while the next is looked at.
            del event
            yield found


class _Part(NamedTuple):
    """A tile of an image, looked at."""

    grid: Grid
    tile: Tile
    maps: Embeddings
    image: NDArray[np.generic]


def _parts(
    model: "Model", images: Iterable[Callable[[], NDArray[np.generic]]], how: How
) -> Iterator[_Part | InstsegError]:
    for read in images:
        try:
            original = read()
            image = model.prepared(original, how.channels)
            levels = percentiles(image)
            grid = tiles_for(image.shape[:2], model.settings, how)
            for tile in grid:
                part = image[tile.whole.within(grid.box)]
                maps = model.embed_part(part, levels, tta=how.tta, diameter=how.diameter)
                yield _Part(grid, tile, maps, original)
        except InstsegError as error:
            yield error


class _Begun:
    """An image of which some tiles are clustered."""

    def __init__(self, grid: Grid, settings: ClusterSettings, how: How, positions: bool) -> None:
        self._grid, self._settings, self._how, self._positions = grid, settings, how, positions
        self._stitcher = Stitcher(grid)
        self._numbers = np.zeros(grid.shape, np.int32)
        self._described: list[Instances] = []
        self._maps: dict[str, NDArray[np.float32]] = {}
        self._class_names: tuple[str, ...] = ()
        self._added = 0

    @property
    def complete(self) -> bool:
        return self._added == len(self._grid)

    def add(self, part: _Part) -> None:
        tile = part.tile
        labels = cluster(part.maps, self._settings)
        self._added += 1
        if self._how.mapped:
            self._keep(part)
        if len(self._grid) == 1:
            self._numbers = labels
            if self._how.described:
                self._described.append(describe(labels, part.maps))
            return
        inside = tile.core.within(tile.whole)
        before = self._stitcher.count
        numbers = self._stitcher.add(tile, labels)
        self._numbers[tile.core.within(self._grid.box)] = numbers
        if self._how.described:
            # Labels are numbered from the tile's first, and so are its numbers.
            found = describe(labels, part.maps, inside).moved(tile.whole.top, tile.whole.left)
            self._described.append(dataclasses.replace(found, id=found.id + before))

    def _keep(self, part: _Part) -> None:
        tile = part.tile
        self._class_names = part.maps.class_names
        for name, values in part.maps.arrays().items():
            if name not in self._maps:
                self._maps[name] = np.empty((*self._grid.shape, *values.shape[2:]), np.float32)
            target = self._maps[name][tile.core.within(self._grid.box)]
            target[...] = values[tile.core.within(tile.whole)]
            if name == "embeddings" and self._positions:
                target[..., :2] += np.array(tile.whole[:2], np.float32)

    def finish(self, image: NDArray[np.generic]) -> Segmented:
        if len(self._grid) > 1:
            label_of = self._stitcher.finish(self._settings.min_size)
            # In strips, as a translated copy of all would take the labels' memory once more.
            for strip in np.array_split(self._numbers, math.ceil(self._numbers.size / 2**22)):
                strip[:] = label_of[strip]
            self._described = [joined(self._described, label_of)] if self._how.described else []
        instances = self._described[0] if self._how.described else None
        maps = None
        if self._how.mapped:
            maps = Embeddings(**self._maps, settings=self._settings, class_names=self._class_names)
        return Segmented(self._numbers, instances, maps, image)


def tiles_for(shape: tuple[int, int], model: ModelSettings, how: How) -> Grid:
    """Return the tiles of an image.

    Parameters
    ----------
    shape : tuple of int
        Its height and width.
    model : ModelSettings
    how : How

    Raises
    ------
    InstsegError
        If the overlap leaves nothing of a tile.
    """
    magnification = 1.0 if how.diameter is None else model.magnification(how.diameter)
    scale = model.scale * magnification
    multiple = fitting_multiple(scale, 2 ** len(model.widths))
    overlap = how.tiles.overlap
    if overlap is None:
        largest = (model.largest_diameter or model.diameter) / magnification
        overlap = math.ceil(_REACH / scale + _OBJECTS * largest)
    side = how.tiles.tile
    if side is None:
        pixels = how.tiles.memory * 2**30 / _bytes_of_pixel(model, scale)
        side = max(math.floor(math.sqrt(pixels)), 2 * (overlap + multiple) + multiple)
    return Grid(*shape, side=side, overlap=overlap, multiple=multiple)


def _bytes_of_pixel(model: ModelSettings, scale: float) -> float:
    """Return about how much memory a pixel of a tile takes, at the moment at which it takes most."""
    maps = model.embeddings + model.classes + (2 if model.loss == "overlap" else 0)
    # Two tiles' maps at once, and what is computed from them.
    return 4 * maps * 4 + scale**2 * (6 * model.widths[0] + 3 * 4 * maps)


def fitting_multiple(scale: float, stride: int) -> int:
    """Return the least number of an image's pixels that is nearly a multiple of the network's stride at a scale.

    Tiles whose places are multiples of it are seen as they are within the whole image: their pixels are resampled at
    the same places, to a fiftieth of a pixel, and fall on the same cells of the network.

    Examples
    --------
    >>> fitting_multiple(1.0, 16), fitting_multiple(0.5, 16), fitting_multiple(2.0, 16)
    (16, 32, 8)
    """
    candidates = np.arange(1, 1 + math.ceil(64 * max(stride / scale, 1)))
    cells = candidates * (scale / stride)
    off = np.abs(cells - np.round(cells)) * stride
    off[np.round(cells) < 1] = np.inf
    return int(candidates[np.argmax(off <= max(0.02, off.min()))])


def _ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Have the next item made in another thread while one is in use, and never more than that one."""
    made: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    room, ended = threading.Semaphore(2), threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not ended.is_set():
                made.put((True, next(items)))
        except BaseException as error:  # Whatever it is, the thread that asks is to have it.
            made.put((False, error))

    thread = threading.Thread(target=work, name="network", daemon=True)
    thread.start()
    try:
        while True:
            fine, item = made.get()
            if not fine:
                if isinstance(item, StopIteration):
                    return
                raise item
            yield item
            del item
            room.release()
    finally:
        ended.set()
        room.release()
        thread.join()
