"""Maps of a volume, made in one order and read in another: in memory, or in a file that goes with the object."""

import itertools
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from instseg.errors import InstsegError
from instseg.tiling.grid import Box

CHUNK = 16
"""The side of the cubes in which voxels lie together in the file."""
# Planes that wait until all of their cubes are there take no more than this, unless a single one does.
_WAITING_BYTES = 2**29


class Scratch:
    """Some values for each voxel of a volume.

    In a file, cubes of `CHUNK` voxels lie together, so that parts along any axis touch few places. Reading and writing
    take the memory of the part itself and of one row of cubes.

    Parameters
    ----------
    shape : (int, int, int)
        Planes, rows and columns.
    channels : int
        Values for each voxel.
    dtype : dtype-like
        Their type.
    folder : Path, optional
        Where the file lies, which has no name and goes with this object; without it, the values lie in memory.

    Attributes
    ----------
    shape : (int, int, int)
    channels : int
    dtype : numpy.dtype

    Raises
    ------
    InstsegError
        If the disc has no room for the file, or it cannot be made.
    """

    def __init__(
        self, shape: Sequence[int], channels: int, dtype: DTypeLike = np.float16, *, folder: Path | None = None
    ) -> None:
        depth, height, width = shape
        self.shape, self.channels, self.dtype = (depth, height, width), channels, np.dtype(dtype)
        self._counts = tuple(-(-side // CHUNK) for side in self.shape)
        self._cube = (CHUNK, CHUNK, CHUNK, channels)
        self._cube_bytes = math.prod(self._cube) * self.dtype.itemsize
        self._array: NDArray[Any] | None = None
        if folder is None:
            self._array = np.zeros((*self.shape, channels), self.dtype)
            return
        with self._disc_errors():
            require_room(folder, self.shape, self.size)
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            self._file = file.fileno()
            self._finalizer = weakref.finalize(self, file.close)
            # What was never written reads as zeros, and takes no room.
            file.truncate(self.size)

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return math.prod(self._counts) * self._cube_bytes

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """Write a part.

        Parts that begin and end at multiples of `CHUNK`, or at the edge of the volume, are written at once; of others
        the cubes around them are read before.

        Parameters
        ----------
        box : Box
            Of three axes.
        values : (z, y, x, K)

        Raises
        ------
        InstsegError
            If the disc is full.
        """
        if self._array is not None:
            self._array[_slices(box)] = values
            return
        with self._disc_errors():
            for offset, cubes, part in self._rows(box):
                inner = part.slices_in(cubes)
                covered = all(
                    begin == first and end >= min(last, side)
                    for begin, end, first, last, side in zip(
                        part.begin, part.end, cubes.begin, cubes.end, self.shape, strict=True
                    )
                )
                row = np.zeros((*cubes.shape, self.channels), self.dtype) if covered else self._read_row(offset, cubes)
                row[inner] = values[part.slices_in(box)]
                self._write_row(offset, row)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (z, y, x, K); what was never written is 0.

        In memory it is a view.

        Raises
        ------
        InstsegError
            If the disc cannot be read.
        """
        if self._array is not None:
            return self._array[_slices(box)]
        values = np.empty((*box.shape, self.channels), self.dtype)
        with self._disc_errors():
            for offset, cubes, part in self._rows(box):
                values[part.slices_in(box)] = self._read_row(offset, cubes)[part.slices_in(cubes)]
        return values

    @contextmanager
    def planes(self, axis: int) -> Iterator[Callable[[NDArray[Any]], None]]:
        """Write the volume plane by plane: the block is given a function that takes the next planes.

        Planes wait until there are `CHUNK` of them, so that every cube is written once, or fewer where these would take
        half a GiB and more.

        Parameters
        ----------
        axis : int
            0, 1 or 2: planes follow each other along it.

        Yields
        ------
        callable
            Takes (n, H, W, K): the next n planes along the axis, whose other two axes are in their order.
        """
        others = [side for number, side in enumerate(self.shape) if number != axis]
        most, plane_bytes = CHUNK, math.prod(others) * self.channels * self.dtype.itemsize
        while most > 1 and most * plane_bytes > _WAITING_BYTES:
            most //= 2
        pending = np.zeros((most, *others, self.channels), self.dtype)
        first, held = 0, 0

        def flush() -> None:
            nonlocal first, held
            begin, end = [0, 0, 0], list(self.shape)
            begin[axis], end[axis] = first, first + held
            self.write(Box(*begin, *end), np.moveaxis(pending[:held], 0, axis))
            first, held = first + held, 0

        def put(values: NDArray[Any]) -> None:
            nonlocal held
            taken = 0
            while taken < len(values):
                count = min(most - held, len(values) - taken)
                pending[held : held + count] = values[taken : taken + count]
                held, taken = held + count, taken + count
                if held == most:
                    flush()

        yield put
        if held:
            flush()

    def close(self) -> None:
        """Remove the file, or free the memory."""
        if self._array is None:
            self._finalizer()
        else:
            self._array = np.zeros((0, 0, 0, self.channels), self.dtype)

    def _rows(self, box: Box) -> Iterator[tuple[int, Box, Box]]:
        """Return the rows of cubes that a part touches: where each lies in the file, its box, and the part in it."""
        planes, rows, columns = (
            range(begin // CHUNK, -(-end // CHUNK)) for begin, end in zip(box.begin, box.end, strict=True)
        )
        for plane, row in itertools.product(planes, rows):
            number = (plane * self._counts[1] + row) * self._counts[2] + columns.start
            first, last = (plane, row, columns.start), (plane + 1, row + 1, columns.stop)
            cubes = Box(*(CHUNK * one for one in first), *(CHUNK * one for one in last))
            yield number * self._cube_bytes, cubes, cubes.intersection(box)

    def _read_row(self, offset: int, cubes: Box) -> NDArray[Any]:
        """Return the values (16, 16, x, K) of a row of cubes, to be written to."""
        count = cubes.shape[2] // CHUNK
        values = np.empty((count, *self._cube), self.dtype)
        data = values.data.cast("B")
        while data:
            read = os.preadv(self._file, [data], offset)
            if read == 0:
                raise OSError("the file ends too early")
            data, offset = data[read:], offset + read
        return values.transpose(1, 2, 0, 3, 4).reshape(*cubes.shape, self.channels)

    def _write_row(self, offset: int, row: NDArray[Any]) -> None:
        cubes = row.reshape(CHUNK, CHUNK, -1, CHUNK, self.channels).transpose(2, 0, 1, 3, 4)
        data = np.ascontiguousarray(cubes).data.cast("B")
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    @contextmanager
    def _disc_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InstsegError(
                f"{_what(self.shape)}: {error.strerror or error}; make room for {self.size / 2**30:.1f} GiB"
            ) from error


def require_room(folder: Path, shape: Sequence[int], size: int) -> None:
    """Check that a disc has room for maps, which take none before they are written: for all that lie on it together.

    Parameters
    ----------
    folder : Path
        On the disc.
    shape : (int, int, int)
        Of the volume, for the message.
    size : int
        Bytes.

    Raises
    ------
    InstsegError
        If it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        room = f"{free / 2**30:.1f} GiB are free; make room for {size / 2**30:.1f} GiB"
        raise InstsegError(f"{_what(shape)} ({folder}): {room}")


def _what(shape: Sequence[int]) -> str:
    return f"cannot keep the maps of {' x '.join(map(str, shape))} voxels on the disc"


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(*ends) for ends in zip(box.begin, box.end, strict=True))
