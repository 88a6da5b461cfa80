"""Batches of patches: their shapes, that a number gives the same batch, and what is normalised."""

import warnings

import numpy as np
import pytest

from instseg.data.discs import draw_discs
from instseg.data.patches import DiscPatches, SamplePatches
from instseg.data.rng import BATCHES, generator
from instseg.data.samples import make_sample
from instseg.labels.regions import IGNORED
from instseg.preprocessing.normalisation import normalise
from instseg.settings import DiscSettings

DISCS = DiscSettings(size=48, min_discs=3, max_discs=6)


def disc_patches(seed=0, size=32):
    return DiscPatches(DISCS, batch_size=5, patch_size=size, seed=seed)


def sample_patches(seed=0, size=32):
    rng = np.random.default_rng(5)
    samples = [make_sample(*draw_discs(rng, DISCS)) for _ in range(3)]
    return SamplePatches(samples, batch_size=5, patch_size=size, seed=seed)


def turns(array):
    """The eight ways that a square can lie."""
    return [np.rot90(side, quarters) for side in (array, array[:, ::-1]) for quarters in range(4)]


def same(one, other):
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


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


def test_ignored_pixels_stay_ignored_in_patches():
    labels = np.zeros((64, 64), np.int32)
    labels[10:30, 10:30] = 7
    labels[10:30, 30:40] = IGNORED
    labels[40:60, 10:30] = 3
    samples = [make_sample(np.arange(4096, dtype=np.uint16).reshape(64, 64), labels)]
    plain, augmented = 0, 0
    for number in range(6):
        batch = SamplePatches(samples, batch_size=4, patch_size=48, seed=1).batch(number)
        for patch in batch.labels:
            assert set(np.unique(patch)) <= {IGNORED, 0, 1, 2}
            count = int((patch == IGNORED).sum())
            plain += count == 200
            augmented += count not in (0, 200)
    assert plain
    assert augmented


def test_what_lies_outside_of_a_small_image_is_background():
    samples = [make_sample(np.arange(64, dtype=np.uint8).reshape(8, 8), np.full((8, 8), IGNORED, np.int32))]
    labels = SamplePatches(samples, batch_size=8, patch_size=32, seed=0).batch(0).labels
    assert set(np.unique(labels)) == {IGNORED, 0}


def test_of_too_many_instances_none_takes_the_place_of_ignored_pixels():
    labels = np.arange(1, 1025, dtype=np.int32).reshape(32, 32)
    labels[:4] = IGNORED
    patches = SamplePatches([make_sample(labels.astype(np.uint16), labels)], batch_size=1, patch_size=32, seed=0)
    batches = [patches.batch(number).labels for number in range(8)]
    found = [batch for batch in batches if (batch == IGNORED).sum() == 128]
    assert found
    assert all(len(np.unique(batch[batch > 0])) == 896 for batch in found)
