"""The network as a SavedModel that needs none of our code."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from instseg.errors import InstsegError
from instseg.files import require_new
from instseg.network import Outputs, build_network, read_outputs, stride
from instseg.normalisation import HIGH_PERCENTILE, LOW_PERCENTILE
from instseg.plan import stored_training
from instseg.settings import ModelSettings
from instseg.store import SETTINGS_FILE, read_settings
from instseg.transfer import take_over

# Of a model's settings, what a compact copy has, too.
_PASSED_ON = (
    "format",
    "model",
    "training",
    "metric_loss",
    "clustering",
    "iteration",
    "seconds",
    "kept_iteration",
    "validation",
    "precision",
    "versions",
)


class Serving(tf.Module):  # type: ignore[misc]
    """Images of any size to maps, pre-processing included.

    Both functions return a dict: `embeddings` (B, H, W, D), `foreground`
    (B, H, W) in 0..1, with the overlap loss `seeds` (B, H, W) in 0..1 and
    `bandwidth` (B, H, W) above 0, and of a model of several classes `classes` (B, H, W, K), what the probability
    of each is if the pixel is foreground, all float32.
    """

    def __init__(self, network: keras.Model, settings: ModelSettings, *, half: bool = False) -> None:
        super().__init__(name="instseg")
        # The plain variables: a Keras model held here would be stored with all its layers' objects.
        self._weights = [variable.value for variable in network.variables]
        run: Any = network
        if half:
            # Kernels alone: the others count for nothing in size, and a variance can be beyond half precision.
            self._weights = [tf.Variable(_halved(value)) for value in self._weights]
            run = self._with_stored_weights(network)
        image = tf.TensorSpec((None, None, None, settings.channels), tf.float32, name="image")
        level = tf.TensorSpec((None, settings.channels), tf.float32)

        def embed(images: Any, low: Any, high: Any, magnification: Any) -> dict[str, Any]:
            return _embed(run, settings, images, low, high, magnification)

        self.embed = tf.function(
            embed,
            input_signature=[
                image,
                tf.TensorSpec(level.shape, level.dtype, name="low"),
                tf.TensorSpec(level.shape, level.dtype, name="high"),
                tf.TensorSpec((), tf.float32, name="magnification"),
            ],
        )
        self.embed_raw = tf.function(
            lambda images: embed(images, *_percentiles(images), tf.constant(1.0)), input_signature=[image]
        )

    def _with_stored_weights(self, network: keras.Model) -> Callable[..., Any]:
        """Return the network as a function that reads the variables here, in float32, instead of its own."""
        of_network = {id(variable): number for number, variable in enumerate(network.variables)}
        trainable = [of_network[id(variable)] for variable in network.trainable_variables]
        others = [of_network[id(variable)] for variable in network.non_trainable_variables]

        def run(images: Any, training: bool = False) -> Any:
            values = [tf.cast(weight, tf.float32) for weight in self._weights]
            outputs, _ = network.stateless_call(
                [values[number] for number in trainable],
                [values[number] for number in others],
                images,
                training=training,
            )
            return outputs

        return run

    def save(self, folder: Path) -> None:
        """Write the SavedModel with its signatures.

        `serving_default` takes `image` (B, H, W, C) float32 as it was read;
        `with_percentiles` also takes `low` and `high` (B, C), for tiles of a larger image, and `magnification` (),
        how many times larger the network is to see the image, for objects of another size than in training. The maps
        are of the image's size all the same.
        """
        signatures = {"serving_default": self.embed_raw, "with_percentiles": self.embed}
        tf.saved_model.save(self, str(folder), signatures=signatures)


def restored_network(model: Path) -> tuple[keras.Model, ModelSettings]:
    """Return the network of a stored model, in Keras, and its settings.

    Raises
    ------
    InstsegError
        If the model cannot be read.
    """
    settings = stored_training(model).plan.model
    network = build_network(settings)
    network.set_weights(take_over(model, network, settings).weights)
    return network, settings


def export_compact(model: Path, out: Path) -> None:
    """Write a model once more without what only going on with its training needs, its kernels in half precision.

    What is left out: the state of the training and where its data were. Such a copy takes a ninth of the
    space, predicts, and can be begun with (`train --from`), but not resumed.

    Parameters
    ----------
    model : Path
        A model directory.
    out : Path
        The directory to make; it appears when it is complete.

    Raises
    ------
    InstsegError
        If the model cannot be read, or `out` exists or cannot be written.
    """
    require_new(out)
    network, settings = restored_network(model)
    _, contents = read_settings(model)
    # Folders of the machine that trained it are nobody's business.
    contents = {name: contents[name] for name in _PASSED_ON if name in contents} | {"data": {}}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".partial", dir=out.parent) as folder:
        partial = Path(folder) / out.name
        try:
            Serving(network, settings, half=True).save(partial)
            (partial / SETTINGS_FILE).write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
            partial.rename(out)
        except (OSError, tf.errors.OpError) as error:
            raise InstsegError(f"cannot write {out}: {error}; check the permissions and the space") from error


def _halved(value: Any) -> Any:
    return tf.cast(value, tf.float16) if value.shape.rank == 4 else value


def _embed(
    network: Any, settings: ModelSettings, images: Any, low: Any, high: Any, magnification: Any
) -> dict[str, Any]:
    low, high = low[:, None, None, :], high[:, None, None, :]
    normalised = tf.math.divide_no_nan(images - low, tf.nn.relu(high - low))
    size = tf.shape(images)[1:3]
    seen = tf.maximum(1, tf.cast(tf.round(tf.cast(size, tf.float32) * settings.scale * magnification), tf.int32))
    raw = _raw(network, settings, _resized(normalised, seen))
    # Offsets are in diameters, so that maps of any size can be read; logits are what may be interpolated.
    return _maps(read_outputs(_resized(raw, size), settings, settings.diameter / magnification), settings)


def maps_of(network: Any, settings: ModelSettings, images: Any, low: Any, high: Any) -> dict[str, Any]:
    """Return the maps of images (B, H, W, C) that are as large as the network sees them."""
    low, high = low[:, None, None, :], high[:, None, None, :]
    normalised = tf.math.divide_no_nan(images - low, tf.nn.relu(high - low))
    raw = _raw(network, settings, normalised)
    return _maps(read_outputs(raw, settings, settings.diameter * settings.scale), settings)


def _maps(outputs: Outputs, settings: ModelSettings) -> dict[str, Any]:
    maps = {
        "embeddings": outputs.embeddings,
        # Rounding alone can leave 0..1.
        "foreground": tf.clip_by_value(1.0 - tf.nn.softmax(outputs.class_logits)[..., 0], 0.0, 1.0),
    }
    if settings.classes > 2:
        maps["classes"] = tf.clip_by_value(tf.nn.softmax(outputs.class_logits[..., 1:]), 0.0, 1.0)
    if outputs.bandwidth is not None:
        maps["seeds"] = tf.sigmoid(outputs.seed_logits)
        maps["bandwidth"] = outputs.bandwidth
    return maps


def _raw(network: Any, settings: ModelSettings, images: Any) -> Any:
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    multiple = stride(settings)
    padded = _pad(_pad(images, multiple, axis=1), multiple, axis=2)
    return network(padded, training=False)[:, :height, :width]


def _resized(maps: Any, size: Any) -> Any:
    """Bring maps (B, H, W, R) to another height and width, smoothed before they are thinned out."""
    same = tf.reduce_all(tf.equal(tf.shape(maps)[1:3], size))
    return tf.cond(same, lambda: maps, lambda: tf.image.resize(maps, size, antialias=True))


def _pad(images: Any, multiple: int, axis: int) -> Any:
    """Mirror at the far end up to a multiple, images of one pixel included."""
    length = tf.shape(images)[axis]
    # Not by dividing a negative number, which ONNX rounds towards zero.
    wanted = (length + multiple - 1) // multiple * multiple
    period = tf.maximum(2 * (length - 1), 1)
    position = tf.range(wanted) % period
    return tf.gather(images, tf.minimum(position, tf.maximum(period - position, 0)) % length, axis=axis)


def _percentiles(images: Any) -> tuple[Any, Any]:
    """Return (B, C) low and high percentiles with linear interpolation, as `instseg.normalisation.percentiles` does."""
    shape = tf.shape(images)
    ordered = tf.sort(tf.reshape(images, (shape[0], shape[1] * shape[2], shape[3])), axis=1)
    last = tf.cast(shape[1] * shape[2] - 1, tf.float64)

    def at(percentile: float) -> Any:
        position = last * (percentile / 100.0)
        below = tf.floor(position)
        weight = tf.cast(position - below, tf.float32)
        lower = ordered[:, tf.cast(below, tf.int32)]
        upper = ordered[:, tf.cast(tf.math.ceil(position), tf.int32)]
        return lower + weight * (upper - lower)

    return at(LOW_PERCENTILE), at(HIGH_PERCENTILE)
