"""Volumes in files: which axis of an array is the depth, and reading parts (z, y, x, C) as they are stored.

A volume's depth is its axis Z, or its only axis of planes that has no name. What is named T is time, never depth, and
channels are never depth.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.atomic import StrPath, is_zarr
from instseg.io.axes import MAX_SAMPLES, NAMELESS
from instseg.io.container import located
from instseg.io.formats import ARRAY_FORMATS, MAX_PIXELS, open_stored_array, read_header
from instseg.io.image_file import ImageFileError, ImageHeader, decoder_errors, file_format
from instseg.io.pixel_size import PixelGeometry, tiff_volume_geometry
from instseg.io.plane_folder import open_plane_folder
from instseg.io.source import STREAMING_PIXELS
from instseg.io.stored_array import StoredArray
from instseg.io.tiff_pages import TiffImage, open_tiff, tiff_images
from instseg.tiling.grid import Box

# A value of three channels takes the room of one pixel, as for images.
_CHANNELS_OF_PIXEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeHeader:
    """The properties of a volume's file that are known before its voxels are read.

    Attributes
    ----------
    format : str
        As `file_format` names it, or 'folder' of planes.
    shape : (int, int, int)
        Planes, rows, columns. A single plane has 1 plane.
    channels : int
        Values per voxel.
    dtype : str
        NumPy's name of the stored values' type.
    times : int
        How many volumes the file holds, one for each time point.
    geometry : PixelGeometry or None
        The size of the voxels, None where the file says nothing.
    is_labels : bool
        Whether the file says that it holds labels.
    streamed : bool
        Whether the volume is read part by part.
    """

    format: str
    shape: tuple[int, int, int]
    channels: int
    dtype: str
    times: int = 1
    geometry: PixelGeometry | None = None
    is_labels: bool = False
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class StoredVolume:
    """A volume in an open file.

    Attributes
    ----------
    stored : StoredArray
    header : VolumeHeader
    image_header : ImageHeader
        What is known of one of its planes.
    places : tuple of int or slice
        As `StoredArray.read_volume` takes them, for all of the volume.
    """

    stored: StoredArray
    header: VolumeHeader
    image_header: ImageHeader
    places: tuple[int | slice, ...]

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (z, y, x, C) as it is stored; alpha counts as a channel."""
        depth, rows, columns = (slice(*ends) for ends in zip(box.begin, box.end, strict=True))
        places = tuple(depth if isinstance(place, slice) else place for place in self.places)
        return self.stored.read_volume(places, rows, columns)


@contextmanager
def open_stored_volume(path: Path, *, time: int | None = None) -> Iterator[StoredVolume]:
    """Open the volume of a file.

    Parameters
    ----------
    path : Path
        Of a file, of a part of one, of Zarr, or of a folder of planes.
    time : int, optional
        Which of several time points, from 0.

    Raises
    ------
    ImageFileError
        If the file cannot be read, or its axes are none of a volume.
    """
    path = located(path)
    with ExitStack() as stack:
        with decoder_errors(path):
            stored, plane = _open(path, stack)
            volume = _describe(path, stored, plane, time)
        # Not within what is set for decoders: a volume may stay open for long, and be closed by another thread.
        yield volume


def read_volume_header(path: StrPath, *, time: int | None = None) -> VolumeHeader:
    """Read the header of a volume, without its voxels.

    A file of a single plane has a header of one plane; `require_depth` refuses it.

    Raises
    ------
    ImageFileError
        If it cannot be read or its axes are none of a volume, as `open_volume` says.
    """
    with open_stored_volume(Path(path), time=time) as volume:
        return volume.header


def require_moderate_size(path: Path, header: VolumeHeader) -> None:
    """Check that a volume has at most `MAX_PIXELS` voxels, so that it may be read at once.

    Raises
    ------
    ImageFileError
        If it has more.
    """
    voxels = math.prod(header.shape) * max(1.0, header.channels / _CHANNELS_OF_PIXEL)
    if voxels > MAX_PIXELS:
        what = f"it has {' x '.join(map(str, header.shape))} voxels"
        channels = f" of {header.channels} channels" if header.channels > 1 else ""
        raise ImageFileError(
            path, f"{what}{channels}, more than the {MAX_PIXELS:,} that are read at once", "cut it into blocks"
        )


def require_depth(path: Path, header: VolumeHeader) -> None:
    """Check that a volume has more than one plane.

    Raises
    ------
    ImageFileError
        If it has one.
    """
    if header.shape[0] > 1:
        return
    what = f"it is one plane of {header.shape[1]} x {header.shape[2]} pixels, expected a volume (Z, Y, X)"
    advice = "predict it as an image, without `volume`"
    if header.channels > MAX_SAMPLES:
        what = f"it has {header.channels} channels and one plane, expected planes along Z"
        advice = "if the channels are its depth, save it with the axes ZYX (in tifffile: metadata={'axes': 'ZYX'})"
    raise ImageFileError(path, what, advice)


def _open(path: Path, stack: ExitStack) -> tuple[StoredArray, ImageHeader]:
    """Open any file as an array, and return what holds for each of its planes."""
    if path.is_dir() and not is_zarr(path):
        return open_plane_folder(path)
    kind = file_format(path)
    if kind in ARRAY_FORMATS:
        stored = stack.enter_context(open_stored_array(path, kind, planes=True))
        return stored, replace(stored.header, planes=1, plane_axes="")
    if kind != "TIFF":
        header = read_header(path)
        what = (
            f"it is a {header.format} of planes along {header.plane_axes}" if header.planes > 1 else f"it is a {kind}"
        )
        raise ImageFileError(
            path, f"{what}, expected a volume", "give a file with planes along Z, such as a TIFF stack"
        )
    read_header(path, max_pixels=None)
    tiff = stack.enter_context(open_tiff(path))
    images = tiff_images(path, tiff)
    if len(images) > 1:
        sizes = {(image.header.height, image.header.width) for image in images}
        what = f"it holds {len(images)} images" + (" of different sizes" if len(sizes) > 1 else "")
        raise ImageFileError(path, f"{what}, expected one volume", "save the volume in a file of its own")
    image = images[0]
    values = _TiffValues(image)
    roles = (*(role for role, _ in image.plane_sizes), "y", "x", "c")
    stored = StoredArray(path, "TIFF", values, roles, tiff_volume_geometry(tiff), planewise=True)
    return stored, replace(image.header, planes=1, plane_axes="")


class _TiffValues:
    """The pixels of a TIFF as an array; a plane is read by an index for each axis of planes."""

    def __init__(self, image: TiffImage) -> None:
        header = image.header
        self._image = image
        self._sizes = tuple(size for _, size in image.plane_sizes)
        self.shape = (*self._sizes, header.height, header.width, header.channels)
        self.dtype = np.dtype(header.dtype)

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[Any]:
        number = int(np.ravel_multi_index(index[:-3], self._sizes)) if self._sizes else 0
        return self._image.read_plane(number, *index[-3:-1])


def _describe(path: Path, stored: StoredArray, plane: ImageHeader, time: int | None) -> StoredVolume:
    sizes = stored.plane_sizes
    depth = _depth_axis(path, sizes)
    times = max([size for role, size in sizes if role == "t"], default=1)
    index = _time_index(path, times, time)
    places = tuple(
        slice(0, size) if number == depth else index if role == "t" else 0 for number, (role, size) in enumerate(sizes)
    )
    channels = 3 if plane.colour == "palette" else plane.channels - plane.alpha
    shape = (1 if depth is None else sizes[depth][1], plane.height, plane.width)
    header = VolumeHeader(
        format=stored.kind,
        shape=shape,
        channels=channels,
        dtype=plane.dtype,
        times=times,
        geometry=stored.geometry,
        is_labels=stored.is_labels,
        streamed=math.prod(shape) * max(1.0, channels / _CHANNELS_OF_PIXEL) > STREAMING_PIXELS,
    )
    return StoredVolume(stored, header, plane, places)


def _depth_axis(path: Path, sizes: list[tuple[str, int]]) -> int | None:
    """Return which axis of planes is the depth, None for a single plane."""
    roles = [role for role, _ in sizes]
    nameless = [number for number, (role, size) in enumerate(sizes) if role == NAMELESS and size > 1]
    depth: int | None
    if "z" in roles:
        depth = roles.index("z")
    elif len(nameless) > 1:
        shown = " x ".join(str(sizes[number][1]) for number in nameless)
        what = f"it has {shown} planes along axes without names, expected planes along Z"
        raise ImageFileError(path, what, "name its axes, or save one volume of it")
    else:
        depth = nameless[0] if nameless else None
    several = {role: size for number, (role, size) in enumerate(sizes) if size > 1 and number != depth}
    if depth is None and several.keys() == {"t"}:
        what = f"its {several['t']} planes are along T, expected planes along Z"
        raise ImageFileError(path, what, "predict every plane by `planes=True`; or, if T is its depth, name the axis Z")
    if several.keys() - {"t"}:
        shown = " and ".join(
            f"{size} along {role.upper() or 'an axis without a name'}" for role, size in several.items()
        )
        raise ImageFileError(path, f"besides its depth it has {shown}, expected one volume", "save one volume of it")
    return depth


def _time_index(path: Path, times: int, time: int | None) -> int:
    if time is None and times > 1:
        what = f"it holds a volume for each of {times} time points, expected one volume"
        raise ImageFileError(path, what, f"choose one by `time` (0 to {times - 1})")
    if time is not None and not 0 <= time < times:
        have = f"{times} time points (0 to {times - 1})" if times > 1 else "one time point (0)"
        raise ImageFileError(path, f"it has {have}, and the time {time} is asked for", "choose another `time`")
    return time or 0
