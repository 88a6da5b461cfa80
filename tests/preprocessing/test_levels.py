"""Levels of images that are empty, sparse, crowded, framed, spotted or saturated, and of large ones from parts."""

import numpy as np
import pytest

from instseg.data.discs import draw_discs
from instseg.errors import UsageError
from instseg.preprocessing import levels
from instseg.preprocessing.levels import estimate_levels, image_levels, picture_box
from instseg.preprocessing.normalisation import percentiles
from instseg.settings import DiscSettings
from instseg.tiling.grid import Box

SIZE = (300, 400)
ROWS, COLUMNS = np.indices(SIZE)
DISC = np.hypot(ROWS - 100, COLUMNS - 200) < 9
# Objects over a third of the image.
CROWD = np.hypot(ROWS % 30 - 15, COLUMNS % 30 - 15) < 10


def noise(spread, mean=100, seed=0):
    return np.random.default_rng(seed).normal(mean, spread, SIZE)


def as_image(values, dtype=np.uint8):
    return np.rint(values).clip(0, np.iinfo(dtype).max).astype(dtype)[..., None]


def levels_of(values, dtype=np.uint8, rule="robust"):
    return tuple(float(level[0]) for level in image_levels(as_image(values, dtype), rule))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_of_an_ordinary_image_are_its_percentiles(dtype):
    image = as_image(noise(5) + 100 * CROWD, dtype)
    assert np.array_equal(image_levels(image), percentiles(image))
    assert np.array_equal(image_levels(255 - image), percentiles(255 - image))
    discs = draw_discs(np.random.default_rng(0), DiscSettings())[0][..., None]
    assert np.array_equal(image_levels(discs), percentiles(discs))


@pytest.mark.parametrize("spread", [1, 4, 15])
def test_noise_is_not_stretched(spread):
    low, high = levels_of(noise(spread))
    assert low == np.percentile(as_image(noise(spread)), 1)
    assert high - low == pytest.approx(levels.NOISE_EXTENT * spread, rel=0.05)
    poisson = np.random.default_rng(0).poisson(spread**2, SIZE)
    low, high = levels_of(poisson, np.uint16)
    assert high - low == pytest.approx(levels.NOISE_EXTENT * spread, rel=0.3)


def test_noise_of_less_than_a_value_is_not_stretched():
    low, high = levels_of(noise(0.3, mean=20.4))
    assert high - low > 5


def test_speckles_of_one_value_are_nothing():
    values = np.where(np.random.default_rng(0).random(SIZE) < 0.01, 21, 20)
    assert levels_of(values) == (20, 20)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("spread", [0, 1, 4])
def test_one_object_has_its_contrast(spread, dtype):
    """It covers 0.2 % of the image, so that percentiles are those of the ground."""
    low, high = levels_of(noise(spread, mean=30) + 170 * DISC, dtype)
    assert high == pytest.approx(200, abs=2 * spread)
    assert low == pytest.approx(30, abs=3 * spread)


@pytest.mark.parametrize("spread", [0, 1, 4])
def test_one_dark_object_has_its_contrast(spread):
    low, high = levels_of(noise(spread, mean=220) - 170 * DISC)
    assert low == pytest.approx(50, abs=2 * spread)
    assert high == pytest.approx(220, abs=4 * spread)


def test_dust_is_not_the_brightest_object():
    """Nuclei of 250 pixels at 100, and a speck of 9 pixels at 250."""
    dusty = noise(2, mean=20) + 80 * DISC
    dusty[200:203, 300:303] = 250
    assert levels_of(dusty)[1] == pytest.approx(100, abs=5)


@pytest.mark.parametrize("objects", [DISC, CROWD], ids=["sparse", "crowded"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hot_pixels_do_not_move_levels(objects, dtype):
    clean = noise(3, mean=30) + 100 * objects
    hot = np.where(np.random.default_rng(1).random(SIZE) < 0.004, np.iinfo(dtype).max, clean)
    np.testing.assert_allclose(levels_of(hot, dtype), levels_of(clean, dtype), atol=4)
    dead = np.where(np.random.default_rng(1).random(SIZE) < 0.004, 0, clean)
    np.testing.assert_allclose(levels_of(dead, dtype), levels_of(clean, dtype), atol=4)


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("objects", [DISC, CROWD], ids=["sparse", "crowded"])
@pytest.mark.parametrize("widths", [((60, 60), (60, 60)), ((0, 200), (0, 0)), ((3, 0), (0, 90))])
def test_a_border_does_not_move_levels(value, objects, widths):
    picture = as_image(noise(3, mean=30) + 100 * objects)
    framed = np.pad(picture, (*widths, (0, 0)), constant_values=value)
    (top, _), (left, _) = widths
    assert picture_box(framed) == Box(top, left, top + SIZE[0], left + SIZE[1])
    assert np.array_equal(image_levels(framed), image_levels(picture))


def test_two_borders_that_meet():
    picture = as_image(noise(3) + 50 * CROWD)
    framed = np.pad(np.pad(picture, ((0, 20), (0, 0), (0, 0))), ((10, 0), (30, 0), (0, 0)), constant_values=255)
    framed = framed[:, 30:]
    assert picture_box(framed) == Box(10, 0, 310, 400)


def test_ground_without_noise_is_no_border():
    """What is around the objects is like what is between them."""
    image = as_image(200 * (CROWD & (ROWS > 60) & (ROWS < 240)))
    assert picture_box(image) == Box(0, 0, *SIZE)
    assert image_levels(image)[0].tolist() == [0]
    assert picture_box(as_image(200 * DISC)) == Box(0, 0, *SIZE)
    assert picture_box(as_image(np.full(SIZE, 255))) == Box(0, 0, *SIZE)


def test_a_border_is_around_all_channels():
    image = np.zeros((50, 60, 2), np.uint8)
    image[10:50, 5:60, 0] = np.arange(1, 2201).reshape(40, 55) % 255 + 1
    image[20:50, 5:55, 1] = np.arange(1, 1501).reshape(30, 50) % 255 + 1
    assert picture_box(image) == Box(10, 5, 50, 60)


def test_saturated_images_keep_their_percentiles():
    image = as_image(noise(5) + 300 * CROWD)
    assert np.array_equal(image_levels(image), percentiles(image))


def test_12_bits_in_16_are_like_8_bits():
    values = noise(3, mean=40) + 100 * DISC
    np.testing.assert_allclose(np.array(levels_of(16 * values, np.uint16)) / 16, levels_of(values), rtol=0.03)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_one_value_gives_equal_levels(value):
    assert levels_of(np.full(SIZE, value)) == (value, value)


def test_floats_are_like_integers():
    values = np.rint(noise(3) + 50 * DISC)
    for shift, scale in ((0, 1), (-100, 1), (-1000, -1)):
        image = (values * scale + shift)[..., None]
        found = np.sort(np.ravel(image_levels(image)))
        other = np.ravel(image_levels(image.astype(np.float32)))
        np.testing.assert_allclose(found, other)
        if scale == 1:
            np.testing.assert_allclose(found - shift, np.array(levels_of(values)), rtol=1e-6)


def test_bands_do_not_show(monkeypatch):
    hot = as_image(np.where(np.random.default_rng(1).random(SIZE) < 0.004, 255, noise(3) + 50 * DISC))
    whole = image_levels(hot)
    monkeypatch.setattr(levels, "_BAND", 2000)
    assert np.array_equal(image_levels(hot), whole)


def test_channels_have_levels_of_their_own():
    one, other = as_image(noise(3) + 50 * DISC), as_image(noise(5) + 90 * CROWD)
    both = np.concatenate([one, other], axis=2)
    found = np.array(image_levels(both))
    assert np.array_equal(found, np.concatenate([image_levels(one), image_levels(other)], axis=1))
    assert found.dtype == np.float32


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (4, 4), (5, 5), (2, 300), (7, 6)])
def test_images_of_few_pixels_have_levels(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 1)).astype(np.uint8)
    low, high = image_levels(image)
    assert low <= image.max()
    assert high >= low


@pytest.mark.parametrize("values", [2, 5, 256])
def test_levels_are_finite_and_in_order(values):
    rng = np.random.default_rng(0)
    for _ in range(100):
        image = rng.integers(0, values, (*rng.integers(1, 13, 2), 1)).astype(np.uint8)
        low, high = image_levels(image)
        assert np.isfinite([low, high]).all()
        assert high >= low
        if image.max() == image.min():
            assert low == high == image.max()


def test_other_shapes_are_refused():
    with pytest.raises(UsageError, match="expected"):
        image_levels(np.zeros(SIZE, np.uint8))
    with pytest.raises(UsageError, match="expected"):
        image_levels(np.zeros((0, 4, 1), np.uint8))


def test_the_rule_of_percentiles_is_that_of_earlier_models():
    image = as_image(noise(3) + 50 * DISC)
    assert np.array_equal(image_levels(image, "percentiles"), percentiles(image))


@pytest.mark.parametrize("rule", ["robust", "percentiles"])
def test_estimated_levels_are_nearly_those_of_the_whole(rule):
    image = draw_discs(np.random.default_rng(0), DiscSettings(size=2500, min_discs=1500, max_discs=1500))[0][..., None]
    image = np.pad(image, ((0, 500), (0, 0), (0, 0)), constant_values=65535)
    found = estimate_levels(image.shape[:2], lambda box: image[box.top : box.bottom, box.left : box.right], rule)
    np.testing.assert_allclose(found, image_levels(image, rule), rtol=0.03)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_rounded_noise_of_a_few_values_is_not_taken_for_objects(kind):
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(3, 0.3, (256, 256)))
    # Patches in which noise is on one side, as where the background is uneven, cover less than 1 %.
    for top, left in rng.integers(0, 248, (8, 2)):
        values[top : top + 8, left : left + 8] = 4
    low, high = image_levels(values.astype(kind)[..., None])
    assert high[0] - low[0] == pytest.approx(30)
    # What is a value brighter than a ground without noise is an object.
    mask = np.zeros((100, 100), kind)
    mask[40:48, 50:58] = 1
    assert [float(level[0]) for level in image_levels(mask[..., None])] == [0, 1]
