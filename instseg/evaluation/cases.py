"""Images with their true and their predicted labels, one after the other: never all of them are in memory."""

import functools
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.data.classes import find_classes
from instseg.errors import InstsegError, format_names
from instseg.inference.model import Model
from instseg.inference.options import PredictOptions
from instseg.inference.tiled import segment_many
from instseg.io.folders import Pair, find_images, read_pair
from instseg.io.images import read_image
from instseg.io.label_images import read_labels
from instseg.io.source import ArrayReader, ImageReader, whole_box


class Case(NamedTuple):
    """An image with its true and its predicted labels.

    Attributes
    ----------
    name : str
        The stem of its file.
    truth, predicted : (H, W) int32
        0 is background.
    image : (H, W) or (H, W, C) array, or None
    instances : Instances or None
        The predicted instances with their scores, where a model predicted them.
    classes : mapping of int to str, or None
        The true class of each label, where it is known.
    """

    name: str
    truth: NDArray[np.int32]
    predicted: NDArray[np.int32]
    image: NDArray[Any] | None = None
    instances: Instances | None = None
    classes: Mapping[int, str] | None = None


class LabelFiles(NamedTuple):
    """The label images of one image.

    Attributes
    ----------
    name : str
        The stem that both files share.
    truth, predicted : Path
    """

    name: str
    truth: Path
    predicted: Path


def model_cases(
    model: Model, pairs: Sequence[Pair], data: Path, options: PredictOptions, connected_components: bool
) -> Generator[Case]:
    """Segment the images of a data folder; the network is at the next image while a case is made use of.

    Parameters
    ----------
    model : Model
    pairs : sequence of Pair
        Those of the folder `data`.
    data : Path
    options : PredictOptions
    connected_components : bool
        Whether each connected piece of a true mask is an instance.

    Raises
    ------
    InstsegError
        If an image or its labels cannot be read, or the image cannot be segmented.
    """
    settings = model.settings
    classes = None
    if len(settings.class_names) > 1:
        classes = find_classes(data, connected_components=connected_components)
    read = functools.partial(
        read_pair,
        connected_components=connected_components,
        planes_as_channels=options.channels is not None or settings.channel_choice is not None,
    )
    # Filled by the thread that reads.
    truths: deque[NDArray[np.int32]] = deque()
    with closing(segment_many(model, _readers(pairs, read, truths), options)) as segmentations:
        for pair, segmentation in zip(pairs, segmentations, strict=True):
            if isinstance(segmentation, InstsegError):
                raise segmentation.located(pair.image)
            truth, image = truths.popleft(), segmentation.image
            yield Case(
                name=pair.name,
                truth=truth,
                predicted=segmentation.labels,
                image=image.read(whole_box(image)),
                instances=segmentation.instances,
                classes=None if classes is None else classes.names(pair, truth),
            )


def _readers(
    pairs: Sequence[Pair],
    read: Callable[[Pair], tuple[NDArray[Any], NDArray[np.int32]]],
    truths: "deque[NDArray[np.int32]]",
) -> Generator[Callable[[], ImageReader]]:
    """Yield a function for each pair that reads it, adds its labels to `truths` and returns its image."""

    def open_pair(pair: Pair) -> ImageReader:
        image, truth = read(pair)
        truths.append(truth)
        return ArrayReader(image, pair.image)

    for pair in pairs:
        yield functools.partial(open_pair, pair)


def folder_cases(
    label_files: Sequence[LabelFiles], images: Mapping[str, Path] | None, connected_components: bool
) -> Generator[Case]:
    """Read predictions and true labels, and images where there are some.

    Parameters
    ----------
    label_files : sequence of LabelFiles
    images : mapping of str to Path, or None
        The image of each name.
    connected_components : bool
        Whether each connected piece of a true mask is an instance.

    Raises
    ------
    InstsegError
        If a file cannot be read, or an image is not of the size of its labels.
    """
    for name, true, predicted in label_files:
        truth = read_labels(true, connected_components=connected_components)
        image = None if images is None else read_image(images[name])
        if image is not None and images is not None and image.shape[:2] != truth.shape:
            (height, width), (rows, columns) = image.shape[:2], truth.shape
            raise InstsegError(
                f"{images[name]} is {height} x {width} pixels and {true} is {rows} x {columns}, expected equal sizes; "
                "give the images that the labels are of"
            )
        yield Case(name=name, truth=truth, predicted=read_labels(predicted), image=image)


def match_images(folder: Path, label_files: Sequence[LabelFiles]) -> dict[str, Path]:
    """Return the images in a folder by their stems.

    Raises
    ------
    InstsegError
        If a label image has none.
    """
    images = {file.stem: file for file in find_images([folder])}
    if missing := [files.name for files in label_files if files.name not in images]:
        raise InstsegError(
            f"{folder} has no image for {len(missing)} of {len(label_files)} label images ({format_names(missing)}); "
            "add them, or leave `images` out"
        )
    return images


def match_predictions(predictions: Sequence[Path], labels: Sequence[Path]) -> list[LabelFiles]:
    """Put true label images with the predictions of the same name; suffixes may differ.

    Parameters
    ----------
    predictions, labels : sequences of Path

    Returns
    -------
    list of LabelFiles
        Sorted by name.

    Raises
    ------
    InstsegError
        If a file has no partner, or two of one side share a name.
    """
    predicted, true = _by_stem("predictions", predictions), _by_stem("labels", labels)
    problems = []
    if alone := sorted(true.keys() - predicted.keys()):
        problems.append(f"{len(alone)} labels have no prediction ({format_names(alone)}): predict these images, too")
    if alone := sorted(predicted.keys() - true.keys()):
        problems.append(f"{len(alone)} predictions have no labels ({format_names(alone)}): add or remove them")
    if problems:
        raise InstsegError(f"cannot compare the folders: {'; '.join(problems)}")
    return [LabelFiles(name, true[name], predicted[name]) for name in sorted(true)]


def _by_stem(what: str, files: Sequence[Path]) -> dict[str, Path]:
    by_stem = {file.stem: file for file in files}
    if len(by_stem) < len(files):
        doubled = [file.name for file in files if by_stem[file.stem] != file]
        raise InstsegError(f"{len(doubled)} {what} share a name ({format_names(doubled)}); keep one file of each name")
    return by_stem
