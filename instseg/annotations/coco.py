"""COCO: one JSON file for many images, as annotation tools and Detectron2 export it.

Polygons are in pixels, (0, 0) is the corner of the first pixel; several polygons of an object are joined. Runs go down
the columns of the whole image. Besides the data set, two lists are read that Detectron2 writes: the dicts of a data set
(`file_name`, `annotations`), and results (`image_id`, `segmentation`, `score`).
"""

import functools
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.annotations.objects import (
    BOXES,
    NO_NUMBERS,
    NO_SHAPE,
    OTHER_SIZE,
    AnnotatedImage,
    Annotations,
    Objects,
    Runs,
    Shape,
    UnusableObject,
    polygons,
    rectangle,
)
from instseg.annotations.source import MissingImage, ReadOptions, Source, class_text
from instseg.errors import InstsegError, printable

NAME = "coco"
TITLE = "COCO"

# Of results, what is worth a label; the threshold at which Detectron2 draws them.
_MIN_SCORE = 0.5
_LOW_SCORE = f"scores below {_MIN_SCORE}"
_DOUBLED = "copies of another object"
# Digits that COCO's own images have in their names.
_DIGITS = 12


def missing(value: Any) -> str | None:
    """Say what a JSON value lacks to be of this format, None if it lacks nothing."""
    if isinstance(value, list):
        if value and all(isinstance(one, dict) for one in value[:10]):
            keys = set(value[0])
            if {"file_name", "annotations"} <= keys or {"image_id", "segmentation"} <= keys:
                return None
        return "neither 'file_name' and 'annotations' nor 'image_id' and 'segmentation' in the dicts of a list"
    if not isinstance(value, dict):
        return "no object"
    lacks = [key for key in ("images", "annotations") if not isinstance(value.get(key), list)]
    return f"no list {' and no list '.join(map(repr, lacks))}" if lacks else None


def detect(source: Source) -> str | None:
    """Say by what the source is recognised as this format, None if it is not."""
    found = _files(source)
    return f"{printable(found[0].name)} holds images and annotations" if found else None


def read(source: Source, options: ReadOptions) -> Annotations:
    """Read the annotations of a source; `options.boxes` takes an object without an outline for its box."""
    found = _files(source)
    if not found:
        raise InstsegError(
            f"{source.path} holds no COCO: expected JSON with 'images' and 'annotations'; check the name"
        )
    source.require_single(found, "COCO")
    value = source.json(found[0])
    if isinstance(value, dict):
        return _Dataset(source, found[0], value, options.boxes).read()
    return _read_list(source, found[0], value, options.boxes)


def _files(source: Source) -> list[Path]:
    """Return the data sets among the files, or the lists where there is no data set."""
    found = [path for path in source.named(".json") if missing(source.json(path)) is None]
    return [path for path in found if isinstance(source.json(path), dict)] or found


class _Dataset:
    """A data set: images, annotations and categories that refer to each other by numbers."""

    def __init__(self, source: Source, path: Path, value: dict[str, Any], boxes: bool) -> None:
        self._source, self._path, self._value, self._boxes = source, path, value, boxes

    def read(self) -> Annotations:
        result = Annotations()
        categories = self._categories()
        result.class_names = list(dict.fromkeys(categories.values())) or None
        images = self._images()
        annotations = self._annotations(images, result)
        for key, entry in images.items():
            try:
                file = self._source.find_image(str(entry.get("file_name", "")), self._path)
            except MissingImage as error:
                result.missing.append((str(entry.get("file_name", key)), str(error)))
                continue
            of_image, doubled = annotations.get(key, []), self._doubled[key]
            load = functools.partial(_objects, of_image, categories, _size(entry), self._boxes, doubled=doubled)
            result.images.append(AnnotatedImage(file, load))
        return result

    def _categories(self) -> dict[str, str]:
        names: dict[str, str] = {}
        entries = self._value.get("categories")
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, dict) or "id" not in entry:
                raise InstsegError(f"cannot read {self._path}: a category has no 'id'; give each one")
            key = str(entry["id"])
            name = class_text(entry.get("name")) or key
            if names.setdefault(key, name) != name:
                what = f"the category {key} is there twice, as {names[key]} and as {name}"
                raise InstsegError(f"cannot read {self._path}: {what}; keep one")
        return names

    def _images(self) -> dict[str, dict[str, Any]]:
        images: dict[str, dict[str, Any]] = {}
        by_name: dict[str, str] = {}
        for entry in self._value["images"]:
            if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
                raise InstsegError(
                    f"cannot read {self._path}: an image has no 'id' or no 'file_name'; give both to each"
                )
            key, name = str(entry["id"]), entry["file_name"]
            if key in images and images[key]["file_name"] != name:
                other = images[key]["file_name"]
                raise InstsegError(f"cannot read {self._path}: {other} and {name} share the id {key}; number them anew")
            if by_name.setdefault(name, key) != key:
                raise InstsegError(f"cannot read {self._path}: {name} has the ids {by_name[name]} and {key}; keep one")
            images[key] = entry
        return images

    def _annotations(self, images: dict[str, Any], result: Annotations) -> dict[str, list[dict[str, Any]]]:
        """Return the annotations of each image, without copies of one under the same number."""
        by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
        by_id: dict[str, dict[str, Any]] = {}
        self._doubled: Counter[str] = Counter()
        lost = renumbered = 0
        for entry in self._value["annotations"]:
            key = str(entry.get("image_id")) if isinstance(entry, dict) else ""
            if key not in images:
                lost += 1
                continue
            if "id" in entry and (other := by_id.setdefault(str(entry["id"]), entry)) is not entry:
                if other == entry:
                    self._doubled[key] += 1
                    continue
                renumbered += 1
            by_image[key].append(entry)
        if lost:
            result.notes.append(f"annotations of images that the file does not list: {lost}, left out")
        if renumbered:
            result.notes.append(f"different annotations that share an id: {renumbered}, kept")
        return by_image


def _read_list(source: Source, path: Path, entries: list[Any], boxes: bool) -> Annotations:
    """Read the lists that Detectron2 writes."""
    entries = [entry for entry in entries if isinstance(entry, dict)]
    result = Annotations()
    if entries and "file_name" in entries[0]:
        for entry in entries:
            name, of_image = str(entry.get("file_name", "")), entry.get("annotations")
            try:
                file = source.find_image(name, path)
            except MissingImage as error:
                result.missing.append((name, str(error)))
                continue
            of_image = of_image if isinstance(of_image, list) else []
            load = functools.partial(_objects, of_image, {}, _size(entry), boxes)
            result.images.append(AnnotatedImage(file, load))
        return result
    result.notes.append(f"these are results: objects of scores of {_MIN_SCORE} and above are taken")
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        by_image[str(entry.get("image_id"))].append(entry)
    for key, of_image in by_image.items():
        try:
            file = _image_of_id(source, key)
        except MissingImage as error:
            result.missing.append((key, str(error)))
            continue
        result.images.append(AnnotatedImage(file, functools.partial(_objects, of_image, {}, None, boxes, results=True)))
    return result


def _image_of_id(source: Source, key: str) -> Path:
    try:
        return source.find_stem(key)
    except MissingImage:
        if not key.isdigit():
            raise
        return source.find_stem(key.zfill(_DIGITS))


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 < width else None


def _objects(
    entries: list[Any],
    categories: dict[str, str],
    size: tuple[int, int] | None,
    boxes: bool,
    *,
    doubled: int = 0,
    results: bool = False,
) -> Objects:
    """Read the annotations of an image; what a model has found (`results`) counts only where it is sure enough."""
    objects = Objects(size=size, dropped=Counter({_DOUBLED: doubled} if doubled else {}))
    for entry in entries:
        if not isinstance(entry, dict):
            objects.dropped[NO_SHAPE] += 1
            continue
        score = entry.get("score")
        if results and isinstance(score, int | float) and score < _MIN_SCORE:
            objects.dropped[_LOW_SCORE] += 1
            continue
        make = functools.partial(_shape, entry, boxes)
        if entry.get("iscrowd"):
            objects.ignore(make)
            continue
        key = entry.get("category_id")
        objects.add(make, categories.get(str(key)) or class_text(key))
    return objects


def _shape(entry: dict[str, Any], boxes: bool) -> Shape:
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        return _runs(segmentation)
    if isinstance(segmentation, list) and segmentation:
        # Some tools leave out the list of polygons around the only one.
        flat = not isinstance(segmentation[0], list)
        return polygons([[points] for points in ([segmentation] if flat else segmentation)])
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise UnusableObject(NO_SHAPE)
    if not boxes:
        raise UnusableObject(BOXES)
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnusableObject(NO_NUMBERS) from error
    # The one that Detectron2 numbers 0 has two corners.
    corners = entry.get("bbox_mode") == 0
    return rectangle(x, y, width if corners else x + width, height if corners else y + height)


def _runs(segmentation: dict[str, Any]) -> Runs:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)):
        raise UnusableObject(OTHER_SIZE)
    try:
        lengths = _decompress(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnusableObject(NO_NUMBERS) from error
    if lengths.ndim != 1:
        raise UnusableObject(NO_NUMBERS)
    return Runs(lengths, (size[0], size[1]), by_columns=True)


def _decompress(text: str) -> NDArray[np.int64]:
    """Return the runs of a compressed text.

    Each character holds five bits of a number, lowest first, and a bit that says that the number goes on; the highest
    bit of the last is the sign. From the fourth number on, it is the difference to the number two before.

    Raises
    ------
    ValueError
        If the text is damaged.

    Examples
    --------
    >>> _decompress("52203")
    array([5, 2, 2, 2, 5])
    """
    values = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if len(values) == 0 or values.min() < 0 or values.max() > 63 or values[-1] & 0x20:
        raise ValueError("damaged runs")
    last = np.flatnonzero((values & 0x20) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(values)) - np.repeat(first, last - first + 1)
    if place.max() > 9:
        raise ValueError("damaged runs")
    numbers = np.add.reduceat((values & 0x1F) << (5 * place), first)
    numbers -= ((values[last] & 0x10) > 0).astype(np.int64) << (5 * (place[last] + 1))
    for parity in (1, 2):
        numbers[parity::2] = np.cumsum(numbers[parity::2])
    return numbers
