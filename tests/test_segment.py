"""Images in tiles give the instances of the whole; images one after another keep their order and their errors."""

import threading
import time

import numpy as np
import pytest

import instseg
from instseg.cluster import cluster
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError, UsageError
from instseg.instances import describe
from instseg.metrics import score
from instseg.overlaps import match
from instseg.segment import How, _ahead, fitting_multiple, segment, segment_all, tiles_for
from instseg.settings import DiscSettings, ModelSettings, TileSettings

TILES = TileSettings(tile=128, overlap=40)


@pytest.fixture(scope="module")
def model(tiny_model):
    return instseg.load(tiny_model)


@pytest.fixture(scope="module")
def image():
    return draw_discs(np.random.default_rng(2), DiscSettings(size=300, min_discs=50, max_discs=50))[0]


@pytest.fixture(scope="module")
def whole(model, image):
    return segment(model, image, How(described=True, mapped=True))


@pytest.fixture(scope="module")
def tiled(model, image):
    return segment(model, image, How(described=True, mapped=True, tiles=TILES))


def test_one_tile_is_the_whole(model, image, whole):
    maps = model.embed(image)
    np.testing.assert_array_equal(whole.maps.embeddings, maps.embeddings)
    assert whole.maps.settings == maps.settings
    np.testing.assert_array_equal(whole.labels, cluster(maps))
    np.testing.assert_array_equal(whole.labels, model.predict(image))
    assert whole.instances.rows() == describe(whole.labels, maps).rows()
    assert whole.image is image
    plain = segment(model, image, How())
    assert (plain.maps, plain.instances) == (None, None)


def test_tiles_give_the_instances_of_the_whole(model, image, whole, tiled):
    assert len(tiles_for(image.shape, model.settings, TILES)) == 49
    assert whole.labels.max() > 20
    assert tiled.labels.max() == whole.labels.max()
    found = match(whole.labels, tiled.labels, 0.99)
    assert len(found.iou) >= 0.95 * whole.labels.max()
    assert score(whole.labels, tiled.labels).mean_ap == 1


def test_tiles_describe_the_instances_of_the_whole(whole, tiled):
    same = match(whole.labels, tiled.labels, 1.0)
    assert len(same.iou) > 10
    pairs = zip(same.truth_ids - 1, same.predicted_ids - 1, strict=True)
    for one, other in pairs:
        assert tiled.instances.id[other] == other + 1
        np.testing.assert_allclose(tiled.instances.score[other], whole.instances.score[one], atol=0.02)
        for name in ("area", "top", "left", "bottom", "right"):
            assert getattr(tiled.instances, name)[other] == getattr(whole.instances, name)[one]
        for name in ("row", "column"):
            np.testing.assert_allclose(getattr(tiled.instances, name)[other], getattr(whole.instances, name)[one])


def test_tiles_map_the_whole(whole, tiled):
    np.testing.assert_allclose(tiled.maps.foreground, whole.maps.foreground, atol=0.02)
    off = np.abs(tiled.maps.embeddings - whole.maps.embeddings)
    # What the network sees of an image's content beyond a tile is less than that.
    assert off.max() < 0.5
    assert off.mean() < 0.01
    assert tiled.maps.settings == whole.maps.settings


def test_tiles_are_averaged_over_turns(model, image):
    whole, tiled = (segment(model, image, How(tta=True, tiles=tiles)) for tiles in (TileSettings(), TILES))
    assert score(whole.labels, tiled.labels).mean_ap > 0.98


def test_magnified_images_in_tiles(model, image):
    large = np.kron(image, np.ones((3, 3), image.dtype))
    how = {"diameter": 57.0}
    whole = segment(model, large, How(**how)).labels
    tiled = segment(model, large, How(**how, tiles=TileSettings(tile=480, overlap=120))).labels
    assert whole.max() > 20
    assert score(whole, tiled).mean_ap > 0.98


def test_a_tile_without_a_core_is_refused(model, image):
    with pytest.raises(InstsegError, match="a tile of 64 pixels has nothing left beside an overlap of 40"):
        segment(model, image, How(tiles=TileSettings(tile=64, overlap=40)))
    with pytest.raises(UsageError, match="--tile is 0, expected a number of pixels above 0"):
        TileSettings(tile=0)


def test_memory_sets_the_tiles(image):
    settings = ModelSettings(diameter=20.0, largest_diameter=40.0)
    sizes = [len(tiles_for((9000, 9000), settings, TileSettings(memory=memory))) for memory in (0.01, 1.5, 4)]
    assert sizes[0] > sizes[1] > sizes[2] >= 1
    assert len(tiles_for((400, 400), settings, TileSettings())) == 1


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0, 0.37, 1.4142, 3.3333, 0.08])
def test_tiles_fall_on_the_cells_of_the_network(scale):
    multiple = fitting_multiple(scale, 16)
    cells = multiple * scale / 16
    assert round(cells) >= 1
    assert abs(cells - round(cells)) * 16 < 0.03
    assert multiple < 5000


def test_images_keep_their_order_and_errors_their_places(model, image):
    def broken():
        raise InstsegError("broken")

    parts = [image[:80, :80], image[100:220, :200]]
    jobs = [lambda: parts[0], broken, lambda: np.zeros((4, 4, 7), np.uint8), lambda: parts[1]]
    found = list(segment_all(model, jobs, How(tiles=TILES)))
    assert [isinstance(one, InstsegError) for one in found] == [False, True, True, False]
    assert str(found[1]) == "broken"
    assert "7 channels" in str(found[2])
    for one, part in zip((found[0], found[3]), parts, strict=True):
        assert one.labels.shape == part.shape
    np.testing.assert_array_equal(found[0].labels, model.predict(parts[0]))


def test_an_image_that_fails_midway_leaves_nothing_to_the_next(model, image, monkeypatch):
    calls = []
    embed_part = model.embed_part

    def failing(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise InstsegError("no memory")
        return embed_part(*args, **options)

    monkeypatch.setattr(model, "embed_part", failing)
    found = list(segment_all(model, [lambda: image, lambda: image], How(tiles=TILES)))
    assert str(found[0]) == "no memory"
    monkeypatch.undo()
    np.testing.assert_array_equal(found[1].labels, segment(model, image, How(tiles=TILES)).labels)


def test_an_image_whose_labels_have_no_room_costs_no_other(model, image, monkeypatch):
    from instseg import segment as module

    put, calls = module._InMemory.put, []

    def full(self, box, numbers):
        calls.append(1)
        if len(calls) == 3:
            raise InstsegError("the disc is full")
        put(self, box, numbers)

    monkeypatch.setattr(module._InMemory, "put", full)
    found = list(segment_all(model, [lambda: image, lambda: image[:40, :40], lambda: image], How(tiles=TILES)))
    assert str(found[0]) == "the disc is full"
    assert [isinstance(one, InstsegError) for one in found] == [True, False, False]
    assert found[1].array.shape == (40, 40)
    np.testing.assert_array_equal(found[2].array, segment(model, image, How(tiles=TILES)).array)


def test_tiles_are_counted(model, image):
    told = []
    list(segment_all(model, [lambda: image], How(tiles=TILES), lambda done, total: told.append((done, total))))
    assert told == [(done, 49) for done in range(1, 50)]


def test_never_more_than_one_is_made_ahead():
    made, most = [], 0
    lock = threading.Lock()

    def items():
        for number in range(20):
            with lock:
                made.append(number)
            yield number

    for number in _ahead(items()):
        time.sleep(0.005)
        with lock:
            most = max(most, len(made) - 1 - number)
    assert most == 1
    assert made == list(range(20))


def test_the_next_is_made_while_one_is_used():
    def items():
        for number in range(4):
            time.sleep(0.1)
            yield number

    start = time.perf_counter()
    for _ in _ahead(items()):
        time.sleep(0.1)
    assert time.perf_counter() - start < 0.72


def test_what_is_left_early_leaves_no_thread():
    before = threading.active_count()
    for number in _ahead(number for number in range(1000)):
        if number == 3:
            break
    with pytest.raises(ZeroDivisionError):
        list(_ahead(1 // number for number in (1, 0)))
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
