"""Levels that somebody chooses, and pixels that do not count."""

import numpy as np
import pytest

from instseg.errors import UsageError
from instseg.preprocessing.channels import inverted_channels
from instseg.preprocessing.level_choice import LevelChoice, parse_range
from instseg.preprocessing.levels import image_levels
from instseg.preprocessing.normalisation import percentiles
from instseg.tiling.grid import Box

RULES = ["robust", "percentiles"]
ROWS, COLUMNS = np.indices((300, 400))
DISCS = np.hypot(ROWS % 60 - 30, COLUMNS % 60 - 30) < 10
# Black triangles in the corners, as of an image that was turned.
TURNED = (ROWS + COLUMNS < 150) | (ROWS + COLUMNS > 550)


def scene(dtype=np.uint16):
    values = np.random.default_rng(0).normal(1000, 20, ROWS.shape) + 2000 * DISCS
    return np.rint(values).astype(dtype)[..., None]


@pytest.mark.parametrize("rule", RULES)
def test_values_that_are_given_become_the_levels_of_every_channel(rule):
    image = np.concatenate([scene(), scene() // 2], axis=-1)
    low, high = LevelChoice(levels=(-7, 4000)).of_image(image, rule)
    assert (low.tolist(), high.tolist()) == ([-7, -7], [4000, 4000])
    assert low.dtype == high.dtype == np.float32


@pytest.mark.parametrize("rule", RULES)
def test_percentiles_that_are_given_are_those_of_each_channel(rule):
    image = np.concatenate([scene(), scene() // 2], axis=-1)
    low, high = LevelChoice(percentiles=(5, 90)).of_image(image, rule)
    np.testing.assert_allclose([low, high], np.percentile(image, [5, 90], axis=(0, 1)), rtol=1e-6)


def test_an_inverted_channel_has_the_same_pixels_between_its_levels():
    image = scene()
    negative = -image.astype(np.float32)
    for choice in (LevelChoice(levels=(1100, 2500)), LevelChoice(percentiles=(5, 90))):
        low, high = choice.of_image(image, "robust")
        dark_low, dark_high = choice.of_image(negative, "robust", (True,))
        np.testing.assert_allclose([dark_low, dark_high], [-high, -low], rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "channels", "choice", "expected"),
    [
        (1, 1, None, (False,)),
        (3, 1, "dark", (True,)),
        (3, 2, "dark,2", (True, False)),
        (1, 3, "dark", (True, True, True)),
        # A choice that the image has not the channels for is not made.
        (1, 1, "2", (False,)),
    ],
)
def test_which_channels_are_inverted(count, channels, choice, expected):
    assert inverted_channels(count, channels, choice) == expected


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("rule", RULES)
def test_pixels_that_do_not_count_change_no_level(rule, dtype):
    image = scene(dtype)
    padded = np.where(TURNED[..., None], 0, image).astype(dtype)
    spread = 2000
    counted = np.array(LevelChoice().of_image(padded, rule, counted=~TURNED)).ravel()
    within = np.array(image_levels(image, rule)).ravel()
    assert np.abs(counted - within).max() < 0.01 * spread
    # They would change it by a lot.
    assert image_levels(padded, rule)[0][0] == 0
    assert np.array_equal(LevelChoice().of_image(image, rule, counted=TURNED | True), image_levels(image, rule))


def test_hot_pixels_and_sparse_objects_are_found_beside_pixels_that_do_not_count():
    values = np.random.default_rng(0).normal(1000, 20, ROWS.shape)
    values[np.hypot(ROWS - 150, COLUMNS - 200) < 9] += 2000
    values[::37, ::41] = 60_000
    image = np.rint(values).astype(np.uint16)[..., None]
    padded = np.where(TURNED[..., None], 0, image)
    low, high = image_levels(padded, "robust", ~TURNED)
    assert 900 < low[0] < 1000
    assert 2900 < high[0] < 3200


@pytest.mark.parametrize("rule", RULES)
def test_where_nothing_counts_levels_are_zero(rule):
    nothing = np.zeros(ROWS.shape, bool)
    low, high = image_levels(scene(), rule, nothing)
    assert (low.tolist(), high.tolist()) == ([0], [0])
    low, high = LevelChoice(percentiles=(1, 99)).of_image(scene(), rule, counted=nothing)
    assert (low.tolist(), high.tolist()) == ([0], [0])


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 3), (4, 7), (5, 4), (33, 18)])
def test_images_of_any_size_have_levels_where_some_pixels_do_not_count(shape):
    values = np.random.default_rng(1).integers(1, 200, (*shape, 1)).astype(np.uint8)
    values[0, 0] = 0
    low, high = image_levels(values, "robust", values[..., 0] > 0)
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("choice", [LevelChoice(percentiles=(5, 95)), LevelChoice(ignore_zeros=True)])
def test_an_estimate_from_all_parts_is_near_the_levels(choice):
    image = np.where(TURNED[..., None], 0, scene()).astype(np.uint16)
    counted = ~TURNED if choice.ignore_zeros else None

    def read(box: Box):
        rows, columns = box.slices_in(Box(0, 0, *TURNED.shape))
        return image[rows, columns], None if counted is None else counted[rows, columns]

    estimate = choice.estimate(TURNED.shape, read, "robust")
    np.testing.assert_allclose(estimate, choice.of_image(image, "robust", counted=counted), atol=40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (1e39, 1e40)}, "levels is 1e\\+39,1e\\+40, expected two numbers that float32 holds"),
        ({"levels": (100_000_000, 100_000_001)}, "that float32 holds and tells apart"),
        ({"levels": (5, 5)}, "levels is 5,5, expected two numbers, LOW,HIGH, of which the first is the smaller"),
        ({"levels": (float("nan"), 5)}, "levels is nan,5, expected two numbers"),
        ({"levels": (0, float("inf"))}, "levels is 0,inf, expected two numbers"),
        ({"levels": (1, 2, 3)}, "levels is 1,2,3, expected two numbers"),
        ({"levels": 7}, "levels is 7, expected two numbers"),
        ({"levels": ("a", "b")}, "levels is a,b, expected two numbers"),
        ({"percentiles": (90, 10)}, "percentiles is 90,10, expected two numbers"),
        ({"percentiles": (-1, 10)}, "percentiles is -1,10, expected numbers from 0 to 100"),
        ({"percentiles": (1, 100.5)}, "percentiles is 1,100.5, expected numbers from 0 to 100"),
        ({"percentiles": (1, 99), "levels": (1, 2)}, "`levels` and `percentiles` exclude each other"),
    ],
)
def test_choices_that_mean_nothing_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        LevelChoice(**options)


def test_a_range_is_read_from_a_text():
    assert parse_range("-100.5, 4e3", "levels") == (-100.5, 4000)
    for text in ("", "1", "1,2,3", "1;2", "low,high"):
        with pytest.raises(UsageError, match=f"levels is {text}, expected two numbers with a comma between them"):
            parse_range(text, "levels")


def test_percentiles_count_what_counts():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    counted = image[..., 0] > 5
    assert percentiles(image, 0, 100, counted)[0].tolist() == [6]
