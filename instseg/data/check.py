"""One look at a whole data folder before training: what is in it, and everything that training would stumble over."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instseg.channels import choose_channels
from instseg.data.classes import ClassSource, find_classes, in_order, instances
from instseg.data.folder import Pair, match_folder
from instseg.data.training import fitting_scale
from instseg.decoding import ImageFileError
from instseg.errors import InstsegError
from instseg.images import read_image, read_labels
from instseg.regions import connected_pieces, remap_consecutive

Severity = Literal["error", "warning"]

_NAMED = 5
_DIAMETERS = (5, 50, 95)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that stops training ('error') or may spoil it ('warning').

    Attributes
    ----------
    severity : {'error', 'warning'}
    what, advice : str
        What is wrong, in the words of the first file concerned, and what to do.
    count : int
        Files concerned; 0 where it is the whole folder.
    files : tuple of str
        The first few of them, as seen from the data folder.
    """

    severity: Severity
    what: str
    advice: str
    count: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a data folder holds. Statistics are those of the pairs that can be read and fit together.

    Attributes
    ----------
    folder : str
    pairs, usable : int
        Images that have labels, and those of them that training can use.
    sizes : dict
        '<height> x <width>' to number of images, the most frequent first.
    height, width : (int, int)
        Smallest and largest, pixels.
    dtypes, channels : dict
        'uint8', 'uint16' or 'float32', and number of channels (as text), to number of images.
    instances : dict
        'min', 'median', 'max' per image and 'total'.
    diameters : dict
        '5', '50' and '95': percentiles of the instances' diameters in pixels, those of circles of equal area.
    foreground : float
        Share of the pixels that belong to instances, 0..1.
    classes : dict
        Name of each class to the number of its instances; empty where the folder knows none.
    disconnected : int
        Instances in more than one 8-connected piece.
    empty, constant, small : int
        Images without instances, of one value only, smaller than a training patch at the scale that they are learnt at.
    scale : float
        How many times larger training will show the images, for the network to see objects of this size well.
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


def check_folder(
    folder: Path,
    *,
    connected_components: bool = False,
    channels: str | None = None,
    patch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read every pair of a data folder once and report what is there and what is wrong.

    Does not stop at the first problem; one pair at a time is in memory.

    Parameters
    ----------
    folder : Path
        Holds ``images`` and ``labels``.
    connected_components : bool
        Take the connected pieces of binary masks as instances.
    channels : str, optional
        The images' channels to take, as `instseg.channels.parse_channels` reads it.
    patch_size : int
        Height and width of the training patches, for the images that are smaller.
    progress : callable, optional
        Called with the pairs done and their number.

    Raises
    ------
    InstsegError
        If one of the two folders is missing or holds no image.
    """
    pairs, mismatches = match_folder(folder)
    survey = _Survey(patch_size, channels, None)
    try:
        survey.source = find_classes(folder, connected_components=connected_components)
    except InstsegError as error:
        survey.add("error", str(error), "see the message")
    for mismatch in mismatches:
        for path in mismatch.files:
            survey.add("error", mismatch.what, mismatch.advice, path)
    for done, pair in enumerate(pairs, start=1):
        survey.look_at(pair, connected_components)
        if progress is not None:
            progress(done, len(pairs))
    return survey.report(folder, len(pairs))


@dataclass
class _Survey:
    """What is gathered while the files go by."""

    patch_size: int
    choice: str | None
    source: ClassSource | None
    found: dict[tuple[Severity, str], list[tuple[str, str, Path | None]]] = field(default_factory=dict)
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
        # One problem in many files is one problem, though its numbers differ.
        kind = re.sub(r"\d[\d.,]*", "#", what)
        self.found.setdefault((severity, kind), []).append((what, advice, path))

    def look_at(self, pair: Pair, connected_components: bool) -> None:
        image = self._read(pair.image, lambda path: read_image(path, stacked=self.choice is not None))
        labels = self._read(pair.labels, lambda path: read_labels(path, connected_components=connected_components))
        if image is None or labels is None:
            return
        if self.choice is not None:
            try:
                image = choose_channels(image, self.choice)
            except InstsegError as error:
                self.add("error", str(error), "choose others, or leave the image out", pair.image)
                return
        if image.shape[:2] != labels.shape:
            (height, width), (rows, columns) = image.shape[:2], labels.shape
            what = f"the image is {height} x {width} pixels and its labels are {rows} x {columns}"
            self.add("error", what, "export the labels at the image's size", pair.image)
            return
        self._look_at_image(pair.image, image)
        self._look_at_labels(pair.labels, labels)
        if self.source is not None:
            self._look_at_classes(self.source, pair, labels)

    def _read(self, path: Path, read: Callable[[Path], NDArray[Any]]) -> NDArray[Any] | None:
        try:
            return read(path)
        except ImageFileError as error:
            self.add("error", error.what, error.advice, path)
        except InstsegError as error:
            self.add("error", str(error), "see the message", path)
        return None

    def _look_at_image(self, path: Path, image: NDArray[Any]) -> None:
        height, width, channels = image.shape
        self.shapes[path] = (height, width)
        self.dtypes.setdefault(str(image.dtype), []).append(path)
        self.channels.setdefault(str(channels), []).append(path)
        if (image == image[0, 0]).all():
            self.constant += 1
            self.add("warning", "the image has one value only", "remove it if nothing was recorded", path)

    def _look_at_labels(self, path: Path, labels: NDArray[np.int32]) -> None:
        instances = remap_consecutive(labels)
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

    def _look_at_classes(self, source: ClassSource, pair: Pair, labels: NDArray[np.int32]) -> None:
        try:
            names = source.names(pair, labels)
            for what, advice in source.doubts(pair, labels):
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
        if without := len(instances(labels)) - len(names):
            self.unclassified += 1
            self.add("error", f"instances without a class: {without}", "give every instance a class", pair.labels)

    def report(self, folder: Path, pairs: int) -> Report:
        areas = np.concatenate([*self.areas, np.zeros(0, np.int64)])
        diameters = np.sqrt(areas * (4 / np.pi))
        spread = [round(float(value), 2) for value in np.percentile(diameters, _DIAMETERS)] if len(areas) else [0.0] * 3
        scale = fitting_scale(spread[1]) if len(areas) else 1.0
        small = self._look_at_sizes(scale)
        self._look_at_all(pairs, len(areas), spread[-1] * scale)
        classes: tuple[str, ...] = ()
        try:
            classes = in_order(self.classes)
        except InstsegError as error:
            self.add("error", str(error), "see the message")
        shapes = list(self.shapes.values())
        pixels = sum(height * width for height, width in shapes)
        sizes = Counter(f"{height} x {width}" for height, width in shapes)
        heights, widths = zip(*shapes, strict=True) if shapes else ((0,), (0,))
        counts = self.counts or [0]
        return Report(
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
            diameters=dict(zip(map(str, _DIAMETERS), spread, strict=True)),
            foreground=round(float(areas.sum()) / pixels, 4) if pixels else 0.0,
            classes={name: self.classes[name] for name in classes},
            disconnected=self.disconnected,
            empty=self.empty,
            constant=self.constant,
            small=small,
            scale=round(scale, 4),
            problems=self._problems(folder),
        )

    def _look_at_sizes(self, scale: float) -> int:
        """Count the images that are smaller than a patch when they are shown at a scale."""
        small = [path for path, shape in self.shapes.items() if round(min(shape) * scale) < self.patch_size]
        for path in small:
            shown = "" if scale == 1 else f", shown at {scale:.2g} times its size,"
            what = f"the image{shown} is smaller than a training patch of {self.patch_size} pixels"
            self.add("warning", what, "it will be padded; a smaller --patch-size avoids that", path)
        return len(small)

    def _look_at_all(self, pairs: int, instances: int, large: float) -> None:
        """Add what only the whole folder shows."""
        if not self.shapes:
            self.add("error", f"none of the {pairs} pairs can be used", "mend the problems of the single files")
        elif not instances:
            self.add("error", "no label image has an instance", "label some objects")
        elif len(self.shapes) == 1:
            self.add("warning", "there is only one pair to use", "add more, so that some can be kept for validation")
        self._add_mixed(
            "error", "numbers of channels", self.channels, "convert all to gray or all to RGB, or give --channels gray"
        )
        self._add_mixed("warning", "types of values", self.dtypes, "save all with the same bit depth")
        if large > self.patch_size / 2:
            what = (
                f"one instance in twenty is wider than {large:.3g} of the network's pixels, half of a patch is "
                f"{self.patch_size // 2}"
            )
            self.add("warning", what, "give a larger --patch-size")

    def _add_mixed(self, severity: Severity, name: str, files: dict[str, list[Path]], advice: str) -> None:
        if len(files) < 2:
            return
        most, *others = sorted(files, key=lambda key: -len(files[key]))
        counted = ", ".join(f"{key} in {len(files[key])}" for key in (most, *others))
        for path in (path for key in others for path in files[key]):
            self.add(severity, f"the images differ in their {name} ({counted})", advice, path)

    def _problems(self, folder: Path) -> tuple[Problem, ...]:
        problems = []
        for (severity, _), found in self.found.items():
            what, advice, _ = found[0]
            if any(other != what for other, _, _ in found):
                what += " (in the first; the numbers differ)"
            files = [path.relative_to(folder).as_posix() for _, _, path in found if path is not None]
            problems.append(Problem(severity, what, advice, len(files), tuple(files[:_NAMED])))
        return tuple(sorted(problems, key=lambda problem: problem.severity))


def _disconnected(instances: NDArray[np.int32]) -> int:
    """Count the instances, numbered 1..N, that lie in more than one piece."""
    pieces = connected_pieces(instances)
    owner = np.zeros(int(pieces.max()) + 1, np.int32)
    owner[pieces] = instances
    return int((np.bincount(owner[1:]) > 1).sum())
