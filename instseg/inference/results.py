"""A segmentation to files: labels, table, outlines, embeddings and pictures."""

import math
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from instseg.clustering.instances import median_diameter
from instseg.inference.outputs import OutputPaths
from instseg.inference.segmentation import Segmentation
from instseg.io.images import write_picture
from instseg.io.label_images import MAX_PNG_LABEL, STRIP_ROWS, write_labels, write_labels_streamed
from instseg.io.npz import write_embeddings
from instseg.io.outlines import write_outlines
from instseg.io.pixel_size import geometry_note
from instseg.io.source import whole_box
from instseg.io.tables import write_table
from instseg.io.zarr_labels import write_zarr_labels
from instseg.visualization.colours import Picture
from instseg.visualization.pictures import classes_legend, embeddings_picture, overlay, vstack

UNFAMILIAR_NOTE = (
    "the model is much less sure of what it found than in images like those of its training: it may not know such "
    "images, and scores promise too much here; if there are objects, give the right `diameter` or `channels`, take "
    "another model, or train on five labelled images of this kind"
)


class ImageSummary(NamedTuple):
    """A few figures of a segmented image.

    Attributes
    ----------
    instances : int
        How many there are.
    diameter : float
        Median over the instances, in pixels, of a volume in those along X; 0 without any.
    magnification : float
        How many times larger the network has seen it, beside the scale of the training.
    shape : tuple of int
        Height and width, or planes, height and width.
    unfamiliar : bool
        Whether the scores say that the model does not know such images.
    doubtful : int
        How many instances the model's own least score has left out, beside `instances`.
    """

    instances: int
    diameter: float
    magnification: float
    shape: tuple[int, ...]
    unfamiliar: bool = False
    doubtful: int = 0

    @property
    def pixels(self) -> int:
        """Pixels, or voxels of a volume."""
        return math.prod(self.shape)


class SavedResults(NamedTuple):
    """What was written of an image.

    Attributes
    ----------
    summary : ImageSummary
    labels : Path
        The file or folder of the labels.
    notes : tuple of str
        What somebody who uses the results should know.
    """

    summary: ImageSummary
    labels: Path
    notes: tuple[str, ...]


def save_results(segmentation: Segmentation, outputs: OutputPaths, name: str) -> SavedResults:
    """Write all results that are wanted of one image.

    Parameters
    ----------
    segmentation : Segmentation
        With instances and embeddings where `outputs` wants what needs them.
    outputs : OutputPaths
    name : str
        Of the image.

    Raises
    ------
    InstsegError
        If a file cannot be written.
    """
    labels, notes = _save_labels(segmentation, outputs, name)
    _save_embeddings(segmentation, outputs, name)
    instances = segmentation.instances
    if instances is not None:
        if (path := outputs.extra("overlay", name)) is not None:
            write_picture(path, _outlined(segmentation))
        if (path := outputs.extra("scores", name)) is not None:
            write_table(path, instances)
        if (path := outputs.extra("outlines", name)) is not None:
            write_outlines(path, segmentation.labels, instances)
    areas = segmentation.areas()
    summary = summarise_segmentation(segmentation, median_diameter(areas), len(areas))
    if summary.unfamiliar:
        notes.append(UNFAMILIAR_NOTE)
    return SavedResults(summary, labels, tuple(notes))


def summarise_segmentation(segmentation: Segmentation, diameter: float, count: int) -> ImageSummary:
    """Return the figures of an image or a volume with so many instances of a median diameter."""
    return ImageSummary(
        instances=count,
        diameter=diameter,
        magnification=segmentation.magnification,
        shape=segmentation.store.shape,
        unfamiliar=segmentation.unfamiliar,
        doubtful=segmentation.doubtful,
    )


def _save_labels(segmentation: Segmentation, outputs: OutputPaths, name: str) -> tuple[Path, list[str]]:
    """Write the labels; return where they are, and what is to be said about them."""
    path, notes, image = outputs.labels(name), [], segmentation.image
    shape, suffix = segmentation.store.shape, path.suffix.lower()
    if suffix == ".zarr":
        write_zarr_labels(path, shape, segmentation.strips(STRIP_ROWS), image.geometry)
        return path, []
    too_small = path
    if suffix == ".png" and not image.streamed and (count := int(segmentation.labels.max())) > MAX_PNG_LABEL:
        path = outputs.large_labels(name)
        notes.append(f"{count:,} objects are more than a 16-bit PNG can number; the labels are in {path}")
    geometry = image.geometry if path.suffix.lower() in (".tif", ".tiff") else None
    if (left_out := geometry_note(geometry)) is not None:
        notes.append(left_out)
    if image.streamed:
        write_labels_streamed(path, shape, segmentation.strips(STRIP_ROWS), geometry)
    else:
        write_labels(path, segmentation.labels, geometry)
    if path != too_small:
        # That of an earlier run would be taken for the result.
        with suppress(OSError):
            too_small.unlink(missing_ok=True)
    return path, notes


def _save_embeddings(segmentation: Segmentation, outputs: OutputPaths, name: str) -> None:
    embeddings = segmentation.embeddings
    if embeddings is None:
        return
    if (path := outputs.extra("embeddings", name)) is not None:
        write_embeddings(path, embeddings)
    if (path := outputs.extra("embeddings_picture", name)) is not None:
        write_picture(path, embeddings_picture(embeddings.embeddings, embeddings.foreground))


def _outlined(segmentation: Segmentation) -> Picture:
    """Draw the outlines on the image, in the colours of classes where the model knows some."""
    image, labels, instances = segmentation.image, segmentation.labels, segmentation.instances
    pixels = image.read(whole_box(image))
    if instances is None or not instances.class_names:
        return overlay(pixels, labels)
    classes = np.zeros(int(labels.max()) + 1, np.int32)
    classes[instances.label] = instances.class_probabilities.argmax(axis=1) + 1
    picture = overlay(pixels, labels, classes=classes)
    return vstack([picture, classes_legend(picture.shape[1], instances.class_names)])
