"""Labelled images in memory, and how they are read from a data folder."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from instseg.data.augment import crop_and_resize, smooth
from instseg.data.classes import ClassNames, ClassSource, InstanceClasses
from instseg.data.label_statistics import label_statistics
from instseg.data.survey import FolderSurvey
from instseg.errors import InstsegError
from instseg.io.container import shown_name
from instseg.io.folders import LABELS, Pair
from instseg.io.formats import read_header
from instseg.io.image_file import ImageFileError
from instseg.io.images import read_image
from instseg.io.label_images import to_instances
from instseg.io.pairs import read_pair_values
from instseg.io.stored_volume import read_volume_header
from instseg.io.volumes import read_volume
from instseg.preprocessing.channels import select_channels
from instseg.preprocessing.levels import image_levels
from instseg.settings import LevelsRule

# Images with more pixels, which take some GB with their labels and what is computed of them, are not read.
_MAX_PIXELS = 200_000_000


class Sample(NamedTuple):
    """A labelled image or volume in memory.

    Attributes
    ----------
    image : (H, W, C) or (Z, H, W, C) uint8, uint16 or float32
        The values of the file, not normalised.
    labels : (H, W) or (Z, H, W) int32
        0 is background, and pixels of `IGNORED` take no part.
    low, high : (C,) float32
        The values of each channel that normalisation maps to 0 and 1.
    classes : InstanceClasses or None
        The classes of the instances; None where there is only one.
    levels : {'robust', 'percentiles'}
        The rule that `low` and `high` were found by, for parts that are to have levels of their own.
    """

    image: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
    labels: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    classes: InstanceClasses | None = None
    levels: LevelsRule = "robust"

    @property
    def nbytes(self) -> int:
        """The memory that image and labels take, in bytes."""
        return int(self.image.nbytes + self.labels.nbytes)


Scale = float | Callable[[Sample], float]
"""How many times as high and wide samples are to be, or a function of a sample that returns it."""


def make_sample(image: NDArray[np.generic], labels: NDArray[np.int32], levels: LevelsRule = "robust") -> Sample:
    """Return an image, (H, W) or (H, W, C), with its labels (H, W) and its levels by a rule of `image_levels`.

    Volumes have an axis of planes before these.
    """
    image = image if image.ndim > labels.ndim else image[..., None]
    return Sample(image, labels, *image_levels(image, levels), levels=levels)  # type: ignore[arg-type]


def rescaled(sample: Sample, scale: Scale) -> Sample:
    """Return a sample at a scale, or at the one that is right for it."""
    factor = scale(sample) if callable(scale) else scale
    return sample if factor == 1 else rescale_sample(sample, factor)


def rescale_sample(sample: Sample, scale: float) -> Sample:
    """Return a sample so many times as high and wide, and as deep.

    Images are interpolated, and smoothed where they shrink; labels are those of the nearest pixel.
    """
    if sample.labels.ndim == 3:
        return _rescale_volume(sample, scale)
    height, width = (max(1, round(side * scale)) for side in sample.labels.shape)
    channels = [
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR))
        for channel in np.moveaxis(sample.image.astype(np.float32), 2, 0)
    ]
    labels = np.asarray(Image.fromarray(sample.labels).resize((width, height), Image.Resampling.NEAREST))
    return sample._replace(image=np.stack(channels, axis=-1), labels=labels)


def _rescale_volume(sample: Sample, scale: float) -> Sample:
    shape = tuple(max(1, round(side * scale)) for side in sample.labels.shape)
    image = sample.image.astype(np.float32)
    image = smooth(image, 1 / scale) if scale < 1 else image
    window = (0.0,) * sample.labels.ndim + (sample.labels.shape[-1],)
    image, labels = crop_and_resize(image, sample.labels, window, shape)
    return sample._replace(image=image, labels=labels)


@dataclass(frozen=True, slots=True)
class SampleReader:
    """Reads the pairs of a data folder, and of the one to validate on.

    Attributes
    ----------
    folder : Path
        The data folder.
    connected_components : bool
        Whether labels are binary masks, of which each connected component is an instance.
    channels : str or None
        The channels to take, as `instseg.preprocessing.channels.parse_channels` reads it; None stands for all.
    classes : ClassSource or None
        The classes of the instances in the folder.
    ignore_label : int or None
        Pixels of this value in a label image take no part.
    levels : {'robust', 'percentiles'}
        The rule of the images' levels: see `instseg.preprocessing.levels`.
    volumes : bool
        Whether images and labels are volumes.
    """

    folder: Path
    connected_components: bool
    channels: str | None
    classes: ClassSource | None = None
    ignore_label: int | None = None
    levels: LevelsRule = "robust"
    volumes: bool = False

    def read(self, pair: Pair, survey: FolderSurvey | None = None) -> Sample:
        """Read a pair, without classes, and have a survey take it.

        Raises
        ------
        InstsegError
            If a file cannot be read or is too large, the sizes differ, or the image lacks a channel.
        """
        image = self.read_image(pair.image)
        values = self.read_values(pair)
        labels = to_instances(pair.labels, values, connected_components=self.connected_components)
        if image.shape[:-1] != labels.shape:
            sizes = f"{_size(image.shape[:-1])} pixels and {pair.labels} is {_size(labels.shape)}"
            raise InstsegError(f"{pair.image} is {sizes}, expected equal sizes; export the labels at the image's size")
        if survey is not None:
            survey.inspect_image(pair.image, image)
            statistics = label_statistics(values, connected_components=self.connected_components)
            survey.inspect_labels(pair, statistics)
        return make_sample(image, labels, self.levels)

    def read_image(self, path: Path) -> NDArray[Any]:
        """Read an image (H, W, C) or (Z, H, W, C) of the channels that were chosen; errors as `read`."""
        _check_pixels(path, volume=self.volumes)
        image = read_volume(path) if self.volumes else read_image(path, planes_as_channels=self.channels is not None)
        if self.channels is None:
            return image
        try:
            return select_channels(image, self.channels)
        except InstsegError as error:
            raise InstsegError(f"{path}: {error}; choose others, or leave the image out") from error

    def read_values(self, pair: Pair) -> NDArray[np.int32]:
        """Read the values of a label image, of which `to_instances` makes instances; errors as `read`."""
        _check_pixels(pair.labels, volume=self.volumes)
        return read_pair_values(pair, ignore_label=self.ignore_label, volume=self.volumes)

    def class_names(
        self, pair: Pair, labels: NDArray[np.int32], survey: FolderSurvey | None = None
    ) -> ClassNames | None:
        """Return the class of each label of a pair; None without classes, and for pairs of another folder.

        Raises
        ------
        InstsegError
            If the classes of the pair are missing or cannot be read.
        """
        if self.classes is None or not self.is_in_folder(pair):
            return None
        if survey is None:
            return self.classes.names(pair, labels)
        return survey.inspect_classes(self.classes, pair, labels)

    def is_in_folder(self, pair: Pair) -> bool:
        """Return whether a pair belongs to the data folder, and not to the one to validate on."""
        # Labels in a Zarr group lie deeper than others.
        return self.folder / LABELS in pair.labels.parents


def _check_pixels(path: Path, *, volume: bool) -> None:
    if volume:
        shape = read_volume_header(path).shape
        if shape[0] == 1:
            what = f"it is one plane of {shape[1]} x {shape[2]} pixels, expected a volume, as the labels are volumes"
            raise ImageFileError(path, what, "put images and volumes into folders of their own, with labels like them")
        pixels = math.prod(shape)
    else:
        header = read_header(path)
        pixels = header.height * header.width
    if pixels > _MAX_PIXELS:
        limit = f"more than the {_MAX_PIXELS // 10**6} that are read at once for training"
        raise ImageFileError(path, f"it has {pixels // 10**6:,} megapixels, {limit}", "cut it into tiles")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)


def common_channels(samples: Mapping[Pair, Sample]) -> int:
    """Return the number of channels of all samples.

    Raises
    ------
    InstsegError
        If they differ.
    """
    by_channels: dict[int, list[Pair]] = {}
    for pair, sample in samples.items():
        by_channels.setdefault(sample.image.shape[-1], []).append(pair)
    if len(by_channels) > 1:
        counts = "; ".join(
            f"{len(pairs)} with {channels} (such as {shown_name(pairs[0].image)})"
            for channels, pairs in by_channels.items()
        )
        raise InstsegError(
            f"the images differ in channels: {counts}; convert them to all gray or all RGB, or give `channels='gray'`"
        )
    return next(iter(by_channels))
