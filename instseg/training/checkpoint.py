"""The state to go on from, as a model directory keeps it beside the model: every variable by its name."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from instseg.models.directory import CHECKPOINT
from instseg.models.weights import format_2_names, read_variables
from instseg.network.architecture import is_output_layer
from instseg.settings import ModelSettings

_PREFIX = f"{CHECKPOINT}/state"
# Format 2 has other names for these groups.
_FORMAT_2_GROUPS = {"network": "network", "averaged": "ema", "kept": "best"}

State = dict[str, dict[str, tf.Variable]]
Values = dict[str, dict[str, NDArray[Any]]]


def write_checkpoint(generation: Path, state: State) -> None:
    """Write the variables of a training into the folder of a generation.

    Raises
    ------
    OSError, tf.errors.OpError
        If it cannot be written.
    """
    (generation / _PREFIX).parent.mkdir()
    tf.train.Checkpoint(**state).write(str(generation / _PREFIX))


def restore_checkpoint(generation: Path, state: State, model: ModelSettings, version: int) -> set[str]:
    """Set the variables of a training to what a generation holds.

    Parameters
    ----------
    generation : Path
        Its folder.
    state : dict
        The variables by group and name, as `TrainStep.state` returns them.
    model : ModelSettings
        Those of the network.
    version : int
        The format of the model.

    Returns
    -------
    set of str
        The weights that the checkpoint does not have, which are left as they are.

    Raises
    ------
    OSError, ValueError, LookupError, RuntimeError, tf.errors.OpError
        If the checkpoint cannot be read or is that of another network.
    """
    values: Values = read_variables(generation / _PREFIX)
    if version == 2:
        values = _from_format_2(values, model)
    if values.keys() != state.keys():
        raise ValueError(f"the checkpoint holds {', '.join(sorted(values))}, expected {', '.join(sorted(state))}")
    for group, stored in values.items():
        for name, value in stored.items():
            variable = state[group].get(name)
            if variable is None or tuple(variable.shape) != value.shape:
                raise ValueError(f"{name} of the checkpoint, of shape {value.shape}, does not fit the network")
    for group, stored in values.items():
        for name, value in stored.items():
            state[group][name].assign(value)
    return state["network"].keys() - values["network"].keys()


def _from_format_2(values: Values, model: ModelSettings) -> Values:
    """Give values that format 2 stored by number their groups and names."""
    names = format_2_names(model)
    trainable = [name for name in names if "/moving_" not in name]
    kernels = [name for name in trainable if name.endswith("/kernel") and not is_output_layer(name)]
    others = [name for name in trainable if name not in kernels]
    moments = [f"{name}/{moment}" for name in others for moment in ("momentum", "velocity")]
    named = {new: _named(values[old], names) for old, new in _FORMAT_2_GROUPS.items()}
    named["optimizer"] = _named(values["optimizer"], ["iteration", "learning_rate", *moments])
    del named["optimizer"]["learning_rate"]
    named["muon"] = _named(values["muon"], kernels)
    return named


def _named(numbered: dict[str, NDArray[Any]], names: list[str]) -> dict[str, NDArray[Any]]:
    if len(numbered) != len(names):
        raise ValueError(f"the checkpoint has {len(numbered)} variables, expected {len(names)}")
    return {name: np.asarray(numbered[str(number)]) for number, name in enumerate(names)}
