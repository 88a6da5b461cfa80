"""The network: an encoder-decoder with two heads, and how its raw output is read.

A U-Net (Ronneberger et al. 2015, 1505.04597) that works at half the image's
resolution and finer nowhere: a stride-2 stem halves each side and both heads
give four sub-pixels per cell (Shi et al. 2016, 1609.05158), so every pixel has
its own output at a quarter of the cost.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from instseg.settings import ModelSettings

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


def build_network(settings: ModelSettings, seed: int = 0) -> keras.Model:
    """Wire the network.

    Parameters
    ----------
    settings : ModelSettings
        Channels, dimensions, classes, widths.
    seed : int
        Seed of the initial weights.

    Returns
    -------
    keras.Model
        (B, H, W, channels) float32 normalised to about 0..1, H and W multiples
        of `stride(settings)`, to raw maps (B, H, W, R) float32 that `read_outputs` takes apart.
    """
    make = _Layers(seed)
    image = keras.Input((None, None, settings.channels), name="image")
    first, *deeper = settings.widths
    x = make.convolution(image, first, kernel=5, strides=2)
    x = make.convolution(x, first)
    skips = [x]
    for width in deeper:
        x = make.convolution(x, width, strides=2)
        x = make.convolution(x, width)
        skips.append(x)
    for skip in reversed(skips[:-1]):
        width = skip.shape[-1]
        x = make.convolution(x, width, kernel=1)
        x = keras.layers.UpSampling2D(2, interpolation="nearest")(x)
        # Adding instead of concatenating saves a seventh of the step's time for the same quality.
        x = keras.layers.Add()([x, skip])
        x = make.convolution(x, width)
    maps = settings.embeddings + (2 if settings.loss == "overlap" else 0)
    semantic = make.head(x, settings.classes, "semantic")
    embedding = make.head(x, maps, "embedding")
    return keras.Model(image, keras.layers.Concatenate(name="maps")([embedding, semantic]), name="instseg")


def is_last(variable: keras.Variable) -> bool:
    """Return whether a variable belongs to a layer whose output is the network's."""
    return _LAST in variable.path


class _Layers:
    """Layers with one seed each, drawn in the order of their making."""

    def __init__(self, seed: int) -> None:
        self._next = seed * 1_000

    def _initializer(self, scale: float = 2.0) -> keras.initializers.Initializer:
        self._next += 1
        return keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal", seed=self._next)

    def convolution(self, x: Any, width: int, kernel: int = 3, strides: int = 1) -> Any:
        x = keras.layers.Conv2D(
            width, kernel, strides, padding="same", use_bias=False, kernel_initializer=self._initializer()
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.97, epsilon=1e-3)(x)
        return keras.layers.Activation("relu")(x)

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
    dimensions = settings.embeddings
    if settings.loss == "metric":
        return Outputs(raw[..., :dimensions], raw[..., dimensions:], None, None)
    diameter = settings.diameter if diameter is None else diameter
    height, width = tf.shape(raw)[1], tf.shape(raw)[2]
    rows = tf.cast(tf.range(height), tf.float32)[:, None]
    columns = tf.cast(tf.range(width), tf.float32)[None, :]
    zero = tf.zeros((height, width))
    position = tf.stack([rows + zero, columns + zero] + [zero] * (dimensions - 2), axis=-1)
    embeddings = raw[..., :dimensions] * diameter + position
    # A neutral network lets an instance reach 0.4 of the typical diameter.
    bandwidth = 0.4 * diameter * tf.exp(-tf.clip_by_value(raw[..., dimensions + 1], -4.0, 4.0))
    return Outputs(embeddings, raw[..., dimensions + 2 :], raw[..., dimensions], bandwidth)
