"""The overlap loss: numbers worked out by hand, a slow reference, invariants, gradients; thinning; foreground."""

import math

import numpy as np
import pytest
import tensorflow as tf

from instseg.loss import overlap
from instseg.loss.overlap import membership


def overlap_loss(embeddings, bandwidth, seed_logits, labels):
    """The loss of arrays or lists; as terms of tensors."""
    floats = (tf.convert_to_tensor(value, tf.float32) for value in (embeddings, bandwidth, seed_logits))
    return overlap.overlap_loss(*floats, tf.convert_to_tensor(labels, tf.int32))


def subsample_2x2(choice, *maps):
    return overlap.subsample_2x2(
        tf.convert_to_tensor(choice, tf.int32), *(tf.convert_to_tensor(value) for value in maps)
    )


def foreground_loss(class_logits, classes):
    return overlap.foreground_loss(tf.convert_to_tensor(class_logits), tf.convert_to_tensor(classes, tf.int32))


def reference(embeddings, bandwidth, seed_logits, labels):
    """The loss of one image as its description says it, pixel by pixel and instance by instance, in float64."""
    counted = np.ravel(labels) >= 0
    e = np.asarray(embeddings, np.float64).reshape(-1, np.shape(embeddings)[-1])[counted]
    log_bandwidth = np.log(np.asarray(bandwidth, np.float64)).ravel()[counted]
    seed = 1 / (1 + np.exp(-np.asarray(seed_logits, np.float64).ravel()[counted]))
    labels = np.ravel(labels)[counted]
    own_membership = np.zeros(len(labels))
    one_minus_dice, deviations = [], []
    for label in np.unique(labels[labels > 0]):
        mine = labels == label
        centre, mean_log = e[mine].mean(axis=0), log_bandwidth[mine].mean()
        soft = np.where(labels > 0, 0.5 ** (((e - centre) ** 2).sum(axis=1) / np.exp(mean_log) ** 2), 0)
        one_minus_dice.append(1 - 2 * soft[mine].sum() / (soft.sum() + mine.sum()))
        deviations.extend((log_bandwidth[mine] - mean_log) ** 2)
        own_membership[mine] = soft[mine]
    weight = np.where(labels > 0, 1, 0.25)
    return (
        np.mean(one_minus_dice) if one_minus_dice else 0.0,
        np.mean(deviations) if deviations else 0.0,
        (weight * (seed - own_membership) ** 2).sum() / weight.sum(),
    )


def draw(labels, dimensions=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels, np.int32)
    embeddings = rng.normal(0, 1, (*labels.shape, dimensions)).astype(np.float32)
    bandwidth = rng.uniform(0.3, 3, labels.shape).astype(np.float32)
    return embeddings, bandwidth, rng.normal(0, 2, labels.shape).astype(np.float32), labels


def assert_terms(found, expected, **tolerance):
    for name, one, other in zip(found._fields, found, expected, strict=True):
        np.testing.assert_allclose(one, other, err_msg=name, **({"rtol": 1e-5, "atol": 1e-6} | tolerance))


def test_membership_is_1_at_the_centre_and_half_at_the_bandwidth():
    np.testing.assert_allclose(membership(tf.constant([0.0, 9, 36]), 3.0), [1, 1 / 2, 1 / 16], rtol=1e-6)


def test_one_instance_by_hand():
    # Pixels at -1 and 1 around the centre 0, bandwidth 1: each is a member by half.
    # Dice 2 (1/2 + 1/2) / (1 + 2) = 2/3; seeds sigmoid(0) = 1/2 fit on the object, and miss by 1/2 on the ground.
    terms = overlap_loss([[[[-1.0], [1.0], [5.0]]]], [[[1.0, 1, 7]]], tf.zeros((1, 1, 3)), [[[1, 1, 0]]])
    assert_terms(terms, ([1 / 3], [0], [0.25 * 0.25 / 2.25]))


def test_two_instances_by_hand():
    # Single pixels at 0 and 2 with bandwidths 2 and 1: memberships 1 and 1/2 in the first, 1/16 and 1 in the second.
    terms = overlap_loss([[[[0.0], [2.0]]]], [[[2.0, 1.0]]], [[[-100.0, 100.0]]], [[[1, 2]]])
    dice = [2 / (1.5 + 1), 2 / (17 / 16 + 1)]
    assert_terms(terms, ([1 - np.mean(dice)], [0], [0.5]))


def test_bandwidths_that_differ_by_hand():
    # Bandwidths 1 and 4 have the geometric mean 2, from which each is ln 2 away; embeddings are alike: Dice 1.
    terms = overlap_loss([[[[3.0], [3.0]]]], [[[1.0, 4.0]]], [[[100.0, 100.0]]], [[[1, 1]]])
    assert_terms(terms, ([0], [math.log(2) ** 2], [0]))


def test_an_empty_image_has_the_seed_term_alone():
    terms = overlap_loss(tf.ones((1, 2, 2, 3)), tf.ones((1, 2, 2)), tf.zeros((1, 2, 2)), tf.zeros((1, 2, 2), tf.int32))
    assert_terms(terms, ([0], [0], [0.25]))


@pytest.mark.parametrize("seed", range(4))
def test_random_images_agree_with_the_reference(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, (5, 6, 7))
    labels[1] = 0
    labels[2] = 1
    labels[3][labels[3] == 2] = 0
    labels[4][labels[4] > 0] += 3
    given = draw(labels, seed=seed)
    expected = np.transpose([reference(*one) for one in zip(*given, strict=True)])
    assert_terms(overlap_loss(*given), expected)


def test_ignored_pixels_count_as_if_the_image_did_not_have_them():
    labels = np.random.default_rng(1).integers(-1, 5, (3, 6, 7))
    labels[1][labels[1] > 0] = 0
    labels[2] = np.where(labels[2] == 0, -1, labels[2])
    given = draw(labels)
    expected = np.transpose([reference(*one) for one in zip(*given, strict=True)])
    assert_terms(overlap_loss(*given), expected)


def test_predictions_on_ignored_pixels_change_neither_loss_nor_gradients():
    embeddings, bandwidth, seeds, labels = draw(np.random.default_rng(1).integers(-1, 5, (2, 6, 7)))
    ignored = labels < 0
    results = []
    for scale in (1, 1000):
        changed = embeddings * np.where(ignored, scale, 1)[..., None], bandwidth * np.where(ignored, scale, 1)
        values = [tf.Variable(value, dtype=tf.float32) for value in (*changed, seeds - ignored * scale)]
        with tf.GradientTape() as tape:
            terms = overlap_loss(*values, labels)
            total = tf.add_n([tf.reduce_sum(term) for term in terms])
        gradients = [np.asarray(gradient) for gradient in tape.gradient(total, values)]
        assert all((gradient[ignored] == 0).all() for gradient in gradients)
        assert all(gradient[~ignored].any() for gradient in gradients)
        results.append([*terms, *gradients])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_image_that_is_ignored_as_a_whole_costs_nothing_and_has_finite_gradients():
    embeddings, bandwidth, seeds, _ = draw(np.zeros((1, 4, 4)))
    logits = tf.random.stateless_normal((1, 4, 4, 3), [0, 1])
    values = [tf.Variable(value) for value in (embeddings, bandwidth, seeds, logits)]
    labels = np.full((1, 4, 4), -1, np.int32)
    with tf.GradientTape() as tape:
        *rest, of_classes = values
        losses = [*overlap_loss(*rest, labels), foreground_loss(of_classes, labels)]
        losses.append(overlap.class_loss(of_classes, tf.constant(labels)))
        total = tf.add_n(losses)
    assert [float(loss[0]) for loss in losses] == [0.0] * 5
    for gradient in tape.gradient(total, values, unconnected_gradients="zero"):
        assert (np.asarray(gradient) == 0).all()


def test_far_from_the_origin_nothing_is_lost():
    embeddings, *rest = draw(np.random.default_rng(0).integers(0, 4, (2, 6, 7)))
    moved = embeddings + np.float32(1024)
    expected = np.transpose([reference(*one) for one in zip(moved, *rest, strict=True)])
    assert_terms(overlap_loss(moved, *rest), expected, rtol=1e-3)


def test_numbers_of_instances_do_not_matter():
    embeddings, bandwidth, seeds, labels = draw(np.random.default_rng(0).integers(0, 4, (2, 6, 7)))
    expected = overlap_loss(embeddings, bandwidth, seeds, labels)
    for order in ([0, 3, 1, 2], [0, 2, 7, 1]):
        assert_terms(overlap_loss(embeddings, bandwidth, seeds, np.array(order, np.int32)[labels]), expected)


def test_order_of_pixels_and_images_does_not_matter():
    given = draw(np.random.default_rng(0).integers(0, 4, (2, 6, 7)))
    expected = overlap_loss(*given)
    assert_terms(overlap_loss(*(value[:, ::-1, ::-1] for value in given)), expected)
    assert_terms(overlap_loss(*(value[::-1] for value in given)), [value[::-1] for value in expected])


def test_the_unit_of_embeddings_does_not_matter():
    embeddings, bandwidth, seeds, labels = draw(np.random.default_rng(0).integers(0, 4, (2, 6, 7)))
    expected = overlap_loss(embeddings, bandwidth, seeds, labels)
    assert_terms(overlap_loss(embeddings * 20, bandwidth * 20, seeds, labels), expected)


def test_embeddings_of_the_background_do_not_matter():
    embeddings, bandwidth, seeds, labels = draw(np.random.default_rng(0).integers(0, 4, (2, 6, 7)))
    other = np.where(labels[..., None] > 0, embeddings, 30)
    assert_terms(overlap_loss(other, bandwidth, seeds, labels), overlap_loss(embeddings, bandwidth, seeds, labels))


def test_perfect_embeddings_cost_nothing():
    labels = np.random.default_rng(0).integers(0, 4, (2, 6, 7)).astype(np.int32)
    centres = np.array([[0, 0], [0, 50], [50, 0], [50, 50]], np.float32)
    seeds = np.where(labels > 0, 100, -100).astype(np.float32)
    terms = overlap_loss(centres[labels], np.full(labels.shape, 5, np.float32), seeds, labels)
    assert_terms(terms, np.zeros((3, 2)), atol=1e-5)


@pytest.mark.parametrize("case", ["random", "empty", "one pixel", "all alike", "far away"])
def test_gradients_are_finite(case):
    embeddings, bandwidth, seeds, labels = draw(np.random.default_rng(0).integers(0, 4, (2, 4, 4)))
    if case == "empty":
        labels[:] = 0
    if case == "one pixel":
        labels[:] = 0
        labels[0, 1, 1] = 1
    if case == "all alike":
        embeddings[:] = 1
    if case == "far away":
        embeddings *= 1e4
    values = [tf.Variable(value) for value in (embeddings, bandwidth, seeds)]
    with tf.GradientTape() as tape:
        total = tf.add_n(overlap_loss(*values, labels))
    for gradient in tape.gradient(total, values, unconnected_gradients="zero"):
        assert np.isfinite(gradient).all()


def test_the_bandwidth_term_pulls_pixels_to_their_mean():
    bandwidth = tf.Variable([[[1.0, 4.0]]])
    with tf.GradientTape() as tape:
        term = overlap_loss(tf.zeros((1, 1, 2, 1)), bandwidth, tf.zeros((1, 1, 2)), [[[1, 1]]]).bandwidth
    gradient = tape.gradient(term, bandwidth)
    # d/db of (ln b - ln 2)^2 / 2, the mean held fixed: (ln b - ln 2) / b.
    np.testing.assert_allclose(gradient, [[[-math.log(2), math.log(2) / 4]]], rtol=1e-5)


def test_the_seed_term_trains_the_seed_alone():
    embeddings, bandwidth, seeds, labels = draw(np.random.default_rng(0).integers(0, 4, (1, 4, 4)))
    values = [tf.Variable(value) for value in (embeddings, bandwidth, seeds)]
    with tf.GradientTape() as tape:
        term = overlap_loss(*values, labels).seed
    to_embeddings, to_bandwidth, to_seeds = tape.gradient(term, values)
    assert to_embeddings is None
    assert to_bandwidth is None
    assert (np.asarray(to_seeds) != 0).all()


def test_overlap_eager_and_graph_agree():
    given = [tf.constant(value) for value in draw(np.random.default_rng(0).integers(0, 4, (2, 6, 7)))]
    assert_terms(tf.function(overlap_loss)(*given), overlap_loss(*given))


def test_subsample_2x2_by_hand():
    labels = np.arange(16, dtype=np.int32).reshape(1, 4, 4)
    choice = [[[0, 1], [2, 3]]]
    # Upper left of the first block, upper right of the second, lower left of the third, lower right of the fourth.
    taken, with_depth = subsample_2x2(choice, labels, np.stack([labels, -labels], axis=-1).astype(np.float32))
    np.testing.assert_array_equal(taken, [[[0, 3], [12, 15]]])
    np.testing.assert_array_equal(with_depth, [[[[0, 0], [3, -3]], [[12, -12], [15, -15]]]])


def test_subsample_2x2_takes_the_same_pixel_from_all_maps_in_every_image():
    rng = np.random.default_rng(0)
    labels = rng.permutation(3 * 4 * 6).reshape(3, 4, 6).astype(np.int32)
    choice = rng.integers(0, 4, (3, 2, 3))
    taken, positions = subsample_2x2(choice, labels, np.stack([labels] * 5, axis=-1))
    for image, row, column in np.ndindex(3, 2, 3):
        down, right = divmod(choice[image, row, column], 2)
        expected = labels[image, 2 * row + down, 2 * column + right]
        assert taken[image, row, column] == expected
        np.testing.assert_array_equal(positions[image, row, column], [expected] * 5)


def test_subsample_2x2_eager_and_graph_agree():
    maps = tf.reshape(tf.range(32.0), (1, 4, 8))
    choice = tf.constant([[[0, 1, 2, 3], [3, 2, 1, 0]]])
    np.testing.assert_array_equal(tf.function(subsample_2x2)(choice, maps)[0], subsample_2x2(choice, maps)[0])


def test_foreground_loss_by_hand():
    # All logits 0: probabilities 1/2, entropy ln 2. Truth has one pixel of four: Dice (2 * 1/2 + 1) / (2 + 1 + 1).
    loss = foreground_loss(tf.zeros((1, 2, 2, 2)), [[[1, 0], [0, 0]]])
    np.testing.assert_allclose(loss, [math.log(2) + 1 - 2 / 4], rtol=1e-6)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_foreground_of_ignored_pixels_does_not_count(depth):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2, 4, 6, depth)).astype(np.float32)
    classes = rng.integers(0, depth, (2, 4, 6))
    classes[:, :, 4:] = -1
    found = foreground_loss(logits, classes)
    np.testing.assert_allclose(found, foreground_loss(logits[:, :, :4], classes[:, :, :4]), rtol=1e-6)
    of_classes = overlap.class_loss(tf.constant(logits), tf.constant(classes, tf.int32))
    cut = overlap.class_loss(tf.constant(logits[:, :, :4]), tf.constant(classes[:, :, :4], tf.int32))
    np.testing.assert_allclose(of_classes, cut, rtol=1e-6)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = foreground_loss(variable, classes)
    gradient = np.asarray(tape.gradient(loss, variable))
    assert (gradient[:, :, 4:] == 0).all()
    assert (gradient[:, :, :4] != 0).all()
    logits[:, :, 4:] = 1e6
    np.testing.assert_array_equal(foreground_loss(logits, classes), found)


def test_foreground_of_three_classes_by_hand():
    # A third each: foreground probability 2/3 on both pixels, one of which is foreground.
    loss = foreground_loss(tf.zeros((1, 1, 2, 3)), [[[2, 0]]])
    entropy = (math.log(3 / 2) + math.log(3)) / 2
    np.testing.assert_allclose(loss, [entropy + 1 - (2 * 2 / 3 + 1) / (4 / 3 + 1 + 1)], rtol=1e-6)


def test_class_loss_by_hand():
    # Three classes of objects; background counts for nothing, whatever is said there.
    logits = np.array([[[[9, 0, 0, 0], [0, 0, math.log(2), 0], [0, 9, 9, 9]]], [[[0, 5, 5, 5]] * 3]], np.float32)
    loss = overlap.class_loss(tf.constant(logits), tf.constant([[[1, 2, 0]], [[0, 0, 0]]]))
    np.testing.assert_allclose(loss, [(math.log(3) + math.log(2)) / 2, 0], rtol=1e-6)


def test_a_certain_and_true_foreground_costs_nothing():
    classes = np.array([[[1, 0], [0, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]], np.int32)
    logits = np.where(classes[..., None] == [0, 1], 100, -100).astype(np.float32)
    np.testing.assert_allclose(foreground_loss(logits, classes), [0, 0, 0], atol=1e-6)


def test_a_certain_and_false_foreground_has_a_finite_gradient():
    logits = tf.Variable([[[[1e4, -1e4], [-1e4, 1e4]]]])
    with tf.GradientTape() as tape:
        loss = foreground_loss(logits, [[[1, 0]]])
    assert np.isfinite(loss).all()
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_foreground_eager_and_graph_agree():
    logits = tf.random.stateless_normal((2, 3, 4, 2), [0, 1])
    classes = tf.constant(np.random.default_rng(0).integers(0, 2, (2, 3, 4)), tf.int32)
    np.testing.assert_allclose(tf.function(foreground_loss)(logits, classes), foreground_loss(logits, classes), 1e-6)


def test_instances_beyond_the_most_take_no_part():
    rng = np.random.default_rng(5)
    embeddings, seeds = rng.standard_normal((1, 6, 6, 2)), rng.standard_normal((1, 6, 6))
    bandwidth, labels = rng.uniform(0.5, 2, (1, 6, 6)), rng.integers(0, 6, (1, 6, 6))
    floats = [tf.convert_to_tensor(value, tf.float32) for value in (embeddings, bandwidth, seeds)]
    capped = overlap.overlap_loss(*floats, tf.constant(labels, tf.int32), max_instances=3)
    used = labels[0] <= 3
    # As if the image had only the other pixels.
    rest = (embeddings[:, used][:, None], bandwidth[:, used][:, None], seeds[:, used][:, None])
    expected = overlap_loss(*rest, labels[:, used][:, None])
    for found, wanted in zip(capped, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
    # Nothing at all is left.
    none = overlap.overlap_loss(*floats, tf.fill((1, 6, 6), 9), max_instances=3)
    assert [float(term[0]) for term in none] == [0.0, 0.0, 0.0]


# Volumes


def test_volumes_cost_what_their_planes_one_below_the_other_do():
    rng = np.random.default_rng(0)
    embeddings = rng.uniform(0, 9, (2, 3, 4, 6, 3)).astype(np.float32)
    bandwidth = rng.uniform(1, 3, (2, 3, 4, 6)).astype(np.float32)
    seeds = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    labels = rng.integers(-1, 3, (2, 3, 4, 6)).astype(np.int32)
    volumes = overlap.overlap_loss(embeddings, bandwidth, seeds, labels)
    flat = [values.reshape(2, 12, 6, *values.shape[4:]) for values in (embeddings, bandwidth, seeds, labels)]
    for one, other in zip(volumes, overlap.overlap_loss(*flat), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
        assert (np.asarray(one) > 0).all()
    logits = rng.normal(size=(2, 3, 4, 6, 3)).astype(np.float32)
    for term in (overlap.foreground_loss, overlap.class_loss):
        found = term(tf.constant(logits), tf.constant(labels))
        expected = term(tf.constant(logits.reshape(2, 12, 6, 3)), tf.constant(labels.reshape(2, 12, 6)))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_subsample_2x2_takes_of_each_plane_its_own_by_hand():
    volume = np.arange(16).reshape(1, 2, 2, 4)
    choice = np.array([[0, 3], [1, 2]]).reshape(1, 2, 1, 2)
    taken, with_depth = subsample_2x2(choice, volume, volume[..., None])
    np.testing.assert_array_equal(np.squeeze(taken), [[0, 7], [9, 14]])
    np.testing.assert_array_equal(with_depth[..., 0], taken)
