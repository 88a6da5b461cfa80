"""The channels of images, and queries for their tiles."""

import io

import numpy as np
import pytest
from PIL import Image

from instseg.errors import UsageError
from instseg.io.source import ArrayReader
from instseg.labelling.server import images
from instseg.labelling.server.images import Images


def pixels(store, **query):
    png = store.png(0, 0, 0, 0, query)
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.fixture
def gray():
    return Images(lambda index: ArrayReader(np.arange(1000, 1256, dtype=np.uint16).reshape(16, 16, 1)))


def test_a_gray_image_is_shown_between_its_percentiles(gray):
    (channel,) = gray.channels(0)
    assert (channel["name"], channel["color"], channel["min"], channel["max"]) == ("gray", "ffffff", 1000, 1255)
    assert 1000 < channel["low"] < 1003
    assert 1252 < channel["high"] < 1255
    shown = pixels(gray)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[-1, -1].tolist() == [255, 255, 255]
    assert gray.sizes(0)["levels"] == 1


def test_a_photograph_is_shown_as_it_is():
    photograph = np.random.default_rng(0).integers(50, 99, (20, 30, 3)).astype(np.uint8)
    store = Images(lambda index: ArrayReader(photograph))
    assert [channel["name"] for channel in store.channels(0)] == ["red", "green", "blue"]
    np.testing.assert_array_equal(pixels(store), photograph)


@pytest.mark.parametrize(
    ("count", "colours"), [(2, ["ff00ff", "00ff00"]), (4, ["ff0000", "00ff00", "0000ff", "00ffff"])]
)
def test_other_channels_have_numbers_and_colours(count, colours):
    store = Images(lambda index: ArrayReader(np.zeros((5, 5, count), np.uint16)))
    channels = store.channels(0)
    assert [channel["name"] for channel in channels] == [str(number) for number in range(1, count + 1)]
    assert [channel["color"] for channel in channels] == colours
    # An image of one value is black, and no error.
    assert all(channel["high"] > channel["low"] for channel in channels)
    assert pixels(store).max() == 0


def test_a_query_chooses_channels_colours_levels_and_gamma(gray):
    shown = pixels(gray, channels=["0"], colors=["00ff80"], low=["1000"], high=["1255"], gamma=["1"])
    np.testing.assert_array_equal(shown[:, :, 0], 0)
    np.testing.assert_array_equal(shown[:, :, 1].ravel(), np.arange(256))
    assert shown[-1, -1, 2] == 128


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"channels": ["1"]}, "channels"),
        ({"channels": ["-1"]}, "channels"),
        ({"channels": ["x"]}, "channels"),
        ({"channels": ["0"], "low": ["1", "2"]}, "low"),
        ({"low": ["dark"]}, "low"),
        ({"low": ["nan"]}, "low"),
        ({"high": ["inf"]}, "high"),
        ({"gamma": ["0"]}, "gamma"),
        ({"colors": ["red"]}, "colors"),
        ({"colors": ["#ff00ff"]}, "colors"),
    ],
)
def test_wrong_queries_are_named(gray, query, named):
    with pytest.raises(UsageError, match=named):
        pixels(gray, **query)


def test_a_part_of_a_large_image_is_read_once(monkeypatch):
    reads = []

    class Reader(ArrayReader):
        def read(self, box):
            reads.append(box)
            return super().read(box)

    store = Images(lambda index: Reader(np.full((600, 520, 1), 9, np.uint8)))
    query = {"low": ["0"], "high": ["9"]}
    first = store.png(0, 1, 0, 0, query)
    seen = len(reads)
    assert store.png(0, 1, 0, 0, query) == first
    assert store.png(0, 1, 0, 0, {"low": ["0"], "high": ["18"]}) != first
    assert len(reads) == seen
    monkeypatch.setattr(images, "_TILE_BYTES", 0)
    store.png(0, 1, 0, 0, query)
    assert store.png(1, 1, 0, 0, query) == first
    assert len(reads) > seen


def test_images_that_are_not_looked_at_make_room(monkeypatch):
    opened = []

    def open_image(index):
        opened.append(index)
        return ArrayReader(np.zeros((10, 10, 1), np.uint8))

    store = Images(open_image)
    for index in (0, 1, 2, 0, 1, 2):
        store.reader(index)
    assert opened == [0, 1, 2]
    monkeypatch.setattr(images, "_KEPT_BYTES", 0)
    for index in (0, 1, 0, 1, 2, 1, 0):
        store.reader(index)
    assert opened == [0, 1, 2, 1, 2, 0]
