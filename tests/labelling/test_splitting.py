import numpy as np
import pytest
from scipy import ndimage

from instseg.labelling.edits import NoEffectError, view
from instseg.labelling.splitting import instance_to_split, split
from instseg.tiling.grid import Box

BOX = Box(2, 3, 12, 23)


def labels_with_a_block():
    labels = np.zeros((15, 30), np.int32)
    view(labels, BOX)[:] = 4
    return labels


def split_along(line, embeddings=None, labels=None):
    labels = labels_with_a_block() if labels is None else labels
    line = np.array(line, np.float64)
    instance = instance_to_split(labels, line)
    edit = split(labels, {4: BOX}, line, 9, embeddings, instance)
    after = labels.copy()
    view(after, edit.box)[:] = edit.after
    return after, edit


def sides(border):
    """Embeddings of the block that change at a column."""
    embeddings = np.random.default_rng(0).normal(0, 0.1, (*BOX.shape, 3)).astype(np.float32)
    embeddings[:, border - BOX.left :] += 5
    return embeddings


def test_without_embeddings_the_line_is_the_border():
    after, edit = split_along([[1.0, 10.5], [13.0, 10.5]])
    assert ((after == 9) | (after == 4)).sum() == 200
    assert set(np.unique(after[2:12, 3:10])) == {9}
    assert set(np.unique(after[2:12, 11:23])) == {4}
    assert edit.touched == (4, 9)
    assert edit.like == 4


def test_lines_that_stop_short_are_prolonged():
    whole, _ = split_along([[1.0, 10.5], [13.0, 10.5]])
    short, _ = split_along([[5.0, 10.5], [9.0, 10.5]])
    assert np.array_equal(whole, short)


def test_embeddings_of_both_sides_correct_the_line():
    after, _ = split_along([[1.0, 10.5], [13.0, 10.5]], sides(12))
    assert set(np.unique(after[2:12, 3:12])) == {9}
    assert set(np.unique(after[2:12, 12:23])) == {4}


@pytest.mark.parametrize("embeddings", [np.zeros((*BOX.shape, 3), np.float32), sides(22)])
def test_embeddings_that_contradict_the_line_do_not_count(embeddings):
    by_line, _ = split_along([[1.0, 10.5], [13.0, 10.5]])
    after, _ = split_along([[1.0, 10.5], [13.0, 10.5]], embeddings)
    assert np.array_equal(after, by_line)


@pytest.mark.parametrize("seed", range(6))
def test_parts_are_connected_whatever_the_line(seed):
    rng = np.random.default_rng(seed)
    labels = labels_with_a_block()
    view(labels, BOX)[rng.random(BOX.shape) < 0.15] = 0
    pieces, _ = ndimage.label(labels)
    labels[pieces != np.argmax(np.bincount(pieces[pieces > 0]))] = 0
    line = np.stack([np.linspace(1, 13, 5), 13 + rng.normal(0, 3, 5)], axis=1)
    after, _ = split_along(line, None, labels)
    assert ((after > 0) == (labels > 0)).all()
    for number in (4, 9):
        assert ndimage.label(after == number, np.ones((3, 3)))[1] == 1


def test_the_instance_under_most_of_the_line_is_split():
    labels = np.array([[1, 1, 2, 2, 2, 2]], np.int32)
    assert instance_to_split(labels, np.array([[0.5, 1.5], [0.5, 5.5]])) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([[1.0, 1.0], [2.0, 1.0]], "no object under this line"),
        ([[5.0, 10.5]], "has to have a length"),
        ([[2.5, 3.5], [2.5, 22.5]], "does not part"),
    ],
)
def test_lines_that_part_nothing_are_said(line, message):
    with pytest.raises(NoEffectError, match=message):
        split_along(line)
