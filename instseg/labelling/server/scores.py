"""How sure the model is of the instances that nobody has confirmed."""

import threading
from collections import OrderedDict

import numpy as np

from instseg.labelling.document import Document
from instseg.labelling.outcome import Objects
from instseg.labelling.segmenting import Predictions

# Images whose scores are kept.
_KEPT = 16


class Scores:
    """The scores of a model for the instances of documents, which have other numbers than those of its predictions.

    An instance that nobody has touched has no other pixels than the model gave it, so that any of them tells which one
    it is. All of an image is looked at once, when it has instances that were not there before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, dict[int, float | None]] = OrderedDict()

    def of(
        self, name: str, document: Document, objects: Objects, predictions: Predictions | None
    ) -> list[float | None]:
        """Return the score of each instance of an image, None of those that are confirmed or of unknown origin.

        Parameters
        ----------
        name : str
            The image's.
        document : Document
        objects : Objects
            Its instances; those that it has by now no longer count.
        predictions : Predictions or None
            Of the model that is in use.
        """
        with self._lock:
            known = self._known.get(name, {})
            unconfirmed = objects.ids[~objects.confirmed].tolist()
            is_taken = predictions is not None and predictions.is_taken(name)
            if predictions is not None and is_taken and any(instance not in known for instance in unconfirmed):
                known = self._known[name] = dict.fromkeys(unconfirmed) | _find(name, document, predictions)
                self._known.move_to_end(name)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
        pairs = zip(objects.ids.tolist(), objects.confirmed.tolist(), strict=True)
        return [None if is_confirmed else known.get(instance) for instance, is_confirmed in pairs]


def _find(name: str, document: Document, predictions: Predictions) -> dict[int, float | None]:
    """Return the score of each instance by the prediction at one of its pixels."""
    if (found := predictions.read(name, document.shape)) is None:
        return {}
    labels = document.read()
    predicted = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    predicted[labels.ravel()] = found.labels.ravel()
    scores = np.append(np.nan, found.scores)
    predicted[predicted >= len(scores)] = 0
    of_instance = scores[predicted].tolist()
    return {number: score for number, score in enumerate(of_instance) if number and score == score}
