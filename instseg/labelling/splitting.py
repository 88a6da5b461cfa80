"""One instance to two: along a line that a hand has drawn, or where the embeddings of both sides part."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.cluster import expand_labels
from instseg.labelling.edits import Boxes, Edit, NoEffectError, instances_under, view
from instseg.labelling.strokes import LinePixels, line_pixels

# Rounds of assigning pixels to the nearer of two means; few are enough, as the line begins near the truth.
_ROUNDS = 4
# So many pixels tell the means.
_MOST_POINTS = 20_000
# What the embeddings say counts where each part has at least this share of its side of the line, and little else.
_LEAST_AGREEMENT = 0.6
# The means of both sides are apart by so many times the deviation along the way between them, or they say nothing.
_LEAST_SEPARATION = 4.0


def split(
    labels: NDArray[np.int32],
    boxes: Boxes,
    line: NDArray[np.float64],
    new: int,
    embeddings: NDArray[np.float32] | None,
    instance: int,
) -> Edit:
    """Split an instance along a line.

    Where embeddings are given and tell the two sides apart, each pixel goes to the side whose mean is nearer; else the
    line is the border. Both parts are connected; the larger one keeps the label.

    Parameters
    ----------
    labels : (H, W) int32
    boxes : mapping of int to Box
    line : (N, 2) float64
        Row and column of its points.
    new : int
        The label of the smaller part.
    embeddings : (h, w, D) float32 or None
        Of the box of the instance.
    instance : int
        As `instance_to_split` returned it.

    Raises
    ------
    NoEffectError
        If the line does not part the instance.
    """
    box = boxes[instance]
    mask = view(labels, box) == instance
    sides = _sides(mask, line - (box.top, box.left))
    parts = None if embeddings is None else _by_embeddings(mask, sides, embeddings)
    parts = _connected(mask, sides) if parts is None else parts
    first, second = int((parts == 1).sum()), int((parts == 2).sum())
    if not (first and second):
        raise NoEffectError("the line does not part the object; draw it from one side of it to the other")
    after = view(labels, box).copy()
    after[parts == (2 if second <= first else 1)] = new
    return Edit(box, after, (instance, new), new, like=instance)


def instance_to_split(labels: NDArray[np.int32], line: NDArray[np.float64]) -> int:
    """Return the instance that most of a line lies on.

    Raises
    ------
    NoEffectError
        If it lies on none.
    """
    met = instances_under(labels, line)
    if not len(met):
        raise NoEffectError("there is no object under this line to split")
    instances, counts = np.unique(met, return_counts=True)
    return int(instances[np.argmax(counts)])


def _sides(mask: NDArray[np.bool_], line: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return for each pixel of an instance the side of the line, 1 or 2, that it is on; 0 under the line."""
    from scipy import ndimage

    shape = (mask.shape[0], mask.shape[1])
    pixels = line_pixels(_prolonged(line, shape), shape)
    off = mask.copy()
    off[pixels.rows, pixels.columns] = False
    components, count = ndimage.label(off)
    side = np.zeros(count + 1, np.int32)
    votes = _votes(components, pixels, count)
    side[1:] = np.where(votes[1:] == 0, 0, np.where(votes[1:] > 0, 1, 2))
    return side[components]


def _prolonged(line: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return a line that goes on straight at both ends until it leaves the box: hands stop short of borders."""
    far = float(sum(shape))
    ends = []
    for end, others in ((line[0], line[1:]), (line[-1], line[-2::-1])):
        lengths = np.linalg.norm(others - end, axis=1)
        # The direction over some pixels, as the last ones of a drag are noise.
        long = np.flatnonzero(lengths >= min(5.0, lengths.max(initial=0.0)))
        if not len(long) or not lengths[long[0]]:
            raise NoEffectError("a line that splits has to have a length; draw it across the object")
        other = others[long[0]]
        ends.append(end + (end - other) / lengths[long[0]] * far)
    return np.concatenate([ends[:1], line, ends[1:]])


def _votes(components: NDArray[np.signedinteger[Any]], pixels: LinePixels, count: int) -> NDArray[np.int64]:
    """Return for each component how many more pixels to the left of the line it has beside it than to the right."""
    votes = np.zeros(count + 1, np.int64)
    for reach in (1, 2):
        for sign in (1, -1):
            across = np.stack([pixels.directions[:, 1], -pixels.directions[:, 0]], axis=1) * sign * reach
            places = np.rint(np.stack([pixels.rows, pixels.columns], axis=1) + across).astype(np.int64)
            inside = ((places >= 0) & (places < components.shape)).all(axis=1)
            met = components[places[inside, 0], places[inside, 1]]
            votes += sign * np.bincount(met, minlength=count + 1)
    return votes


def _by_embeddings(
    mask: NDArray[np.bool_], sides: NDArray[np.int32], embeddings: NDArray[np.float32]
) -> NDArray[np.int32] | None:
    """Return the parts, 1 and 2, by the nearer mean; None where the embeddings do not tell the sides apart."""
    every = 1 + int(mask.sum()) // _MOST_POINTS
    few, on = embeddings[mask][::every], sides[mask][::every]
    nearer = on
    for _ in range(_ROUNDS):
        if not ((nearer == 1).any() and (nearer == 2).any()):
            return None
        means = np.stack([few[nearer == number].mean(axis=0) for number in (1, 2)])
        length = float(np.linalg.norm(means[1] - means[0]))
        if not length:
            return None
        way, middle = (means[1] - means[0]) / length, means.mean(axis=0)
        along = (few - middle) @ way
        nearer = np.where(along < 0, 1, 2)
    deviation = np.sqrt(np.mean([np.var(along[nearer == number]) for number in (1, 2) if (nearer == number).any()]))
    if length < _LEAST_SEPARATION * deviation:
        return None
    side = sides[mask]
    nearer = np.where((embeddings[mask] - middle) @ way < 0, 1, 2)
    for number in (1, 2):
        both = np.sum((nearer == number) & (side == number))
        if both < _LEAST_AGREEMENT * np.sum((nearer == number) | (side == number)):
            return None
    parts = np.zeros(mask.shape, np.int32)
    parts[mask] = nearer
    return _connected(mask, parts)


def _connected(mask: NDArray[np.bool_], parts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return parts, 1 and 2, grown from the largest connected pieces of both until they fill the mask."""
    from scipy import ndimage

    seeds = np.zeros(mask.shape, np.int32)
    for number in (1, 2):
        pieces, count = ndimage.label(parts == number)
        if count:
            seeds[pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))] = number
    grown = expand_labels(seeds, mask)
    # Pieces that hang on by corners only, or lie apart, go with the part that keeps the label.
    larger = 1 if (grown == 1).sum() >= (grown == 2).sum() else 2
    grown[mask & (grown == 0)] = larger
    return grown
