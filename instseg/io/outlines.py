"""Outlines of instances as files for QuPath (GeoJSON) and ImageJ (archives of ROIs), along the edges of pixels."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.io.atomic import StrPath, atomic_write
from instseg.labels.polygons import Polygon, polygons
from instseg.optional import require_extra

SUFFIXES = (".geojson", ".zip")
"""What the name of a file of outlines ends in."""


def write_outlines(path: StrPath, labels: NDArray[np.integer], instances: Instances) -> None:
    """Write the outlines of the instances: GeoJSON, or a .zip of ImageJ's ROIs.

    Parameters
    ----------
    path : path-like
        Ends in .geojson (with scores, areas and classes) or .zip (needs the package roifile).
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
    shapes: dict[int, list[list[list[list[int]]]]] = {}
    for polygon in traced:
        rings = [[*ring.tolist(), ring[0].tolist()] for ring in (polygon.outer, *polygon.holes)]
        shapes.setdefault(polygon.label, []).append(rings)
    features = []
    classes = instances.classes
    for label, parts in shapes.items():
        index = index_of[label]
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


def _write_rois(path: Path, traced: list[Polygon]) -> None:
    """Write one polygon per part; ROIs know no holes."""
    require_extra("imagej")
    import roifile

    rois = [roifile.ImagejRoi.frompoints(polygon.outer, name=f"{polygon.label:05d}") for polygon in traced]
    if rois:
        roifile.roiwrite(path, rois, mode="w")
        return
    zipfile.ZipFile(path, "w").close()
