"""Which plane of which image a page of an OME-TIFF is, as its OME-XML says.

OME-XML may describe a set of files, and claims planes that other files hold, or none. Here, a file is what its own
pages hold, whatever lies beside it.
"""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np


class OmeImage(NamedTuple):
    """An image of an OME-TIFF.

    Attributes
    ----------
    name : str
        '' where it has none.
    pages : dict from (t, z, c) to int
        The index of the page of each plane that the file holds.
    """

    name: str
    pages: dict[tuple[int, int, int], int]


def ome_images(text: str, path: Path, count: int) -> list[OmeImage] | None:
    """Return the images that a file's own pages belong to.

    Parameters
    ----------
    text : str
        Its OME-XML.
    path : Path
        The file: where OME-XML gives files no identifiers, it knows them by their names.
    count : int
        How many pages the file has.

    Returns
    -------
    list of OmeImage, or None if the OME-XML is damaged or does not say what the file's pages are
    """
    try:
        root = ElementTree.fromstring(text)
        elements = [element for element in root if _name(element) == "Image"]
        pixels = [next(child for child in element if _name(child) == "Pixels") for element in elements]
        # Lifetimes and the like that are stored as channels are none.
        if "ModuloAlongC" in text:
            return None
        own = {id(data) for data in _own_data(root.get("UUID"), path, [child for part in pixels for child in part])}
        images = [
            OmeImage(element.get("Name", ""), _pages(part, own, count))
            for element, part in zip(elements, pixels, strict=True)
        ]
    except (ElementTree.ParseError, ValueError, KeyError, StopIteration, RecursionError, OverflowError):
        return None
    return [image for image in images if image.pages] or None


def _name(element: ElementTree.Element) -> str:
    """Return an element's name without its namespace, which differs from version to version."""
    return element.tag.rpartition("}")[2]


def _own_data(own: str | None, path: Path, elements: list[ElementTree.Element]) -> list[ElementTree.Element]:
    """Return the elements that say what pages of this very file are."""
    data = [element for element in elements if _name(element) == "TiffData"]
    files = [next((child for child in element if _name(child) == "UUID"), None) for element in data]
    if own is not None:
        found = [one for one, file in zip(data, files, strict=True) if file is None or (file.text or "") == own]
    else:
        name = path.name.lower()
        found = [
            one
            for one, file in zip(data, files, strict=True)
            if file is None or file.get("FileName", "").lower() == name
        ]
    # A file that is not part of a set and was given another name or identifier.
    names = {(file.text, file.get("FileName")) for file in files if file is not None}
    return found if found or len(names) > 1 else data


def _pages(pixels: ElementTree.Element, own: set[int], count: int) -> dict[tuple[int, int, int], int]:
    order = pixels.attrib["DimensionOrder"][2:]
    sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "ZCT"}
    channel = next((child for child in pixels if _name(child) == "Channel"), None)
    samples = 1 if channel is None else int(channel.get("SamplesPerPixel", 1))
    sizes["C"] = max(sizes["C"] // samples, 1)
    if sorted(order) != ["C", "T", "Z"] or min(sizes.values()) < 1:
        raise ValueError("impossible sizes")
    total = math.prod(sizes.values())
    # The first axis of the order changes fastest.
    shape = tuple(sizes[axis] for axis in reversed(order))
    pages: dict[tuple[int, int, int], int] = {}
    for data in pixels:
        if id(data) not in own:
            continue
        first = [int(data.get(f"First{axis}", 0)) for axis in reversed(order)]
        page = int(data.get("IFD", 0))
        if page < 0 or any(not 0 <= index < size for index, size in zip(first, shape, strict=True)):
            continue
        start = int(np.ravel_multi_index(first, shape))
        planes = int(data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else count)))
        for step in range(min(planes, count - page, total - start)):
            place = dict(zip(reversed(order), np.unravel_index(start + step, shape), strict=True))
            pages[int(place["T"]), int(place["Z"]), int(place["C"])] = page + step
    return pages
