"""JSON that others have written: bounded, so that a damaged or hostile file takes neither memory nor the stack."""

import json
from pathlib import Path
from typing import Any

from instseg.errors import InstsegError
from instseg.io.atomic import StrPath

MAX_BYTES = 16 * 2**20
"""Largest text that is parsed; what the tool writes and reads has some kilobytes."""

_MAX_DEPTH = 64
# A number of more digits means nothing here, and takes quadratic time to parse.
_MAX_DIGITS = 400
_TOO_DEEP = f"it is nested too deeply, expected at most {_MAX_DEPTH} levels"


def parse_json(text: str | bytes, max_bytes: int = MAX_BYTES) -> Any:
    """Parse JSON.

    Parameters
    ----------
    text : str or bytes
        UTF-8 where it is bytes.
    max_bytes : int
        Largest text that is parsed.

    Returns
    -------
    None, bool, int, float, str, list or dict
        NaN and infinities are floats, as Python writes them.

    Raises
    ------
    ValueError
        If it is damaged, larger than `max_bytes`, deeper than 64 levels, or holds a number of more than 400 digits.
    """
    if len(text) > max_bytes:
        raise ValueError(f"it has {len(text):,} characters, expected at most {max_bytes:,}")
    text = text if isinstance(text, str) else text.decode("utf-8")
    try:
        value = json.loads(text, parse_int=_parse_int)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if _depth(value) > _MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    return value


def read_json(path: StrPath, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file.

    Raises
    ------
    InstsegError
        If it cannot be read, or as `parse_json` does.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
        return parse_json(text, max_bytes)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InstsegError(f"cannot read {path}: {reason}; copy or write it again") from error


def _parse_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits, expected at most {_MAX_DIGITS}")
    return int(digits)


def _depth(value: Any) -> int:
    """Return how many lists and dicts lie in each other, level by level and so without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth
