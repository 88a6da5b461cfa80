"""The planes of a TIFF as tifffile groups its pages: read one by one, wherever they lie in the file."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.axes import NAMELESS, axis_role
from instseg.io.tiff_claims import guard_decoder, require_whole_page
from instseg.io.tiff_parts import WHOLE, read_part

# tifffile's names of axes that the file says nothing about.
NAMELESS_AXES = "IQ"


class SeriesPlanes:
    """The planes of a series of tifffile.

    Each is a page of its own, or a part of one run of values that is mapped, or, where neither holds, a part of all
    values, which are read at once when the first plane is asked for.

    Parameters
    ----------
    path : Path
    series : tifffile.TiffPageSeries
    channel : str
        The name of the axis of channels, whether the series has it or not.
    """

    def __init__(self, path: Path, series: Any, channel: str) -> None:
        self._path, self._series, self._channel = path, series, channel
        axes, shape = series.axes, series.shape
        # The axes of what lies together: rows, columns and perhaps samples of a plane.
        start = min(axes.index(axis) for axis in "YXS" if axis in axes)
        self._own, self._own_shape = axes[start:], shape[start:]
        places = np.arange(math.prod(shape[:start])).reshape(shape[:start])
        self._part: Callable[[int, slice, slice], NDArray[Any]] | None = None
        if self._own in ("YX", "YXS", "SYX"):
            if places.size == len(series._pages) and series.keyframe.axes == self._own:
                self._part = self._page
            elif series.dataoffset is not None:
                self._part = self._mapped
        places = np.moveaxis(places, axes.index(channel), -1) if channel in axes[:start] else places[..., None]
        self._places = places.reshape(-1, places.shape[-1])
        self._whole: NDArray[Any] | None = None

    def read(self, number: int, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[Any]:
        """Return a part (h, w, C) of a plane as it is stored."""
        if self._part is None:
            if self._whole is None:
                self._whole = self.read_all()
            return np.asarray(self._whole[number, rows, columns])
        parts = [self._part(int(place), rows, columns) for place in self._places[number]]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def read_all(self) -> NDArray[Any]:
        """Return the pixels (planes, H, W, C) of all planes as they are stored.

        Raises
        ------
        ValueError
            If pages, or tiles or strips of them, are missing.
        """
        series, channel = self._series, self._channel
        for page in series._pages:
            self._check(page)
        pixels = np.asarray(series.asarray()).reshape(series.shape)
        pixels, names = (pixels, series.axes) if channel in series.axes else (pixels[..., None], series.axes + channel)
        pixels = np.moveaxis(pixels, [names.index(axis) for axis in ("Y", "X", channel)], (-3, -2, -1))
        return pixels.reshape(-1, *pixels.shape[-3:])

    def _check(self, page: Any) -> None:
        if page is None:
            raise ValueError("it lacks pages that its description names")
        require_whole_page(page)
        guard_decoder(page.keyframe)

    def _page(self, place: int, rows: slice, columns: slice) -> NDArray[Any]:
        page = self._series._pages[place]
        self._check(page)
        return read_part(page, rows, columns)

    def _mapped(self, place: int, rows: slice, columns: slice) -> NDArray[Any]:
        """Copy a part of a run of values; the file is mapped anew for it, as pages of a mapping count as memory."""
        page = self._series.keyframe
        dtype = np.dtype(self._series.dtype).newbyteorder(page.parent.byteorder)
        offset = self._series.dataoffset + place * math.prod(self._own_shape) * dtype.itemsize
        mapped: NDArray[Any] = np.memmap(self._path, dtype, "r", offset, self._own_shape)
        values = np.moveaxis(mapped, 0, -1) if self._own == "SYX" else mapped.reshape(*mapped.shape[:2], -1)
        return np.array(values[rows, columns], dtype.newbyteorder("="))


def named_sizes(series: Any, several: list[str]) -> tuple[tuple[str, int], ...]:
    """Return the role and the size of each axis along which there are planes, '' for the role of one without a name."""
    sizes = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if axis in several and size > 1]
    return tuple(
        (NAMELESS if axis in NAMELESS_AXES else axis_role(axis.lower()) or axis.lower(), size) for axis, size in sizes
    )
