"""A page as one file, which opens offline: style, script, pictures and data are in it, and nothing is fetched."""

import base64
import functools
import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from instseg.io.atomic import atomic_write
from instseg.reports.markup import Markup, escape, join, tag, void

SUFFIXES = (".html", ".htm")
"""What the name of a page ends in."""


def section(heading: str, *content: Markup, anchor: str) -> Markup:
    """Return a section with a heading, which `write_page` lists at the top."""
    title = tag("h2", heading, id=f"{anchor}-heading")
    return tag("section", title, *content, id=anchor, aria_labelledby=f"{anchor}-heading")


def write_page(
    path: Path,
    title: str,
    summary: Markup,
    sections: Iterable[Markup],
    *,
    contents: Sequence[tuple[str, str]] = (),
) -> None:
    """Write a page, under another name until it is complete; only one section at a time is in memory.

    The page forbids itself the network, scripts but its own, and styles but its own (Content-Security-Policy), so that
    not even an error in escaping could make a name of a file run.

    Parameters
    ----------
    path : Path
    title : str
    summary : Markup
        What stands below the title.
    sections : iterable of Markup
    contents : sequence of (str, str)
        Anchors and headings of the sections, to be listed.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("<!DOCTYPE html>\n")
        file.write('<html lang="en">\n')
        file.write(_head(title))
        file.write("<body>\n")
        links = [tag("li", tag("a", heading, href=f"#{anchor}")) for anchor, heading in contents]
        listed = tag("nav", tag("ul", *links), aria_label="Sections") if links else Markup()
        file.write(tag("header", tag("h1", title), summary, listed))
        file.write("\n<main>\n")
        for one in sections:
            file.write(one)
            file.write("\n")
        file.write("</main>\n")
        file.write(_viewer())
        file.write("\n")
        file.write(f"<script>{_asset('page.js')}</script>\n</body>\n</html>\n")


@functools.lru_cache
def _asset(name: str) -> str:
    text = resources.files("instseg.reports").joinpath(name).read_text("utf-8")
    if "</" in text:
        raise ValueError(f"{name} has an end tag in it, which would end its own element")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _head(title: str) -> Markup:
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(_asset('page.css'))}; "
        f"script-src {_hash(_asset('page.js'))}; base-uri 'none'; form-action 'none'"
    )
    return join(
        [
            Markup('<head>\n<meta charset="utf-8">\n'),
            # Its quotes are single ones, and belong into the attribute as they are.
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'),
            void("meta", name="viewport", content="width=device-width, initial-scale=1"),
            void("meta", name="referrer", content="no-referrer"),
            void("meta", name="color-scheme", content="light dark"),
            # Otherwise a server would be asked for one.
            void("link", rel="icon", href="data:,"),
            tag("title", title),
            Markup(f"\n<style>{_asset('page.css')}</style>\n</head>\n"),
        ]
    )


def _viewer() -> Markup:
    """Return what shows an image by itself, to be filled by the script."""

    def button(name: str, text: str, label: str) -> Markup:
        return tag("button", text, type="button", data_do=name, aria_label=label, title=label)

    bar = tag(
        "div",
        tag("h2", id="viewer-title"),
        button("previous", "‹", "Previous image"),
        button("next", "›", "Next image"),
        button("in", "+", "Zoom in"),
        button("out", "−", "Zoom out"),
        button("fit", "Fit", "Show the whole image"),
        button("close", "Close", "Close"),
        class_="bar",
    )
    about = "Arrow keys go from object to object, + and - zoom, 0 shows the whole image; drag to move it."
    return tag(
        "dialog",
        bar,
        tag("div", id="viewer-stage", class_="stage"),
        tag("p", about, class_="hint", id="viewer-hint"),
        tag("p", id="viewer-status", class_="status", aria_live="polite"),
        tag("div", id="viewer-table"),
        id="viewer",
        aria_labelledby="viewer-title",
    ) + Markup('<div id="tip" role="tooltip" hidden></div>')


def outline_switches(groups: Iterable[tuple[str, str]]) -> Markup:
    """Return switches that show or hide groups of outlines, by the group's name and what to call it."""
    switches = [
        tag(
            "label",
            # Otherwise a browser brings back what somebody chose before, and not the outlines.
            void("input", type="checkbox", checked=True, data_group=group, autocomplete="off"),
            tag("span", text, class_=f"key {group}"),
        )
        for group, text in groups
    ]
    return tag("fieldset", tag("legend", "Show"), *switches, class_="switches")


def text_list(items: Iterable[str]) -> Markup:
    """Return texts as a list."""
    return tag("ul", *(tag("li", item) for item in items))


def code_block(text: str) -> Markup:
    """Return lines of code."""
    return tag("pre", tag("code", Markup("\n".join(map(escape, text.splitlines())))))
