"""The array of a Zarr image: opened when values of it are asked for, which are decoded a few chunks at a time."""

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.ngff import ZarrImage, find_image
from instseg.io.stored_array import StoredArray
from instseg.io.zarr_metadata import damaged

# Chunks that Zarr decodes at a time, and how many bytes these may have together.
_CONCURRENCY, _CONCURRENT_BYTES = 10, 2**29


class ZarrValues:
    """The values of a Zarr image, as they are stored.

    Parameters
    ----------
    image : ZarrImage

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, image: ZarrImage) -> None:
        self._image = image
        self._array: Any = None
        self.shape, self.dtype = image.layout.shape, image.layout.dtype
        self._chunk_bytes = math.prod(image.layout.chunks) * image.layout.dtype.itemsize

    def open(self) -> Any:
        """Return the zarr.Array, opened once; an ImageFileError is raised where it cannot be."""
        if self._array is None:
            self._array = self._opened()
        return self._array

    def _opened(self) -> Any:
        # Zarr takes most of a second to import.
        import zarr

        from instseg.io.zarr_chunks import BoundedStore

        node, layout = self._image.node, self._image.layout
        with _zarr_errors(node.path), warnings.catch_warnings(action="ignore"):
            array = zarr.open_array(BoundedStore(node.path, layout), mode="r", zarr_format=node.zarr_format)
        if array.shape != layout.shape or np.dtype(array.dtype).newbyteorder("=") != layout.dtype.newbyteorder("="):
            raise damaged(node.path, "its metadata changed while it was read")
        return array

    def __getitem__(self, indices: Any) -> NDArray[Any]:
        """Return a part; an ImageFileError is raised where it is damaged."""
        array = self.open()
        with _zarr_errors(self._image.path), self._concurrency():
            return np.asarray(array[indices])

    def _concurrency(self) -> AbstractContextManager[Any]:
        """Let Zarr decode few chunks at a time where these are large."""
        import zarr

        most = _CONCURRENT_BYTES // self._chunk_bytes
        return nullcontext() if most >= _CONCURRENCY else zarr.config.set({"async.concurrency": max(1, most)})


@contextmanager
def open_zarr(path: Path, *, planes: bool = False) -> Iterator[StoredArray]:
    """Open a Zarr image, or one of labels, as an array of a file; `planes` is as `find_image` takes it."""
    image = find_image(path, planes=planes, labels=True)
    roles = tuple(axis.role for axis in image.axes)
    yield StoredArray(path, "Zarr", ZarrValues(image), roles, image.geometry, image.is_labels)


@contextmanager
def _zarr_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except InstsegError:
        raise
    except Exception as error:  # Stores, codecs and metadata raise exceptions of any type.
        raise damaged(path, error) from error
