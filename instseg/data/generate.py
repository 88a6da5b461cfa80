"""Folders of generated example images with their labels."""

import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instseg.data.discs import draw_discs
from instseg.errors import InstsegError, check_parameter
from instseg.io.atomic import ensure_dir
from instseg.io.ctc import TRUE_TABLE
from instseg.io.folders import IMAGES, LABELS
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.settings import DiscSettings
from instseg.visualization.pictures import hstack, label2rgb, to_rgb8

PREVIEW = "preview.png"
"""Shows the first image beside its labels."""

MAX_COUNT = 10_000
"""Most images of a folder: their names have four digits."""

# The names that generated images have, and that `overwrite` may therefore remove.
_GENERATED = re.compile(r"\d{4}\.(png|tif)")


def generate_discs(
    out: str | PathLike[str],
    *,
    count: int = 3,
    seed: int = 0,
    overwrite: bool = False,
    settings: DiscSettings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write example images of discs, with their labels: images/NNNN.png, labels/NNNN.png and a preview.

    The same seed gives the same files, and a larger count adds to the files of a smaller one.

    Parameters
    ----------
    out : path-like
        The folder, which is created where it is missing.
    count : int
        Number of images, 1 to `MAX_COUNT`.
    seed : int
        0 or above; image I depends on this and I only.
    overwrite : bool
        Whether to replace the images that an earlier run wrote. Other files are never removed.
    settings : DiscSettings, optional
        Size of the images, number of discs, noise.
    progress : callable
        Takes how many images of how many are written.

    Returns
    -------
    int
        Discs in all images.

    Raises
    ------
    UsageError
        If `count` or `seed` is out of range.
    InstsegError
        If the folder holds images already, or files of others, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> generate_discs(folder, count=1, settings=DiscSettings(size=64, min_discs=5, max_discs=5))
    5
    >>> sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png"))
    ['images/0000.png', 'labels/0000.png', 'preview.png']
    """
    check_parameter(1 <= count <= MAX_COUNT, "count", count, f"1 to {MAX_COUNT} images")
    check_parameter(seed >= 0, "seed", seed, "0 or a number above 0")
    settings, out = settings or DiscSettings(), Path(out)
    clear_generated(out, overwrite)
    images, labels = ensure_dir(out / IMAGES), ensure_dir(out / LABELS)
    discs = 0
    for index in range(count):
        image, drawn = draw_discs(np.random.default_rng([seed, index]), settings)
        if index == 0:
            write_preview(out / PREVIEW, image, drawn)
        # Labels first: a run that is interrupted leaves no image without them.
        write_labels(labels / f"{index:04}.png", drawn)
        write_picture(images / f"{index:04}.png", image)
        discs += int(drawn.max())
        progress(index + 1, count)
    return discs


def clear_generated(out: Path, overwrite: bool) -> None:
    """Remove what an earlier run wrote, so that nothing of it mixes with this one, and nothing else.

    Raises
    ------
    InstsegError
        If there is something and `overwrite` is False, or something that no run wrote.
    """
    folders = [folder for folder in (out / IMAGES, out / LABELS) if folder.is_dir()]
    present = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    foreign = [path for path in present if not (_GENERATED.fullmatch(path.name) and path.is_file())]
    others = [out / PREVIEW, out / TRUE_TABLE]
    if foreign:
        raise InstsegError(f"{out} holds files that generate did not write, such as {foreign[0]}; give another `out`")
    if (present or any(path.exists() for path in others)) and not overwrite:
        raise InstsegError(f"{out} holds images already; add `overwrite=True` to replace them or give another `out`")
    try:
        for path in [*present, *others]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InstsegError(f"cannot replace {error.filename}: {error.strerror}; check the permissions") from error


def write_preview(path: Path, image: NDArray[np.uint16], labels: NDArray[np.int32]) -> None:
    """Write an image (H, W) beside its labels as a picture."""
    write_picture(path, hstack(to_rgb8(image), label2rgb(labels)))
