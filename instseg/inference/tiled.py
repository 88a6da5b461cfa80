"""Images of any size to instances: tile after tile, the network and the clustering side by side."""

from collections.abc import Callable, Generator, Iterable
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
    """Segment image after image; while one is clustered and made use of, the network is at the next.

    Parameters
    ----------
    embedder : Embedder
    readers : iterable of callables
        Each opens an image, in a thread of its own; the image is closed in the end.
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


def _embed_tiles(
    embedder: Embedder, readers: Iterable[Callable[[], ImageReader]], options: PredictOptions
) -> Generator[_EmbeddedTile | _Failure]:
    for number, read in enumerate(readers):
        image: ImageReader | None = None
        try:
            image = read()
            tiles = ImageTiles(embedder, image, options)
            plan = tiles.plan(skip_background=True)
            for tile in plan.grid:
                yield _EmbeddedTile(number, plan, tile, *tiles.embed_occupied(plan, tile), image)
        except Exception as error:  # Whatever it is, it is this image's.
            yield _Failure(number, as_instseg_error(error))
        finally:
            if image is not None:
                # A file that was read needs nothing any more.
                with suppress(Exception):
                    image.close()
