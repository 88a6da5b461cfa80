"""Where the results of `predict` go."""

import copy
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Self

from instseg.errors import InstsegError, UsageError

# Of the extra files; the first is that of the files in a folder.
_SUFFIXES = {
    "npz": (".npz",),
    "embeddings": (".png",),
    "overlay": (".png",),
    "scores": (".csv",),
    "outlines": (".geojson", ".zip"),
}
# What needs all of an image at once, and how it is asked for.
_WHOLE = {"npz": "--embeddings", "embeddings": "--embeddings-picture", "overlay": "--overlay", "outlines": "--outlines"}


class Targets(ABC):
    """Where the results of an image go, by its name; refused when it is made if they cannot go there."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the folders that are missing."""

    @abstractmethod
    def labels(self, name: str) -> Path:
        """Return where the labels go."""

    @abstractmethod
    def resolved(self) -> Self:
        """Return the same with absolute paths, for other processes."""

    @abstractmethod
    def wants(self, kind: str) -> bool:
        """Return whether a kind of extra file is asked for."""

    @abstractmethod
    def extra(self, kind: str, name: str) -> Path | None:
        """Return where a kind of extra file goes; None where it is not asked for."""


class OneImage(Targets):
    """Files of one image, whatever its name."""

    def __init__(self, out: Path, extras: dict[str, Path | None], image: Path) -> None:
        from instseg.extras import require_zarr
        from instseg.files import require_target, require_zarr_target
        from instseg.images import LABEL_SUFFIXES
        from instseg.outlines import require_format

        if out.suffix.lower() == ".zarr":
            require_zarr()
            require_zarr_target(out)
        else:
            require_target(out, *LABEL_SUFFIXES, ".zarr")
        for kind, path in extras.items():
            if path is not None:
                require_target(path, *_SUFFIXES[kind])
        if extras["outlines"] is not None:
            require_format(extras["outlines"])
        paths = [path.resolve() for path in (out, *extras.values()) if path is not None]
        if len(set(paths)) < len(paths):
            raise UsageError("labels, embeddings and pictures cannot share a file; give each its own name")
        if image.resolve() in paths:
            raise UsageError(f"{image} is the image itself and would be replaced; give the results another name")
        self._out, self._extras = out, extras

    def resolved(self) -> Self:
        """See `Targets.resolved`."""
        found = copy.copy(self)
        found._out, found._extras = self._out.resolve(), _resolved(self._extras)
        return found

    def prepare(self) -> None:
        """Nothing is missing: the folder of a single file is never made."""

    def labels(self, name: str) -> Path:
        """See `Targets.labels`."""
        return self._out

    def wants(self, kind: str) -> bool:
        """See `Targets.wants`."""
        return self._extras[kind] is not None

    def extra(self, kind: str, name: str) -> Path | None:
        """See `Targets.extra`."""
        return self._extras[kind]


class ManyImages(Targets):
    """Folders, in which files are named like the images."""

    def __init__(
        self, folder: Path, suffix: str, extras: dict[str, Path | None], files: list[Path], shared: bool
    ) -> None:
        from instseg.extras import require_zarr

        if suffix == "zarr":
            require_zarr()
        self._folder, self._suffix, self._extras = folder, suffix, extras
        self._folders = [folder, *(other for other in extras.values() if other is not None)]
        self._require_free(files, shared)

    def resolved(self) -> Self:
        """See `Targets.resolved`."""
        found = copy.copy(self)
        found._folder, found._extras = self._folder.resolve(), _resolved(self._extras)
        return found

    def prepare(self) -> None:
        """Make the folders."""
        from instseg.files import make_folder

        for folder in self._folders:
            make_folder(folder)

    def holds(self, name: str, planes: bool) -> bool:
        """Return whether all results of an image are there; of a stack, whether those of its first plane are."""
        name = f"{name}-0000" if planes else name
        found = [self.labels(name), *(self.extra(kind, name) for kind in self._extras)]
        return all(path.exists() for path in found if path is not None)

    def labels(self, name: str) -> Path:
        """See `Targets.labels`."""
        return self._folder / f"{name}.{self._suffix}"

    def wants(self, kind: str) -> bool:
        """See `Targets.wants`."""
        return self._extras[kind] is not None

    def extra(self, kind: str, name: str) -> Path | None:
        """See `Targets.extra`."""
        folder = self._extras[kind]
        return None if folder is None else folder / f"{name}{_SUFFIXES[kind][0]}"

    def _require_free(self, files: list[Path], shared: bool) -> None:
        """See that names are unique, folders can be used and nothing is replaced unasked."""
        from instseg.files import require_folder

        doubled = sorted(name for name, count in Counter(file.stem for file in files).items() if count > 1)
        if doubled:
            shown = ", ".join(doubled[:3])
            raise UsageError(f"{len(doubled)} image names occur twice ({shown}); segment their folders apart")
        if len({folder.resolve() for folder in self._folders}) < len(self._folders):
            raise UsageError("labels, embeddings and pictures cannot share a folder; give each its own")
        sources = {file.parent.resolve() for file in files}
        for folder in self._folders:
            require_folder(folder)
            if folder.resolve() in sources:
                raise UsageError(f"{folder} holds the images, which results could replace; give another folder")
            found = folder.iterdir() if folder.is_dir() else ()
            taken = [path for path in found if not path.name.startswith(".")]
            if taken and not shared:
                raise InstsegError(
                    f"{folder} holds {len(taken)} files; add --overwrite or --skip-existing, or give another folder"
                )


def _resolved(paths: dict[str, Path | None]) -> dict[str, Path | None]:
    return {kind: None if path is None else path.resolve() for kind, path in paths.items()}


def require_parts(file: Path, targets: Targets, name: str) -> None:
    """See that all results of an image that is read part by part can be written so."""
    if targets.labels(name).suffix.lower() == ".png":
        raise InstsegError(
            f"{file} is read part by part, and its labels are written so, as TIFF; give --out NAME.tif or --format tif"
        )
    pictures = [option for kind, option in _WHOLE.items() if targets.wants(kind)]
    if pictures:
        what = " and ".join(pictures)
        raise InstsegError(f"{file} is read part by part, which {what} cannot be; leave it out, or cut out a part")
