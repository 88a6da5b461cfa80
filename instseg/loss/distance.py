"""Distances between embeddings, for pull and push.

A distance is any callable of two float arrays (..., D) that broadcast against each other, and returns their distances
(...), without the last axis. Its gradient has to be finite where the two are equal, as the pixel of an instance of one
pixel is equal to the centroid.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from instseg.loss.saving import StatelessSerializable

Distance = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def manhattan_distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the sum of absolute differences (L1).

    The gradient at equal coordinates is 0.

    Parameters
    ----------
    a, b : (..., D) float
        Embeddings; they broadcast against each other.

    Returns
    -------
    (...) float
        Distances, 0 or above.

    Examples
    --------
    >>> float(manhattan_distance(tf.constant([0.0, 0.0]), tf.constant([3.0, -4.0])))
    7.0
    """
    return _absolute_sum(a - b)


@tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
def _absolute_sum(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    # TensorFlow's own gradient of the sum first copies it to each coordinate, which takes one more array of this size.
    return tf.reduce_sum(tf.abs(values), axis=-1), lambda upstream: upstream[..., tf.newaxis] * tf.sign(values)


def euclidean_distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the length of the difference (L2).

    The gradient of the square root is infinite at 0; here it is 0 where the two are equal.

    Parameters
    ----------
    a, b : (..., D) float
        Embeddings; they broadcast against each other.

    Returns
    -------
    (...) float
        Distances, 0 or above.

    Examples
    --------
    >>> float(euclidean_distance(tf.constant([0.0, 0.0]), tf.constant([3.0, -4.0])))
    5.0
    """
    squared = tf.reduce_sum(tf.square(a - b), axis=-1)
    equal = squared == 0
    # Both `where` are needed: 0 times the infinite slope of an unguarded root would be NaN.
    return tf.where(equal, tf.zeros_like(squared), tf.sqrt(tf.where(equal, tf.ones_like(squared), squared)))


@keras.saving.register_keras_serializable(package="instseg")
@dataclass(frozen=True)
class ManhattanDistanceMetric(StatelessSerializable):
    """The sum of absolute differences (L1); see `manhattan_distance`."""

    def __call__(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Return the distances (...) between embeddings (..., D)."""
        return manhattan_distance(a, b)


@keras.saving.register_keras_serializable(package="instseg")
@dataclass(frozen=True)
class EuclideanDistanceMetric(StatelessSerializable):
    """The length of the difference (L2); see `euclidean_distance`."""

    def __call__(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Return the distances (...) between embeddings (..., D)."""
        return euclidean_distance(a, b)
