"""HTML from texts that others have named: everything is escaped unless it is markup already."""

import html
import json
import math
from collections.abc import Iterable
from typing import Any

from instseg.errors import printable


class Markup(str):
    """A text that is HTML already; every other text is escaped where it becomes part of a page."""

    __slots__ = ()

    def __add__(self, other: "Content") -> "Markup":
        """Return both, the other one escaped unless it is markup."""
        return Markup(str(self) + escape(other))


Content = Markup | str | int | float | None
"""What can stand in an element: None is nothing."""


def escape(content: Content) -> str:
    """Return a text as HTML, for content and for attributes in double quotes.

    Control characters, and those that turn the direction of writing, become visible escapes.

    Examples
    --------
    >>> escape('<b> & "c"'), escape(Markup("<br>"))
    ('&lt;b&gt; &amp; &quot;c&quot;', '<br>')
    """
    if isinstance(content, Markup):
        return content
    return "" if content is None else html.escape(printable(str(content)))


def tag(name: str, /, *content: Content, **attributes: Content | bool) -> Markup:
    """Return an element with its end tag.

    Parameters
    ----------
    name : str
        Of the element.
    *content : Markup, str or number
        What is in it.
    **attributes : str, number or bool
        Underscores become hyphens, and one at the end is dropped (`class_`). True is an attribute without a value;
        False and None leave it out.

    Examples
    --------
    >>> tag("a", "1 < 2", href="#x", aria_label="less", hidden=False)
    '<a href="#x" aria-label="less">1 &lt; 2</a>'
    """
    return Markup(f"<{name}{_attributes(attributes)}>{''.join(map(escape, content))}</{name}>")


def void(name: str, /, **attributes: Content | bool) -> Markup:
    """Return an element that has no content and no end tag."""
    return Markup(f"<{name}{_attributes(attributes)}>")


def join(parts: Iterable[Content]) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(map(escape, parts)))


def _attributes(attributes: dict[str, Content | bool]) -> str:
    parts = []
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(f" {name}")
        elif value is not None and value is not False:
            parts.append(f' {name}="{escape(value)}"')
    return "".join(parts)


def json_block(value: Any, **attributes: Content | bool) -> Markup:
    """Return a block of data for the page's script, which nothing in a text can end.

    Numbers that are not finite become null, as JSON has none.
    """
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    # Within a script element, `</script` and `<!--` are what counts; a JSON text may have both in other words.
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return tag("script", Markup(text), type="application/json", **attributes)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {printable(str(key)): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return printable(value) if isinstance(value, str) else value


def count(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> count(1, "image"), count(1200, "object"), count(0, "box", "boxes")
    ('1 image', '1,200 objects', '0 boxes')
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, and thousands apart; an en dash where there is none.

    Examples
    --------
    >>> number(0.12345), number(12345.6), number(7.0), number(None)
    ('0.123', '12,346', '7', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"
