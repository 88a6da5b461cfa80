"""Label images to tracks: hand-made sequences with known answers, and invariants."""

import numpy as np
import pytest

from instseg.errors import InstsegError, UsageError
from instseg.tracking.candidates import find_divisions, find_links
from instseg.tracking.drift import common_shift
from instseg.tracking.linking import Tracker, track
from instseg.tracking.motion import typical_reach
from instseg.tracking.objects import frame_objects, overlaps


def frame(*boxes, shape=(40, 60)):
    """Return labels of boxes (label, top, left, height, width)."""
    labels = np.zeros(shape, np.int32)
    for label, top, left, height, width in boxes:
        labels[top : top + height, left : left + width] = label
    return labels


def summary(tracks):
    """Return the labels of each track by frame, and the parents."""
    lines = {
        number: dict(zip(tracks.frame[tracks.track == number], tracks.label[tracks.track == number], strict=True))
        for number in range(1, len(tracks) + 1)
    }
    return lines, tracks.parent.tolist()


def test_objects_are_linked_whatever_their_numbers():
    tracks = track([frame((1, 0, 0, 6, 6), (2, 20, 20, 6, 6)), frame((9, 20, 22, 6, 6), (4, 1, 2, 6, 6))])
    assert summary(tracks) == ({1: {0: 1, 1: 4}, 2: {0: 2, 1: 9}}, [0, 0])
    assert (tracks.begin.tolist(), tracks.end.tolist(), tracks.divisions, tracks.gaps) == ([0, 0], [1, 1], 0, 0)
    assert tracks.centroid[0].tolist() == [2.5, 2.5] and tracks.area.tolist() == [36] * 4


def test_an_object_divides_in_two():
    frames = [frame((1, 10, 10, 8, 16)), frame((1, 10, 10, 8, 16)), frame((5, 10, 9, 8, 8), (6, 10, 19, 8, 8))]
    frames.append(frames[-1])
    tracks = track(frames)
    assert summary(tracks) == ({1: {0: 1, 1: 1}, 2: {2: 5, 3: 5}, 3: {2: 6, 3: 6}}, [0, 1, 1])
    assert tracks.divisions == 1
    undivided = track(frames, divisions=False)
    assert undivided.divisions == 0 and len(undivided) == 2


def test_a_new_neighbour_is_no_daughter():
    tracks = track(
        [frame((1, 10, 10, 8, 8)), frame((1, 10, 10, 8, 8), (2, 10, 19, 8, 8))]
        + 2 * [frame((1, 10, 10, 8, 8), (2, 10, 19, 8, 8))]
    )
    assert tracks.parent.tolist() == [0, 0]


def test_a_part_that_is_seen_once_is_no_daughter():
    torn = frame((5, 10, 10, 8, 10), (6, 10, 20, 8, 6))
    tracks = track([frame((1, 10, 10, 8, 16)), torn, frame((1, 10, 10, 8, 16))])
    assert summary(tracks) == ({1: {0: 1, 1: 5, 2: 1}, 2: {1: 6}}, [0, 0])


@pytest.mark.parametrize("gap", (0, 1, 2))
def test_an_object_may_be_missed(gap):
    there = frame((3, 10, 10, 8, 8), (4, 28, 40, 8, 8))
    missed = frame((4, 28, 40, 8, 8))
    tracks = track([there, missed, missed, there], gap=gap)
    assert len(tracks) == (2 if gap == 2 else 3)
    assert tracks.gaps == (1 if gap == 2 else 0)
    piece, before = tracks.pieces()
    assert sorted(zip(piece.tolist(), tracks.frame.tolist(), strict=True))[:1] == [(1, 0)]
    assert before.tolist() == ([0, 0, 1] if gap == 2 else [0, 0, 0])
    assert len(before) == 3


def test_pieces_have_parents_over_gaps_and_divisions():
    mother, none = frame((1, 10, 10, 8, 16)), frame()
    pair = frame((1, 10, 9, 8, 8), (2, 10, 19, 8, 8))
    tracks = track([mother, none, mother, pair, pair], max_distance=12)
    assert tracks.parent.tolist() == [0, 1, 1]
    piece, before = tracks.pieces()
    # The mother's second piece has the number 4, and is what her daughters come from.
    assert piece.tolist() == [1, 4, 2, 3, 2, 3]
    assert before.tolist() == [0, 4, 4, 1]


def test_times_that_are_missing_count_as_gaps():
    for gap, count in ((2, 1), (1, 2)):
        tracker = Tracker(gap=gap)
        tracker.add(frame_objects(frame((1, 10, 10, 8, 8)), 0))
        tracker.add(frame_objects(frame((1, 10, 10, 8, 8)), 3))
        assert len(tracker.finish()) == count


def test_the_optimum_is_that_of_all_objects_together():
    # The nearest pair first would leave the object at the right without a link.
    first = frame((1, 10, 10, 4, 4), (2, 10, 20, 4, 4))
    second = frame((1, 10, 16, 4, 4), (2, 10, 26, 4, 4))
    tracks = track([first, second], max_distance=9, drift=False)
    assert summary(tracks)[0] == {1: {0: 1, 1: 1}, 2: {0: 2, 1: 2}}


def test_features_decide_where_places_do_not():
    first = frame((1, 10, 10, 6, 6), (2, 10, 22, 6, 6))
    second = frame((1, 10, 16, 6, 6), (2, 22, 16, 6, 6))
    features = [np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])]
    tracks = track([first, second], max_distance=20, features=features, divisions=False, drift=False)
    assert summary(tracks)[0] == {1: {0: 1, 1: 2}, 2: {0: 2, 1: 1}}
    with pytest.raises(UsageError, match="features has 1 rows for a frame of 2 objects"):
        track([first], features=[np.zeros((1, 2))])


def test_empty_frames_and_single_ones():
    empty = track([frame(), frame()])
    assert (len(empty), empty.divisions, empty.gaps, len(empty.frame)) == (0, 0, 0, 0)
    assert not empty.relabel(0, frame()).any()
    alone = track([frame((7, 0, 0, 3, 3), (9, 9, 9, 3, 3))])
    assert alone.track.tolist() == [1, 2]
    late = track([*[frame()] * 40, frame((7, 0, 0, 3, 3)), frame((8, 0, 0, 3, 3))])
    assert summary(late)[0] == {1: {40: 7, 41: 8}}


def test_labels_get_the_numbers_of_their_tracks():
    far = 2_000_000_000
    first, second = frame((far, 0, 0, 6, 6), (3, 20, 20, 6, 6)), frame((1, 20, 20, 6, 6))
    tracks = track([first, second])
    assert tracks.relabel(0, first)[[0, 20], [0, 20]].tolist() == [2, 1]
    assert np.array_equal(tracks.relabel(1, second) == 1, second == 1)


def test_bad_parameters_and_frames_are_refused():
    for options, message in (
        ({"max_distance": 0.0}, "max_distance is 0.0, expected a number of pixels above 0"),
        ({"max_distance": float("nan")}, "max_distance is nan"),
        ({"gap": -1}, "gap is -1, expected 0 to 10 frames"),
        ({"window": 0}, "window is 0, expected 1 frame or more"),
    ):
        with pytest.raises(UsageError, match=message):
            track([frame()], **options)
    with pytest.raises(InstsegError, match="frame 1 has 3 x 4 pixels and frame 0 has 40 x 60, expected equal sizes"):
        track([frame(), np.zeros((3, 4), int)])
    with pytest.raises(UsageError, match="expected .H, W. integers"):
        track([np.zeros((3, 4))])
    with pytest.raises(InstsegError, match="there are no frames"):
        track([])
    tracker = Tracker()
    tracker.add(frame_objects(frame(), 3))
    with pytest.raises(InstsegError, match="frame 3 comes after frame 3"):
        tracker.add(frame_objects(frame(), 3))


def crowd(frames, count=45, size=110, seed=0):
    """Return frames of squares that move at random, with shuffled numbers, some missed."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(8, size - 16, (count, 2))
    for _ in range(frames):
        places = np.clip(places + rng.normal(0, 2, places.shape), 0, size - 8)
        labels = np.zeros((size, size), np.int32)
        for number, (row, column) in zip(rng.permutation(count) + 1, places.astype(int), strict=True):
            if rng.random() > 0.05:
                labels[row : row + 7, column : column + 7] = number
        yield labels


def test_a_window_gives_what_all_frames_at_once_give():
    whole = track(crowd(40), window=1000)
    by_parts = track(crowd(40), window=4)
    same = (whole.track == by_parts.track).mean()
    assert len(whole) > 46
    assert same > 0.95


def test_numbers_and_flips_change_nothing():
    frames = list(crowd(12))
    tracks = track(frames)
    flipped = track([labels[:, ::-1] for labels in frames])
    assert np.array_equal(tracks.track, flipped.track) and np.array_equal(tracks.parent, flipped.parent)


def test_all_objects_may_move_together():
    boxes = [(1, 5, 5, 6, 6), (2, 15, 22, 7, 4), (3, 22, 8, 5, 9)]
    first = frame(*boxes)
    second = frame(*((label + 3, top + 6, left + 24, height, width) for label, top, left, height, width in boxes))
    shift = common_shift(frame_objects(first), frame_objects(second, 1), np.zeros(2, np.int64))
    assert shift.tolist() == [6, 24]
    assert summary(track([first, second]))[0] == {1: {0: 1, 1: 4}, 2: {0: 2, 1: 5}, 3: {0: 3, 1: 6}}
    assert summary(track([first, second], drift=False, max_distance=8))[0] != {
        1: {0: 1, 1: 4},
        2: {0: 2, 1: 5},
        3: {0: 3, 1: 6},
    }


def test_a_single_object_has_no_drift():
    one, other = frame_objects(frame((1, 5, 5, 6, 6))), frame_objects(frame((1, 25, 25, 6, 6)), 1)
    assert common_shift(one, other, np.zeros(2, np.int64)).tolist() == [0, 0]


def test_the_reach_comes_from_motion_or_size():
    still = [frame_objects(frame((1, 5, 5, 8, 8)), time) for time in range(3)]
    assert typical_reach(still) == pytest.approx(0.75 * (64 * 4 / np.pi) ** 0.5)
    moving = [frame_objects(frame((1, 5, 5 + 8 * time, 8, 8)), time) for time in range(4)]
    assert typical_reach(moving) == pytest.approx(24)
    assert typical_reach([]) == 1


def test_pixels_that_two_frames_share():
    one = frame_objects(np.array([[1, 1, 0, 7]]))
    other = frame_objects(np.array([[0, 4, 4, 4]]), 1)
    assert [values.tolist() for values in overlaps(one, other)] == [[0, 1], [0, 0], [1, 1]]
    with_many = frame_objects(np.arange(1, 7).reshape(2, 3))
    first, second, pixels = overlaps(with_many, with_many)
    assert first.tolist() == second.tolist() == list(range(6)) and pixels.tolist() == [1] * 6


def test_candidates_stay_few_where_everything_is_in_reach():
    labels = np.kron(np.arange(1, 901).reshape(30, 30), np.pad(np.ones((3, 3), int), 1))
    one, other = frame_objects(labels), frame_objects(np.roll(labels, 1, axis=1), 1)
    links = find_links(one, other, reach=1000)
    assert len(links.first) <= 900 * 17
    assert len(find_divisions(one, other, links, reach=1000).gain) <= 900 * 17 * 16 / 2
    assert (np.bincount(links.first, minlength=900) >= 16).all()


def test_images_are_told_from_labels():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60_000, (64, 64))
    with pytest.raises(InstsegError, match="looks like an image"):
        frame_objects(noise)
    crowded = np.arange(1, 1025).reshape(32, 32).repeat(3, 0).repeat(3, 1)
    assert len(frame_objects(crowded)) == 1024
