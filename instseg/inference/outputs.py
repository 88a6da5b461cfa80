"""Where the results for images go: paths by an image's name, checked before the work begins."""

import copy
import os
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from instseg.errors import InstsegError, UsageError, format_names
from instseg.inference.annotation_files import AnnotationFiles
from instseg.io.atomic import LONGEST_NAME, check_folder_writable, check_writable, check_zarr_writable, ensure_dir
from instseg.io.folders import is_report
from instseg.io.image_names import stem_of
from instseg.io.tables import TABLE_SUFFIXES, require_table
from instseg.io.zarr_labels import is_complete_zarr

EXTRAS = {
    "embeddings": (".npz",),
    "embeddings_picture": (".png",),
    "overlay": (".png",),
    "scores": (".csv",),
    "outlines": (".geojson", ".zip"),
    "measure": TABLE_SUFFIXES,
}
"""The results beside the labels, and what their names may end in: files in a folder have the first suffix."""

_LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".zarr")
# Results that need all of an image at once.
_WHOLE = ("embeddings", "embeddings_picture", "overlay", "outlines")
# Pictures of volumes are drawn slab by slab.
_WHOLE_VOLUME = ("embeddings",)


class OutputPaths(ABC):
    """The paths of an image's results by its name.

    Parameters
    ----------
    extras : mapping of str to Path or None
        For each of `EXTRAS` a file or a folder, None where it is not wanted.

    Attributes
    ----------
    annotations : AnnotationFiles or None
        Where annotations go that hold many images.
    """

    def __init__(self, extras: Mapping[str, Path | None]) -> None:
        self._extras = {kind: extras.get(kind) for kind in EXTRAS}
        self.annotations: AnnotationFiles | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Make the folders that are missing."""

    @abstractmethod
    def labels(self, name: str) -> Path:
        """Return where the labels go."""

    @abstractmethod
    def extra(self, kind: str, name: str) -> Path | None:
        """Return where one of `EXTRAS` goes; None where it is not wanted."""

    def large_labels(self, name: str) -> Path:
        """Return where labels go that are too many for a PNG: a TIFF beside it.

        Raises
        ------
        InstsegError
            If that would replace the image.
        """
        return self.labels(name).with_suffix(".tif")

    def check_names(self, name: str) -> None:
        """Check that a file system takes the names of an image's results, before they are computed.

        Raises
        ------
        InstsegError
            If one is too long.
        """
        for path in self._paths(name):
            if (length := len(os.fsencode(path.name))) > LONGEST_NAME:
                raise InstsegError(
                    f"the name of its result would have {length} bytes, expected at most {LONGEST_NAME}; "
                    "give the image a shorter name"
                )

    def _paths(self, name: str) -> Iterator[Path]:
        yield self.labels(name)
        yield from (path for kind in EXTRAS if (path := self.extra(kind, name)) is not None)
        yield from () if self.annotations is None else self.annotations.of_image(name)

    def wants(self, *kinds: str) -> bool:
        """Return whether any of some `EXTRAS` is wanted."""
        return any(self._extras[kind] is not None for kind in kinds)

    def absolute(self) -> Self:
        """Return the same with absolute paths, for other processes."""
        paths = copy.copy(self)
        paths._extras = {kind: None if path is None else path.resolve() for kind, path in self._extras.items()}
        paths.annotations = None if self.annotations is None else self.annotations.absolute()
        return paths

    def check_streamable(self, file: Path, name: str, *, volume: bool = False) -> None:
        """Check that all results of a streamed image, or volume, can be written part by part.

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
        whole = [kind for kind in (_WHOLE_VOLUME if volume else _WHOLE) if self.wants(kind)]
        if pictures := [*whole, *([] if self.annotations is None else self.annotations.kinds)]:
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
        self._out, self._image = out, image
        if out.suffix.lower() == ".zarr":
            check_zarr_writable(out)
        else:
            check_writable(out, *_LABEL_SUFFIXES)
        for kind, path in self._extras.items():
            if path is not None:
                check_writable(path, *EXTRAS[kind])
        if (table := self._extras["measure"]) is not None:
            require_table(table)
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

    def large_labels(self, name: str) -> Path:
        """See `OutputPaths.large_labels`."""
        path = super().large_labels(name)
        if path.resolve() == self._image.resolve():
            raise InstsegError(
                f"cannot write {self._out}: there are more objects than a 16-bit PNG can number, and {path} is the "
                "image; give `out=NAME.tif`"
            )
        return path

    def extra(self, kind: str, name: str) -> Path | None:
        """See `OutputPaths.extra`."""
        return self._extras[kind]

    def absolute(self) -> Self:
        """See `OutputPaths.absolute`."""
        paths = super().absolute()
        paths._out, paths._image = self._out.resolve(), self._image.resolve()
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
    measure_suffix : {'.csv', '.parquet'}
        Of the tables of measurements.

    Raises
    ------
    UsageError, InstsegError
        If names occur twice, or a folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        suffix: str,
        extras: Mapping[str, Path | None],
        files: Sequence[Path],
        shared: bool,
        measure_suffix: str = TABLE_SUFFIXES[0],
    ) -> None:
        super().__init__(extras)
        self.folder, self._suffix, self._measure_suffix = folder, suffix, measure_suffix
        if self.wants("measure"):
            require_table(f"table{measure_suffix}")
        self._check_names(files)
        self._check_folders({file.parent.resolve() for file in files}, shared)

    def prepare(self) -> None:
        """Make the folders."""
        for folder in self.folders():
            ensure_dir(folder)

    def holds(self, name: str, labels: str | None = None) -> bool:
        """Return whether all results of an image, or of a plane of a stack, exist.

        Parameters
        ----------
        name : str
            Of the image.
        labels : str, optional
            The name of the file of the labels, where it is not that which `labels` returns.
        """
        path = self._labels_file(name, labels)
        whole = is_complete_zarr(path) if path.suffix == ".zarr" else _is_filled(path)
        return whole and all(_is_filled(path) for path in self._paths(name) if path != self.labels(name))

    def lacks_annotations(self, name: str, labels: str | None = None) -> bool:
        """Return whether an image has labels, but not what annotations need of it, or that is older than the labels."""
        path = self._labels_file(name, labels)
        return self.annotations is not None and path.exists() and not self.annotations.hold(name, path)

    def _labels_file(self, name: str, labels: str | None) -> Path:
        return self.labels(name) if labels is None else self.folder / labels

    def labels(self, name: str) -> Path:
        """See `OutputPaths.labels`."""
        return self.folder / f"{name}.{self._suffix}"

    def extra(self, kind: str, name: str) -> Path | None:
        """See `OutputPaths.extra`."""
        folder = self._extras[kind]
        suffix = self._measure_suffix if kind == "measure" else EXTRAS[kind][0]
        return None if folder is None else folder / f"{name}{suffix}"

    def absolute(self) -> Self:
        """See `OutputPaths.absolute`."""
        paths = super().absolute()
        paths.folder = self.folder.resolve()
        return paths

    def folders(self) -> list[Path]:
        """Return the folders of the labels and of the extras."""
        return [self.folder, *(folder for folder in self._extras.values() if folder is not None)]

    def _check_names(self, files: Sequence[Path]) -> None:
        """Check that no two images would have one result."""
        names = [stem_of(file) for file in files]
        doubled = sorted(name for name, count in Counter(names).items() if count > 1)
        if doubled:
            raise UsageError(
                f"{len(doubled)} image names occur twice ({format_names(doubled)}); segment their folders apart"
            )
        folded = Counter(_folded(name) for name in names)
        alike = sorted(name for name in names if folded[_folded(name)] > 1)
        if alike and _ignores_case(self.folder):
            raise UsageError(
                f"{len(alike)} image names differ in their case alone ({format_names(alike)}), and {self.folder} does "
                "not tell them apart; rename them, or segment them apart"
            )

    def _check_folders(self, sources: set[Path], shared: bool) -> None:
        """Check that folders can be used and nothing is replaced unasked."""
        folders = self.folders()
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise UsageError("labels, embeddings and pictures cannot share a folder; give each its own")
        for folder in folders:
            check_folder_writable(folder)
            if folder.resolve() in sources:
                raise UsageError(f"{folder} holds the images, which results could replace; give another folder")
            files = [path for path in folder.iterdir() if not _is_ours(path)] if folder.is_dir() else []
            if files and not shared:
                raise InstsegError(
                    f"{folder} holds {len(files)} files; add `overwrite=True` or `skip_existing=True`, or give another "
                    "folder"
                )


def _is_filled(path: Path) -> bool:
    """Return whether a file exists and is not what a full disc or a power failure leaves."""
    return path.is_file() and path.stat().st_size > 0


def _is_ours(path: Path) -> bool:
    return path.name.startswith(".") or is_report(path)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _ignores_case(folder: Path) -> bool:
    """Return whether a folder, or the nearest one that exists, is on a file system that ignores case."""
    for path in (folder, *folder.absolute().parents):
        other = path.with_name(path.name.swapcase()) if path.name else path
        if path.exists() and other.name != path.name:
            return other.exists() and other.samefile(path)
    return False
