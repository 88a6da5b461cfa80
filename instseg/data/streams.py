"""Streams of random numbers, one for each use, that never meet whatever the seed."""

import numpy as np

BATCHES, VALIDATION, SPLIT, ORDER = range(4)


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of a use, such as `stream(seed, BATCHES, number)`.

    The key is a spawn key: NumPy pads plain entropy with zeros, so that `default_rng([seed, 1])` and
    `default_rng([seed, 1, 0])` are the same stream.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
