"""Files of labels in the order of time to files of labels that stay the same, and to tables of tracks."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError, format_names
from instseg.inference.options import ProgressCallback, no_progress
from instseg.io.atomic import StrPath, check_folder_writable, check_writable, ensure_dir
from instseg.io.ctc import MAX_CTC_LABEL, RESULT_TABLE, TrackTable, is_result_mask, mask_name, write_mask, write_table
from instseg.io.frames import Frame, FrameSequence, find_frames
from instseg.io.geff import check_geff_writable, write_geff
from instseg.io.images import write_picture
from instseg.io.label_images import MAX_PNG_LABEL, write_labels
from instseg.io.tables import write_columns
from instseg.tracking.linking import Tracker
from instseg.tracking.objects import frame_objects
from instseg.tracking.tracks import Tracks
from instseg.visualization.tracks import draw_tracks

TRACKS = "tracks.csv"
"""The table beside the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackResult:
    """What was tracked.

    Attributes
    ----------
    tracks : Tracks
    frames : tuple of Frame
    notes : tuple of str
        What is missing, or strange.
    """

    tracks: Tracks
    frames: tuple[Frame, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outputs:
    out: Path | None
    ctc: Path | None
    overlay: Path | None
    geff: Path | None


def track_files(
    labels: StrPath | Sequence[StrPath],
    *,
    out: StrPath | None = None,
    ctc: StrPath | None = None,
    overlay: StrPath | None = None,
    geff: StrPath | None = None,
    max_distance: float | None = None,
    gap: int = 2,
    divisions: bool = True,
    drift: bool = True,
    connected_components: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback = no_progress,
) -> TrackResult:
    """Link the objects in label images to tracks, and write them.

    The files are read twice, one at a time: nothing is written before all could be read. Frames that are missing in
    the numbers of the names count as frames without objects.

    Parameters
    ----------
    labels : path-like, or sequence of path-like
        Label images, folders or patterns in the order of their numbers, or one file of planes along T.
    out : path-like, optional
        Folder for the labels, an image a frame under the names of these, in which every object has the number of its
        track, and for the table `tracks.csv`.
    ctc : path-like, optional
        Folder for results of the Cell Tracking Challenge.
    overlay : path-like, optional
        Picture (.png) of the last frame and the ways of all objects.
    geff : path-like, optional
        Graph of all objects (.geff), a Zarr group that other tools for tracks read.
    max_distance, gap, divisions, drift
        As `instseg.track` takes them.
    connected_components : bool
        Whether every connected piece of a binary mask is an object.
    overwrite : bool
        Whether to replace results that are there.
    progress : callable
        Takes how many frames are done, of how many, and a text; each counts twice.

    Returns
    -------
    TrackResult

    Raises
    ------
    UsageError, InstsegError
        If nothing is to be written, a frame cannot be read, frames differ in size, or results cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import instseg
    >>> from instseg.data.generate_frames import generate_frames
    >>> folder = tempfile.mkdtemp()
    >>> _ = generate_frames(f"{folder}/discs", frames=3)
    >>> result = instseg.track_files(f"{folder}/discs/labels", out=f"{folder}/tracks")
    >>> [frame.result for frame in result.frames], len(result.tracks) > 0
    (['0000.png', '0001.png', '0002.png'], True)
    """
    paths = [labels] if isinstance(labels, str | PathLike) else labels
    places = {"out": out, "ctc": ctc, "overlay": overlay, "geff": geff}
    outputs = _Outputs(**{name: None if path is None else Path(path) for name, path in places.items()})
    if not any((outputs.out, outputs.ctc, outputs.overlay, outputs.geff)):
        raise UsageError("there is nothing to write; give `out=DIR`, `ctc=DIR`, `overlay=FILE` or `geff=DIR`")
    tracker = Tracker(max_distance=max_distance, gap=gap, divisions=divisions, drift=drift)
    sequence = find_frames(list(paths))
    _check_outputs(outputs, sequence, overwrite)
    notes = _link(tracker, sequence, connected_components, progress)
    tracks = tracker.finish()
    if not len(tracks):
        notes.append("there is no object in any frame")
    last = _write(tracks, sequence, outputs, connected_components, progress, notes)
    if outputs.out is not None:
        write_columns(outputs.out / TRACKS, track_columns(tracks))
    if outputs.overlay is not None:
        write_picture(outputs.overlay, _picture(tracks, last))
    if outputs.geff is not None:
        _write_geff(outputs.geff, tracks)
    return TrackResult(tracks=tracks, frames=sequence.frames, notes=(*sequence.notes, *notes))


def _link(
    tracker: Tracker, sequence: FrameSequence, connected_components: bool, progress: ProgressCallback
) -> list[str]:
    """Read all frames, and return what is strange about them."""
    before: NDArray[np.int32] | None = None
    same: list[int] = []
    for number, (frame, labels) in enumerate(
        zip(sequence.frames, sequence.read(connected_components=connected_components), strict=True)
    ):
        if before is not None and labels.any() and np.array_equal(before, labels):
            same.append(frame.time)
        try:
            tracker.add(frame_objects(labels, frame.time))
        except InstsegError as error:
            raise error.located(frame.path) from error
        before = labels
        progress(number + 1, 2 * len(sequence.frames), "")
    if not same:
        return []
    return [f"frames that are the same as the frame before: {format_names(same)}; check whether some were saved twice"]


def _write(
    tracks: Tracks,
    sequence: FrameSequence,
    outputs: _Outputs,
    connected_components: bool,
    progress: ProgressCallback,
    notes: list[str],
) -> NDArray[np.int32]:
    """Read all frames again, write them with the numbers of their tracks, and return the last one of these."""
    pieces, comes_from = tracks.pieces()
    if outputs.ctc is not None and len(comes_from) > MAX_CTC_LABEL:
        raise InstsegError(
            f"{len(comes_from)} tracks do not fit into the 16 bits of the Cell Tracking Challenge; track fewer frames "
            "at a time, or leave out `ctc`"
        )
    wide = len(tracks) > MAX_PNG_LABEL and any(frame.result.lower().endswith(".png") for frame in sequence.frames)
    if wide and outputs.out is not None:
        notes.append(f"{len(tracks)} tracks do not fit into the 16 bits of PNG; labels are written as TIFF")
    for folder in (outputs.out, outputs.ctc):
        if folder is not None:
            ensure_dir(folder)
    count, last = len(sequence.frames), sequence.frames[-1].time
    numbered = np.zeros((1, 1), np.int32)
    for number, (frame, labels) in enumerate(
        zip(sequence.frames, sequence.read(connected_components=connected_components), strict=True), start=1
    ):
        numbered = tracks.relabel(frame.time, labels)
        if outputs.out is not None:
            path = outputs.out / frame.result
            write_labels(path.with_suffix(".tif") if wide and path.suffix.lower() == ".png" else path, numbered)
        if outputs.ctc is not None:
            of_pieces = tracks.relabel_pieces(frame.time, labels, pieces)
            write_mask(outputs.ctc / mask_name(frame.time, last), of_pieces)
        progress(count + number, 2 * count, "")
    if outputs.ctc is not None:
        for time in sequence.missing:
            write_mask(outputs.ctc / mask_name(time, last), np.zeros_like(numbered))
        _finish_ctc(outputs.ctc, {*sequence.missing, *(frame.time for frame in sequence.frames)}, last)
        write_table(outputs.ctc / RESULT_TABLE, piece_table(tracks, pieces, comes_from))
    return numbered


def _finish_ctc(folder: Path, times: set[int], last: int) -> None:
    """Remove the label images of other frames, and those of other names, that an earlier run has left."""
    names = {mask_name(time, last) for time in times}
    for path in folder.iterdir():
        if is_result_mask(path) and path.name not in names:
            path.unlink()


def track_columns(tracks: Tracks) -> dict[str, NDArray[np.generic]]:
    """Return the table of all objects: 'track', 'parent', 'frame', 'label', 'row', 'column' and 'area', (M,) each.

    'parent' is the track that the track of the object divided from, 0 for none; 'label' is the number of the object in
    the label image that was read.
    """
    order = np.lexsort((tracks.frame, tracks.track))
    track = tracks.track[order]
    return {
        "track": track,
        "parent": tracks.parent[track - 1],
        "frame": tracks.frame[order],
        "label": tracks.label[order],
        "row": np.round(tracks.centroid[order, 0], 4),
        "column": np.round(tracks.centroid[order, 1], 4),
        "area": tracks.area[order],
    }


def piece_table(tracks: Tracks, pieces: NDArray[np.int64], comes_from: NDArray[np.int64]) -> TrackTable:
    """Return the table of what `Tracks.pieces` cuts the tracks into, as the Cell Tracking Challenge has it."""
    begin = tracks.frame[np.unique(pieces, return_index=True)[1]]
    end = np.zeros(len(comes_from), np.int64)
    np.maximum.at(end, pieces - 1, tracks.frame)
    return TrackTable(track=np.arange(1, len(comes_from) + 1), begin=begin, end=end, parent=comes_from)


def _picture(tracks: Tracks, last: NDArray[np.int32]) -> NDArray[np.uint8]:
    links, divided = tracks.links()
    segments = tracks.centroid[links].reshape(-1, 4)
    divisions = tracks.centroid[np.unique(links[divided, 0])]
    return draw_tracks(last, segments, tracks.track[links[:, 1]], divisions=divisions)


def _write_geff(path: Path, tracks: Tracks) -> None:
    nodes = {
        "t": tracks.frame,
        "y": tracks.centroid[:, 0],
        "x": tracks.centroid[:, 1],
        "track": tracks.track,
        "label": tracks.label,
        "area": tracks.area,
    }
    write_geff(path, nodes, tracks.links()[0], "track")


def _check_outputs(outputs: _Outputs, sequence: FrameSequence, overwrite: bool) -> None:
    """Refuse what cannot be written, before the work."""
    if outputs.overlay is not None:
        check_writable(outputs.overlay, ".png")
    if outputs.geff is not None:
        check_geff_writable(outputs.geff)
    for folder in (outputs.out, outputs.ctc):
        if folder is not None:
            check_folder_writable(folder)
    if outputs.out is not None and outputs.ctc is not None and outputs.out.resolve() == outputs.ctc.resolve():
        raise UsageError("`out` and `ctc` cannot share a folder; give each its own")
    written = [] if outputs.out is None else [outputs.out / TRACKS]
    written += [] if outputs.out is None else [outputs.out / frame.result for frame in sequence.frames]
    if outputs.ctc is not None:
        there_already = sorted(filter(is_result_mask, outputs.ctc.iterdir())) if outputs.ctc.is_dir() else []
        written += [outputs.ctc / RESULT_TABLE, *there_already]
    inputs = {frame.path.resolve() for frame in sequence.frames}
    for path in (*written, *(path for path in (outputs.overlay, outputs.geff) if path is not None)):
        if path.resolve() in inputs:
            raise UsageError(f"{path} would be replaced by its own result; give another folder")
    if not overwrite and (there := next((path for path in written if path.exists()), None)) is not None:
        raise InstsegError(
            f"{there.parent} holds results already, such as {there.name}; add `overwrite=True` to replace them or give "
            "another folder"
        )
