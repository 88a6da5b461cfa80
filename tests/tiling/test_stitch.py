"""Instances that tiles cut are joined again, whatever the order in which tiles are described."""

import random

import numpy as np
import pytest

from instseg.data.balls import draw_balls
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.labels.regions import relabel_sequential
from instseg.settings import BallSettings, DiscSettings
from instseg.tiling import stitch
from instseg.tiling.grid import Box, Grid
from instseg.tiling.stitch import LabelMerger, TileInstances, match_instances, tile_bands, tile_instances


def stitched(labels, grid, min_size=1, change=lambda tile, part: part, seed=None):
    """Cut labels into tiles, number each tile anew and join them again, in the grid's order or a random one."""
    whole = Box.whole(labels.shape)
    tiles = list(grid)
    if seed is not None:
        random.Random(seed).shuffle(tiles)
    parts = {tile.index: relabel_sequential(change(tile, labels[tile.extent.slices_in(whole)])) for tile in tiles}
    records = {tile.index: tile_instances(grid, tile, parts[tile.index], min_size) for tile in tiles}
    merger = LabelMerger(grid)
    for tile in tiles:
        merger.add(tile.index, records[tile.index])
        bands, neighbours = tile_bands(grid, tile, parts[tile.index]), grid.neighbours(tile)
        for (axis, step), other in neighbours.items():
            if step < 0:
                before = tile_bands(grid, other, parts[other.index])[axis, 1]
                merger.match(tile.index, {other.index: match_instances(before, bands[axis, step])})
    tables, count = merger.finish(min_size)
    joined = np.zeros(labels.shape, np.int32)
    for tile in tiles:
        core = parts[tile.index][tile.core.slices_in(tile.extent)]
        joined[tile.core.slices_in(whole)] = tables[tile.index].lookup(records[tile.index])[core]
    assert count == joined.max(initial=0)
    return joined


@pytest.mark.parametrize("side", [64, 90, 200])
def test_stitched_labels_are_those_of_the_whole(side):
    _, labels = draw_discs(np.random.default_rng(1), DiscSettings(size=256, min_discs=120, max_discs=120))
    grid = Grid(labels.shape, side=side, overlap=12)
    assert len(grid) > 1
    assert np.array_equal(stitched(labels, grid), relabel_sequential(labels))
    assert np.array_equal(stitched(labels, grid, seed=side), relabel_sequential(labels))


@pytest.mark.parametrize("side", [(20, 40, 40), (48, 30, 30), (17, 96, 26)])
def test_stitched_volumes_are_those_of_the_whole(side):
    _, labels = draw_balls(np.random.default_rng(1), BallSettings(depth=48, size=96, min_balls=60, max_balls=60))
    grid = Grid(labels.shape, side=side, overlap=(4, 8, 8))
    assert len(grid) > 5
    assert np.array_equal(stitched(labels, grid), relabel_sequential(labels))
    assert np.array_equal(stitched(labels, grid, seed=1), relabel_sequential(labels))


def test_instances_far_larger_than_a_tile_stay_one():
    rows, columns = np.mgrid[:300, :400]
    ring = np.abs(np.hypot(rows - 150, columns - 200) - 120) < 20
    labels = np.where(ring, 5, np.where(rows == 290, 9, 0)).astype(np.int32)
    assert np.array_equal(stitched(labels, Grid((300, 400), side=70, overlap=10)), relabel_sequential(labels))


def test_touching_instances_stay_apart_at_a_seam():
    # Stripes of 7 pixels along the seams and across them.
    rows, columns = np.mgrid[:128, :128]
    for stripes in (rows // 7 + 1, columns // 7 + 1):
        labels = stripes.astype(np.int32)
        assert np.array_equal(stitched(labels, Grid((128, 128), side=60, overlap=8)), labels)


def test_tiles_that_disagree_by_some_pixels_agree_on_the_instance():
    rows, columns = np.mgrid[:64, :128]
    disc = np.hypot(rows - 32, columns - 62) < 14
    labels = disc.astype(np.int32)

    def smaller(tile, part):
        return part * (np.hypot(*(rows - 32, columns - 62)) < 13)[tile.extent.slices_in(Box(0, 0, 64, 128))]

    grid = Grid((64, 128), side=96, overlap=20)
    found = stitched(labels, grid, change=lambda tile, part: smaller(tile, part) if tile.index[1] else part)
    assert found.max() == 1
    assert 0.8 < (found > 0).sum() / disc.sum() < 1


def test_what_only_one_tile_sees_is_no_partner_of_its_neighbour():
    labels = np.zeros((32, 128), np.int32)
    labels[10:20, 50:64] = 1
    labels[10:20, 64:80] = 2
    grid = Grid((32, 128), side=80, overlap=12)
    assert grid.counts == (1, 3)

    def blind(tile, part):
        return np.where(part == 2, 0, part) if tile.index[1] == 0 else part

    assert np.array_equal(stitched(labels, grid, change=blind) > 0, labels > 0)


def test_what_is_too_small_in_all_is_background():
    labels = np.zeros((40, 128), np.int32)
    labels[5, 60:68] = 1
    labels[20, 10:17] = 2
    grid = Grid((40, 128), side=80, overlap=12)
    assert stitched(labels, grid, min_size=8).max() == 1
    assert stitched(labels, grid, min_size=7).max() == 2
    assert stitched(labels, grid, min_size=9).max() == 0


def test_an_image_without_instances():
    assert stitched(np.zeros((100, 100), np.int32), Grid((100, 100), side=64, overlap=8)).max() == 0


def test_a_core_narrower_than_the_band():
    labels = np.zeros((40, 200), np.int32)
    labels[10:30, 20:190] = 3
    for side in range(41, 70, 3):
        assert stitched(labels, Grid((40, 200), side=side, overlap=18)).max() == 1


def record(inner=(), inner_first=(), seam=(), area=(), first=()):
    count = max([*inner, *seam], default=0)
    return TileInstances(
        count,
        np.array(inner, np.int32),
        np.array(inner_first, np.int64),
        np.array(seam, np.int32),
        np.array(area, np.int64),
        np.array(first, np.int64),
    )


def test_labels_by_hand():
    # Two rows of two tiles, cores of 10 x 10. Number 2 of the first tile is number 1 of the tile to its right, whose
    # number 7 has no pixel in its core.
    merger = LabelMerger(Grid((20, 20), side=14, overlap=2))
    merger.add((0, 1), record([2, 5], [15, 31], [1, 3, 7], [6, 9, 0], [10, 52, np.iinfo(np.int64).max]))
    merger.add((0, 0), record([1], [21], [2, 4], [10, 20], [8, 60]))
    merger.add((1, 0), record([3], [200]))
    merger.add((1, 1), record())
    merger.match((0, 1), {(0, 0): np.array([[2, 1]])})
    tables, count = merger.finish()
    assert count == 7
    assert (tables[0, 0].inner.tolist(), tables[0, 0].seam.tolist()) == ([3], [1, 6])
    assert (tables[0, 1].inner.tolist(), tables[0, 1].seam.tolist()) == ([2, 4], [1, 5, 0])
    assert (tables[1, 0].inner.tolist(), tables[1, 1].inner.tolist()) == ([7], [])
    tables, count = merger.finish(min_size=15)
    assert count == 6
    assert tables[0, 0].seam.tolist() == [1, 5]
    assert tables[0, 1].seam.tolist() == [1, 0, 0]


def test_no_tiles_give_no_labels():
    assert LabelMerger(Grid((20, 20), side=14, overlap=2)).finish() == ({}, 0)


def test_more_instances_than_labels_are_refused(monkeypatch):
    monkeypatch.setattr(stitch, "_MAX_INSTANCES", 2)
    merger = LabelMerger(Grid((20, 20), side=20, overlap=2))
    merger.add((0, 0), record([1, 2], [3, 4], [3], [5], [9]))
    with pytest.raises(InstsegError, match="more than 2 instances"):
        merger.finish()


@pytest.mark.parametrize("shape", [(30, 40), (9, 20, 15)])
def test_parts_of_a_tile_change_no_record(monkeypatch, shape):
    labels = relabel_sequential(np.repeat(np.random.default_rng(0).integers(0, 9, shape), 2, axis=-1))
    grid = Grid(labels.shape, 16, 4)
    tile = list(grid)[1]
    part = labels[tile.extent.slices_in(grid.box)]
    whole = tile_instances(grid, tile, part)
    core, begin = labels[tile.core.slices_in(grid.box)], tile.core.begin
    for number, area, first in zip(whole.seam, whole.seam_area, whole.seam_first, strict=True):
        places = np.argwhere(core == number)
        assert area == len(places)
        assert not area or first == np.ravel_multi_index(places[0] + begin, labels.shape)
    for chunk in (1, 50):
        monkeypatch.setattr(stitch, "_CHUNK", chunk)
        for one, other in zip(tile_instances(grid, tile, part), whole, strict=True):
            np.testing.assert_array_equal(one, other)
