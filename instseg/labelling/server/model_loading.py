"""Opening the model of a round, in the thread that uses it, and telling it from others."""

import hashlib
import json
from pathlib import Path
from typing import Any

from instseg.errors import UsageError
from instseg.inference.options import PredictOptions
from instseg.labelling.network_worker import LoadedModel
from instseg.labelling.segmenting import Predictions
from instseg.models.directory import read_settings


def load_round(folder: Path, model: Path, number: int, options: PredictOptions) -> LoadedModel:
    """Open the model of a round, which takes seconds where TensorFlow has not been loaded.

    Parameters
    ----------
    folder : Path
        The folder that is labelled.
    model : Path
        The model directory.
    number : int
        Of the round.
    options : PredictOptions

    Raises
    ------
    InstsegError
        If the model cannot be read, or the predictions cannot be kept.
    """
    from instseg.inference.model import load

    embedder = load(model, quiet=True)
    return LoadedModel(embedder, Predictions(folder, number, identity_of(model, options)))


def identity_of(model: Path, options: PredictOptions) -> dict[str, Any]:
    """Return what tells a model, and how it sees images, from others."""
    _, settings = read_settings(model)
    text = json.dumps(settings, sort_keys=True, default=str)
    return {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        "channels": options.channels,
        "diameter": options.diameter,
    }


def takes_planes_as_channels(model: Path, options: PredictOptions) -> bool:
    """Return whether the planes of a stack are channels: where some are chosen, now or when the model was trained.

    Raises
    ------
    UsageError
        If it is a model of volumes.
    InstsegError
        If the model cannot be read.
    """
    _, settings = read_settings(model)
    if settings["model"].get("ndim") == 3:
        raise UsageError(f"{model} is a model of volumes, and images are labelled; give a model of images")
    return options.channels is not None or settings["model"].get("channel_choice") is not None
