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
`tf.saved_model.load(MODEL_DIR)` opens it.

Archives and file systems without links leave copies of other forms, which open as well:

* The links became what they point to. Only training cannot go on in such a copy.
* They became text files that hold what they point to, or empty files, or are missing. `current` counts where it is
  such a text file, else the last generation that is complete. A training makes the links again.

Where links cannot be made, `current` is written as such a text file, and the others are left out.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from instseg.errors import InstsegError, format_names
from instseg.io.atomic import ensure_dir, synchronise, synchronise_tree
from instseg.io.json_text import parse_json
from instseg.io.locks import file_lock

SETTINGS_FILE = "instseg.json"
CHECKPOINT = "checkpoint"
FORMAT = 3
"""The format that is written: since 3 weights are stored by name, as `instseg.models.weights` reads them."""
READABLE_FORMATS = (2, 3)
_CURRENT = "current"
_GENERATIONS = "generations"
_LINKED = ("saved_model.pb", "variables", "fingerprint.pb", SETTINGS_FILE)
_PARTIAL = ".partial"
_CHECKSUMS = "sha256"
# Far more than any settings take: what is larger is none of ours, and not to be read into memory.
_LARGEST_SETTINGS = 2**20
# A reader that opened the generation before this one may still be reading it.
_KEPT = 2
# What `current` says, and what file systems answer that know no links.
_TARGET = re.compile(rf"{_GENERATIONS}/\d+")
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
# Longer than what the links hold; and of a message about a damaged model, enough to recognise the place.
_LONGEST_TARGET = 64
_LONGEST_REASON = 300

T = TypeVar("T")


def current_generation(folder: Path) -> Path | None:
    """Return the folder of the complete model in `folder`, or None if it holds none.

    Raises
    ------
    InstsegError
        If `folder` is a file, or the generation that counts is missing and another one is there.
    """
    if folder.is_file():
        raise InstsegError(f"{folder} is a file, expected a model directory; give the directory that train wrote")
    link = folder / _CURRENT
    if (link / SETTINGS_FILE).is_file():
        return Path(os.path.realpath(link))
    complete = _last_complete(folder)
    target = _target(link)
    if target is not None and complete is not None:
        if (folder / target / SETTINGS_FILE).is_file():
            return folder / target
        raise InstsegError(
            f"the model {folder} is damaged ({target}, which counts, is missing); copy it again, or take the last "
            f"complete one: ln -sfn {_GENERATIONS}/{complete.name} {link}"
        )
    settings = folder / SETTINGS_FILE
    if settings.is_file() and (complete is None or not _is_lost_link(settings)):
        return folder
    return complete


def _target(link: Path) -> str | None:
    """Return where `current` points to as a link, or as a text file in place of one; None where it does not say."""
    target = str(link.readlink()) if link.is_symlink() else _short_text(link)
    return target if target is not None and _TARGET.fullmatch(target) else None


def _is_lost_link(path: Path) -> bool:
    """Return whether a file is what remains of a link: empty, or a text that says where it pointed to."""
    return not path.is_symlink() and _short_text(path) in ("", f"{_CURRENT}/{path.name}")


def _short_text(path: Path) -> str | None:
    """Return what a file holds that may stand for a link, None for others."""
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST_TARGET:
            return None
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _last_complete(folder: Path) -> Path | None:
    """Return the last generation that has settings and all parts of a SavedModel."""
    return next((path for path in reversed(_numbered(folder / _GENERATIONS)) if _is_complete(path)), None)


def _is_complete(generation: Path) -> bool:
    try:
        parse_json(_settings_text(generation))
        variables = list((generation / "variables").iterdir())
        sizes = [path.stat().st_size for path in (generation / "saved_model.pb", *variables)]
    except (OSError, ValueError):
        return False
    return bool(variables) and 0 not in sizes


def _numbered(generations: Path) -> list[Path]:
    """Return the generations, the last one at the end."""
    if not generations.is_dir():
        return []
    return sorted((path for path in generations.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


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
        settings = parse_json(_settings_text(generation))
        version = settings["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if current_generation(folder) != generation:
            # A training has replaced it meanwhile.
            return read_settings(folder)
        raise damaged_model_error(folder, error) from error
    if version not in READABLE_FORMATS:
        readable = " and ".join(str(one) for one in READABLE_FORMATS)
        found = str(version)[:_LONGEST_TARGET]
        raise InstsegError(
            f"the model {folder} has format {found}, this version reads {readable}; install the version that wrote it"
        )
    return generation, settings


def _settings_text(generation: Path) -> bytes:
    with (generation / SETTINGS_FILE).open("rb") as file:
        text = file.read(_LARGEST_SETTINGS + 1)
    if len(text) > _LARGEST_SETTINGS:
        raise ValueError(f"{SETTINGS_FILE} is larger than the {_LARGEST_SETTINGS:,} bytes that are expected at most")
    return text


def read_generation(folder: Path, read: Callable[[Path, dict[str, Any]], T]) -> T:
    """Read the complete model in `folder`, and do so again if a training has replaced and removed it meanwhile.

    Parameters
    ----------
    folder : Path
        The model directory.
    read : callable
        Takes what `read_settings` returns.

    Raises
    ------
    InstsegError
        As `read_settings` does, or if the files are not as they were written; and what `read` raises for a generation
        that still counts.
    """
    while True:
        generation, settings = read_settings(folder)
        try:
            _check_contents(folder, generation, settings)
            return read(generation, settings)
        except Exception:
            if current_generation(folder) == generation:
                raise


def settings_text(generation: Path, settings: dict[str, Any]) -> str:
    """Return the settings file of a complete generation: JSON, with the format and what its other files hold."""
    return json.dumps({"format": FORMAT, **settings, _CHECKSUMS: _checksums(generation)}, indent=2) + "\n"


def _checksums(generation: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of a SavedModel by name, since a graph with a wrong bit may still run."""
    checksums = {}
    for path in (generation / "saved_model.pb", *sorted((generation / "variables").iterdir())):
        with path.open("rb") as file:
            checksums[path.relative_to(generation).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return checksums


def _check_contents(folder: Path, generation: Path, settings: dict[str, Any]) -> None:
    # Earlier versions have not written them.
    stored = settings.get(_CHECKSUMS)
    if stored is None:
        return
    try:
        found = _checksums(generation)
    except OSError as error:
        raise damaged_model_error(folder, error) from error
    if stored != found:
        names = sorted(name for name in found if not isinstance(stored, dict) or stored.get(name) != found[name])
        what = f"not as they were written: {format_names(names)}" if names else "files are missing"
        raise damaged_model_error(folder, ValueError(what))


def damaged_model_error(folder: Path, error: Exception) -> InstsegError:
    """Return the error for a model that cannot be read."""
    lines = str(error).strip().splitlines()
    reason = lines[0][:_LONGEST_REASON] if lines else type(error).__name__
    return InstsegError(f"the model {folder} is damaged ({reason}); copy or train it again")


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
    copied = [name for name in (_CURRENT, *_LINKED) if _is_copy(folder / name)]
    if copied:
        check_resumable(folder)
        repair = "train into a new one" if _last_complete(folder) is None else f"remove {', '.join(copied)} from it"
        raise InstsegError(f"cannot train into {folder}: it is a copy without links; copy it with 'cp -a', or {repair}")
    ensure_dir(folder / _GENERATIONS)
    probe = folder / f".{_CURRENT}.probe"
    try:
        if not _link(_GENERATIONS, probe):
            _write_target(_GENERATIONS, probe)
        probe.unlink()
    except OSError as error:
        raise InstsegError(f"cannot write into {folder}: {error.strerror or error}; choose another place") from error


def _is_copy(path: Path) -> bool:
    """Return whether a link has become what it pointed to."""
    return path.exists() and not path.is_symlink() and not _is_lost_link(path) and _target(path) is None


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
    busy = f"another training is writing to {folder}; wait for it, or give another directory"
    with file_lock(folder / ".lock", busy):
        yield


def commit(folder: Path, settings: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Write a complete new generation and make it the current one.

    Parameters
    ----------
    folder : Path
        The model directory, as `check_trainable` left it.
    settings : dict
        JSON-ready; the format version and checksums are added.
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
    number = 1 + max((int(path.name) for path in _numbered(generations)), default=0)
    final = generations / f"{number:06d}"
    partial = final.with_suffix(_PARTIAL)
    try:
        _remove_leftovers(generations)
        partial.mkdir()
        write(partial)
        (partial / SETTINGS_FILE).write_text(settings_text(partial, settings), encoding="utf-8")
        synchronise_tree(partial)
        partial.rename(final)
        synchronise(generations)
        # Dangling until the first commit, and never touched again.
        for name in _LINKED:
            if not (folder / name).is_symlink() and not _link(f"{_CURRENT}/{name}", folder / name):
                break
        target = f"{_GENERATIONS}/{final.name}"
        if not _link(target, folder / _CURRENT):
            _write_target(target, folder / _CURRENT)
        synchronise(folder)
    except OSError as error:
        raise InstsegError(
            f"cannot save the model in {folder}: {error.strerror or error}; check the permissions and the space"
        ) from error
    _remove_old(generations, {final.name, before.name if before else ""})
    return final


def _link(target: str, link: Path) -> bool:
    """Make or replace a link in one step; return whether the file system has links."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    temporary.replace(link)
    return True


def _write_target(target: str, path: Path) -> None:
    """Write the text file that stands for a link, in one step."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(target, encoding="utf-8")
    synchronise(temporary)
    temporary.replace(path)


def _remove_leftovers(generations: Path) -> None:
    for path in generations.glob(f"*{_PARTIAL}"):
        shutil.rmtree(path)


def _remove_old(generations: Path, current: set[str]) -> None:
    for path in _numbered(generations)[: -_KEPT or None]:
        if path.name not in current:
            shutil.rmtree(path, ignore_errors=True)
