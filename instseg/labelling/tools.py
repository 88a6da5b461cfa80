"""From an action to the edit of labels that it stands for, with the embeddings that it needs."""

import contextlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError
from instseg.labelling import edits
from instseg.labelling.actions import Action
from instseg.labelling.edits import Boxes, Edit, NoEffectError, instance_at, view
from instseg.labelling.rims import rim_of
from instseg.labelling.selection import select
from instseg.labelling.splitting import instance_to_split, split
from instseg.labels.rasterise import Region, crop
from instseg.tiling.grid import Box

EmbeddingsSource = Callable[[Box], tuple[Embeddings, Box] | None]
"""Takes a box of the image; returns embeddings and the box that they cover, None while they are not there."""

# Sides of the windows around clicks in which an object is looked for: larger ones where it reaches the border.
_WINDOWS = (256, 512, 1024)
# An instance whose box has more pixels is split by the line alone, as embeddings of all of it take too long.
_LARGEST_SPLIT = 1024 * 1024


def edit(
    labels: NDArray[np.int32], boxes: Boxes, action: Action, new: int, embeddings: EmbeddingsSource | None
) -> Edit:
    """Return what a tool other than that which adds by embeddings does.

    Parameters
    ----------
    labels : (H, W) int32
    boxes : mapping of int to Box
    action : Action
        Of the kinds 'delete', 'join', 'split', 'paint', 'erase', 'polygon' or 'fill_holes'.
    new : int
        The label of an instance that is made.
    embeddings : callable or None

    Raises
    ------
    NoEffectError
        If it meets nothing that it could change.
    """
    points, instance = action.points, action.instance
    if instance is not None and instance not in boxes:
        raise NoEffectError(f"there is no object {instance} any more")
    match action.kind:
        case "delete":
            if action.instances:
                return edits.remove(labels, boxes, action.instances)
            return edits.delete(labels, boxes, points)
        case "join":
            return edits.join(labels, boxes, points)
        case "split":
            return _split(labels, boxes, points, new, embeddings)
        case "paint":
            return edits.paint(labels, points, action.radius, instance or new, overwrite=instance is not None)
        case "erase":
            return edits.erase(labels, points, action.radius, instance)
        case "polygon":
            return edits.polygon(labels, points, instance or new, overwrite=instance is not None)
        case _:
            return edits.fill_holes(labels, boxes, points[0])


def _split(
    labels: NDArray[np.int32],
    boxes: Boxes,
    line: NDArray[np.float64],
    new: int,
    embeddings: EmbeddingsSource | None,
) -> Edit:
    instance = instance_to_split(labels, line)
    box = boxes[instance]
    found = None
    if embeddings is not None and box.shape[0] * box.shape[1] <= _LARGEST_SPLIT:
        # Where there is no model, or it cannot see this image, as the page says, the line is good enough.
        with contextlib.suppress(InstsegError):
            found = embeddings(box)
    values = None
    if found is not None and found[1].intersection(box) == box:
        values = found[0].embeddings[box.slices_in(found[1])]
    return split(labels, boxes, line, new, values, instance)


def select_region(
    labels: NDArray[np.int32], boxes: Boxes, action: Action, embeddings: EmbeddingsSource | None
) -> Region:
    """Return the pixels of the object that clicks lie on, without those of other instances.

    Raises
    ------
    NoEffectError
        If there is none, or only the rim of another instance; a click lies on another instance; or there are no
        embeddings yet.
    """
    shape = (labels.shape[0], labels.shape[1])
    inside = action.points
    first = np.floor(inside[0])
    if not ((first >= 0) & (first < shape)).all():
        raise NoEffectError("the click is outside of the image")
    if instance_at(labels, inside[0]) not in (0, action.instance):
        raise NoEffectError("there is an object at this place already; delete it first, or click beside it")
    for side in _WINDOWS:
        found = embeddings(_window(inside, side, shape)) if embeddings is not None else None
        if found is None:
            raise NoEffectError("the model has not looked at this place yet; try again in a moment")
        maps, box = found
        here = view(labels, box)
        free = here == 0
        if action.instance is not None:
            free |= here == action.instance
        offset = (box.top, box.left)
        mask = select(maps, inside - offset, action.outside - offset, reach=action.reach, free=free)
        if not _is_cut(mask, box, shape):
            break
    if not mask.any():
        raise NoEffectError("the model sees no object at this place; draw it with the brush or as an outline")
    region = crop(Region(box.top, box.left, mask))
    if action.instance is None and not action.anyway and (other := rim_of(labels, boxes, region)) is not None:
        raise NoEffectError(
            f"this looks like the edge of object {other}, not like another one; the brush (B) paints what is missing, "
            "and a second click adds it as it is"
        )
    return region


def _window(points: NDArray[np.float64], side: int, shape: tuple[int, int]) -> Box:
    """Return a box of about `side` pixels around points, and as large as they need, within the image."""
    inside = points[((points >= 0) & (points < shape)).all(axis=1)]
    low, high = np.floor(inside.min(axis=0)).astype(int), np.floor(inside.max(axis=0)).astype(int) + 1
    margin = np.maximum(side - (high - low), side // 2) // 2
    top, left = np.maximum(low - margin, 0).tolist()
    bottom, right = np.minimum(high + margin, shape).tolist()
    return Box(top, left, bottom, right)


def _is_cut(mask: NDArray[np.bool_], box: Box, shape: tuple[int, int]) -> bool:
    """Return whether a selection reaches a border of its window that is none of the image."""
    return bool(
        (box.top > 0 and mask[0].any())
        or (box.left > 0 and mask[:, 0].any())
        or (box.bottom < shape[0] and mask[-1].any())
        or (box.right < shape[1] and mask[:, -1].any())
    )


def put_new(labels: NDArray[np.int32], region: Region, new: int) -> Edit:
    """Return the edit that makes an instance of a selection."""
    return edits.put(labels, region, new, overwrite=False)


def put_instead(labels: NDArray[np.int32], region: Region, instance: int, boxes: Boxes) -> Edit:
    """Return the edit that gives an instance the pixels of a selection in the place of its own."""
    return edits.replace_instance(labels, region, instance, boxes[instance])
