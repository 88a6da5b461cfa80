"""The label images of a sequence: which files or planes are its frames, when they were taken, and reading them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, format_names
from instseg.io.atomic import StrPath
from instseg.io.container import result_stem
from instseg.io.folders import search_images
from instseg.io.formats import read_header
from instseg.io.image_file import ImageFileError
from instseg.io.image_names import DIGITS, counted_name, stem_of
from instseg.io.label_images import LABEL_SUFFIXES, read_label_planes, read_labels

# Axes along which the planes of a file may be frames; those without a name are ''.
_TIME_AXES = ("", "T", "Z")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a sequence.

    Attributes
    ----------
    time : int
        When it was taken, in frames: the number in its name, or its position.
    path : Path
        The file that holds it.
    result : str
        What the file of its results is called.
    """

    time: int
    path: Path
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSequence:
    """Label images in the order of time.

    Attributes
    ----------
    frames : tuple of Frame
        At least one; times ascend.
    missing : tuple of int
        Times between the first and the last that have no frame.
    notes : tuple of str
        What was found besides, and what is missing.
    stack : bool
        Whether the frames are the planes of one file.
    """

    frames: tuple[Frame, ...]
    missing: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    stack: bool = False

    def read(self, *, connected_components: bool = False) -> Iterator[NDArray[np.int32]]:
        """Read the labels (H, W) of each frame in turn, one at a time.

        Raises
        ------
        ImageFileError
            If one cannot be read, or is no label image, as `instseg.io.label_images.read_labels` says.
        """
        if self.stack:
            yield from read_label_planes(self.frames[0].path, connected_components=connected_components)
            return
        for frame in self.frames:
            yield read_labels(frame.path, connected_components=connected_components)


def find_frames(paths: Sequence[StrPath]) -> FrameSequence:
    """Find the frames that paths stand for: files by the numbers in their names, or the planes of one file.

    Files are ordered as people count: `t2` comes before `t10`. Where one number tells their names apart, that is the
    time of a frame, so that it is known which are missing; numbers may go up by any step.

    Parameters
    ----------
    paths : sequence of path-like
        Label images, folders or patterns; or one TIFF, Zarr or other file of planes.

    Raises
    ------
    InstsegError
        If there are no label images, two have the same number, or planes are not those of a time series.
    """
    found = search_images(paths)
    files = sorted(found.files, key=counted_name)
    if len(files) == 1:
        header = read_header(files[0], max_pixels=None)
        if header.planes > 1:
            return _stack(files[0], header.planes, header.plane_axes, found.notes)
    results = [
        path.name if path.suffix.lower() in LABEL_SUFFIXES and path.is_file() else f"{result_stem(path)}.tif"
        for path in files
    ]
    if len(set(results)) < len(results):
        same = sorted({name for name in results if results.count(name) > 1})
        raise InstsegError(f"frames share the names of their results ({format_names(same)}); give files of one folder")
    times, notes = _times(files)
    present = set(times)
    missing = tuple(time for time in range(times[0], times[-1]) if time not in present)
    if missing:
        several = "frames are" if len(missing) > 1 else "frame is"
        notes.append(
            f"{len(missing)} {several} missing in the series ({format_names(missing)}); objects may be linked over gaps"
        )
    frames = tuple(Frame(*parts) for parts in zip(times, files, results, strict=True))
    return FrameSequence(frames=frames, missing=missing, notes=(*found.notes, *notes))


def _stack(path: Path, planes: int, axes: str, notes: tuple[str, ...]) -> FrameSequence:
    if axes not in _TIME_AXES:
        advice = "save the planes of one time series along T"
        raise ImageFileError(path, f"its planes are along {axes}, expected those of a time series", advice)
    if axes == "Z":
        notes = (*notes, f"the planes of {path} along Z are taken as frames")
    frames = tuple(Frame(time, path, f"{result_stem(path)}-{time:04d}.tif") for time in range(planes))
    return FrameSequence(frames=frames, notes=notes, stack=True)


def _times(files: Sequence[Path]) -> tuple[list[int], list[str]]:
    """Return the times of files in their order, and what is to be said of them."""
    positions = list(range(len(files)))
    parts = [DIGITS.split(stem_of(path)) for path in files]
    varying = [column for column in range(len(parts[0])) if len({tuple(one[column : column + 1]) for one in parts}) > 1]
    if len({path.parent for path in files}) > 1 or len({len(one) for one in parts}) > 1 or len(varying) != 1:
        return positions if len(files) > 1 else _single(parts[0]), []
    (column,) = varying
    if column % 2 == 0:
        return positions, []
    numbers = [int(one[column]) for one in parts]
    if len(set(numbers)) < len(numbers):
        same = next(path.name for path, (one, other) in zip(files, pairwise(numbers), strict=False) if one == other)
        raise InstsegError(f"several frames have the number of {same}; keep one file of each number")
    step = math.gcd(*(other - one for one, other in pairwise(numbers)))
    times = numbers if step == 1 else [(number - numbers[0]) // step for number in numbers]
    if times[-1] - times[0] + 1 > 2 * len(times):
        return positions, ["the numbers in the names are not those of frames, as most would be missing"]
    return times, []


def _single(parts: Sequence[str]) -> list[int]:
    """Return the time of a frame that is alone: the last number in its name, or 0."""
    return [int(parts[-2]) if len(parts) > 1 else 0]
