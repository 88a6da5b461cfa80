import numpy as np
import pytest

from instseg.labelling.document import Document
from instseg.labelling.segmenting import Prediction
from instseg.labelling.server.scores import Scores

FOUND = np.zeros((20, 30), np.int32)
FOUND[2:6, 2:6], FOUND[2:6, 10:14], FOUND[12:16, 2:6] = 1, 2, 3


class OneImage:
    """In place of what is on the disc: the prediction of an image called 'a'."""

    def __init__(self):
        self.taken, self.reads = True, 0

    def is_taken(self, name):
        return self.taken and name == "a"

    def read(self, name, shape):
        self.reads += 1
        return Prediction(FOUND, np.array([0.9, 0.2, 0.5]))


@pytest.fixture
def predictions():
    return OneImage()


@pytest.fixture
def document():
    document = Document(FOUND.shape)
    document.act({"kind": "paint", "line": [[17, 25]], "radius": 2, "id": None})
    document.set_prediction(FOUND)
    return document


def test_instances_have_the_scores_of_the_prediction_under_their_own_numbers(document, predictions):
    objects = document.objects()
    assert objects.ids.tolist() == [1, 2, 3, 4]
    assert Scores().of("a", document, objects, predictions) == [None, 0.9, 0.2, 0.5]


def test_confirmed_instances_have_none_and_scores_come_back_with_an_undo(document, predictions):
    scores = Scores()
    scores.of("a", document, document.objects(), predictions)
    document.act({"kind": "confirm", "point": [3, 3]})
    document.act({"kind": "delete", "ids": [3]})
    assert scores.of("a", document, document.objects(), predictions) == [None, None, 0.5]
    document.act({"kind": "undo"})
    assert scores.of("a", document, document.objects(), predictions) == [None, None, 0.2, 0.5]
    assert predictions.reads == 1


def test_before_a_prediction_is_shown_nothing_has_a_score(document, predictions):
    predictions.taken = False
    assert Scores().of("a", document, document.objects(), predictions) == [None] * 4
    assert Scores().of("a", document, document.objects(), None) == [None] * 4
