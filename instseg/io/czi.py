"""Images of Zeiss microscopes (CZI), whose parts are read by Zeiss's own library, mosaics and pyramids included."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.io.container import InnerPath
from instseg.io.image_file import ImageFileError
from instseg.io.pixel_size import PixelGeometry
from instseg.io.stored_array import StoredArray
from instseg.optional import require_extra

# The types of pixels that are images, as the library names them: NumPy's type and the samples of a pixel.
_TYPES = {
    "Gray8": (np.uint8, 1),
    "Gray16": (np.uint16, 1),
    "Gray32Float": (np.float32, 1),
    "Bgr24": (np.uint8, 3),
    "Bgr48": (np.uint16, 3),
}
_LENGTH = r'<Distance Id="{}">\s*<Value>([^<]{{1,40}})</Value>'


@contextmanager
def open_czi(path: Path, place: InnerPath) -> Iterator[StoredArray]:
    """Open a scene of a CZI file, the only one if none is named.

    Parameters
    ----------
    path : Path
        As it was given, for messages.
    place : InnerPath
        The file, and the number of a scene from 0.
    """
    require_extra("czi")
    from pylibCZIrw import czi

    with czi.open_czi(str(place.file)) as document:
        values = _Scene(path, document, _scene(path, document, place.inner))
        yield StoredArray(path, "CZI", values, values.roles, _geometry(document), planewise=True)


def _scene(path: Path, document: Any, name: str) -> int | None:
    """Return the number of a scene; None stands for the whole of a file without scenes."""
    scenes = sorted(document.scenes_bounding_rectangle)
    if name:
        if not (name.isascii() and name.isdecimal() and int(name) in scenes):
            what = f"it holds no scene {name} (but {', '.join(map(str, scenes)) or 'no scenes'})"
            raise ImageFileError(path, what, "check the number")
        return int(name)
    if len(scenes) > 1:
        what = f"it holds {len(scenes)} scenes ({scenes[0]} to {scenes[-1]}), expected one image"
        raise ImageFileError(path, what, f"give one of them, such as {path}:/{scenes[0]}")
    return scenes[0] if scenes else None


class _Frame(NamedTuple):
    left: int
    top: int
    width: int
    height: int


class _Scene:
    """The pixels of a scene as an array; parts of it are read by indexing with an integer or a slice for each axis."""

    def __init__(self, path: Path, document: Any, scene: int | None) -> None:
        self._document, self._scene = document, scene
        box = document.total_bounding_box
        self._frame = self._find_frame(box)
        kinds = set(document.pixel_types.values())
        if len(kinds) != 1 or not kinds <= _TYPES.keys():
            what = f"its pixels are {', '.join(sorted(kinds)) or 'of no type'}, expected one of {', '.join(_TYPES)}"
            raise ImageFileError(path, what, "export it as OME-TIFF")
        kind, samples = _TYPES[kinds.pop()]
        self.dtype = np.dtype(kind)
        self._starts = {name: start for name, (start, stop) in box.items() if name not in "XYC"}
        sizes = {name: box[name][1] - box[name][0] for name in self._starts}
        channels = box["C"][1] - box["C"][0] if "C" in box else 1
        if samples > 1 and channels > 1:
            what = f"it has {channels} channels of {samples} samples each, expected gray channels or one in colours"
            raise ImageFileError(path, what, "save the channels one by one")
        self._channels = range(box["C"][0], box["C"][1]) if "C" in box else range(1)
        self._samples = samples
        self._names = list(self._starts)
        self.roles = (*(name.lower() for name in self._names), "y", "x", "c")
        self.shape = (*sizes.values(), self._frame.height, self._frame.width, max(channels, samples))
        if math.prod(self.shape) >= 2**62 or min(self.shape) < 1:
            raise ValueError(f"it claims {self.shape} pixels")

    def _find_frame(self, box: Any) -> _Frame:
        if self._scene is not None:
            return _Frame(*self._document.scenes_bounding_rectangle[self._scene])
        (left, right), (top, bottom) = box["X"], box["Y"]
        return _Frame(left, top, right - left, bottom - top)

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[Any]:
        places, (rows, columns, _) = index[:-3], index[-3:]
        top, bottom, _ = rows.indices(self._frame.height)
        left, right, _ = columns.indices(self._frame.width)
        area = (self._frame.left + left, self._frame.top + top, right - left, bottom - top)
        plane = {name: self._starts[name] + place for name, place in zip(self._names, places, strict=True)}
        options = {} if self._scene is None else {"scene": self._scene}
        parts = [self._document.read(roi=area, plane={**plane, "C": one}, **options) for one in self._channels]
        # Colours are stored from blue to red.
        pixels = parts[0][..., ::-1] if self._samples > 1 else np.concatenate(parts, axis=-1)
        if pixels.shape != (bottom - top, right - left, self.shape[-1]):
            raise ValueError(f"it gives {pixels.shape} for {bottom - top} x {right - left} pixels")
        return pixels


def _geometry(document: Any) -> PixelGeometry | None:
    """Return the size of the pixels, which the metadata has in metres."""
    with suppress(Exception):  # Damaged metadata says nothing of the pixels, which can be read all the same.
        text = document.raw_metadata
        found = [re.search(_LENGTH.format(axis), text) for axis in "ZYX"]
        depth, height, width = (math.nan if match is None else float(match[1]) * 1e6 for match in found)
        if 0 < height < math.inf and 0 < width < math.inf:
            return PixelGeometry((height, width), None, "micrometer", depth if 0 < depth < math.inf else None)
    return None
