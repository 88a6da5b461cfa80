"""Tiles of pixels as pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from instseg.errors import UsageError
from instseg.io.source import ArrayReader
from instseg.labelling.server.rendering import (
    ShownChannel,
    encode_png,
    level_count,
    read_level,
    tile_box,
    to_colours,
)
from instseg.tiling.grid import Box


def test_a_png_is_what_was_encoded():
    colours = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(colours)))), colours)
    dot = np.array([[[1, 2, 3]]], np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(dot)))), dot)


@pytest.mark.parametrize(
    ("size", "levels"), [((1, 1), 1), ((512, 512), 1), ((513, 20), 2), ((1024, 1024), 2), ((4096, 4097), 5)]
)
def test_at_the_last_level_one_tile_shows_all(size, levels):
    assert level_count(*size) == levels
    assert tile_box(size, levels - 1, 0, 0) == Box(0, 0, *size)


def test_tiles_end_with_the_image():
    assert tile_box((700, 1100), 0, 1, 2) == Box(512, 1024, 700, 1100)
    assert tile_box((700, 1100), 1, 0, 1) == Box(0, 1024, 700, 1100)
    for place in ((0, 2, 0), (0, 0, 3), (3, 0, 0), (1, 1, 0), (0, -1, 0)):
        with pytest.raises(UsageError):
            tile_box((700, 1100), *place)


def test_a_level_holds_the_means_of_squares():
    image = np.array([[0, 2, 10, 10, 7], [4, 6, 10, 11, 9], [1, 1, 0, 0, 3]], np.uint16)[:, :, np.newaxis]
    whole = Box(0, 0, 3, 5)
    np.testing.assert_array_equal(read_level(ArrayReader(image), whole, 0), image)
    assert read_level(ArrayReader(image), whole, 1)[:, :, 0].tolist() == [[3, 10, 8], [1, 0, 3]]
    assert read_level(ArrayReader(image), whole, 1).dtype == np.uint16
    assert read_level(ArrayReader(image / 2), whole, 1)[0, 1, 0] == 10.25 / 2


def test_a_level_does_not_depend_on_how_much_is_read_at_once(monkeypatch):
    from instseg.labelling.server import rendering

    image = ArrayReader(np.random.default_rng(0).integers(0, 255, (130, 70, 2)).astype(np.uint8))
    whole = Box(0, 0, 130, 70)
    at_once = read_level(image, whole, 3)
    monkeypatch.setattr(rendering, "_BAND_PIXELS", 16 * 70)
    np.testing.assert_array_equal(read_level(image, whole, 3), at_once)


def test_of_a_streamed_image_pixels_are_picked():
    class Streamed(ArrayReader):
        streamed = True

    image = np.arange(48, dtype=np.uint8).reshape(6, 8, 1)
    assert read_level(Streamed(image), Box(0, 0, 6, 8), 2)[:, :, 0].tolist() == [[0, 4], [32, 36]]


def test_colours_of_channels_add_up():
    pixels = np.array([[[0, 100], [50, 50], [100, 0], [200, 200]]], np.uint8)
    shown = [ShownChannel(0, (255, 0, 0), 0, 100), ShownChannel(1, (255, 255, 0), 0, 200)]
    assert to_colours(pixels, shown).tolist() == [[[128, 128, 0], [191, 64, 0], [255, 0, 0], [255, 255, 0]]]


def test_gamma_brightens_what_is_dark():
    pixels = np.array([[[25], [100]]], np.uint8)
    assert to_colours(pixels, [ShownChannel(0, (255, 255, 255), 0, 100, 0.5)])[0, :, 0].tolist() == [128, 255]
    for wrong in (0, 11, float("nan")):
        with pytest.raises(UsageError, match="gamma"):
            ShownChannel(0, (255, 255, 255), 0, 1, wrong)


def test_equal_levels_divide_by_nothing():
    pixels = np.array([[[4], [5], [6]]], np.uint8)
    assert to_colours(pixels, [ShownChannel(0, (255, 255, 255), 5, 5)])[0, :, 0].tolist() == [0, 0, 255]
