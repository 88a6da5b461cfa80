"""Images of Nikon microscopes (ND2), whose frames are read by the library `nd2`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.container import InnerPath
from instseg.io.image_file import ImageFileError
from instseg.io.pixel_size import PixelGeometry
from instseg.io.stored_array import StoredArray
from instseg.optional import require_extra

_POSITION, _CHANNEL, _SAMPLE = "P", "C", "S"


@contextmanager
def open_nd2(path: Path, place: InnerPath) -> Iterator[StoredArray]:
    """Open a position of an ND2 file, the only one if none is named.

    Parameters
    ----------
    path : Path
        As it was given, for messages.
    place : InnerPath
        The file, and the number of a position of the stage from 0.
    """
    require_extra("nd2")
    import nd2

    with nd2.ND2File(str(place.file)) as document:
        values = _Frames(path, document, _find_position(path, document, place.inner))
        yield StoredArray(path, "ND2", values, values.roles, _geometry(document), planewise=True)


def _find_position(path: Path, document: Any, name: str) -> int:
    """Return the number of a position of the stage."""
    count = document.sizes.get(_POSITION, 1)
    if name:
        if not (name.isascii() and name.isdecimal() and int(name) < count):
            raise ImageFileError(path, f"it holds no position {name} (but 0 to {count - 1})", "check the number")
        return int(name)
    if count > 1:
        what = f"it holds {count} positions (0 to {count - 1}), expected one image"
        raise ImageFileError(path, what, f"give one of them, such as {path}:/0")
    return 0


class _Frames:
    """The pixels at a position as an array; a frame is read by indexing with an integer for each of its other axes."""

    def __init__(self, path: Path, document: Any, position: int) -> None:
        self._document = document
        sizes = dict(document.sizes)
        self._channels, self._samples = sizes.pop(_CHANNEL, 1), sizes.pop(_SAMPLE, 1)
        if self._samples > 1 and self._channels > 1:
            what = f"it has {self._channels} channels of {self._samples} samples each, expected gray channels or one"
            raise ImageFileError(path, f"{what} in colours", "save the channels one by one")
        self._height, self._width = sizes.pop("Y"), sizes.pop("X")
        has_positions = sizes.pop(_POSITION, 0) > 0
        names = list(sizes)
        # A file of a single frame has no loops.
        loops: Sequence[Mapping[str, int]] = document.loop_indices or ({},)
        self._frames = {
            tuple(loop[name] for name in names): number
            for number, loop in enumerate(loops)
            if not has_positions or loop[_POSITION] == position
        }
        self.dtype = np.dtype(document.dtype)
        self.roles = (*(name.lower() for name in names), "y", "x", "c")
        self.shape = (*sizes.values(), self._height, self._width, max(self._channels, self._samples))

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[Any]:
        places, (rows, columns, channels) = index[:-3], index[-3:]
        frame = self._document.read_frame(self._frames[tuple(places)])
        # Axes of length 1 are left out of a frame.
        whole = np.asarray(frame).reshape(self._channels, self._height, self._width, self._samples)
        pixels = whole[0] if self._samples > 1 else np.moveaxis(whole[..., 0], 0, -1)
        # The library gives a view of the file's memory, which is gone when the file is closed.
        return np.array(pixels[rows, columns, channels])


def _geometry(document: Any) -> PixelGeometry | None:
    """Return the size of the pixels, which the metadata has in micrometres."""
    with suppress(Exception):  # Damaged metadata says nothing of the pixels, which can be read all the same.
        size = document.voxel_size()
        if 0 < size.x < np.inf and 0 < size.y < np.inf:
            depth = float(size.z) if "Z" in document.sizes and 0 < size.z < np.inf else None
            return PixelGeometry((float(size.y), float(size.x)), None, "micrometer", depth)
    return None
