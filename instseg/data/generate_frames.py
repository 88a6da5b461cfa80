"""Folders of generated sequences: images, labels that stay the same through time, and the tracks."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np

from instseg.data.generate import PREVIEW, clear_generated, write_preview
from instseg.data.moving_discs import MAX_FRAMES, DiscTracks, draw_moving_discs
from instseg.errors import check_parameter
from instseg.io.atomic import ensure_dir
from instseg.io.ctc import TRUE_TABLE, TrackTable, write_table
from instseg.io.folders import IMAGES, LABELS
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.settings import DiscSettings


def generate_frames(
    out: str | PathLike[str],
    *,
    frames: int,
    seed: int = 0,
    overwrite: bool = False,
    settings: DiscSettings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write a sequence of discs that move, grow and divide: images/NNNN.png, labels/NNNN.png, `man_track.txt`.

    Labels have the same number through time, and `man_track.txt` lists these as the Cell Tracking Challenge does. The
    same seed gives the same files, and more frames add to the files of fewer, the table apart.

    Parameters
    ----------
    out : path-like
        The folder, which is created where it is missing.
    frames : int
        1 to `MAX_FRAMES`.
    seed : int
        0 or above.
    overwrite : bool
        Whether to replace the images that an earlier run wrote. Other files are never removed.
    settings : DiscSettings, optional
        Size of the images, number of discs in the first frame and at most, noise.
    progress : callable
        Takes how many frames of how many are written.

    Returns
    -------
    int
        Tracks.

    Raises
    ------
    UsageError
        If a parameter is out of its range.
    InstsegError
        If the folder holds images already, or files of others, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> generate_frames(folder, frames=2, settings=DiscSettings(size=64, min_discs=5, max_discs=5))
    5
    >>> sorted(path.name for path in Path(folder).iterdir())
    ['images', 'labels', 'man_track.txt', 'preview.png']
    """
    check_parameter(1 <= frames <= MAX_FRAMES, "frames", frames, f"1 to {MAX_FRAMES} frames")
    check_parameter(seed >= 0, "seed", seed, "0 or a number above 0")
    out = Path(out)
    clear_generated(out, overwrite)
    images, labels = ensure_dir(out / IMAGES), ensure_dir(out / LABELS)
    tracks = DiscTracks()
    for index, (image, drawn) in enumerate(draw_moving_discs(frames, seed, settings or DiscSettings(), tracks)):
        if index == 0:
            write_preview(out / PREVIEW, image, drawn)
        # Labels first: a run that is interrupted leaves no image without them.
        write_labels(labels / f"{index:04}.png", drawn)
        write_picture(images / f"{index:04}.png", image)
        progress(index + 1, frames)
    columns = [np.array(column, np.int64) for column in (tracks.begin, tracks.end, tracks.parent)]
    begin, end, parent = columns
    write_table(out / TRUE_TABLE, TrackTable(track=np.arange(1, len(begin) + 1), begin=begin, end=end, parent=parent))
    return len(begin)
