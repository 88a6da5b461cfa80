"""Line charts, drawn with Pillow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from instseg.render import Picture, font

_Box = tuple[float, float, float, float]

_INK = (33, 37, 41)
_FAINT_INK = (108, 117, 125)
_GRID = (228, 231, 235)
_PAPER = (255, 255, 255)

# Okabe and Ito's colours for lines, told apart by colour-blind eyes too; the yellow is left out (too faint on white).
_LINES = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (90, 90, 90))

_CHART = (960, 540)


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
        return float(font(size).getlength(text))

    def text(self, place: tuple[float, float], text: str, size: float, ink: tuple[int, int, int], anchor: str) -> None:
        x, y = place[0] * self._SCALE, place[1] * self._SCALE
        self._draw.text((x, y), text, fill=ink, font=font(size * self._SCALE), anchor=anchor)

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
