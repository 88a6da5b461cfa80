"""Folders of generated volumes with their labels."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np

from instseg.data.balls import draw_balls
from instseg.data.generate import PREVIEW, clear_generated
from instseg.errors import check_parameter
from instseg.io.atomic import ensure_dir
from instseg.io.folders import IMAGES, LABELS
from instseg.io.images import write_picture
from instseg.io.label_volumes import write_label_volume
from instseg.io.pixel_size import PixelGeometry
from instseg.io.volume_tiff import write_volume
from instseg.settings import BallSettings
from instseg.visualization.volumes import volume_picture

MAX_COUNT = 10_000
"""Most volumes of a folder: their names have four digits."""


def generate_balls(
    out: str | PathLike[str],
    *,
    count: int = 3,
    seed: int = 0,
    overwrite: bool = False,
    settings: BallSettings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write example volumes of balls, with their labels: images/NNNN.tif, labels/NNNN.tif and a preview.

    Files tell how far apart the planes are. The same seed gives the same voxels, and a larger count adds to the files
    of a smaller one.

    Parameters
    ----------
    out : path-like
        The folder, which is created where it is missing.
    count : int
        Number of volumes, 1 to `MAX_COUNT`.
    seed : int
        0 or above; volume I depends on this and I only.
    overwrite : bool
        Whether to replace what an earlier run wrote. Other files are never removed.
    settings : BallSettings, optional
        Size of the volumes, number of balls, noise.
    progress : callable
        Takes how many volumes of how many are written.

    Returns
    -------
    int
        Balls in all volumes.

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
    >>> small = BallSettings(depth=12, size=48, min_balls=3, max_balls=3)
    >>> generate_balls(folder, count=1, settings=small)
    3
    >>> sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.*"))
    ['images/0000.tif', 'labels/0000.tif', 'preview.png']
    """
    check_parameter(1 <= count <= MAX_COUNT, "count", count, f"1 to {MAX_COUNT} volumes")
    check_parameter(seed >= 0, "seed", seed, "0 or a number above 0")
    settings, out = settings or BallSettings(), Path(out)
    clear_generated(out, overwrite)
    images, labels = ensure_dir(out / IMAGES), ensure_dir(out / LABELS)
    # The size of a voxel is relative: balls have no unit of length.
    geometry = PixelGeometry((1.0, 1.0), depth=settings.spacing_z)
    balls = 0
    for index in range(count):
        volume, drawn = draw_balls(np.random.default_rng([seed, index]), settings)
        if index == 0:
            write_picture(out / PREVIEW, volume_picture(volume, drawn, spacing=(settings.spacing_z, 1, 1)))
        # Labels first: a run that is interrupted leaves no volume without them.
        write_label_volume(labels / f"{index:04}.tif", drawn, geometry)
        write_volume(images / f"{index:04}.tif", volume, geometry)
        balls += int(drawn.max())
        progress(index + 1, count)
    return balls
