"""TRA, DET and SEG by hand: the weights are 5, 10 and 1 for objects to split, add and remove, 1.5, 1, 1 for links."""

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.evaluation.tracking import score_frames
from instseg.io.ctc import TrackTable

# Two objects of 4 pixels in 3 frames: 6 objects and 4 links make 66 points.
BOTH = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2]])
TRUTH = TrackTable.of([(1, 0, 2, 0), (2, 0, 2, 0)])
ALL = 6 * 10 + 4 * 1.5


def scores(result, frames, truth=TRUTH, true=(BOTH, BOTH, BOTH)):
    return score_frames(truth, TrackTable.of(result), zip(true, frames, strict=True))


def test_the_truth_is_perfect():
    same = scores([(1, 0, 2, 0), (2, 0, 2, 0)], [BOTH] * 3)
    assert (same.tra, same.det, same.seg) == (1.0, 1.0, 1.0)
    assert (same.frames, same.objects, same.links) == (3, 6, 4)


def test_a_track_that_is_cut_lacks_a_link():
    second = np.where(BOTH == 1, 3, BOTH)
    cut = scores([(1, 0, 0, 0), (3, 1, 2, 0), (2, 0, 2, 0)], [BOTH, second, second])
    assert (cut.links_missed, cut.links_wrong, cut.det) == (1, 0, 1.0)
    assert cut.tra == pytest.approx(1 - 1.5 / ALL)
    # As a child of the first part it has the link, but as one of another kind.
    child = scores([(1, 0, 0, 0), (3, 1, 2, 1), (2, 0, 2, 0)], [BOTH, second, second])
    assert (child.links_missed, child.links_of_other_kind) == (0, 1)
    assert child.tra == pytest.approx(1 - 1 / ALL)


def test_tracks_that_change_places_have_wrong_links():
    swapped = np.where(BOTH > 0, 3 - BOTH, 0)
    changed = scores([(1, 0, 2, 0), (2, 0, 2, 0)], [BOTH, BOTH, swapped])
    assert (changed.links_missed, changed.links_wrong) == (2, 2)
    assert changed.tra == pytest.approx(1 - 2 * 2.5 / ALL)


def test_objects_that_are_missed_made_up_or_joined():
    missed = scores([(1, 0, 2, 0)], [np.where(BOTH == 1, 1, 0)] * 3)
    assert (missed.missed, missed.links_missed) == (3, 2)
    assert missed.det == pytest.approx(1 - 30 / 60) and missed.tra == pytest.approx(1 - 33 / ALL)
    assert missed.seg == pytest.approx(0.5)
    more = BOTH.copy()
    more[0, 2] = 7
    made_up = scores([(1, 0, 2, 0), (2, 0, 2, 0), (7, 0, 2, 0)], [more] * 3)
    assert (made_up.wrong, made_up.links_wrong) == (3, 0)
    assert made_up.det == pytest.approx(1 - 3 / 60)
    joined = scores([(1, 0, 2, 0)], [np.ones_like(BOTH)] * 3)
    # An object that holds two can have no links.
    assert (joined.splits, joined.missed, joined.links_missed) == (3, 0, 4)
    assert joined.tra == pytest.approx(1 - (15 + 6) / ALL)


def test_half_of_an_object_does_not_find_it():
    half = BOTH.copy()
    half[0] = 0
    found = scores([(1, 0, 2, 0), (2, 0, 2, 0)], [half] * 3)
    assert (found.missed, found.wrong, found.tra, found.seg) == (6, 6, 0.0, 0.0)


def test_divisions_are_links_from_the_last_frame_of_the_mother():
    mother, daughters = np.array([[1, 1, 1, 1]]), np.array([[2, 2, 3, 3]])
    table = [(1, 0, 0, 0), (2, 1, 1, 1), (3, 1, 1, 1)]
    divided = scores(table, [mother, daughters], TrackTable.of(table), (mother, daughters))
    assert (divided.links, divided.tra) == (2, 1.0)
    single = [(1, 0, 1, 0), (3, 1, 1, 0)]
    goes_on = scores(single, [mother, np.array([[1, 1, 3, 3]])], TrackTable.of(table), (mother, daughters))
    assert (goes_on.links_of_other_kind, goes_on.links_missed) == (1, 1)
    assert goes_on.tra == pytest.approx(1 - 2.5 / 33)


def test_frames_without_objects_have_no_score():
    empty = np.zeros((2, 2), int)
    nothing = score_frames(TrackTable.of([]), TrackTable.of([]), [(empty, empty)])
    assert (nothing.tra, nothing.det, nothing.seg) == (None, None, None)
    some = score_frames(TrackTable.of([]), TrackTable.of([(1, 0, 0, 0)]), [(empty, np.ones((2, 2), int))])
    assert (some.tra, some.wrong) == (None, 1)


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(InstsegError, match="the result says that track 4 is in frame 2, whose labels do not show it"):
        scores([(4, 0, 2, 0), (2, 3, 3, 4)], [BOTH] * 3)
    with pytest.raises(InstsegError, match="sizes|shape|pixels"):
        scores([(1, 0, 2, 0)], [np.ones((1, 1), int)] * 3)
