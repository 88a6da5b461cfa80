"""What a training learns from: batches, validation images, and what was found out about them."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.data.discs import draw_discs
from instseg.data.folder import Pair, find_pairs, read_pair
from instseg.data.patches import DiscPatches, Patches, Sample, SamplePatches, make_sample
from instseg.data.streams import SPLIT, VALIDATION, stream
from instseg.errors import InstsegError
from instseg.settings import DiscSettings, TrainSettings

_DISC_VALIDATION_IMAGES = 4
# Overlaps are what is hard about discs, and rare in the example images: with this many times the discs, 500
# iterations taught what 1,500 did without (AP at IoU 0.75 of 0.907 and 0.916 on 40 unseen images).
_CROWDING = 3

Counter = Callable[[int, int], None]


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
    diameter : float
        Median over the training instances of the diameter of the circle of the same area, in pixels.
    description : dict
        JSON-ready: what the data are, for the model's settings file.
    """

    patches: Patches
    validation: Sequence[Sample]
    channels: int
    diameter: float
    description: dict[str, Any]


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
        diameter=_diameter([sample.labels for sample in validation]),
        description={"kind": "discs", **crowded.to_dict()},
    )


def folder_data(
    folder: Path,
    settings: TrainSettings,
    *,
    validation: Path | None = None,
    connected_components: bool = False,
    count: Counter | None = None,
) -> TrainingData:
    """Read a folder of images and labels into memory, as they are stored.

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
    count : callable, optional
        Is told how many images of how many have been read.

    Raises
    ------
    InstsegError
        If anything in the folders cannot be trained on.
    """
    pairs = find_pairs(folder)
    if validation is None:
        training_pairs, validation_pairs = split(pairs, settings)
    else:
        training_pairs, validation_pairs = pairs, find_pairs(validation)
    everything = list(dict.fromkeys([*training_pairs, *validation_pairs]))
    samples: dict[Pair, Sample] = {}
    for number, pair in enumerate(everything, start=1):
        samples[pair] = make_sample(*read_pair(pair, connected_components=connected_components))
        if count is not None:
            count(number, len(everything))
    training = [samples[pair] for pair in training_pairs]
    channels = _common_channels(samples)
    if not any(sample.labels.any() for sample in training):
        if any(samples[pair].labels.any() for pair in validation_pairs):
            raise InstsegError(
                f"only the {len(validation_pairs)} images of {folder} kept for validation hold instances, "
                f"not the {len(training)} to train on; give another --seed, or a folder of its own by --val"
            )
        raise InstsegError(
            f"no label in {folder} holds an instance, expected some pixels above 0; check the label images"
        )
    return TrainingData(
        patches=SamplePatches(
            training, batch_size=settings.batch_size, patch_size=settings.patch_size, seed=settings.seed
        ),
        validation=[samples[pair] for pair in validation_pairs],
        channels=channels,
        diameter=_diameter([sample.labels for sample in training]),
        description={
            "kind": "folder",
            "training_images": len(training_pairs),
            "validation_images": sorted(pair.name for pair in validation_pairs),
        },
    )


def split(pairs: Sequence[Pair], settings: TrainSettings) -> tuple[list[Pair], list[Pair]]:
    """Part pairs into training and validation, by the seed; a single pair is both."""
    if len(pairs) == 1:
        return list(pairs), list(pairs)
    rng = stream(settings.seed, SPLIT)
    kept = max(1, min(round(settings.validation_share * len(pairs)), len(pairs) - 1))
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
        raise InstsegError(f"the images differ in channels: {found}; convert them to all gray or all RGB")
    return next(iter(by_channels))


def _diameter(labels: Sequence[NDArray[np.int32]]) -> float:
    # Counted by sorting: numbers of labels may be large.
    areas = np.concatenate([np.unique_counts(image[image > 0]).counts for image in labels])
    return float(2 * np.sqrt(np.median(areas) / np.pi))
