"""What a loss means for a model: names and units of maps, defaults, and that TensorFlow is not needed to ask."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from instseg.loss import MetricLoss
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
    ended = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW], capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("ignore_label", [None, 0])
def test_metric_ignores_pixels_as_if_they_were_not_there(ignore_label):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 4, 6, 2)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 4, 6)).astype(np.int32)
    labels[:, :, 4:] = -1
    metric = MetricLossSettings(ignore_label=ignore_label, push_margin=3.0)

    def loss(maps, labels):
        variable = tf.Variable(maps)
        with tf.GradientTape() as tape:
            value = objective_of(METRIC).loss_terms(variable, tf.constant(labels), None, metric)["embedding"]
        return float(value), np.asarray(tape.gradient(value, variable))

    found, gradient = loss(maps, labels)
    expected, of_rest = loss(maps[:, :, :4], labels[:, :, :4])
    assert found == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient[:, :, :4], of_rest, rtol=1e-5, atol=1e-7)
    assert (gradient[:, :, 4:] == 0).all()
    # Without ignored pixels it is the loss of the same options, to the last digit.
    plain = MetricLoss.from_settings(metric)(maps[:, :, :4], labels[:, :, :4])
    assert loss(maps[:, :, :4], labels[:, :, :4])[0] == float(plain)
    nothing, zero = loss(maps, np.full_like(labels, -1))
    assert nothing == 0
    assert (zero == 0).all()


def test_predictions_of_ignored_pixels_do_not_change_the_terms_of_a_step():
    rng = np.random.default_rng(0)
    objective = objective_of(OVERLAP)
    maps = rng.normal(size=(2, 8, 8, objective.map_count - 2)).astype(np.float32)
    labels = rng.integers(-1, 3, (2, 8, 8)).astype(np.int32)
    other = np.where(labels[..., None] < 0, 3 * maps, maps)
    seed = tf.constant([0, 1])
    one, two = (
        objective.loss_terms(tf.constant(x), tf.constant(labels), seed, MetricLossSettings()) for x in (maps, other)
    )
    assert {name: float(value) for name, value in one.items()} == {name: float(value) for name, value in two.items()}
