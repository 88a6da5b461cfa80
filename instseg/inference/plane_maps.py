"""Embeddings of three dimensions from a network of images: what it says of planes along all three axes, combined.

Seen plane by plane along one axis, a voxel gets two coordinates of its object's centre; along all three axes it gets
each coordinate twice, and the mean of the two is where the centre is. Foreground and seeds are what planes agree on.
"""

import dataclasses
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError
from instseg.inference.embedder import Embedder
from instseg.inference.options import PredictOptions, ProgressCallback
from instseg.inference.plane_network import PlaneBatch, PlaneNetwork, interpolated, plane_indices
from instseg.inference.prefetch import prefetch
from instseg.inference.volume_blocks import PreparedVolume, VolumePlan, plan_blocks, volume_clustering
from instseg.io.scratch import Scratch, require_room
from instseg.io.volumes import VolumeReader
from instseg.tiling.grid import Box

# Of planes along y and x so many are seen across a typical object, and interpolated between. In generated volumes of
# balls of 19 pixels, every plane, every second and every third one were equally good, and every fourth one less so.
_PLANES_OF_OBJECT = 8
# With fewer planes across a typical object depths are less certain than rows and columns: the poles of a ball, which
# end in steps, point short of its centre. They are shortened in that proportion, down to a half, so that they divide
# no object. AP at IoU 0.5 of generated volumes with all of the depth, and with this share of it: 0.89 and 0.98 with 6.4
# planes across a ball, 0.72 and 0.96 with 4.8, 0.65 and 0.94 with 3.2.
_CERTAIN_PLANES, _LEAST_DEPTH = 10.0, 0.5
# The values that are kept of each voxel for each axis: how far the centre is along rows and columns of the plane, in X
# pixels, foreground, seed, and the logarithm of the bandwidth. Then the classes.
_ROW, _COLUMN, _FOREGROUND, _SEED, _BANDWIDTH, _CLASSES = range(6)
# For the plane, row and column of a voxel's centre, which of the kept values of which two axes' planes they are.
_SEEN_BY = (((1, _ROW), (2, _ROW)), ((0, _ROW), (2, _COLUMN)), ((0, _COLUMN), (1, _COLUMN)))
# Seeds that three axes agree on need less of the averaging that single planes need against their noise. On generated
# volumes full of balls (AP at IoU 0.5): 0.99 and 0.95 with a window of 3, 0.97 and 0.90 with 7, that of the images.
_LARGEST_WINDOW = 3
# Maps of this share of the memory stay there.
_KEPT_SHARE = 0.25
# A block is combined so many planes at a time, which fit into the cache.
_SLAB = 8


class PlaneMaps:
    """The `BlockSource` of a volume seen along three axes by a network of images.

    Maps of planes are kept in memory where they fit into a quarter of what may be taken, else on the disc: 10 bytes a
    voxel and axis, less where planes are left out.

    Parameters
    ----------
    embedder : Embedder
        Whose embeddings begin with a position.
    volume : VolumeReader
    options : PredictOptions
    plan : VolumePlan, optional
        Of a volume that this one is a part of: its levels, magnification and clustering are taken.

    Attributes
    ----------
    plan : VolumePlan
    positions : bool
    steps : tuple of int
        Along each axis, every so many-th plane is seen.
    stages : int
        Batches of planes.
    notes : tuple of str
        What is to be said of the volume.

    Raises
    ------
    InstsegError
        If the model's embeddings have no positions, or as `PreparedVolume` does.
    """

    positions = True

    def __init__(
        self, embedder: Embedder, volume: VolumeReader, options: PredictOptions, plan: VolumePlan | None = None
    ) -> None:
        if not embedder.objective.positions:
            raise no_positions_error()
        self._embedder, self._options, self._streamed = embedder, options, volume.streamed
        self.notes = volume.notes
        self._volume = PreparedVolume(embedder, volume, options)
        shape, spacing = self._volume.shape, self._volume.spacing
        self.plan = self._plan() if plan is None else plan
        self._network = PlaneNetwork(embedder, self.plan.levels, self.plan.magnification, spacing, options)
        self.steps = tuple(self._step(axis) for axis in range(3))
        across = self._diameter / self.plan.spacing[0]
        self._depth_weight = min(1.0, max(across / _CERTAIN_PLANES, _LEAST_DEPTH))
        self._maps: list[Scratch] = []
        self.stages = sum(self._network.batch_count(shape, axis, self.steps[axis]) for axis in range(3))

    def _plan(self) -> VolumePlan:
        shape, spacing, options = self._volume.shape, self._volume.spacing, self._options
        levels, magnification = self._volume.levels_and_magnification()
        clustering = volume_clustering(self._embedder, options, magnification, spacing)
        if options.clustering is None and "seed_window" not in options.overrides:
            window = min(clustering.seed_window, _LARGEST_WINDOW)
            clustering = dataclasses.replace(clustering, seed_window=window)
        grid = plan_blocks(shape, spacing, self._embedder, options, magnification=magnification)
        return VolumePlan(levels, magnification, clustering, grid, spacing, self._embedder.calibration)

    def _step(self, axis: int) -> int:
        """Return that every so many-th plane along an axis is seen."""
        # Along z all planes are: they are those of the images that the network has learnt.
        return 1 if axis == 0 else max(1, math.floor(self._diameter / _PLANES_OF_OBJECT / self.plan.spacing[axis]))

    @property
    def _diameter(self) -> float:
        """The typical diameter of an object in columns."""
        return self._embedder.settings.diameter / self.plan.magnification

    def prepare(self, progress: ProgressCallback) -> None:
        """Have the network see all planes, and keep their maps; see `BlockSource`.

        Raises
        ------
        InstsegError
            If the volume cannot be read, or the disc has no room for the maps.
        """
        shape, channels = self._volume.shape, _CLASSES + self._class_count
        shapes = [_with_length(shape, axis, len(self._seen(axis))) for axis in range(3)]
        size = 2 * channels * sum(map(math.prod, shapes))
        folder = None if size <= _KEPT_SHARE * self._options.tiles.memory * 2**30 else self._scratch_folder
        self._maps = [Scratch(one, channels, np.float16, folder=folder) for one in shapes]
        copy: Scratch | None = None
        if self._streamed:
            # Planes along y and x would have to read the whole file again for each of them.
            sample = self._volume.read(Box(0, 0, 0, 1, 1, 1))
            copy = Scratch(shape, sample.shape[3], sample.dtype, folder=self._scratch_folder)
        on_disc = [*([] if folder is None else self._maps), *([] if copy is None else [copy])]
        if on_disc:
            require_room(self._scratch_folder, shape, sum(one.size for one in on_disc))
        done = 0
        for axis, name in enumerate("zyx"):
            voxels = _Copying(self._volume, copy) if axis == 0 and copy is not None else copy or self._volume
            batches = self._network.embed(voxels, axis, self.steps[axis])
            with self._maps[axis].planes(axis) as put:
                for batch in prefetch(batches):
                    put(self._kept(batch, axis))
                    done += 1
                    progress(done, self.stages, f"planes along {name}")
        if copy is not None:
            copy.close()

    def embed(self, box: Box) -> Embeddings:
        """Return the embeddings and maps of a block; see `BlockSource`."""
        shape, count = box.shape, self._class_count
        positions = np.empty((*shape, 3), np.float32)
        foreground, seeds, bandwidth = (np.empty(shape, np.float32) for _ in range(3))
        classes = np.empty((*shape, count), np.float32) if count else None
        for part, inside in _slabs(box):
            by_axis = [self._read(axis, part) for axis in range(3)]
            own = np.meshgrid(*self._coordinates(part, box), indexing="ij", sparse=True)
            for axis, seen in enumerate(_SEEN_BY):
                first, second = (by_axis[plane][..., value] for plane, value in seen)
                positions[inside][..., axis] = (first + second) / 2 + own[axis]
            foreground[inside] = sum(values[..., _FOREGROUND] for values in by_axis) / 3
            # The geometric mean: where one axis sees no centre, there is none.
            seeds[inside] = np.cbrt(math.prod(values[..., _SEED] for values in by_axis))
            bandwidth[inside] = np.exp(sum(values[..., _BANDWIDTH] for values in by_axis) / 3)
            if classes is not None:
                classes[inside] = sum(values[..., _CLASSES:] for values in by_axis) / 3
        # Depths from the first plane of the volume are shortened, so that those of all blocks go together.
        above, shortened = box.begin[0] * self.plan.spacing[0], self._depth_weight
        positions[..., 0] = positions[..., 0] * np.float32(shortened) + np.float32((shortened - 1) * above)
        if (counted := self._volume.counted(box)) is not None:
            foreground *= counted
        return Embeddings(
            embeddings=positions,
            foreground=foreground,
            seeds=seeds,
            bandwidth=bandwidth,
            classes=classes,
            class_names=self._embedder.settings.class_names if count else (),
            settings=self.plan.clustering,
            calibration=self.plan.calibration,
            spacing=self.plan.spacing,
        )

    def _coordinates(self, part: Box, box: Box) -> list[NDArray[np.float32]]:
        """Return the coordinates of a part's voxels from the first voxel of a box, in X pixels."""
        bounds = zip(part.begin, part.end, box.begin, self.plan.spacing, strict=True)
        return [
            np.arange(begin - first, end - first, dtype=np.float32) * np.float32(step)
            for begin, end, first, step in bounds
        ]

    def close(self) -> None:
        """Let go of the maps."""
        for maps in self._maps:
            maps.close()
        self._maps = []

    @property
    def _class_count(self) -> int:
        classes = self._embedder.settings.classes
        return classes - 1 if classes > 2 else 0

    def _seen(self, axis: int) -> NDArray[np.intp]:
        return plane_indices(self._volume.shape[axis], self.steps[axis])

    @property
    def _scratch_folder(self) -> Path:
        return self._options.workspace or Path(tempfile.gettempdir())

    def _kept(self, batch: PlaneBatch, axis: int) -> NDArray[np.float16]:
        """Return what is kept of the maps of planes: (N, H, W, K)."""
        maps = batch.maps
        kept = np.empty((*maps["foreground"].shape, _CLASSES + self._class_count), np.float16)
        steps = [step for number, step in enumerate(self.plan.spacing) if number != axis]
        rows, columns = (np.arange(length, dtype=np.float32) for length in kept.shape[1:3])
        kept[..., _ROW] = maps["embeddings"][..., 0] - rows[:, None] * np.float32(steps[0])
        kept[..., _COLUMN] = maps["embeddings"][..., 1] - columns * np.float32(steps[1])
        kept[..., _FOREGROUND] = maps["foreground"]
        kept[..., _SEED] = maps["seeds"]
        kept[..., _BANDWIDTH] = np.log(maps["bandwidth"])
        if self._class_count:
            kept[..., _CLASSES:] = maps["classes"]
        return kept

    def _read(self, axis: int, box: Box) -> NDArray[np.float32]:
        """Return what planes along an axis say of the voxels in a box: (z, y, x, K)."""
        if self.steps[axis] == 1:
            return self._maps[axis].read(box).astype(np.float32)
        seen = self._seen(axis)
        places = np.interp(np.arange(box.begin[axis], box.end[axis]), seen, np.arange(len(seen)))
        first, last = math.floor(places[0]), math.ceil(places[-1])
        values = self._maps[axis].read(box.with_bounds(axis, first, last + 1))
        return interpolated(values, axis, places - first)


class _Copying:
    """A volume of which what is read along z is kept in scratch, too."""

    def __init__(self, volume: PreparedVolume, copy: Scratch) -> None:
        self.shape, self._volume, self._copy = volume.shape, volume, copy

    def read(self, box: Box) -> NDArray[np.generic]:
        part = self._volume.read(box)
        self._copy.write(box, part)
        return part


def no_positions_error() -> InstsegError:
    """Return the error for models whose planes along three axes say nothing together."""
    return InstsegError(
        "the embeddings of this model hold no positions, so that planes along three axes cannot be combined; give "
        "`planes_from='z'`, or train a model with the overlap loss"
    )


def _with_length(shape: tuple[int, int, int], axis: int, length: int) -> tuple[int, int, int]:
    depth, height, width = (length if number == axis else side for number, side in enumerate(shape))
    return depth, height, width


def _slabs(box: Box) -> Iterator[tuple[Box, slice]]:
    """Return parts of a box, a few planes at a time, and where they lie in it."""
    first, last = box.begin[0], box.end[0]
    for begin in range(first, last, _SLAB):
        end = min(begin + _SLAB, last)
        yield box.with_bounds(0, begin, end), slice(begin - first, end - first)
