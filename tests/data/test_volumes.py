"""Patches of volumes, and what training on them reads from a folder."""

import itertools

import numpy as np
import pytest

from instseg.data import datasets
from instseg.data.augment import augment, augment_strongly, crop_and_resize, random_crop_window, random_flip_rot90
from instseg.data.balls import draw_balls
from instseg.data.datasets import folder_data
from instseg.data.generate_volumes import generate_balls
from instseg.data.label_statistics import label_statistics, measure_diameters
from instseg.data.patches import SamplePatches
from instseg.data.samples import make_sample, rescale_sample
from instseg.data.survey import FolderSurvey
from instseg.data.volumes import common_spacing, validation_part, volume_patch_shape
from instseg.errors import InstsegError, UsageError
from instseg.io.folders import find_pairs
from instseg.io.label_volumes import write_label_volume
from instseg.io.volume_tiff import write_volume
from instseg.labels.regions import IGNORED
from instseg.settings import BallSettings, TrainSettings

BALLS = BallSettings(depth=16, size=48, min_balls=3, max_balls=6)
COUNTS = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@pytest.fixture(scope="module")
def sample():
    return make_sample(*draw_balls(np.random.default_rng(0), BALLS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("volumes") / "balls"
    generate_balls(path, count=3, settings=BALLS)
    return path


def test_a_cut_without_zoom_is_a_slice():
    labels = COUNTS.astype(np.int32) + 1
    image, cut = crop_and_resize(COUNTS[..., None], labels, (1.0, 2.0, 1.0, 4.0), (2, 2, 4))
    np.testing.assert_array_equal(image[..., 0], COUNTS[1:3, 2:4, 1:5])
    np.testing.assert_array_equal(cut, labels[1:3, 2:4, 1:5])


def test_a_zoomed_cut_is_interpolated_along_all_axes():
    image, labels = crop_and_resize(COUNTS[..., None], COUNTS.astype(np.int32), (0.0, 0.0, 0.0, 4.0), (1, 2, 2))
    # The one plane and the middles of 2 x 2 pixels: planes count 20 apart, rows 5.
    np.testing.assert_allclose(image[..., 0], [[[10 + 2.5 + 0.5, 10 + 2.5 + 2.5], [10 + 12.5 + 0.5, 10 + 12.5 + 2.5]]])
    np.testing.assert_array_equal(labels, COUNTS[1:2, 1::2, 1::2][:, :, :2])


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.4])
def test_windows_stay_in_the_volume_where_they_fit(zoom):
    rng, labels = np.random.default_rng(0), np.zeros((30, 40, 60), np.int32)
    labels[29, 0, 59] = 1
    for _ in range(100):
        *corner, side = random_crop_window(rng, labels, (8, 16, 16), zoom=zoom)
        assert side == 16 / zoom
        sides = np.array([8, 16, 16]) / zoom
        assert (np.array(corner) >= 0).all()
        assert (np.array(corner) <= np.array(labels.shape) - sides).all()


def test_volumes_are_turned_in_the_plane_and_their_planes_turned_over():
    labels = np.arange(32, dtype=np.int32).reshape(2, 4, 4)
    rng = np.random.default_rng(0)
    found = {random_flip_rot90(rng, labels[..., None], labels)[1].tobytes() for _ in range(300)}
    ways = (
        np.rot90(labels[order, :, flip], quarters, (1, 2))
        for order, flip, quarters in itertools.product(
            (slice(None), slice(None, None, -1)), (slice(None), slice(None, None, -1)), range(4)
        )
    )
    assert found == {np.ascontiguousarray(way).tobytes() for way in ways}


@pytest.mark.parametrize("change", [augment, augment_strongly])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_keeps_shapes_and_types(change, channels):
    image = np.random.default_rng(0).uniform(0, 1, (4, 16, 16, channels)).astype(np.float32)
    labels = np.arange(4 * 256, dtype=np.int32).reshape(4, 16, 16)
    for seed in range(40):
        new_image, new_labels = change(np.random.default_rng(seed), image, labels)
        assert (new_image.shape, new_image.dtype) == (image.shape, np.float32)
        assert (new_labels.shape, new_labels.dtype) == (labels.shape, np.int32)
        assert np.isfinite(new_image).all()


@pytest.mark.parametrize("augmentation", ["standard", "strong"])
def test_batches_of_volumes_are_numbered_and_repeat(sample, augmentation):
    def patches():
        return SamplePatches([sample], batch_size=3, patch_size=(8, 32, 32), seed=1, augmentation=augmentation)

    batch, again = patches().batch(5), patches().batch(5)
    assert batch.images.shape == (3, 8, 32, 32, 1)
    assert batch.labels.shape == (3, 8, 32, 32)
    for labels in batch.labels:
        assert set(np.unique(labels)) == set(range(labels.max() + 1))
    np.testing.assert_array_equal(batch.images, again.images)
    np.testing.assert_array_equal(batch.labels, again.labels)


def test_patches_show_what_is_labelled():
    labels = np.zeros((12, 40, 40), np.int32)
    labels[3:7, 10:20, 25:35] = 4
    source = SamplePatches(
        [make_sample(np.uint16(1000) * labels.astype(np.uint16), labels)], batch_size=20, patch_size=(8, 16, 16), seed=0
    )
    batch = source.batch(0)
    inside = batch.labels > 0
    assert inside.any(axis=(1, 2, 3)).mean() > 0.7
    assert batch.images[inside].mean() > batch.images[~inside].mean() + 0.5


def test_volumes_smaller_than_a_patch_are_padded():
    sample = make_sample(np.full((3, 8, 8), 7, np.uint8), np.ones((3, 8, 8), np.int32))
    labels = SamplePatches([sample], batch_size=2, patch_size=(8, 16, 16), seed=0).batch(0).labels
    assert labels.shape == (2, 8, 16, 16)
    # Some patches are zoomed.
    assert all(50 < (one > 0).sum() < 1000 for one in labels)


def test_a_rescaled_volume_is_larger_along_all_axes(sample):
    twice = rescale_sample(sample, 2.0)
    assert twice.labels.shape == (32, 96, 96)
    assert twice.image.shape == (32, 96, 96, 1)
    np.testing.assert_array_equal(twice.labels[::2, ::2, ::2], sample.labels)
    half = rescale_sample(sample, 0.5)
    assert half.labels.shape == (8, 24, 24)


def test_diameters_are_of_balls_in_columns():
    # A ball of 10 pixels, in voxels twice as deep as wide.
    voxels = np.pi / 6 * 10**3 / 2
    assert measure_diameters(np.array([round(voxels)] * 3), 0, (2, 1, 1)).typical == pytest.approx(10, abs=0.02)


def test_statistics_count_voxels_and_pieces():
    labels = np.zeros((4, 5, 6), np.int32)
    labels[0, :2, :2], labels[3, 4, 5], labels[:, 4, 0] = 7, 7, 2
    labels[1, 0, 5] = IGNORED
    statistics = label_statistics(labels)
    np.testing.assert_array_equal(statistics.ids, [2, 7])
    np.testing.assert_array_equal(statistics.areas, [4, 5])
    np.testing.assert_array_equal(statistics.pieces, [1, 2])
    assert statistics.ignored == 1


@pytest.mark.parametrize(
    ("asked", "spacing", "expected"),
    [(None, (2, 1, 1), (32, 64, 64)), (None, (5, 1, 1), (16, 64, 64)), (20, (2, 1, 1), (16, 64, 64))],
)
def test_patches_are_as_deep_as_wide_unless_asked(asked, spacing, expected):
    assert volume_patch_shape(64, asked, spacing, 8) == expected


def test_the_part_to_validate_on_holds_most_objects():
    labels = np.zeros((20, 60, 60), np.int32)
    labels[14:18, 40:56, 5:20] = 3
    labels[0, 0, 59] = IGNORED
    sample = make_sample(labels.astype(np.uint8), labels)
    part = validation_part(sample, (2, 1, 1), voxels=8_000)
    assert part.labels.size <= 8_000
    assert part.labels.size > 4_000
    assert (part.labels == 3).sum() == (labels == 3).sum()
    np.testing.assert_array_equal(part.image[..., 0][part.labels > 0], 3)
    assert validation_part(sample, (2, 1, 1)) is sample


# Folders


def test_small_objects_have_smaller_parts_to_validate_on(folder, monkeypatch):
    # The network sees a part four times as large as it is, along each axis.
    monkeypatch.setattr(datasets, "VALIDATION_VOXELS", 4**3 * 1_000)
    data = folder_data(folder, TrainSettings(patch_size=16), scale=lambda diameter: 4.0)
    assert all(300 < part.labels.size <= 1_000 for part in data.validation)


def test_a_folder_of_volumes_gives_patches_in_its_spacing(folder):
    data = folder_data(folder, TrainSettings(patch_size=32, batch_size=2), depth_multiple=lambda spacing: 4)
    assert data.spacing == (2.0, 1.0, 1.0)
    assert data.patch_shape == (16, 32, 32)
    assert data.channels == 1
    assert 10 < data.diameters.typical < 26
    assert data.patches.batch(0).images.shape == (2, 16, 32, 32, 1)
    assert [one.labels.shape for one in data.validation] == [(16, 48, 48)]
    assert data.description["training_images"] == 2


def test_volumes_that_do_not_fit_into_memory_are_read_when_they_are_needed(folder):
    data = folder_data(folder, TrainSettings(patch_size=32, batch_size=2), max_bytes=300_000)
    assert data.patches.batch(3).labels.shape == (2, 16, 32, 32)
    assert (data.patches.batch(3).labels > 0).any()


def test_a_spacing_that_is_given_goes_before_the_files(folder):
    assert folder_data(folder, TrainSettings(patch_size=32), spacing=(0.6, 0.2, 0.2)).spacing == pytest.approx(
        (3, 1, 1)
    )


def test_voxels_of_files_that_say_nothing_are_cubes(tmp_path):
    volume, labels = draw_balls(np.random.default_rng(0), BALLS)
    for name, values, write in (("images", volume, write_volume), ("labels", labels, write_label_volume)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.tif", values)
    survey = FolderSurvey(tmp_path)
    assert common_spacing(find_pairs(tmp_path), survey) == (1.0, 1.0, 1.0)
    assert len(survey.problems.merged(tmp_path)) == 1


def test_spacings_are_for_volumes(tmp_path):
    from instseg.data.generate import generate_discs
    from instseg.settings import DiscSettings

    generate_discs(tmp_path / "discs", count=2, settings=DiscSettings(size=32, min_discs=1, max_discs=2))
    with pytest.raises(UsageError, match="spacing is given, but the labels of .* are images"):
        folder_data(tmp_path / "discs", TrainSettings(patch_size=16), spacing=(2, 1, 1))


def test_labels_of_another_depth_are_refused(tmp_path, folder):
    volume, labels = draw_balls(np.random.default_rng(0), BALLS)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    write_volume(tmp_path / "images" / "a.tif", volume)
    write_label_volume(tmp_path / "labels" / "a.tif", labels[:-1])
    with pytest.raises(InstsegError, match="16 x 48 x 48 pixels and .* is 15 x 48 x 48, expected equal sizes"):
        folder_data(tmp_path, TrainSettings(patch_size=16))
