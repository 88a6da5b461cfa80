"""Generated example images: bright discs on a dark ground, with their labels.

They can be learnt in minutes, and have some difficulties of real images: discs touch, cover each other, and are cut by
the border.
"""

import numpy as np
from numpy.typing import NDArray

from instseg.data.balls import paint_balls
from instseg.labels.regions import dense_labels
from instseg.settings import DiscSettings

_DEFAULTS = DiscSettings()


def draw_discs(
    rng: np.random.Generator, settings: DiscSettings = _DEFAULTS
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Draw an image of discs and its labels.

    Squared radii are uniform in 50..135 px², intensities in 35,000..45,000 of 65,535, and that of the ground in
    4,000..12,000. Later discs cover earlier ones. White noise is mixed in, which is `(1 - noise) * x + noise * N(0, 1)`
    on the scale of 0..1, and the image is stretched to the full range.

    Time is O(pixels of the image + pixels of all discs).

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same image.
    settings : DiscSettings
        Size, number of discs, and noise.

    Returns
    -------
    image : (size, size) uint16
        Stretched to 0..65,535.
    labels : (size, size) int32
        0 is background; discs are 1..N without gaps, in the order in which they are drawn, except for those that later
        ones cover completely.
    """
    size = settings.size
    count = int(rng.integers(settings.min_discs, settings.max_discs, endpoint=True))
    centres = rng.uniform(0, size, (count, 2))
    squared_radii = rng.uniform(50, 135, count)
    grays = rng.uniform(35_000, 45_000, count)
    ground = float(rng.uniform(4_000, 12_000))
    image, labels = paint_discs(rng, settings, ground, centres, squared_radii, grays)
    return image, dense_labels(labels)[1]


def paint_discs(
    rng: np.random.Generator,
    settings: DiscSettings,
    ground: float,
    centres: NDArray[np.float64],
    squared_radii: NDArray[np.float64],
    grays: NDArray[np.float64],
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Draw N discs with noise as `draw_discs` does; later ones cover earlier ones.

    It is `instseg.data.balls.paint_balls` in a square.

    Parameters
    ----------
    rng : numpy.random.Generator
        For the noise.
    settings : DiscSettings
        Size and noise.
    ground : float
        Intensity of the ground, of 65,535.
    centres : (N, 2) float64
        Row and column; discs may lie partly or wholly outside.
    squared_radii, grays : (N,) float64
        In squared pixels, and intensities of 65,535.

    Returns
    -------
    image : (size, size) uint16
        Stretched to 0..65,535.
    labels : (size, size) int32
        0 is background; the disc of number I has the label I + 1, unless others cover it.
    """
    shape = (settings.size, settings.size)
    return paint_balls(rng, shape, ground, centres, squared_radii, grays, spacing=(1, 1), noise=settings.noise)
