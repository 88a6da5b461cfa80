"""Errors: the cost of a distance beyond its margin, or of a coordinate of a centroid.

An error is any callable of a float array that returns one of the same shape.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from instseg.loss.saving import StatelessSerializable

ErrorFunction = Callable[[tf.Tensor], tf.Tensor]


def squared_error(values: tf.Tensor) -> tf.Tensor:
    """Return the squares.

    Parameters
    ----------
    values : (...) float

    Returns
    -------
    (...) float

    Examples
    --------
    >>> float(squared_error(tf.constant(-3.0)))
    9.0
    """
    return tf.square(values)


def log_cosh_error(values: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of the hyperbolic cosine, which is quadratic near 0 and linear far from it.

    The cosine itself overflows from 89 on in float32. This does not, and is precise near 0. The gradient is tanh.

    Parameters
    ----------
    values : (...) float

    Returns
    -------
    (...) float
        0 or above; about `values**2 / 2` near 0 and `abs(values) - log(2)` far from it.

    Examples
    --------
    >>> round(float(log_cosh_error(tf.constant(1000.0))) + math.log(2), 3)
    1000.0
    """
    near = tf.abs(values) < 1
    # Each branch gets only values in its range, as the gradient of the branch that is not used has to be finite, too.
    small = tf.where(near, values, tf.zeros_like(values))
    large = tf.where(near, tf.ones_like(values), tf.abs(values))
    # cosh² = 1 + sinh²: with log1p no digits cancel near 0.
    log_cosh_small = 0.5 * tf.math.log1p(tf.square(tf.sinh(small)))
    log_cosh_large = large + tf.math.log1p(tf.exp(-2 * large)) - math.log(2)
    return tf.where(near, log_cosh_small, log_cosh_large)


@keras.saving.register_keras_serializable(package="instseg")
@dataclass(frozen=True)
class SquaredErrorMetric(StatelessSerializable):
    """The square; see `squared_error`."""

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Return the errors of values, in the same shape."""
        return squared_error(values)


@keras.saving.register_keras_serializable(package="instseg")
@dataclass(frozen=True)
class LogCoshErrorMetric(StatelessSerializable):
    """The logarithm of the hyperbolic cosine; see `log_cosh_error`."""

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Return the errors of values, in the same shape."""
        return log_cosh_error(values)
