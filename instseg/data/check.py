"""A report on a data folder before training: what it holds, and every problem that training would have with it."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instseg.data.classes import ClassSource, find_classes, instance_labels, sort_class_names
from instseg.data.datasets import suggest_scale
from instseg.errors import InstsegError
from instseg.io.folders import Pair, match_folder
from instseg.io.formats import ImageFileError
from instseg.io.images import read_image
from instseg.io.label_images import read_labels
from instseg.labels.regions import connected_components as find_components
from instseg.labels.regions import equivalent_diameter, relabel_sequential
from instseg.preprocessing.channels import select_channels
from instseg.settings import TrainSettings

Severity = Literal["error", "warning"]

# A problem names so many of its files.
_NAMED = 5
_PERCENTILES = (5, 50, 95)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that prevents training ('error') or may make its result worse ('warning').

    Attributes
    ----------
    severity : {'error', 'warning'}
    what, advice : str
        What is wrong, with the numbers of the first file, and what to do. Parameters are in backticks.
    count : int
        Number of files with the problem; 0 for one of the whole folder.
    files : tuple of str
        Paths of the first few of them, relative to the data folder.
    """

    severity: Severity
    what: str
    advice: str
    count: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """The contents of a data folder. Statistics are those of the pairs that can be read and have equal sizes.

    Attributes
    ----------
    folder : str
    pairs, usable : int
        Number of images that have labels, and number of those that training can use.
    sizes : dict of str to int
        Number of images of each size, '<height> x <width>', the most frequent first.
    height, width : (int, int)
        Smallest and largest, in pixels.
    dtypes, channels : dict of str to int
        Number of images by dtype ('uint8', 'uint16' or 'float32'), and by number of channels.
    instances : dict of str to float
        'min', 'median' and 'max' of an image, and 'total'.
    diameters : dict of str to float
        '5', '50' and '95': percentiles of the diameters of instances in pixels, each that of the disc of equal area.
    foreground : float
        Share of the pixels that belong to instances, 0..1.
    classes : dict of str to int
        Number of instances of each class, by its name; empty where the folder has no classes.
    disconnected : int
        Number of instances in more than one component (connected over edges or corners).
    empty, constant, small : int
        Number of images without instances, of a single value, and smaller than a training patch at `scale`.
    scale : float
        At how many times their size training will show the images, for the network to see these objects well.
    problems : tuple of Problem
        Errors first.
    """

    folder: str
    pairs: int
    usable: int
    sizes: dict[str, int]
    height: tuple[int, int]
    width: tuple[int, int]
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
    patch_size: int = TrainSettings().patch_size,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Read each pair of a data folder once, and report what is there and what is wrong.

    This does not stop at the first problem. One pair at a time is in memory.

    Parameters
    ----------
    data : path-like
        A folder that holds `images/` and `labels/`.
    connected_components : bool
        Whether labels are binary masks, of which each connected component is an instance.
    channels : str, optional
        The channels to take, such as 'gray' or '2': see `instseg.preprocessing.channels.parse_channels`.
    patch_size : int
        Height and width of the training patches in pixels; smaller images are reported.
    progress : callable, optional
        Is called with the number of pairs read so far and of all.

    Returns
    -------
    DataReport

    Raises
    ------
    InstsegError
        If one of the two folders is missing or holds no image.

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
    folder = Path(data)
    pairs, mismatches = match_folder(folder)
    survey = _FolderSurvey(patch_size, channels, None)
    try:
        survey.class_source = find_classes(folder, connected_components=connected_components)
    except InstsegError as error:
        survey.add("error", str(error), "see the message")
    for mismatch in mismatches:
        for path in mismatch.files:
            survey.add("error", mismatch.what, mismatch.advice, path)
    for done, pair in enumerate(pairs, start=1):
        survey.inspect(pair, connected_components)
        if progress is not None:
            progress(done, len(pairs))
    return survey.report(folder, len(pairs))


@dataclass(slots=True)
class _FolderSurvey:
    """Statistics and problems, collected pair by pair."""

    patch_size: int
    selected_channels: str | None
    class_source: ClassSource | None
    problems: dict[tuple[Severity, str], list[tuple[str, str, Path | None]]] = field(default_factory=dict)
    shapes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    unclassified: int = 0
    dtypes: dict[str, list[Path]] = field(default_factory=dict)
    channels: dict[str, list[Path]] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    areas: list[NDArray[np.int64]] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    disconnected: int = 0
    empty: int = 0
    constant: int = 0

    def add(self, severity: Severity, what: str, advice: str, path: Path | None = None) -> None:
        # The same problem in several files is one problem, even if its numbers differ.
        kind = re.sub(r"\d[\d.,]*", "#", what)
        self.problems.setdefault((severity, kind), []).append((what, advice, path))

    def inspect(self, pair: Pair, connected_components: bool) -> None:
        planes_as_channels = self.selected_channels is not None
        image = self._read(pair.image, lambda path: read_image(path, planes_as_channels=planes_as_channels))
        labels = self._read(pair.labels, lambda path: read_labels(path, connected_components=connected_components))
        if image is None or labels is None:
            return
        if self.selected_channels is not None:
            try:
                image = select_channels(image, self.selected_channels)
            except InstsegError as error:
                self.add("error", str(error), "choose others, or leave the image out", pair.image)
                return
        if image.shape[:2] != labels.shape:
            (height, width), (rows, columns) = image.shape[:2], labels.shape
            what = f"the image is {height} x {width} pixels and its labels are {rows} x {columns}"
            self.add("error", what, "export the labels at the image's size", pair.image)
            return
        self._inspect_image(pair.image, image)
        self._inspect_labels(pair.labels, labels)
        if self.class_source is not None:
            self._inspect_classes(self.class_source, pair, labels)

    def _read(self, path: Path, read: Callable[[Path], NDArray[Any]]) -> NDArray[Any] | None:
        try:
            return read(path)
        except ImageFileError as error:
            self.add("error", error.what, error.advice, path)
        except InstsegError as error:
            self.add("error", str(error), "see the message", path)
        return None

    def _inspect_image(self, path: Path, image: NDArray[Any]) -> None:
        height, width, channels = image.shape
        self.shapes[path] = (height, width)
        self.dtypes.setdefault(str(image.dtype), []).append(path)
        self.channels.setdefault(str(channels), []).append(path)
        if (image == image[0, 0]).all():
            self.constant += 1
            self.add("warning", "the image has one value only", "remove it if nothing was recorded", path)

    def _inspect_labels(self, path: Path, labels: NDArray[np.int32]) -> None:
        instances = relabel_sequential(labels)
        areas = np.bincount(instances.ravel())[1:]
        self.areas.append(areas)
        self.counts.append(len(areas))
        if not len(areas):
            self.empty += 1
            self.add("warning", "there are no instances", "fine if the image shows none", path)
        if apart := _disconnected(instances):
            self.disconnected += apart
            what = f"instances that lie in several pieces: {apart}"
            self.add("warning", what, "give each piece its own number unless they are one object", path)

    def _inspect_classes(self, source: ClassSource, pair: Pair, labels: NDArray[np.int32]) -> None:
        try:
            names = source.names(pair, labels)
            for what, advice in source.inconsistencies(pair, labels):
                self.add("warning", what, advice, pair.labels)
        except ImageFileError as error:
            self.unclassified += 1
            self.add("error", f"its class image: {error.what}", error.advice, pair.labels)
            return
        except InstsegError as error:
            self.unclassified += 1
            self.add("error", str(error), "see the message", pair.labels)
            return
        self.classes.update(names.values())
        if without := len(instance_labels(labels)) - len(names):
            self.unclassified += 1
            self.add("error", f"instances without a class: {without}", "give every instance a class", pair.labels)

    def report(self, folder: Path, pairs: int) -> DataReport:
        areas = np.concatenate([*self.areas, np.zeros(0, np.int64)])
        percentiles = np.percentile(equivalent_diameter(areas), _PERCENTILES) if len(areas) else np.zeros(3)
        diameters = [round(float(value), 2) for value in percentiles]
        scale = suggest_scale(diameters[1]) if len(areas) else 1.0
        small = self._inspect_sizes(scale)
        self._inspect_all(pairs, len(areas), diameters[-1] * scale)
        classes = self._sorted_classes()
        shapes = list(self.shapes.values())
        pixels = sum(height * width for height, width in shapes)
        sizes = Counter(f"{height} x {width}" for height, width in shapes)
        heights, widths = zip(*shapes, strict=True) if shapes else ((0,), (0,))
        counts = self.counts or [0]
        return DataReport(
            folder=str(folder),
            pairs=pairs,
            usable=len(shapes) - self.unclassified,
            sizes=dict(sizes.most_common()),
            height=(min(heights), max(heights)),
            width=(min(widths), max(widths)),
            dtypes={name: len(paths) for name, paths in sorted(self.dtypes.items())},
            channels={name: len(paths) for name, paths in sorted(self.channels.items())},
            instances={
                "min": min(counts),
                "median": float(np.median(counts)),
                "max": max(counts),
                "total": sum(counts),
            },
            diameters=dict(zip(map(str, _PERCENTILES), diameters, strict=True)),
            foreground=round(float(areas.sum()) / pixels, 4) if pixels else 0.0,
            classes={name: self.classes[name] for name in classes},
            disconnected=self.disconnected,
            empty=self.empty,
            constant=self.constant,
            small=small,
            scale=round(scale, 4),
            problems=self._merged_problems(folder),
        )

    def _sorted_classes(self) -> tuple[str, ...]:
        try:
            return sort_class_names(self.classes)
        except InstsegError as error:
            self.add("error", str(error), "see the message")
            return ()

    def _inspect_sizes(self, scale: float) -> int:
        """Report the images that are smaller than a patch at a scale, and return their number."""
        small = [path for path, shape in self.shapes.items() if round(min(shape) * scale) < self.patch_size]
        for path in small:
            shown = "" if scale == 1 else f", shown at {scale:.2g} times its size,"
            what = f"the image{shown} is smaller than a training patch of {self.patch_size} pixels"
            self.add("warning", what, "it will be padded; a smaller `patch_size` avoids that", path)
        return len(small)

    def _inspect_all(self, pairs: int, instances: int, large: float) -> None:
        """Report the problems of the whole folder."""
        if not self.shapes:
            self.add("error", f"none of the {pairs} pairs can be used", "mend the problems of the single files")
        elif not instances:
            self.add("error", "no label image has an instance", "label some objects")
        elif len(self.shapes) == 1:
            self.add("warning", "there is only one pair to use", "add more, so that some can be kept for validation")
        self._add_mixed(
            "error",
            "numbers of channels",
            self.channels,
            "convert all to gray or all to RGB, or give `channels='gray'`",
        )
        self._add_mixed("warning", "types of values", self.dtypes, "save all with the same bit depth")
        if large > self.patch_size / 2:
            what = (
                f"one instance in twenty is wider than {large:.3g} of the network's pixels, half of a patch is "
                f"{self.patch_size // 2}"
            )
            self.add("warning", what, "give a larger `patch_size`")

    def _add_mixed(self, severity: Severity, name: str, files: dict[str, list[Path]], advice: str) -> None:
        if len(files) < 2:
            return
        most, *others = sorted(files, key=lambda key: -len(files[key]))
        counted = ", ".join(f"{key} in {len(files[key])}" for key in (most, *others))
        for path in (path for key in others for path in files[key]):
            self.add(severity, f"the images differ in their {name} ({counted})", advice, path)

    def _merged_problems(self, folder: Path) -> tuple[Problem, ...]:
        problems = []
        for (severity, _), occurrences in self.problems.items():
            what, advice, _ = occurrences[0]
            if any(other != what for other, _, _ in occurrences):
                what += " (in the first; the numbers differ)"
            files = [path.relative_to(folder).as_posix() for _, _, path in occurrences if path is not None]
            problems.append(Problem(severity, what, advice, len(files), tuple(files[:_NAMED])))
        return tuple(sorted(problems, key=lambda problem: problem.severity))


def _disconnected(instances: NDArray[np.int32]) -> int:
    """Return how many of the instances 1..N of a label image have more than one component."""
    components = find_components(instances)
    owner = np.zeros(int(components.max()) + 1, np.int32)
    owner[components] = instances
    return int((np.bincount(owner[1:]) > 1).sum())
