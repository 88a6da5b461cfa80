"""Tables of what is measured of the objects in images: of labels, an image, and what a model says of the objects."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.errors import InstsegError, UsageError
from instseg.io.atomic import StrPath
from instseg.io.label_strips import LabelReader
from instseg.io.pixel_size import PixelGeometry, length_ratio
from instseg.io.source import ImageReader
from instseg.io.tables import write_columns
from instseg.measurements.objects import Columns, PixelSize, check_pixel_size, measure_strips
from instseg.measurements.summary import summarise
from instseg.tiling.grid import Box

# Rows of a band of a file that is read part by part: those of the tiles that labels are written in.
_STREAMED_ROWS = 512
# What programs write that know no size of pixels: 72 and 96 pixels per inch, in micrometres.
_SCREENS = (25_400 / 72, 25_400 / 96)


def measure_labels(
    labels: LabelReader,
    image: ImageReader | None = None,
    *,
    pixel_size: PixelSize | None = None,
    instances: Instances | None = None,
) -> Columns:
    """Measure the objects in labels, part by part where these or the image are read so.

    Parameters
    ----------
    labels : LabelReader
    image : ImageReader, optional
        What intensities are measured in: all of its channels, in its own values.
    pixel_size : (float, float), optional
        Height and width of a pixel in micrometres; by default what the image's file says, else that of the labels.
    instances : Instances, optional
        What a model says of the objects.

    Returns
    -------
    dict of str to (N,) array
        As `instseg.measurements.measure` returns it; after 'label' come 'score' and 'class' where these are known.

    Raises
    ------
    InstsegError
        If sizes differ, something cannot be read, or objects are too large for the memory.
    """
    if image is not None and image.shape[:2] != labels.shape:
        raise InstsegError(
            f"the labels have {labels.shape[0]} x {labels.shape[1]} pixels and the image has {image.shape[0]} x "
            f"{image.shape[1]}, expected equal sizes; give the image that the labels belong to"
        )
    width = labels.shape[1]

    def read(top: int, bottom: int) -> NDArray[np.generic]:
        part: NDArray[np.generic] = np.asarray(image.read(Box(top, 0, bottom, width)))  # type: ignore[union-attr]
        return part.reshape(bottom - top, width, -1)

    columns = measure_strips(
        labels.strips,
        labels.shape,
        None if image is None else read,
        channels=0 if image is None else image.shape[2],
        pixel_size=resolve_pixel_size(pixel_size, image, labels),
        rows=_STREAMED_ROWS if labels.streamed or (image is not None and image.streamed) else None,
    )
    return columns if instances is None else _with_instances(columns, instances)


def write_measured(
    path: StrPath,
    labels: LabelReader,
    image: ImageReader | None = None,
    *,
    pixel_size: PixelSize | None = None,
    instances: Instances | None = None,
) -> dict[str, Any]:
    """Measure the objects in labels, write the table, and return the figures of the image.

    Parameters and errors are those of `measure_labels`.

    Returns
    -------
    dict of str to number or None
        What `instseg.measurements.summary.summarise` returns.
    """
    columns = measure_labels(labels, image, pixel_size=pixel_size, instances=instances)
    write_columns(path, columns)
    return summarise(columns["area"], labels.shape, resolve_pixel_size(pixel_size, image, labels))


def resolve_pixel_size(pixel_size: PixelSize | None, *sources: ImageReader | LabelReader | None) -> PixelSize | None:
    """Return the size of pixels that is given, else the first that a file tells, in micrometres; None without any."""
    if pixel_size is not None:
        return pixel_size
    sizes = (pixel_size_um(source.geometry) for source in sources if source is not None)
    return next((size for size in sizes if size is not None), None)


def pixel_size_um(geometry: PixelGeometry | None) -> PixelSize | None:
    """Return the height and the width of a file's pixels in micrometres, None where it tells none of length.

    Resolutions of 72 and 96 pixels per inch are not believed: programs write them that know nothing.

    Examples
    --------
    >>> pixel_size_um(PixelGeometry((0.25, 0.25), None, "micrometer"))
    (0.25, 0.25)
    >>> pixel_size_um(PixelGeometry((2.54 / 72, 2.54 / 72), None, "centimeter"))
    """
    ratio = None if geometry is None else length_ratio(geometry.unit, "micrometer")
    if geometry is None or ratio is None:
        return None
    # 0.3 should not become 0.30000000000000004 by units.
    height, width = (float(f"{side * ratio:.12g}") for side in geometry.pixel_size)
    if any(abs(height / screen - 1) < 1e-3 and abs(width / screen - 1) < 1e-3 for screen in _SCREENS):
        return None
    return (height, width) if all(0 < side < np.inf for side in (height, width)) else None


def parse_pixel_size(text: str) -> PixelSize:
    """Parse a size of pixels: '0.5' micrometres, or '0.5,0.25' for height and width.

    Raises
    ------
    UsageError
        If it is none.

    Examples
    --------
    >>> parse_pixel_size("0.5"), parse_pixel_size("0.5,0.25")
    ((0.5, 0.5), (0.5, 0.25))
    """
    try:
        sides = tuple(float(part) for part in text.split(","))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2):
        raise UsageError(
            f"pixel_size is {text}, expected a number of micrometres above 0, or one for rows and one for columns",
            parameter="pixel_size",
        )
    size = (sides[0], sides[-1])
    check_pixel_size(size)
    return size


def _with_instances(columns: Columns, instances: Instances) -> Columns:
    """Return the columns with scores and classes; instances and rows are both in the order of labels."""
    found = np.searchsorted(instances.label, columns["label"])
    label = columns.pop("label")
    first: Columns = {"label": label, "score": instances.score[found]}
    if instances.class_names:
        first["class"] = np.array(instances.classes, str)[found]
    return first | columns
