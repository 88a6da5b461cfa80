"""Images of any size to instances: tile after tile, the network and the clustering side by side."""

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import NamedTuple

from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError
from instseg.inference.embedder import Embedder
from instseg.inference.failures import as_instseg_error
from instseg.inference.image_tiles import ImageTiles, TilePlan
from instseg.inference.memory import check_memory
from instseg.inference.options import PredictOptions, ProgressCallback, no_progress
from instseg.inference.prefetch import prefetch
from instseg.inference.segmentation import Assembler, Segmentation
from instseg.io.source import ImageReader
from instseg.tiling.grid import Box, Tile

# So many images at a time are opened and shown to the network, and how many pixels they have at most.
_AT_ONCE = 2
_SMALL = 2**20


def segment(
    embedder: Embedder, image: ImageReader, options: PredictOptions, progress: ProgressCallback = no_progress
) -> Segmentation:
    """Segment one image.

    Time is that of the network over all tiles, overlaps counted as often as they are seen; memory is that of a tile and
    of the image with its labels. Instances do not depend on the tiles but for some pixels.

    Parameters
    ----------
    embedder : Embedder
    image : ImageReader
        It is closed in the end.
    options : PredictOptions
    progress : ProgressCallback
        Takes how many tiles of how many are done.

    Raises
    ------
    UsageError, InstsegError
        As `Embedder.prepare_image` does, if the overlap leaves nothing of a tile, or in place of what nobody has
        foreseen.
    """
    (result,) = segment_many(embedder, [lambda: image], options, progress)
    if isinstance(result, InstsegError):
        raise result
    return result


def segment_many(
    embedder: Embedder,
    readers: Iterable[Callable[[], ImageReader]],
    options: PredictOptions,
    progress: ProgressCallback = no_progress,
) -> Generator[Segmentation | InstsegError]:
    """Segment image after image; while one is clustered and made use of, the network is at the next ones.

    Memory is that of a tile and of an image with its labels; of small images three are there with their maps.

    Parameters
    ----------
    embedder : Embedder
    readers : iterable of callables
        Each opens an image, in a thread of its own and perhaps beside another one; the image is closed in the end.
    options : PredictOptions
    progress : ProgressCallback
        Takes how many tiles of how many of an image are done.

    Yields
    ------
    Segmentation, or InstsegError
        In the images' order; the error where one could not be read or segmented, whatever was raised then.

    Raises
    ------
    UsageError, InstsegError
        As `check_memory` does, before the first image is opened.
    """
    check_memory(options.tiles)
    assembler: Assembler | None = None
    failed = -1
    for event in prefetch(_embed_tiles(embedder, readers, options)):
        # Tiles of an image that has failed may follow.
        if event.number == failed:
            continue
        if isinstance(event, _Failure):
            assembler = None
            yield event.error
            continue
        try:
            if assembler is None:
                assembler = Assembler(event.plan, event.image, options, embedder.objective.positions)
            assembler.add(event.tile, event.embeddings, event.box)
            segmentation = assembler.finish() if assembler.complete else None
        except Exception as error:  # Whatever it is, it is this image's.
            assembler, failed = None, event.number
            yield as_instseg_error(error)
            continue
        progress(assembler.added, len(event.plan.grid), "")
        if segmentation is not None:
            assembler = None
            # Nothing of this image is to take memory while the next one is embedded.
            del event
            yield segmentation
            del segmentation


class _Failure(NamedTuple):
    """Why an image cannot be segmented."""

    number: int
    error: InstsegError


class _EmbeddedTile(NamedTuple):
    number: int
    plan: TilePlan
    tile: Tile
    box: Box
    embeddings: Embeddings
    image: ImageReader


_Events = Iterator[_EmbeddedTile | _Failure]


def _embed_tiles(
    embedder: Embedder, readers: Iterable[Callable[[], ImageReader]], options: PredictOptions
) -> Generator[_EmbeddedTile | _Failure]:
    """Open and embed image after image, small ones two at a time.

    The network's threads wait for each other now and then, and while a file is read, only one is busy: another image
    fills these gaps.
    """
    begun: deque[_Image] = deque()
    numbered, error = enumerate(readers), None
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="network") as pool:
        try:
            while error is None:
                try:
                    number, read = next(numbered)
                except Exception as raised:  # Also that there are no more. What has begun is finished first.
                    error = raised
                else:
                    image = _Image(embedder, options, number, read)
                    image.events = pool.submit(image.begin, begun[-1] if begun else None)
                    begun.append(image)
                while len(begun) >= (_AT_ONCE if error is None else 1):
                    yield from begun.popleft().finish()
            if not isinstance(error, StopIteration):
                raise error
        finally:
            # Nobody wants what has begun any more.
            for image in begun:
                image.close()


class _Image:
    """An image that is opened and, if it is small, embedded in a thread of its own; else where its tiles are wanted."""

    events: "Future[_Events]"

    def __init__(
        self, embedder: Embedder, options: PredictOptions, number: int, read: Callable[[], ImageReader]
    ) -> None:
        self._embedder, self._options, self._number, self._read = embedder, options, number, read
        self._reader: ImageReader | None = None
        # Whether there is memory for another image beside this one.
        self._leaves_room = threading.Event()

    def begin(self, before: "_Image | None") -> _Events:
        """Open the image, and embed it if it is small."""
        try:
            if before is not None:
                before._leaves_room.wait()
            reader = self._reader = self._read()
            tiles = ImageTiles(self._embedder, reader, self._options)
            if reader.streamed or math.prod(reader.shape[:2]) > _SMALL:
                return self._embedded(reader, tiles, None)
            self._leaves_room.set()
            plan = tiles.plan(skip_background=True)
            events = self._embedded(reader, tiles, plan)
            small = _AT_ONCE * math.prod(plan.grid.shape) < math.prod(plan.grid.side)
            return _drained(list(events)) if small else events
        except Exception as error:  # Whatever it is, it is this image's.
            self._leaves_room.set()
            return iter([_Failure(self._number, as_instseg_error(error))])

    def finish(self) -> Generator[_EmbeddedTile | _Failure]:
        """Return the tiles, and close the image."""
        try:
            yield from self.events.result()
        finally:
            self.close()

    def _embedded(self, reader: ImageReader, tiles: ImageTiles, plan: TilePlan | None) -> _Events:
        try:
            plan = plan or tiles.plan(skip_background=True)
            for tile in plan.grid:
                yield _EmbeddedTile(self._number, plan, tile, *tiles.embed_occupied(plan, tile), reader)
        except Exception as error:  # Whatever it is, it is this image's.
            yield _Failure(self._number, as_instseg_error(error))

    def close(self) -> None:
        """Close the file, from which nothing is needed any more, and let the next image begin."""
        self._leaves_room.set()
        if not self.events.cancel():
            wait([self.events])
        if self._reader is not None:
            with suppress(Exception):
                self._reader.close()


def _drained(events: list[_EmbeddedTile | _Failure]) -> _Events:
    """Return what a list holds, which keeps nothing of it."""
    while events:
        yield events.pop(0)
