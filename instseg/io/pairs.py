"""Reading a pair of a data folder: an image or a volume, its labels, and which pixels are not labelled yet."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.folders import Pair
from instseg.io.formats import decode, read_header
from instseg.io.image_file import ImageFileError
from instseg.io.images import read_image
from instseg.io.label_images import read_label_values, to_instances
from instseg.io.label_volumes import read_label_volume_values
from instseg.io.volumes import read_volume
from instseg.labels.regions import IGNORED

UNKNOWN = 255
"""The value of pixels that nobody has labelled yet, in an image of regions that are ignored; others are 0."""


def read_pair(
    pair: Pair,
    *,
    connected_components: bool = False,
    ignore_label: int | None = None,
    planes_as_channels: bool = False,
    volume: bool = False,
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Read an image and its labels; the options are those of `read_labels` and `read_image`.

    Parameters
    ----------
    pair : Pair
    connected_components, ignore_label, planes_as_channels
        See `read_labels` and `read_image`.
    volume : bool
        Whether both are volumes, as `instseg.io.volumes.is_volume` says of the labels.

    Returns
    -------
    image : (H, W, C), or (Z, Y, X, C) of a volume, uint8, uint16, int16 or float32
    labels : (H, W), or (Z, Y, X) of a volume, int32
        0 is background, `IGNORED` the pixels of `ignore_label` and those that are not labelled yet.

    Raises
    ------
    InstsegError
        If one of them cannot be read or their sizes differ.
    """
    image = read_volume(pair.image) if volume else read_image(pair.image, planes_as_channels=planes_as_channels)
    values = read_pair_values(pair, ignore_label=ignore_label, volume=volume)
    labels = to_instances(pair.labels, values, connected_components=connected_components)
    if image.shape[:-1] != labels.shape:
        sizes = f"{_size(image[..., 0])} {'voxels' if volume else 'pixels'} and {pair.labels} is {_size(labels)}"
        raise InstsegError(f"{pair.image} is {sizes}, expected equal sizes; export the labels at the image's size")
    return image, labels


def read_pair_values(pair: Pair, *, ignore_label: int | None = None, volume: bool = False) -> NDArray[np.int32]:
    """Read the values of a label image, or of the labels of a volume, of which `to_instances` makes instances.

    Returns
    -------
    (H, W) or (Z, Y, X) int32
        As `read_label_values` has them; pixels that are not labelled yet are `IGNORED`.

    Raises
    ------
    InstsegError
        If the labels, or the regions that are not labelled yet, cannot be read, or are not of one size.
    """
    read = read_label_volume_values if volume else read_label_values
    values = read(pair.labels, ignore_label=ignore_label)
    if pair.ignored is not None:
        ignored = read_ignored(pair.ignored)
        if ignored.shape != values.shape:
            sizes = f"{_size(ignored)} pixels and {pair.labels} is {_size(values)}"
            raise InstsegError(
                f"{pair.ignored} is {sizes}, expected equal sizes; remove it if all of the image is labelled"
            )
        values[ignored] = IGNORED
    return values


def read_ignored(path: Path) -> NDArray[np.bool_]:
    """Read which pixels of an image are not labelled yet.

    Parameters
    ----------
    path : Path
        A gray image of 8 bit: `UNKNOWN` where nobody has said what is there, else 0.

    Returns
    -------
    (H, W) bool

    Raises
    ------
    ImageFileError
        If it is no such image.
    """
    header = read_header(path)
    remedy = f"make it a gray image of 8 bit with {UNKNOWN} where nothing is labelled, or remove it"
    if header.colour != "gray" or header.channels != 1 or header.alpha or header.bits != 8:
        raise ImageFileError(path, "it does not mark pixels that are not labelled yet, as its place says", remedy)
    values = decode(path, header)[0].pixels[..., 0]
    if other := set(np.unique(values).tolist()) - {0, UNKNOWN}:
        raise ImageFileError(path, f"it holds the value {min(other)}, expected 0 and {UNKNOWN}", remedy)
    return np.asarray(values == UNKNOWN)


def _size(pixels: NDArray[np.generic]) -> str:
    return " x ".join(map(str, pixels.shape))
