import numpy as np
import pytest
from scipy import ndimage

from instseg.labelling import edits
from instseg.labelling.edits import NoEffectError
from instseg.tiling.grid import Box


def boxes_of(labels):
    return {
        number: Box(rows.start, columns.start, rows.stop, columns.stop)
        for number, window in enumerate(ndimage.find_objects(labels), start=1)
        if window is not None
        for rows, columns in [window]
    }


def result(labels, edit):
    after = labels.copy()
    edits.view(after, edit.box)[:] = edit.after
    return after.tolist()


LABELS = np.array(
    [
        [1, 1, 0, 2, 2],
        [1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0],
        [3, 3, 3, 0, 0],
        [3, 0, 3, 0, 4],
        [3, 3, 3, 0, 4],
    ],
    np.int32,
)


def test_points_name_the_pixel_that_they_lie_in():
    assert edits.instance_at(LABELS, (1.99, 1.99)) == 1
    assert edits.instance_at(LABELS, (0.0, 3.0)) == 2
    assert edits.instance_at(LABELS, (-0.1, 0.0)) == 0
    assert edits.instance_at(LABELS, (0.0, 5.0)) == 0


def test_delete():
    edit = edits.delete(LABELS, boxes_of(LABELS), np.array([[0.5, 0.5]]))
    assert edit.box == Box(0, 0, 2, 2)
    assert result(LABELS, edit) == np.where(LABELS == 1, 0, LABELS).tolist()


def test_delete_along_a_line_removes_all_that_it_crosses():
    edit = edits.delete(LABELS, boxes_of(LABELS), np.array([[0.5, 0.5], [0.5, 4.5], [4.5, 4.5]]))
    assert result(LABELS, edit) == np.where(LABELS == 3, 3, 0).tolist()


def test_instances_are_removed_by_number_where_they_are_there():
    edit = edits.remove(LABELS, boxes_of(LABELS), [2, 4, 77])
    assert result(LABELS, edit) == np.where(np.isin(LABELS, [2, 4]), 0, LABELS).tolist()


def test_join_gives_all_the_label_of_the_first():
    edit = edits.join(LABELS, boxes_of(LABELS), np.array([[0.5, 4.5], [0.5, 0.5]]))
    expected = np.where(LABELS == 1, 2, LABELS)
    assert result(LABELS, edit) == expected.tolist()
    assert edit.touched == (2,)


def test_paint_of_a_new_instance_takes_nothing_from_others():
    edit = edits.paint(LABELS, np.array([[0.5, 0.5], [0.5, 4.5]]), 0.5, 9, overwrite=False)
    expected = LABELS.copy()
    expected[0, 2] = 9
    assert result(LABELS, edit) == expected.tolist()


def test_paint_with_an_instance_takes_what_is_under_the_brush():
    edit = edits.paint(LABELS, np.array([[0.5, 0.5], [0.5, 4.5]]), 0.5, 1, overwrite=True)
    expected = LABELS.copy()
    expected[0] = 1
    assert result(LABELS, edit) == expected.tolist()
    assert edit.touched == (1,)


@pytest.mark.parametrize(("instance", "erased"), [(None, [1, 2]), (2, [2])])
def test_erase(instance, erased):
    edit = edits.erase(LABELS, np.array([[0.5, 0.5], [0.5, 4.5]]), 0.5, instance)
    expected = LABELS.copy()
    expected[0][np.isin(expected[0], erased)] = 0
    assert result(LABELS, edit) == expected.tolist()
    assert edit.touched == tuple(erased)


def test_polygon():
    edit = edits.polygon(LABELS, np.array([[2.0, 3.0], [2.0, 5.0], [5.0, 5.0], [5.0, 3.0]]), 7, overwrite=False)
    expected = LABELS.copy()
    expected[2:5, 3:][expected[2:5, 3:] == 0] = 7
    assert result(LABELS, edit) == expected.tolist()


def test_fill_holes():
    edit = edits.fill_holes(LABELS, boxes_of(LABELS), np.array([3.5, 0.5]))
    expected = LABELS.copy()
    expected[4, 1] = 3
    assert result(LABELS, edit) == expected.tolist()


def test_instances_within_keep_their_pixels():
    labels = LABELS.copy()
    labels[4, 1] = 5
    with pytest.raises(NoEffectError, match="no holes"):
        edits.fill_holes(labels, boxes_of(labels), np.array([3.5, 0.5]))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: edits.delete(LABELS, {}, np.array([[2.5, 0.5]])), "no object at this place to delete"),
        (lambda: edits.delete(LABELS, {}, np.array([[2.5, 0.5], [2.5, 0.9]])), "no object under this line"),
        (lambda: edits.remove(LABELS, {}, [1]), "none of these objects"),
        (lambda: edits.fill_holes(LABELS, boxes_of(LABELS), np.array([0.5, 0.5])), "no holes"),
        (lambda: edits.join(LABELS, boxes_of(LABELS), np.array([[0.5, 0.5], [1.5, 2.5]])), "two objects or more"),
        (lambda: edits.erase(LABELS, np.array([[2.5, 1.5]]), 0.5, None), "nothing to erase"),
        (lambda: edits.paint(LABELS, np.array([[0.5, 0.5]]), 0.5, 9, overwrite=False), "have all of these pixels"),
        (lambda: edits.paint(LABELS, np.array([[40.0, 0.5]]), 0.5, 9, overwrite=True), "have all of these pixels"),
        (lambda: edits.polygon(LABELS, np.array([[0.1, 0.1], [0.1, 0.2], [0.2, 0.2]]), 9, overwrite=True), "no pixel"),
    ],
)
def test_what_has_no_effect_is_said(edit, message):
    with pytest.raises(NoEffectError, match=message):
        edit()
