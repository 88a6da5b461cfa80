"""Projects of annotation tools that hold all images in one file, which is written image by image: CVAT and VIA."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from instseg.annotations.writers.writer import (
    Writer,
    class_numbers,
    largest_ring,
    names_of_classes,
    traced,
    without_zeros,
)
from instseg.errors import printable
from instseg.io.folders import IMAGES
from instseg.io.labelled_image import LabelledImage
from instseg.labels.column_runs import column_runs

CVAT_FILE, VIA_FILE = "annotations.xml", "via.json"
"""The names of the files beside images."""


class CvatWriter(Writer):
    """CVAT for images 1.1: images/ and annotations.xml, with a mask for each object."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, class_names)
        self._names, self._images = names_of_classes(class_names), 0
        self._file = self.open(CVAT_FILE)
        labels = "".join(f"<label><name>{escape(name)}</name><attributes/></label>" for name in self._names)
        self._file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        self._file.write(f"<meta><task><labels>{labels}</labels></task></meta>\n")

    def image_path(self, name: str) -> Path:
        """See `Writer.image_path`."""
        return self.folder / IMAGES / name

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        height, width = image.labels.shape
        name = quoteattr(printable(image.name))
        self._file.write(f'<image id="{self._images}" name={name} width="{width}" height="{height}">\n')
        runs, numbers = column_runs(image.labels), class_numbers(image)
        for label, number, (top, left, bottom, right) in zip(
            runs.label.tolist(), numbers, runs.bbox.tolist(), strict=True
        ):
            counts = ", ".join(map(str, _row_runs(image.labels[top:bottom, left:right] == label)))
            box = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
            of_class = f'label={quoteattr(self._names[number])} source="auto" occluded="0" z_order="0"'
            self._file.write(f'<mask {of_class} rle="{counts}" {box}></mask>\n')
        self._file.write("</image>\n")
        self._images += 1
        return Counter()

    def endings(self) -> list[str]:
        """See `Writer.endings`."""
        return ["</annotations>\n"]


def _row_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return the runs of background and object, in turns, along the rows.

    Examples
    --------
    >>> _row_runs(np.array([[True, False], [False, True]]))
    [0, 1, 2, 1]
    """
    flat = mask.ravel()
    borders = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    ends = [*borders, flat.size]
    return [end - start for start, end in zip([0, *borders], ends, strict=True)]


class ViaWriter(Writer):
    """VIA 2: images/ and via.json, with a polygon for each object."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, class_names)
        self._names, self._keys = names_of_classes(class_names), list[str]()
        self._file = self.open(VIA_FILE)
        self._file.write('{\n"_via_img_metadata": {')

    def image_path(self, name: str) -> Path:
        """See `Writer.image_path`."""
        return self.folder / IMAGES / name

    def write(self, image: LabelledImage) -> Counter[str]:
        """See `Writer.write`."""
        changes, outlines, regions = Counter[str](), traced(image), []
        for label, number in zip(image.label.tolist(), class_numbers(image), strict=True):
            xs, ys = largest_ring(outlines[label], changes).T.tolist()
            shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
            # Without classes an attribute would be one.
            attributes = {"class": self._names[number]} if self.class_names else {}
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
        # VIA's key of an image whose size in bytes is not known.
        key = f"{image.name}-1"
        entry = {"filename": image.name, "size": -1, "regions": regions, "file_attributes": {}}
        separator = ",\n" if self._keys else "\n"
        self._file.write(f"{separator}{json.dumps(key)}: {json.dumps(entry)}")
        self._keys.append(key)
        return without_zeros(changes)

    def endings(self) -> list[str]:
        """See `Writer.endings`."""
        options = dict.fromkeys(self._names, "")
        of_class = {"type": "dropdown", "description": "", "options": options, "default_options": {}}
        rest: dict[str, Any] = {
            "_via_settings": {"core": {"default_filepath": f"{IMAGES}/"}, "project": {"name": "instseg"}},
            "_via_attributes": {"region": {"class": of_class} if self.class_names else {}, "file": {}},
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": self._keys,
        }
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in rest.items()]
        return ["\n},\n" + ",\n".join(lines) + "\n}\n"]
