"""VIA, the VGG Image Annotator: JSON or CSV for many images, with regions that have attributes.

Coordinates are in pixels, (0, 0) is the corner of the first pixel. The class is an attribute of the region.
"""

import csv
import functools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from instseg.annotations.objects import (
    BOXES,
    NO_AREA,
    NO_NUMBERS,
    AnnotatedImage,
    Annotations,
    Objects,
    Polygons,
    UnusableObject,
    ellipse,
    polygon,
    rectangle,
)
from instseg.annotations.source import MissingImage, ReadOptions, Source, check_size, class_text, read_text
from instseg.errors import InstsegError, printable
from instseg.io.json_text import parse_json

NAME = "via"
TITLE = "VIA"

_METADATA = "_via_img_metadata"
_COLUMNS = {"filename", "region_shape_attributes", "region_attributes"}
# Attributes that are taken for the class before others are.
_CLASS_NAMES = ("class", "label", "type", "category", "name")

Region = tuple[dict[str, Any], dict[str, Any]]
"""The attributes of a shape, and those of the region."""


def missing(value: Any) -> str | None:
    """Say what a JSON value lacks to be of this format, None if it lacks nothing."""
    if not isinstance(value, dict):
        return "no object"
    if isinstance(value.get(_METADATA), dict):
        return None
    entries = list(value.values())
    if entries and all(isinstance(one, dict) and "filename" in one and "regions" in one for one in entries):
        return None
    return f"neither '{_METADATA}' nor 'filename' and 'regions' in each entry"


def detect(source: Source) -> str | None:
    """Say by what the source is recognised as this format, None if it is not."""
    found = _files(source)
    return f"{printable(found[0].name)} holds file names and regions" if found else None


def read(source: Source, options: ReadOptions) -> Annotations:
    """Read the annotations of a source; `options.boxes` takes rectangles for outlines."""
    found = _files(source)
    if not found:
        raise InstsegError(f"{source.path} holds no file of VIA: expected JSON or CSV; check the name")
    source.require_single(found, "VIA")
    path, result = found[0], Annotations()
    by_name = _read_csv(path) if path.suffix.lower() == ".csv" else _read_json(source.json(path))
    attribute = _class_attribute(region for regions in by_name.values() for region in regions)
    if attribute:
        result.notes.append(f"the class of an object is its attribute {printable(attribute)}")
    for name, regions in by_name.items():
        try:
            image = source.find_image(name, path)
        except MissingImage as error:
            result.missing.append((name, str(error)))
            continue
        result.images.append(AnnotatedImage(image, functools.partial(_objects, regions, attribute, options.boxes)))
    return result


def _files(source: Source) -> list[Path]:
    found = [path for path in source.named(".json") if missing(source.json(path)) is None]
    return found or [path for path in source.named(".csv") if _COLUMNS.issubset(_heading(path))]


def _heading(path: Path) -> list[str]:
    check_size(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [name.strip().lstrip("#") for name in next(csv.reader(file), [])]
    except (OSError, ValueError, csv.Error):
        # A table of another kind.
        return []


def _read_json(value: dict[str, Any]) -> dict[str, list[Region]]:
    by_name: dict[str, list[Region]] = {}
    for entry in value.get(_METADATA, value).values():
        if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
            continue
        regions = entry.get("regions")
        # The first version has a dict by numbers.
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        for region in regions if isinstance(regions, list) else []:
            made = region if isinstance(region, dict) else {}
            pair = _pair(made.get("shape_attributes"), made.get("region_attributes"))
            by_name.setdefault(entry["filename"], []).append(pair)
        by_name.setdefault(entry["filename"], [])
    return by_name


def _read_csv(path: Path) -> dict[str, list[Region]]:
    by_name: dict[str, list[Region]] = {}
    rows = csv.reader(read_text(path).splitlines())
    try:
        heading = [name.strip().lstrip("#") for name in next(rows)]
        for row in rows:
            fields = dict(zip(heading, row, strict=False))
            if not (name := fields.get("filename")):
                continue
            shape, attributes = (fields.get(f"region_{part}attributes") or "{}" for part in ("shape_", ""))
            regions = by_name.setdefault(name, [])
            if shape != "{}":
                regions.append(_pair(parse_json(shape), parse_json(attributes)))
    except (csv.Error, ValueError) as error:
        line = f"line {rows.line_num} of {path}"
        raise InstsegError(f"cannot read {line}: {error}; export it again") from error
    return by_name


def _pair(shape: Any, attributes: Any) -> Region:
    return (shape if isinstance(shape, dict) else {}, attributes if isinstance(attributes, dict) else {})


def _class_attribute(regions: Iterable[Region]) -> str | None:
    """Return the attribute that says the class: by its name, else the most frequent."""
    counts = Counter(name for _, attributes in regions for name, value in attributes.items() if _class_of(value))
    by_name = {name.lower(): name for name in counts}
    preferred = [by_name[name] for name in _CLASS_NAMES if name in by_name]
    return preferred[0] if preferred else (counts.most_common(1)[0][0] if counts else None)


def _class_of(value: Any) -> str | None:
    """Return the name of a class: a text, or what is ticked of several boxes."""
    if isinstance(value, dict):
        return class_text(", ".join(str(name) for name, ticked in value.items() if ticked))
    return class_text(value)


def _objects(regions: list[Region], attribute: str | None, boxes: bool) -> Objects:
    objects = Objects()
    for shape, attributes in regions:
        objects.add(functools.partial(_shape, shape, boxes), _class_of(attributes.get(attribute or "")))
    return objects


def _shape(shape: dict[str, Any], boxes: bool) -> Polygons:
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not (isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys)):
            raise UnusableObject(NO_NUMBERS)
        if kind == "polyline" and (len(xs) < 4 or (xs[0], ys[0]) != (xs[-1], ys[-1])):
            raise UnusableObject(NO_AREA)
        return polygon(list(zip(xs, ys, strict=True)))
    if kind == "circle":
        return ellipse(shape.get("cx"), shape.get("cy"), shape.get("r"), shape.get("r"))
    if kind == "ellipse":
        turned = shape.get("theta", 0)
        return ellipse(shape.get("cx"), shape.get("cy"), shape.get("rx"), shape.get("ry"), turned)
    if kind != "rect":
        raise UnusableObject(NO_AREA)
    if not boxes:
        raise UnusableObject(BOXES)
    try:
        x, y, width, height = (float(shape[name]) for name in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnusableObject(NO_NUMBERS) from error
    return rectangle(x, y, x + width, y + height)
