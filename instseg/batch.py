"""Files to files: images are read, segmented, and all that is wanted of them is written."""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.decoding import header, place
from instseg.embeddings import write_embeddings
from instseg.errors import InstsegError
from instseg.files import is_zarr
from instseg.images import BAND, read_image, read_planes, write_label_bands, write_labels, write_picture
from instseg.instances import Instances, median_diameter, write_table
from instseg.omezarr import ZarrSource, write_zarr_labels
from instseg.outlines import write_outlines
from instseg.render import below_each_other, classes_legend, embeddings_picture, overlay
from instseg.segment import How, Segmented, segment_all
from instseg.sources import LARGE, TiffSource, reads_in_parts
from instseg.targets import Targets, require_parts

if TYPE_CHECKING:
    from instseg.predict import Model


class Found(NamedTuple):
    """What an image holds.

    Attributes
    ----------
    instances : int
    diameter : float
        Median over the instances, in pixels; 0 without any.
    magnification : float
        How many times larger the network has seen it, beside the scale of the training.
    pixels : int
    """

    instances: int
    diameter: float
    magnification: float
    pixels: int


class Done(NamedTuple):
    """What became of an image.

    Attributes
    ----------
    number : int
        Of its file, from 1.
    found : Found or str
        What it holds, or why it could not be segmented.
    """

    number: int
    found: Found | str


class _Job(NamedTuple):
    number: int
    file: Path
    name: str


def segment_files(
    model: "Model", files: Sequence[Path], how: How, targets: Targets, *, planes: bool = False, stacked: bool = False
) -> Iterator[Done]:
    """Segment file after file; one that cannot be read or written costs no other.

    Parameters
    ----------
    model : Model
    files : sequence of Path
    how : How
    targets : Targets
        Where results go; its folders are there.
    planes : bool
        Whether stacks are taken plane by plane.
    stacked : bool
        Whether the planes of a stack are channels.

    Yields
    ------
    Done
        For each image, in the files' order.
    """
    # Filled by the thread that reads.
    jobs: deque[_Job] = deque()
    for found in segment_all(model, _readers(files, planes, stacked, jobs, targets), how):
        job = jobs.popleft()
        try:
            if isinstance(found, InstsegError):
                raise found
            yield Done(job.number, write_results(found, targets, job.file, job.name))
        except InstsegError as error:
            # Errors of reading name the file themselves.
            named = str(job.file) in str(error)
            yield Done(job.number, str(error) if named else f"{job.file}: {error}")


def _readers(
    files: Sequence[Path], planes: bool, stacked: bool, jobs: "deque[_Job]", targets: Targets
) -> Iterator[Callable[[], Any]]:
    """Give a function that reads an image for each, and note in `jobs` what it is."""
    for number, file in enumerate(files, start=1):
        if not planes:
            jobs.append(_Job(number, file, file.stem))
            yield functools.partial(open_image, file, stacked, targets, file.stem)
            continue
        try:
            images = read_planes(file)
        except InstsegError as error:
            jobs.append(_Job(number, file, file.stem))
            yield functools.partial(_fail, error)
            continue
        for plane, image in enumerate(images):
            jobs.append(_Job(number, file, f"{file.stem}-{plane:04d}"))
            yield functools.partial(_given, image)


def open_image(file: Path, stacked: bool, targets: Targets, name: str) -> Any:
    """Read an image, or open one that is too large for memory, for which some results cannot be made."""
    if is_zarr(file):
        require_parts(file, targets, name)
        return ZarrSource(file)
    found = header(file, most_pixels=None)
    if stacked or found.height * found.width <= LARGE or not reads_in_parts(file):
        return read_image(file, stacked=stacked)
    require_parts(file, targets, name)
    return TiffSource(file)


def write_results(found: Segmented, targets: Targets, file: Path, name: str) -> Found:
    """Write all results of one image and say what was found in it."""
    target = targets.labels(name)
    if target.suffix.lower() == ".zarr":
        like = found.image if isinstance(found.image, ZarrSource) else None
        write_zarr_labels(target, found.labels.shape, found.bands(BAND), like)
    else:
        where = place(file) if target.suffix.lower() in (".tif", ".tiff") else None
        if isinstance(found.labels, np.ndarray):
            write_labels(target, found.labels, where)
        else:
            write_label_bands(target, found.labels.shape, found.bands(BAND), where)
    if not isinstance(found.labels, np.ndarray):
        if found.instances is None:
            raise AssertionError("instances of stored labels are described")
        if (path := targets.extra("scores", name)) is not None:
            write_table(path, found.instances)
        return _measured(found.instances.area, found)
    if found.maps is not None:
        if (path := targets.extra("npz", name)) is not None:
            write_embeddings(path, found.maps)
        if (path := targets.extra("embeddings", name)) is not None:
            write_picture(path, embeddings_picture(found.maps.embeddings, found.maps.foreground))
    if found.instances is not None:
        if (path := targets.extra("overlay", name)) is not None:
            write_picture(path, _outlined(found.image, found.labels, found.instances))
        if (path := targets.extra("scores", name)) is not None:
            write_table(path, found.instances)
        if (path := targets.extra("outlines", name)) is not None:
            write_outlines(path, found.labels, found.instances)
    return _measured(np.bincount(found.labels.ravel())[1:], found)


def _measured(areas: NDArray[np.integer], found: Segmented) -> Found:
    return Found(len(areas), median_diameter(areas), found.magnification, math.prod(found.labels.shape))


def _outlined(image: Any, labels: NDArray[np.int32], found: Instances) -> Any:
    """Draw the outlines, in the colours of classes where the model knows some."""
    if not found.class_names:
        return overlay(image, labels)
    classes = np.zeros(int(labels.max()) + 1, np.int32)
    classes[found.id] = found.class_probabilities.argmax(axis=1) + 1
    picture = overlay(image, labels, classes=classes)
    return below_each_other([picture, classes_legend(picture.shape[1], found.class_names)])


def _fail(error: InstsegError) -> Any:
    raise error


def _given(image: Any) -> Any:
    return image
