"""Volumes of few or thin planes: each plane along z segmented as an image, and its instances joined to those before."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.filters import complete_filters, count_doubtful, filter_instances
from instseg.clustering.plane_linking import LinkedPlanes, PlaneLinker
from instseg.errors import UsageError
from instseg.inference.embedder import Embedder
from instseg.inference.label_store import LabelsInMemory, LabelsOnDisk, LabelStore
from instseg.inference.options import PredictOptions, ProgressCallback
from instseg.inference.plane_network import PlaneBatch, PlaneNetwork
from instseg.inference.prefetch import prefetch
from instseg.inference.segmentation import Segmentation
from instseg.inference.volume_blocks import PreparedVolume, volume_clustering
from instseg.io.volumes import VolumeReader
from instseg.settings import ClusterSettings
from instseg.tiling.grid import Box, Grid

# Sections at the poles of objects are small: those of this share of the smallest object in an image count.
_SECTION_SHARE = 0.3


class _PlaneSettings(NamedTuple):
    """How sections are found in a plane, and which objects of the volume remain."""

    planes: ClusterSettings
    volume: ClusterSettings


def segment_linked(
    embedder: Embedder, volume: VolumeReader, options: PredictOptions, progress: ProgressCallback
) -> Segmentation:
    """Segment the planes of a volume along z, and join their instances.

    Time is that of the network over all planes; memory is that of a few planes, and of the labels where the volume is
    in memory.

    Parameters
    ----------
    embedder : Embedder
    volume : VolumeReader
    options : PredictOptions
    progress : ProgressCallback
        Takes how many planes of how many are done.

    Raises
    ------
    UsageError, InstsegError
        As `PreparedVolume` does, if embeddings are wanted, or the volume or its labels do not fit.
    """
    if options.return_embeddings:
        raise UsageError(
            "planes along z alone give no embeddings of a volume; give `planes_from='zyx'`, or leave `embeddings` out"
        )
    prepared = PreparedVolume(embedder, volume, options)
    levels, magnification = prepared.levels_and_magnification()
    settings = _settings(embedder, options, magnification, prepared.spacing)
    network = PlaneNetwork(embedder, levels, magnification, prepared.spacing, options)
    shape = prepared.shape
    grid = Grid(shape, side=(1, *shape[1:]), overlap=0)
    folder = options.workspace if volume.streamed else None
    store: LabelStore = LabelsInMemory(grid) if folder is None else LabelsOnDisk(grid, folder)
    linker = PlaneLinker(positions=embedder.objective.positions, min_size=settings.volume.min_size)
    done = 0
    for batch in prefetch(network.embed(prepared, 0)):
        for index, maps in _planes(batch, embedder, prepared):
            for plane, numbers in linker.add(cluster(maps, settings.planes), maps):
                store.put(grid.tile(plane, 0, 0), numbers[None])
            done = index + 1
        progress(done, shape[0], "planes")
    for plane, numbers in linker.flush():
        store.put(grid.tile(plane, 0, 0), numbers[None])
    return _finish(linker.finish(), store, grid, embedder, volume, options, magnification)


def _finish(
    linked: LinkedPlanes,
    store: LabelStore,
    grid: Grid,
    embedder: Embedder,
    volume: VolumeReader,
    options: PredictOptions,
    magnification: float,
) -> Segmentation:
    label_of = linked.label_of
    instances = linked.instances.calibrated(embedder.calibration)
    doubtful = count_doubtful(instances, options.filters, embedder.calibration)
    filters = complete_filters(options.filters, embedder.calibration)
    if filters.active:
        count = int(label_of.max(initial=0))
        instances, kept = filter_instances(instances, filters, grid.shape, count)
        label_of = kept[label_of]
    store.finish({tile.index: label_of for tile in grid})
    return Segmentation(
        store=store,
        instances=instances,
        embeddings=None,
        image=volume,
        magnification=magnification,
        doubtful=doubtful,
        notes=volume.notes,
    )


def _settings(
    embedder: Embedder, options: PredictOptions, magnification: float, spacing: tuple[float, float, float]
) -> _PlaneSettings:
    of_volume = volume_clustering(embedder, options, magnification, spacing)
    smallest = embedder.clustering.rescaled(1 / magnification).min_size
    section = max(1, min(round(_SECTION_SHARE * smallest), of_volume.min_size))
    return _PlaneSettings(dataclasses.replace(of_volume, min_size=section), of_volume)


def _planes(batch: PlaneBatch, embedder: Embedder, volume: PreparedVolume) -> Iterator[tuple[int, Embeddings]]:
    names = embedder.settings.class_names if "classes" in batch.maps else ()
    for place, index in enumerate(batch.indices.tolist()):
        maps = {name: values[place] for name, values in batch.maps.items()}
        counted = volume.counted(Box.whole(volume.shape).with_bounds(0, index, index + 1))
        if counted is not None:
            maps["foreground"] = np.where(counted[0], maps["foreground"], np.float32(0))
        yield index, Embeddings(**maps, class_names=names, spacing=volume.spacing[1:])
