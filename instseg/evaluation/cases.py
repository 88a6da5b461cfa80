"""Images with their true and their predicted labels, one after the other: never all of them are in memory.

Where labels have planes along Z they are volumes, and so are their images.
"""

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.data.classes import find_classes
from instseg.data.volumes import known_spacing
from instseg.errors import InstsegError, UsageError, format_names
from instseg.inference.failures import as_instseg_error
from instseg.inference.model import Model
from instseg.inference.options import PredictOptions
from instseg.inference.segmentation import Segmentation
from instseg.inference.tiled import segment_many
from instseg.inference.volume import segment_volume
from instseg.io.container import shown_name
from instseg.io.folders import Pair, find_images
from instseg.io.image_names import stem_of
from instseg.io.images import read_image
from instseg.io.label_images import read_labels
from instseg.io.label_volumes import read_label_volume
from instseg.io.pairs import read_pair
from instseg.io.source import ArrayReader, ImageReader
from instseg.io.stored_volume import read_volume_header
from instseg.io.volumes import ArrayVolume, VolumeReader, is_volume, read_volume
from instseg.labels.regions import connected_components as count_components
from instseg.tiling.grid import Box

# What masks have where objects are: 1, or white of 8 or 16 bit.
_MASK_VALUES = (1, 255, 65_535)
# Errors that a message has in full.
_SHOWN = 10


class Case(NamedTuple):
    """An image, or a volume, with its true and its predicted labels.

    Attributes
    ----------
    name : str
        The stem of its file, as `stem_of` returns it.
    truth, predicted : (H, W) or (Z, Y, X) int32
        0 is background; in the truth, `IGNORED` stands for pixels that do not count.
    image : (H, W) or (H, W, C), (Z, Y, X) or (Z, Y, X, C) array, or None
    instances : Instances or None
        The predicted instances with their scores, where a model predicted them.
    classes : mapping of int to str, or None
        The true class of each label, where it is known.
    looks_like_mask : bool
        Whether the prediction has one value in several pieces, as if it were a binary mask.
    notes : tuple of str
        What is to be said of the volume, and of how it was segmented.
    """

    name: str
    truth: NDArray[np.int32]
    predicted: NDArray[np.int32]
    image: NDArray[Any] | None = None
    instances: Instances | None = None
    classes: Mapping[int, str] | None = None
    looks_like_mask: bool = False
    notes: tuple[str, ...] = ()


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


_Files = TypeVar("_Files", Pair, LabelFiles)


def model_cases(
    model: Model,
    pairs: Sequence[Pair],
    data: Path,
    options: PredictOptions,
    *,
    connected_components: bool,
    ignore_label: int | None,
    spacing: Sequence[float] | None = None,
) -> Generator[Case]:
    """Segment the images of a data folder; the network is at the next image while a case is made use of.

    Of volumes one after the other is segmented.

    Parameters
    ----------
    model : Model
    pairs : sequence of Pair
        Those of the folder `data`.
    data : Path
    options : PredictOptions
    connected_components : bool
        Whether each connected piece of a true mask is an instance.
    ignore_label : int or None
        The value of true labels whose pixels do not count.
    spacing : sequence of float, optional
        The size of a voxel along Z, Y and X, where it is not what the files of volumes say.

    Raises
    ------
    UsageError
        If a spacing, a choice of planes or a model of volumes is given for images.
    InstsegError
        If an image or its labels cannot be read, or the image cannot be segmented. It names all files that cannot be
        read, so that one run is enough to find them.
    """
    settings = model.settings
    volumes = _are_volumes(pairs)
    if settings.ndim == 3 and not volumes:
        raise UsageError(
            f"this is a model of volumes, and the labels of {data} are images; give volumes, or a model of images",
            parameter="data",
        )
    for name, value in (("spacing", spacing), ("planes_from", options.planes_from)):
        if value is not None and not volumes:
            what = f"{name} is of volumes, and the labels of {data} are images; leave it out"
            raise UsageError(what, parameter=name)
    classes = None
    if len(settings.class_names) > 1:
        classes = find_classes(data, connected_components=connected_components)
    read = functools.partial(
        read_pair,
        connected_components=connected_components,
        ignore_label=ignore_label,
        planes_as_channels=options.channels is not None or settings.channel_choice is not None,
        volume=volumes,
    )
    # Filled by the thread that reads.
    truths: deque[NDArray[np.int32]] = deque()
    segment = _segment_volumes if volumes else segment_many
    with closing(segment(model, _readers(pairs, read, truths, spacing), options)) as segmentations:
        for number, (pair, segmentation) in enumerate(zip(pairs, segmentations, strict=True), start=1):
            if isinstance(segmentation, InstsegError):
                # Errors of reading name the file themselves.
                first = segmentation if str(pair.labels) in str(segmentation) else segmentation.located(pair.image)
                failures = [first, *_unreadable(pairs[number:], read)]
                raise _joined(failures, len(pairs))
            truth, image = truths.popleft(), segmentation.image
            yield Case(
                name=pair.name,
                truth=truth,
                predicted=segmentation.labels,
                image=image.read(Box.whole(image.shape[:-1])),
                instances=segmentation.instances,
                classes=None if classes is None else classes.names(pair, truth),
                notes=segmentation.notes if volumes else (),
            )


def _are_volumes(pairs: Sequence[Pair]) -> bool:
    """Return whether pairs are volumes, as the first labels say that can be read; the others fail later."""
    for pair in pairs:
        with suppress(InstsegError):
            return is_volume(pair.labels)
    return False


def _segment_volumes(
    model: Model, readers: Iterable[Callable[[], Any]], options: PredictOptions
) -> Generator[Segmentation | InstsegError]:
    for read in readers:
        result: Segmentation | InstsegError
        try:
            result = segment_volume(model, read(), options)
        except Exception as error:  # Whatever it is, it is this volume's.
            result = as_instseg_error(error)
        yield result


def _unreadable(files: Sequence[_Files], read: Callable[[_Files], Any]) -> Iterator[InstsegError]:
    """Read the files of images, and yield the errors of those that cannot be read."""
    for one in files:
        try:
            read(one)
        except Exception as error:  # Whatever it is, it is this image's.
            yield _error_of(error, one)


def _error_of(error: Exception, files: "Pair | LabelFiles") -> InstsegError:
    """Return an error that names its file; what nobody has foreseen does not do so by itself."""
    return error if isinstance(error, InstsegError) else as_instseg_error(error).located(files.name)


def _joined(failures: Sequence[InstsegError], total: int) -> InstsegError:
    """Return one error for all files that cannot be used."""
    if len(failures) == 1:
        return failures[0]
    texts = [str(failure) for failure in failures[:_SHOWN]]
    more = [f"and {len(failures) - _SHOWN} more"] if len(failures) > _SHOWN else []
    return InstsegError(f"{len(failures)} of {total} images cannot be compared: {'; '.join([*texts, *more])}")


def _readers(
    pairs: Sequence[Pair],
    read: Callable[[Pair], tuple[NDArray[Any], NDArray[np.int32]]],
    truths: "deque[NDArray[np.int32]]",
    spacing: Sequence[float] | None,
) -> Generator[Callable[[], Any]]:
    """Yield a function for each pair that reads it, adds its labels to `truths` and returns its image or volume."""

    def open_pair(pair: Pair) -> ImageReader | VolumeReader:
        image, truth = read(pair)
        truths.append(truth)
        if truth.ndim == 2:
            return ArrayReader(image, pair.image)
        geometry = read_volume_header(pair.image).geometry
        known = None if geometry is not None and geometry.depth is not None else known_spacing(pair)
        return ArrayVolume(image, spacing=spacing or known, geometry=geometry)

    for pair in pairs:
        yield functools.partial(open_pair, pair)


def folder_cases(
    label_files: Sequence[LabelFiles],
    images: Mapping[str, Path] | None,
    *,
    connected_components: bool,
    ignore_label: int | None,
) -> Generator[Case]:
    """Read predictions and true labels, and images where there are some.

    Parameters
    ----------
    label_files : sequence of LabelFiles
    images : mapping of str to Path, or None
        The image of each name.
    connected_components : bool
        Whether each connected piece of a true and of a predicted mask is an instance.
    ignore_label : int or None
        The value of true labels whose pixels do not count.

    Raises
    ------
    InstsegError
        If files cannot be read, or an image or a prediction is not of the size of the true labels: an error that names
        all of these files, so that one run is enough to find them.
    """

    def read(files: LabelFiles) -> Case:
        image = None if images is None else images[files.name]
        return _read_case(files, image, connected_components, ignore_label)

    for number, files in enumerate(label_files, start=1):
        try:
            case = read(files)
        except Exception as error:  # Whatever it is, it is these files'.
            failures = [_error_of(error, files), *_unreadable(label_files[number:], read)]
            raise _joined(failures, len(label_files)) from error
        yield case


def _read_case(
    files: LabelFiles, image_path: Path | None, connected_components: bool, ignore_label: int | None
) -> Case:
    volume = is_volume(files.truth)
    read = read_label_volume if volume else read_labels
    truth = read(files.truth, connected_components=connected_components, ignore_label=ignore_label)
    predicted = read(files.predicted, connected_components=connected_components, prediction=True)
    if truth.shape != predicted.shape:
        sizes = f"{_size(predicted)} pixels and its labels are {_size(truth)}"
        raise InstsegError(
            f"the prediction of {files.name} is {sizes}; expected equal sizes; compare labels of one image"
        )
    image = None if image_path is None else (read_volume if volume else read_image)(image_path)
    if image is not None and image.shape[: truth.ndim] != truth.shape:
        raise InstsegError(
            f"{image_path} is {_size(image[..., 0])} pixels and {files.truth} is {_size(truth)}, expected equal sizes; "
            "give the images that the labels are of"
        )
    return Case(files.name, truth, predicted, image, looks_like_mask=_looks_like_mask(predicted))


def _looks_like_mask(labels: NDArray[np.int32]) -> bool:
    value = labels.max(initial=0)
    if value not in _MASK_VALUES or ((labels != 0) & (labels != value)).any():
        return False
    return int(count_components(labels).max(initial=0)) > 1


def _size(values: NDArray[Any]) -> str:
    return " x ".join(str(side) for side in values.shape)


def match_images(folder: Path, label_files: Sequence[LabelFiles]) -> dict[str, Path]:
    """Return the images in a folder by their stems.

    Raises
    ------
    InstsegError
        If a label image has none.
    """
    images = {stem_of(file): file for file in find_images([folder])}
    if missing := [files.name for files in label_files if files.name not in images]:
        raise InstsegError(
            f"{folder} has no image for {len(missing)} of {len(label_files)} label images ({format_names(missing)}); "
            "add them, or leave `images` out"
        )
    return images


def match_predictions(predictions: Sequence[Path], labels: Sequence[Path]) -> list[LabelFiles]:
    """Put true label images with the predictions of the same name; suffixes and the way to write accents may differ.

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
    by_stem = {stem_of(file): file for file in files}
    if len(by_stem) < len(files):
        doubled = [shown_name(file) for file in files if by_stem[stem_of(file)] != file]
        raise InstsegError(f"{len(doubled)} {what} share a name ({format_names(doubled)}); keep one file of each name")
    return by_stem
