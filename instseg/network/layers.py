"""The layers of the network, which normalise over one device or several."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from instseg.network.strategy import mean_over_replicas, replica_count

OUTPUT_SUFFIX = "_subpixels"
"""How the names of the last layers end."""


class FoldedConvolution(keras.layers.Conv2D):  # type: ignore[misc]
    """A convolution that also does the work of the normalisation after it, outside of training.

    Its kernel is scaled and it gets a bias (Jacob et al. 2018, 1712.05877, eq. 14), of which TensorFlow makes one
    operation with the activation: a pass over the maps instead of four. The small network takes 361 ms for 381 on
    1024 x 1024 pixels, and 210 for 258 in bfloat16.
    """

    def follow_with(self, normalisation: "FusedBatchNormalization") -> None:
        """Name the normalisation that comes next."""
        # Keras would take an attribute's variables for the convolution's own.
        self._following: Callable[[], FusedBatchNormalization] = lambda: normalisation

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Convolve, and normalise by the moving moments unless in training."""
        normalisation = self._following()
        # The network is wired before what comes next has variables.
        if training or not normalisation.built:
            return super().call(inputs)
        scale = normalisation.gamma.value * tf.math.rsqrt(normalisation.moving_variance.value + normalisation.epsilon)
        bias = normalisation.beta.value - normalisation.moving_mean.value * scale
        kernel = tf.cast(tf.cast(self.kernel.value, tf.float32) * scale, inputs.dtype)
        return tf.nn.bias_add(tf.nn.conv2d(inputs, kernel, self.strides, "SAME"), tf.cast(bias, inputs.dtype))


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation of (B, H, W, C), after a `FoldedConvolution`.

    In training it is TensorFlow's one operation instead of Keras's dozen; otherwise the convolution has done it.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise and update the moving moments in training; otherwise return the inputs."""
        if not training:
            return inputs
        gamma, beta = self.gamma.value, self.beta.value
        if replica_count() > 1:
            normalised, mean, variance = sync_batch_norm(inputs, gamma, beta, self.epsilon)
        else:
            normalised, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, gamma, beta, epsilon=self.epsilon, is_training=True
            )
        for moving, moment in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1.0 - self.momentum) * moment)
        return normalised


def sync_batch_norm(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalise maps (B, H, W, C) by the moments over all devices: what one device would make of the whole batch.

    Forward and backward each send 2 C numbers, which are all that a device has to know of the others' maps (Ioffe and
    Szegedy 2015, 1502.03167: the gradients in section 3). TensorFlow's fused operations do all that touches every
    pixel.

    Returns
    -------
    maps, mean, variance
        The variance is the unbiased one, as the fused operation gives it. No gradient passes through the moments.
    """
    raw = tf.raw_ops

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def normalise(inputs: Any, gamma: Any, beta: Any) -> tuple[Any, Any]:
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)

        def scaled(scale: Any, offset: Any) -> Any:
            return raw.FusedBatchNormV3(
                x=inputs, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=epsilon, is_training=False
            ).y

        nothing = tf.zeros((0,), tf.float32)
        own = raw.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=nothing, variance=nothing, epsilon=epsilon, is_training=True
        )
        biased = own.batch_variance * (count - 1.0) / count
        mean, square = mean_over_replicas([own.batch_mean, biased + tf.square(own.batch_mean)])
        variance = tf.nn.relu(square - tf.square(mean))

        def backward(upstream: Any, *_: Any) -> tuple[Any, Any, Any]:
            # As if the moments were given; and then what the maps change by changing them.
            fixed = raw.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=inputs,
                scale=gamma,
                reserve_space_1=mean,
                reserve_space_2=variance,
                reserve_space_3=nothing,
                epsilon=epsilon,
                is_training=False,
            )
            of_gamma, of_beta = fixed.scale_backprop, fixed.offset_backprop
            mean_gamma, mean_beta = mean_over_replicas([of_gamma / count, of_beta / count])
            slope = -gamma * tf.math.rsqrt(variance + epsilon)
            return fixed.x_backprop + scaled(slope * mean_gamma, slope * mean_beta), of_gamma, of_beta

        total = replica_count() * count
        moments = mean, variance * total / tf.maximum(total - 1.0, 1.0)
        return (scaled(gamma, beta), *moments), backward

    normalised: tuple[Any, Any, Any] = normalise(inputs, gamma, beta)
    return normalised


class LayerBuilder:
    """Makes layers of one precision, each with a name and with a seed of its own, given out in the order of making."""

    def __init__(self, seed: int, dtype: str) -> None:
        self._next_seed = seed * 1_000
        self._dtype = dtype

    def _initializer(self, scale: float = 2.0) -> keras.initializers.Initializer:
        self._next_seed += 1
        return keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal", seed=self._next_seed)

    def convolution(self, x: Any, width: int, name: str, kernel: int = 3, strides: int = 1) -> Any:
        """Convolve maps (B, H, W, C) to (B, H / strides, W / strides, width), normalise them, and apply a ReLU."""
        convolution = FoldedConvolution(
            width,
            kernel,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=self._initializer(),
            dtype=self._dtype,
            name=name,
        )
        normalisation = FusedBatchNormalization(momentum=0.97, epsilon=1e-3, dtype=self._dtype, name=f"{name}_norm")
        convolution.follow_with(normalisation)
        return keras.layers.Activation("relu", dtype=self._dtype, name=f"{name}_relu")(normalisation(convolution(x)))

    def add(self, x: Any, other: Any, name: str) -> Any:
        """Add maps to others."""
        return keras.layers.Add(dtype=self._dtype, name=name)([x, other])

    def upsample(self, x: Any, name: str) -> Any:
        """Repeat each cell twice along both axes."""
        return keras.layers.UpSampling2D(2, interpolation="nearest", dtype=self._dtype, name=name)(x)

    def head(self, x: Any, maps: int, name: str) -> Any:
        """Turn maps (B, H, W, C) into float32 maps (B, 2 H, 2 W, maps) that are the network's output."""
        x = self.convolution(x, x.shape[-1], f"{name}_conv")
        # Small first weights: offsets, seeds and bandwidths begin near their neutral values.
        last = keras.layers.Conv2D(4 * maps, 1, kernel_initializer=self._initializer(0.01), name=name + OUTPUT_SUFFIX)
        # (B, H, W, 4 R) to (B, 2 H, 2 W, R).
        return keras.layers.Lambda(lambda cells: tf.nn.depth_to_space(cells, 2), name=name)(last(x))
