"""An image in a page with outlines of objects over it, and the numbers of these."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from instseg.reports.markup import Content, Markup, json_block, tag, void
from instseg.reports.outlines import Outlines
from instseg.reports.pictures import Picture


class OutlineGroup(NamedTuple):
    """Outlines that are switched together.

    Attributes
    ----------
    name : str
        A word that the style and the switches know it by.
    paths : dict of int to str
        As `outline_paths` returns them.
    stride : int
        Pixels of the image in a pixel of the labels that were traced.
    colours : mapping of int to str
        Of each label; empty where the style has a colour for the group.
    """

    name: str
    paths: Mapping[int, str]
    stride: int = 1
    colours: Mapping[int, str] = {}


class ObjectTable(NamedTuple):
    """Numbers of the objects of a figure.

    Attributes
    ----------
    columns : sequence of str
    rows : sequence of sequence
        In the order of the outlines: group after group, ascending by label.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def image_figure(
    anchor: str,
    name: str,
    caption: Content,
    picture: Picture | None,
    shape: tuple[int, int],
    groups: Sequence[OutlineGroup],
    objects: ObjectTable,
) -> Markup:
    """Return an image with its outlines.

    Parameters
    ----------
    anchor : str
        An id of its own.
    name : str
        Of the image; anything.
    caption : Markup or str
    picture : Picture or None
        None leaves the ground black.
    shape : tuple of int
        Height and width of the image.
    groups : sequence of OutlineGroup
    objects : ObjectTable
    """
    height, width = shape
    ground = None
    if picture is not None:
        size = {"width": picture.width, "height": picture.height}
        ground = void("image", href=picture.uri, preserveAspectRatio="none", **size) + Markup("</image>")
    drawn = Markup("".join(_group(group) for group in groups))
    words = f"{name}, {caption}" if not isinstance(caption, Markup) else name
    # The name of an element of SVG, and attributes of it, tell capital letters.
    svg = tag("svg", ground, drawn, viewBox=f"0 0 {width} {height}", role="img", aria_label=words)
    title = tag("button", name, type="button", data_open=anchor, aria_label=f"{name}: show larger")
    data = json_block({"columns": objects.columns, "rows": objects.rows})
    label = tag("figcaption", title, " ", caption)
    return tag("figure", svg, label, data, class_="image", id=anchor, data_name=name)


def _group(group: OutlineGroup) -> str:
    colours = group.colours
    paths = [
        f'<path d="{path}"{f" stroke={chr(34)}{colours[label]}{chr(34)}" if colours else ""}/>'
        for label, path in group.paths.items()
    ]
    scale = group.stride / 2
    moved = f' transform="scale({scale:g})"'
    return f'<g class="outlines {group.name}" data-group="{group.name}"{moved}>{"".join(paths)}</g>'


def grid(figures: Sequence[Markup], *, wide: bool = False) -> Markup:
    """Return figures side by side."""
    return Markup(f'<div class="grid{" wide" if wide else ""}">') + Markup("\n".join(figures)) + Markup("</div>")


def left_out_note(outlines: Outlines) -> str:
    """Return a few words on what is not drawn; '' where all is."""
    return f"{outlines.left_out:,} smallest not drawn" if outlines.left_out else ""
