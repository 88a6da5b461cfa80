"""The result for one image, and how it is put together from tiles."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.cluster import cluster
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.filters import complete_filters, count_doubtful, filter_instances
from instseg.clustering.instances import Instances, measure_instances, merge_instances
from instseg.inference.label_store import LabelsInMemory, LabelsOnDisk, LabelStore
from instseg.inference.options import PredictOptions
from instseg.settings import ClusterSettings
from instseg.tiling.grid import Box, Grid, Tile, TileIndex
from instseg.tiling.stitch import LabelMerger, TileInstances, match_instances, tile_bands, tile_instances

# So many pixels are counted at once.
_COUNTED = 2**22


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Segmentation:
    """The instances of an image or a volume.

    Attributes
    ----------
    store : LabelStore
        The labels, in memory or on the disc.
    instances : Instances or None
        A row for each instance: label, score, area, centroid, bounding box, class; None where it was not asked for.
    embeddings : Embeddings or None
        What was clustered, where asked for.
    image : ImageReader or VolumeReader
        The image as it was read.
    magnification : float
        How many times larger the network has seen it, beside the scale of the training.
    unfamiliar : bool
        Whether instances were measured, and their scores are far below those in images like the training's.
    doubtful : int
        How many instances the model's own least score has left out.
    notes : tuple of str
        What is to be said of how a volume was segmented.
    """

    store: LabelStore
    instances: Instances | None
    embeddings: Embeddings | None
    image: Any
    magnification: float
    unfamiliar: bool = False
    doubtful: int = 0
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> NDArray[np.int32]:
        """The labels (H, W), or (D, H, W) of a volume: 0 is background, instances 1..N by their first pixel."""
        return self.store.array()

    def strips(self, rows: int) -> Iterator[NDArray[np.int32]]:
        """Return labels from the top, (rows, W) or (planes, H, W) int32 at a time, without all of them in memory."""
        return self.store.strips(rows)

    def areas(self) -> NDArray[np.int64]:
        """Return the pixels or voxels (N,) of each instance."""
        if self.instances is not None:
            return self.instances.area
        counts = np.zeros(1, np.int64)
        # A count makes 8 bytes of each pixel.
        for strip in self.strips(max(1, _COUNTED // math.prod(self.store.shape[1:]))):
            of_strip = np.bincount(strip.ravel(), minlength=len(counts))
            of_strip[: len(counts)] += counts
            counts = of_strip
        return counts[1:]


class AssemblyPlan(Protocol):
    """How an image or a volume is cut and clustered: what the assembler has to know of it.

    Attributes
    ----------
    grid : Grid
        The tiles, along two axes or three.
    clustering : ClusterSettings
    calibration : ScoreCalibration or None
        What the scores of instances mean, once those of all tiles are joined.
    magnification : float
        How many times larger the network sees it, beside the scale of the training.
    """

    @property
    def grid(self) -> Grid: ...  # noqa: D102

    @property
    def clustering(self) -> ClusterSettings: ...  # noqa: D102

    @property
    def calibration(self) -> ScoreCalibration | None: ...  # noqa: D102

    @property
    def magnification(self) -> float: ...  # noqa: D102


class _Measured(NamedTuple):
    """What a segmentation says of the instances of an image: nothing where they are not measured."""

    instances: Instances | None = None
    unfamiliar: bool = False
    doubtful: int = 0


class Assembler:
    """Clusters the tiles of an image or a volume one after the other, and joins their instances.

    Parameters
    ----------
    plan : AssemblyPlan
    image : ImageReader or VolumeReader
    options : PredictOptions
    positions : bool
        Whether the first embedding dimensions, one for each axis, are a position, which depends on where a tile lies.
    """

    def __init__(self, plan: AssemblyPlan, image: Any, options: PredictOptions, positions: bool) -> None:
        self._plan, self._image, self._options, self._positions = plan, image, options, positions
        self._grid = plan.grid
        # Labels of an image that does not fit into memory do not fit either.
        folder = options.workspace if image.streamed and len(plan.grid) > 1 else None
        self._filters = complete_filters(options.filters, plan.calibration)
        self._measuring = options.measure or folder is not None or self._filters.active
        self._store: LabelStore
        self._store = LabelsInMemory(plan.grid) if folder is None else LabelsOnDisk(plan.grid, folder)
        self._merger = LabelMerger(plan.grid)
        self._records: dict[TileIndex, TileInstances] = {}
        # Bands that tiles share with tiles to come, by the indices of both.
        self._bands: dict[tuple[TileIndex, TileIndex], NDArray[np.integer] | None] = {}
        self._parts: list[tuple[TileIndex, Instances]] = []
        self._maps: dict[str, NDArray[np.float32]] = {}
        self._class_names: tuple[str, ...] = ()
        self._spacing: tuple[float, ...] | None = None
        self.added = 0

    @property
    def complete(self) -> bool:
        """Whether all tiles have been added."""
        return self.added == len(self._grid)

    def add(self, tile: Tile, embeddings: Embeddings, box: Box | None = None) -> None:
        """Take the embeddings of the next tile of the grid.

        Parameters
        ----------
        tile : Tile
        embeddings : Embeddings
        box : Box, optional
            The part of the tile's extent that they are of, where nothing is in the rest; by default all of it.

        Raises
        ------
        InstsegError
            If the labels cannot be stored.
        """
        box = box or tile.extent
        labels = cluster(embeddings, self._plan.clustering)
        self.added += 1
        if self._options.return_embeddings:
            self._keep_maps(tile, embeddings)
        if self._measuring:
            within = None if len(self._grid) == 1 else _common(box, tile.core).slices_in(box)
            part = measure_instances(labels, embeddings, within).translated(box.begin)
            self._parts.append((tile.index, part))
        if box != tile.extent:
            if len(self._grid) > 1 and not labels.any():
                self._join_nothing(tile)
                return
            inside, labels = labels, np.zeros(tile.extent.shape, np.int32)
            labels[box.slices_in(tile.extent)] = inside
        self._store.put(tile, labels[tile.core.slices_in(tile.extent)])
        if len(self._grid) > 1:
            self._join(tile, labels)

    def _join_nothing(self, tile: Tile) -> None:
        """Note that nothing is in a tile, without looking at its pixels."""
        none = np.zeros(0, np.int32), np.zeros(0, np.int64)
        record = self._records[tile.index] = TileInstances(0, *none, *none, none[1])
        self._merger.add(tile.index, record)
        for (_, step), other in self._grid.neighbours(tile).items():
            if step < 0:
                del self._bands[other.index, tile.index]
            else:
                self._bands[tile.index, other.index] = None

    def _join(self, tile: Tile, labels: NDArray[np.int32]) -> None:
        record = tile_instances(self._grid, tile, labels, self._plan.clustering.min_size)
        self._records[tile.index] = record
        self._merger.add(tile.index, record)
        bands, neighbours = tile_bands(self._grid, tile, labels), self._grid.neighbours(tile)
        pairs = {}
        for (axis, step), other in neighbours.items():
            if step < 0:
                if (before := self._bands.pop((other.index, tile.index))) is not None:
                    pairs[other.index] = match_instances(before, bands[axis, step])
            else:
                # Those of a whole layer of blocks are held, in as few bytes as their numbers need.
                self._bands[tile.index, other.index] = bands[axis, step].astype(np.min_scalar_type(record.largest))
        self._merger.match(tile.index, pairs)

    def _keep_maps(self, tile: Tile, embeddings: Embeddings) -> None:
        self._class_names, self._spacing = embeddings.class_names, embeddings.spacing
        for name, values in embeddings.arrays().items():
            if name not in self._maps:
                self._maps[name] = np.empty((*self._grid.shape, *values.shape[embeddings.ndim :]), np.float32)
            target = self._maps[name][tile.core.slices_in(self._grid.box)]
            target[...] = values[tile.core.slices_in(tile.extent)]
            if name == "embeddings" and self._positions:
                corner = np.multiply(tile.extent.begin, embeddings.spacing or 1)
                target[..., : len(corner)] += corner.astype(np.float32)

    def finish(self) -> Segmentation:
        """Return the result, once all tiles are there."""
        measured = self._finish_labels()
        embeddings = None
        if self._options.return_embeddings:
            embeddings = Embeddings(
                **self._maps,
                settings=self._plan.clustering,
                spacing=self._spacing,
                class_names=self._class_names,
                calibration=self._plan.calibration,
            )
        return Segmentation(
            store=self._store,
            embeddings=embeddings,
            image=self._image,
            magnification=self._plan.magnification,
            **measured._asdict(),
        )

    def _finish_labels(self) -> _Measured:
        """Give pixels their labels; return the instances, where they are measured, and what is to be said of them."""
        parts = [part for _, part in self._parts]
        lookups: dict[TileIndex, NDArray[np.int32]] = {}
        count = max((int(part.label.max(initial=0)) for part in parts), default=0)
        if len(self._grid) > 1:
            tables, count = self._merger.finish(self._plan.clustering.min_size)
            lookups = {index: tables[index].lookup(record) for index, record in self._records.items()}
            parts = [part.relabelled(lookups[index][part.label]) for index, part in self._parts]
            parts = [merge_instances(parts, np.arange(count + 1, dtype=np.int32))] if self._measuring else []
        measured = _Measured()
        if self._measuring:
            calibration = self._plan.calibration
            instances = parts[0].calibrated(calibration)
            # What is left out counts, too: it says how well the model knows the image.
            unfamiliar = calibration is not None and calibration.is_unfamiliar(instances.score)
            doubtful = count_doubtful(instances, self._options.filters, calibration)
            if self._filters.active:
                instances, label_of = filter_instances(instances, self._filters, self._grid.shape, count)
                lookups = {index: label_of[lookup] for index, lookup in lookups.items()} or {
                    (0,) * len(self._grid.shape): label_of
                }
            measured = _Measured(instances, unfamiliar, doubtful)
        if lookups:
            self._store.finish(lookups)
        return measured


def _common(box: Box, other: Box) -> Box:
    """Return what lies in both boxes; the first pixel's corner of the one where nothing does."""
    common = box.intersection(other)
    return Box(*box.begin, *box.begin) if 0 in common.shape else common
