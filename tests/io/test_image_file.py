"""Which way up pixels are shown."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from instseg.io.image_file import is_turned, upright, valid_orientation

PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_exif(orientation):
    picture = Image.fromarray(PIXELS)
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(upright(PIXELS, orientation), expected)
    assert is_turned(orientation) == (expected.shape == (3, 2))


@pytest.mark.parametrize("value", [None, 0, 9, -1, "6", (6,), 6.0])
def test_a_number_without_meaning_turns_nothing(value):
    assert valid_orientation(value) == 1
