"""Tiles cover an image once."""

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.tiling.grid import Box, Grid


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 200), (300, 17), (257, 513)])
def test_cores_cover_every_pixel_once(size, multiple):
    grid = Grid(*size, side=96, overlap=16, multiple=multiple)
    seen, whole = np.zeros(size, int), Box(0, 0, *size)
    tiles = list(grid)
    assert len(tiles) == len(grid)
    for tile in tiles:
        seen[tile.core.slices_in(whole)] += 1
        assert max(tile.extent.shape) <= 96
        assert tile.core.intersection(tile.extent) == tile.core
        assert all(place % multiple == 0 for place in (*tile.extent[:2], *tile.core[:2]))
        for inner, outer, edge in zip(tile.core, tile.extent, (0, 0, *size), strict=True):
            assert abs(inner - outer) == min(16, abs(inner - edge))
    assert (seen == 1).all()
    assert grid.pixels() == sum(np.prod(tile.extent.shape) for tile in tiles)


def test_cores_are_as_equal_as_multiples_allow():
    grid = Grid(100, 1000, side=400, overlap=20, multiple=8)
    widths = [tile.core.shape[1] for tile in grid]
    # The overlap becomes 24, which leaves cores of 352 at most.
    assert (grid.overlap, grid.columns, widths) == (24, 3, [336, 336, 328])


def test_an_image_within_one_tile_is_one():
    assert [tile.extent for tile in Grid(300, 200, side=300, overlap=400)] == [Box(0, 0, 300, 200)]


def test_an_overlap_that_leaves_nothing_is_refused():
    with pytest.raises(
        InstsegError, match="a tile of 64 pixels has nothing left beside an overlap of 32 on both sides"
    ):
        Grid(65, 10, side=64, overlap=30, multiple=16)
