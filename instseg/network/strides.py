"""By how much the levels of the network reduce what they see; known without TensorFlow."""

import math

from instseg.settings import ModelSettings


def stride(settings: ModelSettings) -> int:
    """Return the number of pixels that height and width must be multiples of."""
    return int(2 ** len(settings.widths))


def strides(settings: ModelSettings) -> tuple[int, ...]:
    """Return the numbers that the sides of what the network takes must be multiples of: (Z,) Y, X."""
    side = stride(settings)
    planes = math.prod(plane_strides(settings))
    return (side, side) if settings.ndim == 2 else (planes, side, side)


def plane_strides(settings: ModelSettings) -> tuple[int, ...]:
    """Return for each level, finest first, by how much it reduces the planes of a volume: 1 or 2.

    Examples
    --------
    >>> plane_strides(ModelSettings(ndim=3, embeddings=8, spacing=(2, 1, 1)))
    (1, 2, 2, 2)
    >>> plane_strides(ModelSettings(ndim=3, embeddings=8, spacing=(5, 1, 1)))
    (1, 1, 2, 2)
    >>> plane_strides(ModelSettings())
    (1, 1, 1, 1)
    """
    if settings.spacing is None:
        return (1,) * len(settings.widths)
    steps, depth = [], settings.spacing[0]
    for level in range(len(settings.widths)):
        # Of the two, what is nearer to a cube: as wide as deep up to the square root of 2.
        step = 2 if 2 * depth <= math.sqrt(2) * 2 ** (level + 1) else 1
        steps.append(step)
        depth *= step
    return tuple(steps)
