"""What a training learns from: batches, validation images, and what was found out about them."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from instseg.channels import choose_channels
from instseg.data.classes import TABLE, ClassSource, Names, find_classes, in_order, numbered
from instseg.data.discs import draw_discs
from instseg.data.folder import Pair, find_pairs, read_pair
from instseg.data.lazy import LazySamples, size
from instseg.data.patches import DiscPatches, Patches, Sample, SamplePatches, make_sample
from instseg.data.streams import SPLIT, VALIDATION, stream
from instseg.decoding import header
from instseg.errors import InstsegError
from instseg.settings import DiscSettings, TrainSettings

_DISC_VALIDATION_IMAGES = 4
# Overlaps are what is hard about discs, and rare in the example images: with this many times the discs, 500
# iterations taught what 1,500 did without (AP at IoU 0.75 of 0.907 and 0.916 on 40 unseen images).
_CROWDING = 3

# Typical diameters in pixels between which images are taken as they are.
_LEAST_SEEN, _MOST_SEEN = 8.0, 48.0

MOST_BYTES = 2 * 2**30
"""Of images and labels that are kept in memory."""

# Of images that are read when they are needed: those that are looked at before training.
_LOOKED_AT = 50
_HEADERS = 500
# Validation looks at no more, so that more would only be lost to the training.
_MOST_VALIDATION = 40

Counter = Callable[[int, int], None]


class Diameters(NamedTuple):
    """Percentiles of the instances' diameters, each that of the circle of the same area, in pixels.

    Attributes
    ----------
    smallest, typical, largest : float
        5th, 50th and 95th.
    """

    smallest: float
    typical: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Everything that a training needs to know of its data.

    Attributes
    ----------
    patches : Patches
        Where batches come from.
    validation : sequence of Sample
        Images that no batch shows, or, where there is only one image, that one.
    channels : int
        Of all images.
    class_names : tuple of str
        Of the instances, that of number 1 first; empty where there are none.
    diameters : Diameters
        Of the training instances.
    scale : float
        How many times the patches' side is that of the images they are cut from.
    description : dict
        JSON-ready: what the data are, for the model's settings file.
    """

    patches: Patches
    validation: Sequence[Sample]
    channels: int
    diameters: Diameters
    scale: float
    description: dict[str, Any]
    class_names: tuple[str, ...] = ()


def disc_data(settings: TrainSettings, discs: DiscSettings | None = None) -> TrainingData:
    """Return endlessly fresh generated discs, more crowded than the validation images, which are as `discs` says."""
    discs = discs or DiscSettings()
    most = min(_CROWDING * discs.max_discs, 65_535)
    crowded = dataclasses.replace(discs, min_discs=min(_CROWDING * discs.min_discs, most), max_discs=most)
    rng = stream(settings.seed, VALIDATION)
    validation = [make_sample(*draw_discs(rng, discs)) for _ in range(_DISC_VALIDATION_IMAGES)]
    patches = DiscPatches(crowded, batch_size=settings.batch_size, patch_size=settings.patch_size, seed=settings.seed)
    return TrainingData(
        patches=patches,
        validation=validation,
        channels=1,
        diameters=measure([sample.labels for sample in validation]),
        scale=1.0,
        description={"kind": "discs", **crowded.to_dict()},
    )


def folder_data(
    folder: Path,
    settings: TrainSettings,
    *,
    validation: Path | None = None,
    connected_components: bool = False,
    channels: str | None = None,
    scale: Callable[[float], float] | None = None,
    held: Collection[str] = (),
    most_bytes: int = MOST_BYTES,
    count: Counter | None = None,
) -> TrainingData:
    """Read a folder of images and labels into memory, as they are stored, or when they are needed.

    Parameters
    ----------
    folder : Path
        With `images/` and `labels/`.
    settings : TrainSettings
        Batches, split and seed.
    validation : Path, optional
        Another such folder to validate on. Without it a share of the pairs is
        kept for that; of a single pair both are made.
    connected_components : bool
        Take binary masks as labels, each connected piece an instance.
    channels : str, optional
        The images' channels to take, as `instseg.channels.parse_channels` reads it.
    scale : callable, optional
        Is told the typical diameter of the training objects and returns how many times larger images are to be shown,
        by default `fitting_scale`.
    held : collection of str
        Names of images to keep for validation, as a training before this one did: what it has learnt from must not
        judge it. Those that are still there are what is kept, if any is.
    most_bytes : int
        Memory for images and labels. Where they take more, they are read when they are needed, patches are cut from
        some hundred images at a time, which give way to others one by one, and the diameters are those of a sample.
    count : callable, optional
        Is told how many images of how many have been read.

    Raises
    ------
    InstsegError
        If anything in the folders cannot be trained on.
    """
    pairs = find_pairs(folder)
    if validation is None:
        training_pairs, validation_pairs = split(pairs, settings, held)
    else:
        training_pairs, validation_pairs = pairs, find_pairs(validation)
    everything = list(dict.fromkeys([*training_pairs, *validation_pairs]))
    source = find_classes(folder, connected_components=connected_components)
    read = _Reader(connected_components, channels, source)
    if _bytes(everything) > most_bytes:
        return _lazy_data(folder, settings, training_pairs, validation_pairs, read, scale, most_bytes, count)
    samples: dict[Pair, Sample] = {}
    names: dict[Pair, Names] = {}
    for number, pair in enumerate(everything, start=1):
        samples[pair] = read(pair)
        if source is not None and pair.labels.parent.parent == folder:
            names[pair] = source.names(pair, samples[pair].labels)
        if count is not None:
            count(number, len(everything))
    class_names = in_order(name for of_image in names.values() for name in of_image.values())
    for pair, of_image in names.items():
        # Of a folder in which no instance has a class, this says so.
        found = numbered(samples[pair].labels, of_image, class_names, str(pair.labels))
        if class_names:
            samples[pair] = samples[pair]._replace(classes=found)
    training = [samples[pair] for pair in training_pairs]
    common = _common_channels(samples)
    if not any(sample.labels.any() for sample in training):
        if validation is None and any(samples[pair].labels.any() for pair in validation_pairs):
            raise InstsegError(
                f"only the {len(validation_pairs)} images of {folder} kept for validation hold instances, "
                f"not the {len(training)} to train on; give another --seed, or a folder of its own by --val"
            )
        raise InstsegError(
            f"no label in {folder} holds an instance, expected some pixels above 0; check the label images"
        )
    diameters = measure([sample.labels for sample in training])
    shown = (scale or fitting_scale)(diameters.typical)
    if shown != 1:
        # One after the other, so that no more is in memory than has to be.
        for number, sample in enumerate(training):
            training[number] = resized(sample, shown)
    return TrainingData(
        patches=SamplePatches(
            training, batch_size=settings.batch_size, patch_size=settings.patch_size, seed=settings.seed
        ),
        validation=[samples[pair] for pair in validation_pairs],
        channels=common,
        diameters=diameters,
        scale=shown,
        description=_description(training_pairs, validation_pairs),
        class_names=class_names,
    )


def _bytes(pairs: Sequence[Pair]) -> float:
    """Return about how much memory pairs take, by the headers of some of them."""
    some = pairs[:: -(-len(pairs) // _HEADERS)]
    total = 0
    for pair in some:
        found = header(pair.image)
        values = found.planes * found.channels * np.dtype(found.dtype).itemsize
        total += found.height * found.width * (values + np.dtype(np.int32).itemsize)
    return total * len(pairs) / len(some)


@dataclass(frozen=True)
class _Reader:
    """Reads pairs as a folder's options say."""

    connected_components: bool
    channels: str | None
    source: ClassSource | None

    def __call__(self, pair: Pair) -> Sample:
        stacked = self.channels is not None
        image, labels = read_pair(pair, connected_components=self.connected_components, stacked=stacked)
        if self.channels is not None:
            image = _chosen(pair, image, self.channels)
        return make_sample(image, labels)


def _lazy_data(
    folder: Path,
    settings: TrainSettings,
    training_pairs: Sequence[Pair],
    validation_pairs: Sequence[Pair],
    read: _Reader,
    scale: Callable[[float], float] | None,
    most_bytes: int,
    count: Counter | None,
) -> TrainingData:
    """Look at some of the images, and prepare to read all when they are needed."""
    rng = stream(settings.seed, SPLIT, 1)
    order = rng.permutation(len(training_pairs))[:_LOOKED_AT].tolist()
    seen: dict[Pair, Sample] = {}
    for number, place in enumerate(order, start=1):
        seen[training_pairs[place]] = read(training_pairs[place])
        if count is not None:
            count(number, len(order))
    if not any(sample.labels.any() for sample in seen.values()):
        raise InstsegError(
            f"none of {len(seen)} label images of {folder} holds an instance, expected some pixels above 0; "
            "check the label images"
        )
    if read.source is not None and read.source.table is None:
        raise InstsegError(
            f"the images of {folder} do not fit into memory, and their classes would have to be read off all class "
            f"images first; write them into {TABLE}"
        )
    table = {} if read.source is None else read.source.table or {}
    class_names = in_order(name for of_image in table.values() for name in of_image.values())
    common = _common_channels(seen)
    diameters = measure([sample.labels for sample in seen.values()])
    shown = (scale or fitting_scale)(diameters.typical)

    def prepared(pair: Pair, scale: float) -> Sample:
        sample = read(pair)
        if sample.image.shape[2] != common:
            _common_channels({**seen, pair: sample})
        if read.source is not None and pair.labels.parent.parent == folder:
            of_image = read.source.names(pair, sample.labels)
            sample = sample._replace(classes=numbered(sample.labels, of_image, class_names, str(pair.labels)))
        return sample if scale == 1 else resized(sample, scale)

    typical = sum(size(sample) for sample in seen.values()) / len(seen) * shown**2
    within = max(1, min(len(training_pairs), int(most_bytes / 2 / typical)))
    return TrainingData(
        patches=SamplePatches(
            LazySamples([functools.partial(prepared, pair, shown) for pair in training_pairs], most_bytes),
            batch_size=settings.batch_size,
            patch_size=settings.patch_size,
            seed=settings.seed,
            within=within,
        ),
        validation=LazySamples([functools.partial(prepared, pair, 1.0) for pair in validation_pairs], most_bytes // 8),
        channels=common,
        diameters=diameters,
        scale=shown,
        description=_description(training_pairs, validation_pairs),
        class_names=class_names,
    )


def _description(training_pairs: Sequence[Pair], validation_pairs: Sequence[Pair]) -> dict[str, Any]:
    return {
        "kind": "folder",
        "training_images": len(training_pairs),
        "validation_images": sorted(pair.name for pair in validation_pairs),
    }


def split(pairs: Sequence[Pair], settings: TrainSettings, held: Collection[str] = ()) -> tuple[list[Pair], list[Pair]]:
    """Part pairs into training and validation, by names to hold back, else by the seed; a single pair is both."""
    if len(pairs) == 1:
        return list(pairs), list(pairs)
    kept_before = [pair for pair in pairs if pair.name in held]
    if 0 < len(kept_before) < len(pairs):
        return [pair for pair in pairs if pair.name not in held], kept_before
    rng = stream(settings.seed, SPLIT)
    kept = max(1, min(round(settings.validation_share * len(pairs)), len(pairs) - 1, _MOST_VALIDATION))
    chosen = set(rng.permutation(len(pairs))[:kept].tolist())
    training = [pair for number, pair in enumerate(pairs) if number not in chosen]
    return training, [pairs[number] for number in sorted(chosen)]


def _common_channels(samples: dict[Pair, Sample]) -> int:
    by_channels: dict[int, list[Pair]] = {}
    for pair, sample in samples.items():
        by_channels.setdefault(sample.image.shape[2], []).append(pair)
    if len(by_channels) > 1:
        found = "; ".join(
            f"{len(pairs)} with {channels} (such as {pairs[0].image.name})" for channels, pairs in by_channels.items()
        )
        raise InstsegError(
            f"the images differ in channels: {found}; convert them to all gray or all RGB, or give --channels gray"
        )
    return next(iter(by_channels))


def _chosen(pair: Pair, image: NDArray[Any], channels: str) -> NDArray[Any]:
    try:
        return choose_channels(image, channels)
    except InstsegError as error:
        raise InstsegError(f"{pair.image}: {error}; choose others, or leave the image out") from error


def measure(labels: Sequence[NDArray[np.int32]]) -> Diameters:
    """Measure the instances of label images, which hold at least one."""
    # Counted by sorting: numbers of labels may be large.
    areas = np.concatenate([np.unique_counts(image[image > 0]).counts for image in labels])
    return Diameters(*(round(2 * math.sqrt(area / math.pi), 2) for area in np.percentile(areas, (5, 50, 95))))


def fitting_scale(diameter: float) -> float:
    """Return how many times larger images have to be made for the network to see objects of a diameter well.

    The network sees about 130 pixels around each (its receptive field) and
    works on cells of 2 x 2: between these lies a wide range that needs nothing.
    """
    return float(np.clip(diameter, _LEAST_SEEN, _MOST_SEEN)) / diameter


def resized(sample: Sample, scale: float) -> Sample:
    """Make a sample so many times larger: images smoothed before they are thinned out, labels nearest."""
    height, width = (max(1, round(side * scale)) for side in sample.labels.shape)
    channels = [
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR))
        for channel in np.moveaxis(sample.image.astype(np.float32), 2, 0)
    ]
    labels = np.asarray(Image.fromarray(sample.labels).resize((width, height), Image.Resampling.NEAREST))
    return sample._replace(image=np.stack(channels, axis=-1), labels=labels)
