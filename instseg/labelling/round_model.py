"""Where the models of rounds lie: a new one grows beside the one in use and takes its place when it is complete.

FOLDER/model                    the model in use
FOLDER/.labelling/training      the one that is being trained
FOLDER/.labelling/model-before  the one that was in use before
"""

import shutil
from pathlib import Path

from instseg.errors import InstsegError
from instseg.io.folders import LABELLING
from instseg.models.directory import read_settings

MODEL = "model"
_TRAINING, _BEFORE = "training", "model-before"


def begin_beside(folder: Path) -> Path:
    """Return the directory to train in, which does not exist: what a round that was killed left is removed.

    Raises
    ------
    InstsegError
        If it cannot be removed.
    """
    target = folder / LABELLING / _TRAINING
    _remove(target)
    return target


def replace_model(folder: Path) -> None:
    """Put the model that was trained in the place of the one in use.

    There is a moment without a model between two renamings; `recover` knows it.

    Raises
    ------
    InstsegError
        If there is no complete model to put there, or files cannot be renamed.
    """
    trained, model, before = _places(folder)
    read_settings(trained)
    _name_report(trained, model)
    _remove(before)
    try:
        if model.exists():
            model.rename(before)
        trained.rename(model)
    except OSError as error:
        recover(folder)
        reason = error.strerror or error
        raise InstsegError(f"cannot put the model into {model}: {reason}; check the permissions") from error


def recover(folder: Path) -> None:
    """Put the model that was in use before back where a crash has left none."""
    _, model, before = _places(folder)
    if not model.exists() and before.is_dir():
        before.rename(model)


def _places(folder: Path) -> tuple[Path, Path, Path]:
    return folder / LABELLING / _TRAINING, folder / MODEL, folder / LABELLING / _BEFORE


def _name_report(trained: Path, model: Path) -> None:
    """Have the page of the training name the place that the model gets."""
    page = trained / "report" / "index.html"
    try:
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(str(trained), str(model)), encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        # The page is an extra, and the model is good without it.
        return


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
    except OSError as error:
        raise InstsegError(f"cannot remove {path}: {error.strerror or error}; check the permissions") from error
