"""The formats that labels are written in."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from instseg.annotations.writers.coco import CocoWriter
from instseg.annotations.writers.label_images import CellposeWriter, DsbWriter, StarDistWriter, pairs_writer
from instseg.annotations.writers.outlines import ImageJWriter, LabelMeWriter, QuPathWriter
from instseg.annotations.writers.projects import CvatWriter, ViaWriter
from instseg.annotations.writers.writer import Writer
from instseg.annotations.writers.yolo import YoloWriter
from instseg.errors import UsageError


class ExportFormat(NamedTuple):
    """A format that labels are written in.

    Attributes
    ----------
    name, title : str
        What users choose it by, and what it is called in texts.
    make : callable
        Returns a writer, of a folder and the names of the classes.
    reader : str
        The name of the format by which the folder is read again.
    has_classes, has_scores : bool
        Whether the format has a place for these.
    """

    name: str
    title: str
    make: Callable[[Path, Sequence[str]], Writer]
    reader: str
    has_classes: bool = True
    has_scores: bool = False


_FORMATS = (
    ExportFormat("coco", "COCO", CocoWriter, "coco", has_scores=True),
    ExportFormat("yolo", "YOLO segmentation", YoloWriter, "yolo"),
    ExportFormat("labelme", "LabelMe", LabelMeWriter, "labelme", has_scores=True),
    ExportFormat("geojson", "QuPath GeoJSON", QuPathWriter, "qupath", has_scores=True),
    ExportFormat("imagej-rois", "ImageJ selections", ImageJWriter, "imagej", has_scores=True),
    ExportFormat("cvat", "CVAT for images", CvatWriter, "cvat"),
    ExportFormat("via", "VIA", ViaWriter, "via"),
    ExportFormat("cellpose", "Cellpose", CellposeWriter, "pairs", has_classes=False),
    ExportFormat("stardist", "StarDist", StarDistWriter, "pairs", has_classes=False),
    ExportFormat("dsb", "Data Science Bowl", DsbWriter, "dsb", has_classes=False),
    ExportFormat("png", "label images in PNG", pairs_writer(".png"), "pairs", has_scores=True),
    ExportFormat("tif", "label images in TIFF", pairs_writer(".tif"), "pairs", has_scores=True),
    ExportFormat("npy", "label images of NumPy", pairs_writer(".npy"), "pairs", has_scores=True),
)

EXPORT_FORMATS = tuple(each.name for each in _FORMATS)
"""The names of all formats."""

# Names that `import_annotations` has for the same.
_ALIASES = {"qupath": "geojson", "imagej": "imagej-rois"}


def export_format(name: str) -> ExportFormat:
    """Return a format.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    name = _ALIASES.get(name, name)
    for each in _FORMATS:
        if each.name == name:
            return each
    raise UsageError(f"format is {name}, expected one of {', '.join(EXPORT_FORMATS)}", parameter="format")
