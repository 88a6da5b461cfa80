"""The weights of stored models, by name, whatever the format of the model.

Since format 3 a SavedModel and a checkpoint store each weight under its name. Format 2 stored lists in the order of the
network's variables of its time, which `format_2_names` writes down: so that later networks can have other layers.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from instseg.models.directory import damaged_model_error, read_generation
from instseg.network.architecture import Weights
from instseg.settings import ModelSettings

_VARIABLE = re.compile(r"(?P<group>[^/]+)/(?P<name>.+)/\.ATTRIBUTES/VARIABLE_VALUE")
# The attribute of the serving module that holds the weights.
_GROUP = "_weights"
_NORMALISATION = ("gamma", "beta", "moving_mean", "moving_variance")


def read_weights(model: Path) -> dict[str, Weights]:
    """Return the weights of a model as float32, by their names as `instseg.network.architecture` gives them.

    Parameters
    ----------
    model : Path
        A model directory.

    Raises
    ------
    InstsegError
        If the model cannot be read.
    """

    def read(generation: Path, stored: dict[str, Any]) -> dict[str, Weights]:
        try:
            weights = read_variables(generation / "variables" / "variables")[_GROUP]
            if stored["format"] == 2:
                weights = _renamed(weights, format_2_names(ModelSettings.from_dict(stored["model"])))
            # A compact model stores them in half precision.
            return {name: value.astype(np.float32) for name, value in weights.items()}
        except MemoryError:
            raise
        except Exception as error:
            # TensorFlow raises what it happens to run into in damaged files: nearly everything there is.
            raise damaged_model_error(model, error) from error

    return read_generation(model, read)


def read_variables(prefix: Path) -> dict[str, dict[str, Weights]]:
    """Return the variables of a TensorFlow checkpoint by group and name.

    Parameters
    ----------
    prefix : Path
        Of the checkpoint's files.

    Raises
    ------
    OSError, ValueError, RuntimeError, tf.errors.OpError
        As TensorFlow does, if it cannot be read.
    """
    reader = tf.train.load_checkpoint(str(prefix))
    variables: dict[str, dict[str, Weights]] = {}
    for key in reader.get_variable_to_shape_map():
        if match := _VARIABLE.fullmatch(key):
            # TensorFlow writes a slash inside of a name like this.
            name = match["name"].replace(".S", "/")
            variables.setdefault(match["group"], {})[name] = reader.get_tensor(key)
    return variables


def _renamed(numbered: dict[str, Weights], names: list[str]) -> dict[str, Weights]:
    """Give weights that are stored by number their names."""
    if len(numbered) != len(names):
        raise ValueError(f"it has {len(numbered)} weights, expected {len(names)}")
    return {name: numbered[str(number)] for number, name in enumerate(names)}


def format_2_names(settings: ModelSettings) -> list[str]:
    """Return the names of a network's weights in the order in which format 2 stored them.

    Examples
    --------
    >>> format_2_names(ModelSettings(widths=(32,)))[:3]
    ['encoder0_conv1/kernel', 'encoder0_conv1_norm/gamma', 'encoder0_conv1_norm/beta']
    """
    levels = len(settings.widths)
    names = []
    for level in range(levels):
        convolutions = ("conv1", "conv2") if level < 2 else ("conv1", "conv2", "conv3")
        names += [name for one in convolutions for name in _convolution(f"encoder{level}_{one}")]
    for level in reversed(range(levels - 1)):
        names += [name for one in ("lateral", "conv") for name in _convolution(f"decoder{level}_{one}")]
    heads = ("embedding", "semantic")
    names += [f"{head}_conv/kernel" for head in heads]
    names += [f"{head}_conv_norm/{part}" for head in heads for part in _NORMALISATION]
    return names + [f"{head}_subpixels/{part}" for head in heads for part in ("kernel", "bias")]


def _convolution(name: str) -> list[str]:
    return [f"{name}/kernel", *(f"{name}_norm/{part}" for part in _NORMALISATION)]
