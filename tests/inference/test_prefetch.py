"""A thread works one item ahead, and no more."""

import threading

import pytest

from instseg.inference.prefetch import prefetch

# Whatever hangs is ended.
SECONDS = 240


def test_the_next_is_made_while_one_is_used_and_no_more():
    taken, early = 0, []
    made = [threading.Event() for _ in range(20)]

    def items():
        for number, event in enumerate(made):
            # One may be made while that before it is used, which can only be after those before were.
            if number > taken + 1:
                early.append(number)
            event.set()
            yield number

    for number in prefetch(items()):
        taken += 1
        assert number == taken - 1
        # While one is used.
        assert all(event.wait(SECONDS) for event in made[number + 1 : number + 2])
    assert taken == 20
    assert not early


def test_what_is_left_early_leaves_no_thread():
    before = set(threading.enumerate())
    for number in prefetch(number for number in range(1000)):
        if number == 3:
            break
    with pytest.raises(ZeroDivisionError):
        list(prefetch(1 // number for number in (1, 0)))
    assert set(threading.enumerate()) <= before
