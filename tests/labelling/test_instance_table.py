import numpy as np
import pytest

from instseg.labelling.changes import find_changes
from instseg.labelling.instance_table import InstanceTable
from instseg.tiling.grid import Box


def update(table, labels, after):
    runs = find_changes(Box(0, 0, *labels.shape), labels, after, labels.shape[1])
    gone = table.vanishing(runs)
    runs.apply(labels)
    table.update(labels, runs)
    return gone


def test_boxes_and_areas_follow_the_labels():
    labels, table = np.zeros((4, 5), np.int32), InstanceTable()
    assert update(table, labels, np.array([[1, 1, 0, 0, 2]] * 4, np.int32)) == ()
    assert table.boxes == {1: Box(0, 0, 4, 2), 2: Box(0, 4, 4, 5)}
    assert table.areas == {1: 8, 2: 4}
    after = labels.copy()
    after[:, 1:3] = 2
    after[0] = 0
    assert update(table, labels, after) == ()
    assert table.boxes == {1: Box(1, 0, 4, 1), 2: Box(1, 1, 4, 5)}
    assert table.areas == {1: 3, 2: 9}
    assert update(table, labels, np.where(labels == 1, 0, labels)) == (1,)
    assert table.boxes == {2: Box(1, 1, 4, 5)}


def test_an_instance_may_move_away_from_where_it_was():
    labels, table = np.zeros((4, 8), np.int32), InstanceTable()
    first, second = np.zeros_like(labels), np.zeros_like(labels)
    first[:2, :2], second[2:, 6:] = 3, 3
    update(table, labels, first)
    assert update(table, labels, second) == ()
    assert table.boxes == {3: Box(2, 6, 4, 8)}


@pytest.mark.parametrize("seed", range(5))
def test_any_change(seed):
    rng = np.random.default_rng(seed)
    labels, table = np.zeros((9, 9), np.int32), InstanceTable()
    for _ in range(5):
        before = set(np.unique(labels).tolist()) - {0}
        after = rng.integers(0, 12, labels.shape, np.int32) * (rng.random(labels.shape) < 0.2)
        after = after.astype(np.int32)
        gone = update(table, labels, after)
        present = set(np.unique(after).tolist()) - {0}
        assert set(gone) == before - present
        assert set(table.boxes) == present
        for number, box in table.boxes.items():
            rows, columns = np.nonzero(labels == number)
            assert box == Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert table.areas[number] == len(rows)
