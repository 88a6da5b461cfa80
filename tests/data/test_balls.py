"""Generated volumes of balls, and discs as balls of two axes."""

import numpy as np
import pytest

from instseg.data.balls import draw_balls, paint_balls
from instseg.errors import UsageError
from instseg.labels.regions import connected_components
from instseg.settings import BallSettings

SMALL = BallSettings(depth=16, size=48, min_balls=3, max_balls=6)


def paint(centres, squared_radii, shape=(9, 20, 20), spacing=(2.0, 1.0, 1.0), noise=0.0):
    grays = 40_000.0 + 1_000.0 * np.arange(len(centres))
    centres, radii = np.array(centres, float), np.array(squared_radii, float)
    return paint_balls(np.random.default_rng(0), shape, 8_000.0, centres, radii, grays, spacing=spacing, noise=noise)


def test_a_volume_depends_on_the_state_of_the_generator_only():
    one, other = (draw_balls(np.random.default_rng(seed), SMALL) for seed in (4, 4))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])
    volume, labels = one
    assert (volume.dtype, labels.dtype, volume.shape, labels.shape) == (np.uint16, np.int32, (16, 48, 48), (16, 48, 48))
    assert (volume.min(), volume.max()) == (0, 65_535)
    assert not np.array_equal(draw_balls(np.random.default_rng(5), SMALL)[1], labels)


@pytest.mark.parametrize("seed", range(5))
def test_labels_have_no_gaps(seed):
    labels = draw_balls(np.random.default_rng(seed), BallSettings(depth=10, size=40, min_balls=20, max_balls=30))[1]
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


def test_a_ball_is_as_deep_as_wide_in_pixels():
    _, labels = paint([(4, 10, 10)], [36])
    z, y, x = np.nonzero(labels)
    assert (np.ptp(y), np.ptp(x)) == (12, 12)
    # Planes are two pixels apart.
    assert np.ptp(z) == 6
    inside = (2 * (z - 4)) ** 2 + (y - 10) ** 2 + (x - 10) ** 2
    assert inside.max() <= 36
    assert len(z) == np.count_nonzero(
        (2 * (np.arange(9) - 4)[:, None, None]) ** 2 + (np.arange(20) - 10)[:, None] ** 2 + (np.arange(20) - 10) ** 2
        <= 36
    )


def test_later_balls_cover_earlier_ones():
    volume, labels = paint([(4, 10, 8), (4, 10, 12)], [36, 36])
    assert labels[4, 10, 10] == 2
    assert set(np.unique(labels)) == {0, 1, 2}
    assert connected_components((labels > 0).astype(np.int32)).max() == 1
    # The second is brighter, and the ground is darkest.
    assert volume[4, 10, 14] == 65_535
    assert 0 < volume[4, 10, 4] < 65_535
    assert volume[0, 0, 0] == 0


def test_balls_may_lie_outside():
    _, labels = paint([(-3, 10, 10), (4, -30, 10), (8, 19, 19)], [64, 64, 25])
    assert set(np.unique(labels)) == {0, 1, 3}
    assert (labels[0] == 1).any()
    assert not (labels[4] == 1).any()


def test_noise_is_mixed_in_plane_by_plane():
    quiet, noisy = (paint([(4, 10, 10)], [36], noise=noise)[0].astype(float) for noise in (0.0, 0.05))
    ground = paint([(4, 10, 10)], [36])[1] == 0
    assert quiet[ground].std() == 0
    assert noisy[ground].std() > 0
    # Each plane has noise of its own.
    assert not np.array_equal(noisy[0], noisy[8])


def test_discs_are_balls_of_two_axes():
    _, labels = paint([(10, 9)], [25], shape=(20, 20), spacing=(1.0, 1.0))
    rows, columns = np.nonzero(labels)
    assert ((rows - 10) ** 2 + (columns - 9) ** 2).max() <= 25
    assert len(rows) == 81


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"size": 5_000}, "size is 5000, expected at most 4096 pixels for a volume"),
        ({"spacing_z": 20.0}, "spacing_z is 20.0, expected 0.1 to 10 pixels"),
        ({"min_balls": 9, "max_balls": 8}, "max_balls is 8, expected at least `min_balls`"),
        ({"noise": 1.5}, "noise is 1.5"),
    ],
)
def test_settings_out_of_bounds_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        BallSettings(**values)
