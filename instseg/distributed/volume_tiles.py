"""A volume whose blocks workers embed, each on its own; what `instseg.inference.image_tiles` is for images."""

import math
from contextlib import closing
from typing import Any

from numpy.typing import NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.errors import UsageError
from instseg.inference.embedder import Embedder
from instseg.inference.options import PredictOptions, no_progress
from instseg.inference.plane_maps import PlaneMaps
from instseg.inference.volume import block_source, choose_planes
from instseg.inference.volume_blocks import VolumePlan
from instseg.io.volumes import VolumeReader
from instseg.tiling.grid import Box, Tile
from instseg.tiling.sizes import tile_alignment

# In the network's pixels, how far beyond a block the planes of it are seen, as tiles of images are.
_REACH = 48
# The network's stride in its own pixels.
_CELL = 16


class VolumeTiles:
    """A volume that a model embeds block by block.

    A model of volumes sees a block and its overlap. For a model of images, the planes of the block along three axes and
    what lies around them are seen once more for every block, as workers share no maps: with blocks of 256 voxels along
    each axis that is nearly three times the work of one process.

    Parameters
    ----------
    embedder : Embedder
    volume : VolumeReader
    options : PredictOptions

    Raises
    ------
    UsageError, InstsegError
        If planes are to be joined along z, or as `instseg.inference.volume.segment_volume` raises them.
    """

    def __init__(self, embedder: Embedder, volume: VolumeReader, options: PredictOptions) -> None:
        if embedder.settings.ndim == 2 and options.planes_from == "z":
            raise _linked_error()
        self._embedder, self._volume, self._options = embedder, volume, options
        self._source = block_source(embedder, volume, options)
        self._plane_steps = self._source.steps if isinstance(self._source, PlaneMaps) else (1, 1, 1)

    def plan(self) -> VolumePlan:
        """Return how the volume is cut, normalised and clustered.

        Raises
        ------
        UsageError
            If the volume is one whose planes would be joined along z.
        """
        plan, settings = self._source.plan, self._embedder.settings
        if settings.ndim == 2 and self._options.planes_from is None:
            planes, _ = choose_planes(self._embedder, self._volume, self._options)
            if planes == "z":
                raise _linked_error()
        return plan

    def embed(self, plan: VolumePlan, tile: Tile) -> Embeddings:
        """Return the embeddings and maps of a block's whole extent."""
        if self._embedder.settings.ndim == 3:
            self._source.plan = plan
            return self._source.embed(tile.extent)
        seen = self._around(plan, tile.extent)
        part = _VolumePart(self._volume, seen)
        with closing(PlaneMaps(self._embedder, part, self._options, plan)) as maps:
            maps.prepare(no_progress)
            return maps.embed(tile.extent.translated([-place for place in seen.begin]))

    def _around(self, plan: VolumePlan, box: Box) -> Box:
        """Return a box with all that changes what the network says of it.

        It begins where planes are seen, and cells of the network begin, in the whole volume, too.
        """
        scale = self._embedder.settings.scale * plan.magnification
        for axis, step in enumerate(plan.spacing):
            cell = math.lcm(tile_alignment(scale * step, _CELL), self._plane_steps[axis])
            voxels = math.ceil(_REACH / scale / step)
            begin = (box.begin[axis] - voxels) // cell * cell
            box = box.with_bounds(axis, begin, box.end[axis] + voxels)
        return box.intersection(plan.grid.box)


class _VolumePart:
    """A part of a volume as a `VolumeReader`, which is read at once."""

    streamed = False
    notes: tuple[str, ...] = ()

    def __init__(self, volume: VolumeReader, box: Box) -> None:
        self._values = volume.read(box)
        self.shape = self._values.shape
        self.geometry, self.spacing = volume.geometry, volume.spacing

    def read(self, box: Box) -> NDArray[Any]:
        """Return a view of a part."""
        part: NDArray[Any] = self._values[box.slices_in(Box.whole(self.shape[:3]))]
        return part

    def close(self) -> None:
        """Nothing is open."""


def _linked_error() -> UsageError:
    return UsageError(
        "planes along z are joined one after the other, which workers cannot share for one volume; give "
        "`planes_from='zyx'`, leave the workers out, or give them a folder of volumes"
    )
