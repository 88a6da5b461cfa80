"""Labels of volumes (Z, Y, X): read from files, and written as TIFF, OME-Zarr or NumPy, slab after slab."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError
from instseg.io.atomic import StrPath
from instseg.io.container import ZARR_SUFFIX, located
from instseg.io.image_file import decoder_errors
from instseg.io.label_images import (
    require_label_header,
    to_instances,
    to_integers,
    to_label_values,
    write_array_streamed,
)
from instseg.io.pixel_size import PixelGeometry
from instseg.io.stored_volume import StoredVolume, open_stored_volume, require_moderate_size
from instseg.io.volume_tiff import TIFF_SUFFIXES, write_tiff_planes
from instseg.io.zarr_labels import write_zarr_labels
from instseg.tiling.grid import Box

LABEL_VOLUME_SUFFIXES = (*TIFF_SUFFIXES, ZARR_SUFFIX, ".npy")
"""What the name of labels of a volume ends in."""

_MAX_UINT16, _MAX_UINT32 = 2**16 - 1, 2**32 - 1


def read_label_volume(
    path: StrPath,
    *,
    connected_components: bool = False,
    ignore_label: int | None = None,
    prediction: bool = False,
    time: int | None = None,
) -> NDArray[np.int32]:
    """Read the labels of a volume by the rules of `instseg.io.label_images.read_labels`.

    Parameters
    ----------
    path : path-like
        A TIFF stack, OME-Zarr, a NumPy or HDF5 file, or a folder of label images that are its planes.
    connected_components : bool
        Make every 26-connected component of equal nonzero voxels an instance, 1..M in raster order.
    ignore_label : int, optional
        Voxels of this value become `IGNORED`.
    prediction : bool
        Whether another tool found these instances: then nothing is taken for a mask.
    time : int, optional
        Which of several time points, from 0.

    Returns
    -------
    (Z, Y, X) int32
        0 is background, `IGNORED` (-1) the voxels of `ignore_label`, every other value an instance.

    Raises
    ------
    ImageFileError
        If the file is no volume (as `instseg.io.volumes.open_volume` says), in colours, of floats, has negative values,
        has more than `MAX_PIXELS` voxels, or is a binary mask.
    """
    values = read_label_volume_values(path, ignore_label=ignore_label, time=time)
    return to_instances(path, values, connected_components=connected_components, prediction=prediction)


def read_label_volume_values(
    path: StrPath, *, ignore_label: int | None = None, time: int | None = None
) -> NDArray[np.int32]:
    """Read the labels of a volume without asking what its values mean, as `read_label_volume` does."""
    path = located(Path(path))
    with open_stored_volume(path, time=time) as volume:
        require_moderate_size(path, volume.header)
        with decoder_errors(path):
            values = read_label_box(path, volume, Box.whole(volume.header.shape))
    return to_label_values(values, ignore_label)


def read_label_box(path: Path, volume: StoredVolume, box: Box) -> NDArray[np.integer]:
    """Return a part (z, y, x) of the labels in an open file, none below 0.

    Raises
    ------
    ImageFileError
        If its values are no labels.
    """
    require_label_header(path, volume.image_header)
    return to_integers(path, volume.image_header, volume.read(box))


def write_label_volume(path: StrPath, labels: NDArray[np.integer], geometry: PixelGeometry | None = None) -> str | None:
    """Write the labels of a volume, in the format that the name asks for, as `write_label_slabs` does.

    Parameters
    ----------
    path : path-like
        Ends in .tif, .tiff, .zarr or .npy.
    labels : (Z, Y, X) integer
        0 is background; values are written as they are.
    geometry : PixelGeometry, optional
        The size of the voxels.

    Returns
    -------
    str or None
        See `write_label_slabs`.

    Raises
    ------
    InstsegError
        If the suffix is another one, a value does not fit or the file cannot be written.
    UsageError
        If `labels` is no 3-D array of integers that are not negative.
    """
    if labels.ndim != 3 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise UsageError(f"labels are {labels.dtype} of shape {labels.shape}, expected integers of shape (Z, Y, X)")
    if labels.min() < 0:
        raise UsageError(f"labels hold the negative value {labels.min()}, expected 0 for background and 1..N")
    largest = int(labels.max())
    if largest > _MAX_UINT32:
        raise InstsegError(f"cannot write {path}: label {largest} does not fit into 32 bit; renumber the labels")
    return write_label_slabs(path, labels.shape, iter(labels[:, None]), geometry, largest=largest)


def write_label_slabs(
    path: StrPath,
    shape: tuple[int, ...],
    slabs: Iterator[NDArray[np.integer]],
    geometry: PixelGeometry | None = None,
    *,
    largest: int | None = None,
) -> str | None:
    """Write the labels of a volume that come slab by slab, in one step where they exist.

    A TIFF is a hyperstack of ImageJ with 16 bit where all labels fit into it, else an OME-TIFF of 32 bit, a BigTIFF
    where it has to be; both have the size of the voxels and its unit. OME-Zarr is an image-label group with a pyramid.

    Parameters
    ----------
    path : path-like
        Ends in .tif, .tiff (`.ome.tif` for OME-TIFF whatever the labels), .zarr or .npy.
    shape : (int, int, int)
        Planes, rows and columns.
    slabs : iterator of (z, Y, X) integers
        From the first plane on, of any depth.
    geometry : PixelGeometry, optional
        The size of the voxels.
    largest : int, optional
        The largest label; without it, 32 bit are written.

    Returns
    -------
    str or None
        In a clause, what the file lacks of the geometry, as its format does not hold it.

    Raises
    ------
    InstsegError
        If the suffix is another one or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ZARR_SUFFIX:
        write_zarr_labels(path, shape, slabs, geometry)
    elif suffix == ".npy":
        write_array_streamed(path, shape, slabs)
    elif suffix in TIFF_SUFFIXES:
        dtype = np.dtype(np.uint16 if largest is not None and largest <= _MAX_UINT16 else np.uint32)
        planes = (plane for slab in slabs for plane in slab)
        return write_tiff_planes(path, shape, dtype, planes, geometry, largest=largest, compression="zlib")
    else:
        raise InstsegError(
            f"cannot write {path}: labels of a volume of {' x '.join(map(str, shape))} voxels are written as TIFF, "
            f"OME-Zarr or NumPy; write {path.with_suffix('.tif')} instead (with `out_dir`: `file_format='tif'`)"
        )
    return None
