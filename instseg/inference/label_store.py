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

Lookups = Mapping[TileIndex, NDArray[np.int32]]
"""For each tile, the label of each of its numbers."""


class LabelStore(Protocol):
    """Labels of an image, made of the numbers of its tiles.

    Attributes
    ----------
    shape : tuple of int
        Height and width.
    """

    shape: tuple[int, int]

    def put(self, tile: Tile, numbers: NDArray[np.int32]) -> None:
        """Take the numbers (h, w) of a tile's core; tiles come in the grid's order."""

    def finish(self, lookups: Lookups) -> None:
        """Replace numbers by labels; what `strips` and `array` return is complete from then on."""

    def strips(self, rows: int) -> Iterator[NDArray[np.int32]]:
        """Return the labels from the top, (rows, W) at a time; the last strip may be lower."""

    def array(self) -> NDArray[np.int32]:
        """Return all labels (H, W) in memory."""


class LabelsInMemory:
    """Labels in an array; of a single tile they are taken as they are."""

    def __init__(self, grid: Grid) -> None:
        self.shape = grid.shape
        self._grid = grid
        self._labels = np.zeros((0, 0), np.int32) if len(grid) == 1 else np.zeros(grid.shape, np.int32)

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
    """Labels in a temporary file, a row of tiles after the other.

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
        self._row = np.zeros((0, grid.shape[1]), np.int32)
        self._lookups: Lookups = {}
        with self._write_errors():
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def put(self, tile: Tile, numbers: NDArray[np.int32]) -> None:
        """See `LabelStore.put`."""
        core = tile.core
        if core.left == 0:
            self._row = np.zeros((core.shape[0], self.shape[1]), np.int32)
        self._row[:, core.left : core.right] = numbers
        if core.right == self.shape[1]:
            with self._write_errors():
                self._file.write(self._row.tobytes())
                self._file.flush()

    def finish(self, lookups: Lookups) -> None:
        """See `LabelStore.finish`; numbers are replaced when they are read."""
        self._lookups = lookups

    def strips(self, rows: int) -> Iterator[NDArray[np.int32]]:
        """See `LabelStore.strips`."""
        height, width = self.shape
        self._file.seek(0)
        for top in range(0, height, rows):
            box = Box(top, 0, min(top + rows, height), width)
            numbers = np.frombuffer(self._file.read(box.shape[0] * width * 4), np.int32).reshape(box.shape)
            labels = np.empty_like(numbers)
            for tile in self._grid.tiles_in(box):
                part = tile.core.intersection(box).slices_in(box)
                labels[part] = self._lookups[tile.index][numbers[part]]
            yield labels

    def array(self) -> NDArray[np.int32]:
        """See `LabelStore.array`."""
        return np.concatenate(list(self.strips(512)))

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InstsegError(
                f"cannot keep the labels of {self.shape[0]} x {self.shape[1]} pixels on the disc: "
                f"{error.strerror or error}; make room for {4 * math.prod(self.shape) / 2**30:.1f} GiB"
            ) from error
