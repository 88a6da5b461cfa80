"""Labels to polygons along the pixels' edges, for programs that draw them: QuPath (GeoJSON) and ImageJ (ROI archives).

Corners of pixels are whole numbers (x, y): the first pixel covers (0, 0) to (1, 1).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.errors import InstsegError
from instseg.io.atomic import atomic_write
from instseg.labels.polygons import Polygon, polygons

SUFFIXES = (".geojson", ".zip")


def write_outlines(path: Path, labels: NDArray[np.integer], found: Instances) -> None:
    """Write the outlines of the instances: GeoJSON, or a .zip of ImageJ's ROIs.

    Parameters
    ----------
    path : Path
        Ends in .geojson (with scores, areas and classes) or .zip (needs the package roifile).
    labels : (H, W) integers
        0 is background.
    found : Instances
        Of the same labels.

    Raises
    ------
    InstsegError
        If the file cannot be written, or roifile is missing.
    """
    traced = polygons(labels)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".zip":
            _write_rois(temporary, traced)
        else:
            temporary.write_text(json.dumps(_geojson(traced, found)), encoding="utf-8")


def require_format(path: Path) -> None:
    """See that outlines can be written in the format that a name asks for.

    Raises
    ------
    InstsegError
        If roifile is needed and missing.
    """
    if path.suffix.lower() == ".zip":
        _roifile()


def _geojson(traced: list[Polygon], found: Instances) -> dict[str, Any]:
    position = {label: index for index, label in enumerate(found.label.tolist())}
    shapes: dict[int, list[list[list[list[int]]]]] = {}
    for polygon in traced:
        rings = [[*ring.tolist(), ring[0].tolist()] for ring in (polygon.outer, *polygon.holes)]
        shapes.setdefault(polygon.label, []).append(rings)
    features = []
    classes = found.classes
    for label, parts in shapes.items():
        index = position[label]
        whole = {"type": "Polygon", "coordinates": parts[0]}
        features.append(
            {
                "type": "Feature",
                "geometry": whole if len(parts) == 1 else {"type": "MultiPolygon", "coordinates": parts},
                "properties": {
                    "objectType": "detection",
                    "name": str(label),
                    **({"classification": {"name": classes[index]}} if classes else {}),
                    "measurements": {"score": round(float(found.score[index]), 4), "area": int(found.area[index])},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _roifile() -> Any:
    try:
        import roifile
    except ImportError as error:
        raise InstsegError(
            'ImageJ ROIs need the package roifile; install it by: python -m pip install "instseg[imagej]"'
        ) from error
    return roifile


def _write_rois(path: Path, traced: list[Polygon]) -> None:
    """Write one polygon per part; ROIs know no holes."""
    roifile = _roifile()
    rois = [roifile.ImagejRoi.frompoints(polygon.outer, name=f"{polygon.label:05d}") for polygon in traced]
    if rois:
        roifile.roiwrite(path, rois, mode="w")
        return
    import zipfile

    zipfile.ZipFile(path, "w").close()
