"""The network: sizes, seeds, what its raw maps mean, and that it sees the same thing everywhere alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from instseg.network.architecture import build_network, heads_of
from instseg.network.decoding import decode_heads, decode_outputs
from instseg.network.layers import FoldedConvolution, FusedBatchNormalization
from instseg.network.strides import stride
from instseg.settings import ModelSettings

OVERLAP = ModelSettings(embeddings=3, widths=(4, 6), diameter=10.0)
METRIC = ModelSettings(channels=3, embeddings=2, classes=3, loss="metric", widths=(4, 6))


def shake(network, seed=0):
    """Give all weights, those of the normalisation included, values that show in the output."""
    rng = np.random.default_rng(seed)
    for variable in network.variables:
        size = 0.3 / np.sqrt(np.prod(variable.shape[:-1]))
        variable.assign(variable.numpy() + rng.uniform(-size, size, variable.shape))
    return network


@pytest.fixture(scope="module")
def overlap_network():
    return shake(build_network(OVERLAP))


def image(*shape, seed=1):
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def test_the_stride_doubles_with_every_level():
    assert [stride(ModelSettings(widths=widths)) for widths in [(4,), (4, 6), (32, 64, 128, 192)]] == [2, 4, 16]


@pytest.mark.parametrize(("settings", "maps"), [(OVERLAP, 3 + 2 + 2), (METRIC, 2 + 3)])
def test_every_pixel_has_its_own_raw_maps(settings, maps):
    network = build_network(settings)
    for height, width in [(4, 4), (8, 12)]:
        raw = network(image(2, height, width, settings.channels))
        assert raw.shape == (2, height, width, maps)
        assert raw.dtype == tf.float32


def test_in_bfloat16_maps_and_weights_are_float32_and_nearly_the_same():
    plain, coarse = shake(build_network(OVERLAP)), build_network(OVERLAP, precision="bfloat16")
    assert {variable.dtype for variable in coarse.trainable_variables} == {"float32"}
    coarse.set_weights(plain.get_weights())
    for training in (False, True):
        raw, exact = (network(image(2, 16, 16, 1), training=training) for network in (coarse, plain))
        assert raw.dtype == tf.float32
        difference = np.abs(raw - exact)
        assert 0 < difference.max() < 0.1 * np.std(exact)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.05)])
def test_a_convolution_does_what_the_normalisation_after_it_would(precision, tolerance):
    rng = np.random.default_rng(0)
    convolution = FoldedConvolution(4, 3, 2, padding="same", use_bias=False, dtype=precision)
    normalisation = FusedBatchNormalization(epsilon=1e-3, dtype=precision)
    convolution.follow_with(normalisation)
    image = keras.Input((None, None, 3))
    network = keras.Model(image, normalisation(convolution(image)))
    network.set_weights([rng.uniform(0.1, 1, variable.shape) for variable in network.variables])
    assert [variable.path.split("/")[-1] for variable in network.variables] == [
        *("kernel", "gamma", "beta", "moving_mean", "moving_variance")
    ]
    kernel, gamma, beta, mean, variance = network.get_weights()
    given = rng.normal(size=(2, 8, 6, 3)).astype(np.float32)
    plain = tf.nn.conv2d(given, kernel, 2, "SAME").numpy()
    wanted = gamma * (plain - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(network(given, training=False), wanted, atol=tolerance * np.abs(wanted).max())
    # Where something is learnt it is the batch's moments that count.
    learning = np.asarray(network(given, training=True), np.float32)
    np.testing.assert_allclose(learning.mean(axis=(0, 1, 2)), beta, atol=0.02)


def test_sub_pixels_differ(overlap_network):
    raw = overlap_network(image(1, 8, 8, 1)).numpy()[0]
    blocks = raw.reshape(4, 2, 4, 2, -1)
    assert (np.ptp(blocks, axis=(1, 3)) > 0).all()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (build_network(OVERLAP, seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    kernels = [(a, b) for a, b in zip(first, other, strict=True) if a.ndim == 4]
    assert kernels
    assert not any(np.array_equal(a, b) for a, b in kernels)


def test_no_two_kernels_of_a_shape_are_alike():
    kernels = [weights for weights in build_network(OVERLAP).get_weights() if weights.ndim == 4]
    for number, one in enumerate(kernels):
        assert not any(np.array_equal(one, other) for other in kernels[number + 1 :])


def test_a_new_network_points_every_pixel_to_itself():
    outputs = decode_outputs(build_network(OVERLAP)(image(1, 8, 8, 1)), OVERLAP)
    rows, columns = np.mgrid[:8, :8]
    position = np.stack([rows, columns, np.zeros((8, 8))], axis=-1)
    np.testing.assert_allclose(outputs.embeddings[0], position, atol=5)
    np.testing.assert_allclose(outputs.bandwidth, np.full((1, 8, 8), 4.0), rtol=0.5)


@pytest.mark.parametrize("settings", [OVERLAP, METRIC])
def test_heads_apart_are_those_of_the_raw_maps(settings):
    network = shake(build_network(settings))
    pixels = image(1, 8, 12, settings.channels)
    raw, (maps, class_logits) = network(pixels), heads_of(network)(pixels)
    np.testing.assert_array_equal(np.concatenate([maps, class_logits], axis=-1), raw)
    together, apart = decode_outputs(raw, settings), decode_heads(maps, class_logits, settings)
    np.testing.assert_array_equal(apart.embeddings, together.embeddings)
    np.testing.assert_array_equal(apart.class_logits, together.class_logits)


def test_overlap_outputs_by_hand():
    # Offsets (.1, -.2, .3) diameters, seed 5, log bandwidth -ln 2 below, logits 7 and 8; the second pixel is neutral.
    raw = np.zeros((1, 1, 2, 7), np.float32)
    raw[0, 0, 0] = [0.1, -0.2, 0.3, 5, np.log(2), 7, 8]
    outputs = decode_outputs(tf.constant(raw), OVERLAP)
    np.testing.assert_allclose(outputs.embeddings, [[[[1, -2, 3], [0, 1, 0]]]], rtol=1e-6)
    np.testing.assert_allclose(outputs.seed_logits, [[[5, 0]]])
    np.testing.assert_allclose(outputs.bandwidth, [[[2, 4]]], rtol=1e-6)
    np.testing.assert_allclose(outputs.class_logits, [[[[7, 8], [0, 0]]]])


def test_metric_outputs_by_hand():
    raw = tf.constant([[[[1.0, 2, 3, 4, 5]]]])
    outputs = decode_outputs(raw, METRIC)
    np.testing.assert_array_equal(outputs.embeddings, [[[[1, 2]]]])
    np.testing.assert_array_equal(outputs.class_logits, [[[[3, 4, 5]]]])
    assert outputs.seed_logits is None
    assert outputs.bandwidth is None


def test_positions_are_rows_then_columns():
    outputs = decode_outputs(tf.zeros((2, 3, 4, 7)), OVERLAP)
    rows, columns = np.mgrid[:3, :4]
    for number in range(2):
        np.testing.assert_array_equal(outputs.embeddings[number, ..., 0], rows)
        np.testing.assert_array_equal(outputs.embeddings[number, ..., 1], columns)
        np.testing.assert_array_equal(outputs.embeddings[number, ..., 2], np.zeros((3, 4)))


def test_extreme_bandwidths_stay_finite_and_above_0():
    raw = np.zeros((1, 1, 2, 7), np.float32)
    raw[..., 4] = [[[1e6, -1e6]]]
    smallest, largest = np.asarray(decode_outputs(tf.constant(raw), OVERLAP).bandwidth)[0, 0]
    np.testing.assert_allclose([smallest, largest], 4 * np.exp([-4.0, 4.0]), rtol=1e-5)


def test_an_image_shifted_by_the_stride_has_its_outputs_shifted(overlap_network):
    pixels = image(1, 96, 96, 1)
    down, right = 4, 8
    shifted = np.roll(pixels, (down, right), axis=(1, 2))
    before = decode_outputs(overlap_network(pixels), OVERLAP)
    after = decode_outputs(overlap_network(shifted), OVERLAP)
    # Far enough from the border, where zeros come in.
    there, here = np.s_[:, 40 + down : 56 + down, 40 + right : 56 + right], np.s_[:, 40:56, 40:56]
    moved = np.asarray(before.embeddings)[here] + np.array([down, right, 0], np.float32)
    np.testing.assert_allclose(np.asarray(after.embeddings)[there], moved, atol=1e-4)
    for old, new in zip(before[1:], after[1:], strict=True):
        np.testing.assert_allclose(np.asarray(new)[there], np.asarray(old)[here], atol=1e-4)


def test_images_of_a_batch_do_not_see_each_other(overlap_network):
    pixels = image(3, 8, 8, 1)
    alone = np.concatenate([overlap_network(one[None]) for one in pixels])
    np.testing.assert_allclose(overlap_network(pixels), alone, atol=1e-5)


def test_eager_and_graph_agree(overlap_network):
    pixels = tf.constant(image(2, 8, 12, 1))

    def outputs(images):
        return decode_outputs(overlap_network(images, training=False), OVERLAP)

    for eager, graph in zip(outputs(pixels), tf.function(outputs)(pixels), strict=True):
        np.testing.assert_allclose(eager, graph, atol=1e-5)
