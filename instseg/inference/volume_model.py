"""The part of a model that takes volumes: volumes in, instances out."""

from collections.abc import Sequence
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.errors import check_parameter
from instseg.inference.embedder import Embedder
from instseg.inference.options import Diameter, PlanesFrom, PredictOptions, ProgressCallback, no_progress
from instseg.inference.segmentation import Segmentation
from instseg.inference.volume import embed_volume, segment_volume
from instseg.io.volumes import ArrayVolume, VolumeReader, open_volume
from instseg.preprocessing.level_choice import LevelChoice, Range
from instseg.settings import ClusterSettings, FilterSettings, TileSettings

VolumeLike = ArrayLike | str | PathLike[str] | VolumeReader
"""A volume as an array (Z, Y, X) or (Z, Y, X, C), as the path of a file or a folder of planes, or as a reader."""


class VolumeModel(Embedder):
    """A model that segments volumes, in three dimensions, whether it has learnt images or volumes."""

    def predict_volume(
        self,
        volume: VolumeLike,
        clustering: ClusterSettings | None = None,
        *,
        spacing: Sequence[float] | None = None,
        planes_from: PlanesFrom | None = None,
        time: int | None = None,
        diameter: Diameter = None,
        channels: str | None = None,
        levels: Range | None = None,
        percentiles: Range | None = None,
        ignore_zeros: bool = False,
        filters: FilterSettings | None = None,
        tiles: TileSettings | None = None,
    ) -> NDArray[np.int32]:
        """Segment one volume, and return its labels.

        A model of images sees the volume plane by plane. Along all three axes its embeddings become those of three
        dimensions, which are clustered as those of images are; along z alone, the objects in planes are joined.

        Parameters
        ----------
        volume : (Z, Y, X) or (Z, Y, X, C) of numbers, or path-like
            As it was read.
        clustering : ClusterSettings, optional
            Sizes in voxels. By default the model's settings, with those for images turned into those for volumes.
        spacing : (float, float, float), optional
            The size of a voxel along Z, Y and X in any unit, where it is not what the file says; an array has cubes by
            default.
        planes_from : {'z', 'zyx'}, optional
            Along which axes a model of images sees planes; by default as many lie across an object.
        time : int, optional
            Which time point to take, from 0, of a file that holds a volume for each.
        diameter : float or 'auto', optional
            Typical diameter of the objects in pixels along X, where it is not as in training.
        channels, levels, percentiles, ignore_zeros
            As `Model.predict` takes them.
        filters : FilterSettings, optional
            Which instances are left out.
        tiles : TileSettings, optional
            How large a part is seen at once; by default what fits into 1.5 GiB.

        Returns
        -------
        (Z, Y, X) int32
            0 is background, instances 1..N in raster order of their first voxel.

        Raises
        ------
        UsageError
            If the volume is none, its values or the spacing are out of range, or the choice of planes is none for this
            model.
        InstsegError
            If it cannot be read, or its channels are not those that the model takes.

        Examples
        --------
        >>> import instseg
        >>> from instseg.data.balls import draw_balls
        >>> from instseg.settings import BallSettings
        >>> small = BallSettings(depth=16, size=48, min_balls=3, max_balls=6)
        >>> volume, _ = draw_balls(np.random.default_rng(0), small)
        >>> labels = instseg.load("shapes").predict_volume(volume, spacing=(2, 1, 1))
        >>> labels.shape, labels.dtype
        ((16, 48, 48), dtype('int32'))
        """
        options = PredictOptions(
            diameter=diameter,
            channels=channels,
            level_choice=LevelChoice(levels=levels, percentiles=percentiles, ignore_zeros=ignore_zeros),
            clustering=clustering,
            filters=filters or FilterSettings(),
            tiles=tiles or TileSettings(),
            planes_from=planes_from,
        )
        return segment_volume(self, _volume_reader(volume, spacing, time), options).labels

    def segment_volume(
        self,
        volume: VolumeLike,
        clustering: ClusterSettings | None = None,
        *,
        spacing: Sequence[float] | None = None,
        planes_from: PlanesFrom | None = None,
        time: int | None = None,
        diameter: Diameter = None,
        channels: str | None = None,
        levels: Range | None = None,
        percentiles: Range | None = None,
        ignore_zeros: bool = False,
        filters: FilterSettings | None = None,
        tiles: TileSettings | None = None,
        return_embeddings: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> Segmentation:
        """Segment one volume, and return labels and a table of the instances.

        Parameters
        ----------
        volume, clustering, spacing, planes_from, time, diameter, channels, levels, percentiles, ignore_zeros, filters,
        tiles
            As `predict_volume` takes them; errors are the same.
        return_embeddings : bool
            Whether to keep the embeddings: 24 bytes for each voxel.
        progress : callable
            Takes how many steps of how many are done, and a text.

        Returns
        -------
        Segmentation
            With `labels`, `instances`, whose centroids and boxes are in voxels, and `embeddings`.
        """
        options = PredictOptions(
            diameter=diameter,
            channels=channels,
            level_choice=LevelChoice(levels=levels, percentiles=percentiles, ignore_zeros=ignore_zeros),
            clustering=clustering,
            filters=filters or FilterSettings(),
            tiles=tiles or TileSettings(),
            measure=True,
            return_embeddings=return_embeddings,
            planes_from=planes_from,
        )
        return segment_volume(self, _volume_reader(volume, spacing, time), options, progress)

    def embed_volume(
        self,
        volume: VolumeLike,
        *,
        spacing: Sequence[float] | None = None,
        time: int | None = None,
        diameter: Diameter = None,
        channels: str | None = None,
        levels: Range | None = None,
        percentiles: Range | None = None,
        ignore_zeros: bool = False,
    ) -> Embeddings:
        """Return the embeddings and maps (Z, Y, X) of one volume in one piece.

        Parameters and errors are those of `predict_volume`; a model of images sees planes along all three axes.
        """
        choice = LevelChoice(levels=levels, percentiles=percentiles, ignore_zeros=ignore_zeros)
        options = PredictOptions(diameter=diameter, channels=channels, level_choice=choice)
        return embed_volume(self, _volume_reader(volume, spacing, time), options)


def _volume_reader(volume: VolumeLike, spacing: Sequence[float] | None, time: int | None) -> VolumeReader:
    if isinstance(volume, (str, PathLike)):
        return open_volume(volume, spacing=spacing, time=time)
    check_parameter(time is None, "time", time, "none, as only a file holds volumes of several time points")
    if hasattr(volume, "streamed"):
        # A protocol cannot be tested for at run time, and nothing else has this attribute.
        check_parameter(
            spacing is None, "spacing", spacing, "none beside a reader, which has one; open it with this one"
        )
        return volume  # type: ignore[return-value]
    return ArrayVolume(volume, spacing=spacing)
