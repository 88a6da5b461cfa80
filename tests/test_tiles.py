"""Tiles cover an image once, and instances that they cut are joined again."""

import numpy as np
import pytest

from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.regions import remap_consecutive
from instseg.settings import DiscSettings
from instseg.tiles import Box, Grid, Stitcher


def stitched(labels, grid, min_size=1, change=lambda tile, part: part):
    """Cut labels into tiles, number each tile anew and join them again."""
    stitcher, found = Stitcher(grid), np.zeros(labels.shape, np.int64)
    whole = Box(0, 0, *labels.shape)
    for tile in grid:
        part = remap_consecutive(change(tile, labels[tile.whole.within(whole)]))
        found[tile.core.within(whole)] = stitcher.add(tile, part)
    return stitcher.finish(min_size)[found]


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 200), (300, 17), (257, 513)])
def test_cores_cover_every_pixel_once(size, multiple):
    grid = Grid(*size, side=96, overlap=16, multiple=multiple)
    seen, whole = np.zeros(size, int), Box(0, 0, *size)
    tiles = list(grid)
    assert len(tiles) == len(grid)
    for tile in tiles:
        seen[tile.core.within(whole)] += 1
        assert max(tile.whole.shape) <= 96
        assert tile.core.common(tile.whole) == tile.core
        assert all(place % multiple == 0 for place in (*tile.whole[:2], *tile.core[:2]))
        for inner, outer, edge in zip(tile.core, tile.whole, (0, 0, *size), strict=True):
            assert abs(inner - outer) == min(16, abs(inner - edge))
    assert (seen == 1).all()
    assert grid.pixels() == sum(np.prod(tile.whole.shape) for tile in tiles)


def test_cores_are_as_equal_as_multiples_allow():
    grid = Grid(100, 1000, side=400, overlap=20, multiple=8)
    widths = [tile.core.shape[1] for tile in grid]
    # The overlap becomes 24, which leaves cores of 352 at most.
    assert (grid.overlap, grid.columns, widths) == (24, 3, [336, 336, 328])


def test_an_image_within_one_tile_is_one():
    assert [tile.whole for tile in Grid(300, 200, side=300, overlap=400)] == [Box(0, 0, 300, 200)]


def test_an_overlap_that_leaves_nothing_is_refused():
    with pytest.raises(
        InstsegError, match="a tile of 64 pixels has nothing left beside an overlap of 32 on both sides"
    ):
        Grid(65, 10, side=64, overlap=30, multiple=16)


@pytest.mark.parametrize("side", [64, 90, 200])
def test_stitched_labels_are_those_of_the_whole(side):
    _, labels = draw_discs(np.random.default_rng(1), DiscSettings(size=256, min_discs=120, max_discs=120))
    grid = Grid(*labels.shape, side=side, overlap=12)
    assert len(grid) > 1
    assert np.array_equal(stitched(labels, grid), remap_consecutive(labels))


def test_instances_far_larger_than_a_tile_stay_one():
    rows, columns = np.mgrid[:300, :400]
    ring = np.abs(np.hypot(rows - 150, columns - 200) - 120) < 20
    labels = np.where(ring, 5, np.where(rows == 290, 9, 0)).astype(np.int32)
    assert np.array_equal(stitched(labels, Grid(300, 400, side=70, overlap=10)), remap_consecutive(labels))


def test_touching_instances_stay_apart_at_a_seam():
    # Stripes of 7 pixels along the seams and across them.
    rows, columns = np.mgrid[:128, :128]
    for stripes in (rows // 7 + 1, columns // 7 + 1):
        labels = stripes.astype(np.int32)
        assert np.array_equal(stitched(labels, Grid(128, 128, side=60, overlap=8)), labels)


def test_tiles_that_disagree_by_some_pixels_agree_on_the_instance():
    rows, columns = np.mgrid[:64, :128]
    disc = np.hypot(rows - 32, columns - 62) < 14
    labels = disc.astype(np.int32)

    def smaller(tile, part):
        return part * (np.hypot(*(rows - 32, columns - 62)) < 13)[tile.whole.within(Box(0, 0, 64, 128))]

    grid = Grid(64, 128, side=96, overlap=20)
    found = stitched(labels, grid, change=lambda tile, part: smaller(tile, part) if tile.column else part)
    assert found.max() == 1
    assert 0.8 < (found > 0).sum() / disc.sum() < 1


def test_what_only_one_tile_sees_is_no_partner_of_its_neighbour():
    labels = np.zeros((32, 128), np.int32)
    labels[10:20, 50:64] = 1
    labels[10:20, 64:80] = 2
    grid = Grid(32, 128, side=80, overlap=12)
    assert grid.columns == 3

    def blind(tile, part):
        return np.where(part == 2, 0, part) if tile.column == 0 else part

    assert np.array_equal(stitched(labels, grid, change=blind) > 0, labels > 0)


def test_what_is_too_small_in_all_is_background():
    labels = np.zeros((40, 128), np.int32)
    labels[5, 60:68] = 1
    labels[20, 10:17] = 2
    grid = Grid(40, 128, side=80, overlap=12)
    assert stitched(labels, grid, min_size=8).max() == 1
    assert stitched(labels, grid, min_size=7).max() == 2
    assert stitched(labels, grid, min_size=9).max() == 0


def test_an_image_without_instances():
    assert stitched(np.zeros((100, 100), np.int32), Grid(100, 100, side=64, overlap=8)).max() == 0


def test_a_core_narrower_than_the_band():
    labels = np.zeros((40, 200), np.int32)
    labels[10:30, 20:190] = 3
    for side in range(41, 70, 3):
        assert stitched(labels, Grid(40, 200, side=side, overlap=18)).max() == 1
