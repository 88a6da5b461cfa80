"""The network as a SavedModel that needs none of our code."""

import shutil
from os import PathLike
from pathlib import Path

import keras
import tensorflow as tf

from instseg.errors import InstsegError
from instseg.io.atomic import check_new, ensure_dir, hidden_sibling
from instseg.io.locks import file_lock
from instseg.models.config import read_training
from instseg.models.directory import SETTINGS_FILE, read_settings, settings_text
from instseg.models.weights import read_weights
from instseg.network.architecture import build_network, named_variables, set_named_weights
from instseg.network.serving import ServingModule
from instseg.settings import ModelSettings

# Of a model's settings, what a compact copy has, too.
_PASSED_ON = (
    "training",
    "metric_loss",
    "clustering",
    "calibration",
    "iteration",
    "seconds",
    "kept_iteration",
    "validation",
    "precision",
    "versions",
)


def load_network(model: str | PathLike[str]) -> tuple[keras.Model, ModelSettings]:
    """Return the network of a stored model, in Keras, and its settings.

    Raises
    ------
    InstsegError
        If the model cannot be read, or its network has other layers than this version makes.
    """
    model = Path(model)
    settings = read_training(model).config.model
    network = build_network(settings)
    weights = read_weights(model)
    expected = {name: tuple(variable.shape) for name, variable in named_variables(network).items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        raise InstsegError(
            f"cannot export {model}: its network has other layers than those of this version; "
            "install the version that wrote it"
        )
    set_named_weights(network, weights)
    return network, settings


def export_compact(model: str | PathLike[str], out: str | PathLike[str]) -> None:
    """Write a copy of a model without what only resuming its training needs, its kernels in half precision.

    The state of the training and where its data were are left out. Such a copy takes a ninth of the space; it predicts,
    and a training can begin with it, but not be resumed in it.

    Parameters
    ----------
    model : path-like
        A model directory.
    out : path-like
        The directory to make; it appears when it is complete.

    Raises
    ------
    InstsegError
        If the model cannot be read, or `out` exists or cannot be written.
    """
    model, out = Path(model), Path(out)
    check_new(out)
    network, settings = load_network(model)
    _, contents = read_settings(model)
    # Folders of the machine that trained it are nobody's business.
    contents = {
        "model": settings.to_dict(),
        **{name: contents[name] for name in _PASSED_ON if name in contents},
        "data": {},
    }
    ensure_dir(out.parent)
    partial = hidden_sibling(out, ".partial")
    busy = f"cannot write {out}: another process is writing it; wait for it, or choose another name"
    try:
        with file_lock(hidden_sibling(out, ".lock"), busy):
            # What a process has left that was killed.
            shutil.rmtree(partial, ignore_errors=True)
            try:
                ServingModule(network, settings, half=True).save(partial)
                (partial / SETTINGS_FILE).write_text(settings_text(partial, contents), encoding="utf-8")
                partial.rename(out)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, tf.errors.OpError) as error:
        raise InstsegError(f"cannot write {out}: {error}; check the permissions and the space") from error
