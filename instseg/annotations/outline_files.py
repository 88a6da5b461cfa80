"""QuPath and ImageJ: a file of outlines for each image, named like it.

Both have coordinates in pixels of the full image, and (0, 0) is the corner of the first pixel. `slide.geojson` belongs
to `slide.tif` or `slide.ome.tif`, `a.zip`, `a_RoiSet.zip` or `RoiSet_a.zip` to `a.tif`, and so do the `.roi` files of
a folder `a`.
"""

import functools
import re
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from instseg.annotations.objects import (
    NO_AREA,
    AnnotatedImage,
    Annotations,
    Objects,
    Polygons,
    UnusableObject,
    polygons,
)
from instseg.annotations.source import (
    IMAGE_SUFFIXES,
    MAX_TEXT,
    MissingImage,
    ReadOptions,
    Source,
    check_size,
    class_text,
)
from instseg.errors import InstsegError, printable
from instseg.io.imagej_rois import read_rois
from instseg.io.json_text import read_json

QUPATH, QUPATH_TITLE = "qupath", "QuPath GeoJSON"
IMAGEJ, IMAGEJ_TITLE = "imagej", "ImageJ selections"

_ROI_SET = re.compile(r"(?i)^(?:roi_?set[_-])?(.+?)(?:[_-](?:roi_?set|rois?))?$")


def missing_in_geojson(value: Any) -> str | None:
    """Say what a JSON value lacks to be GeoJSON, None if it lacks nothing."""
    if isinstance(value, dict) and (isinstance(value.get("features"), list) or value.get("type") == "Feature"):
        return None
    if isinstance(value, list) and value and all(isinstance(one, dict) and "geometry" in one for one in value):
        return None
    return "neither a list 'features' nor a list of dicts with 'geometry'"


def detect_geojson(source: Source) -> str | None:
    """Say by what the source is recognised as QuPath's, None if it is not."""
    found = _geojson_files(source)
    return f"{len(found)} files of GeoJSON, such as {printable(found[0].name)}" if found else None


def read_geojson(source: Source, options: ReadOptions) -> Annotations:
    """Read the GeoJSON of a source; in it, a rectangle is as good an outline as any."""
    del options
    result = Annotations()
    files: dict[Path, list[Path]] = defaultdict(list)
    for path in _geojson_files(source):
        _assign(source, path, _image_name(path), files, result)
    for image, paths in files.items():
        if len(paths) > 1:
            raise InstsegError(
                f"{source.relative(paths[0])} and {source.relative(paths[1])} are both of {image}; keep one"
            )
        result.images.append(AnnotatedImage(image, functools.partial(_features, paths[0])))
    result.unannotated = [image for image in source.image_files if image not in files]
    return result


def detect_rois(source: Source) -> str | None:
    """Say by what the source is recognised as ImageJ's, None if it is not."""
    found = _roi_files(source)
    return f"{len(found)} files of selections, such as {printable(found[0].name)}" if found else None


def read_imagej(source: Source, options: ReadOptions) -> Annotations:
    """Read the selections of a source, rectangles among them."""
    del options
    result = Annotations()
    files: dict[Path, list[Path]] = defaultdict(list)
    for path in _roi_files(source):
        match = _ROI_SET.match(path.stem)
        stems = [path.stem, match[1] if match else path.stem]
        if path.suffix.lower() == ".roi":
            stems.append(path.parent.name)
        _assign(source, path, stems, files, result)
    for image, paths in files.items():
        result.images.append(AnnotatedImage(image, functools.partial(_selections, paths)))
    result.unannotated = [image for image in source.image_files if image not in files]
    return result


def _assign(source: Source, path: Path, stems: list[str], files: dict[Path, list[Path]], result: Annotations) -> None:
    """Note which image a file belongs to, by the first of several names that an image has."""
    reason = ""
    for stem in dict.fromkeys(stems):
        try:
            files[source.find_stem(stem, path.parent)].append(path)
            return
        except MissingImage as error:
            reason = str(error)
    result.missing.append((source.relative(path), reason))


def _geojson_files(source: Source) -> list[Path]:
    plain = [path for path in source.named(".json") if missing_in_geojson(source.json(path)) is None]
    return sorted([*source.named(".geojson"), *plain])


def _image_name(path: Path) -> list[str]:
    """Return what the image may be called: `a` or `a.tif` for a.tif.geojson."""
    inner = Path(path.stem)
    known = inner.suffix.lower() in (*IMAGE_SUFFIXES, ".ome")
    return [path.stem, *([inner.stem, inner.stem.removesuffix(".ome")] if known else [])]


def _features(path: Path) -> Objects:
    check_size(path)
    value = read_json(path, MAX_TEXT)
    if (lacks := missing_in_geojson(value)) is not None:
        raise InstsegError(f"cannot read {path}: it is no GeoJSON, as it has {lacks}; export it again")
    features = value if isinstance(value, list) else value.get("features", [value])
    objects = Objects()
    for feature in features:
        feature = feature if isinstance(feature, dict) else {}
        objects.add(functools.partial(_geometry, feature.get("geometry")), _classification(feature.get("properties")))
    return objects


def _geometry(geometry: Any) -> Polygons:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        inner = [one for one in geometry["geometries"] if isinstance(one, dict) and "Polygon" in str(one.get("type"))]
        return Polygons([part for one in inner for part in _geometry(one).parts]) if inner else _geometry(None)
    if kind not in ("Polygon", "MultiPolygon") or not isinstance(coordinates, list):
        raise UnusableObject(NO_AREA)
    parts = [coordinates] if kind == "Polygon" else coordinates
    return polygons(part for part in parts if isinstance(part, list) and part)


def _classification(properties: Any) -> str | None:
    found = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(found, dict):
        names = found.get("names")
        return class_text(": ".join(map(str, names)) if isinstance(names, list) and names else found.get("name"))
    return class_text(found)


def _roi_files(source: Source) -> list[Path]:
    # An archive of something else beside images is none of selections.
    return [path for path in source.named(".roi", ".zip") if path.suffix.lower() == ".roi" or _looks_like_rois(path)]


def _looks_like_rois(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    return not names or any(name.lower().endswith(".roi") for name in names)


def _selections(paths: list[Path]) -> Objects:
    objects = Objects()
    found = [selection for path in paths for selection in read_rois(path)]
    planes = {selection.plane for selection in found}
    if len(planes) > 1:
        what = f"its selections are of {len(planes)} planes of a stack, expected those of one image"
        raise InstsegError(f"cannot read {paths[0]}: {what}; save the planes and their selections one by one")
    for selection in found:
        group = f"group {selection.group}" if selection.group else None
        name = class_text(selection.properties.get("class")) or group
        objects.add(functools.partial(_area, selection.rings), name)
    return objects


def _area(rings: list[Any]) -> Polygons:
    if not rings:
        raise UnusableObject(NO_AREA)
    return polygons([rings])
