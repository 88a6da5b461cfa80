import numpy as np

from instseg.labelling.document import Document
from instseg.labelling.journal import Journal
from instseg.labelling.predictions import number_classes

SHAPE = (20, 40)


def found():
    labels = np.zeros(SHAPE, np.int32)
    labels[2:8, 2:8], labels[2:8, 12:18], labels[2:8, 22:28] = 1, 2, 3
    return labels


def test_objects_that_a_model_finds_have_its_classes(tmp_path):
    document = Document(SHAPE, journal=Journal(tmp_path / "a.jsonl", SHAPE))
    document.act({"kind": "paint", "line": [[5.0, 5.0]], "radius": 4.0, "id": None})
    document.set_prediction(found(), {1: 2, 2: 2, 3: 1})
    # The first one has been painted already.
    assert document.objects().classes.tolist() == [0, 2, 1]
    document.act({"kind": "class", "point": [5.0, 15.0], "class": 1})
    document = Document(SHAPE, journal=Journal(tmp_path / "a.jsonl", SHAPE))
    assert document.objects().classes.tolist() == [0, 1, 1]
    for _ in range(2):
        document.act({"kind": "undo"})
    assert document.objects().classes.tolist() == [0]
    document.act({"kind": "redo"})
    assert document.objects().classes.tolist() == [0, 2, 1]
    document.set_prediction(found())
    assert document.objects().classes.tolist() == [0, 0, 0]


def test_classes_of_models_have_numbers_as_long_as_there_are_some():
    assert number_classes([], {1: "a"}) == ({}, {1: "a"})
    assert number_classes(["b", "a"], {255: "a"}) == ({2: 255}, {255: "a"})
