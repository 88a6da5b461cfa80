"""Labels strip by strip: from the top, some rows at a time, whether they fit into memory or not."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instseg.io.atomic import StrPath, is_zarr
from instseg.io.container import located
from instseg.io.formats import read_header
from instseg.io.image_file import ImageFileError, decoder_errors
from instseg.io.label_images import read_labels, require_label_header
from instseg.io.label_volumes import read_label_box, read_label_volume
from instseg.io.omezarr import ZarrReader
from instseg.io.pixel_size import PixelGeometry, read_pixel_geometry
from instseg.io.source import STREAMING_PIXELS
from instseg.io.stored_volume import open_stored_volume, read_volume_header
from instseg.io.tiff import TiffReader, supports_region_reads
from instseg.tiling.grid import Box

_LABEL_TYPES = (np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32)
_ADVICE = "save one channel of integers, 0 for background and a number for each object"


class LabelReader(Protocol):
    """Labels that can be read from the top, as often as they are needed.

    Attributes
    ----------
    shape : tuple of int
        Height and width; planes, rows and columns of a volume.
    streamed : bool
        Whether they are read from a file part by part.
    """

    shape: tuple[int, ...]
    streamed: bool

    @property
    def geometry(self) -> PixelGeometry | None:
        """The size and position of the pixels, None where nothing is known."""

    def strips(self, rows: int) -> Iterator[NDArray[np.integer]]:
        """Return the labels (rows, W), of a volume (planes, Y, X), at a time; the last strip may be lower."""

    def close(self) -> None:
        """Close the file."""


class LabelStrips:
    """Labels that something else holds, such as an array or a segmentation.

    Parameters
    ----------
    shape : tuple of int
        Height and width; planes, rows and columns of a volume.
    strips : callable
        See `LabelReader.strips`.
    streamed : bool
    path : Path, optional
        The file that they were read from, which knows the size of its pixels.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        strips: Callable[[int], Iterator[NDArray[np.integer]]],
        *,
        streamed: bool = False,
        path: Path | None = None,
    ) -> None:
        self.shape, self.streamed, self._strips, self._path = shape, streamed, strips, path

    @property
    def geometry(self) -> PixelGeometry | None:
        """See `LabelReader.geometry`."""
        if self._path is None:
            return None
        return (
            read_pixel_geometry(self._path) if len(self.shape) == 2 else read_volume_header(self._path, time=0).geometry
        )

    def strips(self, rows: int) -> Iterator[NDArray[np.integer]]:
        """See `LabelReader.strips`."""
        return self._strips(rows)

    def close(self) -> None:
        """Nothing is open."""


def label_array(labels: NDArray[np.integer], path: Path | None = None) -> LabelStrips:
    """Return labels (H, W) or (Z, Y, X) in memory as a `LabelReader`."""

    def strips(rows: int) -> Iterator[NDArray[np.integer]]:
        return (labels[top : top + rows] for top in range(0, len(labels), rows))

    return LabelStrips(labels.shape, strips, path=path)


def open_labels(
    path: StrPath, *, connected_components: bool = False, volume: bool = False, time: int | None = None
) -> LabelReader:
    """Open a file of labels, to be closed.

    Zarr and TIFF of more than `STREAMING_PIXELS`, and volumes of more voxels in any format, are read part by part.

    Parameters
    ----------
    path : path-like
        What `read_labels` reads, or OME-Zarr or a Zarr array of one channel of integers; of a volume what
        `read_label_volume` reads.
    connected_components : bool
        As `read_labels` takes it; labels that are read part by part have to be numbered.
    volume : bool
        Whether the planes of the file are those of a volume (Z, Y, X).
    time : int, optional
        Of a volume, which of several time points, from 0.

    Raises
    ------
    ImageFileError
        If it holds no labels or cannot be read, as `read_labels` or `read_label_volume` says.
    """
    path = Path(path)
    streamed: LabelReader
    if volume:
        if not read_volume_header(path, time=time).streamed:
            labels = read_label_volume(path, connected_components=connected_components, time=time)
            return label_array(labels, path)
        streamed = _LabelVolume(path, time)
    elif is_zarr(path):
        streamed = _StreamedLabels(path, _ZarrLabels(path))
    elif _is_large_tiff(path):
        streamed = _StreamedLabels(path, _TiffLabels(path))
    else:
        return label_array(read_labels(path, connected_components=connected_components), path)
    if connected_components:
        streamed.close()
        what = "it is read part by part, in which connected pieces cannot be numbered"
        raise ImageFileError(path, what, "number the objects, or cut it into parts")
    return streamed


def _is_large_tiff(path: Path) -> bool:
    header = read_header(path, max_pixels=None)
    return header.height * header.width > STREAMING_PIXELS and supports_region_reads(path, _LABEL_TYPES)


class _TiffLabels(TiffReader):
    _types = _LABEL_TYPES


class _ZarrLabels(ZarrReader):
    """A Zarr image whose values are not made those of an image."""

    _takes_labels = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.dtype = self._values.dtype.newbyteorder("=")

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part (h, w, 1) of the labels."""
        return self._stored(box)


class _StreamedLabels:
    """Labels that are read from a file part by part."""

    streamed = True

    def __init__(self, path: Path, reader: TiffReader | ZarrReader) -> None:
        self._path, self._reader = path, reader
        self.geometry = reader.geometry
        height, width, channels = reader.shape
        self.shape: tuple[int, ...] = (height, width)
        problem = None
        if channels != 1:
            problem = f"it has {channels} channels, expected gray labels"
        elif reader.dtype.kind not in "iu":
            problem = f"its values are {reader.dtype}, expected integer labels"
        if problem is not None:
            reader.close()
            raise ImageFileError(path, problem, _ADVICE)

    def strips(self, rows: int) -> Iterator[NDArray[np.integer]]:
        """See `LabelReader.strips`."""
        height, width = self.shape
        for top in range(0, height, rows):
            part = self._reader.read(Box(top, 0, min(top + rows, height), width))[..., 0]
            if part.dtype.kind == "i" and (least := int(part.min())) < 0:
                what = f"it holds the negative value {least}"
                raise ImageFileError(self._path, what, "make labels 0 for background and 1..N")
            yield part

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class _LabelVolume:
    """The labels of a volume that are read from a file slab by slab."""

    streamed = True

    def __init__(self, path: Path, time: int | None) -> None:
        self._path = path = located(path)
        with ExitStack() as stack:
            self._volume = stack.enter_context(open_stored_volume(path, time=time))
            require_label_header(path, self._volume.image_header)
            self.shape: tuple[int, ...] = self._volume.header.shape
            self.geometry = self._volume.header.geometry
            self._open = stack.pop_all()

    def strips(self, rows: int) -> Iterator[NDArray[np.integer]]:
        """See `LabelReader.strips`."""
        depth, height, width = self.shape
        for first in range(0, depth, rows):
            with decoder_errors(self._path):
                box = Box(first, 0, 0, min(first + rows, depth), height, width)
                slab = read_label_box(self._path, self._volume, box)
            yield slab

    def close(self) -> None:
        """Close the file."""
        self._open.close()
