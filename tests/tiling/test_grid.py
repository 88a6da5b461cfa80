"""Tiles cover an image once."""

import pickle

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.tiling.grid import Box, Grid, shared_band


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 200), (300, 17), (257, 513), (5, 70, 99), (130, 100, 1)])
def test_cores_cover_every_pixel_once(size, multiple):
    grid = Grid(size, side=96, overlap=16, multiple=multiple)
    seen, whole = np.zeros(size, int), Box.whole(size)
    tiles = list(grid)
    assert len(tiles) == len(grid)
    for tile in tiles:
        seen[tile.core.slices_in(whole)] += 1
        assert max(tile.extent.shape) <= 96
        assert tile.core.intersection(tile.extent) == tile.core
        assert all(place % multiple == 0 for place in (*tile.extent.begin, *tile.core.begin))
        for inner, outer, edge in zip(tile.core, tile.extent, whole, strict=True):
            assert abs(inner - outer) == min(16, abs(inner - edge))
    assert (seen == 1).all()
    assert grid.pixels() == sum(np.prod(tile.extent.shape) for tile in tiles)


def test_cores_are_as_equal_as_multiples_allow():
    grid = Grid((100, 1000), side=400, overlap=20, multiple=8)
    widths = [tile.core.shape[1] for tile in grid]
    # The overlap becomes 24, which leaves cores of 352 at most.
    assert (grid.overlap, grid.counts, widths) == ((24, 24), (1, 3), [336, 336, 328])


def test_an_image_within_one_tile_is_one():
    assert [tile.extent for tile in Grid((300, 200), side=300, overlap=400)] == [Box(0, 0, 300, 200)]


def test_an_overlap_that_leaves_nothing_is_refused():
    with pytest.raises(
        InstsegError, match="a tile of 64 pixels has nothing left beside an overlap of 32 on both sides"
    ):
        Grid((65, 10), side=64, overlap=30, multiple=16)


def test_tiles_differ_from_axis_to_axis():
    grid = Grid((100, 1000, 1000), side=(40, 500, 1000), overlap=(10, 100, 100), multiple=(1, 16, 16))
    assert (grid.counts, grid.overlap, len(grid)) == ((5, 4, 1), (10, 112, 112), 20)
    assert grid.tile(1, 1, 0).extent == Box(10, 144, 0, 50, 624, 1000)
    assert [tile.index for tile in grid][:5] == [(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0), (1, 0, 0)]
    inside = Box(25, 300, 0, 41, 301, 5)
    assert [tile.index for tile in grid.tiles_in(inside)] == [(1, 1, 0), (2, 1, 0)]


def test_neighbours_share_bands():
    grid = Grid((30, 30, 30), side=20, overlap=4)
    tile = grid.tile(1, 0, 1)
    neighbours = grid.neighbours(tile)
    assert {side: other.index for side, other in neighbours.items()} == {
        (0, -1): (0, 0, 1),
        (0, 1): (2, 0, 1),
        (1, 1): (1, 1, 1),
        (2, -1): (1, 0, 0),
        (2, 1): (1, 0, 2),
    }
    # Both see four to each side of the seam, along the tile's core.
    assert tile.core == Box(10, 0, 10, 20, 10, 20)
    assert shared_band(tile, neighbours[1, 1]) == Box(10, 6, 10, 20, 14, 20)
    assert shared_band(neighbours[0, -1], tile) == Box(6, 0, 10, 14, 10, 20)


def test_boxes_of_any_axes():
    image, volume = Box(2, 3, 12, 23), Box(1, 2, 3, 11, 12, 23)
    assert (image.top, image.left, image.bottom, image.right) == image == (2, 3, 12, 23)
    assert (volume.top, volume.left, volume.bottom, volume.right) == (2, 3, 12, 23)
    assert (volume.begin, volume.end, volume.shape, volume.ndim) == ((1, 2, 3), (11, 12, 23), (10, 10, 20), 3)
    assert repr(volume) == "Box(1, 2, 3, 11, 12, 23)"
    assert volume.slices_in(Box(1, 0, 0, 20, 20, 20)) == np.s_[0:10, 2:12, 3:23]
    assert volume.intersection(Box(5, 5, 30, 9, 9, 40)) == Box(5, 5, 30, 9, 9, 23)
    assert volume.intersection(Box(5, 5, 30, 9, 9, 40)).shape == (4, 4, 0)
    assert volume.translated((-1, 0, 10)) == Box(0, 2, 13, 10, 12, 33)
    assert volume.with_bounds(0, 4, 6) == Box(4, 2, 3, 6, 12, 23)
    assert Box.whole((4, 5, 6)) == Box(0, 0, 0, 4, 5, 6)
    for box in (image, volume):
        again = pickle.loads(pickle.dumps(box))
        assert (again, type(again)) == (box, Box)
        assert len({box, again}) == 1
