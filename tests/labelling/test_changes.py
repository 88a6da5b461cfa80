import json

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.labelling.changes import Change, find_changes
from instseg.tiling.grid import Box


def random_labels(seed):
    return np.random.default_rng(seed).integers(0, 4, (7, 9), dtype=np.int32)


def test_only_pixels_that_differ_are_noted():
    before = np.array([[1, 1, 0], [0, 0, 0]], np.int32)
    after = np.array([[1, 2, 2], [2, 0, 0]], np.int32)
    runs = find_changes(Box(3, 4, 5, 7), before, after, 10)
    assert runs.first_pixels.tolist() == [35, 36, 44]
    assert runs.lengths.tolist() == [1, 1, 1]
    assert runs.before.tolist() == [1, 0, 0]
    assert runs.after.tolist() == [2, 2, 2]
    assert runs.box(10) == Box(3, 4, 5, 7)


@pytest.mark.parametrize("seed", range(3))
def test_a_change_leads_there_and_back(seed):
    before, after = random_labels(seed), random_labels(seed + 10)
    labels = before.copy()
    runs = find_changes(Box(0, 0, 7, 9), before, after, 9)
    runs.apply(labels)
    assert np.array_equal(labels, after)
    runs.reversed().apply(labels)
    assert np.array_equal(labels, before)


def test_large_changes_are_applied_portion_by_portion(monkeypatch):
    monkeypatch.setattr("instseg.labelling.changes._PORTION", 4)
    before, after = random_labels(1), random_labels(2)
    labels = before.copy()
    find_changes(Box(0, 0, 7, 9), before, after, 9).apply(labels)
    assert np.array_equal(labels, after)


def test_boxes_of_what_is_gained():
    after = np.array([[0, 2, 2, 0], [0, 0, 2, 5]], np.int32)
    runs = find_changes(Box(0, 0, 2, 4), np.zeros_like(after), after, 4)
    assert runs.boxes_after(4) == {2: Box(0, 1, 2, 3), 5: Box(1, 3, 2, 4)}


def changed():
    runs = find_changes(Box(0, 0, 7, 9), random_labels(1), random_labels(2), 9)
    return Change(
        kind="paint",
        selected=3,
        runs=runs,
        confirmed=(3,),
        unconfirmed=(1, 2),
        classes={3: (0, 2)},
        known=(Box(0, 0, 2, 2),),
        accepted=(True, True),
    )


def test_a_change_can_be_stored():
    change = changed()
    stored = Change.from_json(json.loads(json.dumps(change.to_json())), (7, 9))
    assert stored.to_json() == change.to_json()
    for values, expected in zip(stored.runs, change.runs, strict=True):
        assert np.array_equal(values, expected)
    assert stored.classes == {3: (0, 2)}
    assert stored.known == (Box(0, 0, 2, 2),)


def test_the_way_back_is_that_of_all_parts():
    back = changed().reversed()
    assert back.confirmed == (1, 2)
    assert back.unconfirmed == (3,)
    assert back.classes == {3: (2, 0)}
    assert back.forgotten == (Box(0, 0, 2, 2),)
    assert back.known == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [("runs", "AAAA"), ("runs", "no base64"), ("count", 10**9), ("count", 3), ("classes", [[1]]), ("kind", None)],
)
def test_damaged_changes_are_refused(key, value):
    content = {**changed().to_json(), key: value}
    if value is None:
        del content[key]
    with pytest.raises(InstsegError, match="damaged"):
        Change.from_json(content, (7, 9))


def test_changes_of_larger_images_are_refused():
    with pytest.raises(InstsegError, match="leaves the image"):
        Change.from_json(changed().to_json(), (3, 3))
