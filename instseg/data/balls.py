"""Generated example volumes: bright balls on a dark ground, with their labels; `paint_balls` is for any axes."""

import numpy as np
from numpy.typing import NDArray

from instseg.settings import BallSettings

_WHITE = 65_535.0
_DEFAULTS = BallSettings()


def draw_balls(
    rng: np.random.Generator, settings: BallSettings = _DEFAULTS
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Draw a volume of balls and its labels, by the recipe of `instseg.data.discs.draw_discs`.

    Squared radii are uniform in 50..135 squared pixels of a plane, which are the radii of the discs: a plane through
    the centre of a ball shows a disc. Centres are uniform in the volume, and later balls cover earlier ones.

    Time is O(voxels of the volume + voxels of all balls), memory 10 bytes a voxel.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same volume.
    settings : BallSettings
        Size, distance of the planes, number of balls, and noise.

    Returns
    -------
    volume : (depth, size, size) uint16
        Stretched to 0..65,535.
    labels : (depth, size, size) int32
        0 is background; balls are 1..N without gaps, in the order in which they are drawn, except for those that later
        ones cover completely or that lie between two planes.

    Examples
    --------
    >>> import numpy as np
    >>> small = BallSettings(depth=16, size=48, min_balls=3, max_balls=3)
    >>> volume, labels = draw_balls(np.random.default_rng(0), small)
    >>> volume.shape, labels.max()
    ((16, 48, 48), np.int32(3))
    """
    shape = (settings.depth, settings.size, settings.size)
    count = int(rng.integers(settings.min_balls, settings.max_balls, endpoint=True))
    centres = rng.uniform(0, shape, (count, 3))
    squared_radii = rng.uniform(50, 135, count)
    grays = rng.uniform(35_000, 45_000, count)
    ground = float(rng.uniform(4_000, 12_000))
    volume, labels = paint_balls(
        rng, shape, ground, centres, squared_radii, grays, spacing=(settings.spacing_z, 1, 1), noise=settings.noise
    )
    _number_densely(labels, count)
    return volume, labels


def paint_balls(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    ground: float,
    centres: NDArray[np.float64],
    squared_radii: NDArray[np.float64],
    grays: NDArray[np.float64],
    *,
    spacing: tuple[float, ...],
    noise: float,
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Draw N balls of D axes (discs where D is 2) with white noise; later ones cover earlier ones.

    Parameters
    ----------
    rng : numpy.random.Generator
        For the noise.
    shape : tuple of D int
        Of the image.
    ground : float
        Intensity of the ground, of 65,535.
    centres : (N, D) float64
        In voxels, in the order of the axes; balls may lie partly or wholly outside.
    squared_radii, grays : (N,) float64
        In squared pixels, which a spacing of 1 stands for, and intensities of 65,535.
    spacing : tuple of D float
        Distance of neighbouring voxels along each axis, in pixels.
    noise : float
        Share of white noise, which is mixed in as `(1 - noise) * x + noise * N(0, 1)` on the scale of 0..1.

    Returns
    -------
    image : `shape` uint16
        Stretched to 0..65,535.
    labels : `shape` int32
        0 is background; the ball of number I has the label I + 1, unless others cover it.
    """
    image = np.full(shape, ground / _WHITE, np.float32)
    labels = np.zeros(shape, np.int32)
    # Each ball is drawn in its own window, so that the time is that of its pixels, and not of the whole image.
    for index, (centre, squared_radius, gray) in enumerate(zip(centres, squared_radii, grays, strict=True), start=1):
        reach = [squared_radius**0.5 / step for step in spacing]
        first = [max(int(c - r), 0) for c, r in zip(centre, reach, strict=True)]
        window = tuple(slice(low, max(int(c + r) + 2, 0)) for low, c, r in zip(first, centre, reach, strict=True))
        offsets = np.ogrid[tuple(slice(low, low + n) for low, n in zip(first, labels[window].shape, strict=True))]
        distances = [((o - c) * step) ** 2 for o, c, step in zip(offsets, centre, spacing, strict=True)]
        inside = sum(distances[1:], distances[0]) <= squared_radius
        labels[window][inside] = index
        image[window][inside] = gray / _WHITE
    return _stretch(_with_noise(rng, image, noise)), labels


def _number_densely(labels: NDArray[np.int32], count: int) -> None:
    """Renumber the balls that are left 1..N, in place; plane by plane, for the sake of memory."""
    present = np.zeros(count + 1, np.int32)
    for plane in labels:
        present[plane] = 1
    present[0] = 0
    numbers = np.cumsum(present, dtype=np.int32) * present
    for plane in labels:
        plane[...] = numbers[plane]


def _with_noise(rng: np.random.Generator, image: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
    """Mix noise into an image in place; plane by plane where it is a volume, for the sake of memory."""
    if noise:
        image *= np.float32(1 - noise)
        for part in image.reshape(-1, *image.shape[-2:]):
            part += np.float32(noise) * rng.standard_normal(part.shape, np.float32)
    return image


def _stretch(image: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return an image stretched to 0..65,535; the given one serves as working memory."""
    low, high = float(image.min()), float(image.max())
    scale = _WHITE / (high - low) if high > low else 0.0
    image -= np.float32(low)
    image *= np.float32(scale)
    whole: NDArray[np.uint16] = np.rint(image, out=image).astype(np.uint16)
    return whole
