import numpy as np
import pytest

from instseg.visualization.volumes import VolumePicture, volume_picture


@pytest.fixture
def volume():
    rng = np.random.default_rng(0)
    labels = np.zeros((6, 20, 30), np.int32)
    labels[1:3, 2:8, 3:12] = 1
    labels[2:5, 5:15, 8:20] = 2
    return rng.integers(0, 1000, labels.shape).astype(np.uint16), labels


def test_planes_are_shown_as_far_apart_as_they_are(volume):
    image, labels = volume
    flat, tall = (volume_picture(image, labels, spacing=(step, 1, 1)) for step in (1, 3))
    # The section below and that on the right are three times as high and as wide.
    assert tall.shape[0] - flat.shape[0] == 12
    assert tall.shape[1] - flat.shape[1] == 12


def test_spacing_counts_as_a_ratio(volume):
    image, labels = volume
    assert np.array_equal(
        volume_picture(image, labels, spacing=(4, 2, 2)), volume_picture(image, labels, spacing=(2, 1, 1))
    )


def test_slabs_give_the_picture_of_the_whole(volume):
    image, labels = volume
    picture = VolumePicture(image.shape, (2, 1, 1), at=(2, 6, 9))
    for begin, end in ((0, 1), (1, 4), (4, 6)):
        picture.add(image[begin:end], labels[begin:end])
    assert np.array_equal(picture.draw(), volume_picture(image, labels, spacing=(2, 1, 1), at=(2, 6, 9)))


def test_the_maximum_shows_the_object_of_the_first_planes():
    labels = np.zeros((4, 30, 30), np.int32)
    labels[1, 5:20, 5:20] = 3
    labels[2:, 10:28, 10:28] = 4
    picture = VolumePicture(labels.shape)
    picture.add(labels, labels)
    assert picture._nearest[12, 12] == 3
    assert picture._nearest[25, 25] == 4
    assert picture._nearest[0, 0] == 0


def test_outlines_are_in_all_four_views(volume):
    image, labels = volume
    dark = np.zeros_like(image)
    with_labels, without = volume_picture(dark, labels, at=(2, 6, 9)), volume_picture(dark, at=(2, 6, 9))
    changed = (with_labels != without).any(axis=2)
    height, width = changed.shape
    assert changed[:, :30].any()
    assert changed[: height // 2, 42:72].any()
    assert changed[: height // 2, 76:].any()
    assert changed[height - 6 :, 42:].any()
    assert width == 30 + 12 + 30 + 4 + 6


def test_a_colour_volume_keeps_its_colours():
    volume = np.zeros((3, 24, 24, 3), np.uint8)
    volume[:, 4:12, 4:12, 0] = 255
    picture = volume_picture(volume, at=(1, 20, 20))
    bright = picture[..., 0] > 240
    assert bright.sum() >= 64
    # Captions are light, and the lines of the sections gray; all else that is bright is red.
    assert (picture[bright][:, 1] == 0).sum() >= 64


def test_one_plane_is_a_volume():
    assert volume_picture(np.zeros((1, 8, 9), np.uint8)).dtype == np.uint8


def test_missing_planes_are_an_error(volume):
    picture = VolumePicture((8, 20, 30))
    picture.add(volume[0])
    with pytest.raises(ValueError, match="6 planes of 8"):
        picture.draw()
