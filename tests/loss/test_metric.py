"""The metric loss: numbers worked out by hand, a slow reference, gradients, dtypes, Keras."""

import dataclasses
import itertools
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from instseg.errors import UsageError
from instseg.loss import (
    EuclideanDistanceMetric,
    KerasMetricLoss,
    LogCoshErrorMetric,
    ManhattanDistanceMetric,
    MetricLoss,
    MetricLossTerms,
    SquaredErrorMetric,
    metric_loss,
)
from instseg.settings import MetricLossSettings

# Two instances; each has two pixels at distance 1 from its centroid, (1, 0) and (0, 1).
FAR = np.array([[[[0, 0], [2, 0]], [[0, 0], [0, 2]]]], np.float32)
FAR_LABELS = np.array([[[0, 0], [2, 2]]], np.int32)
# Centroids (.1, .1) with distances .2, .2, .2, 0 and (.25, .1) with .05, .05; the centroids are .15 apart.
NEAR = np.array([[[[0, 0], [0.2, 0], [0.1, 0.3]], [[0.1, 0.1], [0.3, 0.1], [0.2, 0.1]]]], np.float32)
NEAR_LABELS = np.array([[[0, 0, 0], [0, 7, 7]]], np.int32)


@keras.saving.register_keras_serializable(package="instseg_tests")
def largest_difference(a, b):
    return tf.reduce_max(tf.abs(a - b), axis=-1)


@keras.saving.register_keras_serializable(package="instseg_tests")
def fourth_power(values):
    return values**4


# --- By hand ---------------------------------------------------------------------------------------------------------


def test_far_instances_cost_pull_and_regularization():
    # pull = mean(1, 1, 1, 1); regularization = mean(1, 0, 0, 1) = 0.5.
    assert float(MetricLoss()(FAR, FAR_LABELS)) == pytest.approx(1.00005, abs=1e-6)
    terms = MetricLoss().terms(FAR, FAR_LABELS)
    assert [float(term[0]) for term in terms] == pytest.approx([1.00005, 0, 1, 0.5])


def test_near_instances_cost_push_too():
    # push = (.25 - .15)²; pull = (3 * .2² + 2 * .05²) / 6; regularization = (.1² + .1² + .25² + .1²) / 4.
    assert float(MetricLoss()(NEAR, NEAR_LABELS)) == pytest.approx(0.0308356, abs=1e-6)
    terms = MetricLoss().terms(NEAR, NEAR_LABELS)
    push, pull, regularization = 0.01, 0.125 / 6, 0.0925 / 4
    assert [float(term[0]) for term in terms[1:]] == pytest.approx([push, pull, regularization], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"push_margin": 2.5}, [0.25, 1, 0.5]),  # Centroids are 2 apart under L1 ...
        ({"push_margin": 2.5, "push_distance_metric": EuclideanDistanceMetric()}, [(2.5 - 2**0.5) ** 2, 1, 0.5]),
        ({"push_margin": 2.0}, [0, 1, 0.5]),
        ({"pull_margin": 0.25}, [0, 0.5625, 0.5]),
        ({"pull_margin": 1.0}, [0, 0, 0.5]),
        ({"pull_error_metric": LogCoshErrorMetric()}, [0, math.log(math.cosh(1)), 0.5]),
        ({"push_margin": 3.0, "push_error_metric": LogCoshErrorMetric()}, [math.log(math.cosh(1)), 1, 0.5]),
        ({"regularization_error_metric": LogCoshErrorMetric()}, [0, 1, math.log(math.cosh(1)) / 2]),
        ({"ignore_label": 0}, [0, 1, 0.5]),  # One instance is left: pixels at 1, centroid (0, 1).
        ({"ignore_label": 1, "push_margin": 2.5}, [0.25, 1, 0.5]),  # There is no label 1.
    ],
)
def test_options_by_hand(options, expected):
    terms = MetricLoss(**options).terms(FAR, FAR_LABELS)
    assert [float(term[0]) for term in terms[1:]] == pytest.approx(expected, rel=1e-5)


def test_pull_under_each_distance():
    # Pixels (0, 0) and (6, 8): the centroid is (3, 4), 7 away under L1, 5 under L2.
    embeddings, labels = np.array([[[[0.0, 0], [6, 8]]]], np.float32), np.ones((1, 1, 2), np.int32)
    assert float(MetricLoss().terms(embeddings, labels).pull[0]) == pytest.approx(49)
    loss = MetricLoss(pull_distance_metric=EuclideanDistanceMetric(), pull_margin=1)
    assert float(loss.terms(embeddings, labels).pull[0]) == pytest.approx(16)


def test_push_is_the_mean_over_unordered_pairs():
    # Centroids 0, 1, 3: distances 1, 3, 2; margin 2.5 leaves 1.5, 0, .5.
    embeddings = np.array([0, 1, 3], np.float32).reshape(1, 1, 3, 1)
    terms = MetricLoss(push_margin=2.5).terms(embeddings, [[[4, 9, 6]]])
    assert float(terms.push[0]) == pytest.approx((1.5**2 + 0.5**2) / 3)


def test_weights_scale_the_terms_of_the_total():
    loss = MetricLoss(push_weight=2, pull_weight=3, regularization_weight=5)
    total, push, pull, regularization = (float(term[0]) for term in loss.terms(NEAR, NEAR_LABELS))
    assert total == pytest.approx(2 * push + 3 * pull + 5 * regularization)
    assert total == pytest.approx(2 * 0.01 + 3 * 0.125 / 6 + 5 * 0.0925 / 4, rel=1e-5)


def test_ignored_pixels_leave_the_denominator():
    # Label 0 holds two pixels at 1 from their centroid, label 1 two at 2: the means are 2.5 of all, 4 of label 1.
    embeddings = np.array([0, 2, 10, 14], np.float32).reshape(1, 2, 2, 1)
    labels = [[[0, 0], [1, 1]]]
    assert float(MetricLoss().terms(embeddings, labels).pull[0]) == pytest.approx(2.5)
    terms = MetricLoss(ignore_label=0).terms(embeddings, labels)
    assert [float(term[0]) for term in terms[1:]] == pytest.approx([0, 4, 144])


def test_the_batch_is_averaged_and_pairs_stay_within_an_image():
    # The centroids of the second image equal one of the first; across images that costs nothing.
    embeddings, labels = np.concatenate([FAR, FAR[:, ::-1]]), np.concatenate([FAR_LABELS, np.full((1, 2, 2), 2)])
    each = MetricLoss().terms(embeddings, labels).total.numpy()
    assert each[0] == pytest.approx(1.00005)
    assert each[1] == pytest.approx(float(MetricLoss()(embeddings[1:], labels[1:])))
    assert float(MetricLoss()(embeddings, labels)) == pytest.approx(each.mean())


@pytest.mark.parametrize("value", [1e-4, 0.5, 0.999, 1.0, 3.0, 20.0])
def test_log_cosh_is_precise(value):
    expected = math.log1p(math.cosh(value) - 1) if value > 0.01 else value**2 / 2 - value**4 / 12
    assert LogCoshErrorMetric()(tf.constant([value, -value])).numpy() == pytest.approx([expected] * 2, rel=1e-6)


def test_log_cosh_does_not_overflow():
    values = tf.constant([-1e30, -1000.0, 0.0, 1e-30, 1000.0, 3e38])
    with tf.GradientTape() as tape:
        tape.watch(values)
        errors = LogCoshErrorMetric()(values)
    assert errors.numpy() == pytest.approx([1e30, 1000 - math.log(2), 0, 0, 1000 - math.log(2), 3e38], rel=1e-6)
    assert tape.gradient(errors, values).numpy() == pytest.approx([-1, -1, 0, 1e-30, 1, 1])


# --- Against a slow reference ----------------------------------------------------------------------------------------


def reference(embeddings, labels, loss):
    """The definition in loops over images, pixels and pairs, in float64."""

    def distance(metric, a, b):
        return np.abs(a - b).sum() if isinstance(metric, ManhattanDistanceMetric) else np.sqrt(((a - b) ** 2).sum())

    def error(metric, value):
        return value**2 if isinstance(metric, SquaredErrorMetric) else np.logaddexp(value, -value) - np.log(2)

    totals = []
    for image, image_labels in zip(embeddings.astype(np.float64), labels, strict=True):
        pixels, ids = image.reshape(-1, image.shape[-1]), [int(label) for label in image_labels.ravel()]
        members = {label: [] for label in ids if label != loss.ignore_label}
        for pixel, label in zip(pixels, ids, strict=True):
            if label in members:
                members[label].append(pixel)
        centroids = {label: np.mean(values, axis=0) for label, values in members.items()}
        push = [
            error(loss.push_error_metric, max(0, loss.push_margin - distance(loss.push_distance_metric, a, b)))
            for a, b in itertools.combinations(centroids.values(), 2)
        ]
        pull = [
            error(
                loss.pull_error_metric,
                max(0, distance(loss.pull_distance_metric, pixel, centroids[label]) - loss.pull_margin),
            )
            for pixel, label in zip(pixels, ids, strict=True)
            if label in members
        ]
        numbers = [error(loss.regularization_error_metric, v) for centroid in centroids.values() for v in centroid]
        terms = [np.mean(values) if values else 0.0 for values in (push, pull, numbers)]
        totals.append(np.dot(terms, [loss.push_weight, loss.pull_weight, loss.regularization_weight]))
    return np.mean(totals)


def random_case(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, [4, 9, 9]))
    depth = int(rng.integers(1, 6))
    pool = rng.choice([0, 1, 2, 3, 40, 65_535, 65_536, 2**24, 2**24 + 1, 2**31 - 1], int(rng.integers(1, 8)))
    labels = rng.choice(pool, shape).astype(rng.choice(["int32", "int64"]))
    distances, errors = (
        [ManhattanDistanceMetric(), EuclideanDistanceMetric()],
        [SquaredErrorMetric(), LogCoshErrorMetric()],
    )
    loss = MetricLoss(
        push_distance_metric=distances[rng.integers(2)],
        pull_distance_metric=distances[rng.integers(2)],
        push_error_metric=errors[rng.integers(2)],
        pull_error_metric=errors[rng.integers(2)],
        push_margin=rng.uniform(0, 3),
        pull_margin=rng.choice([0.0, rng.uniform(0, 1)]),
        push_weight=rng.uniform(0, 2),
        pull_weight=rng.uniform(0, 2),
        regularization_error_metric=errors[rng.integers(2)],
        regularization_weight=rng.uniform(0, 1),
        ignore_label=rng.choice([None, 0, int(pool[0])]),
    )
    return loss, rng.standard_normal((*shape, depth)), labels


@pytest.mark.parametrize("seed", range(40))
def test_values_match_the_reference(seed):
    loss, embeddings, labels = random_case(seed)
    expected = reference(embeddings, labels, loss)
    assert float(loss(tf.constant(embeddings), labels)) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert float(loss(embeddings.astype(np.float32), labels)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("seed", range(40, 48))
def test_gradients_match_finite_differences_of_the_reference(seed):
    loss, embeddings, labels = random_case(seed)
    embeddings, labels = embeddings[:2, :4, :4], labels[:2, :4, :4]
    gradient = gradient_of(loss, embeddings, labels)
    expected, step = np.zeros_like(embeddings), 1e-6
    for index in np.ndindex(embeddings.shape):
        shifted = np.zeros_like(embeddings)
        shifted[index] = step
        above, below = (reference(embeddings + sign * shifted, labels, loss) for sign in (1, -1))
        expected[index] = (above - below) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def gradient_of(loss, embeddings, labels):
    embeddings = tf.convert_to_tensor(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        value = loss(embeddings, labels)
    return tape.gradient(value, embeddings).numpy()


def test_a_large_instance_keeps_its_precision():
    # Added up one by one in float32, the mean of these would be 0.09975.
    embeddings, labels = np.full((1, 512, 512, 2), 0.1, np.float32), np.zeros((1, 512, 512), np.int32)
    terms = MetricLoss(pull_error_metric=tf.identity).terms(embeddings, labels)
    assert float(terms.regularization[0]) == pytest.approx(0.01, rel=3e-4)
    assert float(terms.pull[0]) < 3e-5


# --- Invariants and edges --------------------------------------------------------------------------------------------


def test_permuted_labels_cost_the_same():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.standard_normal((2, 8, 9, 3)), rng.integers(0, 6, (2, 8, 9))
    names = np.array([2**40, 17, 0, 2**24, 2**24 + 1, 5])
    loss = MetricLoss(push_margin=2)
    assert float(loss(embeddings, labels)) == pytest.approx(float(loss(embeddings, names[labels])), rel=1e-12)
    np.testing.assert_allclose(gradient_of(loss, embeddings, labels), gradient_of(loss, embeddings, names[labels]))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64"])
def test_all_integer_labels_are_taken(dtype):
    labels = NEAR_LABELS.astype(dtype)
    assert float(MetricLoss()(NEAR, labels)) == pytest.approx(0.0308356, abs=1e-6)
    assert float(MetricLoss()(NEAR, labels[..., np.newaxis])) == pytest.approx(0.0308356, abs=1e-6)
    top = np.where(labels == 7, np.iinfo(dtype).max, labels)
    assert float(MetricLoss()(NEAR, top)) == pytest.approx(0.0308356, abs=1e-6)


@pytest.mark.parametrize("large", [2**16, 2**24, 2**31 - 2, 2**31, 2**32, 2**53, 2**62])
def test_large_neighbouring_ids_are_kept_apart(large):
    labels = np.where(NEAR_LABELS == 7, large + 1, large)
    assert float(MetricLoss()(NEAR, labels)) == pytest.approx(0.0308356, abs=1e-6)
    assert float(MetricLoss()(NEAR, labels.tolist())) == pytest.approx(0.0308356, abs=1e-6)
    ignoring = MetricLoss(ignore_label=large).terms(NEAR, labels)
    assert [float(term[0]) for term in ignoring[1:]] == pytest.approx([0, 0.0025, 0.03625], rel=1e-5)


@pytest.mark.parametrize("label", [0, 5, 2**40])
def test_one_instance_has_no_push(label):
    labels = np.full((1, 2, 2), label)
    # The centroid is (.5, .5): distances 1, 2, 1, 2 under L1.
    terms = MetricLoss(push_margin=100).terms(FAR, labels)
    assert [float(term[0]) for term in terms[1:]] == pytest.approx([0, 2.5, 0.25])
    assert np.isfinite(gradient_of(MetricLoss(push_margin=100), FAR, labels)).all()


def test_all_ignored_costs_nothing():
    loss = MetricLoss(ignore_label=3, push_margin=100)
    assert float(loss(FAR, np.full((1, 2, 2), 3))) == 0
    assert not gradient_of(loss, FAR, np.full((1, 2, 2), 3)).any()


def test_an_ignored_image_counts_as_0_in_the_batch():
    labels = np.concatenate([FAR_LABELS, np.full((1, 2, 2), 9)])
    terms = MetricLoss(ignore_label=9).terms(np.concatenate([FAR, FAR]), labels)
    assert terms.total.numpy() == pytest.approx([1.00005, 0])


@pytest.mark.parametrize("shape", [(0, 4, 4, 2), (2, 0, 4, 2), (2, 4, 0, 2)])
def test_no_pixels_cost_nothing(shape):
    embeddings, labels = np.zeros(shape, np.float32), np.zeros(shape[:3], np.int64)
    assert float(MetricLoss()(embeddings, labels)) == 0
    assert gradient_of(MetricLoss(), embeddings, labels).shape == shape


@pytest.mark.parametrize("distance", [ManhattanDistanceMetric(), EuclideanDistanceMetric()])
@pytest.mark.parametrize("error", [SquaredErrorMetric(), LogCoshErrorMetric(), tf.identity])
def test_gradients_are_finite_where_all_embeddings_are_equal(distance, error):
    # Every pixel lies on its centroid, and all centroids are equal.
    loss = MetricLoss(distance, distance, error, error, push_margin=2)
    for value in (0, 0.5):
        embeddings = np.full((2, 3, 3, 2), value, np.float32)
        gradient = gradient_of(loss, embeddings, np.arange(18).reshape(2, 3, 3))
        assert np.isfinite(gradient).all()


def test_gradients_are_finite_for_extreme_embeddings():
    embeddings = np.array([1e-30, -1e-30, 1e4, -1e4], np.float32).reshape(1, 2, 2, 1)
    for distance, label in itertools.product([ManhattanDistanceMetric(), EuclideanDistanceMetric()], [0, 1]):
        labels = np.array([[[0, 0], [label, label]]])
        assert np.isfinite(gradient_of(MetricLoss(distance, distance), embeddings, labels)).all()


def test_ignored_pixels_get_no_gradient_whatever_they_hold():
    embeddings = NEAR.copy()
    embeddings[NEAR_LABELS == 0] = np.nan
    loss = MetricLoss(ignore_label=0)
    gradient = gradient_of(loss, embeddings, NEAR_LABELS)
    assert not gradient[NEAR_LABELS == 0].any()
    assert np.isfinite(gradient).all()
    assert gradient[NEAR_LABELS == 7].any()
    assert float(loss(embeddings, NEAR_LABELS)) == pytest.approx(0.0025 + 1e-4 * 0.03625, rel=1e-4)


# --- Graphs and dtypes -----------------------------------------------------------------------------------------------


def test_a_graph_of_unknown_shape_gives_what_eager_gives():
    loss = MetricLoss(push_margin=2, ignore_label=1)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, None, None], tf.int64)])
    def graph(embeddings, labels):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = loss(embeddings, labels)
        return value, tape.gradient(value, embeddings)

    rng = np.random.default_rng(3)
    for shape in [(1, 1, 1), (2, 5, 7), (3, 4, 4), (0, 4, 4)]:
        embeddings = rng.standard_normal((*shape, 3)).astype(np.float32)
        for top in (5, 2**40):
            labels = rng.integers(0, 5, shape) * (top // 5)
            value, gradient = graph(embeddings, labels)
            assert float(value) == pytest.approx(float(loss(embeddings, labels)), rel=1e-6)
            np.testing.assert_allclose(gradient, gradient_of(loss, embeddings, labels), rtol=1e-5, atol=1e-7)


def test_a_graph_of_unknown_depth_and_channel_works():
    graph = tf.function(
        MetricLoss().__call__,
        input_signature=[tf.TensorSpec([None, None, None, None]), tf.TensorSpec([None, None, None, None], tf.uint16)],
    )
    assert float(graph(NEAR, NEAR_LABELS[..., np.newaxis].astype(np.uint16))) == pytest.approx(0.0308356, abs=1e-6)


def test_the_graph_has_no_loop():
    graph = tf.function(lambda e, t: gradient_graph(e, t)).get_concrete_function(
        tf.TensorSpec([4, 32, 32, 8]), tf.TensorSpec([4, 32, 32], tf.int32)
    )
    definition = graph.graph.as_graph_def()
    operations = {node.op for node in definition.node}
    operations |= {node.op for function in definition.library.function for node in function.node_def}
    assert "SparseTensorDenseMatMul" in operations
    assert not {name for name in operations if "While" in name or "Map" in name or "PyFunc" in name}


def gradient_graph(embeddings, labels):
    return tf.gradients(MetricLoss()(embeddings, labels), embeddings)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [(tf.float16, tf.float32), (tf.bfloat16, tf.float32), (tf.float32, tf.float32), (tf.float64, tf.float64)],
)
def test_precision(dtype, result):
    embeddings = tf.cast(NEAR, dtype)
    value = MetricLoss()(embeddings, NEAR_LABELS)
    assert value.dtype == result
    assert float(value) == pytest.approx(0.0308356, rel=2e-2 if dtype.size == 2 else 1e-5)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        value = MetricLoss()(embeddings, NEAR_LABELS)
    assert tape.gradient(value, embeddings).dtype == dtype


def test_integer_embeddings_in_a_list_are_numbers_too():
    assert float(MetricLoss()(FAR.astype(int).tolist(), FAR_LABELS.tolist())) == pytest.approx(1.00005)


def test_the_pure_function_gives_the_terms_of_each_image():
    terms = metric_loss(FAR, FAR_LABELS, pull_margin=0.5)
    assert isinstance(terms, MetricLossTerms)
    assert [float(term[0]) for term in terms] == pytest.approx([0.25005, 0, 0.25, 0.5])


# --- Options and inputs that do not fit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"push_margin": -0.1}, "push_margin is -0.1, expected 0 or a number above 0"),
        ({"pull_margin": math.nan}, "pull_margin is nan"),
        ({"pull_weight": -1}, "pull_weight is -1"),
        ({"push_weight": math.inf}, "push_weight is inf"),
        ({"regularization_weight": "1"}, "regularization_weight is '1'"),
        ({"ignore_label": -1}, "ignore_label is -1, expected an integer of 0 or above, or None"),
        ({"ignore_label": 0.5}, "ignore_label is 0.5"),
        ({"pull_distance_metric": "manhattan"}, "pull_distance_metric is 'manhattan', expected a callable"),
        ({"push_error_metric": SquaredErrorMetric}, "push_error_metric is <class .*expected a callable of one array"),
    ],
)
def test_options_out_of_bounds(options, message):
    with pytest.raises(UsageError, match=message):
        MetricLoss(**options)


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        ((4, 4, 2), (4, 4), r"shape \(4, 4, 2\), expected \(batch, height, width, dimensions\)"),
        ((1, 4, 4, 2), (4, 4), r"instance_labels have shape \(4, 4\), expected"),
        ((1, 4, 4, 2), (1, 4, 4, 2), r"instance_labels have shape \(1, 4, 4, 2\), expected"),
        ((1, 4, 4, 2), (1, 4, 5), r"\(1, 4, 4, 2\) and instance_labels \(1, 4, 5\); expected the same batch"),
        ((2, 4, 4, 2), (1, 4, 4, 1), "expected the same batch, height and width"),
    ],
)
def test_shapes_that_do_not_fit(embeddings, labels, message):
    embeddings, labels = np.zeros(embeddings, np.float32), np.zeros(labels, np.int32)
    with pytest.raises(UsageError, match=message):
        MetricLoss()(embeddings, labels)
    with pytest.raises(UsageError, match=message):
        tf.function(MetricLoss().__call__)(tf.constant(embeddings), tf.constant(labels))


def test_shapes_that_turn_out_not_to_fit():
    graph = tf.function(
        MetricLoss().__call__,
        input_signature=[tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([None, None, None], tf.int32)],
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="differ in batch, height or width"):
        graph(np.zeros((1, 2, 8, 2), np.float32), np.zeros((1, 8, 2), np.int32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool])
def test_labels_have_to_be_integers(dtype):
    with pytest.raises(UsageError, match="expected integers.*KerasMetricLoss"):
        MetricLoss()(FAR, FAR_LABELS.astype(dtype))


def test_embeddings_have_to_be_numbers():
    with pytest.raises(UsageError, match="predicted_embeddings are complex64"):
        MetricLoss()(FAR.astype(np.complex64), FAR_LABELS)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"pull_distance_metric": lambda a, b: tf.abs(a - b)}, "pull_distance_metric gave .*without the last axis"),
        ({"push_distance_metric": lambda a, b: tf.abs(a - b)}, "push_distance_metric gave .*without the last axis"),
        ({"pull_error_metric": tf.reduce_sum}, "pull_error_metric gave .*of the same shape"),
        ({"push_error_metric": tf.reduce_sum}, "push_error_metric gave .*of the same shape"),
        ({"regularization_error_metric": tf.reduce_sum}, "regularization_error_metric gave .*of the same shape"),
    ],
)
def test_callables_of_another_form(options, name):
    with pytest.raises(UsageError, match=name):
        MetricLoss(**options)(FAR, FAR_LABELS)


def test_callables_of_ones_own():
    # The largest coordinate differs by 1 from both centroids' pixels; the centroids by 1.
    loss = MetricLoss(
        largest_difference, largest_difference, fourth_power, fourth_power, push_margin=3, pull_margin=0.5
    )
    terms = loss.terms(FAR, FAR_LABELS)
    assert [float(term[0]) for term in terms[1:]] == pytest.approx([16, 0.0625, 0.5])


# --- Settings and Keras ----------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_settings():
    assert MetricLoss.from_settings(MetricLossSettings()) == MetricLoss()


def test_settings_become_objects():
    settings = MetricLossSettings(
        push_distance_metric="euclidean", pull_error_metric="logcosh", pull_margin=0.5, ignore_label=0
    )
    expected = MetricLoss(
        push_distance_metric=EuclideanDistanceMetric(),
        pull_error_metric=LogCoshErrorMetric(),
        pull_margin=0.5,
        ignore_label=0,
    )
    assert MetricLoss.from_settings(settings) == expected


LOSSES = [
    MetricLoss(),
    MetricLoss(
        push_distance_metric=EuclideanDistanceMetric(),
        pull_distance_metric=largest_difference,
        push_error_metric=fourth_power,
        pull_error_metric=LogCoshErrorMetric(),
        push_margin=0.5,
        pull_margin=0.01,
        push_weight=2,
        pull_weight=3,
        regularization_error_metric=LogCoshErrorMetric(),
        regularization_weight=0.1,
        ignore_label=5,
    ),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_keras_saves_and_loads_the_loss(loss):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again == loss
    assert float(again(NEAR, NEAR_LABELS)) == float(loss(NEAR, NEAR_LABELS))
    adapted = keras.losses.deserialize(keras.losses.serialize(KerasMetricLoss(loss, reduction="sum", name="mine")))
    assert (adapted.loss, adapted.reduction, adapted.name) == (loss, "sum", "mine")


@pytest.mark.parametrize(
    "metric", [ManhattanDistanceMetric(), EuclideanDistanceMetric(), SquaredErrorMetric(), LogCoshErrorMetric()]
)
def test_keras_saves_and_loads_the_metrics(metric):
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric)) == metric


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MetricLoss().push_margin = 3


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
def test_the_adapter_weights_and_reduces_the_images(reduction):
    embeddings, labels = np.concatenate([NEAR, 2 * NEAR]), np.concatenate([NEAR_LABELS, NEAR_LABELS + 2**24])
    each = MetricLoss().terms(embeddings, labels).total.numpy()
    reduce = {"sum_over_batch_size": np.mean, "sum": np.sum, "none": np.asarray}[reduction]
    loss = KerasMetricLoss(reduction=reduction)
    assert loss(labels, embeddings).numpy() == pytest.approx(reduce(each))
    weighted = loss(labels, embeddings, sample_weight=np.array([3.0, 0.5]))
    assert weighted.numpy() == pytest.approx(reduce(each * [3, 0.5]))


def identity_model(loss):
    """A model whose embeddings are its input times 1, so that its loss is known."""
    inputs = keras.Input((None, None, 2))
    outputs = keras.layers.Dense(2, use_bias=False, kernel_initializer="identity", name="embeddings")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss=loss)
    return model


LARGE_LABELS = np.where(NEAR_LABELS == 7, 2**24 + 1, 2**24)


@pytest.mark.parametrize("labels", [LARGE_LABELS, LARGE_LABELS[..., np.newaxis]])
def test_a_compiled_model_is_evaluated_trained_saved_and_loaded(labels, tmp_path: Path):
    model = identity_model(KerasMetricLoss())
    assert model.evaluate(NEAR, labels, verbose=0) == pytest.approx(0.0308356, abs=1e-6)
    history = model.fit(NEAR, labels, epochs=3, verbose=0).history["loss"]
    assert history[0] == pytest.approx(0.0308356, abs=1e-6)
    assert history[2] < history[0]

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.loss.loss == MetricLoss()
    value = again.evaluate(NEAR, labels, verbose=0)
    assert value == pytest.approx(model.evaluate(NEAR, labels, verbose=0), rel=1e-6)
    again.fit(NEAR, labels, verbose=0)


def test_a_dataset_and_two_outputs_train():
    inputs = keras.Input((None, None, 2))
    outputs = {
        "embeddings": keras.layers.Dense(2, kernel_initializer="identity")(inputs),
        "classes": keras.layers.Dense(2)(inputs),
    }
    model = keras.Model(inputs, outputs)
    classes = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss={"embeddings": KerasMetricLoss(), "classes": classes})
    targets = {"embeddings": LARGE_LABELS, "classes": (NEAR_LABELS > 0).astype(np.int32)}
    dataset = tf.data.Dataset.from_tensor_slices((NEAR, targets)).repeat(2).batch(1)
    history = model.fit(dataset, shuffle=False, verbose=0).history
    assert history["embeddings_loss"][0] == pytest.approx(0.0308, abs=2e-3)


def test_a_float_loss_function_in_compile_is_told_what_to_do():
    # Keras casts the labels of a plain function to float32: the ids above 2^24 would merge, so it is refused.
    model = identity_model(lambda y_true, y_pred: MetricLoss()(y_pred, y_true))
    with pytest.raises(UsageError, match="KerasMetricLoss"):
        model.fit(NEAR, LARGE_LABELS, verbose=0)
