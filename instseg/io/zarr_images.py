"""The images in groups of OME-Zarr that hold many: plates of wells of fields, and what bioformats2raw writes."""

from collections.abc import Iterator
from pathlib import Path

from instseg.io.image_file import ImageFileError
from instseg.io.ngff import child, image_names, listed_paths, ome_attributes
from instseg.io.remote import reached
from instseg.io.zarr_metadata import ZarrNode, read_node

# Groups lie in each other no deeper than this: a plate holds wells, a well fields.
_MAX_DEPTH = 3


def zarr_images(path: Path) -> list[Path]:
    """Return the images of a Zarr group: those of all wells of a plate, all fields of a well, all that are numbered.

    Parameters
    ----------
    path : Path
        Of a group or an array.

    Returns
    -------
    list of Path
        In the order of the metadata; the path itself where it is one image, or a group that cannot be read as one of
        many, so that whoever opens it says why.
    """
    try:
        node = read_node(reached(path))
        found = [] if node is None else list(_images(node, _MAX_DEPTH))
    except (ImageFileError, OSError):
        found = []
    return [Path(image) for image in found] or [path]


def _images(node: ZarrNode, depth: int) -> Iterator[Path]:
    ome = ome_attributes(node)
    if node.is_array or "multiscales" in ome or depth == 0:
        yield node.path
        return
    if "plate" in ome:
        names = listed_paths(node, ome["plate"], "wells")
    elif "well" in ome:
        names = listed_paths(node, ome["well"], "images")
    elif "bioformats2raw.layout" in ome | node.attributes:
        # A plate of bioformats2raw has the layout and the plate; a file of one image stands for that image.
        names = image_names(node)
        if len(names) < 2:
            yield node.path
            return
    else:
        return
    for name in names:
        inner = child(node, name)
        # What is listed and missing fails alone, when it is opened.
        yield from [node.path / name] if inner is None else _images(inner, depth - 1)
