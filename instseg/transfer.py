"""Beginning with the weights of a trained model instead of random ones.

Hidden layers are taken over as they are; what depends on the channels of the images, the dimensions of the embeddings
or the size of the objects is adapted, so that the network begins by doing what the model does.
"""

import math
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.network import is_last
from instseg.plan import stored_training
from instseg.settings import ModelSettings
from instseg.store import damaged, read_settings

Weights = NDArray[np.float32]

# Of the logarithm of a ratio: what differs by less is not worth a word.
_SAME_SIZE = 0.01


class TakenOver(NamedTuple):
    """What a network got from a model.

    Attributes
    ----------
    weights : list of arrays
        For `keras.Model.set_weights`.
    changes : tuple of str
        What was adapted or starts fresh, in words; empty where the network does just what the model does.
    """

    weights: list[Weights]
    changes: tuple[str, ...]


def take_over(model: Path, network: keras.Model, settings: ModelSettings) -> TakenOver:
    """Adapt the weights of a trained model to a network, which is left as it is.

    Parameters
    ----------
    model : Path
        A model directory.
    network : keras.Model
        With random weights, from `build_network(settings)`.
    settings : ModelSettings
        Widths must be the model's; all else may differ.

    Returns
    -------
    TakenOver
        A kernel for other channels responds to gray images, the same in all channels, as the model's does. Positions
        and bandwidths stay the same in pixels, as the network sees them, whatever the typical diameter.

    Raises
    ------
    InstsegError
        If the model cannot be read or its layers are others.
    """
    source = stored_training(model).plan.model
    values = read_weights(model)
    if source.widths != settings.widths or len(values) != len(network.variables):
        raise InstsegError(
            f"cannot begin with {model}: it has {len(values)} weights in layers of {_listed(source.widths)} channels, "
            f"expected {len(network.variables)} in layers of {_listed(settings.widths)}; "
            "leave --network out, or give --from a model of this version and shape"
        )
    weights = []
    for variable, value in zip(network.variables, values, strict=True):
        if is_last(variable):
            value = _last_layer(variable, value, source, settings)
        elif value.ndim == 4 and value.shape[2] != variable.shape[2]:
            value = np.repeat(value.sum(axis=2, keepdims=True) / variable.shape[2], variable.shape[2], axis=2)
        if value.shape != tuple(variable.shape):
            raise damaged(model, ValueError(f"{variable.path} is of shape {value.shape}, expected {variable.shape}"))
        weights.append(value)
    return TakenOver(weights, tuple(_changes(source, settings)))


def read_weights(model: Path) -> list[Weights]:
    """Return the weights of a model, in the order of its network's variables, as float32.

    Raises
    ------
    InstsegError
        If the model cannot be read.
    """
    folder, _ = read_settings(model)
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        count = sum(name.startswith("_weights/") for name in reader.get_variable_to_shape_map())
        values = [reader.get_tensor(f"_weights/{number}/.ATTRIBUTES/VARIABLE_VALUE") for number in range(count)]
        # A compact model stores them in half precision.
        return [value.astype(np.float32) for value in values]
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise damaged(model, error) from error


def _last_layer(variable: keras.Variable, value: Weights, source: ModelSettings, wanted: ModelSettings) -> Weights:
    """Fill a kernel (1, 1, C, 4 R) or a bias (4 R) of a head map by map; what the model does not have stays random."""
    head = "semantic" if "semantic" in variable.path else "embedding"
    found, names = _maps(source)[head], _maps(wanted)[head]
    if value.shape[-1] != 4 * len(found):
        return value
    old = value.reshape(*value.shape[:-1], 4, len(found))
    new: Weights = np.asarray(variable).reshape(*old.shape[:-1], len(names)).copy()
    shrinking = _seen(source) / _seen(wanted)
    for number, name in enumerate(names):
        if head == "semantic" and number > 0 and source.classes == 2:
            # All classes begin as the one that there was, with equal shares of it.
            part = old[..., 1] - np.float32(math.log(wanted.classes - 1) if value.ndim == 1 else 0)
        elif name in found:
            part = old[..., found.index(name)]
        else:
            continue
        if name.startswith("position"):
            part = part * np.float32(shrinking)
        elif name == "steepness" and value.ndim == 1:
            part = part + np.float32(-math.log(shrinking))
        new[..., number] = part
    return new.reshape(variable.shape)


def _maps(settings: ModelSettings) -> dict[str, list[str]]:
    """Name the maps of each head, in the order in which `network.read_outputs` reads them."""
    kind = "position" if settings.loss == "overlap" else "metric"
    embedding = [f"{kind} {number}" for number in range(settings.embeddings)]
    if settings.loss == "overlap":
        embedding += ["seed", "steepness"]
    objects = settings.class_names or [str(number) for number in range(1, settings.classes)]
    return {"embedding": embedding, "semantic": ["background", *(f"class {name}" for name in objects)]}


def _seen(settings: ModelSettings) -> float:
    """Return the typical diameter in the network's pixels: what positions and bandwidths are learnt in."""
    return settings.diameter * settings.scale


def _changes(source: ModelSettings, wanted: ModelSettings) -> list[str]:
    changes = []
    if source.channels != wanted.channels:
        changes.append(f"the first layer is made for {wanted.channels} channels from one for {source.channels}")
    if wanted.scale != source.scale:
        changes.append(f"images are shown at {wanted.scale:.3g} times their size, for objects of a size that it knows")
    if source.loss == wanted.loss == "overlap" and abs(math.log(_seen(source) / _seen(wanted))) > _SAME_SIZE:
        changes.append(f"positions fit objects of {_seen(wanted):.3g} pixels instead of {_seen(source):.3g}")
    if source.loss != wanted.loss:
        changes.append(f"the embeddings start fresh, as the loss was {source.loss}")
    elif wanted.embeddings > source.embeddings:
        changes.append(f"{wanted.embeddings - source.embeddings} dimensions of the embeddings start fresh")
    elif wanted.embeddings < source.embeddings:
        changes.append(f"{source.embeddings - wanted.embeddings} dimensions of the embeddings are left out")
    if wanted.class_names != source.class_names:
        new = [name for name in wanted.class_names or ("one for all objects",) if name not in source.class_names]
        how = "begin as equal shares of what an object was" if source.classes == 2 else "start fresh"
        if new:
            changes.append(f"the classes {how}: {', '.join(new)}")
    return changes


def _listed(widths: tuple[int, ...]) -> str:
    return "-".join(str(width) for width in widths)
