"""The network as it is stored and used for prediction: a TensorFlow module that takes images as they were read."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from instseg.network.architecture import heads_of, named_variables
from instseg.network.decoding import Outputs, decode_heads
from instseg.network.layers import on_planes
from instseg.network.serving_levels import levels_of_images
from instseg.network.strides import strides
from instseg.preprocessing.normalisation import BRIGHTEST, DARKEST
from instseg.settings import ModelSettings


class ServingModule(tf.Module):  # type: ignore[misc]
    """Images or volumes of any size to maps, pre-processing included.

    Both functions return a dict: `embeddings` (B, H, W, D), `foreground`
    (B, H, W) in 0..1, with the overlap loss `seeds` (B, H, W) in 0..1 and
    `bandwidth` (B, H, W) above 0, and of a model of several classes `classes` (B, H, W, K), what the probability
    of each is if the pixel is foreground, all float32. Of volumes there is an axis of planes before H.
    """

    def __init__(self, network: keras.Model, settings: ModelSettings, *, half: bool = False) -> None:
        super().__init__(name="instseg")
        # The plain variables, by their names: a Keras model held here would be stored with all its layers' objects.
        self._weights = {name: variable.value for name, variable in named_variables(network).items()}
        run: Any = heads_of(network)
        if half:
            # Kernels alone: the others count for nothing in size, and a variance can be beyond half precision.
            self._weights = {name: tf.Variable(_halved(value)) for name, value in self._weights.items()}
            run = self._with_stored_weights(run)
        image = tf.TensorSpec((None,) * (settings.ndim + 1) + (settings.channels,), tf.float32, name="image")
        level = tf.TensorSpec((None, settings.channels), tf.float32)

        def embed(images: Any, low: Any, high: Any, magnification: Any) -> dict[str, Any]:
            return _embed(run, settings, images, low, high, magnification)

        # AutoGraph has nothing to convert, and keeps its sources as temporary files, which a killed process leaves.
        self.embed = tf.function(
            embed,
            input_signature=[
                image,
                tf.TensorSpec(level.shape, level.dtype, name="low"),
                tf.TensorSpec(level.shape, level.dtype, name="high"),
                tf.TensorSpec((), tf.float32, name="magnification"),
            ],
            autograph=False,
        )
        self.embed_raw = tf.function(
            lambda images: embed(images, *levels_of_images(images, settings.levels), tf.constant(1.0)),
            input_signature=[image],
            autograph=False,
        )

    def _with_stored_weights(self, heads: keras.Model) -> Callable[..., Any]:
        """Return the heads as a function that reads the variables here, in float32, instead of their own."""
        names = {id(variable): name for name, variable in named_variables(heads).items()}
        trainable = [names[id(variable)] for variable in heads.trainable_variables]
        others = [names[id(variable)] for variable in heads.non_trainable_variables]

        def run(images: Any, training: bool = False) -> Any:
            values = {name: tf.cast(weight, tf.float32) for name, weight in self._weights.items()}
            outputs, _ = heads.stateless_call(
                [values[name] for name in trainable],
                [values[name] for name in others],
                images,
                training=training,
            )
            return outputs

        return run

    def save(self, folder: Path) -> None:
        """Write the SavedModel with its signatures.

        `serving_default` takes `image` (B, H, W, C), or (B, Z, H, W, C), float32 as it was read, and finds its levels
        by the model's rule; `with_percentiles` also takes `low` and `high` (B, C), for tiles of a larger image, and
        `magnification` (), how many times larger the network is to see the image, for objects of another size than in
        training. The maps are of the image's size all the same.
        """
        signatures = {"serving_default": self.embed_raw, "with_percentiles": self.embed}
        tf.saved_model.save(self, str(folder), signatures=signatures)
        _remove_generated()


def _remove_generated() -> None:
    """Remove the sources that AutoGraph has made in the temporary folder, for functions of TensorFlow's own saving.

    They have been executed. TensorFlow removes them when the process ends, but not if it is killed, and never what
    Python has compiled of them.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("__autograph_generated_file"):
            for path in (module.__file__, getattr(module, "__cached__", None)):
                if path is not None:
                    Path(path).unlink(missing_ok=True)


def _halved(value: Any) -> Any:
    return tf.cast(value, tf.float16) if value.shape.rank == 4 else value


def _embed(heads: Any, settings: ModelSettings, images: Any, low: Any, high: Any, magnification: Any) -> dict[str, Any]:
    normalised = _normalised(settings, images, low, high)
    size = tf.shape(images)[1:-1]
    seen = tf.maximum(1, tf.cast(tf.round(tf.cast(size, tf.float32) * settings.scale * magnification), tf.int32))
    # Offsets are in diameters, so that maps of any size can be read; logits are what may be interpolated.
    maps, class_logits = (_resized(one, size) for one in _raw(heads, settings, _resized(normalised, seen)))
    return _maps(decode_heads(maps, class_logits, settings, settings.diameter / magnification), settings)


def predict_maps(network: Any, settings: ModelSettings, images: Any, low: Any, high: Any) -> dict[str, Any]:
    """Return the maps of images (B, H, W, C) or volumes (B, Z, H, W, C) that are as large as the network sees them."""
    normalised = _normalised(settings, images, low, high)
    maps, class_logits = _raw(heads_of(network), settings, normalised)
    return _maps(decode_heads(maps, class_logits, settings, settings.diameter * settings.scale), settings)


def _normalised(settings: ModelSettings, images: Any, low: Any, high: Any) -> Any:
    """Map the levels (B, C) of images (B, ..., C) to 0 and 1, as `instseg.preprocessing.normalisation.normalise`."""
    of_each = (slice(None), *(None,) * settings.ndim)
    low, high = low[of_each], high[of_each]
    normalised = tf.math.divide_no_nan(images - low, tf.nn.relu(high - low))
    return normalised if settings.levels == "percentiles" else tf.clip_by_value(normalised, DARKEST, BRIGHTEST)


def _maps(outputs: Outputs, settings: ModelSettings) -> dict[str, Any]:
    maps = {"embeddings": outputs.embeddings, "foreground": _foreground(outputs.class_logits)}
    if settings.classes > 2:
        maps["classes"] = tf.clip_by_value(tf.nn.softmax(outputs.class_logits[..., 1:]), 0.0, 1.0)
    if outputs.bandwidth is not None:
        maps["seeds"] = tf.sigmoid(outputs.seed_logits)
        maps["bandwidth"] = outputs.bandwidth
    return maps


def _foreground(class_logits: Any) -> Any:
    """Return the probability (B, H, W) or (B, Z, H, W) of all classes but the first, 0..1."""
    if class_logits.shape[-1] == 2:
        # The softmax of two classes is a sigmoid, which takes a tenth of the time.
        return tf.sigmoid(class_logits[..., 1] - class_logits[..., 0])
    # Rounding alone can leave 0..1.
    return tf.clip_by_value(1.0 - tf.nn.softmax(class_logits)[..., 0], 0.0, 1.0)


def _raw(heads: Any, settings: ModelSettings, images: Any) -> list[Any]:
    """Return the raw maps of each head, of images whose sides need not be multiples of the network's."""
    size = tf.unstack(tf.shape(images)[1:-1])
    for axis, multiple in enumerate(strides(settings), start=1):
        images = _pad(images, multiple, axis)
    own = (slice(None), *(slice(length) for length in size))
    return [maps[own] for maps in heads(images, training=False)]


def _resized(maps: Any, size: Any) -> Any:
    """Bring maps (B, H, W, R) or (B, Z, H, W, R) to another size, smoothed before they are thinned out."""
    same = tf.reduce_all(tf.equal(tf.shape(maps)[1:-1], size))
    return tf.cond(same, lambda: maps, lambda: _resampled(maps, size))


def _resampled(maps: Any, size: Any) -> Any:
    def along_z(planes: Any) -> Any:
        return tf.image.resize(planes, tf.stack([size[0], tf.shape(planes)[2]]), antialias=True)

    resized = on_planes(lambda images: tf.image.resize(images, size[-2:], antialias=True), maps)
    return resized if maps.shape.rank == 4 else on_planes(along_z, resized, along_z=True)


def _pad(images: Any, multiple: int, axis: int) -> Any:
    """Mirror at the far end up to a multiple, images of one pixel included."""
    length = tf.shape(images)[axis]
    # Not by dividing a negative number, which ONNX rounds towards zero.
    wanted = (length + multiple - 1) // multiple * multiple
    period = tf.maximum(2 * (length - 1), 1)
    position = tf.range(wanted) % period
    return tf.gather(images, tf.minimum(position, tf.maximum(period - position, 0)) % length, axis=axis)
