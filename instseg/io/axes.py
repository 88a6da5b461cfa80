"""Axes of arrays: what their names mean, and what those mean that have no names."""

from collections.abc import Sequence

_ROLES = {
    **dict.fromkeys(("y", "row", "rows", "height"), "y"),
    **dict.fromkeys(("x", "column", "columns", "col", "width"), "x"),
    **dict.fromkeys(("c", "ch", "channel", "channels", "wavelength", "lambda", "s", "sample", "samples", "rgb"), "c"),
    **dict.fromkeys(("z", "depth", "slice"), "z"),
    **dict.fromkeys(("t", "time", "frame"), "t"),
}
# An axis of at most so many values that comes last holds the samples of a pixel.
MAX_SAMPLES = 4
NAMELESS = ""
"""The role of an axis of planes that has no name, so that its planes may be channels."""


def axis_role(name: str) -> str | None:
    """Return 'y', 'x', 'c', 'z' or 't' for a name of an axis in lower case, None for other names.

    Examples
    --------
    >>> axis_role("height"), axis_role("phase")
    ('y', None)
    """
    return _ROLES.get(name)


def nameless_roles(shape: Sequence[int]) -> tuple[str, ...]:
    """Return what the axes of an array mean that have no names.

    The last two are rows and columns, or the three last ones rows, columns and samples, where there are at most four
    samples and more rows; those before are planes.

    Examples
    --------
    >>> nameless_roles((100, 120, 3)), nameless_roles((3, 100, 120))
    (('y', 'x', 'c'), ('', 'y', 'x'))
    """
    own = ("y", "x", "c") if len(shape) > 2 and shape[-1] <= MAX_SAMPLES < shape[-3] else ("y", "x")
    return (NAMELESS,) * (len(shape) - len(own)) + own
