"""Pictures and outlines in a page: as the image is, whatever its size and type, and within a number of bytes."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from instseg.data.discs import draw_discs
from instseg.reports.outlines import outline_paths
from instseg.reports.pictures import Reducer, band_rows, budget_for, encode, to_8bit
from instseg.settings import DiscSettings
from instseg.visualization.pictures import to_rgb8


def decoded(picture):
    return Image.open(io.BytesIO(base64.b64decode(picture.uri.removeprefix("data:image/jpeg;base64,"))))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_the_display_is_that_of_other_pictures(dtype, channels):
    rng = np.random.default_rng(0)
    image = (rng.random((40, 50, channels)) * 90 + 10).astype(dtype)
    reducer = Reducer(image.shape, 64)
    reducer.add(image)
    shown = to_8bit(reducer.finish().values)
    expected = to_rgb8(image)[:, :, : shown.shape[2]]
    assert shown.shape[2] == (3 if channels >= 3 else 1)
    assert np.abs(shown.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("image", [np.zeros((5, 7, 1), np.uint8), np.full((5, 7, 1), np.nan, np.float32)])
def test_an_image_of_one_value_is_black(image):
    assert not to_8bit(image).any()


@pytest.mark.parametrize("shape", [(103, 250, 1), (250, 103, 3), (3, 400, 1), (400, 1, 4)])
def test_bands_give_what_the_whole_image_gives(shape):
    image = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    whole, parts = Reducer(shape, 50), Reducer(shape, 50)
    whole.add(image)
    for top in range(0, shape[0], 3 * parts.rows_multiple):
        parts.add(image[top : top + 3 * parts.rows_multiple])
    assert np.array_equal(whole.finish().values, parts.finish().values)
    covered = whole.finish().covered
    assert all(side - whole.factor < of_it <= side for side, of_it in zip(shape, covered, strict=False))


def test_bands_are_a_multiple_and_bounded():
    assert band_rows((10**6, 10**5, 3), 4, 7) == 105
    assert band_rows((100, 10**9, 3), 4, 7) == 7


@pytest.mark.parametrize("size", [(40, 60), (600, 900), (2, 3000)])
def test_a_picture_fits_into_its_bytes(size):
    noise = np.random.default_rng(2).integers(0, 255, (*size, 3), np.uint8)
    picture = encode(noise, 512, 20_000, size)
    assert len(picture.uri) < 20_000 * 4 / 3 + 100
    assert (picture.height, picture.width) == size
    shown = decoded(picture)
    assert max(shown.size) <= 512
    if max(size) < 100:
        assert shown.size == size[::-1]


def painted(paths, shape):
    """Fill paths, whose coordinates are halves of pixels, in a picture of twice the size."""
    picture = Image.new("I", (2 * shape[1], 2 * shape[0]))
    for label, path in paths.items():
        for ring in re.findall(r"M[^z]*z", path):
            numbers = list(map(int, re.findall(r"-?\d+", ring)))
            points = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0)
            ImageDraw.Draw(picture).polygon([tuple(point) for point in points.tolist()], fill=label)
    return np.asarray(picture)[1::2, 1::2]


def test_outlines_surround_their_objects():
    _, labels = draw_discs(np.random.default_rng(0), DiscSettings(size=128, min_discs=6, max_discs=8))
    outlines = outline_paths(labels, 100_000)
    assert list(outlines.paths) == list(range(1, labels.max() + 1))
    assert outlines.left_out == 0
    shown = painted(outlines.paths, labels.shape)
    large = np.flatnonzero(np.bincount(labels.ravel()) > 50)[1:]
    assert len(large) > 4
    for label in large:
        both = np.count_nonzero((shown == label) & (labels == label))
        assert both / np.count_nonzero((shown == label) | (labels == label)) > 0.85


def test_a_hole_and_a_second_part_belong_to_one_path():
    labels = np.zeros((12, 20), np.int32)
    labels[1:8, 1:8] = 5
    labels[3:5, 3:5] = 0
    labels[2:6, 12:18] = 5
    (path,) = outline_paths(labels, 1000).paths.values()
    assert path.count("M") == path.count("z") == 3


def test_outlines_that_have_no_room_become_coarser_then_the_smallest_go():
    labels = np.zeros((300, 300), np.int32)
    for index in range(25):
        row, column, size = 60 * (index // 5), 60 * (index % 5), 8 + 2 * index
        labels[row : row + size, column : column + size] = index + 1
    everything = outline_paths(labels, 10**6)
    size = sum(map(len, everything.paths.values()))
    coarser = outline_paths(labels, 48 * 25 + size * 2 // 3)
    assert (len(coarser.paths), coarser.left_out) == (25, 0)
    some = outline_paths(labels, 48 * 25 // 2)
    assert 0 < len(some.paths) < 25
    assert some.left_out == 25 - len(some.paths)
    assert sum(map(len, some.paths.values())) + 48 * len(some.paths) <= 48 * 25 // 2
    assert list(some.paths) == sorted(some.paths)
    assert min(some.paths) > 25 - len(some.paths) - 3


@pytest.mark.parametrize("shape", [(0, 4), (4, 4)])
def test_no_object_has_no_outline(shape):
    assert outline_paths(np.zeros(shape, np.int32), 1000) == ({}, 0)


@pytest.mark.parametrize("images", [1, 4, 5, 24, 25, 100])
def test_a_page_stays_small(images):
    budget = budget_for(images)
    each = budget.picture_bytes * 4 / 3 + budget.outline_bytes
    assert images * each + 8 * budget.large_bytes * 4 / 3 < 15e6
