"""Line charts, drawn with matplotlib's objects: no `pyplot`, no window, and no setting of the process is changed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.visualization.colours import Picture

if TYPE_CHECKING:
    # Drawing takes half a second to import, which is only for those who draw.
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT, _DPI = 960, 540, 100
_INK, _FAINT_INK, _GRID = "#212529", "#6c757d", "#e4e7eb"
# Okabe and Ito's colours, which colour-blind eyes tell apart, too; the yellow is left out, as it is too faint on white.
_LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5a5a5a")

# Where the axes lie, in shares of the figure's width and height; the labels decide how far to the right they reach.
_LEFT, _BOTTOM, _TOP = 0.08, 0.115, 0.885
_LEAST_RIGHT = 0.4
# In pixels: from the axes to the labels and from these to the edge, and from one label to the next.
_LABEL_GAP, _LABEL_MARGIN, _LABEL_HEIGHT = 12.0, 10.0, 20.0
# In points: 10 of them are 14 pixels.
_LABEL_SIZE, _LEAST_LABEL_SIZE = 10.0, 5.0
_LONGEST_NAME = 48

# What lies beyond is drawn at the bound: ticks around it would overflow float64.
_LARGEST, _SMALLEST = 1e200, 1e-200


class _Line(NamedTuple):
    """A series as it is drawn: x and y (N,), y NaN where the line is interrupted."""

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: str


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, title: str, x_label: str, log_y: bool = False
) -> Picture:
    """Draw a line chart, each line named at its end with its last value.

    Parameters
    ----------
    series : mapping of str to sequence of (float, float)
        The points (x, y) of each line by its name, in the order of x. Points that are not finite (or not above 0
        where `log_y`) interrupt the line. A series may be empty, or of one point, which is drawn as a dot.
    title, x_label : str
        Text above the chart and below its x axis.
    log_y : bool
        Whether the y axis is logarithmic.

    Returns
    -------
    (540, 960, 3) uint8
        Red, green and blue, 0..255, on a white ground.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [
        _line(name, points, _LINE_COLOURS[index % len(_LINE_COLOURS)], log_y)
        for index, (name, points) in enumerate(series.items())
    ]
    figure = Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((_LEFT, _BOTTOM, 1 - _LEFT, _TOP - _BOTTOM), facecolor="white")
    _style_axes(axes, title, x_label)
    _scale_axes(axes, lines, log_y)
    for line in lines:
        _draw_line(axes, line)
    _draw_labels(axes, lines)
    canvas.draw()  # type: ignore[no-untyped-call, unused-ignore]
    pixels: Picture = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call, unused-ignore]
    return pixels[:, :, :3].copy()


def _line(name: str, points: Sequence[tuple[float, float]], colour: str, log_y: bool) -> _Line:
    x, y = np.asarray(points, np.float64).reshape(-1, 2).T
    drawable = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not log_y))
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    last = f"{y[drawable][-1]:.4g}" if drawable.any() else "no values"
    bounded = np.clip(y, _SMALLEST if log_y else -_LARGEST, _LARGEST)
    return _Line(f"{short}  {last}", x, np.where(drawable, bounded, np.nan), colour)


def _style_axes(axes: "Axes", title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", pad=18, fontsize=13, color=_INK, parse_math=False)
    axes.set_xlabel(x_label, labelpad=8, fontsize=10, color=_FAINT_INK, parse_math=False)
    axes.tick_params(axis="both", which="both", colors=_FAINT_INK, labelsize=9.5)
    axes.tick_params(axis="y", which="both", length=0, pad=8)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT_INK)


def _scale_axes(axes: "Axes", lines: Sequence[_Line], log_y: bool) -> None:
    from matplotlib.ticker import StrMethodFormatter

    drawn = [np.isfinite(line.y) for line in lines]
    x = np.concatenate([np.empty(0), *(line.x[mask] for line, mask in zip(lines, drawn, strict=True))])
    y = np.concatenate([np.empty(0), *(line.y[mask] for line, mask in zip(lines, drawn, strict=True))])
    x_ticks, y_ticks = _ticks(x, log=False), _ticks(y, log=log_y)
    # The last x is the end of the axis, so that lines end beside their labels; a single x lies in the middle.
    right = x.max() if len(x) and x.max() > x.min() else x_ticks[-1]
    axes.set_xticks(x_ticks[x_ticks <= right])
    axes.set_xlim(x_ticks[0], right)
    if log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.minorticks_off()
    axes.set_yticks(y_ticks)
    axes.set_ylim(y_ticks[0], y_ticks[-1])


def _ticks(values: NDArray[np.float64], *, log: bool) -> NDArray[np.float64]:
    """Return round numbers, at least two: the first is at most the least value, the last at least the largest."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = (float(values.min()), float(values.max())) if len(values) else (0.1 if log else 0.0, 1.0)
    locator: LogLocator | MaxNLocator
    if log:
        if not high > low * (1 + 1e-9):
            low, high = low / 2, high * 2
        locator = LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,), numticks=8)
    else:
        if not high - low > 1e-9 * max(abs(low), abs(high)):
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        locator = MaxNLocator(6, steps=[1, 2, 5, 10])
    ticks = np.asarray(locator.tick_values(low, high), np.float64)
    # Ticks are rounded: one that is the least value but for its last digits counts as that.
    slack = 1e-9 * (low if log else high - low)
    first = max(int(np.searchsorted(ticks, low + slack, "right")) - 1, 0)
    last = max(int(np.searchsorted(ticks, high - slack, "left")), first + 1)
    return ticks[first : last + 1]


def _draw_line(axes: "Axes", line: _Line) -> None:
    drawn = np.concatenate([[False], np.isfinite(line.y), [False]])
    # A point between two gaps makes no line, so that it is drawn as a dot.
    alone = drawn[1:-1] & ~drawn[:-2] & ~drawn[2:]
    axes.plot(line.x, line.y, color=line.colour, linewidth=1.5, solid_joinstyle="round", clip_on=False)
    axes.plot(
        line.x[alone], line.y[alone], color=line.colour, linestyle="none", marker="o", markersize=5, clip_on=False
    )


def _draw_labels(axes: "Axes", lines: Sequence[_Line]) -> None:
    """Name each line at the height of its end, moved up or down where labels would overlap, and make room for them."""
    ends = [line.y[np.isfinite(line.y)][-1:] for line in lines]
    heights = [float(axes.transData.transform((0, end[0]))[1]) if len(end) else axes.bbox.y0 for end in ends]
    room = axes.bbox.height / max(len(lines) - 1, 1)
    gap = min(_LABEL_HEIGHT, room)
    size = max(_LABEL_SIZE * gap / _LABEL_HEIGHT, _LEAST_LABEL_SIZE)
    order = sorted(range(len(lines)), key=heights.__getitem__)
    widest, lowest = 0.0, axes.bbox.y0
    for rank, index in enumerate(order):
        highest = axes.bbox.y1 - gap * (len(order) - 1 - rank)
        height = min(max(heights[index], lowest), highest)
        lowest = height + gap
        text = axes.annotate(
            lines[index].label,
            xy=(1, (height - axes.bbox.y0) / axes.bbox.height),
            xycoords="axes fraction",
            xytext=(_LABEL_GAP, 0),
            textcoords="offset pixels",
            color=lines[index].colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
            parse_math=False,
        )
        widest = max(widest, text.get_window_extent().width)
    right = max(1 - (_LABEL_GAP + widest + _LABEL_MARGIN) / _WIDTH, _LEAST_RIGHT)
    axes.set_position((_LEFT, _BOTTOM, min(right, 0.96) - _LEFT, _TOP - _BOTTOM))
