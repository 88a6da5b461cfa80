"""The clock of a training: its duration and its speed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TrainingClock:
    """Measures a training; pauses (saving, validation) do not count for its speed.

    Parameters
    ----------
    batch_size : int
        Patches of a step.
    before : float
        Seconds that the training took before a resume.
    """

    def __init__(self, batch_size: int, before: float) -> None:
        self._batch_size = batch_size
        self._start = time.perf_counter()
        self._begin = self._start - before
        self._waited = 0.0
        self._steps = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as waiting for the data of a step."""
        self._steps += 1
        with _timed(self._add_waited):
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count the block for the seconds but not for the speed."""
        with _timed(self._add_pause):
            yield

    def seconds(self) -> float:
        """Return the seconds since the training began, those before a resume and pauses included."""
        return time.perf_counter() - self._begin

    def images_per_second(self) -> float:
        """Return the speed since the start or resume."""
        return self._steps * self._batch_size / self._elapsed()

    def share_waited(self) -> float:
        """Return the share of the time since the start or resume that was spent waiting for data, 0..1."""
        return self._waited / self._elapsed()

    def _elapsed(self) -> float:
        return max(time.perf_counter() - self._start, 1e-9)

    def _add_waited(self, seconds: float) -> None:
        self._waited += seconds

    def _add_pause(self, seconds: float) -> None:
        self._start += seconds


@contextmanager
def _timed(add: Callable[[float], None]) -> Iterator[None]:
    begin = time.perf_counter()
    try:
        yield
    finally:
        add(time.perf_counter() - begin)
