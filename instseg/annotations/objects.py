"""The form that annotations of all formats take: the objects of an image as outlines, runs or masks, with classes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.labels.rasterise import EMPTY, MAX_COORDINATE, Region, fill_polygon, fill_runs, union

Ring = NDArray[np.float64]

# What can be wrong with an object, as reports count it.
FEW_POINTS = "fewer than three points"
NO_NUMBERS = "coordinates that are no numbers"
NO_AREA = "points, lines or other shapes without an area"
BOXES = "boxes without an outline"
OUTSIDE = "outside of the image"
TINY = "without the centre of a pixel"
OTHER_SIZE = "runs of another size than the image"
NO_SHAPE = "without a shape"

# Corners of the polygons that stand for ellipses: these leave the curve by less than a hundredth of a pixel for radii
# of up to 500 pixels.
_CORNERS = 512


class UnusableObject(Exception):
    """An object that has no pixels, for a reason that is one of this module's."""


class Polygons(NamedTuple):
    """An object as outlines.

    Attributes
    ----------
    parts : sequence of (sequence of (V, 2) float64)
        The object is what all parts cover together. A part is one or more rings, of corners (x, y) in pixels where
        (0, 0) is the corner of the first pixel; inside is what is inside of an odd number of its rings.
    """

    parts: Sequence[Sequence[Ring]]


class Runs(NamedTuple):
    """An object as runs of background and object, in turns.

    Attributes
    ----------
    counts : (N,) int64
        The first run is background.
    size : (int, int)
        Height and width of what the runs fill.
    by_columns : bool
        Whether they go down the columns.
    top, left : int
        Where in the image the first pixel is.
    whole : bool
        Whether the runs fill the whole image, so that their size has to be the image's.
    """

    counts: NDArray[np.int64]
    size: tuple[int, int]
    by_columns: bool
    top: int = 0
    left: int = 0
    whole: bool = True


Shape = Polygons | Runs | Region


class Annotation(NamedTuple):
    """An object and its class, None where it has none."""

    shape: Shape
    class_name: str | None = None


@dataclass(slots=True)
class Objects:
    """The objects of an image, in the order of the file.

    Attributes
    ----------
    annotations : list of Annotation
    ignored : list of Shape
        Areas of which nobody knows what is in them, such as COCO's crowds.
    dropped : Counter
        Objects that cannot be used, by what is wrong with them.
    size : (int, int) or None
        Height and width of the image as the file has them.
    """

    annotations: list[Annotation] = field(default_factory=list)
    ignored: list[Shape] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    size: tuple[int, int] | None = None

    def add(self, make: Callable[[], Shape], class_name: str | None = None) -> None:
        """Add the object whose shape a function makes, or count why it cannot."""
        try:
            self.annotations.append(Annotation(make(), class_name))
        except UnusableObject as error:
            self.dropped[str(error)] += 1

    def ignore(self, make: Callable[[], Shape]) -> None:
        """Add an area that is ignored."""
        try:
            self.ignored.append(make())
        except UnusableObject as error:
            self.dropped[str(error)] += 1


@dataclass(frozen=True, slots=True)
class LabelImage:
    """The objects of an image as a label image.

    Attributes
    ----------
    labels : (H, W) int32
        0 is background.
    class_names : mapping of int to str
        By label, where there are classes.
    ignored : (H, W) bool, or None
        Pixels that belong neither to the background nor to an object.
    """

    labels: NDArray[np.int32]
    class_names: Mapping[int, str] = field(default_factory=dict)
    ignored: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image and how its annotations are read.

    Attributes
    ----------
    image : Path
    load : callable
        Returns the objects. It is called once, in any thread, and raises an InstsegError where they cannot be read.
    """

    image: Path
    load: Callable[[], Objects | LabelImage]


@dataclass(slots=True)
class Annotations:
    """What a format's reader has found.

    Attributes
    ----------
    images : list of AnnotatedImage
    missing : list of (str, str)
        Images that are annotated but cannot be found: the name, and why.
    unannotated : list of Path
        Images that this format expects annotations for, and that have none.
    class_names : sequence of str or None
        The classes that the source declares, whether there are objects of each or not.
    notes : list of str
        What else a user should know.
    """

    images: list[AnnotatedImage] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    unannotated: list[Path] = field(default_factory=list)
    class_names: Sequence[str] | None = None
    notes: list[str] = field(default_factory=list)


def ring(points: Any) -> Ring:
    """Return the corners (x, y) of a ring.

    Parameters
    ----------
    points : sequence
        Pairs (x, y), or numbers x, y in turns. A last point that is the first again is left out.

    Raises
    ------
    UnusableObject
        If there are fewer than three points, or something that is no finite number of a sensible size.
    """
    try:
        corners = np.asarray(points, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnusableObject(NO_NUMBERS) from error
    if corners.ndim == 1 and corners.size % 2 == 0:
        corners = corners.reshape(-1, 2)
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise UnusableObject(FEW_POINTS if corners.size < 6 else NO_NUMBERS)
    if not (np.abs(corners) <= MAX_COORDINATE).all():
        raise UnusableObject(NO_NUMBERS)
    if len(corners) > 1 and (corners[0] == corners[-1]).all():
        corners = corners[:-1]
    if len(corners) < 3:
        raise UnusableObject(FEW_POINTS)
    return corners


def polygon(points: Any) -> Polygons:
    """Return the shape of one ring; parameters and errors as `ring`."""
    return Polygons([[ring(points)]])


def polygons(parts: Iterable[Iterable[Any]]) -> Polygons:
    """Return the shape of several parts, each an outer ring and holes; what cannot be used of them is left out.

    Raises
    ------
    UnusableObject
        If no part can be used.
    """
    usable, reason = [], NO_SHAPE
    for part in parts:
        try:
            outer, *holes = part
            rings = [ring(outer)]
        except (UnusableObject, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, UnusableObject) else NO_SHAPE
            continue
        for hole in holes:
            with suppress(UnusableObject):
                rings.append(ring(hole))
        usable.append(rings)
    if not usable:
        raise UnusableObject(reason)
    return Polygons(usable)


def rectangle(x0: Any, y0: Any, x1: Any, y1: Any) -> Polygons:
    """Return a rectangle by two opposite corners; errors as `ring`."""
    return polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def ellipse(x: Any, y: Any, radius_x: Any, radius_y: Any, turned: Any = 0.0) -> Polygons:
    """Return an ellipse, turned clockwise on the screen by an angle in radians; errors as `ring`."""
    try:
        x, y, radius_x, radius_y, turned = (float(value) for value in (x, y, radius_x, radius_y, turned))
    except (TypeError, ValueError, OverflowError) as error:
        raise UnusableObject(NO_NUMBERS) from error
    if not np.isfinite([radius_x, radius_y, turned]).all():
        raise UnusableObject(NO_NUMBERS)
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    along, across = radius_x * np.cos(angles), radius_y * np.sin(angles)
    cosine, sine = np.cos(turned), np.sin(turned)
    return polygon(np.stack([x + along * cosine - across * sine, y + along * sine + across * cosine], axis=1))


def region_of(shape: Shape, size: tuple[int, int]) -> Region:
    """Return the pixels of an object in an image of this height and width.

    Raises
    ------
    UnusableObject
        If it has none.
    """
    if isinstance(shape, Runs):
        region = _region_of_runs(shape, size)
    elif isinstance(shape, Polygons):
        region = union([fill_polygon(rings, size) for rings in shape.parts])
        if region is EMPTY and not any(_reaches(rings[0], size) for rings in shape.parts):
            raise UnusableObject(OUTSIDE)
    else:
        region = shape
    region = _within(region, size)
    if region.mask.size == 0:
        raise UnusableObject(TINY if isinstance(shape, Polygons) else OUTSIDE)
    return region


def _region_of_runs(runs: Runs, size: tuple[int, int]) -> Region:
    if runs.whole and runs.size != size:
        raise UnusableObject(OTHER_SIZE)
    if runs.size[0] * runs.size[1] > 4 * max(size[0] * size[1], 1):
        # Masks of a part of the image, which claim more than it.
        raise UnusableObject(OTHER_SIZE)
    try:
        region = fill_runs(runs.counts, runs.size, by_columns=runs.by_columns)
    except ValueError as error:
        raise UnusableObject(OTHER_SIZE) from error
    if region.mask.size == 0:
        raise UnusableObject(NO_SHAPE)
    return Region(region.top + runs.top, region.left + runs.left, region.mask)


def _within(region: Region, size: tuple[int, int]) -> Region:
    """Cut off what lies outside of the image."""
    top, left = max(-region.top, 0), max(-region.left, 0)
    bottom, right = size[0] - region.top, size[1] - region.left
    if top == left == 0 and bottom >= region.mask.shape[0] and right >= region.mask.shape[1]:
        return region
    mask = region.mask[top : max(bottom, top), left : max(right, left)]
    return Region(region.top + top, region.left + left, mask) if mask.any() else EMPTY


def _reaches(corners: Ring, size: tuple[int, int]) -> bool:
    (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
    return bool(x1 > 0 and y1 > 0 and x0 < size[1] and y0 < size[0])
