"""Labelled images in memory, and how they are read from a data folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from instseg.data.classes import ClassNames, ClassSource, InstanceClasses
from instseg.errors import InstsegError
from instseg.io.folders import Pair, read_pair
from instseg.preprocessing.channels import select_channels
from instseg.preprocessing.normalisation import percentiles


class Sample(NamedTuple):
    """A labelled image in memory.

    Attributes
    ----------
    image : (H, W, C) uint8, uint16 or float32
        The values of the file, not normalised.
    labels : (H, W) int32
        0 is background.
    low, high : (C,) float32
        The percentiles of each channel that normalisation maps to 0 and 1.
    classes : InstanceClasses or None
        The classes of the instances; None where there is only one.
    """

    image: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
    labels: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    classes: InstanceClasses | None = None

    @property
    def nbytes(self) -> int:
        """The memory that image and labels take, in bytes."""
        return int(self.image.nbytes + self.labels.nbytes)


def make_sample(image: NDArray[np.generic], labels: NDArray[np.int32]) -> Sample:
    """Return an image, (H, W) or (H, W, C), with its labels (H, W) and its percentiles."""
    image = image if image.ndim == 3 else image[..., None]
    return Sample(image, labels, *percentiles(image))  # type: ignore[arg-type]


def rescale_sample(sample: Sample, scale: float) -> Sample:
    """Return a sample so many times as high and wide.

    Images are interpolated, and smoothed where they shrink; labels are those of the nearest pixel.
    """
    height, width = (max(1, round(side * scale)) for side in sample.labels.shape)
    channels = [
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR))
        for channel in np.moveaxis(sample.image.astype(np.float32), 2, 0)
    ]
    labels = np.asarray(Image.fromarray(sample.labels).resize((width, height), Image.Resampling.NEAREST))
    return sample._replace(image=np.stack(channels, axis=-1), labels=labels)


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
    """

    folder: Path
    connected_components: bool
    channels: str | None
    classes: ClassSource | None

    def read(self, pair: Pair) -> Sample:
        """Read a pair, without classes.

        Raises
        ------
        InstsegError
            If a file cannot be read, the sizes differ, or the image lacks a channel.
        """
        image, labels = read_pair(
            pair, connected_components=self.connected_components, planes_as_channels=self.channels is not None
        )
        if self.channels is not None:
            try:
                image = select_channels(image, self.channels)
            except InstsegError as error:
                raise InstsegError(f"{pair.image}: {error}; choose others, or leave the image out") from error
        return make_sample(image, labels)

    def class_names(self, pair: Pair, labels: NDArray[np.int32]) -> ClassNames | None:
        """Return the class of each label of a pair; None without classes, and for pairs of another folder.

        Raises
        ------
        InstsegError
            If the classes of the pair are missing or cannot be read.
        """
        if self.classes is None or not self.is_in_folder(pair):
            return None
        return self.classes.names(pair, labels)

    def is_in_folder(self, pair: Pair) -> bool:
        """Return whether a pair belongs to the data folder, and not to the one to validate on."""
        return pair.labels.parent.parent == self.folder


def common_channels(samples: Mapping[Pair, Sample]) -> int:
    """Return the number of channels of all samples.

    Raises
    ------
    InstsegError
        If they differ.
    """
    by_channels: dict[int, list[Pair]] = {}
    for pair, sample in samples.items():
        by_channels.setdefault(sample.image.shape[2], []).append(pair)
    if len(by_channels) > 1:
        counts = "; ".join(
            f"{len(pairs)} with {channels} (such as {pairs[0].image.name})" for channels, pairs in by_channels.items()
        )
        raise InstsegError(
            f"the images differ in channels: {counts}; convert them to all gray or all RGB, or give `channels='gray'`"
        )
    return next(iter(by_channels))
