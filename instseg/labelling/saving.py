"""A thread that saves what has changed, so that no action waits for the disc, and that tries again where it cannot."""

import threading
from collections.abc import Callable

from instseg.labelling.label_files import ChangedMeanwhileError

# Seconds until what could not be saved is tried again, and until a large image that changes while it is saved is.
_AGAIN, _MEANWHILE = 2.0, 0.5


class Saver:
    """Saves images one after the other, each once for all changes until it begins.

    Parameters
    ----------
    save : callable
        Takes the index of an image. It is called in the thread of the saver only.
    """

    def __init__(self, save: Callable[[int], None]) -> None:
        self._save = save
        self._wanted: dict[int, None] = {}
        self._busy: int | None = None
        self._closing = self._in_a_hurry = False
        self._condition = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._errors: dict[int, str] = {}

    @property
    def error(self) -> str | None:
        """Why an image cannot be saved at present."""
        with self._condition:
            return next(iter(self._errors.values()), None)

    def queue(self, index: int) -> None:
        """Have an image saved soon."""
        with self._condition:
            self._wanted[index] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="saving", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def is_waiting(self, index: int) -> bool:
        """Return whether an image is yet to be saved."""
        with self._condition:
            return index in self._wanted or index == self._busy

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is saved, or cannot be.

        Returns
        -------
        bool
            Whether all is saved.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._is_idle() or bool(self._errors), timeout)
            # What could not be saved may be possible by now.
            if self._errors:
                self._errors.clear()
                self._in_a_hurry = True
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._is_idle() or bool(self._errors), timeout)
            return self._is_idle()

    def _is_idle(self) -> bool:
        return not self._wanted and self._busy is None

    def close(self) -> None:
        """End the thread once it has tried to save all that is left."""
        if self._thread is not None:
            self.flush()
            with self._condition:
                self._closing = True
                self._condition.notify_all()
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: bool(self._wanted) or self._closing)
                if self._closing:
                    return
                index = next(iter(self._wanted))
                del self._wanted[index]
                self._busy = index
            error, pause = None, 0.0
            try:
                self._save(index)
            except ChangedMeanwhileError:
                pause = _MEANWHILE
            except Exception as problem:
                # Whatever it is, later changes have to be saved, and the journal holds what could not be.
                error, pause = str(problem) or type(problem).__name__, _AGAIN
            with self._condition:
                self._busy = None
                self._errors.pop(index, None)
                if error is not None:
                    self._errors[index] = error
                if pause:
                    self._wanted[index] = None
                self._condition.notify_all()
                if pause:
                    self._condition.wait_for(lambda: self._closing or self._in_a_hurry, pause)
                self._in_a_hurry = False
