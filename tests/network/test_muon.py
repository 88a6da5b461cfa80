"""The optimiser of the kernels: its matrices against a singular value decomposition, its steps against the rule."""

import numpy as np
import pytest
import tensorflow as tf

from instseg.network.muon import Muon, newton_schulz


def matrix(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(60, 7), (7, 60), (16, 16), (5, 1), (1, 5)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_singular_values_become_about_one_and_directions_stay(rows, columns, size):
    given = size * matrix(rows, columns)
    found = newton_schulz(tf.constant(given)).numpy()
    left, _, right = np.linalg.svd(given, full_matrices=False)
    inner = left.T @ found @ right.T
    assert np.abs(inner - np.diag(np.diag(inner))).max() < 1e-2
    assert np.diag(inner).min() > 0.6
    assert np.diag(inner).max() < 1.25


def test_rounds_on_the_gram_matrix_are_those_on_the_matrix_itself():
    given = matrix(300, 40) * np.logspace(0, -2, 40, dtype=np.float32)
    expected = given.astype(np.float64) / np.linalg.norm(given)
    for _ in range(4):
        gram = expected.T @ expected
        expected = expected @ (3.4445 * np.eye(40) - 4.7750 * gram + 2.0315 * gram @ gram)
    np.testing.assert_allclose(newton_schulz(tf.constant(given)), expected, atol=1e-4)


def test_nothing_comes_of_nothing():
    assert not newton_schulz(tf.zeros((5, 3))).numpy().any()


def test_decay_shrinks_kernels_by_its_share_of_the_learning_rate():
    start = matrix(36, 8)
    plain, decayed = (tf.Variable(tf.reshape(start, (3, 3, 4, 8))) for _ in range(2))
    gradient = tf.reshape(matrix(36, 8, 1), plain.shape)
    Muon([plain]).apply([gradient], 0.01)
    Muon([decayed], weight_decay=0.5).apply([gradient], 0.01)
    np.testing.assert_allclose(plain - decayed, 0.005 * start.reshape(plain.shape), rtol=1e-3, atol=1e-6)


def test_steps_follow_nesterovs_momentum_and_the_learning_rate():
    kernel = tf.Variable(tf.zeros((3, 3, 4, 8)))
    muon = Muon([kernel], momentum=0.5)
    first, second = matrix(36, 8, 1), matrix(36, 8, 2)
    before = np.zeros((36, 8), np.float32)
    for gradient, ahead in ((first, 1.5 * first), (second, second + 0.5 * (0.5 * first + second))):
        muon.apply([tf.reshape(gradient, kernel.shape)], 0.01)
        step = before - kernel.numpy().reshape(36, 8)
        np.testing.assert_allclose(step, 0.01 * 0.2 * 6 * newton_schulz(tf.constant(ahead)), rtol=1e-3, atol=1e-6)
        # As long as a step of AdamW: 0.2 times the learning rate in the root mean square, as rows are many.
        assert np.sqrt(np.mean(step**2)) == pytest.approx(0.01 * 0.2, rel=0.3)
        before = kernel.numpy().reshape(36, 8)
    np.testing.assert_allclose(muon.momenta[0], tf.reshape(0.5 * first + second, kernel.shape), rtol=1e-6)
