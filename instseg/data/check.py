"""A report on a data folder before training: what it holds, and every problem that training would have with it."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from instseg.data.classes import ClassSource, find_classes, instance_labels, sort_class_names
from instseg.data.datasets import suggest_scale, suggest_volume_scale
from instseg.data.label_statistics import PERCENTILES, Diameters, LabelStatistics, label_statistics
from instseg.data.problems import Problem
from instseg.data.samples import SampleReader
from instseg.data.survey import FolderSurvey
from instseg.data.volumes import known_spacing
from instseg.errors import InstsegError, check_parameter
from instseg.io.folders import Pair, match_folder
from instseg.io.image_file import ImageFileError
from instseg.io.label_images import to_instances
from instseg.io.volumes import is_volume
from instseg.settings import VOLUME_PATCH_SIZE, TrainSettings

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """The contents of a data folder. Statistics are those of the pairs that can be read and have equal sizes.

    Attributes
    ----------
    folder : str
    pairs, usable : int
        Number of images that have labels, and number of those that training can use.
    volumes : int
        How many of the images are volumes, whose labels have planes along Z.
    sizes : dict of str to int
        Number of images of each size, '<height> x <width>', or '<depth> x <height> x <width>', the most frequent first.
    height, width : (int, int)
        Smallest and largest, in pixels.
    depth : (int, int) or None
        Fewest and most planes of volumes; None without volumes.
    spacings : dict of str to int
        Number of volumes of each relative size of voxels, '<z> : <y> : <x>', of those whose files tell it.
    dtypes, channels : dict of str to int
        Number of images by dtype ('uint8', 'uint16', 'int16' or 'float32'), and by number of channels.
    instances : dict of str to float
        'min', 'median' and 'max' of an image, and 'total'.
    diameters : dict of str to float
        '5', '50' and '95': percentiles of the diameters of instances in pixels, each that of the disc of equal area,
        and in volumes that of the ball of equal volume, in pixels along X. Instances of a few pixels, far smaller than
        the others, are not measured; a problem tells of them.
    foreground : float
        Share of the pixels that belong to instances, of those that are not ignored, 0..1.
    classes : dict of str to int
        Number of instances of each class, by its name; empty where the folder has no classes.
    disconnected : int
        Number of instances in more than one component (connected over edges or corners).
    empty, constant, small : int
        Number of images without instances, of a single value, and smaller than a training patch at `scale`.
    scale : float
        At how many times their size training will show the images, for the network to see these objects well.
    unlabelled, partly : int
        In a folder that `instseg label` works on, number of images that are left out, as they are not labelled yet, and
        of those that are labelled in parts.
    ignored : float
        Share of the pixels that take no part, 0..1: those of `ignore_label`, and those that are not labelled yet.
    problems : tuple of Problem
        Errors first.
    """

    folder: str
    pairs: int
    usable: int
    volumes: int
    sizes: dict[str, int]
    height: tuple[int, int]
    width: tuple[int, int]
    depth: tuple[int, int] | None
    spacings: dict[str, int]
    dtypes: dict[str, int]
    channels: dict[str, int]
    instances: dict[str, float]
    diameters: dict[str, float]
    foreground: float
    classes: dict[str, int]
    disconnected: int
    empty: int
    constant: int
    small: int
    scale: float
    unlabelled: int
    partly: int
    ignored: float
    problems: tuple[Problem, ...]

    @property
    def usable_for_training(self) -> bool:
        """Whether no problem is an error."""
        return all(problem.severity != "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)


def check_data(
    data: str | PathLike[str],
    *,
    connected_components: bool = False,
    channels: str | None = None,
    ignore_label: int | None = None,
    patch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Read each pair of a data folder once, and report what is there and what is wrong.

    This does not stop at the first problem. One pair at a time is in memory.

    Parameters
    ----------
    data : path-like
        A folder that holds `images/` and `labels/`, or images beside `labels/`.
    connected_components : bool
        Whether labels are binary masks, of which each connected component is an instance.
    channels : str, optional
        The channels to take, such as 'gray' or '2': see `instseg.preprocessing.channels.parse_channels`.
    ignore_label : int, optional
        Pixels of this value in label images take no part: they are neither background nor of an instance.
        0, the background, changes nothing here.
    patch_size : int, optional
        Height and width of the training patches in pixels; smaller images are reported. By default those of a training
        that is asked for no others.
    progress : callable, optional
        Is called with the number of pairs read so far and of all.

    Returns
    -------
    DataReport

    Raises
    ------
    InstsegError
        If one of the two folders is missing or holds no image.
    UsageError
        If `ignore_label` is negative.

    Examples
    --------
    >>> import tempfile
    >>> import instseg
    >>> from instseg.data.generate import generate_discs
    >>> folder = tempfile.mkdtemp()
    >>> discs = generate_discs(folder, count=2)
    >>> report = instseg.check_data(folder)
    >>> report.pairs, report.usable_for_training, report.instances["total"] == discs
    (2, True, True)
    """
    check_parameter(ignore_label is None or ignore_label >= 0, "ignore_label", ignore_label, "a label, 0 or above")
    folder = Path(data)
    pairs, mismatches = match_folder(folder)
    check = _FolderCheck(folder, connected_components, channels, ignore_label or None)
    check.find_classes([pair.name for pair in pairs])
    check.survey.inspect_unmatched(mismatches)
    for done, pair in enumerate(pairs, start=1):
        check.inspect(pair)
        if progress is not None:
            progress(done, len(pairs))
    return check.report(len(pairs), patch_size)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)


def _read_labels(reader: SampleReader, pair: Pair) -> tuple[NDArray[np.int32], LabelStatistics]:
    values = reader.read_values(pair)
    labels = to_instances(pair.labels, values, connected_components=reader.connected_components)
    return labels, label_statistics(values, connected_components=reader.connected_components)


class _FolderCheck:
    """Reads the pairs of a folder, none of which stops it, for a survey and for what would prevent a training.

    Attributes
    ----------
    survey : FolderSurvey
    """

    def __init__(
        self, folder: Path, connected_components: bool, channels: str | None, ignore_label: int | None
    ) -> None:
        self.survey = FolderSurvey(folder)
        self._folder = folder
        self._reader = SampleReader(folder, connected_components, channels, None, ignore_label)
        self._classes: ClassSource | None = None
        self._unclassified = 0

    def find_classes(self, names: list[str]) -> None:
        """Find the classes of the folder, whose pairs have these names."""
        try:
            self._classes = find_classes(self._folder, connected_components=self._reader.connected_components)
        except InstsegError as error:
            self.survey.add("error", str(error), "see the message")
        self.survey.inspect_class_source(self._classes, names)

    def inspect(self, pair: Pair) -> None:
        """Read a pair."""
        labels_are_volume = self._read(pair.labels, is_volume)
        # Where the labels cannot be read, the image says what it is.
        volume = self._read(pair.image, is_volume) if labels_are_volume is None else labels_are_volume
        if volume is None:
            return
        reader = replace(self._reader, volumes=volume)
        image = self._read(pair.image, reader.read_image)
        read = None if labels_are_volume is None else self._read(pair.labels, lambda path: _read_labels(reader, pair))
        if image is None or read is None:
            return
        labels, statistics = read
        if image.shape[:-1] != labels.shape:
            kind = "volume" if volume else "image"
            what = f"the {kind} is {_size(image.shape[:-1])} pixels and its labels are {_size(labels.shape)}"
            self.survey.add("error", what, f"export the labels at the {kind}'s size", pair.image)
            return
        if volume:
            self.survey.inspect_spacing(pair.image, known_spacing(pair))
        self.survey.inspect_image(pair.image, image)
        self.survey.inspect_labels(pair, statistics)
        self._inspect_classes(pair, labels)

    def _read(self, path: Path, read: Callable[[Path], _Read]) -> _Read | None:
        try:
            return read(path)
        except ImageFileError as error:
            self.survey.add("error", error.what, error.advice, path)
        except InstsegError as error:
            self.survey.add("error", str(error), "see the message", path)
        return None

    def _inspect_classes(self, pair: Pair, labels: NDArray[np.int32]) -> None:
        if self._classes is None:
            return
        try:
            names = self.survey.inspect_classes(self._classes, pair, labels)
        except ImageFileError as error:
            self._unclassified += 1
            self.survey.add("error", f"its class image: {error.what}", error.advice, pair.labels)
            return
        except InstsegError as error:
            self._unclassified += 1
            self.survey.add("error", str(error), "see the message", pair.labels)
            return
        if without := len(instance_labels(labels)) - len(names):
            self._unclassified += 1
            what = f"instances without a class: {without}"
            self.survey.add("error", what, "give every instance a class", pair.labels)

    def report(self, pairs: int, patch_size: int | None) -> DataReport:
        """Return the report when all pairs were read."""
        survey = self.survey
        shapes = list(survey.shapes.values())
        depths = [shape[0] for shape in shapes if len(shape) == 3]
        if patch_size is None:
            patch_size = VOLUME_PATCH_SIZE if depths else TrainSettings().patch_size
        areas = survey.all_areas()
        diameters, scale = self._conclude(pairs, patch_size, suggest_volume_scale if depths else suggest_scale)
        classes = self._sorted_classes()
        every = sum(math.prod(shape) for shape in shapes)
        pixels = every - survey.ignored
        sizes = Counter(_size(shape) for shape in shapes)
        heights, widths = zip(*(shape[-2:] for shape in shapes), strict=True) if shapes else ((0,), (0,))
        counts = [len(of_image) for of_image in survey.areas.values()] or [0]
        return DataReport(
            folder=str(self._folder),
            pairs=pairs,
            usable=len(shapes) - self._unclassified,
            volumes=len(depths),
            sizes=dict(sizes.most_common()),
            height=(min(heights), max(heights)),
            width=(min(widths), max(widths)),
            depth=(min(depths), max(depths)) if depths else None,
            spacings={name: len(paths) for name, paths in survey.by_spacing().items()},
            dtypes={name: len(paths) for name, paths in sorted(survey.dtypes.items())},
            channels={name: len(paths) for name, paths in sorted(survey.channels.items())},
            instances={
                "min": min(counts),
                "median": float(np.median(counts)),
                "max": max(counts),
                "total": sum(counts),
            },
            diameters=dict(zip(map(str, PERCENTILES), diameters, strict=True)),
            foreground=round(float(areas.sum()) / pixels, 4) if pixels else 0.0,
            classes={name: survey.classes[name] for name in classes},
            disconnected=survey.disconnected,
            empty=survey.empty,
            constant=survey.constant,
            small=len(survey.small(scale, patch_size)),
            scale=round(scale, 4),
            unlabelled=survey.unlabelled,
            partly=len(survey.partly),
            ignored=round(survey.ignored / max(1, every), 4),
            problems=survey.problems.merged(self._folder),
        )

    def _conclude(self, pairs: int, patch_size: int, suggest: Callable[[float], float]) -> tuple[Diameters, float]:
        """Return the diameters of the instances, and the scale of a training, once all problems are there."""
        survey = self.survey
        measured = survey.diameters()
        percentiles = np.percentile(measured, PERCENTILES) if len(measured) else np.zeros(3)
        diameters = Diameters(*(round(float(value), 2) for value in percentiles))
        scale = suggest(diameters.typical) if len(measured) else 1.0
        if not survey.shapes:
            survey.add("error", f"none of the {pairs} pairs can be used", "mend the problems of the single files")
        elif not len(measured):
            survey.add("error", "no label image has an instance", "label some objects")
        survey.conclude(diameters, scale, patch_size, validated_apart=False)
        return diameters, scale

    def _sorted_classes(self) -> tuple[str, ...]:
        try:
            return sort_class_names(self.survey.classes)
        except InstsegError as error:
            self.survey.add("error", str(error), "see the message")
            return ()
