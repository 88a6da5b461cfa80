"""What is called better, and what luck."""

import numpy as np
import pytest

from instseg.evaluation.significance import significantly_better

EQUAL = np.full(20, 0.5)


def test_nothing_is_better_than_itself():
    assert not significantly_better(EQUAL, EQUAL)
    assert not significantly_better([], [])


def test_every_image_better_is_clear_and_every_image_worse_is_not():
    assert significantly_better(EQUAL + 0.02, EQUAL)
    assert not significantly_better(EQUAL - 0.02, EQUAL)


def test_the_images_own_differences_do_not_count():
    levels = np.linspace(0, 0.9, 20)
    assert significantly_better(levels + 0.02, levels)


def test_a_gain_that_one_image_makes_is_chance():
    scores = EQUAL.copy()
    scores[7] = 1.0
    assert not significantly_better(scores, EQUAL)


@pytest.mark.parametrize(("count", "gain", "clear"), [(1, 0.04, False), (1, 0.1, True), (4, 0.01, False)])
def test_few_images_have_to_gain_more(count, gain, clear):
    assert significantly_better([0.5 + gain] * count, [0.5] * count) is clear


def test_noise_alone_seldom_wins():
    rng = np.random.default_rng(0)
    gains = rng.normal(0, 0.05, (2_000, 20))
    assert sum(significantly_better(EQUAL + gain, EQUAL) for gain in gains) < 40
