"""YOLO segmentation: a text file for each image, with a line of a class and the corners of a polygon for each object.

Coordinates are shares of the image's width and height, 0 to 1, from the corner of the first pixel on. The classes have
their names in a YAML file, mostly `data.yaml`.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from instseg.annotations.objects import (
    BOXES,
    NO_NUMBERS,
    AnnotatedImage,
    Annotations,
    Objects,
    Polygons,
    UnusableObject,
    polygon,
    rectangle,
)
from instseg.annotations.source import MissingImage, ReadOptions, Source, class_text, read_text
from instseg.errors import InstsegError, format_names, printable
from instseg.io.formats import read_header

NAME = "yolo"
TITLE = "YOLO segmentation"

# Text files that stand beside annotations and are none.
_OTHERS = re.compile(r"(readme|license|classes|labels|obj|requirements|notes|train|val|test|predefined_classes).*")
_LINE = re.compile(r"\d+(\.0+)?(\s+[-+.\deE]+){4,}")
# Texts in quotes: within single ones a quote is two, within double ones there are escapes.
_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\""""
_ENTRY = re.compile(rf"\s*(?:-\s+)?(?:(\d{{1,9}})\s*:\s+)?({_QUOTED}|[^'\"#\[{{]+?)\s*(?:#.*)?")
# Coordinates that leave the image by more than this share of it are no shares.
_FARTHEST = 4.0
_LINES_TRIED = 5


def detect(source: Source) -> str | None:
    """Say by what the source is recognised as this format, None if it is not."""
    files = _files(source)
    for path in files[:_LINES_TRIED]:
        lines = [line for line in read_text(path).splitlines() if line.strip()]
        if lines and all(_LINE.fullmatch(line.strip()) for line in lines[:_LINES_TRIED]):
            return f"{len(files)} text files of a class and coordinates in each line, such as {printable(path.name)}"
    return None


def read(source: Source, options: ReadOptions) -> Annotations:
    """Read the annotations of a source; `options.boxes` takes lines of four numbers for rectangles."""
    names, result = _class_names(source), Annotations()
    result.class_names = list(names.values()) or None
    if not names:
        result.notes.append("no YAML file names the classes: their numbers are their names")
    used = set()
    for path in _files(source):
        folder = Path(*("images" if part == "labels" else part for part in path.parent.parts))
        try:
            image = source.find_stem(path.stem, folder)
        except MissingImage as error:
            result.missing.append((source.relative(path), str(error)))
            continue
        used.add(image)
        result.images.append(AnnotatedImage(image, functools.partial(_objects, path, image, names, options.boxes)))
    result.unannotated = [image for image in source.image_files if image not in used]
    return result


def _files(source: Source) -> list[Path]:
    return [path for path in source.named(".txt") if not _OTHERS.fullmatch(path.stem.lower())]


def _objects(path: Path, image: Path, names: dict[int, str], boxes: bool) -> Objects:
    header = read_header(image)
    objects = Objects()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = [float(field) for field in fields]
            key = int(values[0])
        except (ValueError, OverflowError) as error:
            shown = printable(line[:40])
            what = f"line {number} is '{shown}', expected numbers"
            raise InstsegError(f"cannot read {path}: {what}; export it again") from error
        if any(abs(value) > _FARTHEST for value in values[1:]):
            what = f"line {number} has the coordinate {max(values[1:], key=abs):g}, expected shares from 0 to 1"
            raise InstsegError(f"cannot read {path}: {what}; divide by the image's width and height")
        make = functools.partial(_shape, values[1:], header.width, header.height, boxes)
        objects.add(make, names.get(key, str(key)))
    return objects


def _shape(values: list[float], width: int, height: int, boxes: bool) -> Polygons:
    if len(values) in (4, 5):
        # A centre and a size, and in predictions how sure they are.
        if not boxes:
            raise UnusableObject(BOXES)
        x, y, w, h = values[:4]
        x0, y0, x1, y1 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        return rectangle(x0 * width, y0 * height, x1 * width, y1 * height)
    if not np.isfinite(values).all():
        raise UnusableObject(NO_NUMBERS)
    # Predictions have how sure they are behind the coordinates.
    corners = np.reshape(values[: len(values) // 2 * 2], (-1, 2))
    return polygon(corners * (width, height))


def _class_names(source: Source) -> dict[int, str]:
    found = [path for path in source.named(".yaml", ".yml") if re.search(r"(?m)^names\s*:", read_text(path))]
    if not found:
        return {}
    files = [path for path in found if path.stem == "data"] or found
    names = parse_names(files[0], read_text(files[0]))
    for path in files[1:]:
        if parse_names(path, read_text(path)) != names:
            several = format_names([printable(source.relative(file)) for file in files])
            raise InstsegError(f"{source.path} holds several files that name the classes: {several}; keep one")
    return names


def parse_names(path: Path, text: str) -> dict[int, str]:
    r"""Return the names of classes in the YAML that trainers of YOLO read: a list or a mapping, on one line or several.

    Raises
    ------
    InstsegError
        If they are written in another way.

    Examples
    --------
    >>> parse_names(Path("data.yaml"), "nc: 2\nnames: ['cell', 'dead cell']")
    {0: 'cell', 1: 'dead cell'}
    >>> parse_names(Path("data.yaml"), "names:\n  0: cell  # all of them\n  3: dead\n")
    {0: 'cell', 3: 'dead'}
    """
    lines = iter(text.splitlines())
    rest = next(re.sub(r"^names\s*:", "", line) for line in lines if re.match(r"names\s*:", line)).strip()
    entries: list[str] = []
    if rest and not rest.startswith("#"):
        closing = {"[": "]", "{": "}"}.get(rest[0], "")
        while closing and closing not in rest and (line := next(lines, None)) is not None:
            rest += f" {line.strip()}"
        inner = re.fullmatch(r"[\[{](.*)[\]}]\s*(#.*)?", rest)
        # What is neither is no entry of a known form.
        entries = re.findall(rf"\s*((?:[^,'\"]|{_QUOTED})+)", inner[1]) if inner else [f"[{rest}"]
        entries = [entry for entry in entries if entry.strip()]
    else:
        for line in lines:
            if line.strip() and not re.match(r"\s|-", line):
                break
            if line.strip() and not line.strip().startswith("#"):
                entries.append(line)
    names: dict[int, str] = {}
    for place, entry in enumerate(entries):
        match = _ENTRY.fullmatch(entry)
        name: Any = match and class_text(_unquoted(match[2]))
        if match is None or name is None:
            shown = printable(entry.strip().lstrip("[")[:40])
            what = f"the names of the classes are '{shown}', expected a list or 'number: name'"
            raise InstsegError(f"cannot read {path}: {what}; write them so")
        names[int(match[1]) if match[1] else place] = name
    return names


def _unquoted(text: str) -> str:
    """Return a text without its quotes, and what stands for other characters within."""
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        # Escapes that JSON does not know.
        return text[1:-1]
