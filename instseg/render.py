"""Arrays to pictures: uint8 RGB arrays (H, W, 3) to look at. Nothing here writes files.

Labels get the same colours in every picture and on every run.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from instseg.mistakes import Mistakes

Picture = NDArray[np.uint8]

_DARK = (18, 18, 22)
_LIGHT = (225, 225, 230)

# Ten even steps of matplotlib's viridis: about equal steps to the eye, and readable in gray.
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

# Apart also for those who confuse red and green: the Okabe-Ito colours.
_MISTAKE_COLOURS = {
    "right": (0, 158, 115),
    "missed": (213, 94, 0),
    "false_alarms": (86, 180, 233),
    "splits": (240, 228, 66),
    "merges": (204, 121, 167),
}

# 2**64 divided by the golden ratio: its multiples, modulo 2**64, are spread evenly and neighbours lie far apart.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def to_rgb8(image: NDArray[np.number]) -> Picture:
    """Stretch an image for display.

    Each channel goes linearly from its 1st percentile (0) to its 99.8th (255);
    what lies outside is clipped. A constant channel becomes 0.

    Parameters
    ----------
    image : (H, W) or (H, W, C) numbers or bool
        Any range; values that are not finite count as 0. One channel is gray.
        Of two channels the first is shown as gray, of more than three the first
        three as red, green and blue.

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


def label_colours(labels: NDArray[np.integer]) -> Picture:
    """Give each instance a bright colour of its own.

    A label has the same colour everywhere. Labels that follow each other have
    hues far apart, and lightness varies.

    Parameters
    ----------
    labels : (H, W) integers
        One label per pixel, 0 or above; 0 is background and becomes black.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    if not labels.size:
        return np.zeros((*labels.shape, 3), np.uint8)
    if labels.max() <= 4 * labels.size:
        ids, numbers = np.arange(int(labels.max()) + 1), labels
    else:
        ids, numbers = np.unique(labels, return_inverse=True)
    picture: Picture = _colours(ids)[numbers.reshape(labels.shape)]
    return picture


def overlay(
    image: NDArray[np.number],
    labels: NDArray[np.integer],
    *,
    fill: float = 0.12,
    classes: NDArray[np.integer] | None = None,
) -> Picture:
    """Draw the instances' outlines on the image, each in its own colour, or in that of its class.

    Outlines lie inside the instances: 1 pixel wide, wider in images above 1,000 pixels.

    Parameters
    ----------
    image : (H, W) or (H, W, C) numbers
        Stretched as by `to_rgb8`.
    labels : (H, W) integers
        One label per pixel, 0 is background.
    fill : float
        How much of its colour an instance's inside takes, 0..1.
    classes : (N + 1,) integers, optional
        By label, the number 1..K of the instance's class, whose colour `classes_legend` shows; the first is 0.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    ground = to_rgb8(image)
    if not labels.size:
        return ground
    colours = label_colours(labels if classes is None else classes[labels])
    width = max(1, round(max(labels.shape) / 1000))
    outline = _outlines(labels, width)
    inside = (labels > 0) & ~outline
    picture = ground.copy()
    picture[outline] = colours[outline]
    picture[inside] = np.rint((1 - fill) * ground[inside] + fill * colours[inside]).astype(np.uint8)
    return picture


def mistakes_picture(
    image: NDArray[np.number] | None,
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    mistakes: Mistakes,
) -> Picture:
    """Colour what went wrong in a prediction, in the colours of `mistakes_legend`.

    Missed and split instances are filled where they truly are, false alarms and
    merges where they were predicted. Right ones have a thin outline, as predicted;
    white lines part the predictions of a split and the true instances of a merge.

    Parameters
    ----------
    image : (H, W) or (H, W, C) numbers, or None
        The ground, stretched as by `to_rgb8` and dimmed; black without it.
    truth, predicted : (H, W) integers
        One label per pixel, 0 is background.
    mistakes : Mistakes
        Of these two.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    ground = np.zeros((*truth.shape, 3), np.uint8) if image is None else to_rgb8(image)
    picture = ground // 2
    inner = {"splits": predicted, "merges": truth}
    for name, labels in (("missed", truth), ("splits", truth), ("merges", predicted), ("false_alarms", predicted)):
        inside = np.isin(labels, getattr(mistakes, name)) & (labels > 0)
        colour = np.array(_MISTAKE_COLOURS[name], np.uint8)
        picture[inside] = (0.35 * ground[inside] + 0.65 * colour).astype(np.uint8)
        if name in inner:
            picture[inside & _outlines(inner[name])] = 255
    right = np.isin(predicted, mistakes.matched_predicted) & (predicted > 0)
    picture[right & _outlines(predicted)] = _MISTAKE_COLOURS["right"]
    return picture


def mistakes_legend(width: int) -> Picture:
    """Draw what the colours of `mistakes_picture` mean, in a strip of that width."""
    return _legend(width, {name.replace("_", " "): colour for name, colour in _MISTAKE_COLOURS.items()})


def classes_legend(width: int, names: Sequence[str]) -> Picture:
    """Draw the colours that `overlay` gives the classes of numbers 1..K, in a strip of that width."""
    colours = _colours(np.arange(len(names) + 1))[1:].tolist()
    return _legend(width, {name: tuple(colour) for name, colour in zip(names, colours, strict=True)})


def _legend(width: int, colours: Mapping[str, tuple[int, ...]]) -> Picture:
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
    """Show a foreground probability in the colours of viridis, dark for 0 and yellow for 1.

    Parameters
    ----------
    foreground : (H, W) floats or bool
        0..1; clipped where it lies outside.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    return _viridis(np.clip(_finite(foreground), 0, 1))


def embeddings_picture(embeddings: NDArray[np.floating], foreground: NDArray[np.number]) -> Picture:
    """Show all dimensions of the embeddings side by side, in a grid with captions.

    Each dimension is stretched by itself between the 1st and the 99.8th
    percentile of its foreground pixels; the background is dimmed.

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
        coloured = _viridis(_stretch(values, values[mask]))
        coloured[~mask] //= 6
        panels.append(coloured)
    captions = [f"dimension {index + 1}" for index in range(dimensions)]
    # As square as it goes, or one column more where that leaves fewer places empty.
    square = math.ceil(math.sqrt(dimensions))
    columns = min(square, square + 1, key=lambda count: -dimensions % count)
    rows = [
        side_by_side(*panels[start : start + columns], captions=captions[start : start + columns])
        for start in range(0, dimensions, columns)
    ]
    return below_each_other(rows)


def side_by_side(*pictures: Picture, gap: int = 4, captions: Sequence[str] | None = None) -> Picture:
    """Put pictures in a row on a dark ground, tops aligned.

    Parameters
    ----------
    *pictures : (h, w, 3) uint8
        Of any heights and widths.
    gap : int
        Pixels between two pictures, 0 or above.
    captions : sequence of str, optional
        One per picture, written above it; cut where longer than the picture is wide.

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


def below_each_other(rows: Sequence[Picture], gap: int = 4) -> Picture:
    """Put pictures (h, w, 3) uint8 of any sizes in a column on a dark ground, left sides aligned."""
    width = max(row.shape[1] for row in rows)
    canvas = np.full((sum(row.shape[0] for row in rows) + gap * (len(rows) - 1), width, 3), _DARK, np.uint8)
    top = 0
    for row in rows:
        canvas[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + gap
    return canvas


def _finite(values: NDArray[np.number]) -> NDArray[np.float32]:
    """Convert to float32, with 0 for what is not finite or too large for it."""
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    return np.nan_to_num(converted, copy=False, posinf=0.0, neginf=0.0)


def _stretch(values: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to 0..1 between the 1st and the 99.8th percentile of the sample; a constant sample gives 0."""
    # A million values tell the percentiles of any image.
    sample = sample.ravel()[:: max(1, sample.size // 1_000_000)]
    if not sample.size:
        return np.zeros_like(values)
    low, high = (float(p) for p in np.percentile(sample, (1, 99.8)))
    if not high > low:
        # Too few pixels stand out to move the percentiles, but they are all there is to see.
        low, high = float(sample.min()), float(sample.max())
    if not high > low:
        return np.zeros_like(values)
    stretched: NDArray[np.float32] = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return stretched


def _viridis(values: NDArray[np.floating]) -> Picture:
    """Colour values of 0..1."""
    positions = np.linspace(0, 255, len(_VIRIDIS))
    table = np.stack([np.interp(np.arange(256), positions, _VIRIDIS[:, c]) for c in range(3)], axis=1)
    colours: Picture = np.rint(table).astype(np.uint8)[np.rint(values * 255).astype(np.uint8)]
    return colours


def _colours(ids: NDArray[np.integer]) -> Picture:
    """Return a colour per id (N, 3), black for 0: golden-ratio hues at a lightness drawn from the id's hash."""
    mixed = ids.astype(np.uint64) * _GOLDEN
    hue = (mixed >> np.uint64(11)).astype(np.float64) / 2**53 * 2 * np.pi
    shuffled = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    lightness = np.array([0.66, 0.74, 0.82])[(shuffled >> np.uint64(32)) % np.uint64(3)]
    colours = _oklch_to_rgb8(lightness, np.full_like(hue, 0.23), hue)
    colours[ids == 0] = 0
    return colours


def _oklch_to_rgb8(lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]) -> Picture:
    """Convert from OKLCH, where equal lightness looks equally light [1]_; what sRGB lacks is clipped.

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


def _outlines(labels: NDArray[np.integer], width: int = 1) -> NDArray[np.bool_]:
    """Mark the pixels of instances that lie at most `width` from another label."""
    outlines: NDArray[np.bool_] = (labels > 0) & (_distance_to_others(labels, width) <= width)
    return outlines


def _distance_to_others(labels: NDArray[np.integer], limit: int) -> NDArray[np.int64]:
    """Return the steps (4 neighbours) to the nearest pixel of another label, `limit` + 1 where farther."""
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
    """Return the windows of an image whose pixels at the same place are neighbours along the axis."""
    everything, but_last, but_first = slice(None), slice(None, -1), slice(1, None)
    if axis == 0:
        return (but_last, everything), (but_first, everything)
    return (everything, but_last), (everything, but_first)


def _caption(text: str, width: int, height: int, size: int) -> Picture:
    """Draw a line of text on the dark ground."""
    strip = Image.new("RGB", (width, height), _DARK)
    ImageDraw.Draw(strip).text((size * 0.4, height / 2), text, fill=_LIGHT, font=font(size), anchor="lm")
    return np.asarray(strip)


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font in a size in pixels."""
    return ImageFont.load_default(size)
