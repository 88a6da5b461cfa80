"""The layers of the network, which normalise over one device or several.

All take images (B, H, W, C) and volumes (B, Z, H, W, C). What a layer does to volumes it does to each plane, or along
Z, as two-dimensional convolutions are what CPUs do best: a 3 x 3 kernel for the planes and one of three planes after it
take 25 ms forward and backward where one of 3 x 3 x 3 takes 71 (32 channels, 65,536 voxels, bfloat16).
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from instseg.network.strategy import mean_over_replicas, replica_count

OUTPUT_SUFFIX = "_subpixels"
"""How the names of the last layers end."""

DEPTH_SUFFIX = "_depth"
"""How the names of the convolutions along Z end."""

# With so many patches and more, each device normalises by its own, and nobody waits for others' moments (Goyal et al.
# 2017, 1706.02677, section 2.3): they are as many as the default batch of one device. With 4, the mean AP of nuclei was
# 0.630 for 0.640 after 1,000 steps.
_PATCHES_OF_OWN_MOMENTS = 8


def on_planes(run: Callable[[Any], Any], maps: Any, *, along_z: bool = False) -> Any:
    """Apply a function of images to maps of images (B, H, W, C), or of volumes (B, Z, H, W, C).

    Parameters
    ----------
    run : callable
        Takes and returns maps (N, h, w, c), of as many channels as it likes.
    maps : (B, H, W, C) or (B, Z, H, W, C)
        Of volumes each plane is an image.
    along_z : bool
        Of volumes, each image has the planes as its rows and all pixels of a plane as its columns instead.

    Returns
    -------
    (B, H', W', C') or (B, Z', H', W', C')
    """
    if maps.shape.rank == 4:
        return run(maps)
    batch, planes, height, width = (
        dynamic if static is None else static
        for static, dynamic in zip(maps.shape[:4], tf.unstack(tf.shape(maps))[:4], strict=True)
    )
    channels = maps.shape[-1]
    if along_z:
        result = run(tf.reshape(maps, (batch, planes, height * width, channels)))
        return tf.reshape(result, (batch, _length(result, 1), height, width, result.shape[-1]))
    result = run(tf.reshape(maps, (batch * planes, height, width, channels)))
    return tf.reshape(result, (batch, planes, _length(result, 1), _length(result, 2), result.shape[-1]))


def _length(maps: Any, axis: int) -> Any:
    return tf.shape(maps)[axis] if maps.shape[axis] is None else maps.shape[axis]


class PlaneConvolution(keras.layers.Conv2D):  # type: ignore[misc]
    """A convolution of images, or of the planes of volumes.

    Parameters
    ----------
    along_z : bool
        Of volumes: whether its rows are the planes, and its columns all pixels of a plane.
    *arguments, **options
        Those of Keras's layer.
    """

    def __init__(self, *arguments: Any, along_z: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._along_z = along_z

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the maps that are made of maps of a shape."""
        if len(input_shape) == 4:
            shape: tuple[int | None, ...] = super().compute_output_shape(input_shape)
            return shape
        batch, *axes, _ = input_shape
        strides = (self.strides[0], 1, 1) if self._along_z else (1, *self.strides)
        sides = (None if side is None else -(-side // step) for side, step in zip(axes, strides, strict=True))
        return batch, *sides, self.filters

    def call(self, inputs: Any) -> Any:
        """Convolve."""
        return on_planes(super().call, inputs, along_z=self._along_z)


class FoldedConvolution(PlaneConvolution):
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
        bias = tf.cast(bias, inputs.dtype)
        return on_planes(
            lambda maps: tf.nn.bias_add(tf.nn.conv2d(maps, kernel, self.strides, "SAME"), bias),
            inputs,
            along_z=self._along_z,
        )


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation of (B, H, W, C) or (B, Z, H, W, C), after a `FoldedConvolution`.

    In training it is TensorFlow's one operation instead of Keras's dozen; otherwise the convolution has done it. Where
    several devices learn, each normalises by the moments of its own patches if it has eight and more, and else by those
    of all.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise and update the moving moments in training; otherwise return the inputs."""
        if not training:
            return inputs
        patches = inputs.shape[0]
        synchronised = replica_count() > 1 and (patches is None or patches < _PATCHES_OF_OWN_MOMENTS)
        return on_planes(lambda maps: self._normalised(maps, synchronised=synchronised), inputs)

    def _normalised(self, inputs: Any, *, synchronised: bool) -> Any:
        """Normalise maps (N, H, W, C) by their own moments, or by those over all devices."""
        gamma, beta = self.gamma.value, self.beta.value
        if synchronised:
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
        return self._relu(self._normalised(x, width, name, (kernel, kernel), (strides, strides)), name)

    def mix_planes(self, x: Any, name: str, strides: int = 1) -> Any:
        """Let the planes of volumes (B, Z, H, W, C) see their neighbours, and reduce them to (B, Z / strides, H, W, C).

        What neighbours add is a residual: with a scale of 0 in its normalisation, each plane stays what it is.
        """
        mixed = self._normalised(x, x.shape[-1], name, (3, 1), (strides, 1), along_z=True)
        if strides > 1:
            x = PlaneMean(strides, dtype=self._dtype, name=f"{name}_mean")(x)
        return self._relu(self.add(x, mixed, f"{name}_sum"), name)

    def _normalised(
        self, x: Any, width: int, name: str, kernel: tuple[int, int], strides: tuple[int, int], *, along_z: bool = False
    ) -> Any:
        convolution = FoldedConvolution(
            width,
            kernel,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=self._initializer(),
            along_z=along_z,
            dtype=self._dtype,
            name=name,
        )
        normalisation = FusedBatchNormalization(momentum=0.97, epsilon=1e-3, dtype=self._dtype, name=f"{name}_norm")
        convolution.follow_with(normalisation)
        return normalisation(convolution(x))

    def _relu(self, x: Any, name: str) -> Any:
        return keras.layers.Activation("relu", dtype=self._dtype, name=f"{name}_relu")(x)

    def add(self, x: Any, other: Any, name: str) -> Any:
        """Add maps to others."""
        return keras.layers.Add(dtype=self._dtype, name=name)([x, other])

    def upsample(self, x: Any, name: str, planes: int = 1) -> Any:
        """Repeat each cell twice along both axes of images, and of volumes also `planes` times along Z."""
        return Upsampling(planes, dtype=self._dtype, name=name)(x)

    def head(self, x: Any, maps: int, name: str, planes: int = 1) -> Any:
        """Turn maps (B, H, W, C) into float32 maps (B, 2 H, 2 W, maps) that are the network's output.

        Volumes (B, Z, H, W, C) become (B, planes Z, 2 H, 2 W, maps).
        """
        x = self.convolution(x, x.shape[-1], f"{name}_conv")
        # Small first weights: offsets, seeds and bandwidths begin near their neutral values.
        initializer = self._initializer(0.01)
        last = PlaneConvolution(planes * 4 * maps, 1, kernel_initializer=initializer, name=name + OUTPUT_SUFFIX)
        return keras.layers.Lambda(lambda cells: subpixels_to_space(cells, planes), name=name)(last(x))


def subpixels_to_space(cells: Any, planes: int = 1) -> Any:
    """Turn cells (B, H, W, 4 R) into maps (B, 2 H, 2 W, R), and of volumes (B, Z, H, W, planes 4 R) with more planes.

    Of a cell, sub-pixels come in the order of planes, rows and columns, each with all its maps.
    """
    if planes > 1:
        shape = tf.shape(cells)
        batch, depth, height, width = (shape[axis] for axis in range(4))
        channels = cells.shape[-1] // planes
        cells = tf.transpose(tf.reshape(cells, (batch, depth, height, width, planes, channels)), (0, 1, 4, 2, 3, 5))
        cells = tf.reshape(cells, (batch, depth * planes, height, width, channels))
    return on_planes(lambda images: tf.nn.depth_to_space(images, 2), cells)


class PlaneMean(keras.layers.Layer):  # type: ignore[misc]
    """The mean of each so many planes of volumes (B, Z, H, W, C), of which Z is a multiple."""

    def __init__(self, planes: int, **options: Any) -> None:
        super().__init__(**options)
        self._planes = planes

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the maps that are made of maps of a shape."""
        batch, depth, *others = input_shape
        return batch, None if depth is None else depth // self._planes, *others

    def call(self, inputs: Any) -> Any:
        """Average the planes."""
        window = (self._planes, 1)
        return on_planes(lambda maps: tf.nn.avg_pool2d(maps, window, window, "VALID"), inputs, along_z=True)


class Upsampling(keras.layers.UpSampling2D):  # type: ignore[misc]
    """Repeats cells twice along rows and columns, and those of volumes so many times along Z."""

    def __init__(self, planes: int = 1, **options: Any) -> None:
        super().__init__(2, interpolation="nearest", **options)
        # Keras's layer takes images alone.
        self.input_spec = None
        self._planes = planes

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the maps that are made of maps of a shape."""
        if len(input_shape) == 4:
            shape: tuple[int | None, ...] = super().compute_output_shape(input_shape)
            return shape
        batch, *axes, channels = input_shape
        factors = (self._planes, 2, 2)
        sides = (None if side is None else factor * side for side, factor in zip(axes, factors, strict=True))
        return batch, *sides, channels

    def call(self, inputs: Any) -> Any:
        """Repeat the cells."""
        maps = on_planes(super().call, inputs)
        return tf.repeat(maps, self._planes, axis=1) if self._planes > 1 else maps
