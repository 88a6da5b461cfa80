"""CVAT for images: one XML file for many images.

Coordinates are in pixels, (0, 0) is the corner of the first pixel. Runs of masks go along the rows of their box. A
shape of a higher layer (`z_order`) comes later.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from instseg.annotations.objects import (
    BOXES,
    NO_AREA,
    NO_NUMBERS,
    AnnotatedImage,
    Annotations,
    Objects,
    Polygons,
    Runs,
    Shape,
    UnusableObject,
    ellipse,
    polygon,
    rectangle,
)
from instseg.annotations.source import MissingImage, ReadOptions, Source, check_size, class_text
from instseg.errors import InstsegError, printable

NAME = "cvat"
TITLE = "CVAT for images"

_SHAPES = ("polygon", "mask", "ellipse", "box", "polyline", "points", "cuboid", "skeleton")
# The first bytes of a file, which hold its outermost tag.
_HEAD = 4096


@dataclass(slots=True)
class _Image:
    name: str
    size: tuple[int, int] | None
    shapes: list[tuple[str, dict[str, str]]] = field(default_factory=list)


class _Reader:
    """Reads the tags of images and shapes as they come, without a tree.

    Entities are refused, so that none can refer to others or to files.
    """

    def __init__(self, path: Path) -> None:
        self.images: list[_Image] = []
        self.tracks = 0
        self.labels: list[str] = []
        self._path = path
        self._stack: list[str] = []

    def read(self) -> None:
        """Read the file; errors are those of `read`."""
        check_size(self._path)
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._refuse
        parser.buffer_text = True
        try:
            with self._path.open("rb") as file:
                parser.ParseFile(file)
        except (OSError, expat.ExpatError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InstsegError(f"cannot read {self._path}: {reason}; export it again") from error

    def _refuse(self, *declaration: Any) -> None:
        raise InstsegError(f"cannot read {self._path}: it declares the entity {declaration[0]}; export it again")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._stack.append(tag)
        if tag == "image" and len(self._stack) == 2:
            self.images.append(_Image(attributes.get("name", ""), _size(attributes)))
        elif tag == "track" and len(self._stack) == 2:
            self.tracks += 1
        elif tag in _SHAPES and len(self._stack) == 3 and self._stack[1] == "image":
            self.images[-1].shapes.append((tag, attributes))

    def _end(self, tag: str) -> None:
        del tag
        self._stack.pop()

    def _text(self, text: str) -> None:
        if self._stack[-2:] == ["label", "name"]:
            self.labels.append(text)


def detect(source: Source) -> str | None:
    """Say by what the source is recognised as this format, None if it is not."""
    found = _files(source)
    return f"{printable(found[0].name)} has the tag <annotations>" if found else None


def read(source: Source, options: ReadOptions) -> Annotations:
    """Read the annotations of a source; `options.boxes` takes rectangles for outlines."""
    found = _files(source)
    if not found:
        raise InstsegError(f"{source.path} holds no XML of CVAT: expected the tag <annotations>; check the name")
    source.require_single(found, "CVAT")
    reader = _Reader(found[0])
    reader.read()
    if reader.tracks and not reader.images:
        what = f"it is CVAT for video ({reader.tracks} tracks), expected CVAT for images"
        raise InstsegError(f"cannot read {found[0]}: {what}; export it as that, or as COCO")
    result = Annotations(class_names=[name for text in reader.labels if (name := class_text(text))] or None)
    for entry in reader.images:
        try:
            image = source.find_image(entry.name, found[0])
        except MissingImage as error:
            result.missing.append((entry.name, str(error)))
            continue
        result.images.append(AnnotatedImage(image, functools.partial(_objects, entry, options.boxes)))
    return result


def _files(source: Source) -> list[Path]:
    found = []
    for path in source.named(".xml"):
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError as error:
            raise InstsegError(f"cannot read {path}: {error.strerror}; check the permissions") from error
        if b"<annotations" in head:
            found.append(path)
    return found


def _size(attributes: dict[str, str]) -> tuple[int, int] | None:
    try:
        return int(attributes["height"]), int(attributes["width"])
    except (KeyError, ValueError):
        return None


def _objects(entry: _Image, boxes: bool) -> Objects:
    objects = Objects(size=entry.size)
    for tag, attributes in sorted(entry.shapes, key=lambda shape: _layer(shape[1])):
        objects.add(functools.partial(_shape, tag, attributes, boxes), class_text(attributes.get("label")))
    return objects


def _layer(attributes: dict[str, str]) -> int:
    try:
        return int(attributes.get("z_order", 0))
    except ValueError:
        return 0


def _shape(tag: str, attributes: dict[str, str], boxes: bool) -> Shape:
    makers: dict[str, Callable[[dict[str, str]], Shape]] = {"polygon": _polygon, "mask": _mask, "ellipse": _ellipse}
    if tag == "box":
        if not boxes:
            raise UnusableObject(BOXES)
        return _box(attributes)
    if tag not in makers:
        raise UnusableObject(NO_AREA)
    return makers[tag](attributes)


def _polygon(attributes: dict[str, str]) -> Polygons:
    return polygon([point.split(",") for point in attributes.get("points", "").split(";") if point.strip()])


def _numbers(attributes: dict[str, str], *names: str) -> list[float]:
    try:
        return [float(attributes[name]) for name in names]
    except (KeyError, ValueError) as error:
        raise UnusableObject(NO_NUMBERS) from error


def _turn(attributes: dict[str, str]) -> float:
    return math.radians(_numbers({"rotation": "0"} | attributes, "rotation")[0])


def _ellipse(attributes: dict[str, str]) -> Polygons:
    x, y, radius_x, radius_y = _numbers(attributes, "cx", "cy", "rx", "ry")
    return ellipse(x, y, radius_x, radius_y, _turn(attributes))


def _box(attributes: dict[str, str]) -> Polygons:
    x0, y0, x1, y1 = _numbers(attributes, "xtl", "ytl", "xbr", "ybr")
    corners = rectangle(x0, y0, x1, y1).parts[0][0]
    centre, turn = corners.mean(0), _turn(attributes)
    turned = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return polygon((corners - centre) @ turned + centre)


def _mask(attributes: dict[str, str]) -> Runs:
    left, top, width, height = (int(value) for value in _finite(attributes, "left", "top", "width", "height"))
    try:
        counts = np.array([int(count) for count in attributes["rle"].split(",")], np.int64)
    except (KeyError, ValueError, OverflowError) as error:
        raise UnusableObject(NO_NUMBERS) from error
    return Runs(counts, (height, width), by_columns=False, top=top, left=left, whole=False)


def _finite(attributes: dict[str, str], *names: str) -> list[float]:
    values = _numbers(attributes, *names)
    if not all(abs(value) < 2**31 for value in values):
        raise UnusableObject(NO_NUMBERS)
    return values
