"""Where an image's labels lie while its tiles come in, and after: in memory, or in a file that goes with the object."""

import math
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.tiling.grid import Box, Grid, Tile, TileIndex

# As many are put in place at once, with as much memory again.
_STRIP_PIXELS = 2**23

Lookups = Mapping[TileIndex, NDArray[np.int32]]
"""For each tile, the label of each of its numbers."""


class LabelStore(Protocol):
    """Labels of an image or a volume, made of the numbers of its tiles.

    Attributes
    ----------
    shape : tuple of int
        Height and width, or planes, height and width.
    """

    shape: tuple[int, ...]

    def put(self, tile: Tile, numbers: NDArray[np.int32]) -> None:
        """Take the numbers of a tile's core, of its shape; they are 0 in tiles that are never put, unless it is one."""

    def finish(self, lookups: Lookups) -> None:
        """Replace numbers by labels; what `strips` and `array` return is complete from then on."""

    def strips(self, rows: int) -> Iterator[NDArray[np.int32]]:
        """Return the labels from the top, (rows, W) or (planes, H, W) at a time; the last strip may be lower."""

    def array(self) -> NDArray[np.int32]:
        """Return all labels in memory."""


class LabelsInMemory:
    """Labels in an array; of a single tile they are taken as they are."""

    def __init__(self, grid: Grid) -> None:
        self.shape = grid.shape
        self._grid = grid
        self._labels = np.zeros(grid.shape if len(grid) > 1 else (0,) * len(grid.shape), np.int32)

    def put(self, tile: Tile, numbers: NDArray[np.int32]) -> None:
        """See `LabelStore.put`."""
        if len(self._grid) == 1:
            self._labels = numbers
        else:
            self._labels[tile.core.slices_in(self._grid.box)] = numbers

    def finish(self, lookups: Lookups) -> None:
        """See `LabelStore.finish`."""
        for index, label_of in lookups.items():
            core = self._labels[self._grid.tile(*index).core.slices_in(self._grid.box)]
            core[...] = label_of[core]

    def strips(self, rows: int) -> Iterator[NDArray[np.int32]]:
        """See `LabelStore.strips`."""
        yield from (self._labels[top : top + rows] for top in range(0, len(self._labels), rows))

    def array(self) -> NDArray[np.int32]:
        """See `LabelStore.array`."""
        return self._labels


class LabelsOnDisk:
    """Labels in a temporary file, one tile's core after the other, as they come.

    Parameters
    ----------
    grid : Grid
    folder : Path
        Where the file lies; it has no name and goes with this object.

    Raises
    ------
    InstsegError
        If the file cannot be made, or not be written for lack of space.
    """

    def __init__(self, grid: Grid, folder: Path) -> None:
        self.shape = grid.shape
        self._grid = grid
        self._begins: dict[TileIndex, int] = {}
        self._end = 0
        self._lookups: Lookups = {}
        with self._write_errors():
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def put(self, tile: Tile, numbers: NDArray[np.int32]) -> None:
        """See `LabelStore.put`."""
        with self._write_errors():
            self._file.seek(self._end)
            self._file.write(np.ascontiguousarray(numbers, np.int32).data)
            self._file.flush()
        self._begins[tile.index] = self._end
        self._end += 4 * numbers.size

    def finish(self, lookups: Lookups) -> None:
        """See `LabelStore.finish`; numbers are replaced when they are read."""
        self._lookups = lookups

    def strips(self, rows: int) -> Iterator[NDArray[np.int32]]:
        """See `LabelStore.strips`."""
        for top in range(0, self.shape[0], rows):
            box = self._grid.box.with_bounds(0, top, min(top + rows, self.shape[0]))
            labels = np.empty(box.shape, np.int32)
            for tile in self._grid.tiles_in(box):
                part = tile.core.with_bounds(0, *tile.core.intersection(box)[:: box.ndim])
                labels[part.slices_in(box)] = self._lookups[tile.index][self._read(tile, part)]
            yield labels

    def _read(self, tile: Tile, part: Box) -> NDArray[np.int32]:
        """Return the numbers in some rows of a tile's core, or in some planes, which lie side by side."""
        if tile.index not in self._begins:
            return np.zeros(part.shape, np.int32)
        row = 4 * math.prod(part.shape[1:])
        self._file.seek(self._begins[tile.index] + (part.begin[0] - tile.core.begin[0]) * row)
        return np.frombuffer(self._file.read(part.shape[0] * row), np.int32).reshape(part.shape)

    def array(self) -> NDArray[np.int32]:
        """See `LabelStore.array`."""
        rows = max(1, _STRIP_PIXELS // math.prod(self.shape[1:]))
        labels = np.empty(self.shape, np.int32)
        for number, strip in enumerate(self.strips(rows)):
            labels[number * rows : number * rows + len(strip)] = strip
        return labels

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InstsegError(
                f"cannot keep the labels of {' x '.join(map(str, self.shape))} pixels on the disc: "
                f"{error.strerror or error}; make room for {4 * math.prod(self.shape) / 2**30:.1f} GiB"
            ) from error
