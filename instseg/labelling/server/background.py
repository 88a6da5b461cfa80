"""Work that nobody waits for, one piece after the other in a thread; what goes wrong in it is told."""

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_LOGGER = logging.getLogger("instseg")


class Background:
    """Does work that costs no label where it goes wrong, so that it may be done later, or not at all.

    Any thread may call any method.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._problems: dict[str, str] = {}

    @property
    def problem(self) -> str | None:
        """What went wrong when it was tried last, for a person; None while all is well."""
        return next(iter(list(self._problems.values())), None)

    def later(self, failure: str, work: Callable[..., None], *arguments: Any) -> None:
        """Have work done soon; nothing is done once the server ends.

        Parameters
        ----------
        failure : str
            What it means to a person if it goes wrong.
        work : callable
        *arguments
            What it takes.
        """
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self.now, failure, work, *arguments)

    def now(self, failure: str, work: Callable[..., None], *arguments: Any) -> None:
        """Do work in this thread; the arguments are those of `later`."""
        try:
            work(*arguments)
        except Exception as error:
            _LOGGER.debug("in the background of a sitting", exc_info=True)
            self._problems[failure] = f"{failure}: {str(error) or type(error).__name__}"
        else:
            self._problems.pop(failure, None)

    def failed(self, failure: str) -> bool:
        """Return whether work that means this to a person went wrong when it was tried last."""
        return failure in self._problems

    def close(self) -> None:
        """Do what is left, and end."""
        self._thread.shutdown()
