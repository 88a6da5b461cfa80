"""What a loss means for a model: names and units of maps, defaults, and that TensorFlow is not needed to ask."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from instseg.network.objective import objective_of
from instseg.settings import MetricLossSettings, ModelSettings

OVERLAP = ModelSettings(embeddings=3, diameter=10.0, scale=0.5)
METRIC = ModelSettings(embeddings=2, classes=3, class_names=("a", "b"), loss="metric")


def test_the_maps_have_names():
    assert objective_of(OVERLAP).embedding_maps == ("position 0", "position 1", "position 2", "seed", "log_precision")
    assert objective_of(OVERLAP).semantic_maps == ("background", "class 1")
    assert objective_of(OVERLAP).map_count == 7
    assert objective_of(METRIC).embedding_maps == ("metric 0", "metric 1")
    assert objective_of(METRIC).semantic_maps == ("background", "class a", "class b")
    assert objective_of(METRIC).map_count == 5


def test_positions_and_options_belong_to_one_loss_each():
    assert (objective_of(OVERLAP).positions, objective_of(METRIC).positions) == (True, False)
    assert (objective_of(OVERLAP).has_options, objective_of(METRIC).has_options) == (False, True)


def test_metric_maps_are_decoded_as_they_are():
    maps = tf.constant([[[[1.0, 2.0]]]])
    decoded = objective_of(METRIC).decode(maps, tf.zeros((1, 1, 1, 2)), 10.0)
    np.testing.assert_array_equal(decoded["embeddings"], maps)
    assert (decoded["seed_logits"], decoded["bandwidth"]) == (None, None)


@pytest.mark.parametrize("ratio", [0.5, 3.0])
def test_weights_for_another_diameter_say_the_same_in_pixels(ratio):
    """A bias learnt with one diameter, adapted to another: what it decodes to, by the rule, stays."""
    objective, old_diameter = objective_of(OVERLAP), 12.0
    bias = np.array([0.1, -0.2, 0.3, 5.0, 0.7], np.float32)
    adapted = [
        objective.adapt_weights(name, np.full(4, value, np.float32), ratio)[0]
        for name, value in zip(objective.embedding_maps, bias, strict=True)
    ]
    place = tf.zeros((1, 1, 1, 2))
    before = objective.decode(bias[None, None, None], place, old_diameter)
    after = objective.decode(np.array(adapted, np.float32)[None, None, None], place, old_diameter / ratio)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, err_msg=name)


def test_kernels_of_bandwidths_and_seeds_stay():
    kernel = np.ones((1, 1, 6, 4), np.float32)
    for name in ("seed", "log_precision"):
        assert np.array_equal(objective_of(OVERLAP).adapt_weights(name, kernel, 2.0), kernel)
    assert np.array_equal(objective_of(OVERLAP).adapt_weights("position 2", kernel, 2.0), 2 * kernel)


@pytest.mark.parametrize(
    ("settings", "names"), [(OVERLAP, ["embedding", "bandwidth", "seed"]), (METRIC, ["embedding"])]
)
def test_the_terms_of_a_step_are_finite_numbers(settings, names):
    objective = objective_of(settings)
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 8, 8, len(objective.embedding_maps))).astype(np.float32)
    labels = np.kron(np.array([[0, 1], [2, 0]], np.int32), np.ones((4, 4), np.int32))[None].repeat(2, axis=0)
    terms = objective.loss_terms(tf.constant(maps), tf.constant(labels), tf.constant([0, 1]), MetricLossSettings())
    assert list(terms) == names
    assert all(np.isfinite(value) and np.ndim(value) == 0 for value in terms.values())


WITHOUT_TENSORFLOW = """
import sys
from instseg.network.objective import objective_of
from instseg.settings import MetricLossSettings, ModelSettings
for loss in ("overlap", "metric"):
    objective = objective_of(ModelSettings(loss=loss))
    objective.positions, objective.map_count, objective.default_clustering(MetricLossSettings())
assert not {"tensorflow", "keras"} & sys.modules.keys()
"""


def test_names_and_numbers_do_not_need_tensorflow():
    ended = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
