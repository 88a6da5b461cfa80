"""How large an image's pixels are and where it lies, and how TIFF files say so.

What is read is OME-XML, or ImageJ's or Aperio's description, before the plain resolution tags; what is written are the
plain tags. TIFF gives the position of the upper left edge, in the unit of the resolution. OME-Zarr gives that of the
middle of the first pixel, and so does `PixelGeometry`.
"""

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from instseg.io.atomic import StrPath
from instseg.io.image_file import decoder_errors, file_format, is_turned
from instseg.io.tiff_pages import open_tiff, page_orientation

# Units of length as OME-NGFF names them, in centimetres.
_CENTIMETRES = {
    "picometer": 1e-10,
    "angstrom": 1e-8,
    "nanometer": 1e-7,
    "micrometer": 1e-4,
    "millimeter": 0.1,
    "centimeter": 1.0,
    "inch": 2.54,
    "decimeter": 10.0,
    "meter": 100.0,
}
# Other names of these units, in lower case, as OME-XML and ImageJ write them.
_UNIT_NAMES = {
    **{name: name for name in _CENTIMETRES},
    **dict.fromkeys(("pm", "picometre"), "picometer"),
    **dict.fromkeys(("å", "ångström"), "angstrom"),
    **dict.fromkeys(("nm", "nanometre"), "nanometer"),
    **dict.fromkeys(("µm", "\\u00b5m", "μm", "um", "micron", "microns", "micrometre"), "micrometer"),
    **dict.fromkeys(("mm", "millimetre"), "millimeter"),
    **dict.fromkeys(("cm", "centimetre"), "centimeter"),
    **dict.fromkeys(("in",), "inch"),
    **dict.fromkeys(("dm", "decimetre"), "decimeter"),
    **dict.fromkeys(("m", "metre"), "meter"),
}
# The units of TIFF's resolution tags, inches and centimetres, in centimetres.
_RESOLUTION_UNITS = {2: 2.54, 3: 1.0}
# What Aperio writes among its settings, in micrometres per pixel.
_APERIO_MPP = re.compile(r"\|\s*MPP\s*=\s*(\d{1,9}(?:\.\d{1,30})?)\s*(?:\||$)")
# TIFF's fractions are of two unsigned numbers of 32 bit.
_MAX_RATIONAL, _MAX_DENOMINATOR = 2**32 - 1, 10**6


@dataclass(frozen=True, slots=True)
class PixelGeometry:
    """How large an image's pixels are and where it lies.

    Attributes
    ----------
    pixel_size : (float, float)
        Height and width of a pixel, above 0.
    position : (float, float) or None
        Row and column of the middle of the first pixel, in the same unit; None where nothing is known.
    unit : str or None
        As OME-NGFF names it, such as 'micrometer'; None where nothing is known.
    depth : float or None
        Of a volume, how far apart its planes are, above 0, in the same unit; None where nothing is known.
    depth_position : float or None
        Of a volume, where its first plane lies.
    """

    pixel_size: tuple[float, float]
    position: tuple[float, float] | None = None
    unit: str | None = None
    depth: float | None = None
    depth_position: float | None = None

    @property
    def plane(self) -> "PixelGeometry | None":
        """That of one plane of a volume; None where nothing is left that an image has not by itself."""
        if self.unit is None and self.position is None and self.pixel_size == (1.0, 1.0):
            return None
        return PixelGeometry(self.pixel_size, self.position, self.unit)

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """The size of a voxel along Z, Y and X; None where that along Z is not known."""
        return None if self.depth is None else (self.depth, *self.pixel_size)

    @property
    def relative_spacing(self) -> tuple[float, float, float] | None:
        """The size of a voxel divided by that along X; None where that along Z is not known."""
        if self.depth is None:
            return None
        height, width = self.pixel_size
        return (self.depth / width, height / width, 1.0)


def read_pixel_geometry(path: StrPath) -> PixelGeometry | None:
    """Return the size and the position of a TIFF's pixels; None for other files.

    Raises
    ------
    ImageFileError
        If the file cannot be read.
    """
    path = Path(path)
    if path.is_dir() or file_format(path) != "TIFF":
        return None
    with decoder_errors(path), open_tiff(path) as tiff:
        return tiff_geometry(tiff)


def tiff_geometry(tiff: tifffile.TiffFile) -> PixelGeometry | None:
    """Return the size and the position of an open TIFF's pixels, None where it says nothing.

    The unit is that of OME-XML where it has one for rows and columns, else the centimetre.
    """
    page: Any = tiff.pages.first
    orientation = page_orientation(page)
    resolution_unit = _RESOLUTION_UNITS.get(int(page.resolutionunit))
    imagej_unit = _in_centimetres(str((tiff.imagej_metadata or {}).get("unit", "")))
    described = (
        _ome_pixel_size(tiff.ome_metadata)
        or _aperio_pixel_size(page)
        or _tagged_pixel_size(page, imagej_unit or resolution_unit)
    )
    if described is None:
        return None
    size, unit = described
    position = None
    if orientation != 1:
        # Both are of the pixels as they are stored; where the edges of the image lie once it is turned is not said.
        return PixelGeometry((size[1], size[0]) if is_turned(orientation) else size, None, unit)
    tags = [page.tags.get(name) for name in ("YPosition", "XPosition")]
    if resolution_unit is not None and all(tag is not None for tag in tags):
        top, left = (_ratio(tag) * resolution_unit / _CENTIMETRES[unit] for tag in tags)
        position = _finite_pair(top + size[0] / 2, left + size[1] / 2)
    return PixelGeometry(size, position, unit)


def tiff_volume_geometry(tiff: tifffile.TiffFile) -> PixelGeometry | None:
    """Return the size and the position of the voxels of an open TIFF, None where it says nothing.

    The unit is that of OME-XML or of ImageJ; None where it is none of length, such as the pixel, so that only the ratio
    of the sizes means something. Where neither says how far apart planes are, it is that of `tiff_geometry`.
    """
    if tiff.ome_metadata:
        sizes = _ome_sizes(tiff.ome_metadata)
        geometry = tiff_geometry(tiff)
        if sizes is None or page_orientation(tiff.pages.first) != 1:
            return geometry
        depth, height, width, name = sizes
        if geometry is None:
            return PixelGeometry((height, width), None, None, depth)
        ratio = length_ratio(name, geometry.unit)
        return geometry if ratio is None else replace(geometry, depth=depth * ratio)
    described = tiff.imagej_metadata or {}
    spacing = _length(described.get("spacing"))
    unit = _UNIT_NAMES.get(str(described.get("unit", "")).lower())
    if spacing is None and unit is None:
        return tiff_geometry(tiff)
    page: Any = tiff.pages.first
    rows, columns = (_ratio(page.tags.get(name)) or 1.0 for name in ("YResolution", "XResolution"))
    height, width = 1 / rows, 1 / columns
    top, left, first = (
        _first_place(described.get(f"{axis}origin"), size)
        for axis, size in (("y", height), ("x", width), ("z", spacing or 1.0))
    )
    position = None if top is None or left is None else (top, left)
    return PixelGeometry((height, width), position, unit, spacing, first)


def tiff_tags(geometry: PixelGeometry | None) -> dict[str, Any]:
    """Return the options of `tifffile.imwrite` that give a file the size and the position of its pixels.

    They are empty where the unit is none of length. What TIFF cannot hold is left out: a size or a position whose
    number does not fit into its fractions, or a position left of or above the origin.
    """
    resolution, position = _tiff_fractions(geometry)
    if resolution is None:
        return {}
    tags: dict[str, Any] = {"resolution": resolution, "resolutionunit": "CENTIMETER"}
    if position is not None:
        tags["extratags"] = [
            (code, 5, 1, (edge.numerator, edge.denominator), True)
            for code, edge in ((286, position[1]), (287, position[0]))
        ]
    return tags


def geometry_note(geometry: PixelGeometry | None) -> str | None:
    """Return in a clause what a TIFF of this geometry lacks, as it does not fit; None where it lacks nothing.

    Sizes without a unit of length are not mentioned, as no TIFF has them.
    """
    if geometry is None or _in_centimetres(geometry.unit or "") is None:
        return None
    resolution, position = _tiff_fractions(geometry)
    if resolution is None:
        height, width = geometry.pixel_size
        return (
            f"the size of its pixels ({height:g} x {width:g} {geometry.unit}) does not fit into a TIFF and is left out"
        )
    if geometry.position is not None and position is None:
        top, left = geometry.position
        return f"its position ({top:g}, {left:g} {geometry.unit}) does not fit into a TIFF and is left out"
    return None


def _tiff_fractions(
    geometry: PixelGeometry | None,
) -> tuple[tuple[float, float] | None, tuple[Fraction, Fraction] | None]:
    """Return columns and rows per centimetre, and the top and left edge in centimetres; None for what does not fit."""
    unit = None if geometry is None else _in_centimetres(geometry.unit or "")
    if geometry is None or unit is None:
        return None, None
    lengths = [size * unit for size in geometry.pixel_size]
    # The largest and the smallest number of pixels that a fraction holds to some digits.
    if not all(1 / _MAX_RATIONAL <= length <= _MAX_DENOMINATOR for length in lengths):
        return None, None
    resolution = (1 / lengths[1], 1 / lengths[0])
    if geometry.position is None:
        return resolution, None
    edges = tuple(
        _fraction((middle - size / 2) * unit)
        for middle, size in zip(geometry.position, geometry.pixel_size, strict=True)
    )
    return resolution, None if edges[0] is None or edges[1] is None else (edges[0], edges[1])


def _fraction(value: float) -> Fraction | None:
    """Return a number as a fraction of two unsigned numbers of 32 bit, None if it is none to a millionth."""
    if not 0 <= value <= _MAX_RATIONAL:
        return None
    fraction = Fraction(value).limit_denominator(_MAX_DENOMINATOR)
    return fraction if fraction.numerator <= _MAX_RATIONAL else None


def length_ratio(unit: str | None, other: str | None) -> float | None:
    """Return how many times a unit of length is as long as another; None where one of them is none of length."""
    lengths = [_in_centimetres(name or "") for name in (unit, other)]
    return None if lengths[0] is None or lengths[1] is None else lengths[0] / lengths[1]


def _in_centimetres(unit: str) -> float | None:
    return _CENTIMETRES.get(_UNIT_NAMES.get(unit.lower(), ""))


def _ratio(tag: Any) -> float:
    if tag is None:
        return 0.0
    numerator, denominator = tag.value
    return float(numerator / denominator) if denominator else 0.0


def _finite_pair(first: float, second: float) -> tuple[float, float] | None:
    return (first, second) if math.isfinite(first) and math.isfinite(second) else None


def _tagged_pixel_size(page: Any, unit: float | None) -> tuple[tuple[float, float], str] | None:
    """Return the height and the width of a pixel by the resolution tags, whose unit is in centimetres."""
    rows, columns = (_ratio(page.tags.get(name)) for name in ("YResolution", "XResolution"))
    return ((unit / rows, unit / columns), "centimeter") if unit is not None and rows and columns else None


class _FirstPixels:
    """A target of an XML parser: it keeps the attributes of the first `Pixels` element of OME-XML, and builds no tree.

    Document types, which could define entities that grow beyond all memory, are refused; OME-XML has none.
    """

    def __init__(self) -> None:
        self.attributes: dict[str, str] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take the attributes, whatever the namespace of the element."""
        if not self.attributes and tag.rpartition("}")[2] == "Pixels":
            self.attributes = attributes

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse the document."""
        raise ElementTree.ParseError("OME-XML has no document type")


def _aperio_pixel_size(page: Any) -> tuple[tuple[float, float], str] | None:
    """Return the size of the pixels of a slide of Aperio (SVS), whose description has it in micrometres."""
    description = str(page.description or "")
    match = _APERIO_MPP.search(description) if description.startswith("Aperio") else None
    size = 0.0 if match is None else float(match[1])
    return ((size, size), "micrometer") if 0 < size < math.inf else None


def _length(value: object) -> float | None:
    """Return a number that a file gives for a length, which some have below 0; None where it is none."""
    number = abs(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0
    return float(number) if 0 < number < math.inf else None


def _first_place(origin: object, size: float) -> float | None:
    """Return where the first pixel lies along an axis, for which ImageJ has the pixel at zero; None without it."""
    if isinstance(origin, bool) or not isinstance(origin, int | float) or not math.isfinite(origin):
        return None
    return -origin * size


def _ome_sizes(text: str) -> tuple[float, float, float, str] | None:
    """Return the depth, the height and the width of a voxel of the first image in OME-XML, and the unit of all.

    None stands for lengths in several units, and for damaged XML.
    """
    try:
        attributes = _first_pixels(text)
        depth, height, width = (_length(float(attributes[f"PhysicalSize{axis}"])) for axis in "ZYX")
        units = [attributes.get(f"PhysicalSize{axis}Unit", "µm").lower() for axis in "ZYX"]
    except (ElementTree.ParseError, KeyError, ValueError):
        return None
    if depth is None or height is None or width is None:
        return None
    ratios = [length_ratio(unit, units[2]) for unit in units]
    if None in ratios and len(set(units)) > 1:
        return None
    known = [1.0 if ratio is None else ratio for ratio in ratios]
    return depth * known[0], height * known[1], width * known[2], units[2]


def _first_pixels(text: str | None) -> dict[str, str]:
    """Return the attributes of the first `Pixels` element of OME-XML."""
    pixels = _FirstPixels()
    parser = ElementTree.XMLParser(target=pixels)
    parser.feed(text or "")
    parser.close()
    return pixels.attributes


def _ome_pixel_size(text: str | None) -> tuple[tuple[float, float], str] | None:
    """Return the height and the width of the first image's pixels in OME-XML, and their unit.

    None stands for damaged XML, too, as for XML without the size: the pixels can be read all the same.
    """
    try:
        attributes = _first_pixels(text)
        sizes = [float(attributes[f"PhysicalSize{axis}"]) for axis in "YX"]
        units = [_UNIT_NAMES[attributes.get(f"PhysicalSize{axis}Unit", "µm").lower()] for axis in "YX"]
    except (ElementTree.ParseError, KeyError, ValueError):
        return None
    unit = units[0]
    if units[1] != unit:
        sizes, unit = [size * _CENTIMETRES[name] for size, name in zip(sizes, units, strict=True)], "centimeter"
    height, width = sizes
    return ((height, width), unit) if all(0 < size < math.inf for size in sizes) else None
