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
from instseg.labels.polygons import Polygon, Ring, polygons
from instseg.optional import require_extra

SUFFIXES = (".geojson", ".zip")
"""What the name of a file of outlines ends in."""
# The numbers that Java gives the segments of a path.
_MOVE_TO, _LINE_TO, _CLOSE = 0, 1, 4


def write_outlines(path: StrPath, labels: NDArray[np.integer], instances: Instances) -> None:
    """Write the outlines of the instances: GeoJSON, or a .zip of ImageJ's ROIs.

    Parameters
    ----------
    path : path-like
        Ends in .geojson (with scores, areas and classes) or .zip (needs the package roifile). Either has one entry for
        each instance, with its holes and all of its parts.
    labels : (H, W) integers
        0 is background.
    instances : Instances
        Those of the labels.

    Raises
    ------
    InstsegError
        If the file cannot be written, or roifile is missing.
    """
    path = Path(path)
    traced = polygons(labels)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".zip":
            _write_rois(temporary, traced)
        else:
            temporary.write_text(json.dumps(_geojson(traced, instances)), encoding="utf-8")


def require_format(path: Path) -> None:
    """Check that the package for the format that a name asks for is installed.

    Raises
    ------
    InstsegError
        If roifile is needed and missing.
    """
    if path.suffix.lower() == ".zip":
        require_extra("imagej")


def _geojson(traced: list[Polygon], instances: Instances) -> dict[str, Any]:
    index_of = {label: index for index, label in enumerate(instances.label.tolist())}
    features = []
    classes = [printable(name) for name in instances.classes]
    for label, polygons_of_one in _by_label(traced).items():
        index = index_of[label]
        parts = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon.rings] for polygon in polygons_of_one]
        whole = {"type": "Polygon", "coordinates": parts[0]}
        features.append(
            {
                "type": "Feature",
                "geometry": whole if len(parts) == 1 else {"type": "MultiPolygon", "coordinates": parts},
                "properties": {
                    "objectType": "detection",
                    "name": str(label),
                    **({"classification": {"name": classes[index]}} if classes else {}),
                    "measurements": {
                        "score": round(float(instances.score[index]), 4),
                        "area": int(instances.area[index]),
                    },
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _by_label(traced: list[Polygon]) -> dict[int, list[Polygon]]:
    return {label: list(parts) for label, parts in itertools.groupby(traced, key=lambda polygon: polygon.label)}


def _write_rois(path: Path, traced: list[Polygon]) -> None:
    """Write one ROI per instance, named by its label."""
    require_extra("imagej")
    import roifile

    rois = []
    for label, parts in _by_label(traced).items():
        rings = [ring for polygon in parts for ring in polygon.rings]
        name = f"{label:05d}"
        rois.append(
            roifile.ImagejRoi.frompoints(rings[0], name=name) if len(rings) == 1 else _composite_roi(rings, name)
        )
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
