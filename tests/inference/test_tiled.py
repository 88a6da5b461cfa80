"""Images in tiles give the instances of the whole; images one after another keep their order and their errors."""

import copy
import functools
import threading

import numpy as np
import pytest

import instseg
from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.cluster import cluster
from instseg.clustering.instances import measure_instances
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError, UsageError
from instseg.evaluation.metrics import score
from instseg.inference import label_store
from instseg.inference import tiled as tiled_module
from instseg.inference.diameter import estimate_magnification
from instseg.inference.options import PredictOptions
from instseg.inference.tiled import segment, segment_many
from instseg.io.source import ArrayReader
from instseg.labels.matching import match
from instseg.preprocessing.levels import image_levels
from instseg.settings import DiscSettings, TileSettings
from instseg.tiling.sizes import plan_tiles

TILES = TileSettings(tile=128, overlap=40)


@pytest.fixture(scope="module")
def model(tiny_model):
    return instseg.load(tiny_model)


@pytest.fixture(scope="module")
def image():
    return draw_discs(np.random.default_rng(2), DiscSettings(size=300, min_discs=50, max_discs=50))[0]


@pytest.fixture(scope="module")
def whole(model, image):
    return segment(model, ArrayReader(image), PredictOptions(measure=True, return_embeddings=True))


@pytest.fixture(scope="module")
def tiled(model, image):
    return segment(model, ArrayReader(image), PredictOptions(measure=True, return_embeddings=True, tiles=TILES))


def test_one_tile_is_the_whole(model, image, whole):
    maps = model.embed(image)
    np.testing.assert_array_equal(whole.embeddings.embeddings, maps.embeddings)
    assert whole.embeddings.settings == maps.settings
    np.testing.assert_array_equal(whole.labels, cluster(maps))
    np.testing.assert_array_equal(whole.labels, model.predict(image))
    measured = measure_instances(whole.labels, maps).calibrated(model.calibration).to_dict()
    for name, column in whole.instances.to_dict().items():
        np.testing.assert_array_equal(column, measured[name])
    assert whole.image.array is image
    plain = segment(model, ArrayReader(image), PredictOptions())
    assert (plain.embeddings, plain.instances) == (None, None)


def test_tiles_give_the_instances_of_the_whole(model, image, whole, tiled):
    assert len(plan_tiles(image.shape, model.settings, TILES, maps=model.objective.map_count)) == 49
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
        assert tiled.instances.label[other] == other + 1
        np.testing.assert_allclose(tiled.instances.score[other], whole.instances.score[one], atol=0.02)
        for name in ("area", "bbox"):
            np.testing.assert_array_equal(getattr(tiled.instances, name)[other], getattr(whole.instances, name)[one])
        np.testing.assert_allclose(tiled.instances.centroid[other], whole.instances.centroid[one])


@pytest.mark.parametrize("tiles", [TileSettings(), TILES])
def test_scores_are_calibrated_once_after_tiles_are_joined(model, image, tiles):
    plain, steep = copy.copy(model), copy.copy(model)
    plain.calibration, steep.calibration = None, ScoreCalibration(slope=4.0, intercept=-6.0, least_median=0.99)
    options = PredictOptions(measure=True, return_embeddings=True, tiles=tiles)
    raw, calibrated = (segment(one, ArrayReader(image), options) for one in (plain, steep))
    assert len(raw.instances) > 20
    np.testing.assert_array_equal(calibrated.instances.score, steep.calibration.apply(raw.instances.score))
    assert (raw.unfamiliar, calibrated.unfamiliar) == (False, True)
    assert (raw.embeddings.calibration, calibrated.embeddings.calibration) == (None, steep.calibration)
    # Sizes are tried with scores as the network gives them.
    levels = image_levels(image[..., None])
    found = {estimate_magnification(one, image[..., None], levels) for one in (plain, steep)}
    assert len(found) == 1


def test_tiles_map_the_whole(whole, tiled):
    np.testing.assert_allclose(tiled.embeddings.foreground, whole.embeddings.foreground, atol=0.02)
    off = np.abs(tiled.embeddings.embeddings - whole.embeddings.embeddings)
    # What the network sees of an image's content beyond a tile is less than that.
    assert off.max() < 0.5
    assert off.mean() < 0.01
    assert tiled.embeddings.settings == whole.embeddings.settings


def test_tiles_are_averaged_over_turns(model, image):
    whole, tiled = (
        segment(model, ArrayReader(image), PredictOptions(tta=True, tiles=tiles)) for tiles in (TileSettings(), TILES)
    )
    assert score(whole.labels, tiled.labels).mean_ap > 0.98


def test_magnified_images_in_tiles(model, image):
    large = np.kron(image, np.ones((3, 3), image.dtype))
    how = {"diameter": 57.0}
    whole = segment(model, ArrayReader(large), PredictOptions(**how)).labels
    tiled = segment(model, ArrayReader(large), PredictOptions(**how, tiles=TileSettings(tile=480, overlap=120))).labels
    assert whole.max() > 20
    assert score(whole, tiled).mean_ap > 0.98


def test_a_tile_without_a_core_is_refused(model, image):
    with pytest.raises(InstsegError, match="a tile of 64 pixels has nothing left beside an overlap of 40"):
        segment(model, ArrayReader(image), PredictOptions(tiles=TileSettings(tile=64, overlap=40)))
    with pytest.raises(UsageError, match="tile is 0, expected a number of pixels above 0"):
        TileSettings(tile=0)


def test_images_keep_their_order_and_errors_their_places(model, image):
    def broken():
        raise InstsegError("broken")

    parts = [image[:80, :80], image[100:220, :200]]
    jobs = [
        lambda: ArrayReader(parts[0]),
        broken,
        lambda: ArrayReader(np.zeros((4, 4, 7), np.uint8)),
        lambda: ArrayReader(parts[1]),
    ]
    found = list(segment_many(model, jobs, PredictOptions(tiles=TILES)))
    assert [isinstance(one, InstsegError) for one in found] == [False, True, True, False]
    assert str(found[1]) == "broken"
    assert "7 channels" in str(found[2])
    for one, part in zip((found[0], found[3]), parts, strict=True):
        assert one.labels.shape == part.shape
    np.testing.assert_array_equal(found[0].labels, model.predict(parts[0]))


def test_an_image_that_fails_midway_leaves_nothing_to_the_next(model, image, monkeypatch):
    calls = []
    embed_tile = model.embed_tile

    def failing(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise InstsegError("no memory")
        return embed_tile(*args, **options)

    monkeypatch.setattr(model, "embed_tile", failing)
    found = list(
        segment_many(model, [lambda: ArrayReader(image), lambda: ArrayReader(image)], PredictOptions(tiles=TILES))
    )
    assert str(found[0]) == "no memory"
    monkeypatch.undo()
    np.testing.assert_array_equal(
        found[1].labels, segment(model, ArrayReader(image), PredictOptions(tiles=TILES)).labels
    )


def test_an_image_whose_labels_have_no_room_costs_no_other(model, image, monkeypatch):
    put, calls = label_store.LabelsInMemory.put, []

    def full(self, tile, numbers):
        calls.append(1)
        if len(calls) == 3:
            raise InstsegError("the disc is full")
        put(self, tile, numbers)

    monkeypatch.setattr(label_store.LabelsInMemory, "put", full)
    found = list(
        segment_many(
            model,
            [lambda: ArrayReader(image), lambda: ArrayReader(image[:40, :40]), lambda: ArrayReader(image)],
            PredictOptions(tiles=TILES),
        )
    )
    assert str(found[0]) == "the disc is full"
    assert [isinstance(one, InstsegError) for one in found] == [True, False, False]
    assert found[1].labels.shape == (40, 40)
    np.testing.assert_array_equal(
        found[2].labels, segment(model, ArrayReader(image), PredictOptions(tiles=TILES)).labels
    )


def test_tiles_are_counted(model, image):
    steps = []
    list(
        segment_many(
            model,
            [lambda: ArrayReader(image)],
            PredictOptions(tiles=TILES),
            lambda done, total, detail: steps.append((done, total)),
        )
    )
    assert steps == [(done, 49) for done in range(1, 50)]


class RecordedReader(ArrayReader):
    """An image in memory that notes when it is opened and closed."""

    def __init__(self, image, name, events):
        super().__init__(image)
        self._name, self._events = name, events
        events.append(f"open {name}")

    def close(self):
        self._events.append(f"close {self._name}")


def recorded(image, count, events):
    return [functools.partial(RecordedReader, image, number, events) for number in range(count)]


def test_two_small_images_are_shown_to_the_network_at_a_time(model, image, monkeypatch):
    together, embed_tile = threading.Barrier(2, timeout=60), model.embed_tile

    def meeting(*args, **options):
        # Nobody passes alone.
        together.wait()
        return embed_tile(*args, **options)

    monkeypatch.setattr(model, "embed_tile", meeting)
    parts = [image[:100, :90], image[50:, 60:], image[:, :200], image[20:90]]
    found = list(segment_many(model, [functools.partial(ArrayReader, part) for part in parts], PredictOptions()))
    monkeypatch.undo()
    for one, part in zip(found, parts, strict=True):
        np.testing.assert_array_equal(one.labels, model.predict(part))


def test_a_large_image_is_alone(model, image, monkeypatch):
    monkeypatch.setattr(tiled_module, "_SMALL", image[..., 0].size - 1)
    events = []
    found = list(segment_many(model, recorded(image, 4, events), PredictOptions(tiles=TILES)))
    assert events == [f"{what} {number}" for number in range(4) for what in ("open", "close")]
    expected = segment(model, ArrayReader(image), PredictOptions(tiles=TILES)).labels
    for one in found:
        np.testing.assert_array_equal(one.labels, expected)


@pytest.mark.parametrize("small", [1, 10**6])
def test_who_stops_early_leaves_no_image_open(model, image, monkeypatch, small):
    monkeypatch.setattr(tiled_module, "_SMALL", small)
    events = []
    found = segment_many(model, recorded(image, 50, events), PredictOptions())
    next(found)
    found.close()
    opened, closed = ({event.split()[1] for event in events if event.startswith(what)} for what in ("open", "close"))
    assert opened == closed
    assert len(opened) < 10


@pytest.mark.parametrize("after", range(4))
def test_images_before_an_error_of_the_iterable_are_given_first(model, image, after):
    def images():
        yield from [image[:80, :80]] * after
        raise OSError("the camera is off")

    count = 0
    with pytest.raises(OSError, match="the camera is off"):
        for _ in model.segment_many(images()):
            count += 1
    assert count == after
