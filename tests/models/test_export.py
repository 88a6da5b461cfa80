"""The SavedModel: any size of image, both signatures, opened without our code, every weight stored once."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from instseg.network.architecture import build_network
from instseg.network.decoding import decode_outputs
from instseg.network.serving import ServingModule
from instseg.preprocessing.levels import image_levels
from instseg.settings import ModelSettings

# (batch, height, width): multiples of nothing, smaller than the stride, one pixel.
SIZES = [(1, 1, 1), (2, 1, 5), (1, 3, 2), (1, 17, 33), (2, 8, 12)]
SETTINGS = {
    "gray-overlap": ModelSettings(embeddings=3, widths=(8, 12), diameter=10.0),
    "classes": ModelSettings(embeddings=3, widths=(8, 12), classes=4, class_names=("a", "b", "c")),
    "rgb-metric": ModelSettings(channels=3, embeddings=2, loss="metric", widths=(8, 12)),
    "percentiles": ModelSettings(embeddings=3, widths=(8, 12), levels="percentiles"),
}


class Exported:
    """A network whose weights show in its outputs, and the SavedModel that was written of it."""

    def __init__(self, settings, folder):
        self.settings = settings
        self.folder = folder
        self.network = build_network(settings)
        rng = np.random.default_rng(0)
        for variable in self.network.variables:
            size = 0.3 / np.sqrt(np.prod(variable.shape[:-1]))
            variable.assign(variable.numpy() + rng.uniform(-size, size, variable.shape))
        self.serving = ServingModule(self.network, settings)
        self.serving.save(folder)


@pytest.fixture(scope="module")
def all_exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    return {name: Exported(settings, folder / name) for name, settings in SETTINGS.items()}


@pytest.fixture(params=SETTINGS)
def exported(request, all_exported):
    return all_exported[request.param]


def draw(settings, size, seed=1):
    """Images of integers 0..255, and their levels by the model's rule, (B, C) each."""
    shape = (*size, settings.channels)
    images = np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)
    levels = np.stack([image_levels(image, settings.levels) for image in images])
    return images, levels[:, 0], levels[:, 1]


def embed(exported, images, low, high, magnification=1.0):
    return exported.serving.embed(images, low, high, magnification)


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_maps_of_any_size_have_their_shapes_and_ranges(exported, size):
    maps = exported.serving.embed_raw(draw(exported.settings, size)[0])
    expected = {"embeddings": (*size, exported.settings.embeddings), "foreground": size}
    if exported.settings.loss == "overlap":
        expected |= {"seeds": size, "bandwidth": size}
    if exported.settings.classes > 2:
        expected |= {"classes": (*size, exported.settings.classes - 1)}
    assert {name: tuple(value.shape) for name, value in maps.items()} == expected
    for name, value in maps.items():
        assert value.dtype == tf.float32
        assert np.isfinite(value).all()
        if name in ("foreground", "seeds", "classes"):
            assert np.min(value) >= 0
            assert np.max(value) <= 1
        if name == "bandwidth":
            assert np.min(value) > 0


@pytest.mark.parametrize("size", SIZES)
def test_levels_are_found_by_the_models_rule(exported, size):
    images, low, high = draw(exported.settings, size)
    assert_same(exported.serving.embed_raw(images), embed(exported, images, low, high))


def test_a_frame_and_a_hot_pixel_do_not_change_levels(all_exported):
    """What the graph finds by itself is what it is given, where the rules differ."""
    image = np.random.default_rng(0).normal(50, 3, (1, 30, 40, 1)) + 90 * (np.arange(40)[:, None] % 8 < 4)
    image = np.pad(np.rint(image), ((0, 0), (20, 5), (0, 30), (0, 0)), constant_values=255).astype(np.float32)
    image[0, 25, 7] = 255
    for name in ("gray-overlap", "percentiles"):
        exported = all_exported[name]
        low, high = image_levels(image[0], exported.settings.levels)
        assert (high < 200) == (name == "gray-overlap")
        assert_same(exported.serving.embed_raw(image), embed(exported, image, low[None], high[None]))


def test_values_far_beyond_the_levels_end_by_the_robust_rule_alone(all_exported):
    image, low, high = np.full((1, 8, 8, 1), 30, np.float32), np.float32([[0]]), np.float32([[100]])
    image[0, 2:4, 2:4] = 1000
    ended = np.minimum(image, 150)
    same = embed(all_exported["gray-overlap"], ended, low, high)
    assert_same(embed(all_exported["gray-overlap"], image, low, high), same)
    plain = all_exported["percentiles"]
    assert not np.allclose(
        embed(plain, image, low, high)["foreground"], embed(plain, ended, low, high)["foreground"], atol=1e-3
    )


def test_maps_are_the_networks_outputs(exported):
    images, low, high = draw(exported.settings, (2, 8, 12))
    normalised = (images - low[:, None, None]) / (high - low)[:, None, None]
    outputs = decode_outputs(exported.network(normalised, training=False), exported.settings)
    logits = np.asarray(outputs.class_logits)
    expected = {
        "embeddings": outputs.embeddings,
        "foreground": np.exp(logits[..., 1:]).sum(axis=-1) / np.exp(logits).sum(axis=-1),
    }
    if exported.settings.classes > 2:
        shares = np.exp(logits[..., 1:])
        expected["classes"] = shares / shares.sum(axis=-1, keepdims=True)
    if exported.settings.loss == "overlap":
        expected["seeds"] = 1 / (1 + np.exp(-np.asarray(outputs.seed_logits)))
        expected["bandwidth"] = outputs.bandwidth
    assert_same(embed(exported, images, low, high), expected)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 5), (1, 2, 3), (2, 17, 33)])
def test_padding_mirrors_and_keeps_the_upper_left(exported, size):
    images, low, high = draw(exported.settings, size)
    far = [(0, -length % 4) for length in size[1:]]
    mirrored = np.pad(images, [(0, 0), *far, (0, 0)], mode="reflect")
    found = embed(exported, images, low, high)
    whole = embed(exported, mirrored, low, high)
    assert_same(found, {name: value[:, : size[1], : size[2]] for name, value in whole.items()})


def test_images_of_a_batch_have_their_own_levels(exported):
    images = np.concatenate([draw(exported.settings, (1, 9, 7))[0] * scale for scale in (1, 100)])
    both = exported.serving.embed_raw(images)
    for number in range(2):
        alone = exported.serving.embed_raw(images[number : number + 1])
        assert_same({name: value[number : number + 1] for name, value in both.items()}, alone)


def test_units_of_the_image_do_not_matter(exported):
    images = draw(exported.settings, (1, 9, 7))[0]
    assert_same(exported.serving.embed_raw(images * 257 + 1000), exported.serving.embed_raw(images))


def test_a_constant_image_gives_what_a_black_one_gives(exported):
    shape = (1, 5, 6, exported.settings.channels)
    black = exported.serving.embed_raw(np.zeros(shape, np.float32))
    assert_same(exported.serving.embed_raw(np.full(shape, 1000, np.float32)), black)
    assert all(np.isfinite(value).all() for value in black.values())


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("magnification", [1.0, 2.0, 0.4])
@pytest.mark.parametrize("size", [(1, 17, 33), (1, 1, 2)])
def test_a_magnified_image_has_maps_in_its_own_pixels(size, magnification, scale):
    settings = ModelSettings(embeddings=3, widths=(4, 8), diameter=30.0, scale=scale)
    network = build_network(settings)
    for layer in ("embedding_subpixels", "semantic_subpixels"):
        kernel, bias = network.get_layer(layer).weights
        kernel.assign(np.zeros(kernel.shape))
        # Whatever the image, each pixel points half a diameter down and a tenth to the left.
        values = [0.5, -0.1, 2.0, 1.0, 0.0] if layer == "embedding_subpixels" else [0.0, 3.0]
        bias.assign(np.tile(values, 4))
    images, low, high = draw(settings, size)
    maps = ServingModule(network, settings).embed(images, low, high, magnification)
    rows, columns = np.mgrid[: size[1], : size[2]]
    expected = np.stack([rows + 15 / magnification, columns - 3 / magnification], axis=-1)
    np.testing.assert_allclose(maps["embeddings"][0, ..., :2], expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(maps["bandwidth"][0], 12 / magnification, rtol=1e-5)
    np.testing.assert_allclose(maps["seeds"][0], 1 / (1 + np.exp(-1)), rtol=1e-5)
    np.testing.assert_allclose(maps["foreground"][0], 1 / (1 + np.exp(-3)), rtol=1e-5)


def test_the_network_sees_the_magnified_image(all_exported):
    exported = all_exported["rgb-metric"]
    images, low, high = draw(exported.settings, (1, 20, 24))
    larger = embed(exported, np.asarray(tf.image.resize(images, (40, 48))), low, high)
    expected = tf.image.resize(larger["embeddings"], (20, 24), antialias=True)
    found = embed(exported, images, low, high, 2.0)["embeddings"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(found - embed(exported, images, low, high)["embeddings"]).max() > 0.01


def test_each_weight_is_stored_once(exported):
    parameters = sum(int(np.prod(variable.shape)) for variable in exported.network.variables)
    stored = sum(path.stat().st_size for path in (exported.folder / "variables").iterdir())
    # Beside the weights: their names and the graph of objects.
    assert 4 * parameters < stored < 4 * parameters + 150 * len(exported.network.variables) + 4096


PLAIN = """
import sys
import numpy as np
import tensorflow as tf

for name in ("gray-overlap", "classes", "rgb-metric", "percentiles"):
    model = tf.saved_model.load(f"{sys.argv[1]}/{name}")
    assert sorted(model.signatures) == ["serving_default", "with_percentiles"], list(model.signatures)
    given = dict(np.load(f"{sys.argv[1]}/{name}.npz"))
    levels = {key: tf.constant(given.pop(key)) for key in ("low", "high")}
    image = tf.constant(given["image"])
    found = {"raw." + key: value for key, value in model.signatures["serving_default"](image=image).items()}
    with_levels = model.signatures["with_percentiles"](image=image, magnification=tf.constant(1.0), **levels)
    found |= {"with." + key: value for key, value in with_levels.items()}
    np.savez(f"{sys.argv[1]}/{name}.out.npz", **{key: value.numpy() for key, value in found.items()})
assert not any(name.startswith("instseg") for name in sys.modules), "our code was needed"
"""


def test_plain_tensorflow_opens_it(all_exported, tmp_path):
    for name, exported in all_exported.items():
        (tmp_path / name).symlink_to(exported.folder)
        images, low, high = draw(exported.settings, (2, 17, 33))
        np.savez(tmp_path / f"{name}.npz", image=images, low=low, high=high)
    ended = subprocess.run(
        [sys.executable, "-c", PLAIN, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    for name, exported in all_exported.items():
        images, low, high = draw(exported.settings, (2, 17, 33))
        expected = embed(exported, images, low, high)
        found = dict(np.load(tmp_path / f"{name}.out.npz"))
        for signature in ("raw", "with"):
            maps = {key.removeprefix(f"{signature}."): value for key, value in found.items() if signature in key}
            assert_same(maps, expected)
