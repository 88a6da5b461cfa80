"""Whether values that come from JSON are of the types that the fields of dataclasses have. Standard library only."""

import math
import types
import typing
from typing import Any, Literal

_LONGEST_SHOWN = 80
_UNIONS = (typing.Union, types.UnionType)


def is_of_type(value: Any, kind: Any) -> bool:
    """Return whether a value from JSON is of the type of a field; numbers are finite, integers fit 64 bits.

    Parameters
    ----------
    value : None, bool, int, float, str, list or dict
        A list will do for a tuple, an integer for a float, any text for a `Literal`.
    kind : type
        The annotation of the field: a plain type, a union, a `Literal` of texts, or a tuple of any length.

    Examples
    --------
    >>> is_of_type([32, 64], tuple[int, ...]), is_of_type(True, int), is_of_type(None, float | None)
    (True, False, True)
    """
    parts = typing.get_args(kind)
    if typing.get_origin(kind) in _UNIONS:
        return any(is_of_type(value, part) for part in parts)
    if typing.get_origin(kind) is Literal:
        # The group of settings itself says which are allowed.
        return isinstance(value, str)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple | list) and all(is_of_type(item, parts[0]) for item in value)
    if kind in (int, float):
        kinds = (int,) if kind is int else (int, float)
        return type(value) in kinds and (abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value))
    return type(value) is kind


def type_name(kind: Any) -> str:
    """Return what `is_of_type` takes, for a message.

    Examples
    --------
    >>> type_name(float | None)
    'a float or None'
    """
    parts = typing.get_args(kind)
    if typing.get_origin(kind) in _UNIONS:
        return " or ".join(type_name(part) for part in parts)
    if typing.get_origin(kind) is tuple:
        return f"a tuple of {parts[0].__name__}"
    if kind is types.NoneType:
        return "None"
    return f"a {str.__name__ if typing.get_origin(kind) is Literal else kind.__name__}"


def shown(value: Any) -> str:
    """Return a value for a message, which one of megabytes would fill."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
