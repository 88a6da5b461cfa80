"""Networks of volumes: the same layers as for images, plane by plane and along Z."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from instseg.network.architecture import build_network, named_variables
from instseg.network.decoding import decode_outputs
from instseg.network.layers import DEPTH_SUFFIX, PlaneMean, Upsampling, on_planes, subpixels_to_space
from instseg.network.objective import objective_of, pixel_coordinates
from instseg.network.serving import ServingModule, _resized
from instseg.network.strides import plane_strides, strides
from instseg.preprocessing.levels import image_levels
from instseg.settings import MetricLossSettings, ModelSettings

SETTINGS = ModelSettings(ndim=3, spacing=(2.0, 1.0, 1.0), embeddings=4, widths=(4, 6), diameter=10.0)
CUBES = ModelSettings(ndim=3, spacing=(1.0, 1.0, 1.0), embeddings=4, widths=(4, 6), diameter=10.0)


def shake(network, seed=0):
    """Give all weights, those of the normalisation included, values that show in the output."""
    rng = np.random.default_rng(seed)
    for variable in network.variables:
        size = 0.3 / np.sqrt(np.prod(variable.shape[:-1]))
        variable.assign(variable.numpy() + rng.uniform(-size, size, variable.shape))
    return network


def volume(*shape, seed=1):
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [((1, 1, 1), (2, 2, 2)), ((2, 1, 1), (1, 2, 2)), ((5, 1, 1), (1, 1, 2)), ((50, 1, 1), (1, 1, 1))],
)
def test_levels_halve_the_planes_where_cells_are_wider_than_deep(spacing, expected):
    settings = ModelSettings(ndim=3, spacing=spacing, widths=(4, 4, 4))
    assert plane_strides(settings) == expected
    assert strides(settings) == (np.prod(expected), 8, 8)


def test_images_have_no_planes():
    settings = ModelSettings(widths=(4, 4, 4))
    assert strides(settings) == (8, 8)
    assert not [name for name in named_variables(build_network(settings)) if DEPTH_SUFFIX in name]


@pytest.mark.parametrize("settings", [SETTINGS, CUBES])
def test_every_voxel_has_its_own_raw_maps(settings):
    network = build_network(settings)
    for shape in [(4, 4, 4), (8, 8, 12)]:
        raw = network(volume(2, *shape, 1))
        assert raw.shape == (2, *shape, 4 + 2 + 2)
        assert raw.dtype == tf.float32


def test_a_convolution_along_z_is_one_of_three_dimensions():
    maps, kernel = volume(2, 6, 4, 5, 3), volume(3, 1, 3, 2, seed=2)
    along_z = on_planes(lambda images: tf.nn.conv2d(images, kernel, (2, 1), "SAME"), tf.constant(maps), along_z=True)
    expected = tf.nn.conv3d(maps, kernel[:, None], (1, 2, 1, 1, 1), "SAME")
    np.testing.assert_allclose(along_z, expected, rtol=1e-5, atol=1e-6)


def test_cells_become_voxels_in_the_order_of_planes_rows_and_columns():
    # One cell, of which each of its 2 x 2 x 2 parts has two maps.
    cells = np.arange(16, dtype=np.float32).reshape(1, 1, 1, 1, 16)
    voxels = subpixels_to_space(tf.constant(cells), 2)
    np.testing.assert_array_equal(voxels[0, ..., 0], [[[0, 2], [4, 6]], [[8, 10], [12, 14]]])
    np.testing.assert_array_equal(voxels[0, ..., 1], voxels[0, ..., 0] + 1)


def test_planes_are_averaged_and_repeated():
    maps = np.array([1, 3, 5, 9], np.float32).reshape(1, 4, 1, 1, 1)
    mean = PlaneMean(2)(maps)
    np.testing.assert_array_equal(np.ravel(mean), [2, 7])
    repeated = Upsampling(2)(mean)
    assert repeated.shape == (1, 4, 2, 2, 1)
    np.testing.assert_array_equal(repeated[0, :, 1, 1, 0], [2, 2, 7, 7])


def test_a_network_that_mixes_no_planes_sees_each_as_an_image():
    # Planes so far apart that no level reduces their number.
    settings = ModelSettings(ndim=3, spacing=(20.0, 1.0, 1.0), embeddings=4, widths=(4, 6))
    flat = shake(build_network(ModelSettings(embeddings=4, widths=(4, 6))))
    deep = shake(build_network(settings), seed=3)
    images = named_variables(flat)
    for name, variable in named_variables(deep).items():
        if name in images and variable.shape == images[name].shape:
            variable.assign(images[name])
        elif name.endswith((f"{DEPTH_SUFFIX}_norm/gamma", f"{DEPTH_SUFFIX}_norm/beta")):
            variable.assign(tf.zeros_like(variable))
    seen = volume(1, 3, 8, 12, 1)
    of_planes = flat(seen[0], training=False)
    of_volume = deep(seen, training=False)
    assert of_volume.shape == (1, 3, 8, 12, 8)
    np.testing.assert_allclose(of_volume[0], of_planes, rtol=1e-4, atol=1e-5)


def test_neighbouring_planes_count():
    network = shake(build_network(SETTINGS))
    seen = volume(1, 8, 8, 8, 1)
    other = seen.copy()
    other[:, 5] += 1
    changed = np.abs(network(other, training=False) - network(seen, training=False)).max(axis=(0, 2, 3, 4))
    assert (changed[4:7] > 1e-4).all()


def test_coordinates_are_in_the_unit_of_a_column():
    coordinates = pixel_coordinates((2, 3, 4), (2.0, 1.5, 1.0))
    assert coordinates.shape == (1, 2, 3, 4, 3)
    np.testing.assert_allclose(coordinates[0, 1, 2, 3], [2, 3, 3])
    np.testing.assert_array_equal(pixel_coordinates(tf.constant([5, 6]))[0, 4, 3], [4, 3])


def test_voxels_of_a_neutral_network_point_to_themselves():
    outputs = decode_outputs(tf.zeros((1, 3, 4, 5, 8)), SETTINGS)
    np.testing.assert_allclose(outputs.embeddings[0, 2, 3, 4], [4, 3, 4, 0])
    np.testing.assert_allclose(outputs.bandwidth, 4.0)
    # An offset of a diameter along Z.
    raw = np.zeros((1, 3, 4, 5, 8), np.float32)
    raw[..., 0] = 1
    np.testing.assert_allclose(decode_outputs(raw, SETTINGS).embeddings[0, 1, 0, 0], [2 + 10, 0, 0, 0])


def test_clusterings_are_those_of_balls():
    flat = objective_of(ModelSettings(diameter=20.0)).default_clustering(MetricLossSettings())
    deep = objective_of(ModelSettings(ndim=3, spacing=(2, 1, 1))).default_clustering(MetricLossSettings())
    assert deep == dataclasses.replace(flat.for_volume((2, 1, 1)), seed_window=1)
    # Of the disc of a diameter of 20 pixels 7 %, and the ball of the same diameter as that.
    assert (flat.min_size, deep.min_size) == (22, 39)


@pytest.mark.parametrize("loss", ["overlap", "metric"])
def test_terms_of_volumes_are_finite_and_learnt_from(loss):
    settings = ModelSettings(ndim=3, spacing=(2, 1, 1), embeddings=4, widths=(4, 6), loss=loss)
    network = shake(build_network(settings))
    labels = np.zeros((2, 4, 8, 8), np.int32)
    labels[:, 1:3, 2:6, 1:4], labels[:, :, 6:, 5:] = 1, 2
    truth = tf.constant(labels)
    objective = objective_of(settings)

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            maps = network(volume(2, 4, 8, 8, 1), training=True)[..., : len(objective.embedding_maps)]
            terms = objective.loss_terms(maps, truth, tf.constant([1, 2]), MetricLossSettings())
            total = sum(terms.values())
        return total, tape.gradient(total, [variable.value for variable in network.trainable_variables])

    total, found = gradients()
    assert np.isfinite(total)
    names = [name for name, variable in named_variables(network).items() if variable.trainable]
    kernels = [one for name, one in zip(names, found, strict=True) if name.endswith("depth/kernel")]
    assert len(kernels) == 3
    assert all(np.abs(one).max() > 0 for one in kernels)


# Serving


@pytest.fixture(scope="module")
def serving():
    return ServingModule(shake(build_network(SETTINGS)), SETTINGS)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 9), (8, 16, 12)])
def test_volumes_of_any_size_have_maps_of_their_size(serving, shape):
    maps = serving.embed_raw(volume(1, *shape, 1))
    assert {name: value.shape[1:4] for name, value in maps.items()} == dict.fromkeys(
        ("embeddings", "foreground", "seeds", "bandwidth"), shape
    )
    assert maps["embeddings"].shape[-1] == 4


def test_levels_are_those_of_the_planes_one_below_the_other(serving):
    seen = (1000 * volume(1, 6, 9, 8, 1)).astype(np.uint16)
    low, high = image_levels(seen[0])
    assert all(np.array_equal(*pair) for pair in zip((low, high), image_levels(seen[0].reshape(54, 8, 1)), strict=True))
    given = serving.embed(seen.astype(np.float32), low[None], high[None], 1.0)
    found = serving.embed_raw(seen.astype(np.float32))
    for name, values in given.items():
        np.testing.assert_allclose(values, found[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_volumes_are_resampled_along_all_axes():
    z, y, x = np.meshgrid(*map(np.arange, (4, 6, 8)), indexing="ij")
    ramp = (100 * z + 10 * y + x).astype(np.float32)[None, ..., None]
    twice = _resized(tf.constant(ramp), tf.constant([8, 12, 16]))
    assert twice.shape == (1, 8, 12, 16, 1)
    z, y, x = (np.arange(2, length) / 2 - 0.25 for length in (6, 10, 14))
    expected = 100 * z[:, None, None] + 10 * y[:, None] + x
    np.testing.assert_allclose(twice[0, 2:6, 2:10, 2:14, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(_resized(tf.constant(ramp), tf.constant([4, 6, 8])), ramp)


def test_a_magnified_volume_has_maps_of_its_own_size(serving):
    seen, low, high = volume(1, 4, 8, 8, 1), np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    plain, magnified = (serving.embed(seen, low, high, magnification) for magnification in (1.0, 2.0))
    assert {name: value.shape for name, value in magnified.items()} == {
        name: value.shape for name, value in plain.items()
    }
    assert np.abs(magnified["foreground"] - plain["foreground"]).max() > 1e-3
