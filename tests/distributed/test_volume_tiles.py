"""Blocks of a volume, each embedded on its own, give what one process gives."""

import numpy as np
import pytest

import instseg
from instseg.data.balls import draw_balls
from instseg.distributed.blocks import (
    match_seams,
    read_instances,
    read_summary,
    segment_tile,
    tables_for,
    write_tile,
)
from instseg.distributed.volume_tiles import VolumeTiles
from instseg.errors import UsageError
from instseg.inference.embedder import Embedder
from instseg.inference.native_blocks import NativeBlocks
from instseg.inference.options import PredictOptions
from instseg.inference.volume import segment_volume
from instseg.io.volumes import ArrayVolume
from instseg.network.architecture import build_network
from instseg.network.serving import ServingModule
from instseg.settings import BallSettings, ClusterSettings, ModelSettings, TileSettings
from instseg.tiling.grid import Box
from instseg.tiling.stitch import LabelMerger

OPTIONS = PredictOptions(measure=True, planes_from="zyx", tiles=TileSettings(tile=48, overlap=8))


class Array(np.ndarray):
    """Labels in chunks."""

    chunks = (16, 32, 32)


@pytest.fixture(scope="module")
def volume():
    settings = BallSettings(depth=20, size=64, min_balls=12, max_balls=12)
    return draw_balls(np.random.default_rng(4), settings)[0]


def opened(volume):
    return ArrayVolume(volume, spacing=(2.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def model(tiny_model):
    return instseg.load(tiny_model)


def test_labels_and_instances_are_those_of_one_process(model, volume, tmp_path):
    expected = segment_volume(model, opened(volume), OPTIONS)
    tiles = VolumeTiles(model, opened(volume), OPTIONS)
    plan = tiles.plan()
    assert len(plan.grid) > 3
    merger = LabelMerger(plan.grid)
    for tile in plan.grid:
        # What lies within reach of a block is all of this volume.
        segment_tile(tiles, plan, tile.index, tmp_path, measure=True)
        merger.add(tile.index, read_summary(tmp_path, tile.index).record)
        merger.match(tile.index, match_seams(tmp_path, plan.grid, tile.index))
    tables, count = merger.finish(plan.clustering.min_size)
    found = np.zeros(volume.shape, np.uint32).view(Array)
    for index in tables:
        needed = {other: tables[other] for other in tables_for(plan.grid, index, Array.chunks)}
        write_tile(tmp_path, plan.grid, index, needed, found)
    assert count == expected.labels.max() > 1
    np.testing.assert_array_equal(found, expected.labels)
    areas = np.zeros(count + 1, np.int64)
    for index, table in tables.items():
        part = read_instances(tmp_path, index, table)
        assert part.ndim == 3
        np.add.at(areas, part.label, part.area)
    np.testing.assert_array_equal(areas[1:], expected.instances.area)


def test_a_block_sees_what_lies_within_reach_and_no_more(model):
    large = np.zeros((300, 500, 400), np.uint16)
    tiles = VolumeTiles(model, ArrayVolume(large, spacing=(2.0, 1.0, 1.0)), OPTIONS)
    plan = tiles.plan()._replace(magnification=1.0)
    assert tiles._around(plan, Box(96, 160, 0, 128, 208, 48)) == Box(72, 112, 0, 152, 256, 96)


def test_a_block_begins_where_the_planes_and_cells_of_the_whole_volume_do(model):
    large = np.zeros((300, 500, 400), np.uint16)
    tiles = VolumeTiles(model, ArrayVolume(large, spacing=(2.0, 1.0, 1.0)), OPTIONS)
    tiles._plane_steps = (1, 3, 2)
    seen = tiles._around(tiles.plan()._replace(magnification=1.0), Box(101, 163, 75, 140, 210, 120))
    assert seen.begin == (72, 96, 16)
    assert seen.end == (164, 258, 168)


def test_planes_that_are_joined_along_z_are_refused(model, volume):
    with pytest.raises(UsageError, match="planes along z are joined one after the other"):
        VolumeTiles(model, opened(volume), PredictOptions(planes_from="z"))
    thin = ArrayVolume(volume[:3], spacing=(10.0, 1.0, 1.0))
    with pytest.raises(UsageError, match="give `planes_from='zyx'`, leave the workers out, or"):
        VolumeTiles(model, thin, PredictOptions()).plan()


def test_a_model_of_volumes_sees_blocks_as_they_are():
    settings = ModelSettings(ndim=3, spacing=(2.0, 1.0, 1.0), embeddings=4, widths=(4, 6), diameter=8.0)
    embedder = Embedder(ServingModule(build_network(settings), settings).embed, settings, ClusterSettings())
    seen = np.random.default_rng(1).integers(0, 255, (12, 96, 24), np.uint8)
    options = PredictOptions(tiles=TileSettings(tile=72, overlap=24))
    tiles, blocks = (kind(embedder, opened(seen), options) for kind in (VolumeTiles, NativeBlocks))
    plan = tiles.plan()
    first, *others = plan.grid
    assert others
    expected, found = blocks.embed(first.extent), tiles.embed(plan, first)
    assert found.settings == plan.clustering
    for name, values in expected.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), values)
