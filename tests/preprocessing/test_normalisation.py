"""Percentiles, of whole images and estimated, and what normalisation makes of them."""

import numpy as np
import pytest

from instseg.data.discs import draw_discs
from instseg.errors import UsageError
from instseg.preprocessing.normalisation import estimate_percentiles, normalise, percentiles
from instseg.settings import DiscSettings

RAMP8 = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1), (7, 5, 3), (64, 50, 2)])
def test_percentiles_equal_numpys(dtype, shape):
    image = (np.random.default_rng(0).random(shape) * 250).astype(dtype)
    for low, high in [(1.0, 99.8), (0, 100), (33.3, 50)]:
        limits = percentiles(image, low, high)
        expected = np.percentile(image, [low, high], axis=(0, 1)).astype(np.float32)
        assert np.array_equal(limits, expected)
        assert limits[0].dtype == np.float32


def test_percentiles_by_hand():
    low, high = percentiles(np.array([[[0, 10], [100, 20]]], np.uint16), 25, 100)
    assert low.tolist() == [25, 12.5]
    assert high.tolist() == [100, 20]


def test_percentiles_refuse_other_shapes_and_numbers():
    with pytest.raises(UsageError, match="expected"):
        percentiles(RAMP8)
    with pytest.raises(UsageError, match="expected 0 to 100"):
        percentiles(RAMP8[..., None], -1, 50)


def test_estimated_percentiles_are_nearly_those_of_the_whole():
    image = draw_discs(np.random.default_rng(0), DiscSettings(size=3000, min_discs=2000, max_discs=2000))[0][..., None]
    estimate = estimate_percentiles(image.shape[:2], lambda box: image[box.top : box.bottom, box.left : box.right])
    np.testing.assert_allclose(estimate, percentiles(image), rtol=0.03)
    small = image[:40, :50]
    estimate = estimate_percentiles((40, 50), lambda box: small[box.top : box.bottom, box.left : box.right])
    np.testing.assert_allclose(estimate, np.percentile(small[::2, ::2], [1, 99.8])[:, None], rtol=1e-5)


def test_percentiles_become_0_and_1_and_a_constant_channel_0():
    image = np.array([[[10, 7], [30, 7]]], np.uint8)
    normalised = normalise(image, np.float32([10, 7]), np.float32([30, 7]))
    assert normalised.tolist() == [[[0, 0], [1, 0]]]
    assert normalised.dtype == np.float32
