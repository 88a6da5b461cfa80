"""Volumes of any size to instances: blocks of a network of volumes, or planes of a network of images."""

import dataclasses
from collections.abc import Callable, Generator, Iterable
from contextlib import closing

from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError, UsageError
from instseg.inference.embedder import Embedder
from instseg.inference.failures import as_instseg_error
from instseg.inference.linked_planes import segment_linked
from instseg.inference.options import PlanesFrom, PredictOptions, ProgressCallback, check_planes_from, no_progress
from instseg.inference.plane_maps import PlaneMaps
from instseg.inference.prefetch import prefetch
from instseg.inference.segmentation import Assembler, Segmentation
from instseg.inference.volume_blocks import BlockSource
from instseg.io.volumes import VolumeReader, whole_volume
from instseg.tiling.grid import Tile

# With fewer planes across a typical object, or in the whole volume, planes along y and x show too little of it.
_LEAST_PLANES = 4
_SPOKEN = {"z": "z alone", "zyx": "z, y and x"}


def segment_volume(
    embedder: Embedder, volume: VolumeReader, options: PredictOptions, progress: ProgressCallback = no_progress
) -> Segmentation:
    """Segment one volume.

    Memory is that of a block, beside the volume and its labels unless these are streamed.

    Parameters
    ----------
    embedder : Embedder
        Of volumes, or of images: then planes are cut as `choose_planes` says, unless the options do.
    volume : VolumeReader
        It is closed in the end.
    options : PredictOptions
    progress : ProgressCallback
        Takes how many steps of how many are done.

    Raises
    ------
    UsageError, InstsegError
        If the volume's channels are not those that the model takes, the choice of planes is none for the model, the
        volume cannot be read, or in place of what nobody has foreseen.
    """
    with closing(volume):
        try:
            check_planes_from(options.planes_from)
            if embedder.settings.ndim == 2:
                return _segment_planes(embedder, volume, options, progress)
            return _segment_blocks(embedder, volume, options, progress)
        except InstsegError:
            raise
        except Exception as error:  # Whatever it is, it is this volume's.
            raise as_instseg_error(error) from error


def segment_volumes(
    embedder: Embedder,
    readers: Iterable[Callable[[], VolumeReader]],
    options: PredictOptions,
    progress: ProgressCallback = no_progress,
) -> Generator[Segmentation | InstsegError]:
    """Segment volume after volume, each of which is opened by a callable.

    Yields
    ------
    Segmentation, or InstsegError
        In their order; the error where one could not be read or segmented, whatever was raised then.
    """
    for read in readers:
        result: Segmentation | InstsegError
        try:
            result = segment_volume(embedder, read(), options, progress)
        except Exception as error:  # Whatever it is, it is this volume's.
            result = as_instseg_error(error)
        yield result
        # Nothing of it is to take memory while the next one is segmented.
        del result


def embed_volume(embedder: Embedder, volume: VolumeReader, options: PredictOptions) -> Embeddings:
    """Return the embeddings and maps of a volume in one piece; errors as `segment_volume`."""
    with closing(volume), closing(block_source(embedder, volume, options)) as source:
        source.prepare(no_progress)
        return source.embed(whole_volume(volume))


def block_source(embedder: Embedder, volume: VolumeReader, options: PredictOptions) -> BlockSource:
    """Return what gives the embeddings of the blocks of a volume.

    Raises
    ------
    UsageError
        If planes are chosen for a model of volumes.
    """
    if embedder.settings.ndim == 2:
        return PlaneMaps(embedder, volume, options)
    if options.planes_from is not None:
        raise UsageError("this is a model of volumes, which sees no planes; leave `planes_from` out")
    from instseg.inference.native_blocks import NativeBlocks

    return NativeBlocks(embedder, volume, options)


def choose_planes(embedder: Embedder, volume: VolumeReader, options: PredictOptions) -> tuple[PlanesFrom, str]:
    """Return along which axes a network of images is to see the planes of a volume, and why in a line.

    Along z alone where few planes lie across a typical object, or there are no more in all, as planes along y and x
    would then be made up by interpolation; and for models whose embeddings hold no positions.
    """
    settings, spacing = embedder.settings, volume.spacing
    if options.return_embeddings or not embedder.objective.positions:
        # Whatever the spacing: only the one gives what is asked for, and only the other is possible.
        planes_from: PlanesFrom = "zyx" if options.return_embeddings else "z"
        return planes_from, f"planes were taken along {_SPOKEN[planes_from]}"
    diameter = settings.diameter
    if isinstance(options.diameter, int | float):
        diameter /= settings.magnification(options.diameter)
    across = diameter / spacing[0]
    planes_from = "z" if min(across, volume.shape[0]) < _LEAST_PLANES else "zyx"
    shown = " : ".join(f"{size:.3g}" for size in spacing)
    why = f"{across:.2g} planes lie across a typical object at a spacing of {shown}"
    if across >= _LEAST_PLANES > volume.shape[0]:
        why = f"there are no more than {volume.shape[0]}"
    return planes_from, f"planes were taken along {_SPOKEN[planes_from]}, as {why}; `planes_from` chooses otherwise"


def _segment_planes(
    embedder: Embedder, volume: VolumeReader, options: PredictOptions, progress: ProgressCallback
) -> Segmentation:
    """Segment a volume by a network of images."""
    chosen: tuple[str, ...] = ()
    if options.planes_from is None:
        planes_from, why = choose_planes(embedder, volume, options)
        options, chosen = dataclasses.replace(options, planes_from=planes_from), (why,)
    segment = segment_linked if options.planes_from == "z" else _segment_blocks
    segmentation = segment(embedder, volume, options, progress)
    # The scores in volumes are others than those in the images that the model knows its own by.
    return dataclasses.replace(segmentation, notes=(*segmentation.notes, *chosen), unfamiliar=False)


def _segment_blocks(
    embedder: Embedder, volume: VolumeReader, options: PredictOptions, progress: ProgressCallback
) -> Segmentation:
    with closing(block_source(embedder, volume, options)) as source:
        total = source.stages + len(source.plan.grid)

        def stage(done: int, _: int, detail: str = "") -> None:
            progress(done, total, detail)

        source.prepare(stage)
        assembler = Assembler(source.plan, volume, options, source.positions)
        for tile, embeddings in prefetch(_embed_blocks(source)):
            assembler.add(tile, embeddings)
            # It is not to take memory while the next one is waited for.
            del embeddings
            progress(source.stages + assembler.added, total, "blocks")
        return dataclasses.replace(assembler.finish(), notes=source.notes)


def _embed_blocks(source: BlockSource) -> Generator[tuple[Tile, Embeddings]]:
    for tile in source.plan.grid:
        yield tile, source.embed(tile.extent)
