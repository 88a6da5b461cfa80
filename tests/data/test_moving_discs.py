"""Discs that move and divide, and their tracks."""

import numpy as np
import pytest

from instseg.data.generate_frames import generate_frames
from instseg.data.moving_discs import DiscTracks, draw_moving_discs
from instseg.errors import UsageError
from instseg.settings import DiscSettings

SMALL = DiscSettings(size=128, min_discs=8, max_discs=30)


def draw(frames, seed=0):
    tracks = DiscTracks()
    return list(draw_moving_discs(frames, seed, SMALL, tracks)), tracks


def test_a_sequence_depends_on_its_seed_only():
    (short, _), (long, _), (other, _) = draw(3), draw(6), draw(3, seed=1)
    for (image, labels), (same, same_labels) in zip(short, long, strict=False):
        assert np.array_equal(image, same) and np.array_equal(labels, same_labels)
    assert not np.array_equal(short[0][0], other[0][0])


def test_tracks_say_what_labels_show():
    frames, tracks = draw(40)
    for track, (begin, end) in enumerate(zip(tracks.begin, tracks.end, strict=True), start=1):
        shown = [frame for frame, (_, labels) in enumerate(frames) if (labels == track).any()]
        assert shown == list(range(begin, end + 1))


def test_discs_divide_into_two_of_half_the_area():
    frames, tracks = draw(40)
    mothers = {parent: [n for n, of in enumerate(tracks.parent, start=1) if of == parent] for parent in tracks.parent}
    mothers.pop(0)
    pairs = {mother: daughters for mother, daughters in mothers.items() if len(daughters) == 2}
    assert len(pairs) >= 5
    shares = []
    for mother, daughters in pairs.items():
        assert {tracks.begin[daughter - 1] for daughter in daughters} == {tracks.end[mother - 1] + 1}
        before, after = (frames[tracks.end[mother - 1] + step][1] for step in (0, 1))
        shares.append(np.isin(after, daughters).sum() / (before == mother).sum())
    assert 0.9 < np.median(shares) < 1.15


def test_bad_parameters_are_refused(tmp_path):
    for options, message in (
        ({"frames": 0}, "frames is 0, expected 1 to 10000"),
        ({"frames": 1, "seed": -1}, "seed is"),
    ):
        with pytest.raises(UsageError, match=message):
            generate_frames(tmp_path, **options)
