"""Label images of other tools: numbers, palettes, colours."""

import numpy as np
import pytest
from PIL import Image

from instseg.io.coloured_labels import read_foreign_labels
from instseg.io.image_file import ImageFileError

NUMBERS = np.array([[0, 1, 1, 0], [0, 0, 2, 2]], np.uint8)
COLOURS = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 255]], np.uint8)


def palette(path, numbers, colours, **options):
    picture = Image.fromarray(numbers).convert("L")
    picture.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_indices_of_a_palette(tmp_path, suffix):
    # Two indices of one colour are two objects.
    path = palette(tmp_path / f"a{suffix}", NUMBERS, [[0, 0, 0], [9, 9, 9], [9, 9, 9]] + [[0, 0, 0]] * 253)
    read = read_foreign_labels(path)
    np.testing.assert_array_equal(read.labels, NUMBERS)
    assert read.ignored is None


@pytest.mark.parametrize(("colour", "ignored"), [((224, 224, 192), True), ((1, 2, 3), False)])
def test_rims_of_pascal_voc(tmp_path, colour, ignored):
    numbers = NUMBERS.copy()
    numbers[0, 3] = 255
    read = read_foreign_labels(palette(tmp_path / "a.png", numbers, [[0, 0, 0]] * 255 + [colour]))
    assert (read.ignored is not None) == ignored
    if ignored:
        np.testing.assert_array_equal(read.labels, NUMBERS)
        np.testing.assert_array_equal(read.ignored, numbers == 255)
    else:
        np.testing.assert_array_equal(read.labels, numbers)


@pytest.mark.parametrize(
    ("background", "other"), [((0, 0, 0), (0, 9, 0)), ((255, 255, 255), (0, 9, 0)), ((0, 0, 0), (255,) * 3)]
)
def test_colours(png, background, other):
    colours = np.array([background, (200, 0, 0), other], np.uint8)
    labels = read_foreign_labels(png(colours[NUMBERS])).labels
    # The numbers of colours are those of their order.
    np.testing.assert_array_equal(labels, NUMBERS if other[0] else np.array([0, 2, 1])[NUMBERS])


def test_numbers_in_three_equal_channels_are_kept(png):
    numbers = NUMBERS.astype(np.uint16) * 300
    np.testing.assert_array_equal(read_foreign_labels(png(np.stack([numbers] * 3, -1))).labels, numbers)
    np.testing.assert_array_equal(read_foreign_labels(png(numbers)).labels, numbers)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (COLOURS[np.minimum(NUMBERS, 1)], "it looks like a binary mask"),
        (np.uint8([255]) * np.minimum(NUMBERS, 1), "it looks like a binary mask"),
        (COLOURS[NUMBERS] + np.uint8([0, 1, 0]), "in 3 colours and has neither black nor white for the background"),
        (COLOURS[NUMBERS].astype(np.uint16) * 200, "its colours are uint16, expected 8 bit"),
    ],
)
def test_what_is_refused(png, pixels, message):
    path = png(pixels)
    with pytest.raises(ImageFileError, match=message):
        read_foreign_labels(path)
    if "mask" in message:
        np.testing.assert_array_equal(read_foreign_labels(path, connected_components=True).labels > 0, NUMBERS > 0)


def test_a_jpeg_is_refused(tmp_path):
    Image.fromarray(COLOURS[NUMBERS]).save(tmp_path / "a.jpg")
    with pytest.raises(ImageFileError, match="it is a JPEG, which does not keep labels' values"):
        read_foreign_labels(tmp_path / "a.jpg")
