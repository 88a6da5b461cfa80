"""Folders of the Cell Tracking Challenge: label images of frames, and a table of the tracks.

Results are `maskNNN.tif` and `res_track.txt`, truth is `man_trackNNN.tif` and `man_track.txt`, and for some frames the
objects as they are, `man_segNNN.tif`. A line of a table has a track, its first and last frame, and the track that it
comes from, or 0. What is specified: https://public.celltrackingchallenge.net/documents/Naming%20and%20file%20content%20conventions.pdf
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from instseg.errors import InstsegError, format_names
from instseg.io.atomic import StrPath, atomic_write
from instseg.io.folders import LABELS, find_images
from instseg.io.image_file import ImageFileError

RESULT_TABLE, TRUE_TABLE = "res_track.txt", "man_track.txt"
"""The tables of tracks."""

MAX_CTC_LABEL = 65_535
"""Largest number of a track: label images have 16 bits."""

_MASK = re.compile(r"(?:mask|man_track)(\d+)\.tiff?", re.IGNORECASE)
_SEGMENTED = re.compile(r"man_seg(\d+)\.tiff?", re.IGNORECASE)
_PLAIN = re.compile(r"(\d+)\D*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackTable:
    """N tracks.

    Attributes
    ----------
    track, begin, end, parent : (N,) int64
        The number of each above 0, its first and last frame, and the track that it comes from, or 0.
    """

    track: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    parent: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[Iterable[int]]) -> "TrackTable":
        """Return the table of rows of track, begin, end and parent."""
        columns = np.array([list(row) for row in rows], np.int64).reshape(-1, 4).T
        return cls(track=columns[0], begin=columns[1], end=columns[2], parent=columns[3])


@dataclass(frozen=True, slots=True, kw_only=True)
class CtcFolder:
    """A sequence of the Cell Tracking Challenge.

    Attributes
    ----------
    table : TrackTable
    masks : mapping of int to Path
        The label image of each frame, ascending.
    segmented : mapping of int to Path
        Those of the true objects as they are, where there are some; in a folder of `instseg data generate` all of them.
    """

    table: TrackTable
    masks: Mapping[int, Path]
    segmented: Mapping[int, Path]


def write_table(path: StrPath, table: TrackTable) -> None:
    """Write `res_track.txt` or `man_track.txt`.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    rows = np.stack([table.track, table.begin, table.end, table.parent], axis=1)
    text = "".join(f"{track} {begin} {end} {parent}\n" for track, begin, end, parent in rows.tolist())
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(text, encoding="ascii")


def read_table(path: StrPath) -> TrackTable:
    """Read `res_track.txt` or `man_track.txt`.

    Raises
    ------
    ImageFileError
        If a line is not four whole numbers, a track is there twice or ends before it begins, or a parent is not there
        or ends after its child begins.
    """
    path = Path(path)
    advice = "give lines of a track, its first and last frame, and its parent or 0"
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise ImageFileError(path, f"{error.strerror}", "check the name and the permissions") from error
    rows: dict[int, tuple[int, int, int, int]] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 4 or not all(re.fullmatch(r"\d{1,9}", word) for word in words):
            raise ImageFileError(path, f"line {number} is not four whole numbers", advice)
        track, begin, end, parent = map(int, words)
        if track == 0 or track in rows or begin > end:
            raise ImageFileError(path, f"line {number} has a track that is 0, there twice or ends too early", advice)
        rows[track] = (track, begin, end, parent)
    for track, begin, _, parent in rows.values():
        if parent and (parent not in rows or rows[parent][2] >= begin):
            raise ImageFileError(path, f"the parent {parent} of track {track} is not there or ends too late", advice)
    return TrackTable.of(rows.values())


def write_mask(path: Path, labels: NDArray[np.integer]) -> None:
    """Write a label image (H, W) with 16 bits.

    Raises
    ------
    InstsegError
        If it cannot be written, or a label does not fit.
    """
    if labels.size and labels.max() > MAX_CTC_LABEL:
        raise InstsegError(
            f"cannot write {path}: {labels.max()} tracks do not fit into the 16 bits of the Cell Tracking Challenge; "
            "track fewer frames at a time, or leave out `ctc`"
        )
    with atomic_write(path) as temporary:
        tifffile.imwrite(temporary, labels.astype(np.uint16), compression="zlib", photometric="minisblack")


def mask_name(frame: int, last: int) -> str:
    """Return the name of the label image of a frame; numbers have three digits, or four where there are many.

    Examples
    --------
    >>> mask_name(7, last=99), mask_name(7, last=1000)
    ('mask007.tif', 'mask0007.tif')
    """
    return f"mask{frame:0{max(3, len(str(last)))}}.tif"


def is_result_mask(path: Path) -> bool:
    """Return whether a file has the name of a label image of results, which `mask_name` gives."""
    return re.fullmatch(r"mask\d+\.tif", path.name) is not None and path.is_file()


def mask_files(folder: Path) -> dict[int, Path]:
    """Return the label images of a folder by their frames, ascending: `maskNNN.tif` or `man_trackNNN.tif`."""
    return _numbered(folder, _MASK)


def find_ctc(folder: StrPath) -> CtcFolder:
    """Find the files of a sequence of the Cell Tracking Challenge.

    Parameters
    ----------
    folder : path-like
        Results (`01_RES`), truth (`01_GT`, or its `TRA`), or what `instseg.data.generate_frames` makes, whose label
        images are in `labels`.

    Raises
    ------
    InstsegError
        If there is no table, or no label image.
    """
    folder = Path(folder)
    inside = folder / "TRA" if (folder / "TRA").is_dir() else folder
    tables = [inside / name for name in (RESULT_TABLE, TRUE_TABLE) if (inside / name).is_file()]
    if not tables:
        raise InstsegError(
            f"{folder} holds no tracks; expected {RESULT_TABLE} or {TRUE_TABLE}, as `instseg track` writes"
        )
    if len(tables) > 1:
        raise InstsegError(f"{folder} holds {RESULT_TABLE} and {TRUE_TABLE}; keep one of them")
    masks = mask_files(inside)
    segmented = _numbered(
        inside.parent / "SEG" if inside != folder or folder.name == "TRA" else folder / "SEG", _SEGMENTED
    )
    if not masks and (folder / LABELS).is_dir():
        named = {path: _PLAIN.fullmatch(path.stem) for path in find_images([folder / LABELS])}
        masks = segmented = {int(match[1]): path for path, match in named.items() if match is not None}
    if not masks:
        raise InstsegError(f"{inside} holds no label images; expected maskNNN.tif or man_trackNNN.tif")
    return CtcFolder(table=read_table(tables[0]), masks=masks, segmented=segmented)


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if match := pattern.fullmatch(path.name):
            number = int(match[1])
            if number in found:
                both = format_names([found[number].name, path.name])
                raise InstsegError(f"{folder} holds two label images of frame {number} ({both}); keep one of them")
            found[number] = path
    return dict(sorted(found.items()))
