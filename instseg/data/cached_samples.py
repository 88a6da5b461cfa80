"""Training data larger than memory: a few pairs are read before the training, and all of them when they are needed."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from instseg.data.classes import TABLE, class_indices, sort_class_names
from instseg.data.samples import Sample, SampleReader, Scale, common_channels, rescaled
from instseg.data.survey import FolderSurvey
from instseg.errors import InstsegError
from instseg.io.folders import Pair

# So many pairs are read before the training.
_EXAMINED = 50
# Shares of the memory: for the cache of validation samples, and for the images that patches are cut from at a time. The
# rest has room for the next images.
_VALIDATION_SHARE, _BUFFER_SHARE = 1 / 8, 1 / 2


class CachedSamples(Sequence[Sample]):
    """Samples that are read when they are needed, of which the last used ones stay in memory.

    Parameters
    ----------
    readers : sequence of callables
        Each reads a sample.
    max_bytes : int
        Memory for the samples that stay; the last one always does.
    """

    def __init__(self, readers: Sequence[Callable[[], Sample]], max_bytes: int) -> None:
        self._readers = readers
        self._max_bytes = max_bytes
        self._cache: OrderedDict[int, Sample] = OrderedDict()
        self._bytes = 0
        # Batches are made by several threads.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._readers)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """Return a sample, which is read unless it is in the cache; or a part of the sequence without reading it."""
        if isinstance(index, slice):
            return CachedSamples(self._readers[index], self._max_bytes)
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        # Without the lock, so that two threads can read two images at once.
        sample = self._readers[index]()
        with self._lock:
            if index not in self._cache:
                self._cache[index] = sample
                self._bytes += sample.nbytes
            while self._bytes > self._max_bytes and len(self._cache) > 1:
                self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return sample


class StreamedSamples:
    """The samples of a training, which are read when they are needed.

    Parameters
    ----------
    reader : SampleReader
    training_pairs, validation_pairs : sequence of Pair
        A pair can be in both.
    max_bytes : int
        Memory for images and labels.
    rng : numpy.random.Generator
        Chooses the training pairs that are read before the training.
    progress : callable
        Is called with the number of images read so far and of all that are read before the training.
    survey : FolderSurvey
        Takes the pairs that are read before the training.

    Attributes
    ----------
    measured : sequence of Path
        Some of the training label images, whose instances tell the typical size.
    channels : int
        Of all images.
    class_names : tuple of str
        Of the classes 1..K.

    Raises
    ------
    InstsegError
        If a file cannot be read, none of the pairs that are read holds an instance, classes are in images, or the
        numbers of channels differ.
    """

    def __init__(
        self,
        reader: SampleReader,
        training_pairs: Sequence[Pair],
        validation_pairs: Sequence[Pair],
        max_bytes: int,
        rng: np.random.Generator,
        progress: Callable[[int, int], None],
        survey: FolderSurvey,
    ) -> None:
        self._reader = reader
        self._training_pairs, self._validation_pairs = training_pairs, validation_pairs
        self._max_bytes = max_bytes
        chosen = rng.permutation(len(training_pairs))[:_EXAMINED].tolist()
        self._examined: dict[Pair, Sample] = {}
        for number, index in enumerate(chosen, start=1):
            self._examined[training_pairs[index]] = reader.read(training_pairs[index], survey)
            progress(number, len(chosen))
        if not any((sample.labels > 0).any() for sample in self._examined.values()):
            raise InstsegError(
                f"none of {len(self._examined)} label images of {reader.folder} holds an instance, expected some "
                "pixels above 0; check the label images"
            )
        self.class_names = _table_class_names(reader)
        self.channels = common_channels(self._examined)
        for pair, sample in self._examined.items():
            reader.class_names(pair, sample.labels, survey)
        self.measured = [pair.labels for pair in self._examined]

    def set_class_names(self, order: Sequence[str]) -> None:
        """Give the samples classes, whose numbers 1..K follow from the order of their names."""
        self.class_names = tuple(order)

    def validation(self, scale: Scale = 1.0) -> Sequence[Sample]:
        """Return the validation samples at a scale."""
        return self._cached(self._validation_pairs, scale, int(self._max_bytes * _VALIDATION_SHARE))

    def training(self, scale: Scale) -> tuple[Sequence[Sample], int | None]:
        """Return the training samples at a scale, and how many of them patches are cut from at a time."""
        sizes = [
            sample.nbytes * (scale(sample) if callable(scale) else scale) ** sample.labels.ndim
            for sample in self._examined.values()
        ]
        typical = sum(sizes) / len(sizes)
        buffer = max(1, min(len(self._training_pairs), int(self._max_bytes * _BUFFER_SHARE / typical)))
        return self._cached(self._training_pairs, scale, self._max_bytes), buffer

    def _cached(self, pairs: Sequence[Pair], scale: Scale, max_bytes: int) -> CachedSamples:
        return CachedSamples([functools.partial(self._read, pair, scale) for pair in pairs], max_bytes)

    def _read(self, pair: Pair, scale: Scale) -> Sample:
        sample = self._reader.read(pair)
        if sample.image.shape[-1] != self.channels:
            common_channels({**self._examined, pair: sample})
        if (names := self._reader.class_names(pair, sample.labels)) is not None:
            classes = class_indices(sample.labels, names, self.class_names, str(pair.labels))
            sample = sample._replace(classes=classes)
        return rescaled(sample, scale)


def _table_class_names(reader: SampleReader) -> tuple[str, ...]:
    """Return the names of the classes in the table of a folder, as reading all class images would take too long."""
    if reader.classes is None:
        return ()
    if reader.classes.table is None:
        raise InstsegError(
            f"the images of {reader.folder} do not fit into memory, and their classes would have to be read off all "
            f"class images first; write them into {TABLE}"
        )
    return sort_class_names(name for of_image in reader.classes.table.values() for name in of_image.values())
