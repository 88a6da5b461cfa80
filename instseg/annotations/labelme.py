"""LabelMe: a JSON file for each image, with shapes that have a label.

Coordinates are in pixels, (0, 0) is the corner of the first pixel. Shapes of the same label and group are one object.
"""

import base64
import binascii
import functools
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from instseg.annotations.objects import (
    BOXES,
    NO_AREA,
    NO_NUMBERS,
    NO_SHAPE,
    OTHER_SIZE,
    AnnotatedImage,
    Annotations,
    Objects,
    Polygons,
    Shape,
    UnusableObject,
    ellipse,
    polygon,
    rectangle,
    ring,
)
from instseg.annotations.source import MissingImage, ReadOptions, Source, class_text
from instseg.errors import InstsegError, printable
from instseg.io.formats import MAX_PIXELS
from instseg.labels.rasterise import MAX_COORDINATE, Region, crop

NAME = "labelme"
TITLE = "LabelMe"

_FAR = (-MAX_COORDINATE, -MAX_COORDINATE)
# Labels by which LabelMe's own converter knows what is no object.
_BACKGROUND, _IGNORED = "_background_", "__ignore__"


def missing(value: Any) -> str | None:
    """Say what a JSON value lacks to be of this format, None if it lacks nothing."""
    if not isinstance(value, dict):
        return "no object"
    return None if isinstance(value.get("shapes"), list) else "no list 'shapes'"


def detect(source: Source) -> str | None:
    """Say by what the source is recognised as this format, None if it is not."""
    found = _files(source)
    return f"{len(found)} JSON files with shapes, such as {printable(found[0].name)}" if found else None


def read(source: Source, options: ReadOptions) -> Annotations:
    """Read the annotations of a source; `options.boxes` takes rectangles for outlines."""
    result, used = Annotations(), set()
    for path in _files(source):
        value = source.json(path)
        name = value.get("imagePath")
        try:
            image = _find(source, path, name if isinstance(name, str) else "")
        except MissingImage as error:
            embedded = "; the JSON has it within: write it beside" if value.get("imageData") else ""
            result.missing.append((str(name or path.name), f"{error}{embedded}"))
            continue
        if image in used:
            raise InstsegError(f"{source.relative(path)} and another file are both of {image}; keep one")
        used.add(image)
        result.images.append(AnnotatedImage(image, functools.partial(_objects, value, options.boxes)))
    result.unannotated = [image for image in source.image_files if image not in used]
    return result


def _files(source: Source) -> list[Path]:
    return [path for path in source.named(".json") if missing(source.json(path)) is None]


def _find(source: Source, path: Path, name: str) -> Path:
    try:
        return source.find_image(name, path)
    except MissingImage:
        try:
            return source.find_stem(path.stem, path.parent)
        except MissingImage:
            pass
        raise


def _objects(value: dict[str, Any], boxes: bool) -> Objects:
    height, width = value.get("imageHeight"), value.get("imageWidth")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    objects = Objects(size=size)
    grouped: dict[tuple[str | None, str], list[dict[str, Any]]] = {}
    for number, shape in enumerate(value["shapes"]):
        if not isinstance(shape, dict):
            objects.dropped[NO_SHAPE] += 1
            continue
        label, group = class_text(shape.get("label")), shape.get("group_id")
        alone = group is None or label in (_IGNORED, _BACKGROUND)
        grouped.setdefault((label, f"shape {number}" if alone else f"group {group}"), []).append(shape)
    for (label, _), shapes in grouped.items():
        make = functools.partial(_joined, shapes, boxes)
        if label == _IGNORED:
            objects.ignore(make)
        elif label != _BACKGROUND:
            objects.add(make, label)
    return objects


def _joined(shapes: list[dict[str, Any]], boxes: bool) -> Shape:
    """Return the shape of what belongs together; masks cannot be joined."""
    made, reason = [], NO_SHAPE
    for shape in shapes:
        try:
            made.append(_shape(shape, boxes))
        except UnusableObject as error:
            reason = str(error)
    if not made:
        raise UnusableObject(reason)
    outlines = [part for shape in made if isinstance(shape, Polygons) for part in shape.parts]
    return Polygons(outlines) if outlines else made[0]


def _shape(shape: dict[str, Any], boxes: bool) -> Shape:
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind == "polygon":
        return polygon(points)
    if kind not in ("rectangle", "circle", "mask"):
        raise UnusableObject(NO_AREA)
    if kind == "rectangle" and not boxes:
        raise UnusableObject(BOXES)
    # Two points and one more that is neither, as a ring has at least three.
    (x0, y0), (x1, y1) = ring([*points[:2], _FAR] if isinstance(points, list) and len(points) >= 2 else [])[:2]
    if kind == "circle":
        radius = float(np.hypot(x1 - x0, y1 - y0))
        return ellipse(x0, y0, radius, radius)
    if kind == "mask":
        return _mask(shape.get("mask"), int(y0), int(x0))
    return rectangle(x0, y0, x1, y1)


def _mask(text: Any, top: int, left: int) -> Region:
    """Return the mask that a shape holds as a PNG in base64."""
    try:
        content = base64.b64decode(text, validate=True)
        width, height = struct.unpack(">II", content[16:24])
        if not content.startswith(b"\x89PNG") or width * height > MAX_PIXELS:
            raise UnusableObject(OTHER_SIZE)
        pixels = np.asarray(imagecodecs.png_decode(content))
    except (TypeError, binascii.Error, struct.error, ValueError, imagecodecs.PngError) as error:
        raise UnusableObject(NO_NUMBERS) from error
    if pixels.ndim != 2:
        raise UnusableObject(OTHER_SIZE)
    region = crop(Region(top, left, pixels > 0))
    if region.mask.size == 0:
        raise UnusableObject(NO_SHAPE)
    return region
