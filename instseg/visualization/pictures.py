"""Images, labels, probabilities and embeddings as pictures: arrays (H, W, 3) of uint8, red, green and blue.

A label has the same colour in every picture and on every run.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from instseg.visualization.colours import Picture, label_colours, viridis

_DARK = (18, 18, 22)
_LIGHT = (225, 225, 230)

IGNORED_COLOUR = (128, 128, 128)
"""Colour of the pixels of label images that do not count."""


def to_rgb8(image: NDArray[np.number]) -> Picture:
    """Stretch an image for display.

    Each channel is mapped linearly, its 1st percentile to 0 and its 99.8th to 255; values beyond these are clipped. A
    constant channel becomes 0.

    Parameters
    ----------
    image : (H, W) or (H, W, C) numbers or bool
        Any range; values that are not finite count as 0. One channel is shown in gray, of two channels only the
        first, in gray, and of more than three the first three as red, green and blue.

    Returns
    -------
    picture : (H, W, 3) uint8

    Examples
    --------
    >>> to_rgb8(np.array([[-5.0, 0.0, 5.0]]))[:, :, 0]
    array([[  0, 126, 255]], dtype=uint8)
    """
    channels = image[:, :, None] if image.ndim == 2 else image
    channels = channels[:, :, :3] if channels.shape[2] >= 3 else channels[:, :, :1]
    values = _finite(channels)
    stretched = np.stack([_stretch(values[:, :, c], values[:, :, c]) for c in range(values.shape[2])], axis=2)
    gray_or_rgb = np.rint(stretched * 255).astype(np.uint8)
    return np.broadcast_to(gray_or_rgb, (*image.shape[:2], 3)).copy()


def label2rgb(labels: NDArray[np.integer]) -> Picture:
    """Give each instance a bright colour of its own.

    The colour depends on the label alone. Consecutive labels have hues far apart, and the lightness varies.

    Parameters
    ----------
    labels : (H, W) integers
        0 is background and becomes black; instances are above 0, with or without gaps. Negative labels, of pixels that
        are ignored, become gray.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    if not labels.size:
        return np.zeros((*labels.shape, 3), np.uint8)
    if labels.min() < 0:
        with_ignored = label2rgb(np.maximum(labels, 0))
        with_ignored[labels < 0] = IGNORED_COLOUR
        return with_ignored
    if labels.max() <= 4 * labels.size:
        ids, numbers = np.arange(int(labels.max()) + 1), labels
    else:
        ids, numbers = np.unique(labels, return_inverse=True)
    picture: Picture = label_colours(ids)[numbers.reshape(labels.shape)]
    return picture


def overlay(
    image: NDArray[np.number],
    labels: NDArray[np.integer],
    *,
    fill: float = 0.12,
    classes: NDArray[np.integer] | None = None,
) -> Picture:
    """Draw the outlines of instances on an image, each in its own colour or in that of its class.

    Outlines lie inside of the instances. They are 1 pixel wide, and wider in images of more than 1,500 pixels.

    Parameters
    ----------
    image : (H, W) or (H, W, C) numbers
        Is stretched as by `to_rgb8`.
    labels : (H, W) integers
        0 is background, instances are above 0.
    fill : float
        Share of the colour in the pixels that an outline surrounds, 0..1; the rest is the image.
    classes : (N + 1,) integers, optional
        The class 1..K of each label 0..N, 0 for label 0. Colours are those that `classes_legend` shows then.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    return outlined(to_rgb8(image), labels, fill=fill, classes=classes)


def outlined(
    ground: Picture, labels: NDArray[np.integer], *, fill: float = 0.12, classes: NDArray[np.integer] | None = None
) -> Picture:
    """Draw the outlines of instances on a picture (H, W, 3) as `overlay` does, and return that as another picture."""
    if not labels.size:
        return ground
    colours = label2rgb(labels if classes is None else classes[labels])
    width = max(1, round(max(labels.shape) / 1000))
    outline = outline_mask(labels, width)
    inside = (labels > 0) & ~outline
    picture = ground.copy()
    picture[outline] = colours[outline]
    picture[inside] = np.rint((1 - fill) * ground[inside] + fill * colours[inside]).astype(np.uint8)
    return picture


def classes_legend(width: int, names: Sequence[str]) -> Picture:
    """Draw a legend of the colours that `overlay` gives to classes.

    Parameters
    ----------
    width : int
        Of the strip, in pixels.
    names : sequence of str
        Of the classes 1..K.

    Returns
    -------
    picture : (h, width, 3) uint8
    """
    colours = label_colours(np.arange(len(names) + 1))[1:].tolist()
    return legend(width, {name: tuple(colour) for name, colour in zip(names, colours, strict=True)})


def legend(width: int, colours: Mapping[str, tuple[int, ...]]) -> Picture:
    """Draw a legend of colours.

    Parameters
    ----------
    width : int
        Of the strip, in pixels; what does not fit in is cut off.
    colours : mapping of str to (int, int, int)
        Red, green and blue, 0..255, by the text to write beside them.

    Returns
    -------
    picture : (h, width, 3) uint8
    """
    size = min(max(width // 48, 11), 22)
    strip = Image.new("RGB", (width, round(size * 1.8)), _DARK)
    draw = ImageDraw.Draw(strip)
    left, middle = size * 0.5, strip.height / 2
    for text, colour in colours.items():
        draw.rectangle((left, middle - size * 0.4, left + size * 0.8, middle + size * 0.4), fill=colour)
        draw.text((left + size * 1.1, middle), text, fill=_LIGHT, font=font(size), anchor="lm")
        left += size * 2.2 + draw.textlength(text, font=font(size))
    return np.asarray(strip)


def foreground_picture(foreground: NDArray[np.number]) -> Picture:
    """Show foreground probabilities in the colours of viridis, dark violet for 0 and yellow for 1.

    Parameters
    ----------
    foreground : (H, W) floats or bool
        0..1; values beyond are clipped, and those that are not finite count as 0.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    return viridis(np.clip(_finite(foreground), 0, 1))


def embeddings_picture(embeddings: NDArray[np.floating], foreground: NDArray[np.number]) -> Picture:
    """Show all dimensions of the embeddings side by side, in a grid with captions.

    Each dimension is stretched by itself, from the 1st to the 99.8th percentile of its foreground pixels; the
    background is dimmed.

    Parameters
    ----------
    embeddings : (H, W, D) floats
        D is 1 or more.
    foreground : (H, W) floats or bool
        Foreground probability, 0..1; pixels of 0.5 and above are foreground.

    Returns
    -------
    picture : (h, w, 3) uint8
        Larger than the embeddings: the grid of D panels.
    """
    mask = foreground >= 0.5
    dimensions = embeddings.shape[2]
    panels = []
    for index in range(dimensions):
        values = _finite(embeddings[:, :, index])
        coloured = viridis(_stretch(values, values[mask]))
        coloured[~mask] //= 6
        panels.append(coloured)
    captions = [f"dimension {index + 1}" for index in range(dimensions)]
    # As square as possible, or with one column more where that leaves fewer panels empty.
    square = math.ceil(math.sqrt(dimensions))
    columns = min(square, square + 1, key=lambda count: -dimensions % count)
    rows = [
        hstack(*panels[start : start + columns], captions=captions[start : start + columns])
        for start in range(0, dimensions, columns)
    ]
    return vstack(rows)


def hstack(*pictures: Picture, gap: int = 4, captions: Sequence[str] | None = None) -> Picture:
    """Put pictures side by side on a dark ground, with their tops aligned.

    Parameters
    ----------
    *pictures : (h, w, 3) uint8
        Heights and widths may differ.
    gap : int
        Pixels between two pictures, 0 or above.
    captions : sequence of str, optional
        One for each picture, written above it; a caption wider than its picture is cut off.

    Returns
    -------
    picture : (h, w, 3) uint8

    Raises
    ------
    ValueError
        If there are no pictures, or not as many captions as pictures.
    """
    if not pictures or (captions is not None and len(captions) != len(pictures)):
        raise ValueError(
            f"got {len(pictures)} pictures and {'no' if captions is None else len(captions)} captions; "
            "expected at least one picture, and one caption for each or none"
        )
    heights, widths = zip(*(picture.shape[:2] for picture in pictures), strict=True)
    text_size = min(max(max(widths) // 24, 11), 28)
    head = 0 if captions is None else round(text_size * 1.8)
    canvas = np.full((head + max(heights), sum(widths) + gap * (len(pictures) - 1), 3), _DARK, np.uint8)
    left = 0
    for index, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        canvas[head : head + height, left : left + width] = picture
        if captions is not None:
            canvas[:head, left : left + width] = _caption(captions[index], width, head, text_size)
        left += width + gap
    return canvas


def vstack(rows: Sequence[Picture], gap: int = 4) -> Picture:
    """Put pictures below each other on a dark ground, with their left sides aligned.

    Parameters
    ----------
    rows : sequence of (h, w, 3) uint8
        At least one; heights and widths may differ.
    gap : int
        Pixels between two pictures, 0 or above.

    Returns
    -------
    picture : (h, w, 3) uint8
    """
    width = max(row.shape[1] for row in rows)
    canvas = np.full((sum(row.shape[0] for row in rows) + gap * (len(rows) - 1), width, 3), _DARK, np.uint8)
    top = 0
    for row in rows:
        canvas[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + gap
    return canvas


def _finite(values: NDArray[np.number]) -> NDArray[np.float32]:
    """Convert to float32; values that are not finite, or too large for float32, become 0."""
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    return np.nan_to_num(converted, copy=False, posinf=0.0, neginf=0.0)


def _stretch(values: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to 0..1 between the 1st and the 99.8th percentile of the sample; a constant sample gives 0."""
    # A million values are enough to estimate percentiles.
    sample = sample.ravel()[:: max(1, sample.size // 1_000_000)]
    if not sample.size:
        return np.zeros_like(values)
    low, high = (float(p) for p in np.percentile(sample, (1, 99.8)))
    if not high > low:
        # Too few pixels differ to move the percentiles, but they are all that can be seen.
        low, high = float(sample.min()), float(sample.max())
    if not high > low:
        return np.zeros_like(values)
    stretched: NDArray[np.float32] = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return stretched


def outline_mask(labels: NDArray[np.integer], width: int = 1) -> NDArray[np.bool_]:
    """Return which pixels belong to an instance and lie at most `width` steps (4 neighbours) from another label.

    Parameters
    ----------
    labels : (H, W) integers
        0 is background.
    width : int
        Of the outlines, in pixels.

    Returns
    -------
    (H, W) bool
    """
    outlines: NDArray[np.bool_] = (labels > 0) & (_distance_to_others(labels, width) <= width)
    return outlines


def _distance_to_others(labels: NDArray[np.integer], limit: int) -> NDArray[np.int64]:
    """Return the number of steps (4 neighbours) to the nearest pixel of another label, at most `limit` + 1."""
    distance = np.full(labels.shape, limit + 1)
    for axis in (0, 1):
        lower, upper = _neighbours(axis)
        differs = labels[lower] != labels[upper]
        distance[lower][differs] = 1
        distance[upper][differs] = 1
    for step in range(2, limit + 1):
        reached = distance < step
        for axis in (0, 1):
            lower, upper = _neighbours(axis)
            distance[lower] = np.where(reached[upper], np.minimum(distance[lower], step), distance[lower])
            distance[upper] = np.where(reached[lower], np.minimum(distance[upper], step), distance[upper])
    return distance


def _neighbours(axis: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return two windows of an image: each pixel of the first is the neighbour of that of the second along the axis."""
    everything, but_last, but_first = slice(None), slice(None, -1), slice(1, None)
    if axis == 0:
        return (but_last, everything), (but_first, everything)
    return (everything, but_last), (everything, but_first)


def _caption(text: str, width: int, height: int, size: int) -> Picture:
    """Draw a line of text on a dark ground."""
    strip = Image.new("RGB", (width, height), _DARK)
    ImageDraw.Draw(strip).text((size * 0.4, height / 2), text, fill=_LIGHT, font=font(size), anchor="lm")
    return np.asarray(strip)


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font in a size in pixels."""
    return ImageFont.load_default(size)
