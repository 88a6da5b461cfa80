"""A thread works one item ahead, and no more."""

import threading
import time

import pytest

from instseg.inference.prefetch import prefetch


def test_never_more_than_one_is_made_ahead():
    made, most = [], 0
    lock = threading.Lock()

    def items():
        for number in range(20):
            with lock:
                made.append(number)
            yield number

    for number in prefetch(items()):
        time.sleep(0.005)
        with lock:
            most = max(most, len(made) - 1 - number)
    assert most == 1
    assert made == list(range(20))


def test_the_next_is_made_while_one_is_used():
    def items():
        for number in range(4):
            time.sleep(0.1)
            yield number

    start = time.perf_counter()
    for _ in prefetch(items()):
        time.sleep(0.1)
    assert time.perf_counter() - start < 0.72


def test_what_is_left_early_leaves_no_thread():
    before = threading.active_count()
    for number in prefetch(number for number in range(1000)):
        if number == 3:
            break
    with pytest.raises(ZeroDivisionError):
        list(prefetch(1 // number for number in (1, 0)))
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
