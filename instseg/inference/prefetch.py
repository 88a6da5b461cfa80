"""A generator that works one item ahead, in a thread of its own."""

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

_Item = TypeVar("_Item")


def prefetch(items: Generator[_Item]) -> Iterator[_Item]:
    """Yield items while a thread makes the next one, and never more than that one.

    What the generator raises is raised here; it is closed where the caller stops early.
    """
    ready: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    room, stopped = threading.Semaphore(2), threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not stopped.is_set():
                ready.put((True, next(items)))
        except BaseException as error:  # Whatever it is, the thread that waits has to raise it.
            ready.put((False, error))
        finally:
            items.close()

    thread = threading.Thread(target=work, name="network", daemon=True)
    thread.start()
    try:
        while True:
            succeeded, item = ready.get()
            if not succeeded:
                if isinstance(item, StopIteration):
                    return
                raise item
            yield item
            # The caller's item is not to be held while the next one takes memory.
            del item
            room.release()
    finally:
        stopped.set()
        room.release()
        thread.join()
