"""Where annotations come from: the files of a folder, and images by the names that annotations have for them."""

import functools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from instseg.errors import InstsegError, format_names, printable, shorten
from instseg.io.image_names import PICTURE_SUFFIXES, stem_of
from instseg.io.json_text import read_json

MAX_TEXT = 512 * 2**20
"""Largest file of annotations that is read, in bytes: one of JSON takes some ten times as much memory."""

# Folders below the source that are searched.
_MAX_DEPTH = 6
_MAX_FILES = 500_000

IMAGE_SUFFIXES = PICTURE_SUFFIXES


class MissingImage(Exception):
    """An image that annotations name and that cannot be found, with the reason."""


class ReadOptions(NamedTuple):
    """What is asked of the readers of all formats.

    Attributes
    ----------
    boxes : bool
        Take boxes for outlines.
    connected_components : bool
        Take each connected piece for an object, so that masks of several objects are allowed.
    """

    boxes: bool = False
    connected_components: bool = False


class Source:
    """A folder with annotations, or one file of these.

    Parameters
    ----------
    path : Path
    images : Path, optional
        The folder of the images, where they are not beside the annotations.
    exclude : Path, optional
        A folder that does not belong to the source wherever it lies.

    Attributes
    ----------
    path, folder : Path
        What was given, and the folder that it is or lies in.
    images : Path
        The folder that images are searched in.

    Raises
    ------
    InstsegError
        If one of them is missing.
    """

    def __init__(self, path: Path, images: Path | None = None, exclude: Path | None = None) -> None:
        if not path.exists():
            raise InstsegError(f"there is no file or folder {path}; check the name")
        if images is not None and not images.is_dir():
            raise InstsegError(f"there is no folder {images}; give the folder of the images by `images`")
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self.images = images or self.folder
        self._exclude = exclude.resolve() if exclude else None
        self._json: dict[Path, Any] = {}

    @functools.cached_property
    def files(self) -> list[Path]:
        """All files of the source, or the one that it is, sorted; without what is hidden."""
        return sorted(self._walk(self.path)) if self.path.is_dir() else [self.path]

    def named(self, *suffixes: str) -> list[Path]:
        """Return the files whose names end in one of some suffixes, in lower case."""
        return [path for path in self.files if path.name.lower().endswith(suffixes)]

    def json(self, path: Path) -> Any:
        """Return the content of a JSON file, which is read once.

        Raises
        ------
        InstsegError
            If it cannot be read, or is larger than `MAX_TEXT`.
        """
        if path not in self._json:
            check_size(path)
            value = read_json(path, MAX_TEXT)
            if isinstance(value, dict) and isinstance(value.get("imageData"), str):
                # LabelMe has whole images in its files, of which thousands may be in memory.
                value["imageData"] = bool(value["imageData"])
            self._json[path] = value
        return self._json[path]

    def forget(self) -> None:
        """Free the memory of all JSON that was read."""
        self._json.clear()

    def relative(self, path: Path) -> str:
        """Return the name of a file for messages and tables, from the source on."""
        for folder in (self.folder, self.images):
            if path.is_relative_to(folder):
                return path.relative_to(folder).as_posix()
        return path.name

    def require_single(self, found: Sequence[Path], title: str) -> None:
        """Check that there is no more than one file of a format that describes all images in one.

        Raises
        ------
        InstsegError
            If there are more, which may contradict each other.
        """
        if len(found) > 1:
            names = format_names([printable(self.relative(path)) for path in found])
            raise InstsegError(
                f"{self.path} holds several files of {title}: {names}; give one of them, and `images=DIR`"
            )

    @functools.cached_property
    def image_files(self) -> list[Path]:
        """All files that have the name of an image, sorted."""
        return [path for path in sorted(self._walk(self.images)) if path.suffix.lower() in IMAGE_SUFFIXES]

    def find_image(self, name: str, beside: Path | None = None) -> Path:
        """Return the image that annotations call by a name.

        Tried are the name as a path from the annotations' folder and from that of the images on, and then the last part
        of it among all images. Nothing outside of the source is ever looked at.

        Parameters
        ----------
        name : str
            A name or path, of Windows or not.
        beside : Path, optional
            The file of annotations.

        Raises
        ------
        MissingImage
            If there is none, or several of that name.
        """
        plain = PureWindowsPath(name).as_posix() if "\\" in name else name
        parts = PurePosixPath(plain)
        if not parts.name or "\0" in name:
            raise MissingImage("it has no name")
        for folder in dict.fromkeys([beside.parent if beside else self.images, self.images, self.folder]):
            # Without a look at all files, which may be many.
            path = Path(os.path.normpath(folder / parts))
            inside = any(path.is_relative_to(os.path.normpath(top)) for top in (self.images, self.folder))
            if inside and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                return path
        return self._one(self._by_name.get(_comparable(parts.name), []), parts)

    def find_stem(self, stem: str, folder: Path | None = None) -> Path:
        """Return the image of a stem, best in a folder; errors as `find_image`."""
        found = self._by_stem.get(_comparable(stem), [])
        beside = [path for path in found if path.parent == folder]
        return self._one(beside or found, PurePosixPath(stem))

    def _one(self, found: list[Path], name: PurePosixPath) -> Path:
        if len(found) == 1:
            return found[0]
        if found:
            places = format_names([printable(self.relative(path)) for path in found])
            raise MissingImage(f"several images have this name: {places}")
        leads_outside = name.is_absolute() or ".." in name.parts
        raise MissingImage("it is outside of the source" if leads_outside else "there is no such image")

    @functools.cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        named = defaultdict(list)
        for path in self.image_files:
            named[_comparable(path.name)].append(path)
        return named

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        stems = defaultdict(list)
        for path in self.image_files:
            stems[_comparable(path.stem)].append(path)
            if (plain := image_stem(path)) != stem_of(path):
                stems[_comparable(plain)].append(path)
        return stems

    def _walk(self, top: Path) -> Iterator[Path]:
        depth, count = len(top.parts), 0
        seen: set[Path] = set()
        for place, folders, names in os.walk(top, followlinks=True):
            folder = Path(place)
            # Links may lead in circles.
            if (real := folder.resolve()) in seen:
                folders.clear()
                continue
            seen.add(real)
            deep = len(folder.parts) - depth >= _MAX_DEPTH
            folders[:] = [] if deep else [name for name in folders if not self._is_left_out(folder / name)]
            for name in names:
                if not name.startswith("."):
                    count += 1
                    if count > _MAX_FILES:
                        raise InstsegError(f"{top} holds more than {_MAX_FILES:,} files; give a folder of fewer")
                    yield folder / name

    def _is_left_out(self, folder: Path) -> bool:
        return folder.name.startswith(".") or (self._exclude is not None and folder.resolve() == self._exclude)


def check_size(path: Path) -> None:
    """Check that a file of annotations is not too large to be read.

    Raises
    ------
    InstsegError
        If it is larger than `MAX_TEXT`, or cannot be looked at.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InstsegError(f"cannot read {path}: {error.strerror}; check the name and the permissions") from error
    if size > MAX_TEXT:
        what = f"it has {size / 2**20:,.0f} MiB, expected at most {MAX_TEXT // 2**20}"
        raise InstsegError(f"cannot read {path}: {what}; divide it into several files, each with some of the images")


def read_text(path: Path) -> str:
    """Return a text file, in UTF-8.

    Raises
    ------
    InstsegError
        If it cannot be read, or is larger than `MAX_TEXT`.
    """
    check_size(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise InstsegError(f"cannot read {path}: {reason}; export it again") from error


def image_stem(path: Path) -> str:
    """Return the stem of an image without the `.ome` of OME-TIFF."""
    return stem_of(path).removesuffix(".ome")


def class_text(value: Any) -> str | None:
    """Return the name of a class on one line, or None if it is none."""
    if value is None or isinstance(value, dict | list):
        return None
    text = printable(shorten(" ".join(str(value).split())))
    return text or None


def _comparable(text: str) -> str:
    return unicodedata.normalize("NFC", text)
