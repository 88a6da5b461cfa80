"""Tables in a page: sortable by buttons in their headings, and lists of settings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from instseg.reports.markup import Content, Markup, number, tag


class Cell(NamedTuple):
    """A cell that is sorted by another value than its text.

    Attributes
    ----------
    content : Markup, str or number
    value : float or None
        None comes last.
    """

    content: Content
    value: float | None


def sortable_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], texts: int = 1) -> Markup:
    """Return a table whose columns are sorted by buttons.

    Parameters
    ----------
    caption : str
    columns : sequence of str
    rows : iterable of sequence
        A cell for each column: text, Markup, a number, None or a `Cell`.
    texts : int
        How many columns hold texts, from the first one on; all others are numbers.
    """
    headings = [
        tag("th", tag("button", name, type="button"), scope="col", class_="text" if index < texts else None)
        for index, name in enumerate(columns)
    ]
    body = [tag("tr", *(_cell(value, index < texts) for index, value in enumerate(row))) for row in rows]
    table = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", *headings)), tag("tbody", Markup("\n".join(body)))
    )
    return tag("div", table, class_="tall", tabindex=0, role="region", aria_label=caption)


def plain_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Return a table that is not to be sorted; the first cell of a row is its heading."""
    headings = [tag("th", name, scope="col") for name in columns]
    body = [tag("tr", tag("th", row[0], scope="row"), *map(_plain_cell, row[1:])) for row in rows]
    table = tag("table", tag("caption", caption), tag("thead", tag("tr", *headings)), tag("tbody", *body))
    return tag("div", table, class_="scroll")


def _plain_cell(value: Content) -> Markup:
    return tag("td", _shown(value), class_="text" if isinstance(value, str) else None)


def _cell(value: Any, text: bool) -> Markup:
    if isinstance(value, Cell):
        return tag("td", value.content, data_value="" if value.value is None else repr(value.value))
    if text:
        return tag("td", value, class_="text")
    return tag("td", _shown(value), data_value="" if value is None else repr(float(value)))


def _shown(value: Content) -> Content:
    return number(value) if value is None or isinstance(value, int | float) else value


def settings_list(settings: Mapping[str, Any]) -> Markup:
    """Return settings as a list of names and values; mappings within have their names before those of their own."""
    return Markup(f'<dl class="settings">{"".join(_items(settings, ""))}</dl>')


def _items(settings: Mapping[str, Any], before: str) -> Iterable[Markup]:
    for name, value in settings.items():
        full = f"{before}{name}"
        if isinstance(value, Mapping) and value:
            yield from _items(value, f"{full}.")
        else:
            yield tag("dt", full) + tag("dd", _written(value))


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value)) or "–"
    if value is None or value == {}:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def facts(values: Mapping[str, Content]) -> Markup:
    """Return a few numbers, large, with their names."""
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in values.items()]
    return tag("dl", *pairs, class_="figures-in-words")
