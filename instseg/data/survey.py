"""What the images and labels of a data folder hold, and what may make a training worse."""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.data.classes import ClassNames, ClassSource
from instseg.data.label_statistics import Diameters, LabelStatistics, crumb_limit
from instseg.data.problems import ProblemList, Severity
from instseg.io.folders import Pair, UnmatchedFiles
from instseg.labels.regions import equivalent_diameter

# Of an image that is no single value, a sparse grid shows that already.
_GRID = 61


@dataclass(slots=True)
class FolderSurvey:
    """Statistics and problems of a data folder, collected pair by pair.

    A check collects all pairs; a training collects those that it reads before it begins.

    Attributes
    ----------
    folder : Path
        Files are named relative to it.
    problems : ProblemList
    shapes : dict of Path to tuple of int
        Height and width of each image; planes, rows and columns of a volume.
    spacings : dict of Path to (float, float, float)
        Of the volumes whose size of a voxel is known: that along Z, Y and X, divided by that along X.
    dtypes, channels : dict of str to list of Path
        The images by the type of their values and by their number of channels.
    areas : dict of Path to (N,) int64
        By label image, the pixels of each instance.
    digests : dict of Path to bytes
        A digest of each image, the same for images of the same pixels.
    classes : Counter
        Number of instances of each class.
    ignored : int
        Number of pixels that take no part.
    partly : dict of Path to int
        By label image of those that are labelled in parts, how many pixels are not.
    unlabelled : int
        Number of images that are left out, as nobody has labelled them yet.
    disconnected, empty, constant : int
        Number of instances in several pieces, of label images without instances, and of images of one value.
    """

    folder: Path
    problems: ProblemList = field(default_factory=ProblemList)
    shapes: dict[Path, tuple[int, ...]] = field(default_factory=dict)
    spacings: dict[Path, tuple[float, float, float]] = field(default_factory=dict)
    dtypes: dict[str, list[Path]] = field(default_factory=dict)
    channels: dict[str, list[Path]] = field(default_factory=dict)
    areas: dict[Path, NDArray[np.int64]] = field(default_factory=dict)
    digests: dict[Path, bytes] = field(default_factory=dict)
    classes: Counter[str] = field(default_factory=Counter)
    ignored: int = 0
    partly: dict[Path, int] = field(default_factory=dict)
    unlabelled: int = 0
    disconnected: int = 0
    empty: int = 0
    constant: int = 0

    def add(self, severity: Severity, what: str, advice: str, path: Path | None = None) -> None:
        """Add a problem of a file, or of the whole folder."""
        self.problems.add(severity, what, advice, path)

    def inspect_image(self, path: Path, image: NDArray[Any]) -> None:
        """Take an image (H, W, C), or a volume (Z, Y, X, C)."""
        *shape, channels = image.shape
        self.shapes[path] = tuple(shape)
        self.dtypes.setdefault(str(image.dtype), []).append(path)
        self.channels.setdefault(str(channels), []).append(path)
        self.digests[path] = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        if _has_one_value(image):
            self.constant += 1
            self.add("warning", "the image has one value only", "remove it if nothing was recorded", path)

    def inspect_spacing(self, path: Path, spacing: tuple[float, float, float] | None) -> None:
        """Take what the file of a volume says of its voxels: their relative size, or nothing."""
        if spacing is not None:
            self.spacings[path] = spacing
            return
        what = "the file does not say how far apart the planes of the volume are, so that voxels are taken for cubes"
        self.add("warning", what, "give `spacing` where a command takes it, or write it into the file", path)

    def inspect_unmatched(self, mismatches: Iterable[UnmatchedFiles]) -> None:
        """Take the files that belong to no pair."""
        for mismatch in mismatches:
            self.unlabelled += len(mismatch.files) if mismatch.expected else 0
            for path in mismatch.files:
                self.add("note" if mismatch.expected else "error", mismatch.what, mismatch.advice, path)

    def inspect_labels(self, pair: Pair, statistics: LabelStatistics) -> None:
        """Take what the label image of a pair holds."""
        path = pair.labels
        if pair.ignored is not None:
            self.partly[path] = statistics.ignored
        self.areas[path] = statistics.areas
        self.ignored += statistics.ignored
        if not len(statistics.ids):
            self.empty += 1
            self.add("warning", "there are no instances", "fine if the image shows none", path)
        apart = int((statistics.pieces > 1).sum())
        self.disconnected += apart
        if statistics.suspicion is not None:
            self.add("warning", *statistics.suspicion, path)
        elif apart:
            what = f"instances that lie in several pieces: {apart}"
            self.add("warning", what, "give each piece its own number unless they are one object", path)

    def inspect_classes(self, source: ClassSource, pair: Pair, labels: NDArray[np.int32]) -> ClassNames:
        """Return the classes of a pair, and take what does not fit; errors as `ClassSource.classify`."""
        names, inconsistencies = source.classify(pair, labels)
        for what, advice in inconsistencies:
            self.add("warning", what, advice, pair.labels)
        self.classes.update(names.values())
        return names

    def inspect_class_source(self, source: ClassSource | None, names: Collection[str]) -> None:
        """Take the classes of a folder whose pairs have these names."""
        if source is not None and (unknown := source.without_image(names)) is not None:
            self.add("warning", *unknown, source.path)

    def crumbs(self) -> int:
        """Return up to how many pixels instances are too small, next to the others, to be measured."""
        return crumb_limit(self.all_areas())

    def all_areas(self, paths: Iterable[Path] | None = None) -> NDArray[np.int64]:
        """Return the pixels of each instance of some label images, or of all."""
        chosen = self.areas.values() if paths is None else [self.areas[path] for path in paths]
        return np.concatenate([*chosen, np.zeros(0, np.int64)])

    def diameters(self) -> NDArray[np.float64]:
        """Return the diameter of each instance that is no crumb: of the disc, or in volumes of the ball, as large.

        In volumes it is in pixels along X. Where there are only crumbs, these are measured.
        """
        limit = self.crumbs()
        measured, crumbs = [], []
        for (image, shape), areas in zip(self.shapes.items(), self.areas.values(), strict=True):
            voxel = math.prod(self.spacings.get(image, (1.0,)))
            of_image = equivalent_diameter(areas * voxel, len(shape))
            measured.append(of_image[areas > limit])
            crumbs.append(of_image[areas <= limit])
        found = np.concatenate([*measured, np.zeros(0)])
        return found if len(found) else np.concatenate([*crumbs, np.zeros(0)])

    def by_spacing(self) -> dict[str, list[Path]]:
        """Return the volumes by the relative size of their voxels, such as '2 : 1 : 1'."""
        found: dict[str, list[Path]] = {}
        for path, spacing in self.spacings.items():
            found.setdefault(" : ".join(f"{size:.3g}" for size in spacing), []).append(path)
        return found

    def small(self, scale: float, patch_size: int) -> list[Path]:
        """Return the images that are smaller than a patch at a scale."""
        return [path for path, shape in self.shapes.items() if round(min(shape[-2:]) * scale) < patch_size]

    def conclude(self, diameters: Diameters, scale: float, patch_size: int, *, validated_apart: bool) -> None:
        """Add the problems that show when all pairs are known.

        Parameters
        ----------
        diameters : Diameters
            Of the instances.
        scale : float
            At how many times their size training shows the images.
        patch_size : int
            Height and width of the training patches.
        validated_apart : bool
            Whether there is another folder to validate on.
        """
        self._add_crumbs()
        self._add_partly()
        self._add_volumes(diameters)
        for path in self.small(scale, patch_size):
            shown = "" if scale == 1 else f", shown at {scale:.2g} times its size,"
            kind = "image" if len(self.shapes[path]) == 2 else "volume"
            what = f"the {kind}{shown} is smaller than a training patch of {patch_size} pixels"
            self.add("warning", what, "it will be padded; a smaller `patch_size` avoids that", path)
        if len(self.shapes) == 1 and not validated_apart and self.empty == 0:
            advice = "training validates on the image that it learns from; add more, so that some can be kept for that"
            self.add("warning", "there is only one pair to use", advice)
        self.problems.add_mixed(
            "error",
            "numbers of channels",
            self.channels,
            "convert all to gray or all to RGB, or give `channels='gray'`",
        )
        self.problems.add_mixed("warning", "types of values", self.dtypes, "save all with the same bit depth")
        if (large := diameters.largest * scale) > patch_size / 2:
            what = (
                f"one instance in twenty is wider than {large:.3g} of the network's pixels, half of a patch is "
                f"{patch_size // 2}"
            )
            self.add("warning", what, "give a larger `patch_size`")

    def partly_share(self) -> float:
        """Return the share of all pixels that are not labelled yet in images that are labelled in parts, 0..1."""
        return sum(self.partly.values()) / max(1, sum(math.prod(shape) for shape in self.shapes.values()))

    def _add_partly(self) -> None:
        what = f"labelled in parts; {self.partly_share():.1%} of all pixels are not, and take no part"
        for path in self.partly:
            self.add("note", what, "nothing has to be done", path)

    def _add_volumes(self, diameters: Diameters) -> None:
        """Add what may be wrong with volumes, where there are any."""
        volumes = {path: shape for path, shape in self.shapes.items() if len(shape) == 3}
        kinds = {"two": [path for path in self.shapes if path not in volumes], "three": list(volumes)}
        advice = "put images and volumes into folders of their own"
        self.problems.add_mixed(
            "error", "number of axes", {name: paths for name, paths in kinds.items() if paths}, advice
        )
        self.problems.add_mixed("warning", "sizes of voxels", self.by_spacing(), "resample them to one size of voxels")
        for path, shape in volumes.items():
            depth = shape[0] * self.spacings.get(path, (1.0,))[0]
            if depth < diameters.typical:
                what = (
                    f"the volume of {shape[0]} planes is {depth:.3g} pixels deep, less than an object of "
                    f"{diameters.typical:.3g} pixels"
                )
                self.add("warning", what, "all its objects are cut off; train on its planes as images", path)

    def _add_crumbs(self) -> None:
        limit = self.crumbs()
        found = {path: areas[areas <= limit] for path, areas in self.areas.items() if (areas <= limit).any()}
        if not found:
            return
        crumbs = np.concatenate(list(found.values()))
        smallest, largest = int(crumbs.min()), int(crumbs.max())
        sizes = f"{smallest} to {largest} pixels" if smallest < largest else f"{largest} pixel{'s' * (largest > 1)}"
        counts = {len(of_image) for of_image in found.values()}
        count, images = len(crumbs), f"{len(found)} images"
        if len(found) == 1:
            images = "1 image"
        elif len(counts) == 1:
            count, images = counts.pop(), f"each of {images}"
        noun = "instance" if count == 1 else "instances"
        what = f"{count} {noun} of {sizes} in {images}, far smaller than the others; not measured"
        for path in found:
            self.add("warning", what, "remove them, as slips of the annotation are learnt as objects", path)


def _has_one_value(image: NDArray[Any]) -> bool:
    first = image[(0,) * (image.ndim - 1)]
    return bool((image[::_GRID, ::_GRID] == first).all() and (image == first).all())
