"""From labelled images to batches: windows, cuts, augmentation, the same batch for the same number, and the split."""

import tracemalloc
import warnings

import numpy as np
import pytest

from instseg.data.augment import augment, crop_and_resize, random_crop_window
from instseg.data.datasets import disc_data, folder_data, suggest_scale, train_val_split
from instseg.data.discs import draw_discs
from instseg.data.patches import DiscPatches, SamplePatches
from instseg.data.rng import BATCHES, SPLIT, VALIDATION, generator
from instseg.data.samples import make_sample, rescale_sample
from instseg.errors import InstsegError
from instseg.io.folders import Pair
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.preprocessing.normalisation import normalise
from instseg.settings import DiscSettings, TrainSettings

DISCS = DiscSettings(size=48, min_discs=3, max_discs=6)
SETTINGS = TrainSettings(batch_size=5, patch_size=32, seed=7)


def disc_patches(seed=0, size=32):
    return DiscPatches(DISCS, batch_size=5, patch_size=size, seed=seed)


def sample_patches(seed=0, size=32):
    rng = np.random.default_rng(5)
    samples = [make_sample(*draw_discs(rng, DISCS)) for _ in range(3)]
    return SamplePatches(samples, batch_size=5, patch_size=size, seed=seed)


def same(one, other):
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


# Batches


@pytest.mark.parametrize("make", [disc_patches, sample_patches])
def test_the_same_seed_and_number_give_the_same_batch_in_any_order(make):
    first = [make().batch(number) for number in range(4)]
    backwards = make()
    for number in (3, 2, 1, 0):
        assert same(backwards.batch(number), first[number])


@pytest.mark.parametrize("make", [disc_patches, sample_patches])
def test_other_numbers_and_seeds_give_other_batches(make):
    batches = [make(seed).batch(number).images for seed in (0, 1) for number in (0, 1, 2)]
    for position, one in enumerate(batches):
        assert not any(np.array_equal(one, other) for other in batches[position + 1 :])
    assert not any(np.array_equal(batches[0][0], other) for other in batches[0][1:])


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("make", [disc_patches, sample_patches])
def test_batches_have_their_shapes_and_consecutive_labels(make, size):
    for number in range(4):
        images, labels, _ = make(size=size).batch(number)
        assert images.shape == (5, size, size, 1)
        assert images.dtype == np.float32
        assert labels.shape == (5, size, size)
        assert labels.dtype == np.int32
        assert np.isfinite(images).all()
        for one in labels:
            present = np.unique(one[one > 0])
            assert present.tolist() == list(range(1, len(present) + 1))
        assert labels.any()


def test_labels_lie_where_the_discs_are():
    for number in range(5):
        images, labels, _ = disc_patches().batch(number)
        assert ((images[..., 0] > 0.4) == (labels > 0)).mean() > 0.98


def test_augmented_labels_lie_where_the_discs_are():
    for number in range(5):
        for image, labels in zip(*sample_patches().batch(number)[:2], strict=True):
            if 0 < (labels > 0).mean() < 1:
                assert image[labels > 0].mean() > image[labels == 0].mean() + 0.3


def test_generated_discs_are_not_augmented_and_whole_images_are_cut_from():
    images, labels, _ = disc_patches(size=48).batch(0)
    sample = make_sample(*draw_discs(generator(0, BATCHES, 0), DISCS))
    np.testing.assert_allclose(images[0], normalise(sample.image, sample.low, sample.high), atol=1e-6)
    np.testing.assert_array_equal(labels[0], sample.labels)


def test_an_image_smaller_than_the_patch_is_surrounded_by_zeros():
    image = np.arange(100, 112, dtype=np.uint8).reshape(3, 4)
    sample = make_sample(image, np.full((3, 4), 9, np.int32))
    for number in range(20):
        images, labels, _ = SamplePatches([sample], batch_size=2, patch_size=16, seed=0).batch(number)
        assert images.shape == (2, 16, 16, 1)
        assert set(np.unique(labels)) == {0, 1}
        # Zoomed by at most 1.4 either way.
        assert (2 * 3) <= (labels[0] > 0).sum() <= (5 * 6)
        rows, columns = np.nonzero(labels[0])
        assert np.ptp(rows) < 6
        assert np.ptp(columns) < 6


def test_outside_a_small_image_is_exactly_0():
    images, labels, _ = DiscPatches(DiscSettings(size=8), batch_size=2, patch_size=16, seed=0).batch(0)
    # In whichever corner turning brought the image.
    for image, lying in zip(images[..., 0], labels, strict=True):
        assert any((way[:8, :8] != 0).sum() == (image != 0).sum() > 32 for way in turns(image))
        assert any(way[:8, :8].sum() == lying.sum() for way in turns(lying))


def test_half_of_the_patches_are_pieces_of_the_image_only_turned():
    # No two windows of random values are alike.
    image = np.random.default_rng(0).integers(0, 255, (24, 24)).astype(np.uint8)
    sample = make_sample(image, np.ones((24, 24), np.int32))
    normalised = normalise(sample.image, sample.low, sample.high)[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(normalised, (16, 16)).reshape(-1, 16, 16)
    pieces = {np.ascontiguousarray(way).tobytes() for window in windows for way in turns(window)}
    images = SamplePatches([sample], batch_size=200, patch_size=16, seed=0).batch(0).images
    share = np.mean([patch.tobytes() in pieces for patch in images[..., 0]])
    assert 0.4 < share < 0.6


def test_every_image_is_used():
    samples = [make_sample(np.zeros((8, 8), np.uint8), np.full((8, 8), 1, np.int32)) for _ in range(2)]
    # All one object, or none.
    samples.append(make_sample(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.int32)))
    labels = SamplePatches(samples, batch_size=300, patch_size=4, seed=0).batch(0).labels
    assert 0.25 < np.mean(~labels.any(axis=(1, 2))) < 0.42


@pytest.mark.parametrize("channels", [1, 3])
def test_a_constant_image_becomes_0_without_a_warning(channels):
    sample = make_sample(np.full((20, 20, channels), 7, np.uint16), np.ones((20, 20), np.int32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images, *_ = SamplePatches([sample], batch_size=4, patch_size=16, seed=0).batch(0)
    assert images.shape == (4, 16, 16, channels)
    assert np.isfinite(images).all()
    assert not normalise(sample.image, sample.low, sample.high).any()


def test_normalise_by_hand():
    image = np.array([[[10, 5, 100], [20, 5, 300]]], np.uint16)
    low, high = np.array([10, 5, 200], np.float32), np.array([20, 5, 400], np.float32)
    np.testing.assert_array_equal(normalise(image, low, high), [[[0, 0, -0.5], [1, 0, 0.5]]])
    assert normalise(image, low, high).dtype == np.float32


def test_a_sample_has_channels_and_their_percentiles():
    gray = make_sample(np.arange(1001, dtype=np.uint16)[None], np.ones((1, 1001), np.int32))
    assert gray.image.shape == (1, 1001, 1)
    np.testing.assert_allclose([gray.low, gray.high], [[10], [998]])
    colour = make_sample(np.stack([gray.image[..., 0]] * 2, axis=-1), gray.labels)
    np.testing.assert_allclose([colour.low, colour.high], [[10, 10], [998, 998]])


# Windows and cuts

COUNTS = np.arange(20, dtype=np.float32).reshape(4, 5)
COUNT_LABELS = COUNTS.astype(np.int32) + 1


def test_cut_without_zoom_is_a_slice():
    image, labels = crop_and_resize(COUNTS[..., None], COUNT_LABELS, (1.0, 2.0, 3.0), 3)
    np.testing.assert_array_equal(image[..., 0], COUNTS[1:4, 2:5])
    np.testing.assert_array_equal(labels, COUNT_LABELS[1:4, 2:5])


def test_cut_with_zoom_2_by_hand():
    # Pixel centres of the patch lie at 0.75 and 1.25, 1.75 and 2.25 of rows that count 5 apart, columns 1 apart.
    image, labels = crop_and_resize(COUNTS[..., None], COUNT_LABELS, (1.0, 1.0, 2.0), 4)
    positions = np.array([0.75, 1.25, 1.75, 2.25])
    np.testing.assert_allclose(image[..., 0], 5 * positions[:, None] + positions, rtol=1e-6)
    np.testing.assert_array_equal(labels, COUNT_LABELS[np.ix_([1, 1, 2, 2], [1, 1, 2, 2])])


def test_cut_with_zoom_a_half_by_hand():
    # Every pixel of the patch covers 2 x 2 of the image; its centre lies between them.
    image, _ = crop_and_resize(COUNTS[..., None], COUNT_LABELS, (0.0, 0.0, 4.0), 2)
    np.testing.assert_allclose(image[..., 0], [[3, 5], [13, 15]])


def test_cut_between_pixels_by_hand():
    image, _ = crop_and_resize(COUNTS[..., None], COUNT_LABELS, (0.5, 0.25, 2.0), 2)
    np.testing.assert_allclose(image[..., 0], [[2.75, 3.75], [7.75, 8.75]])


def test_cut_beyond_the_image_is_0():
    image, labels = crop_and_resize(COUNTS[..., None] + 1, COUNT_LABELS, (2.0, 3.0, 4.0), 4)
    np.testing.assert_array_equal(image[..., 0], np.pad(COUNTS[2:, 3:] + 1, ((0, 2), (0, 2))))
    np.testing.assert_array_equal(labels, np.pad(COUNT_LABELS[2:, 3:], ((0, 2), (0, 2))))
    image, labels = crop_and_resize(COUNTS[..., None] + 1, COUNT_LABELS, (-2.0, -1.0, 4.0), 4)
    np.testing.assert_array_equal(image[..., 0], np.pad(COUNTS[:2, :3] + 1, ((2, 0), (1, 0))))
    np.testing.assert_array_equal(labels, np.pad(COUNT_LABELS[:2, :3], ((2, 0), (1, 0))))


def test_cut_keeps_types_and_channels():
    image, labels = crop_and_resize(np.ones((9, 9, 3), np.float32), np.ones((9, 9), np.int32), (0.3, 1.7, 5.5), 8)
    assert image.shape == (8, 8, 3)
    assert (image.dtype, labels.dtype) == (np.float32, np.int32)
    np.testing.assert_allclose(image, 1)


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.4])
def test_windows_stay_in_the_image_where_they_fit(zoom):
    rng = np.random.default_rng(0)
    labels = np.zeros((40, 60), np.int32)
    labels[0, 59] = 1
    for _ in range(200):
        row, column, side = random_crop_window(rng, labels, 16, zoom=zoom)
        assert side == 16 / zoom
        assert 0 <= row <= 40 - side
        assert 0 <= column <= 60 - side


def test_corners_are_whole_pixels_where_nothing_is_zoomed():
    rng = np.random.default_rng(0)
    labels = np.zeros((20, 21), np.int32)
    corners = np.array([random_crop_window(rng, labels, 16, zoom=1.0)[:2] for _ in range(300)])
    assert set(corners[:, 0]) == set(range(5))
    assert set(corners[:, 1]) == set(range(6))


def test_windows_of_small_images_begin_at_their_corner():
    labels = np.ones((8, 9), np.int32)
    assert random_crop_window(np.random.default_rng(0), labels, 16, zoom=1.0) == (0, 0, 16)


def test_most_windows_show_an_object():
    labels = np.zeros((200, 200), np.int32)
    labels[100:120, 30:50] = 1
    rng = np.random.default_rng(0)

    def shows(**options):
        row, column, side = random_crop_window(rng, labels, 16, zoom=1.0, **options)
        return labels[int(row) : int(row + side) + 1, int(column) : int(column + side) + 1].any()

    chosen = np.mean([shows() for _ in range(500)])
    uniform = np.mean([shows(foreground_share=0.0) for _ in range(500)])
    # 64 throws hit 1 % of the pixels in 47 % of the windows.
    assert uniform < 0.1
    assert chosen > 0.3


def test_windows_of_an_image_without_objects_are_anywhere():
    rng = np.random.default_rng(0)
    corners = np.array([random_crop_window(rng, np.zeros((100, 50), np.int32), 10, zoom=1.0)[:2] for _ in range(500)])
    np.testing.assert_allclose(corners.min(axis=0), 0, atol=3)
    np.testing.assert_allclose(corners.max(axis=0), [90, 40], atol=3)


# Augmentation


def turns(array):
    """The eight ways that a square can lie."""
    return [np.rot90(side, quarters) for side in (array, array[:, ::-1]) for quarters in range(4)]


def test_labels_are_turned_in_all_eight_ways_and_otherwise_unchanged():
    labels = np.arange(16, dtype=np.int32).reshape(4, 4)
    rng = np.random.default_rng(0)
    found = {augment(rng, np.zeros((4, 4, 1), np.float32), labels)[1].tobytes() for _ in range(200)}
    assert found == {np.ascontiguousarray(way).tobytes() for way in turns(labels)}


def test_the_image_is_turned_with_the_labels():
    # A corner pattern, bright enough to stand out from whatever light, blur and noise are put on it.
    labels = np.zeros((24, 24), np.int32)
    labels[:12, :8] = 1
    rng = np.random.default_rng(0)
    for _ in range(100):
        image, turned = augment(rng, labels[..., None].astype(np.float32), labels)
        agreement = np.corrcoef(image.ravel(), turned.ravel())[0, 1]
        assert agreement > 0.85
        assert turned.sum() == labels.sum()


def test_augmentation_leaves_its_inputs_alone():
    image = np.random.default_rng(0).uniform(0, 1, (16, 16, 3)).astype(np.float32)
    labels = np.arange(256, dtype=np.int32).reshape(16, 16)
    kept = image.copy(), labels.copy()
    for seed in range(20):
        new_image, new_labels = augment(np.random.default_rng(seed), image, labels)
        assert (new_image.shape, new_image.dtype) == ((16, 16, 3), np.float32)
        assert (new_labels.shape, new_labels.dtype) == ((16, 16), np.int32)
        assert np.isfinite(new_image).all()
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(labels, kept[1])


def test_negative_values_survive_the_gamma():
    image = np.full((8, 8, 1), -0.5, np.float32)
    for seed in range(30):
        new, _ = augment(np.random.default_rng(seed), image, np.zeros((8, 8), np.int32))
        assert np.isfinite(new).all()
        assert new.mean() < 0


def test_augmentation_is_random_and_repeats_with_the_seed():
    image = np.random.default_rng(0).uniform(0, 1, (8, 8, 1)).astype(np.float32)
    labels = np.zeros((8, 8), np.int32)
    results = [augment(np.random.default_rng(seed), image, labels)[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


# Data of a training


def write_folder(folder, labels, images=None):
    """A training folder of 16 x 16 images, one of each label array."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, one in enumerate(labels):
        image = rng.integers(0, 256, (16, 16), np.uint8) if images is None else images[number]
        write_picture(folder / "images" / f"{number}.png", image)
        write_labels(folder / "labels" / f"{number}.png", one)
    return folder


def squares(*sides):
    """Labels of squares, one below the other."""
    labels = np.zeros((16, 16), np.int32)
    top = 0
    for number, side in enumerate(sides, start=1):
        labels[top : top + side, :side] = number
        top += side
    return labels


def test_the_diameter_is_that_of_the_median_instance(tmp_path):
    # Areas 4, 9 and 25 in one image, 9 and 16 in the other: the median is 9.
    # Numbers may have gaps.
    gaps = np.array([0, 2, 40, 30_000], np.int32)
    folder = write_folder(tmp_path / "data", [gaps[squares(2, 3, 5)], squares(3, 4)])
    data = folder_data(folder, SETTINGS, val=folder)
    assert data.diameters.typical == pytest.approx(2 * np.sqrt(9 / np.pi), abs=0.005)
    assert data.channels == 1
    assert data.description == {"kind": "folder", "training_images": 2, "validation_images": ["0", "1"]}
    assert same(data.patches.batch(3), folder_data(folder, SETTINGS, val=folder).patches.batch(3))


def test_a_patch_of_very_many_instances_numbers_them_at_random():
    """The loss takes the first 512 only: every instance has its turn, and all pixels keep theirs."""
    labels = np.arange(1, 32 * 32 + 1, dtype=np.int32).reshape(32, 32)
    labels[:4] = 0
    sample = make_sample(np.zeros((32, 32), np.uint8), labels)
    patches = SamplePatches([sample], batch_size=2, patch_size=64, seed=0)
    seen = set()
    for number in range(3):
        for found in patches.batch(number).labels:
            assert found.max() == len(np.unique(found)) - 1 > 512
            seen.add(int(np.argwhere(found == 1)[0][0]))
    assert len(seen) > 3


def test_large_objects_are_learnt_in_smaller_images(tmp_path):
    labels = np.zeros((200, 160), np.int32)
    labels[20:120, 10:110] = 1
    labels[130:190, 50:150] = 2
    image = np.where(labels > 0, 200, 10).astype(np.uint8)
    folder = write_folder(tmp_path / "data", [labels], [image])
    data = folder_data(folder, SETTINGS)
    typical = 2 * np.sqrt(8000 / np.pi)
    assert data.diameters.typical == pytest.approx(typical, abs=0.01)
    assert data.scale == pytest.approx(48 / typical, rel=1e-3)
    small = rescale_sample(data.validation[0], data.scale)
    assert small.image.shape == (95, 76, 1)
    assert 2 * np.sqrt(np.median(np.bincount(small.labels.ravel())[1:]) / np.pi) == pytest.approx(48, rel=0.03)
    # Validation is as users predict: in the images as they are.
    assert data.validation[0].labels.shape == (200, 160)
    batches = [data.patches.batch(number) for number in range(10)]
    assert max((batch.labels > 0).mean() for batch in batches) > 0.3


@pytest.mark.parametrize(("diameter", "scale"), [(4.0, 2.0), (8.0, 1.0), (20.0, 1.0), (48.0, 1.0), (96.0, 0.5)])
def test_scales(diameter, scale):
    assert suggest_scale(diameter) == scale


def test_memory_does_not_grow_with_the_numbers_of_labels(tmp_path):
    folder = write_folder(tmp_path / "data", [])
    labels = squares(2, 3)
    labels[labels == 2] = 20_000_000
    write_picture(folder / "images" / "0.png", np.zeros((16, 16), np.uint8))
    write_labels(folder / "labels" / "0.tif", labels)
    tracemalloc.start()
    data = folder_data(folder, SETTINGS)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.diameters.typical == pytest.approx(2 * np.sqrt(6.5 / np.pi), abs=0.005)
    assert most < 20_000_000


def test_pieces_of_masks_are_instances_when_asked_for(tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[2:4, 2:4] = mask[8:11, 8:11] = 255
    folder = write_folder(tmp_path / "data", [])
    write_picture(folder / "images" / "0.png", mask)
    write_picture(folder / "labels" / "0.png", mask)
    data = folder_data(folder, SETTINGS, connected_components=True)
    assert data.validation[0].labels.max() == 2
    # The median of 4 and 9.
    assert data.diameters.typical == pytest.approx(2 * np.sqrt(6.5 / np.pi), abs=0.005)


def test_channels_that_differ_are_told(tmp_path):
    images = [np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)]
    folder = write_folder(tmp_path / "data", [squares(4)] * 3, images)
    with pytest.raises(InstsegError, match=r"2 with 1 \(such as 0.png\); 1 with 3 \(such as 1.png\)"):
        folder_data(folder, SETTINGS, val=folder)


def test_labels_without_an_instance_are_told(tmp_path):
    folder = write_folder(tmp_path / "data", [squares()] * 3)
    with pytest.raises(InstsegError, match="no label in .* holds an instance"):
        folder_data(folder, SETTINGS)


def test_reading_is_counted(tmp_path):
    folder = write_folder(tmp_path / "data", [squares(4)] * 3)
    counts = []
    folder_data(folder, SETTINGS, progress=lambda done, of: counts.append((done, of)))
    assert counts == [(1, 3), (2, 3), (3, 3)]


def pairs(tmp_path, number):
    return [Pair(str(index), tmp_path / f"{index}.png", tmp_path / f"{index}.tif") for index in range(number)]


@pytest.mark.parametrize(
    ("number", "share", "kept"), [(2, 0.1, 1), (2, 0.9, 1), (3, 0.9, 2), (10, 0.1, 1), (20, 0.25, 5)]
)
def test_the_split_is_disjoint_and_both_parts_have_something(tmp_path, number, share, kept):
    everything = pairs(tmp_path, number)
    training, validation = train_val_split(everything, TrainSettings(validation_share=share))
    assert len(validation) == kept
    assert sorted([*training, *validation], key=str) == sorted(everything, key=str)


def test_the_split_follows_the_seed(tmp_path):
    everything = pairs(tmp_path, 20)
    splits = [train_val_split(everything, TrainSettings(seed=seed, validation_share=0.5)) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_a_single_pair_is_both(tmp_path):
    one = pairs(tmp_path, 1)
    assert train_val_split(one, SETTINGS) == (one, one)


def test_generated_data_repeat_with_the_seed_and_validation_is_not_trained_on():
    first, again, other = (disc_data(TrainSettings(patch_size=32, seed=seed), DISCS) for seed in (0, 0, 1))
    assert same(first.patches.batch(0), again.patches.batch(0))
    assert not same(first.patches.batch(0), other.patches.batch(0))
    for one, repeated, others in zip(first.validation, again.validation, other.validation, strict=True):
        assert np.array_equal(one.image, repeated.image)
        assert not np.array_equal(one.image, others.image)
    assert first.channels == 1
    # Squared radii are uniform in 50..135.
    assert 2 * np.sqrt(50) * 0.7 < first.diameters.typical < 2 * np.sqrt(135)
    assert first.description["kind"] == "discs"
    assert first.description["size"] == 48


def test_streams_of_random_numbers_never_meet():
    keys = [(0,), (1,), (2,), (2**31 - 1,)]
    keys = [(seed, *key) for (seed,) in keys for key in ((BATCHES, 0), (BATCHES, 1), (VALIDATION,), (SPLIT,))]
    first = {tuple(generator(*key).integers(2**32, size=4)) for key in keys}
    assert len(first) == len(keys)
