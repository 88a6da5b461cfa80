"""The page of a prediction: images with outlines, distributions, a table, and what made it."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instseg.errors import InstsegError
from instseg.inference.report_parts import picture_of
from instseg.inference.run_record import Making
from instseg.reports.charts import histogram
from instseg.reports.figures import ObjectTable, OutlineGroup, image_figure
from instseg.reports.markup import Markup, count, join, number, tag
from instseg.reports.page import outline_switches, section, text_list, write_page
from instseg.reports.tables import Cell, facts, settings_list, sortable_table
from instseg.visualization.colours import label_colours

_MOST_FAILURES = 1000
_COLUMNS = ("image", "objects", "median diameter", "area covered (%)", "median score", "height", "width")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportImage:
    """What the table of a report says of an image.

    Attributes
    ----------
    name : str
        Of the image's results.
    file : Path
    part : dict or None
        What is added up over the images, of the part that `ReportParts.read` gives; None where nothing was made of it.
    objects : int
    score : float or None
        The median over the objects.
    """

    name: str
    file: Path
    part: dict[str, Any] | None
    objects: int
    score: float | None = None

    @classmethod
    def from_part(cls, name: str, file: Path, part: dict[str, Any]) -> "ReportImage":
        """Build it without what takes memory: picture, outlines and rows."""
        kept = {key: part[key] for key in ("shape", "diameter", "covered", "classes", "left_out")}
        kept["drawn"] = len(part["paths"])
        kept["area"] = np.array(part["area"], np.float64)
        kept["intensity"] = {channel: np.array(values, np.float32) for channel, values in part["intensity"].items()}
        return cls(name=name, file=file, part=kept, objects=part["objects"], score=part["score"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """What a page of a prediction is made of.

    Attributes
    ----------
    images : sequence of ReportImage
    pictured, large : collection of str
        Names of the images that are shown, and of those that are shown larger.
    failures : sequence of (Path, InstsegError)
    notes : sequence of str
    making : Making
    shard : str or None
    read : callable
        Gives the part of an image by its name.
    """

    images: Sequence[ReportImage]
    pictured: Collection[str]
    large: Collection[str]
    failures: Sequence[tuple[Path, InstsegError]]
    notes: Sequence[str]
    making: Making
    shard: str | None
    read: Callable[[str], dict[str, Any]] = field(repr=False)


def write_prediction_page(path: Path, content: ReportContent) -> None:
    """Write the page.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    contents = [("images", "Images"), ("distributions", "Distributions"), ("table", "All images")]
    contents += [("failed", "Could not be segmented")] if content.failures else []
    contents.append(("making", "What made this"))
    title = f"Objects found by {content.making.model}"
    write_page(path, title, _summary(content), _sections(content), contents=contents)


def _summary(content: ReportContent) -> Markup:
    images = content.images
    objects = sum(image.objects for image in images)
    diameters = _all_areas(content)
    median = float(np.sqrt(4 * np.median(diameters) / np.pi)) if len(diameters) else None
    scores = [image.score for image in images if image.score is not None]
    values = {
        "images": f"{len(images):,}",
        "objects": f"{objects:,}",
        "objects in an image (median)": number(float(np.median([image.objects for image in images])))
        if images
        else "–",
        "median diameter (pixels)": number(median),
        "median score": number(float(np.median(scores)) if scores else None),
    }
    if content.failures:
        values["could not be segmented"] = f"{len(content.failures):,}"
    notes = list(content.notes)
    if content.shard is not None:
        number_of, _, parts = content.shard.partition("/")
        notes.insert(0, f"these are the images of part {number_of} of {parts}")
    shown = tag("div", text_list(notes), class_="note") if notes else Markup()
    return facts(values) + shown


def _all_areas(content: ReportContent) -> Any:
    areas = [image.part["area"] for image in content.images if image.part is not None]
    return np.concatenate(areas) if areas else np.zeros(0)


def _sections(content: ReportContent) -> Iterator[Markup]:
    yield from _images(content)
    yield _distributions(content)
    yield _table(content)
    if content.failures:
        shown = [f"{path}: {error}" for path, error in content.failures[:_MOST_FAILURES]]
        left = len(content.failures) - len(shown)
        more = tag("p", f"{left:,} more are in failed.csv beside the results.") if left else Markup()
        yield section("Could not be segmented", text_list(shown), more, anchor="failed")
    yield _making(content.making)


def _images(content: ReportContent) -> Iterator[Markup]:
    """Yield the images one after the other, so that only one is in memory."""
    yield Markup('<section id="images" aria-labelledby="images-heading">') + tag("h2", "Images", id="images-heading")
    shown = [image for image in content.images if image.name in content.pictured]
    if len(shown) < len(content.images):
        about = "those of the lowest scores and others chosen at random; the table has all of them"
        yield tag("p", f"{len(shown):,} of {count(len(content.images), 'image')} are shown: {about}.")
    if shown:
        yield tag(
            "p",
            "Point at an object to see its numbers. Open an image to zoom in, and to go from object to object by keys.",
            class_="hint",
        )
        yield outline_switches([("objects", "outlines")])
        yield from _classes(shown)
        yield Markup(f'<div class="grid{" wide" if len(shown) <= 4 else ""}">')
        for index, image in enumerate(shown):
            yield _figure(f"image-{index}", image, content)
        yield Markup("</div>")
    else:
        yield tag("p", "There is no image to show.")
    yield Markup("</section>")


def _classes(images: Sequence[ReportImage]) -> Iterator[Markup]:
    names = list(dict.fromkeys(name for image in images if image.part is not None for name in image.part["classes"]))
    if not names:
        return
    colours = label_colours(np.arange(1, len(names) + 1)).tolist()
    entries = []
    for name, (red, green, blue) in zip(names, colours, strict=True):
        mark = tag("rect", width=20, height=10, fill=f"#{red:02x}{green:02x}{blue:02x}")
        entries.append(tag("li", tag("svg", mark, viewBox="0 0 20 10", aria_hidden="true"), name))
    yield tag("ul", *entries, class_="classes", aria_label="Colours of classes")


def _figure(anchor: str, image: ReportImage, content: ReportContent) -> Markup:
    part = content.read(image.name)
    drawn = [row[0] for row in part["rows"]]
    paths = dict(zip(drawn, part["paths"], strict=True))
    colours = dict(zip(drawn, part["colours"], strict=True))
    words = [count(image.objects, "object")]
    if image.objects:
        words.append(f"diameter {number(part['diameter'])}")
    if image.score is not None:
        words.append(f"score {number(image.score)}")
    hidden = image.objects - len(drawn)
    if hidden:
        words.append(f"the outlines of {hidden:,} small ones are not drawn")
    return image_figure(
        anchor,
        image.name,
        ", ".join(words),
        picture_of(part, large=image.name in content.large),
        tuple(part["shape"]),
        [OutlineGroup("objects", paths, part["stride"], colours)],
        ObjectTable(part["columns"], part["rows"]),
    )


def _distributions(content: ReportContent) -> Markup:
    parts = [image.part for image in content.images if image.part is not None]
    areas = _all_areas(content)
    charts = [histogram(np.sqrt(4 * areas / np.pi), "Size", "diameter of the disc of the same area, in pixels")]
    for channel in dict.fromkeys(name for part in parts for name in part["intensity"]):
        values = np.concatenate([part["intensity"][channel] for part in parts if channel in part["intensity"]])
        charts.append(histogram(values, f"Intensity: {channel}", "value in the file, mean over the object"))
    counts = np.array([image.objects for image in content.images], np.float64)
    if len(counts) > 1:
        charts.append(histogram(counts, "Objects in an image", "objects", "images"))
    return section("Distributions", tag("div", *charts, class_="charts"), anchor="distributions")


def _table(content: ReportContent) -> Markup:
    anchors: dict[str, str] = {}
    for image in content.images:
        if image.name in content.pictured:
            anchors[image.name] = f"image-{len(anchors)}"
    rows = []
    for image in content.images:
        part = image.part
        name: Any = image.name
        if image.name in anchors:
            name = tag("button", image.name, type="button", data_open=anchors[image.name])
        if part is None:
            rows.append([name, image.objects, None, None, None, None, None])
            continue
        covered = Cell(f"{100 * part['covered']:.1f}", part["covered"])
        diameter = part["diameter"] if image.objects else None
        rows.append([name, image.objects, diameter, covered, image.score, *part["shape"]])
    caption = f"{count(len(rows), 'image')}, sizes in pixels; headings sort"
    return section("All images", sortable_table(caption, _COLUMNS, rows), anchor="table")


def _making(making: Making) -> Markup:
    about = {"instseg": making.version, "model": making.model, "SHA-256 of the model": making.digest}
    settings = tag("details", tag("summary", "All settings"), settings_list(making.settings))
    return section("What made this", settings_list(about), join([settings]), anchor="making")
