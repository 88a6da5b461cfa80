"""The network: an encoder-decoder with two heads, and how its raw output is read.

A U-Net (Ronneberger et al. 2015, 1505.04597) that works at half the image's
resolution and finer nowhere: a stride-2 stem halves each side and both heads
give four sub-pixels per cell (Shi et al. 2016, 1609.05158), so every pixel has
its own output at a quarter of the cost.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from instseg.settings import ModelSettings, Precision
from instseg.strategy import mean_over_replicas, replicas

# From an eighth of the image's resolution on, levels have one more convolution.
_DEEP = 2
# How the names of the last layers end.
_LAST = "_subpixels"


class Outputs(NamedTuple):
    """The network's maps over a batch of images.

    Attributes
    ----------
    embeddings : (B, H, W, D) float32
        With the overlap loss: in pixels; the first two dimensions are the
        position (row, column) that the pixel points to. With the metric loss: free.
    class_logits : (B, H, W, classes) float32
        Before the softmax; class 0 is background.
    seed_logits : (B, H, W) float32 or None
        Before the sigmoid: how well the pixel's embedding represents its instance.
    bandwidth : (B, H, W) float32 or None
        Distance in pixels, in embedding space, at which membership is one half.
    """

    embeddings: Any
    class_logits: Any
    seed_logits: Any
    bandwidth: Any


def stride(settings: ModelSettings) -> int:
    """Return the number of pixels that height and width must be multiples of."""
    return int(2 ** len(settings.widths))


def build_network(settings: ModelSettings, seed: int = 0, precision: Precision = "float32") -> keras.Model:
    """Wire the network.

    Parameters
    ----------
    settings : ModelSettings
        Channels, dimensions, classes, widths.
    seed : int
        Seed of the initial weights.
    precision : {'float32', 'bfloat16'}
        What hidden layers compute in. Weights are float32 either way, and so are normalisation's sums and the maps.

    Returns
    -------
    keras.Model
        (B, H, W, channels) float32 normalised to about 0..1, H and W multiples
        of `stride(settings)`, to raw maps (B, H, W, R) float32 that `read_outputs` takes apart.
    """
    make = _Layers(seed, "mixed_bfloat16" if precision == "bfloat16" else "float32")
    image = keras.Input((None, None, settings.channels), name="image")
    first, *deeper = settings.widths
    x = make.convolution(image, first, kernel=5, strides=2)
    x = make.convolution(x, first)
    skips = [x]
    for level, width in enumerate(deeper, start=1):
        x = make.convolution(x, width, strides=2)
        x = make.convolution(x, width)
        if level >= _DEEP:
            # Here weights cost the least time: a tenth more of it for 0.006 mean AP after as many steps.
            x = make.sum(x, make.convolution(x, width))
        skips.append(x)
    for skip in reversed(skips[:-1]):
        width = skip.shape[-1]
        x = make.convolution(x, width, kernel=1)
        x = make.larger(x)
        # Adding instead of concatenating saves a seventh of the step's time for the same quality.
        x = make.sum(x, skip)
        x = make.convolution(x, width)
    maps = settings.embeddings + (2 if settings.loss == "overlap" else 0)
    semantic = make.head(x, settings.classes, "semantic")
    embedding = make.head(x, maps, "embedding")
    return keras.Model(image, keras.layers.Concatenate(name="maps")([embedding, semantic]), name="instseg")


def is_last(variable: keras.Variable) -> bool:
    """Return whether a variable belongs to a layer whose output is the network's."""
    return _LAST in variable.path


class FoldedConvolution(keras.layers.Conv2D):  # type: ignore[misc]
    """A convolution that does the work of the normalisation after it, too, where nothing is learnt.

    Its kernel is scaled and it gets a bias (Jacob et al. 2018, 1712.05877, eq. 14), of which TensorFlow makes one
    operation with the activation: a pass over the maps instead of four. The small network takes 361 ms for 381 on
    1024 x 1024 pixels, and 210 for 258 in bfloat16.
    """

    def follow_with(self, normalisation: "FusedBatchNormalization") -> None:
        """Say what comes next."""
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

    In training it is TensorFlow's one operation instead of Keras's dozen; else it has been done already.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise and follow the batches' moments in training."""
        if not training:
            return inputs
        gamma, beta = self.gamma.value, self.beta.value
        if replicas() > 1:
            found, mean, variance = normalised_everywhere(inputs, gamma, beta, self.epsilon)
        else:
            found, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, gamma, beta, epsilon=self.epsilon, is_training=True
            )
        for moving, moment in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1.0 - self.momentum) * moment)
        return found


def normalised_everywhere(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalise maps (B, H, W, C) by the moments over all devices: what one device would make of the whole batch.

    Forward and backward each send 2 C numbers, all that a device has to know of the others' maps (Ioffe and Szegedy
    2015, 1502.03167: the gradients in section 3). All that touches every pixel is TensorFlow's fused operations.

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
            along, alike = mean_over_replicas([of_gamma / count, of_beta / count])
            steepness = -gamma * tf.math.rsqrt(variance + epsilon)
            return fixed.x_backprop + scaled(steepness * along, steepness * alike), of_gamma, of_beta

        everywhere = replicas() * count
        moments = mean, variance * everywhere / tf.maximum(everywhere - 1.0, 1.0)
        return (scaled(gamma, beta), *moments), backward

    found: tuple[Any, Any, Any] = normalise(inputs, gamma, beta)
    return found


class _Layers:
    """Layers with one seed each, drawn in the order of their making, and of one precision."""

    def __init__(self, seed: int, dtype: str) -> None:
        self._next = seed * 1_000
        self._dtype = dtype

    def _initializer(self, scale: float = 2.0) -> keras.initializers.Initializer:
        self._next += 1
        return keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal", seed=self._next)

    def convolution(self, x: Any, width: int, kernel: int = 3, strides: int = 1) -> Any:
        convolution = FoldedConvolution(
            width,
            kernel,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=self._initializer(),
            dtype=self._dtype,
        )
        normalisation = FusedBatchNormalization(momentum=0.97, epsilon=1e-3, dtype=self._dtype)
        convolution.follow_with(normalisation)
        return keras.layers.Activation("relu", dtype=self._dtype)(normalisation(convolution(x)))

    def sum(self, *maps: Any) -> Any:
        return keras.layers.Add(dtype=self._dtype)(list(maps))

    def larger(self, x: Any) -> Any:
        return keras.layers.UpSampling2D(2, interpolation="nearest", dtype=self._dtype)(x)

    def head(self, x: Any, maps: int, name: str) -> Any:
        x = self.convolution(x, x.shape[-1])
        # Small first weights: offsets, seeds and bandwidths begin near their neutral values.
        x = keras.layers.Conv2D(4 * maps, 1, kernel_initializer=self._initializer(0.01), name=f"{name}{_LAST}")(x)
        # (B, H, W, 4 R) to (B, 2 H, 2 W, R).
        return keras.layers.Lambda(lambda cells: tf.nn.depth_to_space(cells, 2), name=name)(x)


def read_outputs(raw: Any, settings: ModelSettings, diameter: Any | None = None) -> Outputs:
    """Take the network's raw maps apart and give them their units.

    Parameters
    ----------
    raw : (B, H, W, R) float32
        What the network returned.
    settings : ModelSettings
        Those that the network was built with.
    diameter : float or () float32, optional
        Diameter in the maps' pixels of an object of the typical size, by default the settings'.

    Returns
    -------
    Outputs
        Positions are relative to the upper left pixel of the batch's images.
    """
    maps, class_logits = part(raw, settings)
    if settings.loss == "metric":
        return Outputs(maps, class_logits, None, None)
    places = pixel_places(tf.shape(raw)[1], tf.shape(raw)[2])
    diameter = settings.diameter if diameter is None else diameter
    return Outputs(**read_positions(maps, places, settings, diameter), class_logits=class_logits)


def part(raw: Any, settings: ModelSettings) -> tuple[Any, Any]:
    """Part raw maps into those of the embedding head (B, H, W, R - classes) and the class logits."""
    # A split has one gradient; slices would have one each, all as large as the whole.
    maps, class_logits = tf.split(raw, [raw.shape[-1] - settings.classes, settings.classes], axis=-1)
    return maps, class_logits


def pixel_places(height: Any, width: Any) -> Any:
    """Return the row and the column of each pixel, (1, H, W, 2) float32."""
    return tf.stack(tf.meshgrid(*(tf.cast(tf.range(n), tf.float32) for n in (height, width)), indexing="ij"), -1)[None]


def read_positions(maps: Any, places: Any, settings: ModelSettings, diameter: Any) -> dict[str, Any]:
    """Give the maps of the embedding head their units, with the overlap loss.

    Parameters
    ----------
    maps : (B, H, W, D + 2) float32
        As `part` gives them, or any choice of pixels of them.
    places : (B or 1, H, W, 2) float32
        Row and column of the pixels.
    settings : ModelSettings
        Those that the network was built with.
    diameter : float or () float32
        Of an object of the typical size, in pixels.

    Returns
    -------
    dict
        embeddings, seed_logits and bandwidth, as `Outputs` has them.
    """
    offsets, free, seed_logits, steepness = tf.split(maps, [2, settings.embeddings - 2, 1, 1], axis=-1)
    embeddings = tf.concat([offsets * diameter + places, free * diameter], axis=-1)
    # A neutral network lets an instance reach 0.4 of the typical diameter.
    bandwidth = 0.4 * diameter * tf.exp(-tf.clip_by_value(steepness, -4.0, 4.0))
    return {"embeddings": embeddings, "seed_logits": seed_logits[..., 0], "bandwidth": bandwidth[..., 0]}
