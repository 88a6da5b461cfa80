"""Tracks as a picture: the objects of the last frame, and the ways on which they have come."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from instseg.visualization.colours import Picture, label_colours
from instseg.visualization.pictures import label2rgb, outline_mask, to_rgb8

# Share of the colour in the objects of the last frame.
_FILL = 0.35


def draw_tracks(
    labels: NDArray[np.integer],
    segments: NDArray[np.floating],
    tracks: NDArray[np.integer],
    *,
    image: NDArray[np.number] | None = None,
    divisions: NDArray[np.floating] | None = None,
) -> Picture:
    """Draw the ways of objects, each in the colour that its track has in label images, on the last frame.

    Parameters
    ----------
    labels : (H, W) integers
        The last frame, in which objects have the numbers of their tracks.
    segments : (K, 4) floats
        Row and column of an object, and those of where it is next.
    tracks : (K,) integers
        The track of each segment.
    image : (H, W) or (H, W, C) numbers, optional
        What is drawn on, stretched as by `to_rgb8`; by default black.
    divisions : (D, 2) floats, optional
        Row and column where objects divided, which become small rings.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    ground = np.zeros((*labels.shape, 3), np.uint8) if image is None else to_rgb8(image)
    colours = label2rgb(labels)
    outline = outline_mask(labels, max(1, round(max(labels.shape) / 1000)))
    inside = (labels > 0) & ~outline
    ground[outline] = colours[outline]
    share = _FILL if image is None else _FILL / 3
    ground[inside] = np.rint((1 - share) * ground[inside] + share * colours[inside]).astype(np.uint8)
    picture = Image.fromarray(ground)
    draw = ImageDraw.Draw(picture)
    width = max(1, round(max(labels.shape) / 500))
    for (row, column, next_row, next_column), colour in zip(
        segments.tolist(), label_colours(tracks).tolist(), strict=True
    ):
        draw.line([(column, row), (next_column, next_row)], fill=tuple(colour), width=width)
    radius = 2 * width
    for row, column in [] if divisions is None else divisions.tolist():
        draw.ellipse([column - radius, row - radius, column + radius, row + radius], outline=(255, 255, 255))
    drawn: Picture = np.asarray(picture)
    return drawn
