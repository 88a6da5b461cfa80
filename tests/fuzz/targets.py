"""What reads a damaged file: each target yields the calls that the tool makes with it."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from instseg.clustering.cluster import cluster
from instseg.data.check import check_data
from instseg.data.classes import read_class_table
from instseg.data.datasets import folder_data
from instseg.io import source
from instseg.io.formats import read_header
from instseg.io.images import read_image, read_planes
from instseg.io.label_images import read_class_image, read_labels
from instseg.io.label_volumes import read_label_volume
from instseg.io.npz import read_embeddings
from instseg.io.source import open_image, read_geometry
from instseg.io.tiff import TiffReader
from instseg.io.volumes import FileVolume, read_volume_header
from instseg.models.config import read_training
from instseg.settings import TrainSettings
from instseg.tiling.grid import Box

Call = tuple[str, Callable[[], Any]]

# Of an image of more values only a corner is read.
_READ = 4_000_000


def _read(reader: Any) -> None:
    try:
        height, width, channels = reader.shape
        side = 200 if channels <= 100 else 1
        size = (height, width) if height * width * channels <= _READ else (min(height, side), min(width, side))
        reader.read(Box(0, 0, *size))
        assert reader.geometry is None or min(reader.geometry.pixel_size) > 0
    finally:
        reader.close()


def _read_all_planes(path: Path) -> None:
    for reader in source.open_planes(path):
        _read(reader)


def _read_volume(path: Path) -> None:
    header = read_volume_header(path, time=0)
    reader = FileVolume(path, time=0)
    try:
        small = math.prod(reader.shape) <= _READ
        reader.read(Box.whole(header.shape) if small else Box(0, 0, 0, *(min(side, 40) for side in header.shape)))
        assert reader.geometry is None or reader.geometry.depth is None or reader.geometry.depth > 0
    finally:
        reader.close()


def image(path: Path) -> Iterator[Call]:
    """An image file, as an image and as labels."""
    yield "read_header", lambda: read_header(path)
    yield "read_image", lambda: read_image(path)
    yield "read_image(planes_as_channels=True)", lambda: read_image(path, planes_as_channels=True)
    yield "read_planes", lambda: read_planes(path)
    yield "open_image", lambda: _read(open_image(path))
    yield "TiffReader", lambda: _read(TiffReader(path))
    yield "read_geometry", lambda: read_geometry(path)
    yield "read_labels", lambda: read_labels(path)
    yield "read_labels(connected_components=True)", lambda: read_labels(path, connected_components=True)
    yield "read_class_image", lambda: read_class_image(path)
    yield "read_volume", lambda: _read_volume(path)
    yield "read_label_volume", lambda: read_label_volume(path)
    if hasattr(source, "open_planes"):
        yield "open_planes", lambda: _read_all_planes(path)


def zarr(path: Path) -> Iterator[Call]:
    """An OME-Zarr image, as an image and as labels."""
    yield "read_header", lambda: read_header(path)
    yield "read_image", lambda: read_image(path)
    yield "read_labels", lambda: read_labels(path)
    yield "open_image", lambda: _read(open_image(path))
    yield "read_geometry", lambda: read_geometry(path)
    yield "read_volume", lambda: _read_volume(path)
    yield "read_label_volume", lambda: read_label_volume(path)
    if hasattr(source, "open_planes"):
        yield "open_planes", lambda: _read_all_planes(path)


def npz(path: Path) -> Iterator[Call]:
    """Embeddings, and the clustering of them."""
    yield "cluster(read_embeddings)", lambda: cluster(read_embeddings(path))


def model(path: Path) -> Iterator[Call]:
    """The settings of a model."""
    yield "read_training", lambda: read_training(path)


def table(path: Path) -> Iterator[Call]:
    """A table of classes."""
    yield "read_class_table", lambda: read_class_table(path)


def data(path: Path) -> Iterator[Call]:
    """A folder of images, labels and classes."""
    yield "check_data", lambda: check_data(path)
    yield "check_data(connected_components=True)", lambda: check_data(path, connected_components=True)
    yield "folder_data", lambda: folder_data(path, TrainSettings())


TARGETS: dict[str, Callable[[Path], Iterator[Call]]] = {
    target.__name__: target for target in (image, zarr, npz, model, table, data)
}
