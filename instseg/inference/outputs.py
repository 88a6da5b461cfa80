"""Where the results for images go: paths by an image's name, checked before the work begins."""

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from instseg.errors import InstsegError, UsageError, format_names
from instseg.io.atomic import check_folder_writable, check_writable, check_zarr_writable, ensure_dir

EXTRAS = {
    "embeddings": (".npz",),
    "embeddings_picture": (".png",),
    "overlay": (".png",),
    "scores": (".csv",),
    "outlines": (".geojson", ".zip"),
}
"""The results beside the labels, and what their names may end in: files in a folder have the first suffix."""

_LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".zarr")
# Results that need all of an image at once.
_WHOLE = ("embeddings", "embeddings_picture", "overlay", "outlines")


class OutputPaths(ABC):
    """The paths of an image's results by its name.

    Parameters
    ----------
    extras : mapping of str to Path or None
        For each of `EXTRAS` a file or a folder, None where it is not wanted.
    """

    def __init__(self, extras: Mapping[str, Path | None]) -> None:
        self._extras = {kind: extras.get(kind) for kind in EXTRAS}

    @abstractmethod
    def prepare(self) -> None:
        """Make the folders that are missing."""

    @abstractmethod
    def labels(self, name: str) -> Path:
        """Return where the labels go."""

    @abstractmethod
    def extra(self, kind: str, name: str) -> Path | None:
        """Return where one of `EXTRAS` goes; None where it is not wanted."""

    def wants(self, *kinds: str) -> bool:
        """Return whether any of some `EXTRAS` is wanted."""
        return any(self._extras[kind] is not None for kind in kinds)

    def absolute(self) -> Self:
        """Return the same with absolute paths, for other processes."""
        paths = copy.copy(self)
        paths._extras = {kind: None if path is None else path.resolve() for kind, path in self._extras.items()}
        return paths

    def check_streamable(self, file: Path, name: str) -> None:
        """Check that all results of a streamed image can be written part by part.

        Raises
        ------
        InstsegError
            If one cannot.
        """
        if self.labels(name).suffix.lower() == ".png":
            raise InstsegError(
                f"{file} is read part by part, and its labels are written so, as TIFF; "
                "give `out=NAME.tif` or `file_format='tif'`"
            )
        if pictures := [kind for kind in _WHOLE if self.wants(kind)]:
            what = " and ".join(f"`{kind}`" for kind in pictures)
            raise InstsegError(f"{file} is read part by part, which {what} cannot be; leave it out, or cut out a part")


class SingleOutput(OutputPaths):
    """Files for one image, whatever its name.

    Parameters
    ----------
    out : Path
        The labels.
    extras : mapping of str to Path or None
        Files.
    image : Path
        The image, which no result may replace.

    Raises
    ------
    UsageError, InstsegError
        If a file cannot be written, or two of them are one.
    """

    def __init__(self, out: Path, extras: Mapping[str, Path | None], image: Path) -> None:
        super().__init__(extras)
        self._out = out
        if out.suffix.lower() == ".zarr":
            check_zarr_writable(out)
        else:
            check_writable(out, *_LABEL_SUFFIXES)
        for kind, path in self._extras.items():
            if path is not None:
                check_writable(path, *EXTRAS[kind])
        if (outlines := self._extras["outlines"]) is not None:
            from instseg.io.outlines import require_format

            require_format(outlines)
        paths = [path.resolve() for path in (out, *self._extras.values()) if path is not None]
        if len(set(paths)) < len(paths):
            raise UsageError("labels, embeddings and pictures cannot share a file; give each its own name")
        if image.resolve() in paths:
            raise UsageError(f"{image} is the image itself and would be replaced; give the results another name")

    def prepare(self) -> None:
        """Nothing is missing: the folder of a single file is never made."""

    def labels(self, name: str) -> Path:
        """See `OutputPaths.labels`."""
        return self._out

    def extra(self, kind: str, name: str) -> Path | None:
        """See `OutputPaths.extra`."""
        return self._extras[kind]

    def absolute(self) -> Self:
        """See `OutputPaths.absolute`."""
        paths = super().absolute()
        paths._out = self._out.resolve()
        return paths


class OutputFolder(OutputPaths):
    """Folders, in which files are named like the images.

    Parameters
    ----------
    folder : Path
        For the labels.
    suffix : str
        Of the labels, without a dot.
    extras : mapping of str to Path or None
        Folders.
    files : sequence of Path
        The images.
    shared : bool
        Whether the folders may hold files.

    Raises
    ------
    UsageError, InstsegError
        If names occur twice, or a folder cannot be used.
    """

    def __init__(
        self, folder: Path, suffix: str, extras: Mapping[str, Path | None], files: Sequence[Path], shared: bool
    ) -> None:
        super().__init__(extras)
        self.folder, self._suffix = folder, suffix
        self._check_names(files)
        self._check_folders({file.parent.resolve() for file in files}, shared)

    def prepare(self) -> None:
        """Make the folders."""
        for folder in self._folders():
            ensure_dir(folder)

    def holds(self, name: str, planes: bool) -> bool:
        """Return whether all results of an image exist; of a stack, whether those of its first plane do."""
        name = f"{name}-0000" if planes else name
        paths = [self.labels(name), *(self.extra(kind, name) for kind in EXTRAS)]
        return all(path.exists() for path in paths if path is not None)

    def labels(self, name: str) -> Path:
        """See `OutputPaths.labels`."""
        return self.folder / f"{name}.{self._suffix}"

    def extra(self, kind: str, name: str) -> Path | None:
        """See `OutputPaths.extra`."""
        folder = self._extras[kind]
        return None if folder is None else folder / f"{name}{EXTRAS[kind][0]}"

    def absolute(self) -> Self:
        """See `OutputPaths.absolute`."""
        paths = super().absolute()
        paths.folder = self.folder.resolve()
        return paths

    def _folders(self) -> list[Path]:
        return [self.folder, *(folder for folder in self._extras.values() if folder is not None)]

    def _check_names(self, files: Sequence[Path]) -> None:
        doubled = sorted(name for name, count in Counter(file.stem for file in files).items() if count > 1)
        if doubled:
            raise UsageError(
                f"{len(doubled)} image names occur twice ({format_names(doubled)}); segment their folders apart"
            )

    def _check_folders(self, sources: set[Path], shared: bool) -> None:
        """Check that folders can be used and nothing is replaced unasked."""
        folders = self._folders()
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise UsageError("labels, embeddings and pictures cannot share a folder; give each its own")
        for folder in folders:
            check_folder_writable(folder)
            if folder.resolve() in sources:
                raise UsageError(f"{folder} holds the images, which results could replace; give another folder")
            files = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
            if files and not shared:
                raise InstsegError(
                    f"{folder} holds {len(files)} files; add `overwrite=True` or `skip_existing=True`, or give another "
                    "folder"
                )
