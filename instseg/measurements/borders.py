"""Perimeters and Euler numbers: what the pixels at the borders of objects add to each."""

import math

import numpy as np
from numpy.typing import NDArray

CONTEXT = 2
"""Rows above and below a band of labels that its borders depend on."""

# How long a border pixel is by 1 + 2 times its neighbours over edges + 10 times those over corners that are at the
# border, too: 1 is of length 1, 2 of sqrt(2), and 3 of (1 + sqrt(2)) / 2.
_KINDS = np.zeros(50, np.intp)
_KINDS[[5, 7, 15, 17, 25, 27]] = 1
_KINDS[[21, 33]] = 2
_KINDS[[13, 23]] = 3


def padded_band(
    above: NDArray[np.integer], band: NDArray[np.integer], below: NDArray[np.integer]
) -> NDArray[np.integer]:
    """Return a band of labels with `CONTEXT` rows around it, background beyond the image, and a column on each side."""
    padded = np.zeros((len(band) + 2 * CONTEXT, band.shape[1] + 2), band.dtype)
    begin = CONTEXT - len(above)
    for rows in (above, band, below):
        padded[begin : begin + len(rows), 1:-1] = rows
        begin += len(rows)
    return padded


def border_pixels(
    padded: NDArray[np.integer],
) -> tuple[NDArray[np.integer], NDArray[np.intp], NDArray[np.int64]]:
    """Return the border pixels of the objects in a band, and what they add to perimeters and Euler numbers.

    Time is O(pixels), most of it is O(border pixels).

    Parameters
    ----------
    padded : (h + 4, W + 2) integers
        What `padded_band` returns.

    Returns
    -------
    labels : (P,) integers
    kinds : (P,) integers
        0 where a pixel has no length, else 1 to 3: what `perimeters` takes the numbers of.
    euler : (P,) int64
        The sum over an object's pixels is the number of its pieces less that of its holes, where pieces are connected
        over edges and corners: Ohser, Nagel and Schladitz, "The Euler Number of Discretized Sets", 2002.
    """
    inner = padded[1:-1, 1:-1]
    border = np.zeros(padded.shape, bool)
    at_border = border[1:-1, 1:-1]
    for other in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        at_border |= inner != other
    at_border &= inner != 0
    width = padded.shape[1]
    flat, flat_border = padded.ravel(), border.ravel()
    pixels = np.flatnonzero(border[CONTEXT:-CONTEXT]) + CONTEXT * width
    labels = flat[pixels]
    code = np.ones(len(pixels), np.intp)
    same = {}
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            if row or column:
                other = pixels + (row * width + column)
                same[row, column] = flat[other] == labels
                code += (same[row, column] & flat_border[other]) * (10 if row and column else 2)
    lowest = ~same[1, 0]
    corner = lowest & ~same[0, 1] & ~same[1, 1]
    euler = corner.astype(np.int64) - (lowest & same[1, -1])
    return labels, _KINDS[code], euler


def perimeters(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the perimeters (N,) in pixels, by how many border pixels (N, 3) of each kind objects have.

    The estimate is that of `skimage.measure.perimeter`: K. Benkrid, D. Crookes, "Design and FPGA Implementation of a
    Perimeter Estimator", 2000.
    """
    straight, diagonal, both = counts.T
    # No matrix product: its rounding depends on how many objects there are.
    lengths: NDArray[np.float64] = straight + math.sqrt(2) * diagonal + (1 + math.sqrt(2)) / 2 * both
    return lengths
