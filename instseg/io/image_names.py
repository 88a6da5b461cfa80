"""What files are called: which names are those of images, and the stems by which files are told apart."""

import os
import re
import unicodedata
from pathlib import Path

from instseg.io.container import result_stem

PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
SUFFIXES = (
    *PICTURE_SUFFIXES,
    *(".webp", ".gif", ".jp2", ".j2k", ".jpx", ".npy", ".npz", ".h5", ".hdf5", ".czi", ".nd2", ".svs", ".ndpi", ".scn"),
)
"""Names of files that a folder is searched for, in upper or lower case.

Where a file of one of the others has the stem of one of `PICTURE_SUFFIXES` beside it, such as the embeddings `a.npz` of
`a.png`, it is none of the images of the folder.
"""

DIGITS = re.compile(r"(\d+)")
"""Splits a name at its numbers, which come at odd places."""


def stem_of(path: Path) -> str:
    """Return the stem of a file's name (`result_stem`) in the one form in which names are compared (NFC).

    The same letters can be written by different code points: file systems and archives of macOS take accents apart.
    """
    return unicodedata.normalize("NFC", result_stem(path))


def counted_name(path: Path) -> tuple[object, ...]:
    """Return a key that orders names as people count: `z2` comes before `z10`."""
    parts = DIGITS.split(stem_of(path))
    return (path.parent, [(int(part), "") if number % 2 else (0, part) for number, part in enumerate(parts)], path.name)


def is_image(path: Path) -> bool:
    """Return whether a file has the name of an image; a link that leads nowhere may have it, too."""
    return path.suffix.lower() in SUFFIXES and (is_file(path) or leads_nowhere(path))


def is_file(path: Path) -> bool:
    """Return whether a path is that of a file, or of a link to one that may be looked at."""
    try:
        return path.is_file()
    except OSError:
        # A link to where nobody may look is as good as one that leads nowhere.
        if path.is_symlink():
            return False
        raise


def leads_nowhere(path: Path) -> bool:
    """Return whether a path is that of a link to something that is not there."""
    # Path.exists raises where it may not look.
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110


def belongs_to_picture(path: Path, pictures: set[str]) -> bool:
    """Return whether a file goes with a picture: the same data in another form, or what a tool has noted of it."""
    stem = stem_of(path)
    # Cellpose notes objects so, as pickled objects; Zarr images have always stood for themselves.
    noted = stem.endswith("_seg") and path.suffix.lower() == ".npy"
    return path.suffix.lower() in SUFFIXES and (noted or stem in pictures)
