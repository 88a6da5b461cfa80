"""Finding files: the images that a user names, and the pairs in a folder of images and labels."""

import functools
import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from instseg.errors import InstsegError, format_names
from instseg.io.atomic import StrPath, is_zarr
from instseg.io.container import ZARR_SUFFIX, located, shown_name, split_inner
from instseg.io.image_names import (
    PICTURE_SUFFIXES,
    SUFFIXES,
    belongs_to_picture,
    is_file,
    is_image,
    leads_nowhere,
    stem_of,
)
from instseg.io.zarr_images import zarr_images

IMAGES, LABELS = "images", "labels"
"""The two subfolders of a data folder; images may also lie beside `labels/` in the folder itself."""

IGNORED_REGIONS, LABELLING = "ignored", ".labelling"
"""Where `instseg label` marks what nobody has labelled in an image, and what it keeps of the work on a folder."""

LABEL_ENDINGS = (
    *("_cp_masks", "_masks", "_mask", "_labels", "_label", "_lbl", "_instances", "_instance"),
    *("_segmentation", "_seg", "_annotations", "_annotation", "_gt", "-masks", "-mask", "-labels", "-label"),
)
"""What tools append to the name of an image for that of its labels."""

_UNLABELLED = "images without labels"
# What OME-TIFF has before the suffix of its name.
_OME = ".ome"
# Kinds of files that a note names before it says that there are more.
_MOST_KINDS = 5
_REPORTS = re.compile(r"(run(-\d+-of-\d+)?\.json|(failed|summary)(-\d+-of-\d+)?\.csv)")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its labels.

    Attributes
    ----------
    name : str
        The stem of the image, as `stem_of` returns it.
    image, labels : Path
    ignored : Path or None
        An image that marks what is not labelled yet; None where all of the image is.
    """

    name: str
    image: Path
    labels: Path
    ignored: Path | None = None


@dataclass(frozen=True, slots=True)
class UnmatchedFiles:
    """Files of a data folder that belong to no pair.

    Attributes
    ----------
    what, advice : str
        What is wrong and what to do, without the files.
    files : tuple of Path
    expected : bool
        Whether they are left out without being a mistake: images of a folder in work that are not labelled yet.
    """

    what: str
    advice: str
    files: tuple[Path, ...]
    expected: bool = False


@dataclass(frozen=True, slots=True)
class FoundImages:
    """What a search for images found.

    Attributes
    ----------
    files : tuple of Path
        Sorted by path, each once.
    notes : tuple of str
        What the folders and patterns hold besides.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def is_report(path: Path) -> bool:
    """Return whether a file has the name of one of the reports that stand beside results: no result, and no image."""
    return _REPORTS.fullmatch(path.name) is not None


def find_images(paths: Sequence[StrPath]) -> list[Path]:
    """List image files: those named, those in the folders named, those that a pattern matches.

    The images of Zarr groups are listed one by one, as `zarr_images` does; none
    that has the name of a picture beside it. Folders are not searched below their first level; hidden files are left
    out, and so are files of unknown suffix, unless named one by one. A pattern
    (``*``, ``?``, ``[...]``) is tried where no file has that name. A link is a
    file of its own name, wherever it leads; one that leads nowhere is listed,
    too, as it stands for an image that somebody expects.

    Returns
    -------
    list of Path
        Sorted by path, each file once.

    Raises
    ------
    InstsegError
        If a path does not exist, or holds or matches no image.
    """
    return list(_search(paths, zarr_beside=False).files)


def search_images(paths: Sequence[StrPath], *, results: Iterable[Path] = ()) -> FoundImages:
    """Find images as `find_images` does, also Zarr beside pictures of the same name, and count what is left out.

    Parameters
    ----------
    paths : sequence of path-like
        Files, folders or patterns.
    results : iterable of Path
        Folders that are not worth a note where they lie among the images, as results go there.

    Raises
    ------
    InstsegError
        As `find_images` does.
    """
    return _search(paths, zarr_beside=True, results=frozenset(folder.resolve() for folder in results))


def _search(paths: Sequence[StrPath], zarr_beside: bool, results: frozenset[Path] = frozenset()) -> FoundImages:
    if not paths:
        raise InstsegError("no images given; name files, folders or patterns")
    # A folder is one, by whatever links it is reached; a link to a file is a file of its own, as its name is another.
    resolved = functools.cache(Path.resolve)
    files: dict[Path, Path] = {}
    others: dict[Path, Path] = {}
    for path in map(Path, paths):
        images, rest = _expand(path, zarr_beside)
        for file in images:
            files.setdefault(resolved(file.parent) / file.name, file)
        for file in rest:
            others.setdefault(resolved(file.parent) / file.name, file)
    others = {place: file for place, file in others.items() if place not in files and place.resolve() not in results}
    return FoundImages(tuple(sorted(files.values())), tuple(_notes(others.values())))


def _notes(others: Iterable[Path]) -> Iterator[str]:
    """Say what is left out of folders and patterns: files of other kinds, and sub-folders."""
    others = list(others)
    folders = [path for path in others if os.path.isdir(path)]  # noqa: PTH112
    kinds = Counter(path.suffix.lower() or "no suffix" for path in sorted(set(others) - set(folders)))
    if count := kinds.total():
        named = [f"{kind} ({number})" for kind, number in kinds.most_common(_MOST_KINDS)]
        rest = ", ..." if len(kinds) > _MOST_KINDS else ""
        what = "1 file of another kind was" if count == 1 else f"{count} files of other kinds were"
        yield f"{what} left out: {', '.join(named)}{rest}"
    if folders:
        what = "1 sub-folder is" if len(folders) == 1 else f"{len(folders)} sub-folders are"
        yield f"{what} not searched: {format_names(sorted(path.name for path in folders))}"


def find_pairs(folder: StrPath) -> list[Pair]:
    """List the pairs of a data folder, of `image_folder` and ``folder/labels``, by the stems of their names.

    Suffixes may differ within a pair, and so may the way in which accents are written. Where stems differ, that of the
    labels may have one of `LABEL_ENDINGS` besides, the same in the whole folder, and that of either the `.ome` of
    OME-TIFF: so ``a.ome.tif`` has its labels in ``a.tif`` or ``a_masks.png``. The images of a Zarr group are named like
    the results of `predict`, such as ``plate-A-1-0``. Hidden files and files of unknown suffix are left out, and so are
    images without labels where ``folder/.labelling`` says that labelling goes on.

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
    problems = [
        f"{len(bad.files)} {bad.what} ({format_names([shown_name(file) for file in bad.files])}): {bad.advice}"
        for bad in mismatches
        if not bad.expected or not pairs
    ]
    if problems:
        raise InstsegError(f"cannot use {folder}: {'; '.join(problems)}")
    return pairs


def image_folder(folder: Path) -> Path:
    """Return where the images of a data folder are: in ``folder/images`` if there is such a folder, else in itself."""
    inside = folder / IMAGES
    return inside if inside.is_dir() else folder


def match_folder(folder: StrPath) -> tuple[list[Pair], list[UnmatchedFiles]]:
    """Match the files of a data folder as `find_pairs` does, but return those that do not match.

    Returns
    -------
    pairs : list of Pair
        Sorted by name; files that `mismatches` holds are in none.
    mismatches : list of UnmatchedFiles
        In a folder in work, images without labels are `expected`.

    Raises
    ------
    InstsegError
        If a folder is missing or holds no image.
    """
    folder = Path(folder)
    pairs, mismatches = match_folders(_images_of(folder), _subfolder(folder, LABELS))
    if (folder / LABELLING).is_dir():
        yet = UnmatchedFiles(
            "images not labelled yet", "label them with `instseg label`, or go on without them", (), True
        )
        mismatches = [replace(yet, files=bad.files) if bad.what == _UNLABELLED else bad for bad in mismatches]
    if (folder / IGNORED_REGIONS).is_dir():
        regions = {stem_of(path): path for path in sorted((folder / IGNORED_REGIONS).glob("*.png"))}
        pairs = [replace(pair, ignored=regions.get(pair.name)) for pair in pairs]
    return pairs, mismatches


def match_folders(image_folder: Path, label_folder: Path) -> tuple[list[Pair], list[UnmatchedFiles]]:
    """Match the files of two folders as `match_folder` does; result and errors are the same.

    Raises
    ------
    InstsegError
        If a folder is missing or holds no image.
    """
    images, labels = _by_stem(image_folder), _by_stem(label_folder)
    shared = sorted(stem for stem in images.keys() & labels.keys() if len(images[stem]) == len(labels[stem]) == 1)
    pairs = [Pair(stem, images[stem][0], labels[stem][0]) for stem in shared]
    for stem, other in _by_ending(_apart(images, labels), _apart(labels, images)).items():
        pairs.append(Pair(stem, images.pop(stem)[0], labels.pop(other)[0]))
    pairs.sort(key=lambda pair: pair.name)
    rename = "keep one file of each name"
    candidates = (
        UnmatchedFiles(_UNLABELLED, "add their labels or remove them", _without(images, labels)),
        UnmatchedFiles("labels without an image", "add their images or remove them", _without(labels, images)),
        UnmatchedFiles("images that share a name", rename, _doubled(images)),
        UnmatchedFiles("labels that share a name", rename, _doubled(labels)),
    )
    return pairs, [mismatch for mismatch in candidates if mismatch.files]


def _expand(path: Path, zarr_beside: bool) -> tuple[list[Path], list[Path]]:
    """Return the images that a path stands for, and what else is there; of a file it does not matter what it is."""
    path = located(path)
    if is_zarr(path):
        return zarr_images(path), []
    if is_file(split_inner(path).file) or leads_nowhere(path):
        return [path], []
    if path.is_dir():
        images, others = _split(_entries(path), zarr_beside)
        if not images:
            raise InstsegError(f"the folder {path} holds no image; expected files named {_suffixes()}")
        return images, others
    if glob.has_magic(str(path)):
        # Not Path.glob, which raises on "**" inside a name and wants relative patterns.
        matches = [Path(match) for match in glob.glob(str(path))]  # noqa: PTH207
        images, others = _split(matches, zarr_beside)
        if not images:
            raise InstsegError(f"no image matches {path}; expected files named {_suffixes()}")
        return images, others
    raise InstsegError(f"there is no file or folder {path}; check the name")


def _split(paths: Iterable[Path], zarr_beside: bool) -> tuple[list[Path], list[Path]]:
    """Tell images from other files and folders; what is hidden, and reports of our own, are neither.

    `zarr_beside` is whether Zarr counts as images where pictures of the same names lie beside it.
    """
    images: list[Path] = []
    zarr: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if path.name.startswith(".") or is_report(path):
            continue
        if path.suffix.lower() == ZARR_SUFFIX and is_zarr(path):
            zarr += zarr_images(path)
        else:
            (images if is_image(path) else others).append(path)
    pictures = {stem_of(path) for path in images if path.suffix.lower() in PICTURE_SUFFIXES}
    beside = {
        path for path in images if path.suffix.lower() not in PICTURE_SUFFIXES and belongs_to_picture(path, pictures)
    }
    if not zarr_beside:
        zarr = [path for path in zarr if stem_of(path) not in pictures]
    return [*(path for path in images if path not in beside), *zarr], [*others, *sorted(beside)]


def _images_of(folder: Path) -> Path:
    """Return where the images of a data folder are: in itself only where what else makes a data folder is there."""
    if image_folder(folder) == folder and any((folder / name).is_dir() for name in (LABELS, LABELLING)):
        return folder
    return _subfolder(folder, IMAGES)


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
    for path in sorted(_split(_entries(folder), zarr_beside=False)[0]):
        stems[stem_of(path)].append(path)
    if not stems:
        raise InstsegError(f"the folder {folder} holds no image; expected files named {_suffixes()}")
    return stems


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InstsegError(f"cannot read the folder {folder}: {error.strerror}; check the permissions") from error


def _without(files: dict[str, list[Path]], partners: dict[str, list[Path]]) -> tuple[Path, ...]:
    return tuple(path for stem, paths in files.items() if stem not in partners for path in paths)


def _apart(files: dict[str, list[Path]], partners: dict[str, list[Path]]) -> list[str]:
    """Return the stems that one file has and no partner."""
    return [stem for stem, paths in files.items() if stem not in partners and len(paths) == 1]


def _by_ending(images: list[str], labels: list[str]) -> dict[str, str]:
    """Return the stems of labels by those of images, where these differ by what tools append to them.

    Nothing is matched where it might be wrong: labels of two endings, or two images or labels of one name.
    """
    plain = Counter(stem.removesuffix(_OME) for stem in images)
    image_of = {stem.removesuffix(_OME): stem for stem in images if plain[stem.removesuffix(_OME)] == 1}
    by_ending: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for label in labels:
        for ending in ("", *LABEL_ENDINGS):
            inner = label.removesuffix(_OME)
            stem = inner[: len(inner) - len(ending)].removesuffix(_OME)
            if inner.lower().endswith(ending) and stem in image_of:
                by_ending[ending].append((image_of[stem], label))
                break
    if len(by_ending) != 1:
        return {}
    (found,) = by_ending.values()
    counts = Counter(image for image, _ in found)
    return {image: label for image, label in found if counts[image] == 1}


def _doubled(files: dict[str, list[Path]]) -> tuple[Path, ...]:
    return tuple(path for paths in files.values() if len(paths) > 1 for path in paths)


def _suffixes() -> str:
    return ", ".join(f"*{suffix}" for suffix in (*SUFFIXES, ZARR_SUFFIX))
