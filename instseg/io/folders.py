"""Finding files: the images that a user names, and the pairs in a folder of images and labels."""

import glob
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, format_names
from instseg.io.atomic import StrPath, is_zarr
from instseg.io.images import read_image
from instseg.io.label_images import read_labels

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
"""Names of files that a folder is searched for, in upper or lower case."""

IMAGES, LABELS = "images", "labels"
"""The two subfolders of a data folder."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its labels.

    Attributes
    ----------
    name : str
        The stem that both files share.
    image, labels : Path
    """

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True, slots=True)
class UnmatchedFiles:
    """Files of a data folder that belong to no pair.

    Attributes
    ----------
    what, advice : str
        What is wrong and what to do, without the files.
    files : tuple of Path
    """

    what: str
    advice: str
    files: tuple[Path, ...]


def find_images(paths: Sequence[StrPath]) -> list[Path]:
    """List image files: those named, those in the folders named, those that a pattern matches.

    Folders are not searched below their first level; hidden files are left
    out, and so are files of unknown suffix, unless named one by one. A pattern
    (``*``, ``?``, ``[...]``) is tried where no file has that name.

    Returns
    -------
    list of Path
        Sorted by path, each file once.

    Raises
    ------
    InstsegError
        If a path does not exist, or holds or matches no image.
    """
    if not paths:
        raise InstsegError("no images given; name files, folders or patterns")
    files: dict[Path, Path] = {}
    for path in map(Path, paths):
        for file in _expand(path):
            files.setdefault(file.resolve(), file)
    return sorted(files.values())


def find_pairs(folder: StrPath) -> list[Pair]:
    """List the pairs of a data folder, ``folder/images`` and ``folder/labels``, by the stems of their names.

    Suffixes may differ within a pair. Hidden files and files of unknown suffix are left out.

    Returns
    -------
    list of Pair
        Sorted by name; at least one.

    Raises
    ------
    InstsegError
        If a folder is missing or holds no image, if a file has no partner or
        if two files of one folder have the same stem: all in one message.
    """
    pairs, mismatches = match_folder(folder)
    if mismatches:
        problems = [
            f"{len(bad.files)} {bad.what} ({format_names([file.name for file in bad.files])}): {bad.advice}"
            for bad in mismatches
        ]
        raise InstsegError(f"cannot use {folder}: {'; '.join(problems)}")
    return pairs


def match_folder(folder: StrPath) -> tuple[list[Pair], list[UnmatchedFiles]]:
    """Match the files of a data folder as `find_pairs` does, but return those that do not match.

    Returns
    -------
    pairs : list of Pair
        Sorted by name; files that `mismatches` holds are in none.
    mismatches : list of UnmatchedFiles

    Raises
    ------
    InstsegError
        If a folder is missing or holds no image.
    """
    images, labels = (_by_stem(_subfolder(Path(folder), name)) for name in (IMAGES, LABELS))
    shared = sorted(stem for stem in images.keys() & labels.keys() if len(images[stem]) == len(labels[stem]) == 1)
    pairs = [Pair(stem, images[stem][0], labels[stem][0]) for stem in shared]
    rename = "keep one file of each name"
    candidates = (
        UnmatchedFiles("images without labels", "add their labels or remove them", _without(images, labels)),
        UnmatchedFiles("labels without an image", "add their images or remove them", _without(labels, images)),
        UnmatchedFiles("images that share a name", rename, _doubled(images)),
        UnmatchedFiles("labels that share a name", rename, _doubled(labels)),
    )
    return pairs, [mismatch for mismatch in candidates if mismatch.files]


def read_pair(
    pair: Pair, *, connected_components: bool = False, planes_as_channels: bool = False
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Read an image and its labels; the options are those of `read_labels` and `read_image`.

    Returns
    -------
    image : (H, W, C) uint8, uint16 or float32
    labels : (H, W) int32
        0 is background.

    Raises
    ------
    InstsegError
        If one of them cannot be read or their sizes differ.
    """
    image = read_image(pair.image, planes_as_channels=planes_as_channels)
    labels = read_labels(pair.labels, connected_components=connected_components)
    if image.shape[:2] != labels.shape:
        sizes = f"{_size(image.shape)} pixels and {pair.labels} is {_size(labels.shape)}"
        raise InstsegError(f"{pair.image} is {sizes}, expected equal sizes; export the labels at the image's size")
    return image, labels


def _expand(path: Path) -> list[Path]:
    if path.is_file() or is_zarr(path):
        return [path]
    if path.is_dir():
        if not (files := list(_image_files(path))):
            raise InstsegError(f"the folder {path} holds no image; expected files named {_suffixes()}")
        return files
    if glob.has_magic(str(path)):
        # Not Path.glob, which raises on "**" inside a name and wants relative patterns.
        matches = [Path(match) for match in glob.glob(str(path))]  # noqa: PTH207
        if not (files := [match for match in matches if _is_image_name(match) and match.is_file()]):
            raise InstsegError(f"no image matches {path}; expected files named {_suffixes()}")
        return files
    raise InstsegError(f"there is no file or folder {path}; check the name")


def _subfolder(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise InstsegError(f"cannot use {folder} as data: {what}; give a folder that holds {IMAGES}/ and {LABELS}/")
    if not (inside := folder / name).is_dir():
        hint = f"give {folder.parent}" if (folder.parent / name).is_dir() else f"put the {name} into {inside}"
        raise InstsegError(f"cannot use {folder} as data: the folder {inside} is missing; {hint}")
    return inside


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    stems = defaultdict(list)
    for path in sorted(_image_files(folder)):
        stems[path.stem].append(path)
    if not stems:
        raise InstsegError(f"the folder {folder} holds no image; expected files named {_suffixes()}")
    return stems


def _image_files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if _is_image_name(path) and path.is_file())
    except OSError as error:
        raise InstsegError(f"cannot read the folder {folder}: {error.strerror}; check the permissions") from error


def _is_image_name(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _without(files: dict[str, list[Path]], partners: dict[str, list[Path]]) -> tuple[Path, ...]:
    return tuple(path for stem, paths in files.items() if stem not in partners for path in paths)


def _doubled(files: dict[str, list[Path]]) -> tuple[Path, ...]:
    return tuple(path for paths in files.values() if len(paths) > 1 for path in paths)


def _suffixes() -> str:
    return ", ".join(f"*{suffix}" for suffix in SUFFIXES)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
