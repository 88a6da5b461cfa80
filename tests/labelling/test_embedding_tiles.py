"""Embeddings by tiles: those of the whole image, within a bound of bytes."""

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader
from instseg.labelling import embedding_tiles
from instseg.labelling.embedding_tiles import EmbeddingTiles
from instseg.settings import TileSettings
from instseg.tiling.grid import Box

CORNERS = [(20, 30), (100, 100), (60, 240), (290, 12), (250, 251)]


@pytest.fixture
def image(draw_squares):
    return draw_squares((310, 270), CORNERS)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(embedding_tiles, "_SIDE", 128)
    monkeypatch.setattr(embedding_tiles, "_LEAST_SIDE", 128)


def make(embedder, *images, budget=embedding_tiles.BUDGET, overlap=16):
    options = PredictOptions(tiles=TileSettings(overlap=overlap))
    return EmbeddingTiles(embedder, lambda index: ArrayReader(images[index]), options, budget)


def compute_all(tiles, image=0):
    tiles.plan(image)
    for tile in tiles.missing(image):
        tiles.compute(image, tile)


@pytest.mark.parametrize(
    "box", [Box(0, 0, 310, 270), Box(95, 93, 140, 131), Box(-5, 200, 70, 400), Box(309, 0, 310, 1)]
)
def test_a_window_over_several_tiles_is_that_of_the_whole_image(bright_objects, image, small_tiles, box):
    tiles = make(bright_objects, image)
    compute_all(tiles)
    assert len(tiles.plan(0).grid) > 4
    window, found = tiles.window(0, box)
    assert found == box.intersection(Box(0, 0, 310, 270))
    whole = bright_objects.embed_tile(image[:, :, np.newaxis], tiles.plan(0).levels)
    part = found.slices_in(Box(0, 0, 310, 270))
    for name, values in whole.arrays().items():
        expected = values[part].copy()
        if name == "embeddings":
            expected[..., :2] -= np.array([found.top, found.left], np.float32)
        np.testing.assert_allclose(window.arrays()[name], expected, atol=1e-2, rtol=1e-3)
    assert window.settings == tiles.plan(0).clustering


def test_an_image_that_fits_is_one_tile(bright_objects, image):
    tiles = make(bright_objects, image)
    assert tiles.missing(0) is None
    assert tiles.share(0) == 0
    assert tiles.window(0, Box(0, 0, 5, 5)) is None
    compute_all(tiles)
    assert bright_objects.seen == [(310, 270)]
    assert tiles.share(0) == 1
    assert tiles.missing(0) == []


def test_there_is_no_window_where_a_tile_is_missing(bright_objects, image, small_tiles):
    tiles = make(bright_objects, image)
    first = next(iter(tiles.plan(0).grid))
    tiles.compute(0, first)
    assert tiles.window(0, first.core) is not None
    assert tiles.window(0, first.core.with_bounds(1, first.core.left, first.core.right + 1)) is None
    assert tiles.share(0) == pytest.approx(1 / len(tiles.plan(0).grid))
    assert first.index not in [tile.index for tile in tiles.missing(0)]
    assert tiles.missing(0, first.core) == []


def test_tiles_that_nobody_used_for_longest_go_first(bright_objects, image):
    tiles = make(bright_objects, image, image, image, budget=2 * 310 * 270 * 24)
    compute_all(tiles, 0)
    compute_all(tiles, 1)
    assert (tiles.share(0), tiles.share(1)) == (1, 1)
    tiles.window(0, Box(0, 0, 3, 3))
    compute_all(tiles, 2)
    assert [tiles.share(index) for index in range(3)] == [1, 0, 1]
    tiles.touch(0)
    compute_all(tiles, 1)
    assert [tiles.share(index) for index in range(3)] == [1, 1, 0]


def test_tiles_that_somebody_waits_for_stay(bright_objects, image):
    tiles = make(bright_objects, image, image, budget=310 * 270 * 24)
    compute_all(tiles, 0)
    tiles.keep([(0, (0, 0))])
    compute_all(tiles, 1)
    assert (tiles.share(0), tiles.share(1)) == (1, 1)
    tiles.keep([])
    tiles.compute(1, next(iter(tiles.plan(1).grid)))
    assert (tiles.share(0), tiles.share(1)) == (0, 1)


def test_only_what_leaves_room_for_another_image_fits(bright_objects, image, small_tiles):
    tiles = make(bright_objects, image, budget=2 * 310 * 270 * 24)
    assert not tiles.fits(0)
    tiles.plan(0)
    assert tiles.fits(0)
    tight = make(bright_objects, image, budget=310 * 270 * 24)
    tight.plan(0)
    assert not tight.fits(0)
    assert tight.fits(0, Box(0, 0, 10, 10))


def test_values_beyond_half_precision_are_kept(bright_objects, image, monkeypatch):
    maps = bright_objects._maps

    def far(*args):
        found = maps(*args)
        found["embeddings"][..., 3] = 1e6 + np.arange(270, dtype=np.float32)
        found["bandwidth"][...] = 1e-9
        return found

    monkeypatch.setattr(bright_objects, "_maps", far)
    tiles = make(bright_objects, image)
    compute_all(tiles)
    window, _ = tiles.window(0, Box(5, 100, 6, 103))
    assert window.embeddings[0, :, 3].tolist() == [1000100, 1000101, 1000102]
    assert window.bandwidth.max() == np.float32(1e-9)


def test_a_model_for_other_channels_says_so(bright_objects):
    tiles = make(bright_objects, np.zeros((20, 20, 5), np.uint8))
    with pytest.raises(InstsegError, match="5 channels"):
        tiles.plan(0)
