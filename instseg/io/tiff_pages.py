"""What the pages of a TIFF mean: which are planes of its image, along which axes, and what their pixels are.

tifffile reads pages and the descriptions of many microscopes. What it makes of them is narrowed here in two ways:

* A file is what its own pages hold. Files beside it are not read, and planes that a description claims and no page
  holds are not invented.
* Thumbnails, labels and overviews of slides, reduced resolutions and masks are no planes.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from instseg.io.image_file import ImageFileError, ImageHeader, is_turned, upright, valid_orientation
from instseg.io.ome_planes import OmeImage, ome_images
from instseg.io.tiff_claims import guard_decoder, require_content, require_whole_page
from instseg.io.tiff_directories import page_orientations
from instseg.io.tiff_parts import WHOLE, read_part
from instseg.io.tiff_series import NAMELESS_AXES, SeriesPlanes, named_sizes

# Without a handler of its own, tifffile's messages on damaged files would reach stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# Formats of slides, whose further images are thumbnails, labels and overviews.
_SLIDES = ("svs", "scn", "qpi", "ndpi", "bif", "avs", "philips")
_NO_PLANES = ("label", "macro", "thumbnail", "overview")
_UNDESCRIBED, _INCOMPLETE = "axes that its description does not tell", "T and Z, of which some are missing"
_AGAIN = "copy or export it again"


@dataclass(frozen=True, slots=True)
class TiffImage:
    """Planes of a TIFF that are alike.

    Attributes
    ----------
    header : ImageHeader
        As of a file that holds these planes only.
    page : tifffile.TiffPage
        The first of their pages.
    read_planes : callable
        Returns their pixels, (H, W, C) each, as `instseg.io.formats.Plane` describes them.
    plane_sizes : tuple of (str, int)
        For each axis along which there are several planes, in their order: 't', 'z', another name or '' for none, and
        how many there are.
    read_plane : callable
        Returns the pixels (h, w, C) of a plane by its number, as `read_planes` has them, or of a part of it by slices
        of its rows and columns.
    """

    header: ImageHeader
    page: Any
    read_planes: Callable[[], Iterator[NDArray[Any]]]
    plane_sizes: tuple[tuple[str, int], ...]
    read_plane: Callable[..., NDArray[Any]]


@contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF.

    Formats that consist of several files (those of Micro-Manager, and sets of OME-TIFF) are read as single files.

    Raises
    ------
    ImageFileError
        If its directories are not in order, as `page_orientations` finds.
    """
    page_orientations(path)
    with tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False) as tiff:
        yield tiff


def tiff_header(path: Path, tiff: tifffile.TiffFile) -> ImageHeader:
    """Return the header of a TIFF: that of its first image, and the planes of all."""
    images = tiff_images(path, tiff)
    axes = [image.header.plane_axes for image in images if image.header.plane_axes]
    planes = sum(image.header.planes for image in images)
    if planes > 1 and len(set(page_orientations(path))) > 1:
        raise ImageFileError(path, "its pages are turned in different ways", "save them one by one")
    return replace(images[0].header, planes=planes, plane_axes=axes[0] if axes and planes > 1 else "")


def tiff_images(path: Path, tiff: tifffile.TiffFile) -> list[TiffImage]:
    """Return the images of a TIFF, planes of equal size and type in each.

    Raises
    ------
    ImageFileError
        If it holds channels of which each is in colours, or planes of an image that differ.
    """
    if tiff.is_ome and tiff.ome_metadata is not None:
        return _images_of_ome(path, tiff)
    unnamed = bool(tiff.is_micromanager)
    return [_image_of_series(path, series, unnamed) for series in _full_images(tiff)]


def tiff_colour(page: Any) -> str:
    """Return 'gray', 'rgb', 'palette', or the name of another colour space, of a page of a TIFF."""
    photometric = int(page.photometric)
    if photometric == 6 and int(page.compression) in (6, 7):
        return "rgb"  # JPEG's YCbCr, which the decoder turns into RGB.
    names = {0: "gray", 1: "gray", 2: "rgb", 3: "palette"}
    return names.get(photometric) or str(getattr(page.photometric, "name", photometric))


def page_orientation(page: Any) -> int:
    """Return the orientation of a page, 1 to 8."""
    return valid_orientation(page.tags.valueof(274))


def _full_images(tiff: tifffile.TiffFile) -> list[Any]:
    """Return tifffile's series that are images rather than thumbnails and the like."""
    series = [one for one in tiff.series if not _is_minor(one.keyframe)] or tiff.series
    if any(getattr(tiff, f"is_{name}") for name in _SLIDES):
        return [max(series, key=lambda one: one.keyframe.imagewidth * one.keyframe.imagelength)]
    # Without a name of its format, what has a pyramid of tiles is a slide.
    return [one for one in series if one.is_pyramidal and one.keyframe.is_tiled] or series


def _is_minor(page: Any) -> bool:
    return bool(page.is_reduced or page.is_mask)


def _images_of_ome(path: Path, tiff: tifffile.TiffFile) -> list[TiffImage]:
    pages: Any = tiff.pages
    described = ome_images(tiff.ome_metadata or "", path, len(pages))
    used = {index for image in described or () for index in image.pages.values()}
    first = pages[min(used)] if used else pages[0]
    further = [pages[index] for index in range(len(pages)) if index not in used]
    if described is None or any(page.hash == first.hash and not _is_minor(page) for page in further):
        # What pages mean is not said, or not of all.
        tiff.is_ome = False
        return [_image_of_series(path, series, undescribed=True) for series in _full_images(tiff)]
    described = _without_thumbnails(pages, described)
    images = [_image_of_ome(path, pages, image) for image in described]
    if len(images) == 1:
        return images
    axes = [f"series and {image.header.plane_axes}" if image.header.plane_axes else "series" for image in images]
    return [
        replace(image, header=replace(image.header, plane_axes=names))
        for image, names in zip(images, axes, strict=True)
    ]


def _without_thumbnails(pages: Any, images: list[OmeImage]) -> list[OmeImage]:
    """Return the images of an OME-TIFF without a slide's label, overview and thumbnail."""
    firsts = [pages[image.pages[min(image.pages)]] for image in images]
    proper = [
        (image, page)
        for image, page in zip(images, firsts, strict=True)
        if not (_is_minor(page) or any(name in image.name.lower() for name in _NO_PLANES))
    ]
    with_pyramids = [image for image, page in proper if page.subifds]
    return with_pyramids or [image for image, _ in proper] or images


def _image_of_ome(path: Path, pages: Any, image: OmeImage) -> TiffImage:
    planes: dict[tuple[int, int], dict[int, int]] = {}
    for (time, depth, channel), index in sorted(image.pages.items()):
        planes.setdefault((time, depth), {})[channel] = index
    places = list(planes)
    channels = list(planes[places[0]])
    if lacking := [place for place in places if list(planes[place]) != channels]:
        what = f"its planes have different channels (first at time {lacking[0][0]}, depth {lacking[0][1]})"
        raise ImageFileError(path, f"it is damaged or cut off ({what})", _AGAIN)
    page = pages[image.pages[min(image.pages)]]
    if set(page.axes) - set("YXS"):
        raise ImageFileError(path, "its pages have more than two dimensions", "save the planes one by one")
    samples = int(page.samplesperpixel)
    _require_one_kind_of_channels(path, len(channels), samples)
    axes = [name for axis, name in enumerate("TZ") if len({place[axis] for place in places}) > 1]
    header = _page_header(path, page, len(places), max(len(channels), samples), _in_words(axes), page.dtype)

    def read_plane(number: int, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[Any]:
        require_content(page, header)
        parts = []
        for index in planes[places[number]].values():
            one = pages[index]
            if one.shape != page.shape or one.dtype != page.dtype:
                raise ImageFileError(path, "its planes differ in size or type", "save them one by one")
            require_whole_page(one)
            guard_decoder(one)
            parts.append(read_part(one, *_stored(page, rows, columns)))
        plane = _shown(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1), page)
        return plane if page_orientation(page) == 1 else plane[rows, columns]

    def read_planes() -> Iterator[NDArray[Any]]:
        yield from map(read_plane, range(len(places)))

    sizes = [len({place[axis] for place in places}) for axis in range(2)]
    whole = math.prod(sizes) == len(places)
    named = tuple((role, size) for role, size in zip("tz", sizes, strict=True) if size > 1)
    return TiffImage(header, page, read_planes, named if whole else ((_INCOMPLETE, len(places)),), read_plane)


def _image_of_series(path: Path, series: Any, undescribed: bool) -> TiffImage:
    """Describe a series of tifffile; `undescribed` says that its pages have names that are not known."""
    page, axes, shape = series.keyframe, series.axes, series.shape
    sizes = {axis: shape[axes.index(axis)] for axis in "YXSC" if axis in axes}
    samples, channels = sizes.get("S", 1), sizes.get("C", 1)
    _require_one_kind_of_channels(path, channels, samples)
    channel = "C" if channels > 1 or "S" not in axes else "S"
    several = [axis for axis, size in zip(axes, shape, strict=True) if axis not in "YXSC" and size > 1]
    names = [_UNDESCRIBED] if undescribed and several else [axis for axis in several if axis not in NAMELESS_AXES]
    planes = math.prod(shape) // max(sizes["Y"] * sizes["X"] * sizes.get(channel, 1), 1)
    header = _page_header(path, page, planes, sizes.get(channel, 1), _in_words(names), series.dtype)
    header = replace(header, **_turned_size(header.orientation, sizes["Y"], sizes["X"]))
    series_planes = SeriesPlanes(path, series, channel)

    def read_planes() -> Iterator[NDArray[Any]]:
        require_content(page, header)
        if any(one is None for one in series._pages):
            raise ValueError("it lacks pages that its description names")
        for one in series._pages:
            require_whole_page(one)
            guard_decoder(one.keyframe)
        if page.axes == "YX" and len(series._pages) == planes > 1:
            # A page is a plane, and a long stack does not have to fit into memory.
            yield from (_shown(np.asarray(one.asarray())[..., None], page) for one in series._pages)
            return
        yield from (_shown(plane, page) for plane in series_planes.read_all())

    def read_plane(number: int, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[Any]:
        require_content(page, header)
        plane = _shown(series_planes.read(number, *_stored(page, rows, columns)), page)
        return plane if page_orientation(page) == 1 else plane[rows, columns]

    plane_sizes = ((_UNDESCRIBED, planes),) if undescribed and several else named_sizes(series, several)
    return TiffImage(header, page, read_planes, plane_sizes, read_plane)


def _require_one_kind_of_channels(path: Path, channels: int, samples: int) -> None:
    if channels > 1 and samples > 1:
        what = f"it has {channels} channels of {samples} samples each, expected gray channels or one image in colours"
        raise ImageFileError(path, what, "save the channels one by one")


def _page_header(path: Path, page: Any, planes: int, channels: int, plane_axes: str, dtype: Any) -> ImageHeader:
    extra = tuple(int(sample) for sample in page.extrasamples)
    if len(extra) >= int(page.samplesperpixel):
        what = (
            f"it is damaged (it calls {len(extra)} of {page.samplesperpixel} values per pixel extra, which leaves none)"
        )
        raise ImageFileError(path, what, _AGAIN)
    if page.dtype is None:
        raise ValueError(f"no values are of {page.bitspersample} bit and of the format {page.sampleformat}")
    colour, orientation = tiff_colour(page), page_orientation(page)
    return ImageHeader(
        format="TIFF",
        **_turned_size(orientation, int(page.imagelength), int(page.imagewidth)),
        channels=channels,
        bits=int(np.max(page.bitspersample)),
        dtype=str(dtype),
        planes=planes,
        plane_axes=plane_axes,
        colour=colour,
        # Many writers leave the fourth sample of RGB unspecified, and mean transparency.
        alpha=len(extra) == 1 and (extra[0] in (1, 2) or colour == "rgb"),
        white_is_zero=int(page.photometric) == 0 and np.dtype(dtype).kind != "b",
        orientation=orientation,
    )


def _turned_size(orientation: int, rows: int, columns: int) -> dict[str, Any]:
    return {"height": columns, "width": rows} if is_turned(orientation) else {"height": rows, "width": columns}


def _stored(page: Any, rows: slice, columns: slice) -> tuple[slice, slice]:
    """Return which part of the stored pixels to read for a part of what is shown: all where they are turned."""
    return (rows, columns) if page_orientation(page) == 1 else (WHOLE, WHOLE)


def _shown(plane: NDArray[Any], page: Any) -> NDArray[Any]:
    """Return a plane (H, W, C) in its colours and upright, with white for True where it is of 1 bit."""
    if tiff_colour(page) == "palette" and page.colormap is not None:
        plane = _tiff_colours(page.colormap)[plane[..., 0].astype(np.intp)]
    elif plane.dtype == bool and int(page.photometric) == 0:
        plane = ~plane
    return upright(plane, page_orientation(page))


def _tiff_colours(colormap: Any) -> NDArray[np.uint8]:
    """Return a TIFF's palette as (values, 3): 16 bit by the standard, 8 bit by some writers' habit."""
    colours = np.asarray(colormap).T
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _in_words(names: list[str]) -> str:
    return " and ".join(names)
