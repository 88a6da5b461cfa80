"""The samples of one data folder: in memory where they fit into it, else read when they are needed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from instseg.data.cached_samples import StreamedSamples
from instseg.data.classes import find_classes
from instseg.data.memory import MemorySamples
from instseg.data.rng import SPLIT, generator
from instseg.data.samples import SampleReader
from instseg.data.survey import FolderSurvey
from instseg.io.folders import Pair, match_folder
from instseg.io.formats import read_header
from instseg.io.stored_volume import read_volume_header
from instseg.settings import LevelsRule

# The memory that images take is estimated by so many headers.
_HEADERS = 500


class ReadOptions(NamedTuple):
    """How images and labels are read; `SampleReader` says what each means."""

    connected_components: bool = False
    channels: str | None = None
    ignore_label: int | None = None
    levels: LevelsRule = "robust"
    volumes: bool = False


class OpenedFolder(NamedTuple):
    """The samples of a folder, and what they are like."""

    samples: MemorySamples | StreamedSamples
    survey: FolderSurvey


def open_samples(
    folder: Path,
    training_pairs: Sequence[Pair],
    validation_pairs: Sequence[Pair],
    read: ReadOptions,
    seed: int,
    max_bytes: int,
    progress: Callable[[int, int], None],
) -> OpenedFolder:
    """Read the pairs of a data folder, or some of them where they do not fit into memory.

    Parameters
    ----------
    folder : Path
        Holds the training pairs. Validation pairs may be from another one, and have no classes then.
    training_pairs, validation_pairs : sequence of Pair
        A pair can be in both.
    read : ReadOptions
    seed : int
        Chooses the pairs that are read before the training.
    max_bytes : int
        Memory for images and labels.
    progress : callable
        Is called with the number of images read so far and of all.

    Raises
    ------
    InstsegError
        If a training could not use the pairs.
    """
    classes = find_classes(folder, connected_components=read.connected_components)
    reader = SampleReader(folder, classes=classes, **read._asdict())
    survey = FolderSurvey(folder)
    survey.inspect_unmatched(match_folder(folder)[1])
    pairs = list(dict.fromkeys([*training_pairs, *validation_pairs]))
    survey.inspect_class_source(classes, [pair.name for pair in pairs if reader.is_in_folder(pair)])
    if estimate_bytes(pairs, volumes=read.volumes) > max_bytes:
        rng = generator(seed, SPLIT, 1)
        streamed = StreamedSamples(reader, training_pairs, validation_pairs, max_bytes, rng, progress, survey)
        return OpenedFolder(streamed, survey)
    return OpenedFolder(MemorySamples(reader, training_pairs, validation_pairs, progress, survey), survey)


def estimate_bytes(pairs: Sequence[Pair], *, volumes: bool = False) -> float:
    """Return about how much memory the images and labels of pairs take, by the headers of some of them."""
    some = pairs[:: -(-len(pairs) // _HEADERS)] if pairs else []
    total = 0
    if volumes:
        headers = [read_volume_header(pair.image) for pair in some]
        each = (one.channels * np.dtype(one.dtype).itemsize + np.dtype(np.int32).itemsize for one in headers)
        total = sum(math.prod(one.shape) * size for one, size in zip(headers, each, strict=True))
        return total * len(pairs) / max(1, len(some))
    for pair in some:
        header = read_header(pair.image)
        values = header.planes * header.channels * np.dtype(header.dtype).itemsize
        total += header.height * header.width * (values + np.dtype(np.int32).itemsize)
    return total * len(pairs) / max(1, len(some))


def count_pixels(pairs: Sequence[Pair]) -> float:
    """Return about how many pixels the images of pairs have, by the headers of some of them."""
    some = pairs[:: -(-len(pairs) // _HEADERS)] if pairs else []
    headers = [read_header(pair.image) for pair in some]
    return sum(header.height * header.width for header in headers) * len(pairs) / max(1, len(some))
