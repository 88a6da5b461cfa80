"""Generators of random numbers: one for each use, so that no two uses draw the same numbers, whatever the seed."""

import numpy as np

BATCHES, VALIDATION, SPLIT, ORDER = range(4)


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of a use, such as `generator(seed, BATCHES, number)`.

    The key is a spawn key, as NumPy pads plain entropy with zeros: `default_rng([seed, 1])` and
    `default_rng([seed, 1, 0])` draw the same numbers.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
