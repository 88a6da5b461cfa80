"""Outlines of instances as files for QuPath (GeoJSON) and ImageJ (archives of ROIs), along the edges of pixels."""

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.errors import printable
from instseg.io.atomic import StrPath, atomic_write
from instseg.io.labelled_image import LabelledImage
from instseg.labels.polygons import Polygon, Ring, polygons
from instseg.optional import require_extra

SUFFIXES = (".geojson", ".zip")
"""What the name of a file of outlines ends in."""

MAX_GROUP = 255
"""Most groups that selections of ImageJ have."""
_VERSION_OF_GROUPS = 228
# The numbers that Java gives the segments of a path.
_MOVE_TO, _LINE_TO, _CLOSE = 0, 1, 4


def write_outlines(path: StrPath, labels: NDArray[np.integer], instances: Instances) -> None:
    """Write the outlines of what a model has found; see `write_labelled_outlines`."""
    write_labelled_outlines(path, LabelledImage.from_instances("", labels, instances))


def write_labelled_outlines(path: StrPath, image: LabelledImage) -> None:
    """Write the outlines of the objects of an image: GeoJSON, or a .zip of ImageJ's ROIs.

    Parameters
    ----------
    path : path-like
        Ends in .geojson (with scores, areas and classes) or .zip (needs the package roifile; classes are groups, and
        scores and names of classes are properties). Either has one entry for each object, with its holes and all of its
        parts.
    image : LabelledImage

    Raises
    ------
    InstsegError
        If the file cannot be written, or roifile is missing.
    """
    path = Path(path)
    traced = _by_label(polygons(image.labels))
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".zip":
            _write_rois(temporary, traced, image)
        else:
            temporary.write_text(json.dumps(_geojson(traced, image)), encoding="utf-8")


def require_format(path: Path) -> None:
    """Check that the package for the format that a name asks for is installed.

    Raises
    ------
    InstsegError
        If roifile is needed and missing.
    """
    if path.suffix.lower() == ".zip":
        require_extra("imagej")


def _geojson(traced: dict[int, list[Polygon]], image: LabelledImage) -> dict[str, Any]:
    features = []
    areas = np.bincount(np.searchsorted(image.label, image.labels[image.labels > 0]), minlength=len(image.label))
    known = zip(image.label.tolist(), image.scores(), image.classes(), areas.tolist(), strict=True)
    for label, score, name, area in known:
        parts = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon.rings] for polygon in traced[label]]
        whole = {"type": "Polygon", "coordinates": parts[0]}
        features.append(
            {
                "type": "Feature",
                "geometry": whole if len(parts) == 1 else {"type": "MultiPolygon", "coordinates": parts},
                "properties": {
                    "objectType": "detection",
                    "name": str(label),
                    **({} if name is None else {"classification": {"name": printable(name)}}),
                    "measurements": {**({} if score is None else {"score": score}), "area": area},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _by_label(traced: list[Polygon]) -> dict[int, list[Polygon]]:
    return {label: list(parts) for label, parts in itertools.groupby(traced, key=lambda polygon: polygon.label)}


def _write_rois(path: Path, traced: dict[int, list[Polygon]], image: LabelledImage) -> None:
    """Write one ROI for each object, named by its label."""
    require_extra("imagej")
    import roifile

    rois = []
    groups = [0] * len(image.label) if image.class_number is None else (image.class_number + 1).tolist()
    for label, group, name, score in zip(image.label.tolist(), groups, image.classes(), image.scores(), strict=True):
        rings = [ring for polygon in traced[label] for ring in polygon.rings]
        title = f"{label:05d}"
        roi = roifile.ImagejRoi.frompoints(rings[0], name=title) if len(rings) == 1 else _composite_roi(rings, title)
        roi.group = group if group <= MAX_GROUP else 0
        # Programs look for groups in files from this version on.
        roi.version = max(roi.version, _VERSION_OF_GROUPS)
        properties = {"class": None if name is None else " ".join(printable(name).split()), "score": score}
        roi.props = "".join(f"{key}: {value}\n" for key, value in properties.items() if value is not None)
        rois.append(roi)
    if rois:
        roifile.roiwrite(path, rois, mode="w")
        return
    zipfile.ZipFile(path, "w").close()


def _composite_roi(rings: list[Ring], name: str) -> Any:
    """Return what ImageJ calls a composite selection: an area of several rings, of which some are holes.

    Holes go round the other way than what they are in, so that they are holes by either rule of filling a path: that of
    crossings, and that of turns.
    """
    import roifile

    corners = np.concatenate(rings)
    left, top = corners.min(0).tolist()
    right, bottom = corners.max(0).tolist()
    path = np.concatenate([_path(ring) for ring in rings])
    return roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT,
        name=name,
        top=top,
        left=left,
        bottom=bottom,
        right=right,
        shape_roi_size=len(path),
        multi_coordinates=path,
    )


def _path(ring: Ring) -> NDArray[np.float32]:
    """Return a ring as segments of a path of Java: each an operation and a corner (x, y), the last without a corner."""
    segments = np.full((len(ring), 3), _LINE_TO, np.float32)
    segments[0, 0] = _MOVE_TO
    segments[:, 1:] = ring
    return np.append(segments, np.float32(_CLOSE))
