"""Tiles of a large image, each done on its own and in any order, give what one process gives."""

import random

import numpy as np
import pytest

import instseg
from instseg.clustering.instances import merge_instances
from instseg.data.discs import draw_discs
from instseg.distributed.blocks import (
    match_seams,
    read_instances,
    read_summary,
    segment_tile,
    tables_for,
    tile_exists,
    write_tile,
)
from instseg.errors import InstsegError
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.options import PredictOptions
from instseg.inference.tiled import segment
from instseg.io.source import ArrayReader
from instseg.settings import DiscSettings, TileSettings
from instseg.tiling.stitch import LabelMerger

OPTIONS = PredictOptions(measure=True, tiles=TileSettings(tile=128, overlap=40))


class Array:
    """What is written to, which counts how often each chunk is."""

    def __init__(self, shape, chunks):
        self.values = np.zeros(shape, np.uint32)
        self.shape, self.chunks = shape, chunks
        self.written = np.zeros([-(-side // chunk) for side, chunk in zip(shape, chunks, strict=True)], int)

    def __setitem__(self, places, values):
        self.values[places] = values
        rows, columns = places
        for place, side in zip(places, self.shape, strict=True):
            assert place.start % self.chunks[0] == 0
            assert place.stop % self.chunks[0] == 0 or place.stop == side
        tall, wide = self.chunks
        self.written[rows.start // tall : -(-rows.stop // tall), columns.start // wide : -(-columns.stop // wide)] += 1


@pytest.fixture(scope="module")
def image():
    return draw_discs(np.random.default_rng(2), DiscSettings(size=300, min_discs=50, max_discs=50))[0]


@pytest.fixture(scope="module")
def model(tiny_model):
    return instseg.load(tiny_model)


@pytest.fixture(scope="module")
def done(model, image, tmp_path_factory):
    """The folder of tiles and the plan, all tiles done in an order of their own."""
    folder = tmp_path_factory.mktemp("blocks")
    tiles = ImageTiles(model, ArrayReader(image), OPTIONS)
    plan = tiles.plan()
    indices = [tile.index for tile in plan.grid]
    assert len(indices) == 49
    random.Random(0).shuffle(indices)
    for index in indices:
        assert not tile_exists(folder, index)
        segment_tile(tiles, plan, index, folder, measure=True)
        assert tile_exists(folder, index)
    return folder, plan, indices


def merged(folder, plan, indices, min_size=1):
    merger = LabelMerger(plan.grid)
    for index in indices:
        merger.add(index, read_summary(folder, index).record)
    for index in reversed(indices):
        merger.match(index, match_seams(folder, plan.grid, index))
    return merger.finish(min_size)


def written(folder, plan, indices, tables, chunks):
    array = Array(plan.grid.shape, chunks)
    for index in indices:
        needed = {other: tables[other] for other in tables_for(plan.grid, index, chunks)}
        write_tile(folder, plan.grid, index, needed, array)
    assert (array.written == 1).all()
    return array.values


@pytest.mark.parametrize("chunks", [(64, 64), (48, 48), (512, 512), (10, 10)])
def test_labels_are_those_of_one_process(model, image, done, chunks):
    folder, plan, indices = done
    expected = segment(model, ArrayReader(image), OPTIONS).labels
    tables, count = merged(folder, plan, indices, plan.clustering.min_size)
    assert count == expected.max() > 20
    np.testing.assert_array_equal(written(folder, plan, indices, tables, chunks), expected)


def test_the_order_in_which_tiles_are_done_changes_nothing(done):
    folder, plan, indices = done
    tables, count = merged(folder, plan, indices)
    again, other = merged(folder, plan, sorted(indices))
    assert count == other
    for index in indices:
        np.testing.assert_array_equal(tables[index].inner, again[index].inner)
        np.testing.assert_array_equal(tables[index].seam, again[index].seam)


def test_instances_are_those_of_one_process(model, image, done):
    folder, plan, indices = done
    tables, count = merged(folder, plan, indices, plan.clustering.min_size)
    parts = [read_instances(folder, index, tables[index]) for index in indices]
    assert plan.calibration is not None
    instances = merge_instances(parts, np.arange(count + 1)).calibrated(plan.calibration).to_dict()
    expected = segment(model, ArrayReader(image), OPTIONS).instances.to_dict()
    assert instances["label"].tolist() == list(range(1, count + 1))
    for name, values in expected.items():
        np.testing.assert_allclose(instances[name], values, rtol=1e-12)


def test_small_instances_are_left_out(done):
    folder, plan, indices = done
    labels = written(folder, plan, indices, merged(folder, plan, indices)[0], (64, 64))
    sizes = np.bincount(labels.ravel())[1:]
    least = int(np.median(sizes)) + 1
    tables, count = merged(folder, plan, indices, least)
    fewer = written(folder, plan, indices, tables, (64, 64))
    # The size of those inside of a tile has been looked at before.
    inside = sum(len(read_summary(folder, index).record.inner_first) for index in indices)
    assert (sizes >= least).sum() <= count <= (sizes >= least).sum() + inside
    assert count < len(sizes)
    assert fewer.max() == count


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and no more"])
def test_a_damaged_tile_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "0.0.npz").write_bytes(content)
    with pytest.raises(InstsegError, match=r"cannot read .*0\.0\.npz .*remove it, and run the same command again"):
        read_summary(tmp_path, (0, 0))
