"""Files of outlines for each image, beside it: LabelMe, QuPath and ImageJ."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from instseg.annotations.writers.writer import Writer, class_numbers, names_of_classes, traced
from instseg.io.labelled_image import LabelledImage
from instseg.io.outlines import MAX_GROUP, write_labelled_outlines
from instseg.labels.column_runs import column_runs
from instseg.labels.polygons import Polygon
from instseg.optional import require_extra

# The first version of LabelMe that knows masks.
_LABELME = "5.2.1"


class LabelMeWriter(Writer):
    """LabelMe: a.json beside a.png. Objects with holes are masks, others polygons, in a group where they have parts."""

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        height, width = image.labels.shape
        content = {
            "version": _LABELME,
            "flags": {},
            "shapes": _shapes(image, names_of_classes(self.class_names)),
            "imagePath": image.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        path = (self.folder / image.name).with_suffix(".json")
        path.write_text(json.dumps(content), encoding="utf-8")
        return Counter()


def _shapes(image: LabelledImage, names: Sequence[str]) -> list[dict[str, Any]]:
    outlines, boxes = traced(image), column_runs(image.labels).bbox.tolist()
    known = zip(image.label.tolist(), class_numbers(image), image.scores(), boxes, strict=True)
    shapes = []
    for label, number, score, box in known:
        parts = outlines[label]
        common: dict[str, Any] = {"label": names[number], "flags": {}, "description": "", "group_id": None}
        common |= {} if score is None else {"score": score}
        if any(part.holes for part in parts):
            shapes.append(common | _mask(image, label, box))
            continue
        group = {"group_id": label} if len(parts) > 1 else {}
        shapes += [common | group | _polygon(part) for part in parts]
    return shapes


def _polygon(part: Polygon) -> dict[str, Any]:
    return {"shape_type": "polygon", "points": part.outer.astype(float).tolist(), "mask": None}


def _mask(image: LabelledImage, label: int, box: list[int]) -> dict[str, Any]:
    """Return a shape of pixels: a PNG, and the first and the last pixel (x, y) of its box."""
    top, left, bottom, right = box
    pixels = np.where(image.labels[top:bottom, left:right] == label, np.uint8(255), np.uint8(0))
    text = base64.b64encode(imagecodecs.png_encode(pixels)).decode("ascii")
    return {"shape_type": "mask", "points": [[left, top], [right - 1, bottom - 1]], "mask": text}


class QuPathWriter(Writer):
    """QuPath: a.geojson beside a.png."""

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        write_labelled_outlines((self.folder / image.name).with_suffix(".geojson"), image)
        return Counter()


class ImageJWriter(Writer):
    """ImageJ: a.zip beside a.png, for the ROI manager."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, class_names)
        require_extra("imagej")

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        write_labelled_outlines((self.folder / image.name).with_suffix(".zip"), image)
        beyond = 0 if image.class_number is None else int((image.class_number >= MAX_GROUP).sum())
        return Counter({f"without a group, as there are {MAX_GROUP}": beyond} if beyond else {})
