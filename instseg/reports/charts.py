"""Charts as SVG in a page: they follow its colours, and say in words what they show."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.reports.markup import Content, Markup, join, number, tag

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 10, 44
_BINS = 30
# A scale is logarithmic from this ratio of its ends on.
_LOGARITHMIC = 200
_SERIES_COLOURS = 6
_LARGEST_POINTS = 400


class _Axis(NamedTuple):
    """A scale from values to pixels."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high, at = (self._scaled(one) for one in (self.low, self.high, value))
        return round(self.start + (self.end - self.start) * (at - low) / ((high - low) or 1), 2)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.logarithmic else value

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return _round_steps(self.low, self.high)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        digits = (1,) if last - first > 3 else (1, 2, 5)
        values = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


def _round_steps(low: float, high: float, about: int = 5) -> list[float]:
    span = high - low
    if span <= 0:
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def histogram(values: NDArray[np.number], title: str, x_label: str, y_label: str = "objects") -> Markup:
    """Draw how often values occur, on a logarithmic scale where they differ by much.

    Parameters
    ----------
    values : (N,) numbers
        Those that are not finite are left out.
    title, x_label, y_label : str

    Returns
    -------
    Markup
        A figure, with a sentence where there is nothing to draw.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return _figure(title, tag("p", "There is nothing to show."))
    low, high = float(values.min()), float(values.max())
    logarithmic = low > 0 and high / low >= _LOGARITHMIC
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.geomspace(low, high, _BINS + 1) if logarithmic else np.linspace(low, high, _BINS + 1)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(values, edges)
    x = _Axis(low, high, _LEFT, _WIDTH - _RIGHT, logarithmic)
    y = _Axis(0, float(counts.max()), _HEIGHT - _BOTTOM, _TOP)
    bars = []
    for first, last, amount in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True):
        if amount:
            left, right, top = x.place(first), x.place(last), y.place(amount)
            about = f"{number(first)} to {number(last)}: {amount:,}"
            width, height = round(max(right - left - 1, 0.5), 2), round(_HEIGHT - _BOTTOM - top, 2)
            bars.append(tag("rect", tag("title", about), class_="bar", x=left, y=top, width=width, height=height))
    lower, median, upper = np.percentile(values, (5, 50, 95)).tolist()
    spread = f"5th and 95th percentile {number(lower)} and {number(upper)}"
    words = f"{len(values):,} {y_label}, median {number(median)}, {spread}"
    return _figure(title, _svg(f"{title}: {words}", x, y, x_label, y_label, bars), tag("figcaption", words))


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    x_label: str,
    y_label: str = "",
    *,
    log_y: bool = False,
    unit_y: bool = False,
) -> Markup:
    """Draw series of points (x, y) as lines, with the last value of each in words.

    Parameters
    ----------
    series : mapping of str to points
        By name. Points that are not finite, or not above 0 with `log_y`, are left out.
    title, x_label, y_label : str
    log_y : bool
        Whether y is logarithmic.
    unit_y : bool
        Whether y goes from 0 to 1.
    """
    kept = {}
    for name, points in series.items():
        fitting = [(a, b) for a, b in points if math.isfinite(a) and math.isfinite(b) and (b > 0 or not log_y)]
        if fitting:
            kept[name] = _thinned(fitting)
    if not kept:
        return _figure(title, tag("p", "There is nothing to show."))
    xs = [a for points in kept.values() for a, _ in points]
    ys = [b for points in kept.values() for _, b in points]
    low, high = (0.0, 1.0) if unit_y else (min(ys) if log_y else min(0.0, *ys, 0.0), max(ys))
    x = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    y = _Axis(low, high if high > low else low + 1, _HEIGHT - _BOTTOM, _TOP, log_y)
    lines = [line for index, (name, points) in enumerate(kept.items()) for line in _line(index, name, points, x, y)]
    ends = "; ".join(f"{name} {number(points[-1][1])}" for name, points in kept.items())
    keys = [tag("li", name, class_=_look(index)) for index, name in enumerate(kept)]
    words = f"{title}. At {x_label} {number(max(xs))}: {ends}"
    return _figure(title, _svg(words, x, y, x_label, y_label, lines), tag("ul", *keys, class_="series"))


def _line(index: int, name: str, points: list[tuple[float, float]], x: _Axis, y: _Axis) -> list[Markup]:
    places = [(x.place(a), y.place(b)) for a, b in points]
    path = " ".join(f"{a},{b}" for a, b in places)
    drawn = [tag("polyline", points=path, class_=f"line {_look(index)}")] if len(places) > 1 else []
    if len(places) > 60:
        return drawn
    for (a, b), (left, top) in zip(points, places, strict=True):
        about = tag("title", f"{name}: {number(b)} at {number(a)}")
        drawn.append(tag("circle", about, class_=f"dot {_look(index)}", cx=left, cy=top, r=3))
    return drawn


def _look(index: int) -> str:
    return f"c{index % _SERIES_COLOURS} d{index // 2 % 3}"


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return every n-th of many points, the last one included."""
    every = max(1, len(points) // _LARGEST_POINTS)
    return points[::-1][::every][::-1]


def _figure(title: str, *content: Content) -> Markup:
    return tag("figure", tag("h3", title), *content, class_="chart")


def _svg(words: str, x: _Axis, y: _Axis, x_label: str, y_label: str, marks: list[Markup]) -> Markup:
    parts: list[Content] = []
    for value in y.ticks():
        top = y.place(value)
        parts.append(tag("line", class_="rule", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=top, y2=top))
        parts.append(tag("text", number(value), x=_LEFT - 8, y=top + 4, text_anchor="end"))
    for value in x.ticks():
        parts.append(tag("text", number(value), x=x.place(value), y=_HEIGHT - _BOTTOM + 18, text_anchor="middle"))
    bottom = _HEIGHT - _BOTTOM
    parts.append(tag("line", class_="axis", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag("text", x_label, x=middle, y=_HEIGHT - 6, text_anchor="middle"))
    across = (_TOP + bottom) / 2
    parts.append(tag("text", y_label, transform=f"translate(14 {across}) rotate(-90)", text_anchor="middle"))
    return tag("svg", join(parts), *marks, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=words)
