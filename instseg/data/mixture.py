"""Training on several data folders at once: each at a scale that fits, and none drowned by a larger one."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.data.datasets import MAX_BYTES, TrainingData, suggest_scale
from instseg.data.folder_samples import OpenedFolder, ReadOptions, count_pixels, estimate_bytes, open_samples
from instseg.data.label_statistics import Diameters, label_statistics, measure_diameters
from instseg.data.patches import MixedPatches, SamplePatches
from instseg.data.problems import Problem, ProblemList, by_severity
from instseg.data.rng import SPLIT, generator
from instseg.data.samples import Sample, SampleReader, Scale, rescaled
from instseg.errors import InstsegError
from instseg.io.folders import Pair, find_pairs
from instseg.labels.regions import equivalent_diameter
from instseg.settings import TrainSettings

# Folders whose typical diameters differ by no more than this factor are shown at one scale.
_ALIKE = 2.0
_SMALLEST_SCALE, _LARGEST_SCALE = 0.1, 4.0
# The network sees about so many pixels around each. A folder of small objects is enlarged only as long as its largest
# ones stay within.
_SEEN = 130.0
# A pixel of a folder is shown so many times as often as one of another before that is worth a word.
_REPEATED = 20.0
# Validation scores 40 images; of many folders a few each are read.
_VALIDATION_IMAGES = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderShare:
    """What a training takes from a folder.

    Attributes
    ----------
    path : Path
    training, validation : int
        Number of images.
    diameter : float
        Typical diameter of the training instances in pixels.
    scale : float
        How many times as high and wide its images are shown.
    pixels : float
        Of the training images at this scale.
    share : float
        Of the patches, 0 to 1.
    """

    path: Path
    training: int
    validation: int
    diameter: float
    scale: float
    pixels: float
    share: float

    def line(self) -> str:
        """Return it in words, such as 'a/b: 36 images and 4 to validate on, objects of 48 px, shown at 0.5 ...'."""
        images = f"{self.training} image{'s' * (self.training != 1)}"
        held = f" and {self.validation} to validate on" if self.validation else ""
        shown = "as they are" if abs(self.scale - 1) < 0.05 else f"shown at {self.scale:.2g} times their size"
        return f"{self.path}: {images}{held}, objects of {self.diameter:.3g} px {shown}, {self.share:.1%} of patches"


@dataclass(frozen=True, slots=True)
class _Sizes:
    """At which scale images are shown: all at one, or those of each folder so that objects reach a common diameter."""

    common_diameter: float | None
    one_scale: float

    def of_folder(self, diameters: Diameters) -> float:
        """Return the scale for a folder of objects of such diameters."""
        if self.common_diameter is None:
            return self.one_scale
        return _clip(self.common_diameter / diameters.typical, diameters.largest)

    def of_images(self, diameters: Diameters) -> Scale:
        """Return the scale of the images of such a folder: each comes half of the way that its own objects are off."""
        target = self.common_diameter
        if target is None:
            return self.one_scale

        def scale(sample: Sample) -> float:
            areas = label_statistics(sample.labels).areas
            own = float(equivalent_diameter(np.median(areas))) if len(areas) else diameters.typical
            factor = _clip(target / (own * diameters.typical) ** 0.5, diameters.largest)
            return 1.0 if abs(factor - 1) < 0.05 else factor

        return scale


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that was read."""

    path: Path
    training: Sequence[Pair]
    validation: Sequence[Pair]
    opened: OpenedFolder
    diameters: Diameters


def mixed_data(
    folders: Sequence[Path],
    settings: TrainSettings,
    *,
    val: Sequence[Path] = (),
    read: ReadOptions | None = None,
    common_diameter: float | None = None,
    validation_names: Collection[str] = (),
    max_bytes: int = MAX_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TrainingData:
    """Return the images and labels of several data folders.

    Patches are cut from a folder as often as the cube root of its number of pixels says, at the scale at which they are
    shown: one of a thousand times as many pixels is seen ten times as often. Folders whose objects are alike in size
    are shown at one scale. Otherwise the objects of all are brought to one size, the geometric mean of the typical
    diameters; each image to the geometric mean of what its own objects and those of its folder need. Gray images are
    shown as three equal channels where others have three.

    Parameters
    ----------
    folders : sequence of Path
        Each holds `images/` and `labels/`.
    settings : TrainSettings
        Batches, split, augmentation and seed.
    val : sequence of Path
        Such folders to validate on. Without them a share of the pairs of each folder is kept for validation, and none
        of a folder with few.
    read : ReadOptions, optional
        How images and labels are read.
    common_diameter : float, optional
        The diameter in pixels that objects are brought to, whether or not the folders are alike.
    validation_names : collection of str
        Pairs to keep for validation, as an earlier training did: number of the folder, slash, name.
    max_bytes : int
        Memory for images and labels, as `folder_data` takes it.
    progress : callable
        Is called with the number of images read so far and of all.

    Raises
    ------
    InstsegError
        If the training could not use the folders.
    """
    read = read or ReadOptions()
    found = _read_folders(folders, settings, read, bool(val), validation_names, max_bytes, progress)
    channels = _common_channels(found)
    class_names = _common_classes(found)
    sizes = _choose_sizes(found, common_diameter)
    shares = _shares(found, sizes)
    problems = _problems(found, shares, sizes, settings)
    sources: list[SamplePatches] = []
    validation: list[Sample] = []
    for folder in found:
        samples = folder.opened.samples
        samples.set_class_names(class_names)
        scale = sizes.of_images(folder.diameters)
        # Before the training samples, which may take the place of those that they are made of.
        validation += samples.validation(scale) if folder.validation else []
        training, shuffle_buffer = samples.training(scale)
        sources.append(_patches(training, settings, channels, shuffle_buffer))
    for path in val:
        validation += _validation_folder(path, read, sizes, max(1, _VALIDATION_IMAGES // len(val)))
    if not any((sample.labels > 0).any() for sample in validation):
        raise InstsegError(
            "none of the images to validate on holds an instance, expected some; check the label images, or give "
            "another `seed`"
        )
    return TrainingData(
        patches=MixedPatches(
            sources, [share.share for share in shares], batch_size=settings.batch_size, seed=settings.seed
        ),
        validation=[_with_channels(sample, channels) for sample in validation],
        channels=channels,
        diameters=_shown_diameters(found, sizes),
        scale=sizes.one_scale,
        description=_describe(found, shares, sizes),
        class_names=class_names,
        problems=problems,
        validated_apart=_is_validated_apart(found, val),
        estimate_diameter=sizes.common_diameter is not None,
    )


def _read_folders(
    folders: Sequence[Path],
    settings: TrainSettings,
    read: ReadOptions,
    validated_apart: bool,
    validation_names: Collection[str],
    max_bytes: int,
    progress: Callable[[int, int], None],
) -> list[_Folder]:
    pairs = [find_pairs(folder) for folder in folders]
    splits = [(of_folder, []) for of_folder in pairs] if validated_apart else _split(pairs, settings, validation_names)
    sizes = np.array([estimate_bytes(of_folder) for of_folder in pairs])
    total, done = sum(map(len, pairs)), 0
    found = []
    for path, (training, validation), size in zip(folders, splits, sizes, strict=True):
        before = done

        def count(read_now: int, _of_folder: int, before: int = before) -> None:
            progress(before + read_now, total)

        memory = int(max_bytes * size / sizes.sum())
        opened = open_samples(path, training, validation, read, settings.seed, memory, count)
        areas = opened.survey.all_areas(opened.samples.measured)
        found.append(_Folder(path, training, validation, opened, measure_diameters(areas, opened.survey.crumbs())))
        done += len(training) + len(validation)
    return found


def _split(
    pairs: Sequence[Sequence[Pair]], settings: TrainSettings, validation_names: Collection[str]
) -> list[tuple[list[Pair], list[Pair]]]:
    """Keep a share of each folder for validation: none of one with few pairs, unless all have few."""
    most = max(1, _VALIDATION_IMAGES // len(pairs))
    counts = [min(round(settings.validation_share * len(of_folder)), most) for of_folder in pairs]
    largest = max(range(len(pairs)), key=lambda index: len(pairs[index]))
    if not any(counts):
        counts[largest] = 1
    splits = []
    for number, (of_folder, count) in enumerate(zip(pairs, counts, strict=True)):
        held = {pair.name for pair in of_folder if f"{number}/{pair.name}" in validation_names}
        if not validation_names:
            chosen = generator(settings.seed, SPLIT, number).permutation(len(of_folder))[:count]
            held = {of_folder[index].name for index in chosen}
        training = [pair for pair in of_folder if pair.name not in held]
        # A folder of one pair is used for both.
        splits.append((training or list(of_folder), [pair for pair in of_folder if pair.name in held]))
    return splits


def _is_validated_apart(found: Sequence[_Folder], val: Sequence[Path]) -> bool:
    """Return whether no image to validate on is learnt from."""
    if val:
        return not {path.resolve() for path in val} & {folder.path.resolve() for folder in found}
    return not any(pair in folder.training for folder in found for pair in folder.validation)


def _common_channels(found: Sequence[_Folder]) -> int:
    """Return the channels of the patches."""
    counts = {folder.path: folder.opened.samples.channels for folder in found}
    different = sorted(set(counts.values()))
    if len(different) > 1 and different != [1, 3]:
        listed = ", ".join(f"{count} in {path}" for path, count in counts.items())
        raise InstsegError(
            f"the folders differ in the number of channels: {listed}; expected the same, or gray and RGB; choose some "
            "by `channels`, such as 'gray'"
        )
    return different[-1]


def _common_classes(found: Sequence[_Folder]) -> tuple[str, ...]:
    """Return the names of the classes, which are the same in all folders."""
    of_folders = {folder.path: folder.opened.samples.class_names for folder in found}
    first, *others = of_folders
    for path in others:
        if of_folders[path] != of_folders[first]:
            one, other = (", ".join(of_folders[folder]) or "none" for folder in (first, path))
            raise InstsegError(
                f"the classes in {first} are {one}, those in {path} are {other}, expected the same; give all instances "
                "classes of the same names, or take the classes away"
            )
    return of_folders[first]


def _choose_sizes(found: Sequence[_Folder], common_diameter: float | None) -> _Sizes:
    typical = np.array([folder.diameters.typical for folder in found])
    if common_diameter is not None:
        return _Sizes(common_diameter, 1.0)
    mean = float(np.exp(np.log(typical).mean()))
    if typical.max() <= _ALIKE * typical.min():
        return _Sizes(None, suggest_scale(mean))
    return _Sizes(round(mean * suggest_scale(mean), 1), 1.0)


def _shares(found: Sequence[_Folder], sizes: _Sizes) -> list[FolderShare]:
    scales = [sizes.of_folder(folder.diameters) for folder in found]
    pixels = [count_pixels(folder.training) * scale**2 for folder, scale in zip(found, scales, strict=True)]
    weights = np.cbrt(pixels)
    return [
        FolderShare(
            path=folder.path,
            training=len(folder.training),
            validation=len(folder.validation),
            diameter=folder.diameters.typical,
            scale=scale,
            pixels=count,
            share=float(weight / weights.sum()),
        )
        for folder, scale, count, weight in zip(found, scales, pixels, weights, strict=True)
    ]


def _patches(
    samples: Sequence[Sample], settings: TrainSettings, channels: int, shuffle_buffer: int | None
) -> SamplePatches:
    return SamplePatches(
        samples,
        batch_size=settings.batch_size,
        patch_size=settings.patch_size,
        seed=settings.seed,
        shuffle_buffer=shuffle_buffer,
        augmentation=settings.augmentation,
        channels=channels,
    )


def _validation_folder(path: Path, read: ReadOptions, sizes: _Sizes, most: int) -> list[Sample]:
    """Read every n-th pair of a folder to validate on."""
    pairs = find_pairs(path)
    reader = SampleReader(path, **read._asdict())
    samples = [reader.read(pair) for pair in pairs[:: -(-len(pairs) // most)]]
    areas = np.concatenate([label_statistics(sample.labels).areas for sample in samples])
    if not len(areas):
        return samples
    scale = sizes.of_images(measure_diameters(areas))
    return [rescaled(sample, scale) for sample in samples]


def _with_channels(sample: Sample, channels: int) -> Sample:
    if sample.image.shape[2] == channels:
        return sample
    repeated: NDArray[Any] = np.repeat(sample.image, channels, axis=2)
    return sample._replace(
        image=repeated,
        low=np.repeat(sample.low, channels),
        high=np.repeat(sample.high, channels),
    )


def _shown_diameters(found: Sequence[_Folder], sizes: _Sizes) -> Diameters:
    """Return the diameters of the instances at the size that a model without further notice takes images to have."""
    areas = []
    for folder in found:
        of_folder = folder.opened.survey.all_areas(folder.opened.samples.measured)
        scale = 1.0 if sizes.common_diameter is None else sizes.of_folder(folder.diameters)
        areas.append(of_folder[of_folder > folder.opened.survey.crumbs()] * scale**2)
    diameters = measure_diameters(np.concatenate(areas))
    return diameters if sizes.common_diameter is None else diameters._replace(typical=sizes.common_diameter)


def _describe(found: Sequence[_Folder], shares: Sequence[FolderShare], sizes: _Sizes) -> dict[str, object]:
    names = [f"{number}/{pair.name}" for number, folder in enumerate(found) for pair in folder.validation]
    return {
        "kind": "folders",
        "training_images": sum(share.training for share in shares),
        "validation_images": sorted(names),
        "common_diameter": sizes.common_diameter,
        "shares": [share.line() for share in shares],
    }


def _problems(
    found: Sequence[_Folder], shares: Sequence[FolderShare], sizes: _Sizes, settings: TrainSettings
) -> tuple[Problem, ...]:
    """Return the problems of all folders, and those that show when they are side by side."""
    together = ProblemList()
    often = [share.share / share.pixels for share in shares]
    usual = float(np.median(often))
    for share, repeated in zip(shares, often, strict=True):
        if repeated > _REPEATED * usual:
            what = f"{share.path} is so small that its pixels are shown {repeated / usual:.0f} times as often as others"
            together.add("warning", what, "fine if its kind of image matters as much; more images would do more")
    first: dict[bytes, int] = {}
    for number, folder in enumerate(found):
        for path, digest in folder.opened.survey.digests.items():
            if first.setdefault(digest, number) != number:
                advice = "leave one out, as the training may learn one and be validated on the other"
                together.add("warning", "the same image is in another folder, too", advice, path)
    problems = list(together.merged(Path(os.path.commonpath([folder.path.resolve() for folder in found]))))
    for folder in found:
        survey = folder.opened.survey
        scale = sizes.of_folder(folder.diameters)
        survey.conclude(folder.diameters, scale, settings.patch_size, validated_apart=True)
        problems.extend(survey.problems.merged(folder.path.parent))
    return by_severity(problems)


def _clip(scale: float, largest: float) -> float:
    """Return a scale within bounds, at which objects of the largest diameter are not enlarged beyond what is seen."""
    return min(max(scale, _SMALLEST_SCALE), _LARGEST_SCALE, max(1.0, _SEEN / largest))
