"""Volumes by a network of images: planes along three axes or along z, whole or in blocks, give the same objects."""

import dataclasses
import shutil

import numpy as np
import pytest
from scipy import ndimage

import instseg
from instseg.clustering.calibration import ScoreCalibration
from instseg.errors import InstsegError, UsageError
from instseg.inference.embedder import Embedder
from instseg.inference.model import Model
from instseg.inference.options import PredictOptions
from instseg.inference.plane_maps import PlaneMaps
from instseg.inference.plane_network import PlaneNetwork, interpolated, plane_indices
from instseg.inference.volume import choose_planes, embed_volume, segment_volume, segment_volumes
from instseg.inference.volume_blocks import PreparedVolume, plan_blocks
from instseg.io import scratch
from instseg.io.volumes import ArrayVolume
from instseg.labels.matching import match
from instseg.preprocessing.level_choice import LevelChoice
from instseg.settings import ClusterSettings, FilterSettings, ModelSettings, TileSettings
from instseg.tiling.grid import Box

SPACING = (2.0, 1.0, 1.0)
SETTINGS = ModelSettings(embeddings=4, widths=(4, 6), diameter=12.0, diameter_p5=8.0, diameter_p95=14.0)
BALLS = [
    ((8, 12, 14), 6),
    ((8, 14, 34), 7),
    ((20, 30, 12), 6.5),
    ((14, 36, 36), 7),
    ((24, 12, 30), 5),
    ((2, 36, 22), 6),
]
BLOCKS = TileSettings(tile=40, overlap=12)


def bright_objects(images, low, high, magnification):
    """Return the maps that a good network gives for bright objects that do not touch, each of which is a circle."""
    assert magnification == 1
    maps = {
        "embeddings": np.zeros((*images.shape[:3], 4), np.float32),
        "foreground": np.zeros(images.shape[:3], np.float32),
        "seeds": np.zeros(images.shape[:3], np.float32),
        "bandwidth": np.ones(images.shape[:3], np.float32),
    }
    maps["embeddings"][..., :2] = np.stack(np.indices(images.shape[1:3]), axis=-1)
    for number, image in enumerate(images[..., 0]):
        labels, count = ndimage.label(image >= (low[0, 0] + high[0, 0]) / 2)
        inside = labels > 0
        centres = np.array(ndimage.center_of_mass(inside, labels, range(1, count + 1)), np.float32).reshape(-1, 2)
        radius = np.sqrt(np.bincount(labels.ravel())[1:] / np.pi)
        mine = labels[inside] - 1
        away = np.linalg.norm(np.argwhere(inside) - centres[mine], axis=1)
        maps["embeddings"][number][inside, :2] = centres[mine]
        maps["foreground"][number][inside] = 1
        maps["seeds"][number][inside] = np.exp(-np.square(away / radius[mine]))
        maps["bandwidth"][number][inside] = 0.6 * radius[mine]
    return maps


@pytest.fixture(scope="module")
def truth():
    labels = np.zeros((28, 48, 48), np.int32)
    places = np.indices(labels.shape).transpose(1, 2, 3, 0)
    for number, (centre, radius) in enumerate(BALLS, start=1):
        labels[np.linalg.norm((places - centre) * SPACING, axis=-1) <= radius] = number
    return labels


@pytest.fixture(scope="module")
def volume(truth):
    return ArrayVolume(np.where(truth > 0, 200, 20).astype(np.uint8), spacing=SPACING)


@pytest.fixture(scope="module")
def embedder():
    return Embedder(bright_objects, SETTINGS, ClusterSettings(min_size=12))


def same(labels, truth, iou=0.99):
    assert len(match(truth, labels, iou).iou) == truth.max() == labels.max()


@pytest.mark.parametrize("planes_from", ["z", "zyx"])
def test_objects_are_found(embedder, volume, truth, planes_from):
    result = segment_volume(embedder, volume, PredictOptions(planes_from=planes_from, measure=True))
    same(result.labels, truth, 0.9)
    first = [int(np.flatnonzero(result.labels.ravel() == label)[0]) for label in range(1, len(BALLS) + 1)]
    assert first == sorted(first)
    assert result.instances.area.tolist() == np.bincount(result.labels.ravel())[1:].tolist()
    pairs = match(truth, result.labels)
    found = result.instances.centroid[pairs.predicted_ids - 1]
    expected = ndimage.center_of_mass(truth > 0, truth, pairs.truth_ids)
    assert found == pytest.approx(np.array(expected), abs=0.3)
    assert result.instances.bbox.shape == (len(BALLS), 6)


@pytest.mark.parametrize("planes_from", ["z", "zyx"])
def test_what_the_model_leaves_out_by_itself_is_counted(volume, planes_from):
    sceptic = Embedder(bright_objects, SETTINGS, ClusterSettings(min_size=12), ScoreCalibration(min_score=1.0))
    found = segment_volume(sceptic, volume, PredictOptions(planes_from=planes_from, measure=True))
    assert (len(found.instances), found.doubtful) == (0, len(BALLS))
    everything = PredictOptions(planes_from=planes_from, measure=True, filters=FilterSettings(min_score=0.0))
    found = segment_volume(sceptic, volume, everything)
    assert (len(found.instances), found.doubtful) == (len(BALLS), 0)


def test_each_voxel_learns_where_its_centre_is(embedder, volume, truth):
    maps = embed_volume(embedder, volume, PredictOptions())
    assert maps.embeddings.shape == (28, 48, 48, 3)
    assert maps.spacing == SPACING
    assert maps.settings.seed_window <= 3
    for label, centre in enumerate(ndimage.center_of_mass(truth > 0, truth, range(1, len(BALLS) + 1)), start=1):
        inside = ndimage.binary_erosion(truth == label, iterations=2)
        assert inside.any()
        # With 6 planes across a ball instead of 10, depths are shortened by as much.
        assert np.abs(maps.embeddings[inside] - np.multiply(centre, (0.6 * 2, 1, 1))).max() < 1.5
        assert maps.foreground[inside].min() > 0.99


@pytest.mark.parametrize("planes_from", ["z", "zyx"])
def test_a_streamed_volume_in_blocks_and_on_the_disc_gives_the_same(embedder, volume, truth, planes_from, tmp_path):
    whole = segment_volume(embedder, volume, PredictOptions(planes_from=planes_from, measure=True))
    options = PredictOptions(
        planes_from=planes_from, tiles=dataclasses.replace(BLOCKS, memory=1e-3), workspace=tmp_path, measure=True
    )
    streamed = ArrayVolume(volume.array, spacing=SPACING)
    streamed.streamed = True
    steps = []
    parts = segment_volume(embedder, streamed, options, lambda done, total, detail="": steps.append((done, total)))
    assert np.array_equal(np.concatenate(list(parts.strips(5))), parts.labels)
    same(parts.labels, whole.labels)
    assert list(tmp_path.iterdir()) == []
    assert steps[-1][0] == steps[-1][1]
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert parts.instances.area.tolist() == np.bincount(parts.labels.ravel())[1:].tolist()


def test_blocks_are_more_than_one(embedder, volume):
    grid = PlaneMaps(embedder, volume, PredictOptions(tiles=BLOCKS)).plan.grid
    assert len(grid) > 1
    # In planes that are twice as far apart, blocks have half as many.
    assert grid.tile(0, 0, 0).extent.shape[0] <= 20 < grid.tile(0, 0, 0).extent.shape[1] <= 40


def test_blocks_have_the_maps_of_the_whole(embedder, volume):
    source = PlaneMaps(embedder, volume, PredictOptions())
    source.prepare(lambda *_: None)
    whole = source.embed(Box(0, 0, 0, 28, 48, 48))
    box = Box(5, 3, 7, 22, 40, 30)
    part = source.embed(box)
    inside = box.slices_in(Box(0, 0, 0, 28, 48, 48))
    # As those who join blocks do.
    moved = part.embeddings + np.multiply(box.begin, SPACING).astype(np.float32)
    assert np.abs(moved - whole.embeddings[inside]).max() < 1e-4
    for name in ("foreground", "seeds", "bandwidth"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[inside])
    source.close()


def test_planes_that_are_left_out_are_interpolated(truth, volume):
    settings = dataclasses.replace(SETTINGS, diameter=24.0)
    seen = []

    def counting(images, *arguments):
        seen.append(len(images))
        return bright_objects(images, *arguments)

    embedder = Embedder(counting, settings, ClusterSettings(min_size=12))
    result = segment_volume(embedder, volume, PredictOptions(planes_from="zyx"))
    # All planes along z; of 48 along y and x every third one and the last.
    assert sum(seen) == 28 + 2 * 17
    same(result.labels, truth, 0.8)


def test_planes_go_through_the_network_in_batches_and_tiles(embedder, volume):
    levels = np.array([20], np.float32), np.array([200], np.float32)
    options = PredictOptions(tiles=TileSettings(memory=1e-3))
    network = PlaneNetwork(embedder, levels, 1.0, (2.0, 1.0, 1.0), options)

    def empty(*shape):
        return PreparedVolume(embedder, ArrayVolume(np.zeros(shape, np.uint8)), options)

    batches = list(network.embed(empty(3, 200, 150), 0))
    assert network.batch_count((3, 200, 150), 0) == len(batches) == 1
    (batch,) = batches
    assert batch.indices.tolist() == [0, 1, 2]
    # Where nothing is, voxels point to themselves, whatever the tile.
    expected = np.stack(np.indices((200, 150)), axis=-1)
    assert np.array_equal(batch.maps["embeddings"][1, ..., :2], expected)
    rows = next(network.embed(empty(9, 4, 30), 1)).maps["embeddings"]
    assert rows.shape == (4, 9, 30, 4)
    # Planes lie two columns apart.
    assert rows[0, :, 0, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16]


def test_indices_and_places():
    assert plane_indices(1, 3).tolist() == [0]
    assert plane_indices(7, 3).tolist() == [0, 3, 6]
    values = np.array([[0, 10], [4, 30]])
    assert interpolated(values, 1, np.array([-1.0, 0.25, 1.0])).tolist() == [[0, 2.5, 10], [4, 10.5, 30]]


def test_voxels_without_an_image_hold_no_object(embedder, truth):
    values = np.where(truth > 0, 200, 20).astype(np.uint8)
    values[:, :, 24:] = 0
    choice = LevelChoice(levels=(20, 200), ignore_zeros=True)
    for planes_from in ("z", "zyx"):
        options = PredictOptions(planes_from=planes_from, level_choice=choice)
        labels = segment_volume(embedder, ArrayVolume(values, spacing=SPACING), options).labels
        assert labels[:, :, 24:].max() == 0
        assert labels.max() > 0


def test_filters_and_overrides_are_of_voxels(embedder, volume, truth):
    areas = np.bincount(truth.ravel())[1:]
    for planes_from in ("z", "zyx"):
        least = int(np.median(areas))
        options = PredictOptions(planes_from=planes_from, overrides={"min_size": least})
        assert segment_volume(embedder, volume, options).labels.max() == (areas >= least).sum()
        options = PredictOptions(planes_from=planes_from, filters=FilterSettings(exclude_border=True))
        # One ball is cut by the first plane.
        assert segment_volume(embedder, volume, options).labels.max() == len(BALLS) - 1


def test_planes_are_chosen_by_the_spacing(embedder):
    def chosen(shape, spacing, **options):
        return choose_planes(embedder, ArrayVolume(np.zeros(shape), spacing=spacing), PredictOptions(**options))

    planes, why = chosen((28, 48, 48), SPACING)
    assert planes == "zyx"
    assert "6 planes lie across a typical object at a spacing of 2 : 1 : 1" in why
    planes, why = chosen((28, 48, 48), (4, 1, 1))
    assert (planes, "3 planes" in why) == ("z", True)
    planes, why = chosen((3, 48, 48), (1, 1, 1))
    assert (planes, "no more than 3" in why) == ("z", True)
    # Objects of 56 pixels, of which the network has learnt those of up to 14.
    assert chosen((28, 48, 48), (4, 1, 1), diameter=56.0)[0] == "zyx"


def test_models_without_positions_see_planes_along_z(volume, truth):
    settings = dataclasses.replace(SETTINGS, loss="metric")

    def metric(images, *arguments):
        maps = bright_objects(images, *arguments)
        return {name: maps[name] for name in ("embeddings", "foreground")}

    embedder = Embedder(metric, settings, ClusterSettings(bandwidth=3.0, min_size=12))
    assert choose_planes(embedder, volume, PredictOptions())[0] == "z"
    same(segment_volume(embedder, volume, PredictOptions()).labels, truth, 0.9)
    with pytest.raises(InstsegError, match="hold no positions"):
        segment_volume(embedder, volume, PredictOptions(planes_from="zyx"))


def test_planes_along_z_give_no_embeddings(embedder, volume):
    with pytest.raises(UsageError, match="no embeddings of a volume"):
        segment_volume(embedder, volume, PredictOptions(planes_from="z", return_embeddings=True))


def test_a_volume_that_fails_costs_no_other(embedder, volume, truth):
    def broken():
        raise OSError("no such thing")

    wrong = ArrayVolume(np.zeros((4, 8, 8, 2), np.uint8))
    options = PredictOptions(planes_from="zyx")
    readers = [lambda: wrong, broken, lambda: volume]
    channels, other, found = segment_volumes(embedder, readers, options)
    assert "2 channels" in str(channels)
    assert isinstance(other, InstsegError)
    same(found.labels, truth, 0.9)


def test_a_model_takes_volumes(truth, volume, tiny_model):
    model = Model(bright_objects, SETTINGS, ClusterSettings(min_size=12))
    labels = model.predict_volume(volume.array[..., 0], spacing=SPACING, planes_from="zyx")
    same(labels, truth, 0.9)
    result = model.segment_volume(volume, return_embeddings=True)
    assert np.array_equal(result.labels, labels)
    assert np.array_equal(result.embeddings.embeddings, model.embed_volume(volume).embeddings)
    assert len(result.instances) == len(BALLS)
    trained = instseg.load(tiny_model)
    assert trained.predict_volume(volume.array[:9, :24, :24, 0]).shape == (9, 24, 24)
    with pytest.raises(UsageError, match="expected \\(Z, Y, X\\)"):
        model.predict_volume(np.zeros((4, 4)))


def test_a_model_of_volumes_takes_no_images():
    settings = ModelSettings(ndim=3, spacing=SPACING, embeddings=4)
    model = Model(bright_objects, settings, ClusterSettings())
    with pytest.raises(UsageError, match="predict_volume"):
        model.predict(np.zeros((8, 8)))
    with pytest.raises(UsageError, match="sees no planes"):
        model.predict_volume(np.zeros((8, 8, 8)), planes_from="z")


def test_blocks_that_are_too_small_are_refused_in_the_pixels_they_are_given_in(embedder, volume):
    options = PredictOptions(tiles=TileSettings(tile=20, overlap=12))
    with pytest.raises(InstsegError, match="a block of 20 pixels .* overlap of 12 .* at least 26; make `tile` larger"):
        segment_volume(embedder, volume, options)


def test_blocks_are_of_use_however_little_memory_there_is(embedder):
    options = PredictOptions(tiles=TileSettings(memory=0.5))
    grid = plan_blocks((200, 300, 400), SPACING, embedder, options, magnification=1.0)
    # The overlap is 0.75 * 14 + 6 pixels.
    assert grid.overlap == (9, 17, 17)
    assert all(side >= 0.9 * over for side, over in zip(grid.tile(0, 0, 0).core.shape, grid.overlap, strict=True))


@pytest.mark.parametrize("spacing", [(200, 1, 1), (1, 1, 200), (2, 0.001, 1)])
def test_a_volume_is_not_resampled_beyond_reason(embedder, volume, spacing):
    stretched = ArrayVolume(volume.array[:8, :16, :16], spacing=spacing)
    with pytest.raises(UsageError, match="would be resampled .* times, expected up to 100; give the right `spacing`"):
        segment_volume(embedder, stretched, PredictOptions(planes_from="zyx"))


def test_a_disc_has_to_have_room_for_all_maps_together(embedder, volume, tmp_path, monkeypatch):
    options = PredictOptions(planes_from="zyx", tiles=TileSettings(memory=1e-3), workspace=tmp_path)
    # There are three maps of 0.7 MiB.
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(2**21, 2**20, 2**20))
    with pytest.raises(InstsegError, match="cannot keep the maps of 28 x 48 x 48 voxels .*: 0.0 GiB are free"):
        segment_volume(embedder, volume, options)


def test_what_is_not_of_a_volume_in_memory_is_refused(volume):
    model = Model(bright_objects, SETTINGS, ClusterSettings())
    with pytest.raises(UsageError, match="time is 1, expected none"):
        model.predict_volume(volume.array, time=1)
    with pytest.raises(UsageError, match="spacing is .* expected none beside a reader"):
        model.predict_volume(volume, spacing=(1, 1, 1))
    with pytest.raises(UsageError, match="planes_from is x, expected z or zyx"):
        model.predict_volume(volume, planes_from="x")
