"""Actions as a page or a program sends them: objects of JSON, which are checked here, once."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import UsageError, check_parameter
from instseg.tiling.grid import Box

MAX_POINTS = 10_000
"""Most points of a line or an outline."""

MAX_DELETED = 200_000
"""Most instances that are deleted by their numbers."""

MAX_RADIUS = 500.0
"""Largest radius of a brush, in pixels."""

MAX_CLASS = 255
"""Largest number of a class."""

_LARGEST = 1e7
_LONGEST_LINE = 100_000.0
_REACHES = (0.05, 20.0)
_LARGEST_ID = 2**31 - 1


def _no_points() -> NDArray[np.float64]:
    return np.zeros((0, 2))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Action:
    """What a person does to an image.

    Attributes
    ----------
    kind : str
    points : (N, 2) float64
        Row and column of the clicks inside, the point, the line or the outline.
    outside : (M, 2) float64
        Of clicks outside.
    reach, radius : float
    anyway : bool
        Whether an addition is meant even if it looks like the rim of another instance.
    instance : int or None
        The instance that it is about: `replace` of an addition, else `id`.
    instances : tuple of int
        Those that are deleted by their numbers, not by where they are.
    class_number : int
    box : Box or None
    """

    kind: str
    points: NDArray[np.float64] = field(default_factory=_no_points)
    outside: NDArray[np.float64] = field(default_factory=_no_points)
    reach: float = 1.0
    radius: float = 1.0
    anyway: bool = False
    instance: int | None = None
    instances: tuple[int, ...] = ()
    class_number: int = 0
    box: Box | None = None


def parse_action(content: Mapping[str, Any]) -> Action:
    """Check an action.

    Parameters
    ----------
    content : mapping
        `kind` and what that kind takes; anything else is ignored.

    Raises
    ------
    UsageError
        If something is missing, of another type or out of its range.
    """
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in _PARSERS:
        raise UsageError(f"kind is {str(kind)[:30]!r}, expected one of {', '.join(_PARSERS)}", parameter="kind")
    return Action(kind=kind, **_PARSERS[kind](content))


def _add(content: Mapping[str, Any]) -> dict[str, Any]:
    reach = _number(content.get("reach", 1.0), "reach")
    check_parameter(_REACHES[0] <= reach <= _REACHES[1], "reach", reach, f"{_REACHES[0]} to {_REACHES[1]}")
    return {
        "points": _points(content, "inside", 1),
        "outside": _points(content, "outside", 0) if content.get("outside") else _no_points(),
        "reach": reach,
        "anyway": content.get("anyway") is True,
        "instance": _instance(content, "replace"),
    }


def _point(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"points": _points({"point": [content.get("point")]}, "point", 1)}


def _delete(content: Mapping[str, Any]) -> dict[str, Any]:
    if "line" in content:
        return _line(content)
    if "ids" not in content:
        return _point(content)
    ids = content["ids"]
    if not isinstance(ids, list | tuple) or not 1 <= len(ids) <= MAX_DELETED:
        expected = f"a list of 1 to {MAX_DELETED} numbers of objects"
        raise UsageError(f"ids is {str(ids)[:50]!r}, expected {expected}", parameter="ids")
    instances = tuple(_instance({"ids": value}, "ids") for value in ids)
    if None in instances:
        raise UsageError("ids holds null, expected numbers of objects", parameter="ids")
    return {"instances": instances}


def _line(content: Mapping[str, Any]) -> dict[str, Any]:
    line = _points(content, "line", 1)
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    check_parameter(length <= _LONGEST_LINE, "line", f"{length:g} pixels long", f"at most {_LONGEST_LINE:g}")
    return {"points": line}


def _brush(content: Mapping[str, Any]) -> dict[str, Any]:
    radius = _number(content.get("radius"), "radius")
    check_parameter(0 < radius <= MAX_RADIUS, "radius", radius, f"above 0 and at most {MAX_RADIUS:g}")
    return {**_line(content), "radius": radius, "instance": _instance(content, "id")}


def _polygon(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"points": _points(content, "points", 3), "instance": _instance(content, "id")}


def _class(content: Mapping[str, Any]) -> dict[str, Any]:
    number = content.get("class")
    is_class = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MAX_CLASS
    check_parameter(is_class, "class", number, f"0 to {MAX_CLASS}")
    return {**_point(content), "class_number": number}


def _box(content: Mapping[str, Any]) -> dict[str, Any]:
    values = content.get("box")
    if not isinstance(values, list | tuple) or len(values) != 4:
        raise UsageError(f"box is {str(values)[:50]!r}, expected [top, left, bottom, right]", parameter="box")
    top, left, bottom, right = (_number(value, "box") for value in values)
    box = Box(math.floor(top), math.floor(left), math.ceil(bottom), math.ceil(right))
    check_parameter(0 not in box.shape, "box", list(box), "bottom below top, and right of left")
    return {"box": box}


def _nothing(content: Mapping[str, Any]) -> dict[str, Any]:
    return {}


_PARSERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    **{"add": _add, "delete": _delete, "join": _line, "split": _line, "paint": _brush, "erase": _brush},
    **{"polygon": _polygon, "fill_holes": _point, "class": _class, "confirm": _point, "accept_box": _box},
    **dict.fromkeys(("accept", "reopen", "undo", "redo"), _nothing),
}


def _points(content: Mapping[str, Any], name: str, least: int) -> NDArray[np.float64]:
    values = content.get(name)
    if not isinstance(values, list | tuple | np.ndarray) or not least <= len(values) <= MAX_POINTS:
        expected = f"a list of {least} to {MAX_POINTS} points [row, column]"
        raise UsageError(f"{name} is {str(values)[:50]!r}, expected {expected}", parameter=name)
    for value in values:
        if not isinstance(value, list | tuple | np.ndarray) or len(value) != 2:
            raise UsageError(f"{name} holds {str(value)[:50]!r}, expected points [row, column]", parameter=name)
    return np.array([[_number(part, name) for part in value] for value in values], np.float64).reshape(-1, 2)


def _number(value: object, name: str) -> float:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not abs(value) <= _LARGEST:  # type: ignore[arg-type]
        raise UsageError(f"{name} holds {str(value)[:50]!r}, expected numbers up to {_LARGEST:g}", parameter=name)
    return float(value)  # type: ignore[arg-type]


def _instance(content: Mapping[str, Any], name: str) -> int | None:
    value = content.get(name)
    if value is None:
        return None
    is_label = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_ID
    check_parameter(is_label, name, value, f"the number of an object, or null, up to {_LARGEST_ID}")
    return int(value)
