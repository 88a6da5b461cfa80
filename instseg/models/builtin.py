"""The models that come with the package: names, folders and cards. Standard library only."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from instseg.errors import InstsegError
from instseg.io.json_text import read_json
from instseg.models.directory import damaged_model_error
from instseg.settings import Settings

BUNDLED_DIR = Path(__file__).parent / "bundled"
"""Holds a model directory for each name, with a card beside its settings."""

CARD_FILE = "card.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard(Settings):
    """What a user should know of a model before using it.

    Attributes
    ----------
    title : str
        What it segments, in a few words.
    data, licence : str
        What it was trained on, and the terms of these data and of the weights.
    sources : tuple of str
        The sets of images that it was trained on, a line each: what, where from, licence, and whom to name.
    command : str
        The command that trained it.
    mean_ap : float
        Mean AP over IoU 0.50 to 0.90 on images of the same kind that a training of the same settings has not seen.
    figures : tuple of str
        How that and others were measured, a sentence each, with their commands.
    limits : tuple of str
        What it is not for, and where it fails.
    """

    title: str = ""
    data: str = ""
    licence: str = ""
    sources: tuple[str, ...] = ()
    command: str = ""
    mean_ap: float = 0.0
    figures: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


def bundled_models() -> list[str]:
    """Return the names of the models in the package, sorted."""
    return sorted(card.parent.name for card in BUNDLED_DIR.glob(f"*/{CARD_FILE}"))


def shadows_bundled(model: Path) -> bool:
    """Return whether a file or folder here has the name of a model in the package, and so hides that model."""
    return str(model) in bundled_models() and model.exists()


def find_model(model: Path) -> Path:
    """Return the model directory that a path or the name of a model in the package stands for.

    Parameters
    ----------
    model : Path
        A path; where nothing is there, a name.

    Raises
    ------
    InstsegError
        If there is neither.
    """
    if model.exists():
        return model
    names, text = bundled_models(), str(model)
    if text in names:
        return BUNDLED_DIR / text
    if os.sep in text or not names:
        raise InstsegError(f"there is no model {model}; train one with: instseg train {model}")
    near = difflib.get_close_matches(text.lower(), names, n=1)
    advice = f"did you mean {near[0]}?" if near else f"train one with: instseg train {model}"
    known = ", ".join(names)
    raise InstsegError(f"there is no model {model}: no folder, and not in the package, which has: {known}; {advice}")


def read_card(name: str) -> ModelCard:
    """Read the card of a model in the package.

    Raises
    ------
    InstsegError
        If there is no such model or its card cannot be read.
    """
    if name not in bundled_models():
        raise InstsegError(f"the package has no model {name!r}; it has: {', '.join(bundled_models()) or 'none'}")
    try:
        card = ModelCard.from_dict(read_json(BUNDLED_DIR / name / CARD_FILE))
    except (TypeError, AttributeError, InstsegError) as error:
        raise damaged_model_error(BUNDLED_DIR / name, error) from error
    return card
