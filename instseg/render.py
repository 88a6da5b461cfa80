"""Arrays to pictures: uint8 RGB arrays (H, W, 3) to look at. Nothing here writes files.

Labels get the same colours in every picture and on every run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
_Box = tuple[float, float, float, float]

_INK = (33, 37, 41)
_FAINT_INK = (108, 117, 125)
_GRID = (228, 231, 235)
_PAPER = (255, 255, 255)
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

# Okabe and Ito's colours for lines, told apart by colour-blind eyes too; the yellow is left out (too faint on white).
_LINES = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (90, 90, 90))

_CHART = (960, 540)

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


def overlay(image: NDArray[np.number], labels: NDArray[np.integer], *, fill: float = 0.12) -> Picture:
    """Draw the instances' outlines on the image, each in its own colour.

    Outlines lie inside the instances: 1 pixel wide, wider in images above 1,000 pixels.

    Parameters
    ----------
    image : (H, W) or (H, W, C) numbers
        Stretched as by `to_rgb8`.
    labels : (H, W) integers
        One label per pixel, 0 is background.
    fill : float
        How much of its colour an instance's inside takes, 0..1.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    ground = to_rgb8(image)
    if not labels.size:
        return ground
    colours = label_colours(labels)
    width = max(1, round(max(labels.shape) / 1000))
    outline = (labels > 0) & (_distance_to_others(labels, width) <= width)
    inside = (labels > 0) & ~outline
    picture = ground.copy()
    picture[outline] = colours[outline]
    picture[inside] = np.rint((1 - fill) * ground[inside] + fill * colours[inside]).astype(np.uint8)
    return picture


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
    return _below_each_other(rows)


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


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]], *, title: str, x_label: str, log_y: bool = False
) -> Picture:
    """Draw a line chart, each line named at its end with its last value.

    Parameters
    ----------
    series : mapping of name to (x, y) pairs
        In the order of x. Pairs that are not finite (or not above 0 where
        `log_y`) interrupt the line. A series may be empty or of one point.
    title, x_label : str
        Written above the chart and below its x axis.
    log_y : bool
        Whether the y axis is logarithmic.

    Returns
    -------
    picture : (540, 960, 3) uint8
    """
    lines = [_Line.of(name, points, _LINES[i % len(_LINES)], log_y) for i, (name, points) in enumerate(series.items())]
    width, height = _CHART
    canvas = _Canvas(width, height)
    margin = max([canvas.text_width(line.end_label, 14) for line in lines], default=0.0) + 28
    box = (76.0, 58.0, width - min(max(margin, 40.0), 0.45 * width), height - 62.0)
    x_axis = _Axis.around([x for line in lines for x, _ in line.finite], logarithmic=False, steps=8)
    y_axis = _Axis.around([y for line in lines for _, y in line.finite], logarithmic=log_y, steps=6)
    _draw_axes(canvas, box, x_axis, y_axis, title, x_label)
    for line in lines:
        for part in line.parts:
            canvas.line([(x_axis.place(x, box[0], box[2]), y_axis.place(y, box[3], box[1])) for x, y in part], line.ink)
    _draw_end_labels(canvas, box, y_axis, lines)
    return canvas.picture()


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
    ImageDraw.Draw(strip).text((size * 0.4, height / 2), text, fill=_LIGHT, font=_font(size), anchor="lm")
    return np.asarray(strip)


def _below_each_other(rows: Sequence[Picture], gap: int = 4) -> Picture:
    width = max(row.shape[1] for row in rows)
    canvas = np.full((sum(row.shape[0] for row in rows) + gap * (len(rows) - 1), width, 3), _DARK, np.uint8)
    top = 0
    for row in rows:
        canvas[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + gap
    return canvas


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@dataclass(frozen=True, slots=True)
class _Line:
    """One series of a chart, in the parts that can be drawn."""

    name: str
    parts: list[list[tuple[float, float]]]
    ink: tuple[int, int, int]

    @classmethod
    def of(
        cls, name: str, points: Sequence[tuple[float, float]], ink: tuple[int, int, int], logarithmic: bool
    ) -> "_Line":
        parts: list[list[tuple[float, float]]] = [[]]
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y) and (y > 0 or not logarithmic):
                parts[-1].append((float(x), float(y)))
            elif parts[-1]:
                parts.append([])
        return cls(name, [part for part in parts if part], ink)

    @property
    def finite(self) -> list[tuple[float, float]]:
        return [point for part in self.parts for point in part]

    @property
    def end_label(self) -> str:
        return f"{self.name}  {self.parts[-1][-1][1]:.4g}" if self.parts else f"{self.name}  no values"


@dataclass(frozen=True, slots=True)
class _Axis:
    """The values that an axis spans, and those that it names."""

    low: float
    high: float
    ticks: list[float]
    logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], *, logarithmic: bool, steps: int) -> "_Axis":
        """Choose round bounds and about `steps` ticks for the values."""
        low, high = (min(values), max(values)) if values else (0.1, 1.0) if logarithmic else (0.0, 1.0)
        if logarithmic:
            return cls._decades(low, high, steps)
        if not high - low > max(1e-9 * max(abs(low), abs(high)), 1e-290):
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        step = _nice((high - low) / steps)
        # A millionth of a step forgives the rounding of the division.
        first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
        return cls(first * step, last * step, [n * step for n in range(first, last + 1)], logarithmic=False)

    @classmethod
    def _decades(cls, low: float, high: float, steps: int) -> "_Axis":
        # Powers below 1e-300 lose their digits, or are 0.
        first, last = max(math.floor(math.log10(low) + 1e-9), -300), math.ceil(math.log10(high) - 1e-9)
        last = max(last, first + 1)
        parts = (1,) if last - first > 3 else (1, 2, 5)
        stride = max(1, math.ceil((last - first) / (steps + 2)))
        ticks = [part * 10.0**e for e in range(first, last + 1, stride) for part in parts]
        below = [tick for tick in ticks if tick <= low * (1 + 1e-9)]
        above = [tick for tick in ticks if tick >= high * (1 - 1e-9)]
        bottom, top = below[-1] if below else 10.0**first, above[0] if above else 10.0**last
        top = top if top > bottom else bottom * 10
        return cls(bottom, top, [tick for tick in ticks if bottom <= tick <= top], logarithmic=True)

    def place(self, value: float, start: float, end: float) -> float:
        """Return where the value lies between two pixels."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return start + (end - start) * (value - low) / (high - low)

    def text(self, tick: float) -> str:
        """Write a tick: with the digits of its step, or as a power of ten where it is tiny or huge."""
        if tick == 0 or abs(tick) < 1e-9 * max(abs(self.low), abs(self.high)):
            return "0"
        if self.logarithmic or max(abs(self.low), abs(self.high)) >= 1e6 or len(self.ticks) < 2:
            return f"{tick:.3g}" if not 1e4 <= abs(tick) < 1e6 else f"{tick:,.0f}"
        step = self.ticks[1] - self.ticks[0]
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{tick:,.{digits}f}" if digits <= 4 else f"{tick:.2e}"


def _nice(step: float) -> float:
    """Return the least of 1, 2, 5 times a power of ten that is at least the step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


class _Canvas:
    """A white page that is drawn at three times its size and scaled down, which smooths all edges."""

    _SCALE = 3

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self._image = Image.new("RGB", (width * self._SCALE, height * self._SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def text_width(self, text: str, size: float) -> float:
        return float(_font(size).getlength(text))

    def text(self, place: tuple[float, float], text: str, size: float, ink: tuple[int, int, int], anchor: str) -> None:
        x, y = place[0] * self._SCALE, place[1] * self._SCALE
        self._draw.text((x, y), text, fill=ink, font=_font(size * self._SCALE), anchor=anchor)

    def line(self, points: ArrayLike, ink: tuple[int, int, int], width: float = 2.0) -> None:
        """Draw a line through the points; one point alone becomes a dot."""
        scaled = np.asarray(points, np.float64) * self._SCALE
        thick = max(1, round(width * self._SCALE))
        if len(scaled) == 1:
            self._draw.circle(tuple(scaled[0]), thick * 1.5, fill=ink)
        else:
            self._draw.line(scaled.ravel().tolist(), fill=ink, width=thick, joint="curve")

    def picture(self) -> Picture:
        return np.array(self._image.resize(self.size, Image.Resampling.BOX))


def _draw_axes(canvas: _Canvas, box: _Box, x_axis: _Axis, y_axis: _Axis, title: str, x_label: str) -> None:
    left, top, right, bottom = box
    for tick in y_axis.ticks:
        y = y_axis.place(tick, bottom, top)
        canvas.line([(left, y), (right, y)], _GRID, 1)
        canvas.text((left - 10, y), y_axis.text(tick), 13, _FAINT_INK, "rm")
    for tick in x_axis.ticks:
        x = x_axis.place(tick, left, right)
        canvas.line([(x, bottom), (x, bottom + 5)], _FAINT_INK, 1)
        canvas.text((x, bottom + 10), x_axis.text(tick), 13, _FAINT_INK, "mt")
    canvas.line([(left, bottom), (right, bottom)], _FAINT_INK, 1)
    canvas.text((left, 28), title, 19, _INK, "lm")
    canvas.text(((left + right) / 2, _CHART[1] - 18), x_label, 14, _FAINT_INK, "mm")


def _draw_end_labels(canvas: _Canvas, box: _Box, y_axis: _Axis, lines: Sequence[_Line]) -> None:
    """Write each line's name and last value at the height of its end, moved apart where they would overlap."""
    _, top, right, bottom = box
    ends = [(y_axis.place(line.parts[-1][-1][1], bottom, top) if line.parts else bottom, line) for line in lines]
    ends.sort(key=lambda end: end[0])
    gap = min(20.0, (bottom - top) / max(len(ends) - 1, 1))
    heights: list[float] = []
    for index, (y, _) in enumerate(ends):
        highest = heights[-1] + gap if heights else top
        heights.append(min(max(y, highest), bottom - gap * (len(ends) - 1 - index)))
    for (_, line), height in zip(ends, heights, strict=True):
        canvas.text((right + 14, height), line.end_label, 14, line.ink, "lm")
