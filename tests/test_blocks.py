"""Blocks of a large image, each done on its own and in any order, give what one process gives."""

import random

import numpy as np
import pytest

import instseg
from instseg.blocks import (
    Numbering,
    Seams,
    holds_block,
    join_block,
    read_instances,
    read_seams,
    segment_block,
    tables_for,
    write_block,
)
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.instances import joined
from instseg.segment import How, Looking, segment
from instseg.settings import DiscSettings, TileSettings

HOW = How(described=True, tiles=TileSettings(tile=128, overlap=40))


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
    """The folder of blocks and the grid, all blocks done in an order of their own."""
    folder = tmp_path_factory.mktemp("blocks")
    looking = Looking(model, image, HOW)
    layout = looking.layout()
    places = [tile.place for tile in layout.grid]
    assert len(places) == 49
    random.Random(0).shuffle(places)
    for place in places:
        assert not holds_block(folder, place)
        segment_block(looking, layout, place, folder, described=True)
        assert holds_block(folder, place)
    return folder, layout, places


def number(folder, layout, places, min_size=1):
    numbering = Numbering()
    for place in places:
        numbering.add(place, read_seams(folder, place))
    for place in reversed(places):
        numbering.join(place, join_block(folder, layout.grid, place))
    return numbering.finish(min_size)


def written(folder, layout, places, tables, chunks):
    array = Array(layout.grid.shape, chunks)
    for place in places:
        needed = {other: tables[other] for other in tables_for(layout.grid, place, chunks)}
        write_block(folder, layout.grid, place, needed, array)
    assert (array.written == 1).all()
    return array.values


@pytest.mark.parametrize("chunks", [(64, 64), (48, 48), (512, 512), (10, 10)])
def test_labels_are_those_of_one_process_up_to_their_numbers(model, image, done, chunks):
    folder, layout, places = done
    expected = segment(model, image, HOW)
    tables, count = number(folder, layout, places, layout.clustering.min_size)
    labels = written(folder, layout, places, tables, chunks)
    assert count == expected.labels.max() > 20
    np.testing.assert_array_equal(np.unique(labels), np.arange(count + 1))
    pairs = np.unique(np.stack([labels.ravel(), expected.labels.ravel()]), axis=1)
    assert pairs.shape[1] == count + 1


def test_the_order_in_which_blocks_are_done_changes_nothing(done):
    folder, layout, places = done
    tables, count = number(folder, layout, places)
    again, other = number(folder, layout, sorted(places))
    assert count == other
    for place in places:
        assert tables[place].first == again[place].first
        np.testing.assert_array_equal(tables[place].labels, again[place].labels)


def test_instances_are_those_of_one_process(model, image, done):
    folder, layout, places = done
    tables, count = number(folder, layout, places, layout.clustering.min_size)
    found = joined([read_instances(folder, place, tables[place]) for place in places], np.arange(count + 1))
    expected = segment(model, image, HOW).instances
    assert found.id.tolist() == list(range(1, count + 1))
    assert sorted(row[1:] for row in found.rows()) == sorted(row[1:] for row in expected.rows())


def test_small_instances_are_left_out(done):
    folder, layout, places = done
    labels = written(folder, layout, places, number(folder, layout, places)[0], (64, 64))
    sizes = np.bincount(labels.ravel())[1:]
    least = int(np.median(sizes)) + 1
    tables, count = number(folder, layout, places, least)
    fewer = written(folder, layout, places, tables, (64, 64))
    # Those inside of a tile have been measured before.
    inside = sum(len(read_seams(folder, place).inner) for place in places)
    assert (sizes >= least).sum() <= count <= (sizes >= least).sum() + inside
    assert count < len(sizes)
    assert fewer.max() == count


def test_numbering_by_hand():
    numbering = Numbering()
    empty = np.zeros(0, np.int32)

    def seams(inner, numbers, areas):
        return Seams(np.array(inner, np.int32), np.array(numbers, np.int32), np.array(areas), 0.0)

    # Two tiles side by side: 2 of the left one is 1 of the right one, 4 and 3 are only seen by one of them each, and
    # what the right one numbers 7 lies in the left one's core.
    numbering.add((0, 1), seams([2, 5], [1, 3, 7], [6, 9, 0]))
    numbering.add((0, 0), seams([1], [2, 4], [10, 20]))
    numbering.add((1, 0), Seams(empty, empty, np.zeros(0, np.int64), 0.0))
    numbering.join((0, 1), {(0, 0): np.array([[2, 1]])})
    tables, count = numbering.finish()
    assert count == 6
    assert (tables[0, 0].first, tables[0, 0].labels.tolist()) == (1, [2, 3])
    assert (tables[0, 1].first, tables[0, 1].labels.tolist()) == (4, [2, 6, 0])
    assert (tables[1, 0].first, tables[1, 0].labels.tolist()) == (7, [])
    tables, count = numbering.finish(min_size=15)
    assert count == 5
    assert tables[0, 0].labels.tolist() == [2, 3]
    assert tables[0, 1].labels.tolist() == [2, 0, 0]


def test_nothing_at_all():
    assert Numbering().finish() == ({}, 0)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and no more"])
def test_a_damaged_block_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "0.0.npz").write_bytes(content)
    with pytest.raises(InstsegError, match=r"cannot read .*0\.0\.npz .*remove it, and run the same command again"):
        read_seams(tmp_path, (0, 0))
