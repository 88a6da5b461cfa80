"""Images of any size to instances: tile after tile, the network and the clustering side by side."""

import dataclasses
import math
import tempfile
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from instseg.cluster import cluster
from instseg.embeddings import Embeddings
from instseg.errors import InstsegError
from instseg.images import BAND
from instseg.instances import Instances, describe, joined
from instseg.normalisation import percentiles
from instseg.settings import ClusterSettings, ModelSettings, TileSettings
from instseg.sources import Source, sampled_levels
from instseg.tiles import Box, Grid, Stitcher, Tile

if TYPE_CHECKING:
    from instseg.predict import Diameter, Model

_Item = TypeVar("_Item")
Told = Callable[[int, int], None]

Readable = NDArray[np.generic] | Source
"""An image in memory, (H, W) or (H, W, C), or one that is read part by part."""

# In the network's pixels, what an object's outline notices of the image beyond a tile, and the share of the diameter of
# a large object (nineteen of twenty are smaller) that may lie beyond a seam. With these, 715 of 715 nuclei in images
# cut into 159 tiles had an IoU of 0.99 and more with those of the whole image; with 64 pixels in all 714 of them, with
# 32 0.958: `tests/benchmarks/seams.py`.
_REACH = 48
_OBJECTS = 0.5
# TensorFlow, and what is kept of files that are read part by part, in GiB.
_BASE = 1.0
# Height and width of the part of an image in a file from which the size of its objects is found out, in pixels.
_TRIED = 4096


@dataclass(frozen=True, kw_only=True)
class How:
    """How images are segmented.

    Attributes
    ----------
    tta, diameter, channels
        As `Model.predict` takes them.
    clustering : ClusterSettings or None
        By default the model's, for objects of the image's size.
    changes : mapping of str to value
        Clustering settings that are others than these.
    tiles : TileSettings
        What is looked at at once.
    described, mapped : bool
        Whether to measure the instances, and to keep the embeddings and maps of the whole image.
    workspace : Path or None
        Where labels of images that are read part by part are kept until they are complete; None keeps all in memory.
    """

    tta: bool = False
    diameter: "Diameter" = None
    channels: str | None = None
    clustering: ClusterSettings | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    tiles: TileSettings = field(default_factory=TileSettings)
    described: bool = False
    mapped: bool = False
    workspace: Path | None = None


class StoredLabels:
    """Labels in a file that goes with this object.

    Attributes
    ----------
    shape : tuple of int
        Height and width.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, int], label_of: NDArray[np.int32]) -> None:
        self._file, self.shape, self._label_of = file, shape, label_of
        weakref.finalize(self, file.close)

    def bands(self, rows: int) -> Iterator[NDArray[np.int32]]:
        """Return the labels from the top, so many rows at a time."""
        self._file.seek(0)
        for top in range(0, self.shape[0], rows):
            height = min(rows, self.shape[0] - top)
            data = self._file.read(height * self.shape[1] * 4)
            yield self._label_of[np.frombuffer(data, np.int32)].reshape(height, self.shape[1])


class Segmented(NamedTuple):
    """What was found in an image.

    Attributes
    ----------
    labels : (H, W) int32 or StoredLabels
        0 is background, instances 1..N in raster order of their first pixel.
    instances : Instances or None
        Where asked for. Of an instance that crosses a seam, the score is the mean over its pixels, too.
    maps : Embeddings or None
        What was clustered, where asked for.
    image : array or Source
        As it was read.
    magnification : float
        How many times larger the network has seen it, beside the scale of the training.
    """

    labels: NDArray[np.int32] | StoredLabels
    instances: Instances | None
    maps: Embeddings | None
    image: Readable
    magnification: float

    @property
    def array(self) -> NDArray[np.int32]:
        """The labels (H, W) int32 in memory."""
        return np.concatenate(list(self.bands(BAND))) if isinstance(self.labels, StoredLabels) else self.labels

    def bands(self, rows: int) -> Iterator[NDArray[np.int32]]:
        """Return the labels from the top, so many rows at a time."""
        if isinstance(self.labels, StoredLabels):
            yield from self.labels.bands(rows)
        else:
            yield from (self.labels[top : top + rows] for top in range(0, len(self.labels), rows))


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
    model: "Model", images: Iterable[Callable[[], Readable]], how: How, told: Told = lambda done, total: None
) -> Iterator[Segmented | InstsegError]:
    """Segment image after image; while one is clustered and made use of, the network is at the next.

    Parameters
    ----------
    model : Model
    images : iterable of callables
        Each reads an image, or opens one that is read part by part (and closed in the end), in a thread of its own.
    how : How
    told : callable
        Is told how many tiles of how many of an image are done.

    Yields
    ------
    Segmented, or InstsegError
        In the images' order; the error where one could not be read or segmented.
    """
    begun: _Begun | None = None
    given_up = -1
    for event in _ahead(_parts(model, images, how)):
        # An image that was given up has had its error.
        if event.number == given_up:
            continue
        if isinstance(event, _Failure):
            begun = None
            yield event.error
            continue
        try:
            if begun is None:
                begun = _Begun(event, how, positions=model.settings.loss == "overlap")
            begun.add(event)
        except InstsegError as error:
            begun, given_up = None, event.number
            yield error
            continue
        told(begun.added, len(event.layout.grid))
        if begun.complete:
            found, begun = begun.finish(event.image), None
            # Nothing of this image is to take memory while the next is looked at.
            del event
            yield found


class _Failure(NamedTuple):
    """Why an image cannot be segmented."""

    number: int
    error: InstsegError


class Layout(NamedTuple):
    """How an image is looked at.

    Attributes
    ----------
    levels : tuple of (C,) float32
        The values that become 0 and 1.
    magnification : float
        How many times larger the network sees the image, beside the scale of the training.
    clustering : ClusterSettings
    grid : Grid
        Its tiles.
    """

    levels: tuple[NDArray[np.float32], NDArray[np.float32]]
    magnification: float
    clustering: ClusterSettings
    grid: Grid


class Looking:
    """A model that looks at an image, tile by tile.

    Parameters
    ----------
    model : Model
    image : array or Source
    how : How

    Raises
    ------
    UsageError, InstsegError
        As `Model.prepared` does, or if the image cannot be read.
    """

    def __init__(self, model: "Model", image: Readable, how: How) -> None:
        self._model, self._how = model, how
        self._image = model.prepared(image, how.channels) if isinstance(image, np.ndarray) else image

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, C) of the image with the channels that the network takes."""
        if isinstance(self._image, np.ndarray):
            return self._image[box.top : box.bottom, box.left : box.right]
        return self._model.prepared(self._image.read(box), self._how.channels)

    def layout(self) -> Layout:
        """Say how the image is looked at.

        Raises
        ------
        InstsegError
            If the overlap leaves nothing of a tile, or the image cannot be read.
        """
        model, how = self._model, self._how
        height, width = self._image.shape[:2]
        if isinstance(self._image, np.ndarray):
            levels, tried = percentiles(self._image), self._image
        else:
            levels = sampled_levels((height, width), self.read)
            tried = self.read(_middle(height, width))
        magnification = model.magnification(tried, levels, how.diameter)
        settings = how.clustering or model.clustering.magnified(1 / magnification)
        settings = dataclasses.replace(settings, **how.changes)
        return Layout(
            levels, magnification, settings, tiles_for((height, width), model.settings, how.tiles, magnification)
        )

    def embed(self, layout: Layout, tile: Tile) -> Embeddings:
        """Return the maps of a tile."""
        part = self.read(tile.whole)
        return self._model.embed_part(part, layout.levels, tta=self._how.tta, magnification=layout.magnification)


class _Part(NamedTuple):
    """A tile of an image, looked at."""

    number: int
    layout: Layout
    tile: Tile
    maps: Embeddings
    image: Readable


def _parts(model: "Model", images: Iterable[Callable[[], Readable]], how: How) -> Generator[_Part | _Failure]:
    for number, read in enumerate(images):
        image: Readable | None = None
        try:
            image = read()
            looking = Looking(model, image, how)
            layout = looking.layout()
            for tile in layout.grid:
                yield _Part(number, layout, tile, looking.embed(layout, tile), image)
        except InstsegError as error:
            yield _Failure(number, error)
        finally:
            if image is not None and not isinstance(image, np.ndarray):
                image.close()


def _middle(height: int, width: int) -> Box:
    """Return the part of a large image that its objects' size is found out from."""
    top, left = max(0, (height - _TRIED) // 2), max(0, (width - _TRIED) // 2)
    return Box(top, left, min(top + _TRIED, height), min(left + _TRIED, width))


class _InMemory:
    """Keeps the numbers of an image's tiles."""

    def __init__(self, grid: Grid) -> None:
        self._box = grid.box
        self._numbers = np.zeros(grid.shape, np.int32)

    def put(self, box: Box, numbers: NDArray[np.int64]) -> None:
        self._numbers[box.within(self._box)] = numbers

    def finish(self, label_of: NDArray[np.int32]) -> NDArray[np.int32]:
        # In strips, as a translated copy of all would take the labels' memory once more.
        for strip in np.array_split(self._numbers, math.ceil(self._numbers.size / 2**22)):
            strip[:] = label_of[strip]
        return self._numbers


class _OnDisc:
    """Keeps the numbers of an image's tiles in a file, which takes them a row of tiles at a time."""

    def __init__(self, grid: Grid, folder: Path) -> None:
        self._shape = grid.shape
        self._row = np.zeros((0, grid.shape[1]), np.int32)
        with self._writing():
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        # Where it is not passed on: of an image that is given up.
        self._closing = weakref.finalize(self, self._file.close)

    def put(self, box: Box, numbers: NDArray[np.int64]) -> None:
        if box.left == 0:
            self._row = np.zeros((box.shape[0], self._shape[1]), np.int32)
        self._row[:, box.left : box.right] = numbers
        if box.right == self._shape[1]:
            with self._writing():
                self._file.write(self._row.tobytes())
                self._file.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InstsegError(
                f"cannot keep the labels of {self._shape[0]} x {self._shape[1]} pixels on the disc: "
                f"{error.strerror or error}; make room for {4 * math.prod(self._shape) / 2**30:.1f} GiB"
            ) from error

    def finish(self, label_of: NDArray[np.int32]) -> StoredLabels:
        self._closing.detach()
        return StoredLabels(self._file, self._shape, label_of)


class _Begun:
    """An image of which some tiles are clustered."""

    def __init__(self, first: _Part, how: How, positions: bool) -> None:
        grid = first.layout.grid
        self._grid, self._settings, self._how, self._positions = grid, first.layout.clustering, how, positions
        self._magnification = first.layout.magnification
        # What does not fit into memory as an image does not as labels.
        folder = None if isinstance(first.image, np.ndarray) else how.workspace
        self._describing = how.described or folder is not None
        self._stitcher = Stitcher(grid)
        self._store: _InMemory | _OnDisc | None = None
        if len(grid) > 1:
            self._store = _InMemory(grid) if folder is None else _OnDisc(grid, folder)
        self._labels = np.zeros((0, 0), np.int32)
        self._described: list[Instances] = []
        self._maps: dict[str, NDArray[np.float32]] = {}
        self._class_names: tuple[str, ...] = ()
        self.added = 0

    @property
    def complete(self) -> bool:
        return self.added == len(self._grid)

    def add(self, part: _Part) -> None:
        tile = part.tile
        labels = cluster(part.maps, self._settings)
        self.added += 1
        if self._how.mapped:
            self._keep(part)
        if self._store is None:
            self._labels = labels
            if self._describing:
                self._described.append(describe(labels, part.maps))
            return
        inside = tile.core.within(tile.whole)
        before = self._stitcher.count
        numbers = self._stitcher.add(tile, labels)
        self._store.put(tile.core, numbers)
        if self._describing:
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

    def finish(self, image: Readable) -> Segmented:
        labels: NDArray[np.int32] | StoredLabels = self._labels
        if self._store is not None:
            label_of = self._stitcher.finish(self._settings.min_size)
            labels = self._store.finish(label_of)
            self._described = [joined(self._described, label_of)] if self._describing else []
        instances = self._described[0] if self._describing else None
        maps = None
        if self._how.mapped:
            maps = Embeddings(**self._maps, settings=self._settings, class_names=self._class_names)
        return Segmented(labels, instances, maps, image, self._magnification)


def tiles_for(shape: tuple[int, int], model: ModelSettings, tiles: TileSettings, magnification: float = 1.0) -> Grid:
    """Return the tiles of an image.

    Parameters
    ----------
    shape : tuple of int
        Its height and width.
    model : ModelSettings
    tiles : TileSettings
    magnification : float
        How many times larger the network sees the image.

    Raises
    ------
    InstsegError
        If the overlap leaves nothing of a tile.
    """
    scale = model.scale * magnification
    multiple = fitting_multiple(scale, 2 ** len(model.widths))
    overlap = tiles.overlap
    if overlap is None:
        largest = (model.largest_diameter or model.diameter) / magnification
        overlap = math.ceil(_REACH / scale + _OBJECTS * largest)
    side = tiles.tile
    if side is None:
        pixels = max(tiles.memory - _BASE, 0) * 2**30 / _bytes_of_pixel(model, scale)
        side = max(math.floor(math.sqrt(pixels)), 2 * (overlap + multiple) + multiple)
    return Grid(*shape, side=side, overlap=overlap, multiple=multiple)


def _bytes_of_pixel(model: ModelSettings, scale: float) -> float:
    """Return about how much memory a pixel of a tile takes, at the moment at which it takes most.

    As measured on an image of 20,000 x 20,000 pixels: 420 bytes with the small network.
    """
    maps = model.embeddings + model.classes + (2 if model.loss == "overlap" else 0)
    # Two tiles' maps at once, and what is computed from them.
    return 3 * 4 * maps + scale**2 * (5 * model.widths[0] + 2.5 * 4 * maps)


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


def _ahead(items: Generator[_Item]) -> Iterator[_Item]:
    """Have the next item made in another thread while one is in use, and never more than that one."""
    made: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    room, ended = threading.Semaphore(2), threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not ended.is_set():
                made.put((True, next(items)))
        except BaseException as error:  # Whatever it is, the thread that asks is to have it.
            made.put((False, error))
        finally:
            items.close()

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
