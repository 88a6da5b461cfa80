"""Windows, cuts and augmentation, on arrays whose values tell their position."""

import numpy as np
import pytest

from instseg.data.augment import augment, augment_strongly, crop_and_resize, random_crop_window

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


def test_strong_augmentation_shows_noise_without_objects_now_and_then():
    image = np.full((16, 16, 1), 0.5, np.float32)
    labels = np.ones((16, 16), np.int32)
    shown = [augment_strongly(np.random.default_rng(seed), image, labels) for seed in range(300)]
    empty = [patch for patch, found in shown if not found.any()]
    assert 1 <= len(empty) <= 30
    assert all(patch.std() > 0 for patch in empty)
    assert all((found == labels).all() for _, found in shown if found.any())


def test_strong_augmentation_shows_pixels_of_damaged_cameras_now_and_then():
    image = np.full((32, 32, 1), 0.5, np.float32)
    labels = np.ones((32, 32), np.int32)
    # Flips and quarter turns leave such an image as it is; what is left of a patch without noise is one value.
    shown = [augment_strongly(np.random.default_rng(seed), image, labels)[0] for seed in range(1000)]
    shares = [float((patch != np.median(patch)).mean()) for patch in shown if patch.min() < 0 or patch.max() > 1]
    few = [share for share in shares if 0 < share <= 0.02]
    assert 3 <= len(few) <= 60


def test_strong_augmentation_takes_colours_away_and_gives_some():
    rng = np.random.default_rng(0)
    labels = np.zeros((16, 16), np.int32)
    coloured = rng.random((16, 16, 3), np.float32)
    gray = np.repeat(coloured[..., :1], 3, axis=2)

    def is_gray(image):
        # Noise and gains of their own channels come on top.
        channels = image.reshape(-1, 3).T
        return all(np.std(channel) > 1e-3 for channel in channels) and np.corrcoef(channels).min() > 0.9

    lost = sum(is_gray(augment_strongly(np.random.default_rng(seed), coloured, labels)[0]) for seed in range(200))
    kept = sum(is_gray(augment_strongly(np.random.default_rng(seed), gray, labels)[0]) for seed in range(200))
    assert 20 < lost < 100
    assert 100 < kept < 190


def test_strong_augmentation_repeats_with_the_seed_and_leaves_its_inputs_alone():
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    labels = np.ones((16, 16), np.int32)
    before = image.copy()
    for seed in range(30):
        first, second = (augment_strongly(np.random.default_rng(seed), image, labels) for _ in range(2))
        np.testing.assert_array_equal(first[0], second[0])
        assert first[0].shape == image.shape and first[0].dtype == np.float32
    np.testing.assert_array_equal(image, before)
