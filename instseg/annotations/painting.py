"""Objects to labels: which of two objects a pixel belongs to that both of them claim."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from instseg.annotations.objects import Annotation, LabelImage, Objects, Shape, UnusableObject, region_of
from instseg.labels.rasterise import Region
from instseg.labels.regions import dense_labels
from instseg.labels.runs import find_runs

Overlap = Literal["smaller-on-top", "first", "last", "drop"]
"""Which object gets the pixels that several claim: that of fewest pixels, the first or last of the file, or none."""

OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)

HIDDEN = "hidden by others"


@dataclass(frozen=True, slots=True)
class Painted:
    """The labels of an image.

    Attributes
    ----------
    labels : (H, W) int32
        0 is background; objects are 1..N in the order of the file.
    class_names : dict of int to str
        By label, of those that have a class.
    ignored : (H, W) bool, or None
        Pixels that belong neither to the background nor to an object.
    numbers : (N,) integers
        The labels that occur, ascending.
    found : int
        Objects in the file.
    overlapping : int
        Objects that claim pixels that others claim, too.
    overlap : int
        Pixels that several objects claim.
    dropped : Counter
        Objects without pixels, by the reason.
    """

    labels: NDArray[np.int32]
    class_names: dict[int, str]
    ignored: NDArray[np.bool_] | None
    numbers: NDArray[np.integer]
    found: int
    overlapping: int
    overlap: int
    dropped: Counter[str]


def paint(
    objects: Objects | LabelImage, size: tuple[int, int], overlap: Overlap, *, connected_components: bool = False
) -> Painted:
    """Return the labels of an image.

    Parameters
    ----------
    objects : Objects or LabelImage
    size : tuple of int
        Height and width of the image.
    overlap : str
        One of `OVERLAPS`.
    connected_components : bool
        Whether each connected piece (over edges or corners) of an object becomes an object.
    """
    painted = _number(objects) if isinstance(objects, LabelImage) else _paint(objects, size, overlap)
    return _split(painted) if connected_components else painted


def _number(image: LabelImage) -> Painted:
    """Keep the numbers of a label image, as they are those that its user knows, if they are few."""
    present, dense = dense_labels(image.labels)
    keep = len(present) == 0 or int(present[-1]) <= max(65_535, len(present))
    labels = image.labels if keep else dense
    numbers = present if keep else np.arange(1, len(present) + 1)
    pairs = zip(present.tolist(), numbers.tolist(), strict=True)
    names = {number: image.class_names[label] for label, number in pairs if label in image.class_names}
    return Painted(labels, names, image.ignored, numbers, len(present), 0, 0, Counter())


def _paint(objects: Objects, size: tuple[int, int], overlap: Overlap) -> Painted:
    dropped = Counter(objects.dropped)
    found = len(objects.annotations) + objects.dropped.total()
    regions: list[tuple[Annotation, Region]] = []
    for annotation in objects.annotations:
        try:
            regions.append((annotation, region_of(annotation.shape, size)))
        except UnusableObject as error:
            dropped[str(error)] += 1
    labels, claims = np.zeros(size, np.int32), np.zeros(size, np.uint8)
    for number in _order([region for _, region in regions], overlap):
        region = regions[number][1]
        labels[region.window][region.mask] = number + 1
        # 2 stands for any number of claims above.
        part = claims[region.window]
        np.minimum(part + region.mask, 2, out=part)
    several = claims > 1
    overlapping = sum(bool((several[region.window] & region.mask).any()) for _, region in regions)
    if overlap == "drop":
        labels[several] = 0
    present, labels = dense_labels(labels)
    if hidden := len(regions) - len(present):
        dropped[HIDDEN] += hidden
    classes = {number: regions[label - 1][0].class_name for number, label in enumerate(present.tolist(), start=1)}
    names = {number: name for number, name in classes.items() if name is not None}
    ignored = _ignored(objects.ignored, size, dropped)
    numbers = np.arange(1, len(present) + 1)
    return Painted(labels, names, ignored, numbers, found, overlapping, int(several.sum()), dropped)


def _order(regions: list[Region], overlap: Overlap) -> list[int]:
    """Return the order in which regions are painted, each over those before it."""
    numbers = list(range(len(regions)))
    if overlap == "smaller-on-top":
        # Of two of equal size the first of the file stays on top.
        areas = [int(region.mask.sum()) for region in regions]
        return sorted(numbers, key=lambda number: (areas[number], number), reverse=True)
    return numbers[::-1] if overlap == "first" else numbers


def _ignored(shapes: list[Shape], size: tuple[int, int], dropped: Counter[str]) -> NDArray[np.bool_] | None:
    if not shapes:
        return None
    ignored = np.zeros(size, bool)
    for shape in shapes:
        try:
            region = region_of(shape, size)
        except UnusableObject as error:
            dropped[str(error)] += 1
        else:
            ignored[region.window] |= region.mask
    return ignored


def _split(painted: Painted) -> Painted:
    """Make each connected piece of a label a label of its own, with the class of the whole."""
    runs = find_runs(painted.labels)
    labels = np.repeat(runs.components, runs.lengths).reshape(painted.labels.shape)
    pieces, first = np.unique(runs.components, return_index=True)
    wholes = zip(pieces.tolist(), runs.values[first].tolist(), strict=True)
    names = {piece: painted.class_names[label] for piece, label in wholes if label in painted.class_names}
    return replace(painted, labels=labels, class_names=names, numbers=pieces[pieces > 0])
