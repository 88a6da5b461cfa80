"""What a model finds in an image that a person is working on already."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from instseg.annotations.output import UNCLASSIFIED
from instseg.labelling.actions import MAX_CLASS
from instseg.labelling.image_state import ImageState
from instseg.labels.regions import dense_labels

# Of a predicted instance so much may lie on what is known already; with more it is another finding of the same.
_MOST_COVERED = 0.25


def merge_prediction(state: ImageState, labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Return the labels of an image with the instances of a model in the place of all unconfirmed ones.

    Parameters
    ----------
    state : ImageState
        Of an image of H rows and W columns.
    labels : (H, W) int32
        What the model found; 0 is background.

    Returns
    -------
    labels : (H, W) int32
        Confirmed instances as they are. The model's have numbers that none has had before, in the order of its own;
        those that lie for more than a quarter on confirmed instances or in accepted boxes are left out.
    numbers : dict of int to int
        The number that each of the model's instances has now, of those that are not left out.
    """
    ids, numbers = dense_labels(labels)
    confirmed = state.confirmed_of(state.labels)
    covered = confirmed.copy()
    for box in state.known:
        covered[box.top : box.bottom, box.left : box.right] = True
    count = len(ids) + 1
    areas = np.bincount(numbers.ravel(), minlength=count)
    hidden = np.bincount(numbers[covered], minlength=count)
    kept = hidden <= _MOST_COVERED * areas
    kept[0] = False
    new = np.zeros(count, np.int32)
    new[kept] = state.next_label + np.arange(int(kept.sum()), dtype=np.int32)
    after = new[numbers]
    after[covered] = 0
    np.copyto(after, state.labels, where=confirmed)
    return after, dict(zip(ids[kept[1:]].tolist(), new[kept].tolist(), strict=True))


def number_classes(classes: Sequence[str], known: Mapping[int, str]) -> tuple[dict[int, int], dict[int, str]]:
    """Return the classes that a model gives to its instances as numbers, and the names of all classes.

    Parameters
    ----------
    classes : sequence of str
        Of the instances 1..N; empty where the model knows none.
    known : mapping of int to str
        The names of the classes that there are, by number.

    Returns
    -------
    numbers : dict of int to int
        The number of the class of each instance that has one.
    names : dict of int to str
        Those that there are, and the model's that were not among them, as far as there are numbers left.

    Examples
    --------
    >>> number_classes(["round", "long", "unclassified", "long"], {3: "long"})
    ({1: 4, 2: 3, 4: 3}, {3: 'long', 4: 'round'})
    """
    names = dict(known)
    for name in sorted(set(classes) - {UNCLASSIFIED} - set(known.values())):
        names[max(names, default=0) + 1] = name
    names = {number: name for number, name in names.items() if number <= MAX_CLASS}
    numbers = {name: number for number, name in names.items()}
    return {label: numbers[name] for label, name in enumerate(classes, start=1) if name in numbers}, names
