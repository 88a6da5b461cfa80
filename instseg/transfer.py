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
from instseg.settings import ModelSettings
from instseg.store import damaged, read_settings

Weights = NDArray[np.float32]


class Source(NamedTuple):
    """A trained model to begin with.

    Attributes
    ----------
    folder : Path
        Of its SavedModel.
    settings : ModelSettings
        What its network is.
    """

    folder: Path
    settings: ModelSettings


class TakenOver(NamedTuple):
    """What a network got from a model.

    Attributes
    ----------
    weights : list of arrays
        For `keras.Model.set_weights`.
    changes : tuple of str
        What was adapted or starts fresh, in words; empty where all is as it was.
    """

    weights: list[Weights]
    changes: tuple[str, ...]


def read_source(model: Path) -> Source:
    """Find the model to begin with.

    Raises
    ------
    InstsegError
        If there is none, or it is damaged.
    """
    folder, stored = read_settings(model)
    try:
        return Source(folder, ModelSettings.from_dict(stored["model"]))
    except (LookupError, TypeError, AttributeError, InstsegError) as error:
        raise damaged(model, error) from error


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
        If the model cannot be read, or its widths differ.
    """
    source = read_source(model)
    if source.settings.widths != settings.widths:
        raise InstsegError(
            f"the network has layers of {_listed(settings.widths)} channels and the model {model} of "
            f"{_listed(source.settings.widths)}; give --from a model of this shape"
        )
    values = _read_weights(model, source.folder)
    if len(values) != len(network.variables):
        raise damaged(model, ValueError(f"{len(values)} weights, expected {len(network.variables)}"))
    weights = []
    for variable, value in zip(network.variables, values, strict=True):
        if is_last(variable):
            value = _last_layer(variable, value, source.settings, settings)
        elif value.ndim == 4 and value.shape[2] != variable.shape[2]:
            value = np.repeat(value.sum(axis=2, keepdims=True) / variable.shape[2], variable.shape[2], axis=2)
        if value.shape != tuple(variable.shape):
            raise damaged(model, ValueError(f"{variable.path} is of shape {value.shape}, expected {variable.shape}"))
        weights.append(value.astype(np.float32))
    return TakenOver(weights, tuple(_changes(source.settings, settings)))


def _read_weights(model: Path, folder: Path) -> list[Weights]:
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        count = sum(name.startswith("_weights/") for name in reader.get_variable_to_shape_map())
        return [reader.get_tensor(f"_weights/{number}/.ATTRIBUTES/VARIABLE_VALUE") for number in range(count)]
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
    # Offsets are learnt in typical diameters, and the network's side of the image is the image's times the scale.
    shrinking = source.diameter * source.scale / (wanted.diameter * wanted.scale)
    for number, name in enumerate(names):
        if name not in found:
            continue
        part = old[..., found.index(name)]
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
    return {"embedding": embedding, "semantic": [f"class {number}" for number in range(settings.classes)]}


def _changes(source: ModelSettings, wanted: ModelSettings) -> list[str]:
    changes = []
    if source.channels != wanted.channels:
        changes.append(f"the first layer is made for {wanted.channels} channels from one for {source.channels}")
    if source.loss != wanted.loss:
        changes.append(f"the embeddings start fresh, as the loss was {source.loss}")
    elif wanted.embeddings > source.embeddings:
        changes.append(f"{wanted.embeddings - source.embeddings} dimensions of the embeddings start fresh")
    elif wanted.embeddings < source.embeddings:
        changes.append(f"{source.embeddings - wanted.embeddings} dimensions of the embeddings are left out")
    if wanted.classes > source.classes:
        changes.append(f"{wanted.classes - source.classes} classes start fresh")
    return changes


def _listed(widths: tuple[int, ...]) -> str:
    return "-".join(str(width) for width in widths)
