"""The colours of labels, and of values from 0 to 1."""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""Red, green and blue (H, W, 3), 0..255."""

# Ten even steps of matplotlib's viridis: about equal steps to the eye, and readable in gray. Written here, as importing
# matplotlib takes longer than drawing such a picture.
_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (72, 40, 120),
        (62, 74, 137),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (109, 205, 89),
        (180, 222, 44),
        (253, 231, 37),
    ],
    np.float64,
)

# 2**64 divided by the golden ratio: its multiples, modulo 2**64, are spread evenly and neighbours lie far apart.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def viridis(values: NDArray[np.floating]) -> Picture:
    """Return the colours of values of 0..1."""
    positions = np.linspace(0, 255, len(_VIRIDIS))
    table = np.stack([np.interp(np.arange(256), positions, _VIRIDIS[:, c]) for c in range(3)], axis=1)
    colours: Picture = np.rint(table).astype(np.uint8)[np.rint(values * 255).astype(np.uint8)]
    return colours


def label_colours(ids: NDArray[np.integer]) -> Picture:
    """Return the colour of each id (N, 3), black for 0: hues by the golden ratio, and a lightness by the id's hash."""
    mixed = ids.astype(np.uint64) * _GOLDEN
    hue = (mixed >> np.uint64(11)).astype(np.float64) / 2**53 * 2 * np.pi
    shuffled = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    lightness = np.array([0.66, 0.74, 0.82])[(shuffled >> np.uint64(32)) % np.uint64(3)]
    colours = _oklch_to_rgb8(lightness, np.full_like(hue, 0.23), hue)
    colours[ids == 0] = 0
    return colours


def _oklch_to_rgb8(lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]) -> Picture:
    """Convert from OKLCH, where equal lightness looks equally light [1]_, and clip colours that sRGB lacks.

    .. [1] B. Ottosson, "A perceptual color space for image processing", 2020, https://bottosson.github.io/posts/oklab/
    """
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=-1,
    ).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: Picture = np.rint(encoded * 255).astype(np.uint8)
    return colours
