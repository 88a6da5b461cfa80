"""A trained model: images in, instances out."""

from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError, UsageError
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.loading import ReadModel, read_model
from instseg.inference.options import Diameter, PredictOptions, ProgressCallback, no_progress
from instseg.inference.segmentation import Segmentation
from instseg.inference.tiled import segment, segment_many
from instseg.inference.volume_model import VolumeModel
from instseg.io.source import ArrayReader, ImageReader, open_image, whole_box
from instseg.preprocessing.level_choice import LevelChoice, Range
from instseg.settings import ClusterSettings, FilterSettings, Precision, TileSettings

ImageLike = ArrayLike | str | PathLike[str] | ImageReader
"""An image as an array (H, W) or (H, W, C), as the path of a file, or as a reader of one."""


class Model(VolumeModel):
    """A trained model, as `instseg.load` returns it.

    Attributes
    ----------
    settings : ModelSettings
        What the network is.
    clustering : ClusterSettings
        How its embeddings are clustered unless a call says otherwise.
    calibration : ScoreCalibration or None
        What the scores of its instances mean; None where they are no probabilities.
    precision : {'float32', 'bfloat16'}
        What its convolutions compute in.
    notes : tuple of str
        What somebody should know of how its network is run.

    Examples
    --------
    >>> import instseg
    >>> from instseg.data.discs import draw_discs
    >>> image, _ = draw_discs(np.random.default_rng(0))
    >>> model = instseg.load("shapes")
    >>> labels = model.predict(image)
    >>> labels.shape, labels.dtype
    ((512, 512), dtype('int32'))
    """

    precision: Precision = "float32"
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, read: ReadModel) -> Self:
        """Return what was read as a model."""
        model = cls(read.network, read.settings, read.clustering, read.calibration)
        model.precision = read.precision
        model.notes = (read.network.note,) if read.network.note else ()
        return model

    def predict(
        self,
        image: ImageLike,
        clustering: ClusterSettings | None = None,
        *,
        tta: bool = False,
        diameter: Diameter = None,
        channels: str | None = None,
        levels: Range | None = None,
        percentiles: Range | None = None,
        ignore_zeros: bool = False,
        filters: FilterSettings | None = None,
    ) -> NDArray[np.int32]:
        """Segment one image, and return its labels.

        Parameters
        ----------
        image : (H, W) or (H, W, C) of numbers, or path-like
            As it was read, with the channels that the model takes, or some that
            `instseg.preprocessing.channels.match_channels` makes these of.
        clustering : ClusterSettings, optional
            Other settings than the model's.
        tta : bool
            Test-time augmentation: see `embed`.
        diameter : float or 'auto', optional
            Typical diameter of the image's objects in pixels, where it is not as in training: see `embed`.
        channels : str, optional
            The image's channels to take, as `instseg.preprocessing.channels.parse_channels` reads it.
        levels, percentiles, ignore_zeros
            Which values become 0 and 1, and which pixels count, as `LevelChoice` of
            `instseg.preprocessing.level_choice` has them; by default the model's rule finds the values.
        filters : FilterSettings, optional
            Which instances are left out.

        Returns
        -------
        (H, W) int32
            0 is background, instances 1..N in raster order of their first pixel.

        Raises
        ------
        UsageError
            If the image is not two-dimensional, is empty or holds NaN or infinite values, the diameter is absurd or
            the choice of channels is none.
        InstsegError
            If the image cannot be read, or its channels are not those that the model takes.
        """
        choice = LevelChoice(levels=levels, percentiles=percentiles, ignore_zeros=ignore_zeros)
        options = PredictOptions(
            tta=tta,
            diameter=diameter,
            channels=channels,
            level_choice=choice,
            clustering=clustering,
            filters=filters or FilterSettings(),
        )
        return segment(self, self._reader(image, channels), options).labels

    def segment(
        self,
        image: ImageLike,
        clustering: ClusterSettings | None = None,
        *,
        tta: bool = False,
        diameter: Diameter = None,
        channels: str | None = None,
        levels: Range | None = None,
        percentiles: Range | None = None,
        ignore_zeros: bool = False,
        filters: FilterSettings | None = None,
        tiles: TileSettings | None = None,
        return_embeddings: bool = True,
        progress: ProgressCallback = no_progress,
    ) -> Segmentation:
        """Segment one image, and return labels, a table of the instances, and the embeddings.

        Parameters
        ----------
        image, clustering, tta, diameter, channels, levels, percentiles, ignore_zeros, filters
            As `predict` takes them; errors are the same.
        tiles : TileSettings, optional
            How large a part the network sees at once. By default what fits into 1.5 GiB.
        return_embeddings : bool
            Whether to keep the embeddings: 4 bytes times their dimensions and maps (11 by default) for each pixel.
        progress : callable
            Takes how many tiles of how many are done, and a text.

        Returns
        -------
        Segmentation
            With `labels`, `instances` and `embeddings`.

        Examples
        --------
        >>> import instseg
        >>> from instseg.data.discs import draw_discs
        >>> image, _ = draw_discs(np.random.default_rng(0))
        >>> result = instseg.load("shapes").segment(image)
        >>> len(result.instances) == int(result.labels.max())
        True
        >>> sorted(result.instances.to_dict())[:3]
        ['area', 'bbox-0', 'bbox-1']
        """
        choice = LevelChoice(levels=levels, percentiles=percentiles, ignore_zeros=ignore_zeros)
        options = self._options(clustering, tta, diameter, channels, choice, filters, tiles, return_embeddings)
        return segment(self, self._reader(image, channels), options, progress)

    def segment_many(
        self,
        images: Iterable[ImageLike],
        clustering: ClusterSettings | None = None,
        *,
        tta: bool = False,
        diameter: Diameter = None,
        channels: str | None = None,
        levels: Range | None = None,
        percentiles: Range | None = None,
        ignore_zeros: bool = False,
        filters: FilterSettings | None = None,
        tiles: TileSettings | None = None,
        return_embeddings: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> Iterator[Segmentation]:
        """Segment image after image; while one is clustered and made use of, the network is at the next ones.

        Images are taken from the iterable one or two ahead, so that it may read or make them as it goes.

        Parameters
        ----------
        images : iterable
            Of what `segment` takes.
        clustering, tta, diameter, channels, levels, percentiles, ignore_zeros, filters, tiles,
        return_embeddings, progress
            As `segment` takes them.

        Yields
        ------
        Segmentation
            In the order of the images.

        Raises
        ------
        UsageError, InstsegError
            As `predict` does, at the image that cannot be segmented; those before it have been yielded.

        Examples
        --------
        >>> import instseg
        >>> from instseg.data.discs import draw_discs
        >>> images = (draw_discs(np.random.default_rng(seed))[0] for seed in range(2))
        >>> [result.labels.shape for result in instseg.load("shapes").segment_many(images)]
        [(512, 512), (512, 512)]
        """
        choice = LevelChoice(levels=levels, percentiles=percentiles, ignore_zeros=ignore_zeros)
        options = self._options(clustering, tta, diameter, channels, choice, filters, tiles, return_embeddings)
        readers = (lambda image=image: self._reader(image, channels) for image in images)
        for result in segment_many(self, readers, options, progress):
            if isinstance(result, InstsegError):
                raise result
            yield result

    def embed(
        self,
        image: ImageLike,
        *,
        tta: bool = False,
        diameter: Diameter = None,
        channels: str | None = None,
        levels: Range | None = None,
        percentiles: Range | None = None,
        ignore_zeros: bool = False,
    ) -> Embeddings:
        """Return the embeddings and maps of one image in one piece; parameters and errors are those of `predict`.

        With `tta` they are averages over the image's eight flips and quarter turns, turned back: a little better, at
        eight times the cost.

        With a `diameter` outside of what the training objects measured, the network sees the image magnified so that
        they fit. The maps are of the image's size all the same, and the clustering settings that come with them
        suit the objects in it. With 'auto' it is magnified so that the objects found are surest: see
        `instseg.inference.diameter.estimate_magnification`.
        """
        choice = LevelChoice(levels=levels, percentiles=percentiles, ignore_zeros=ignore_zeros)
        reader = self._reader(image, channels)
        try:
            pixels = ArrayReader(reader.read(whole_box(reader)))
        finally:
            reader.close()
        options = PredictOptions(tta=tta, diameter=diameter, channels=channels, level_choice=choice)
        return ImageTiles(self, pixels, options).embed_whole()

    def _reader(self, image: ImageLike, channels: str | None) -> ImageReader:
        if self.settings.ndim == 3:
            raise UsageError("this is a model of volumes; call predict_volume, segment_volume or embed_volume")
        if isinstance(image, (str, PathLike)):
            return open_image(image, planes_as_channels=self.takes_planes_as_channels(channels))
        # A protocol cannot be tested for at run time, and nothing else has this attribute.
        return image if hasattr(image, "streamed") else ArrayReader(image)  # type: ignore[return-value]

    def takes_planes_as_channels(self, channels: str | None) -> bool:
        """Return whether the planes of a stack are channels: where some are chosen, here or in training."""
        return channels is not None or self.settings.channel_choice is not None

    @staticmethod
    def _options(
        clustering: ClusterSettings | None,
        tta: bool,
        diameter: Diameter,
        channels: str | None,
        level_choice: LevelChoice,
        filters: FilterSettings | None,
        tiles: TileSettings | None,
        return_embeddings: bool,
    ) -> PredictOptions:
        return PredictOptions(
            tta=tta,
            diameter=diameter,
            channels=channels,
            level_choice=level_choice,
            clustering=clustering,
            filters=filters or FilterSettings(),
            tiles=tiles or TileSettings(),
            measure=True,
            return_embeddings=return_embeddings,
        )


def load(
    model: str | PathLike[str],
    *,
    precision: Precision | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> Model:
    """Open a model that `instseg train` wrote, or one in the package.

    Parameters
    ----------
    model : path-like or str
        The model directory, or the name of a model in the package. A directory is code as far as TensorFlow is
        concerned: open only what you trust.
    precision : {'float32', 'bfloat16'}, optional
        What its convolutions compute in; by default bfloat16 on CPUs that are made for it, where no GPU is. There it
        takes two thirds of the time, and labels differ in a few pixels of their borders.
    threads : int, optional
        Threads of TensorFlow, which all models of a process share. By default as many as there are cores.
    quiet : bool
        For a program that owns its process: keep what TensorFlow writes to stderr off the terminal, by an environment
        variable, and by redirecting file descriptor 2 where Python's TensorFlow has to be imported.

    Returns
    -------
    Model

    Raises
    ------
    InstsegError
        If there is no such directory, no model in it, or it is damaged.
    UsageError
        If this machine is not made for the precision, or TensorFlow already runs with another number of threads.
    """
    return Model.of(read_model(model, precision=precision, threads=threads, quiet=quiet))
