"""The model directory: complete generations, and one link that says which counts.

    MODEL_DIR/
      current -> generations/000003      the link; replacing it is the one step that commits
      saved_model.pb -> current/saved_model.pb
      variables -> current/variables
      fingerprint.pb -> current/fingerprint.pb
      instseg.json -> current/instseg.json
      generations/000003/                a SavedModel, settings and the state to go on from

A directory that is not empty cannot be replaced in one step, a link can. So a
new generation is written under another name, synchronised to the disc, renamed, and only then linked:
killed at any instant, the directory holds the last complete generation, and
`tf.saved_model.load(MODEL_DIR)` opens it. A copy in which the links became
files opens just as well; only training cannot go on in it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from instseg.errors import InstsegError, format_names
from instseg.io.atomic import ensure_dir

SETTINGS_FILE = "instseg.json"
CHECKPOINT = "checkpoint"
FORMAT = 3
"""The format that is written: since 3 weights are stored by name, as `instseg.models.weights` reads them."""
READABLE_FORMATS = (2, 3)
_CURRENT = "current"
_GENERATIONS = "generations"
_LINKED = ("saved_model.pb", "variables", "fingerprint.pb", SETTINGS_FILE)
_PARTIAL = ".partial"
# Far more than any settings take: what is larger is none of ours, and not to be read into memory.
_LARGEST_SETTINGS = 2**20
# A reader that opened the generation before this one may still be reading it.
_KEPT = 2


def current_generation(folder: Path) -> Path | None:
    """Return the folder of the complete model in `folder`, or None if it holds none.

    Raises
    ------
    InstsegError
        If `folder` is a file.
    """
    if folder.is_file():
        raise InstsegError(f"{folder} is a file, expected a model directory; give the directory that train wrote")
    link = folder / _CURRENT
    if (link / SETTINGS_FILE).is_file():
        return Path(os.path.realpath(link))
    return folder if (folder / SETTINGS_FILE).is_file() else None


def read_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Find the complete model in `folder` and read its settings, as data only.

    Returns
    -------
    generation : Path
        The folder with the SavedModel.
    settings : dict
        What `commit` was given.

    Raises
    ------
    InstsegError
        If there is no such folder, no model in it, or one that is damaged or of a newer format.
    """
    if not folder.exists():
        raise InstsegError(f"there is no model {folder}; train one with: instseg train {folder}")
    generation = current_generation(folder)
    if generation is None:
        raise InstsegError(
            f"{folder} holds no instseg model ({SETTINGS_FILE} is missing); give a directory that train wrote"
        )
    try:
        size = (generation / SETTINGS_FILE).stat().st_size
        if size > _LARGEST_SETTINGS:
            raise ValueError(f"{SETTINGS_FILE} has {size:,} bytes, expected at most {_LARGEST_SETTINGS:,}")
        settings = json.loads((generation / SETTINGS_FILE).read_text(encoding="utf-8"))
        version = settings["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged_model_error(folder, error) from error
    if version not in READABLE_FORMATS:
        readable = " and ".join(str(one) for one in READABLE_FORMATS)
        raise InstsegError(
            f"the model {folder} has format {version}, this version reads {readable}; install the version that wrote it"
        )
    return generation, settings


def damaged_model_error(folder: Path, error: Exception) -> InstsegError:
    """Return the error for a model that cannot be read."""
    reason = str(error).strip().splitlines()
    return InstsegError(
        f"the model {folder} is damaged ({reason[0] if reason else type(error).__name__}); copy or train it again"
    )


def check_trainable(folder: Path) -> None:
    """Make the folder and check that generations can be committed in it.

    Raises
    ------
    InstsegError
        If it is a file, cannot be written, holds something else than a model, or is a copy without links.
    """
    if folder.is_file():
        raise InstsegError(f"cannot train into {folder}: it is a file; give the name of a new directory")
    # A folder with generations is ours, also where a training was killed before its first save.
    if folder.is_dir() and current_generation(folder) is None and not (folder / _GENERATIONS).is_dir():
        foreign = [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.name != "report"]
        if foreign:
            names = format_names(sorted(foreign))
            raise InstsegError(f"cannot train into {folder}: it holds other files ({names}); give a new directory")
    if any((folder / name).exists() and not (folder / name).is_symlink() for name in (_CURRENT, *_LINKED)):
        check_resumable(folder)
        raise InstsegError(
            f"cannot train into {folder}: it is a copy without links; copy it with 'cp -a', or train into a new one"
        )
    ensure_dir(folder / _GENERATIONS)
    probe = folder / f".{_CURRENT}.probe"
    try:
        _link(_GENERATIONS, probe)
        probe.unlink()
    except OSError as error:
        raise InstsegError(
            f"cannot write links into {folder}: {error.strerror or error}; choose another place"
        ) from error


def check_resumable(folder: Path) -> None:
    """Check that a model has the state that going on with its training needs.

    Raises
    ------
    InstsegError
        If it is a compact copy.
    """
    generation = current_generation(folder)
    if generation is not None and not (generation / CHECKPOINT).is_dir():
        raise InstsegError(
            f"cannot go on with {folder}: it is a compact copy, without the state of its training; "
            f"begin a new one with it, by `pretrained={str(folder)!r}`"
        )


@contextmanager
def training_lock(folder: Path) -> Iterator[None]:
    """Keep a second training out of `folder` while the block runs; the lock goes with the process that holds it.

    Raises
    ------
    InstsegError
        If another training holds the folder.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InstsegError(
                f"another training is writing to {folder}; wait for it, or give another directory"
            ) from error
        yield


def commit(folder: Path, settings: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Write a complete new generation and make it the current one.

    Parameters
    ----------
    folder : Path
        The model directory, as `check_trainable` left it.
    settings : dict
        JSON-ready; the format version is added.
    write : callable
        Writes everything else into the folder that it is given.

    Returns
    -------
    Path
        The new generation.

    Raises
    ------
    InstsegError
        If writing fails; the generation before stays current.
    """
    generations = folder / _GENERATIONS
    before = current_generation(folder)
    number = 1 + max((int(path.name) for path in generations.iterdir() if path.name.isdigit()), default=0)
    final = generations / f"{number:06d}"
    partial = final.with_suffix(_PARTIAL)
    try:
        _remove_leftovers(generations)
        partial.mkdir()
        write(partial)
        text = json.dumps({"format": FORMAT, **settings}, indent=2)
        (partial / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")
        _synchronise(partial)
        partial.rename(final)
        _flush(generations)
        # Dangling until the first commit, and never touched again.
        for name in _LINKED:
            if not (folder / name).is_symlink():
                _link(f"{_CURRENT}/{name}", folder / name)
        _link(f"{_GENERATIONS}/{final.name}", folder / _CURRENT)
        _flush(folder)
    except OSError as error:
        raise InstsegError(
            f"cannot save the model in {folder}: {error.strerror or error}; check the permissions and the space"
        ) from error
    _remove_old(generations, {final.name, before.name if before else ""})
    return final


def _link(target: str, link: Path) -> None:
    """Make or replace a link in one step."""
    temporary = link.with_name(f".{link.name}.new")
    with suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target)
    temporary.replace(link)


def _remove_leftovers(generations: Path) -> None:
    for path in generations.glob(f"*{_PARTIAL}"):
        shutil.rmtree(path)


def _remove_old(generations: Path, current: set[str]) -> None:
    complete = sorted((path for path in generations.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    for path in complete[: -_KEPT or None]:
        if path.name not in current:
            shutil.rmtree(path, ignore_errors=True)


def _synchronise(folder: Path) -> None:
    """Have the disc hold what was written before a link points to it: power can fail, too."""
    for path in [*folder.rglob("*"), folder]:
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
