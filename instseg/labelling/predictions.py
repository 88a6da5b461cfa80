"""What a model finds in an image that a person is working on already."""

import numpy as np
from numpy.typing import NDArray

from instseg.labelling.image_state import ImageState
from instseg.labels.regions import dense_labels

# Of a predicted instance so much may lie on what is known already; with more it is another finding of the same.
_MOST_COVERED = 0.25


def merge_prediction(state: ImageState, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the labels of an image with the instances of a model in the place of all unconfirmed ones.

    Parameters
    ----------
    state : ImageState
        Of an image of H rows and W columns.
    labels : (H, W) int32
        What the model found; 0 is background.

    Returns
    -------
    (H, W) int32
        Confirmed instances as they are. The model's have numbers that none has had before, in the order of its own;
        those that lie for more than a quarter on confirmed instances or in accepted boxes are left out.
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
    return after
