"""Samples that are read when they are needed: training data larger than memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import overload

from instseg.data.patches import Sample


class LazySamples(Sequence[Sample]):
    """Samples of which the last used ones stay in memory.

    Parameters
    ----------
    readers : sequence of callables
        Each reads a sample.
    most_bytes : int
        Of what is kept; one sample always is.
    """

    def __init__(self, readers: Sequence[Callable[[], Sample]], most_bytes: int) -> None:
        self._readers = readers
        self._most = most_bytes
        self._kept: OrderedDict[int, Sample] = OrderedDict()
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
        """Return a sample, read where it is not there, or some of them, not read yet."""
        if isinstance(index, slice):
            return LazySamples(self._readers[index], self._most)
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
        # Without the lock, so that two threads read two images at once.
        sample = self._readers[index]()
        with self._lock:
            if index not in self._kept:
                self._kept[index] = sample
                self._bytes += size(sample)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= size(self._kept.popitem(last=False)[1])
        return sample


def size(sample: Sample) -> int:
    """Return the bytes that a sample takes."""
    return int(sample.image.nbytes + sample.labels.nbytes)
