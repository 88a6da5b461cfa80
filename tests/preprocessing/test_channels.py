"""Channels chosen, mixed, and made to fit a network."""

import numpy as np
import pytest

from instseg.errors import InstsegError, UsageError
from instseg.preprocessing.channels import ChannelMix, has_channels, match_channels, parse_channels, select_channels
from instseg.preprocessing.normalisation import normalise, percentiles

RGB = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
RED, GREEN, BLUE = (RGB[..., [channel]] for channel in range(3))


@pytest.mark.parametrize(
    ("choice", "mixes"),
    [
        ("1", [(0,)]),
        ("12", [(11,)]),
        ("3,1", [(2,), (0,)]),
        ("Red, blue", [(0,), (2,)]),
        ("1+2,3", [(0, 1), (2,)]),
        ("green+2", [(1, 1)]),
        ("gray", [()]),
        ("gray,1", [(), (0,)]),
    ],
)
def test_choices_are_read(choice, mixes):
    assert parse_channels(choice) == tuple(ChannelMix(channels) for channels in mixes)


def test_dark_is_the_mean_of_all_inverted():
    assert parse_channels("Dark,1") == (ChannelMix((), inverted=True), ChannelMix((0,)))
    selected = select_channels(RGB, "dark,2")
    np.testing.assert_allclose(selected[..., 0], -RGB.mean(axis=-1), rtol=1e-6)
    np.testing.assert_array_equal(selected[..., 1:], GREEN)
    assert selected.dtype == np.float32
    # Normalised, the darkest become the brightest.
    normalised = normalise(selected[..., :1], *percentiles(selected[..., :1], 0, 100))
    np.testing.assert_allclose(normalised, 1 - normalise(RGB.mean(-1)[..., None], 1, 22), atol=1e-6)


@pytest.mark.parametrize(
    "choice", ["", "0", "-1", "1,", "1++2", "yellow", "1.5", "2²", "gray+1", "dark+1", "999999", "1;2"]
)
def test_what_is_no_choice_is_refused(choice):
    with pytest.raises(UsageError, match="^channels is '.*', expected numbers from 1, red"):
        parse_channels(choice)


def test_chosen_channels_keep_values_and_type():
    np.testing.assert_array_equal(select_channels(RGB, "2"), GREEN)
    np.testing.assert_array_equal(select_channels(RGB, "blue,red"), RGB[..., [2, 0]])
    assert select_channels(RGB, "blue,red").dtype == np.uint8
    np.testing.assert_array_equal(select_channels(RED, "gray"), RED)
    assert select_channels(RED, "gray").dtype == np.uint8


def test_rgb_takes_images_of_any_number_of_channels():
    assert parse_channels("RGB") == (ChannelMix((0,)), ChannelMix((1,)), ChannelMix((2,)))
    assert all(has_channels(count, "rgb") for count in (1, 2, 3, 5))
    np.testing.assert_array_equal(select_channels(RGB, "rgb"), RGB)
    np.testing.assert_array_equal(select_channels(RED, "rgb"), np.repeat(RED, 3, axis=2))
    two = select_channels(RGB[..., :2], "rgb")
    np.testing.assert_array_equal(two, np.repeat(RGB[..., :2].mean(axis=-1, keepdims=True), 3, axis=2))
    assert match_channels(RGB[..., :2], 3, "rgb").shape == (2, 4, 3)


def test_means_by_hand():
    image = np.array([[[10, 21, 3]]], np.uint16)
    mixed = select_channels(image, "1+2,gray,3")
    np.testing.assert_allclose(mixed, [[[15.5, 34 / 3, 3]]], rtol=1e-6)
    assert mixed.dtype == np.float32
    # Not in the image's own type, where this would overflow.
    assert select_channels(np.full((1, 1, 2), 65_535, np.uint16), "gray")[0, 0, 0] == 65_535


def test_channels_that_are_not_there_are_named():
    assert has_channels(3, "3")
    assert not has_channels(3, "1,2+4")
    with pytest.raises(InstsegError, match="the image has 3 channels, but `channels='1,2[+]4'` takes channel 4"):
        select_channels(RGB, "1,2+4")


def test_the_channels_of_the_training_are_chosen_where_the_image_has_them():
    np.testing.assert_array_equal(match_channels(RGB, 1, "blue"), BLUE)
    np.testing.assert_array_equal(match_channels(RED, 1, "blue"), RED)
    np.testing.assert_array_equal(match_channels(RGB, 3, None), RGB)
    np.testing.assert_array_equal(match_channels(RGB, 3, "3,2,1"), RGB[..., ::-1])


def test_gray_and_rgb_become_each_other_where_nothing_is_lost():
    np.testing.assert_array_equal(match_channels(RED, 3, None), np.repeat(RED, 3, axis=2))
    np.testing.assert_array_equal(match_channels(np.repeat(RED, 3, axis=2), 1, None), RED)


@pytest.mark.parametrize(
    ("count", "wanted", "advice"),
    [(3, 1, "choose some by `channels`"), (4, 3, "choose some"), (2, 3, "convert the image"), (1, 2, "convert")],
)
def test_other_numbers_are_refused_with_what_to_do(count, wanted, advice):
    image = np.arange(8 * count, dtype=np.uint8).reshape(2, 4, count)
    with pytest.raises(InstsegError, match=f"the image has {count} channel.*, the model takes {wanted} .*{advice}"):
        match_channels(image, wanted, None)


@pytest.mark.parametrize("choice", ["2", "3,1", "1+3", "gray", "dark", "rgb"])
def test_channels_of_a_volume_are_those_of_its_planes(choice):
    volume = np.random.default_rng(0).integers(0, 255, (4, 2, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        select_channels(volume, choice), np.stack([select_channels(plane, choice) for plane in volume])
    )


def test_a_gray_volume_becomes_one_of_three_equal_channels():
    volume = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    for colour in (select_channels(volume, "rgb"), match_channels(volume, 3, None)):
        np.testing.assert_array_equal(colour, np.repeat(volume, 3, axis=3))
    np.testing.assert_array_equal(match_channels(colour, 1, None), volume)


def test_channels_that_a_volume_has_not_are_named():
    with pytest.raises(InstsegError, match="the image has 1 channel .gray., but `channels='2'` takes channel 2"):
        select_channels(np.zeros((4, 2, 5, 1)), "2")
