"""Beginning with the weights of a trained model instead of random ones.

Hidden layers are taken over as they are; what depends on the channels of the images, the dimensions of the embeddings
or the size of the objects is adapted, so that the network begins by doing what the model does.
"""

import math
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from instseg.errors import InstsegError, format_names
from instseg.models.config import read_training
from instseg.models.directory import damaged_model_error
from instseg.models.weights import read_weights
from instseg.models.widen import widened
from instseg.network.architecture import Weights, is_output_layer, named_variables
from instseg.network.layers import DEPTH_SUFFIX
from instseg.network.objective import Objective, objective_of
from instseg.network.strides import plane_strides
from instseg.settings import ModelSettings

# Of the normalisation of what planes add to each other, where a model of images becomes one of volumes: of unseen balls
# mean AP was 0.79 after 100 steps with 0 and 0.69 with 1, and as good after 200.
_INFLATED_SCALE = 0.0
# Of the logarithm of a ratio: a smaller difference in size is not reported.
_SAME_SIZE = 0.01


class TransferredWeights(NamedTuple):
    """What a network got from a model.

    Attributes
    ----------
    weights : dict of str to array
        For `instseg.network.architecture.set_named_weights`.
    changes : tuple of str
        What was adapted or starts fresh, in words; empty where the network does just what the model does.
    """

    weights: dict[str, Weights]
    changes: tuple[str, ...]


def transfer_weights(model: Path, network: keras.Model, settings: ModelSettings) -> TransferredWeights:
    """Adapt the weights of a trained model to a network, which is left as it is.

    Parameters
    ----------
    model : Path
        A model directory.
    network : keras.Model
        With random weights, from `build_network(settings)`.
    settings : ModelSettings
        As many levels as the model has, none of fewer channels; all else may differ.

    Returns
    -------
    TransferredWeights
        A network of more channels does what the model does, with copies of its channels. A network of volumes that
        begins with one of images sees each plane as that does, and has to learn what neighbouring planes add. A kernel
        for other channels responds to gray images, the same in all channels, as the model's does. Positions and
        bandwidths stay the same in pixels, as the network sees them, whatever the typical diameter. Weights of layers
        that the model does not have are those of the network.

    Raises
    ------
    InstsegError
        If the model cannot be read, or its levels are others or have more channels.
    """
    source = read_training(model).config.model
    stored = read_weights(model)
    variables = named_variables(network)
    if not source.can_widen_to(settings.widths):
        raise InstsegError(
            f"cannot begin with {model}: it has {len(stored)} weights in layers of {_listed(source.widths)} channels, "
            f"expected {len(variables)} in layers of {_listed(settings.widths)} or fewer; "
            "leave `network` out, or give `pretrained` a model of this version and shape"
        )
    inflated = source.ndim < settings.ndim
    weights = {}
    for name, variable in variables.items():
        initial = np.asarray(variable)
        if inflated and name.endswith(f"{DEPTH_SUFFIX}_norm/gamma"):
            initial = np.full_like(initial, _INFLATED_SCALE)
        value = initial
        if name in stored:
            value = widened(name, stored[name], initial)
            value = _adapted(name, value, initial, source, settings)
        if value.shape != initial.shape:
            raise damaged_model_error(model, ValueError(f"{name} is of shape {value.shape}, expected {initial.shape}"))
        weights[name] = value
    fresh = variables.keys() - stored.keys()
    if inflated:
        fresh = {name for name in fresh if DEPTH_SUFFIX not in name}
    changes = [*describe_fresh_layers(fresh), *_changes(source, settings)]
    if unused := _layers(stored.keys() - variables.keys()):
        changes.append(f"layers of the model are left out: {format_names(unused)}")
    return TransferredWeights(weights, tuple(changes))


def describe_fresh_layers(names: set[str]) -> list[str]:
    """Say which layers start fresh, by the names of their weights; nothing where there are none."""
    return [f"layers that the model does not have start fresh: {format_names(_layers(names))}"] if names else []


def _layers(names: set[str]) -> list[str]:
    return sorted({name.partition("/")[0] for name in names})


def _adapted(name: str, value: Weights, initial: Weights, source: ModelSettings, wanted: ModelSettings) -> Weights:
    """Return a weight of the model as the network needs it."""
    if is_output_layer(name):
        return _adapted_head(name, value, initial, source, wanted)
    if value.ndim == 4 and value.shape[2] != initial.shape[2]:
        channels = initial.shape[2]
        return np.repeat(value.sum(axis=2, keepdims=True) / channels, channels, axis=2)
    return value


def _adapted_head(name: str, value: Weights, initial: Weights, source: ModelSettings, wanted: ModelSettings) -> Weights:
    """Fill a kernel (1, 1, C, 4 R) or a bias (4 R) of a head map by map; what the model does not have stays random.

    Where cells have planes, all begin as the one that images have, or as they were.
    """
    semantic = name.startswith("semantic")
    old_maps, new_maps = (_maps(objective_of(one), semantic) for one in (source, wanted))
    old_parts, new_parts = (4 * plane_strides(one)[0] for one in (source, wanted))
    if value.shape[-1] != old_parts * len(old_maps):
        return value
    old = value.reshape(*value.shape[:-1], old_parts, len(old_maps))
    old = np.take(old, np.arange(new_parts) % old_parts, axis=-2)
    new: Weights = initial.reshape(*old.shape[:-1], len(new_maps)).copy()
    for number, name in enumerate(new_maps):
        if semantic and number > 0 and source.classes == 2:
            # All classes begin as the one that there was, with equal shares of it.
            new[..., number] = old[..., 1] - np.float32(math.log(wanted.classes - 1) if value.ndim == 1 else 0)
        elif name in old_maps:
            part = old[..., old_maps.index(name)]
            ratio = _seen_diameter(source) / _seen_diameter(wanted)
            new[..., number] = part if semantic else objective_of(wanted).adapt_weights(name, part, ratio)
    return new.reshape(initial.shape)


def _maps(objective: Objective, semantic: bool) -> tuple[str, ...]:
    return objective.semantic_maps if semantic else objective.embedding_maps


def _seen_diameter(settings: ModelSettings) -> float:
    """Return the typical diameter in the network's pixels: what positions and bandwidths are learnt in."""
    return settings.diameter * settings.scale


def _changes(source: ModelSettings, wanted: ModelSettings) -> list[str]:
    changes = []
    if source.widths != wanted.widths:
        changes.append(f"channels are repeated, from {_listed(source.widths)} to {_listed(wanted.widths)}")
    if source.channels != wanted.channels:
        changes.append(f"the first layer is made for {wanted.channels} channels from one for {source.channels}")
    if wanted.scale != source.scale:
        changes.append(f"images are shown at {wanted.scale:.3g} times their size, for objects of a size that it knows")
    if source.ndim < wanted.ndim:
        changes.append(
            "it sees each plane as an image; what neighbouring planes add, and the position along Z, starts fresh"
        )
    elif source.spacing != wanted.spacing:
        changes.append(f"voxels are {_listed_spacing(wanted)} instead of {_listed_spacing(source)}")
    same_loss = source.loss == wanted.loss
    old, new = _seen_diameter(source), _seen_diameter(wanted)
    if same_loss and objective_of(wanted).positions and abs(math.log(old / new)) > _SAME_SIZE:
        changes.append(f"positions fit objects of {new:.3g} pixels instead of {old:.3g}")
    if not same_loss:
        changes.append(f"the embeddings start fresh, as the loss was {source.loss}")
    elif wanted.embeddings > source.embeddings:
        changes.append(f"{wanted.embeddings - source.embeddings} dimensions of the embeddings start fresh")
    elif wanted.embeddings < source.embeddings:
        changes.append(f"{source.embeddings - wanted.embeddings} dimensions of the embeddings are left out")
    if wanted.class_names != source.class_names:
        added = [name for name in wanted.class_names or ("one for all objects",) if name not in source.class_names]
        start = "begin as equal shares of what an object was" if source.classes == 2 else "start fresh"
        if added:
            changes.append(f"the classes {start}: {', '.join(added)}")
    return changes


def _listed_spacing(settings: ModelSettings) -> str:
    return ":".join(f"{size:.3g}" for size in settings.spacing or ())


def _listed(widths: tuple[int, ...]) -> str:
    return "-".join(str(width) for width in widths)
