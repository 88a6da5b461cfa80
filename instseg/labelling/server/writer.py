"""One page at a time changes labels: the first that acts, until another takes over or it is gone."""

import threading
import time
from collections.abc import Callable

SILENCE = 90.0
"""Seconds after which a page that asks for nothing is gone. Browsers let hidden pages ask once a minute only."""


class Writer:
    """Which page holds the folder.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._page: str | None = None
        self._heard = 0.0

    def hear(self, page: str) -> bool:
        """Note that a page is there, and return whether it may act: it holds the folder, or nobody does."""
        with self._lock:
            return self._may(page)

    def claim(self, page: str) -> bool:
        """Have a page hold the folder if nobody else does; return whether it does."""
        with self._lock:
            if not self._may(page):
                return False
            self._page, self._heard = page, self._clock()
            return True

    def take_over(self, page: str) -> None:
        """Have a page hold the folder, whoever did."""
        with self._lock:
            self._page, self._heard = page, self._clock()

    def leave(self, page: str) -> None:
        """Note that a page is closed, so that the next need not take over."""
        with self._lock:
            if self._page == page:
                self._page = None

    def _may(self, page: str) -> bool:
        now = self._clock()
        if self._page == page:
            self._heard = now
        return self._page in (None, page) or now - self._heard > SILENCE
