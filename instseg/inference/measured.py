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
from instseg.io.volumes import VolumeReader
from instseg.measurements.objects import Columns, PixelSize, check_pixel_size, measure_strips
from instseg.measurements.summary import summarise
from instseg.tiling.grid import Box

# Rows of a band of a file that is read part by part: those of the tiles that labels are written in.
_STREAMED_ROWS = 512
# What programs write that know no size of pixels: 72 and 96 pixels per inch, in micrometres.
_SCREENS = (25_400 / 72, 25_400 / 96)


def measure_labels(
    labels: LabelReader,
    image: ImageReader | VolumeReader | None = None,
    *,
    pixel_size: PixelSize | None = None,
    instances: Instances | None = None,
) -> Columns:
    """Measure the objects in labels, part by part where these or the image are read so.

    Parameters
    ----------
    labels : LabelReader
        Of an image, or of a volume.
    image : ImageReader or VolumeReader, optional
        What intensities are measured in: all of its channels, in its own values.
    pixel_size : tuple of float, optional
        Height and width of a pixel in micrometres, or the sides of a voxel along Z, Y and X; by default what the
        image's file says, else that of the labels.
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
    shape = labels.shape
    if image is not None and image.shape[:-1] != shape:
        raise InstsegError(
            f"the labels have {_size(shape)} pixels and the image has {_size(image.shape[:-1])}, expected equal sizes; "
            "give the image that the labels belong to"
        )

    def read(top: int, bottom: int) -> NDArray[np.generic]:
        box = Box(top, *(0,) * (len(shape) - 1), bottom, *shape[1:])
        part: NDArray[np.generic] = np.asarray(image.read(box))  # type: ignore[union-attr]
        return part.reshape(bottom - top, *shape[1:], -1)

    streamed = labels.streamed or (image is not None and image.streamed)
    columns = measure_strips(
        labels.strips,
        shape,
        None if image is None else read,
        channels=0 if image is None else image.shape[-1],
        pixel_size=resolve_pixel_size(pixel_size, image, labels),
        rows=_STREAMED_ROWS if streamed and len(shape) == 2 else None,
    )
    return columns if instances is None else _with_instances(columns, instances)


def write_measured(
    path: StrPath,
    labels: LabelReader,
    image: ImageReader | VolumeReader | None = None,
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


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)


def resolve_pixel_size(
    pixel_size: PixelSize | None, image: ImageReader | VolumeReader | None, labels: LabelReader
) -> PixelSize | None:
    """Return the size of pixels that is given, else the first that a file tells, in micrometres; None without any."""
    if pixel_size is not None:
        return pixel_size
    sizes = (pixel_size_um(source.geometry, len(labels.shape)) for source in (image, labels) if source is not None)
    return next((size for size in sizes if size is not None), None)


def pixel_size_um(geometry: PixelGeometry | None, ndim: int = 2) -> PixelSize | None:
    """Return the height and the width of a file's pixels in micrometres, None where it tells none of length.

    Where `ndim` is 3, these are the sides of a voxel along Z, Y and X, and None where the file does not tell all three.

    Resolutions of 72 and 96 pixels per inch are not believed: programs write them that know nothing.

    Examples
    --------
    >>> pixel_size_um(PixelGeometry((0.25, 0.25), None, "micrometer"))
    (0.25, 0.25)
    >>> pixel_size_um(PixelGeometry((2.54 / 72, 2.54 / 72), None, "centimeter"))
    """
    ratio = None if geometry is None else length_ratio(geometry.unit, "micrometer")
    sides = None if geometry is None else geometry.pixel_size if ndim == 2 else geometry.spacing
    if sides is None or ratio is None:
        return None
    # 0.3 should not become 0.30000000000000004 by units.
    size = tuple(float(f"{side * ratio:.12g}") for side in sides)
    if any(all(abs(side / screen - 1) < 1e-3 for side in size[-2:]) for screen in _SCREENS):
        return None
    return size if all(0 < side < np.inf for side in size) else None


def parse_pixel_size(text: str) -> PixelSize:
    """Parse a size of pixels: '0.5' micrometres, '0.5,0.25' for height and width, or '2,0.5,0.5' for voxels.

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
    if len(sides) not in (1, 2, 3):
        raise UsageError(
            f"pixel_size is {text}, expected a number of micrometres above 0, one for rows and one for columns, or "
            "three for the z, y and x of a volume",
            parameter="pixel_size",
        )
    size = sides * 2 if len(sides) == 1 else sides
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
