"""Which image is worth labelling next: one that stands for many that the model is unsure of and nobody has labelled.

How unsure the model is of an image is 1 less the mean score of its objects, weighted by their area. Of several measures
(unweighted, entropy of the foreground, number of doubtful objects) it was closest to the true AP of images of cells and
of particles: the rank correlation with 1 less AP was 0.86 and 0.87 for the model `shapes`.

The hardest image is often an odd one that teaches little of the others. So images are chosen that cover the others: an
image stands for those of like looks and objects, the more of their doubt it covers beyond what those that are labelled
or chosen before it cover, the sooner it comes (the greedy solution of a facility location problem, as in Wei, Iyer and
Bilmes, 2015, "Submodularity in data subset selection and active learning").

What it gains is small: after three rounds of five images of cells, AP at IoU 0.5 was 0.019 and 0.002 above that after
as many images at random (two draws).

All is computed from what a prediction has found anyway: some milliseconds an image, and for N images N times 1,000
similarities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.labels.regions import equivalent_diameter

# An image without objects is either empty or one in which all are missed.
_DOUBT_OF_NOTHING = 0.5
# Images are looked at on a grid of about so many pixels a side.
_GRID = 256
# Images that stand for all where there are more, and how many are chosen one by one; others follow by doubt.
_MOST, _CHOSEN = 1000, 200
# Features differ by up to so many standard deviations; beyond, an image is odd, and that is all.
_LARGEST = 3.0
# An image at the usual distance from another stands for a quarter of it.
_STEEPNESS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """What an image says of itself once a model has segmented it.

    Attributes
    ----------
    doubt : float
        How unsure the model is of what it found, 0..1.
    features : (F,) float64
        What the image and its objects are like; images are compared by the distance between theirs.
    """

    doubt: float
    features: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Return the traits as JSON-ready values."""
        return {"doubt": self.doubt, "features": self.features.tolist()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Return what `to_dict` returned."""
        return cls(float(stored["doubt"]), np.asarray(stored["features"], np.float64))


def describe(image: NDArray[Any], instances: Instances, pixels: int | None = None) -> Traits:
    """Return the traits of an image.

    Parameters
    ----------
    image : (H, W, C) numbers
        As it was read; of a large one every n-th row and column will do.
    instances : Instances
        What a model found in it, with calibrated scores.
    pixels : int, optional
        Number of pixels of the whole image, where `image` is not all of it.

    Returns
    -------
    Traits
        With nine features: levels, contrast, skewness, texture and colour of the image; number, size, area and scores
        of the objects.
    """
    step = max(1, min(image.shape[:2]) // _GRID)
    some = image[::step, ::step].astype(np.float64)
    gray = some.mean(axis=2)
    low, middle, high = np.percentile(gray, [1, 50, 99])
    contrast = max(high - low, 1e-6)
    texture = np.mean([np.abs(np.diff(gray, axis=axis)).mean() for axis in (0, 1) if gray.shape[axis] > 1] or [0])
    colour = np.abs(some - gray[..., None]).mean()
    pixels = pixels or image.shape[0] * image.shape[1]
    areas = np.asarray(instances.area, np.float64)
    total = areas.sum()
    sure = float((instances.score * areas).sum() / total) if total else 1 - _DOUBT_OF_NOTHING
    diameter = float(equivalent_diameter(np.median(areas))) if total else 0.0
    features = [
        np.log1p(abs(middle)),
        np.log(contrast),
        (middle - low) / contrast,
        np.log(texture / contrast + 1e-3),
        colour / contrast,
        np.log1p(1e6 * len(instances) / pixels),
        np.log1p(diameter),
        total / pixels,
        sure,
    ]
    return Traits(float(np.clip(1 - sure, 0, 1)), np.array(features, np.float64))


def order(candidates: Mapping[str, Traits], labelled: Sequence[Traits] = ()) -> list[str]:
    """Return the names of candidates, the one that is most worth labelling first.

    Parameters
    ----------
    candidates : mapping of str to Traits
        The images that are not labelled, by name; all segmented by the same model.
    labelled : sequence of Traits
        Those that are.

    Returns
    -------
    list of str
        Each candidate once.

    Examples
    --------
    Two images are alike, and a third is unlike them; the model is unsure of all:

    >>> import numpy as np
    >>> looks = {"a": [0.0, 0.0], "b": [0.1, 0.0], "c": [5.0, 1.0]}
    >>> candidates = {name: Traits(0.5, np.array(features)) for name, features in looks.items()}
    >>> order(candidates, labelled=[Traits(0.5, np.array([0.0, 0.1]))])[0]
    'c'
    """
    names = list(candidates)
    if len(names) < 2:
        return names
    doubts = np.array([candidates[name].doubt for name in names])
    features = np.array([traits.features for traits in [*candidates.values(), *labelled]])
    features = _standardised(features)
    # Those that are the most doubtful stand for all where there are many.
    standing = np.argsort(-doubts, kind="stable")[:_MOST]
    similarity = _similarity(features, features[standing])
    covered = similarity[len(names) :].max(axis=0, initial=0.0)
    weights = doubts[standing] + 1e-3
    open_ = np.ones(len(names), bool)
    chosen = []
    for _ in range(min(len(names), _CHOSEN)):
        gain = np.maximum(similarity[: len(names)] - covered, 0) @ weights
        best = int(np.argmax(np.where(open_, gain + 1e-6 * doubts, -1)))
        chosen.append(best)
        open_[best] = False
        covered = np.maximum(covered, similarity[best])
    rest = np.flatnonzero(open_)
    return [names[index] for index in [*chosen, *rest[np.argsort(-doubts[rest], kind="stable")].tolist()]]


def _standardised(features: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = features.std(axis=0)
    centred = (features - features.mean(axis=0)) / np.where(spread > 1e-9, spread, 1)
    bounded: NDArray[np.float64] = np.clip(centred, -_LARGEST, _LARGEST)
    return bounded


def _similarity(features: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far (N, M) features stand for others, 0..1, by the squared distance relative to the mean of all."""
    squared = (features**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * features @ others.T
    squared = np.maximum(squared, 0)
    similarity: NDArray[np.float64] = 0.5 ** (_STEEPNESS * squared / (float(squared.mean()) or 1.0))
    return similarity
