"""What each tool does to a label image.

An edit looks at the boxes that it needs and returns what one box holds afterwards; labels are not changed here.
Coordinates are those of `instseg.labelling.strokes`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.labelling.instance_table import enclosing
from instseg.labelling.strokes import brush_pixels, line_pixels
from instseg.labels.rasterise import Region, fill_polygon
from instseg.tiling.grid import Box

Boxes = Mapping[int, Box]
"""The box of each instance of a label image."""


class NoEffectError(Exception):
    """An action meets nothing that it could change; the message tells the person what to do."""


class Edit(NamedTuple):
    """What an action does to labels.

    Attributes
    ----------
    box : Box
        Of h rows and w columns: everything that changes lies in it.
    after : (h, w) int32
        What it holds afterwards.
    touched : tuple of int
        The instances that the person has made or corrected.
    selected : int or None
        The instance that the action is about.
    like : int or None
        The instance whose class a new one has.
    """

    box: Box
    after: NDArray[np.int32]
    touched: tuple[int, ...]
    selected: int | None
    like: int | None = None


def view(labels: NDArray[np.int32], box: Box) -> NDArray[np.int32]:
    """Return a view of a box of a label image."""
    return labels[box.top : box.bottom, box.left : box.right]


def instance_at(labels: NDArray[np.int32], point: Sequence[float] | NDArray[np.float64]) -> int:
    """Return the instance at a point, 0 where there is none or the point is outside of the image."""
    row, column = int(np.floor(point[0])), int(np.floor(point[1]))
    inside = 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]
    return int(labels[row, column]) if inside else 0


def require_instance(labels: NDArray[np.int32], point: Sequence[float] | NDArray[np.float64], tool: str) -> int:
    """Return the instance at a point.

    Raises
    ------
    NoEffectError
        If there is none.
    """
    if not (instance := instance_at(labels, point)):
        raise NoEffectError(f"there is no object at this place to {tool}")
    return instance


def put(labels: NDArray[np.int32], region: Region, instance: int, *, overwrite: bool) -> Edit:
    """Give pixels to an instance.

    Parameters
    ----------
    labels : (H, W) int32
    region : Region
        The pixels, all within the image.
    instance : int
        Its label, which may be new.
    overwrite : bool
        Whether it takes pixels from other instances.

    Raises
    ------
    NoEffectError
        If it gains nothing.
    """
    height, width = region.mask.shape
    box = Box(region.top, region.left, region.top + height, region.left + width)
    before = view(labels, box)
    gained = region.mask & (before != instance)
    if not overwrite:
        gained &= before == 0
    if not gained.any():
        raise NoEffectError("other objects have all of these pixels already")
    after = before.copy()
    after[gained] = instance
    return Edit(box, after, (instance,), instance)


def replace_instance(labels: NDArray[np.int32], region: Region, instance: int, box: Box) -> Edit:
    """Give an instance, whose pixels lie in `box`, other pixels in their place; other instances keep theirs.

    Raises
    ------
    NoEffectError
        If nothing would be left of it.
    """
    height, width = region.mask.shape
    outer = Box(
        min(box.top, region.top),
        min(box.left, region.left),
        max(box.bottom, region.top + height),
        max(box.right, region.left + width),
    )
    after = view(labels, outer).copy()
    after[after == instance] = 0
    inner = after[Box(region.top, region.left, region.top + height, region.left + width).slices_in(outer)]
    gained = region.mask & (inner == 0)
    if not gained.any():
        raise NoEffectError("other objects have all of these pixels already")
    inner[gained] = instance
    return Edit(outer, after, (instance,), instance)


def delete(labels: NDArray[np.int32], boxes: Boxes, line: NDArray[np.float64]) -> Edit:
    """Remove all instances under a line, or the one at its only point.

    Raises
    ------
    NoEffectError
        If there are none.
    """
    met = instances_under(labels, line)
    if not len(met):
        where = "at this place" if len(line) == 1 else "under this line"
        raise NoEffectError(f"there is no object {where} to delete")
    return remove(labels, boxes, np.unique(met).tolist())


def remove(labels: NDArray[np.int32], boxes: Boxes, instances: Iterable[int]) -> Edit:
    """Remove instances; those that do not exist any more do not count.

    Raises
    ------
    NoEffectError
        If none of them exists.
    """
    present = [instance for instance in instances if instance in boxes]
    if not present:
        raise NoEffectError("none of these objects is there any more")
    box = enclosing([boxes[instance] for instance in present])
    after = view(labels, box).copy()
    for instance in present:
        part = after[boxes[instance].slices_in(box)]
        part[part == instance] = 0
    return Edit(box, after, (), None)


def join(labels: NDArray[np.int32], boxes: Boxes, line: NDArray[np.float64]) -> Edit:
    """Make all instances under a line one, which has the label of the first.

    Raises
    ------
    NoEffectError
        If there are fewer than two.
    """
    met = list(dict.fromkeys(instances_under(labels, line).tolist()))
    if len(met) < 2:
        raise NoEffectError("a line that joins has to cross two objects or more")
    box = enclosing([boxes[instance] for instance in met])
    after = view(labels, box).copy()
    for instance in met[1:]:
        part = after[boxes[instance].slices_in(box)]
        part[part == instance] = met[0]
    return Edit(box, after, (met[0],), met[0])


def instances_under(labels: NDArray[np.int32], line: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the instance (P,) at each pixel of a line that has one, in the order in which it is drawn."""
    pixels = line_pixels(line, (labels.shape[0], labels.shape[1]))
    met = labels[pixels.rows, pixels.columns]
    return met[met > 0]


def paint(
    labels: NDArray[np.int32], line: NDArray[np.float64], radius: float, instance: int, *, overwrite: bool
) -> Edit:
    """Give the pixels under a brush to an instance.

    Raises
    ------
    NoEffectError
        If it gains nothing.
    """
    return put(labels, brush_pixels(line, radius, (labels.shape[0], labels.shape[1])), instance, overwrite=overwrite)


def polygon(labels: NDArray[np.int32], points: NDArray[np.float64], instance: int, *, overwrite: bool) -> Edit:
    """Give the pixels whose centres are inside of a polygon to an instance.

    Raises
    ------
    NoEffectError
        If it gains nothing.
    """
    region = fill_polygon([points[:, ::-1]], (labels.shape[0], labels.shape[1]))
    if not region.mask.size:
        raise NoEffectError("there is no pixel inside of this outline")
    return put(labels, region, instance, overwrite=overwrite)


def erase(labels: NDArray[np.int32], line: NDArray[np.float64], radius: float, instance: int | None) -> Edit:
    """Make the pixels under a brush background, those of all instances or of one.

    Raises
    ------
    NoEffectError
        If there are none.
    """
    region = brush_pixels(line, radius, (labels.shape[0], labels.shape[1]))
    box = Box(region.top, region.left, region.top + region.mask.shape[0], region.left + region.mask.shape[1])
    before = view(labels, box)
    lost = region.mask & (before != 0 if instance is None else before == instance)
    if not lost.any():
        raise NoEffectError("there is nothing to erase under the brush")
    after = before.copy()
    after[lost] = 0
    return Edit(box, after, tuple(np.unique(before[lost]).tolist()), instance)


def fill_holes(labels: NDArray[np.int32], boxes: Boxes, point: NDArray[np.float64]) -> Edit:
    """Give the background that the instance at a point surrounds to it; other instances in there keep their pixels.

    Raises
    ------
    NoEffectError
        If there is no instance, or it has no holes.
    """
    from scipy import ndimage

    instance = require_instance(labels, point, "fill")
    before = view(labels, boxes[instance])
    holes = ndimage.binary_fill_holes(before == instance) & (before == 0)
    if not holes.any():
        raise NoEffectError("this object has no holes")
    after = before.copy()
    after[holes] = instance
    return Edit(boxes[instance], after, (instance,), instance)
