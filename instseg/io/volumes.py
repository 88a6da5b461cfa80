"""One description of a volume, whatever it comes from: an array, or a file that is read at once or part by part."""

import math
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.errors import UsageError, check_parameter
from instseg.io.atomic import StrPath, is_zarr
from instseg.io.container import located
from instseg.io.folders import FoundImages, search_images
from instseg.io.formats import read_header
from instseg.io.image_file import ImageFileError, decoder_errors
from instseg.io.images import image_dtype, to_image
from instseg.io.pixel_size import PixelGeometry
from instseg.io.plane_folder import has_gaps, is_plane_folder
from instseg.io.stored_volume import (
    StoredVolume,
    VolumeHeader,
    open_stored_volume,
    read_volume_header,
    require_depth,
    require_moderate_size,
)
from instseg.tiling.grid import Box

_CUBES = (1.0, 1.0, 1.0)
# Sizes of voxels that differ by less than this part are the same.
_SAME_SIZE = 0.01


class VolumeReader(Protocol):
    """A volume whose parts can be read: `ArrayVolume` or `FileVolume`.

    Attributes
    ----------
    shape : tuple of int
        (Z, Y, X, C)
    streamed : bool
        Whether parts are read from the file when they are needed, as the volume need not fit into memory.
    notes : tuple of str
        What the user is to be told of it.
    geometry : PixelGeometry or None
        The size and the position of its voxels; None where nothing is known.
    """

    shape: tuple[int, int, int, int]
    streamed: bool
    notes: tuple[str, ...]
    geometry: PixelGeometry | None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The size of a voxel along Z, Y and X, divided by that along X; ones where it is not known."""

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (z, y, x, C) of it: uint8, uint16, int16 or float32, one type for the whole volume."""

    def close(self) -> None:
        """Close the file."""


class ArrayVolume:
    """A volume in memory.

    Parameters
    ----------
    volume : (Z, Y, X) or (Z, Y, X, C) of numbers
    spacing : sequence of float, optional
        The size of a voxel along Z, Y and X; it goes before that of `geometry`.
    geometry : PixelGeometry, optional

    Raises
    ------
    UsageError
        If the volume has another number of axes or no voxels, or the spacing is none.
    """

    streamed = False

    def __init__(
        self, volume: ArrayLike, *, spacing: Sequence[float] | None = None, geometry: PixelGeometry | None = None
    ) -> None:
        array: NDArray[Any] = np.asarray(volume)
        if array.ndim not in (3, 4) or array.size == 0:
            raise UsageError(f"the volume has shape {array.shape}, expected (Z, Y, X) or (Z, Y, X, C)")
        self.array = array if array.ndim == 4 else array[..., None]
        depth, height, width, channels = self.array.shape
        self.shape = (depth, height, width, channels)
        self.geometry, self.notes = _sized(geometry, spacing)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """See `VolumeReader`."""
        return _relative(self.geometry)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a view of a part."""
        return self.array[tuple(slice(*ends) for ends in zip(box.begin, box.end, strict=True))]

    def close(self) -> None:
        """Nothing is open."""


class FileVolume:
    """A volume of which parts are read from its file, which stays open.

    Parameters
    ----------
    path : Path
    spacing, time
        As `open_volume` takes them.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """

    streamed = True

    def __init__(self, path: Path, *, spacing: Sequence[float] | None = None, time: int | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        with ExitStack() as stack:
            self._volume = stack.enter_context(open_stored_volume(path, time=time))
            header = self._volume.header
            _require_image(path, header)
            self.shape = (*header.shape, header.channels)
            self.dtype = image_dtype(np.dtype(header.dtype))
            self.geometry, self.notes = _sized(header.geometry, spacing)
            # Only where something of this fails, the file is closed here.
            self._open = stack.pop_all()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """See `VolumeReader`."""
        return _relative(self.geometry)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (z, y, x, C); threads may read at the same time, and wait for each other.

        Raises
        ------
        ImageFileError
            If what is stored there is damaged, or its values are NaN, infinite or beyond 16 bit.
        """
        with self._lock, decoder_errors(self._path):
            return _read_part(self._path, self._volume, box, self.dtype)

    def close(self) -> None:
        """Close the file."""
        self._open.close()


def open_volume(path: StrPath, *, spacing: Sequence[float] | None = None, time: int | None = None) -> VolumeReader:
    """Read a volume, or open one of more than `STREAMING_PIXELS` voxels to be streamed.

    Parameters
    ----------
    path : path-like
        A TIFF stack (of ImageJ and OME-TIFF, too), OME-Zarr, a NumPy or HDF5 file, CZI, ND2, or a folder of images that
        are its planes. The depth is the axis Z, or the only axis of planes that has no name.
    spacing : sequence of float, optional
        The size of a voxel along Z, Y and X, in any unit; it goes before what the file says.
    time : int, optional
        Which of several time points, from 0.

    Raises
    ------
    ImageFileError
        If it cannot be read, is no volume, has one plane, or holds several time points and none is chosen.
    UsageError
        If the spacing is none.
    """
    path = located(Path(path))
    if spacing is not None:
        check_spacing(spacing)
    with open_stored_volume(path, time=time) as volume:
        header = volume.header
        _require_image(path, header)
        require_depth(path, header)
        if not header.streamed:
            with decoder_errors(path):
                array = _read_part(path, volume, Box.whole(header.shape), None)
            return ArrayVolume(array, spacing=spacing, geometry=header.geometry)
    return FileVolume(path, spacing=spacing, time=time)


def read_volume(path: StrPath, *, time: int | None = None) -> NDArray[Any]:
    """Read a volume; parameters and errors are those of `open_volume`.

    Returns
    -------
    (Z, Y, X, C) uint8, uint16, int16 or float32
        By the rules of `read_image`.

    Raises
    ------
    ImageFileError
        As `open_volume` does, or if it has more than `MAX_PIXELS` voxels.
    """
    require_moderate_size(Path(path), read_volume_header(path, time=time))
    reader = open_volume(path, time=time)
    try:
        return reader.read(whole_volume(reader))
    finally:
        reader.close()


def is_volume(path: StrPath) -> bool:
    """Return whether a file holds several planes along Z, or along an axis without a name; only its header is read.

    Of an image, planes without a name may be channels. Of labels, they are always a depth.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """
    path = located(Path(path))
    if path.is_dir() and not is_zarr(path):
        return False
    if not is_zarr(path):
        header = read_header(path, max_pixels=None)
        if header.planes == 1 or "Z" not in (header.plane_axes or "Z").split(" and "):
            return False
    try:
        # All time points have the same depth.
        return read_volume_header(path, time=0).shape[0] > 1
    except ImageFileError:
        return False


def find_volumes(paths: Sequence[StrPath], *, results: Iterable[Path] = ()) -> FoundImages:
    """Find volumes as `search_images` finds images; a folder whose images are single planes is one volume itself.

    Raises
    ------
    InstsegError
        If a path does not exist, or holds or matches no image.
    """
    found: set[Path] = set()
    notes: list[str] = []
    others: list[StrPath] = []
    for path in map(Path, paths):
        folder = located(path)
        if folder.is_dir() and not is_zarr(folder) and is_plane_folder(folder):
            found.add(folder)
            notes.append(f"the images in {folder} are taken as the planes of one volume")
            if has_gaps(folder):
                notes.append(f"numbers are missing among the planes in {folder}, which are taken as evenly apart")
        else:
            others.append(path)
    if others or not found:
        images = search_images(others, results=results)
        found.update(images.files)
        notes = [*images.notes, *notes]
    return FoundImages(tuple(sorted(found)), tuple(notes))


def check_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return the size of a voxel along Z, Y and X as three floats.

    Raises
    ------
    UsageError
        If it is not three finite numbers above 0.
    """
    expected = "three numbers above 0, the size of a voxel along Z, Y and X"
    try:
        sizes = [float(size) for size in spacing]
    except (TypeError, ValueError):
        sizes = []
    check_parameter(len(sizes) == 3 and all(0 < size < math.inf for size in sizes), "spacing", spacing, expected)
    return sizes[0], sizes[1], sizes[2]


def whole_volume(volume: VolumeReader) -> Box:
    """Return the box of a whole volume."""
    return Box.whole(volume.shape[:3])


def _require_image(path: Path, header: VolumeHeader) -> None:
    if header.is_labels:
        raise ImageFileError(path, "it holds labels, expected an image", "give the image")


def _read_part(path: Path, volume: StoredVolume, box: Box, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    """Return a part (z, y, x, C) with the values of images, of one type where it is given."""
    where = "" if dtype is None else " in the part that was read"
    values = to_image(path, volume.read(box), volume.image_header, where)
    if dtype is not None and dtype.kind == "u" and values.dtype.kind == "i":
        what = f"its values go from {values.min()} to {values.max()}{where}, expected 0 to 65535"
        raise ImageFileError(path, what, "save it as signed 16 bit (int16) or as 32-bit float")
    return values if dtype is None else values.astype(dtype, copy=False)


def _sized(
    geometry: PixelGeometry | None, spacing: Sequence[float] | None
) -> tuple[PixelGeometry | None, tuple[str, ...]]:
    """Return the geometry of a volume, whose spacing may have been given, and what is to be said of it."""
    if spacing is None:
        if geometry is not None and geometry.depth is not None:
            return geometry, ()
        what = "how far apart planes are" if geometry is not None else "the size of voxels"
        return geometry, (f"{what} is not known, and voxels are taken for cubes; give `spacing` if they are not",)
    depth, height, width = check_spacing(spacing)
    if geometry is None:
        return PixelGeometry((height, width), depth=depth), ()
    same = all(
        abs(one - other) <= _SAME_SIZE * other for one, other in zip((height, width), geometry.pixel_size, strict=True)
    )
    # In the unit of the file only where the given size of a pixel is that of the file.
    sized = PixelGeometry(
        (height, width), geometry.position if same else None, geometry.unit if same else None, depth,
        geometry.depth_position if same else None,
    )  # fmt: skip
    known, given = geometry.relative_spacing, sized.relative_spacing
    if known is None or given is None or np.allclose(known, given, rtol=_SAME_SIZE):
        return sized, ()
    shown = " : ".join(f"{size:.4g}" for size in known)
    return sized, (f"`spacing` is taken for the sizes of voxels, although it is {shown} by the file",)


def _relative(geometry: PixelGeometry | None) -> tuple[float, float, float]:
    return _CUBES if geometry is None else geometry.relative_spacing or _CUBES
