"""Selections of ImageJ and Fiji: `.roi` files, and `.zip` archives of these, as the ROI manager saves them.

Coordinates are in pixels; (0, 0) is the corner of the first pixel, by ImageJ's own definition.
"""

import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.io.image_file import ImageFileError, decoder_errors
from instseg.optional import require_extra

_MAX_BYTES = 64 * 2**20
_MAX_TOTAL = 1024 * 2**20
_AREAS = ("POLYGON", "FREEHAND", "TRACED")
_CORNERS = 512


@dataclass(frozen=True, slots=True)
class Selection:
    """A selection of ImageJ.

    Attributes
    ----------
    name : str
        As the ROI manager lists it.
    rings : list of (V, 2) float64
        Corners (x, y); inside is what is inside of an odd number of rings. Empty for points and lines.
    group : int
        The group that it was given, 0 where it has none.
    plane : (int, int, int, int)
        The plane, channel, slice and frame of the stack that it is of, each 0 for any.
    properties : dict of str to str
        What else is said of it, by keys.
    """

    name: str
    rings: list[NDArray[np.float64]]
    group: int
    plane: tuple[int, int, int, int]
    properties: dict[str, str]


def read_rois(path: Path) -> list[Selection]:
    """Read a file of selections.

    Raises
    ------
    ImageFileError
        If it cannot be read, is damaged or claims more than a GiB.
    InstsegError
        If the package roifile is missing.
    """
    require_extra("imagej")
    import roifile

    # What it complains of, such as a name that is cut off, is nothing that concerns outlines.
    logging.getLogger("roifile").setLevel(logging.CRITICAL)
    with decoder_errors(path):
        contents = _contents(path)
        return [_selection(roifile.ImagejRoi.frombytes(content)) for content in contents]


def _contents(path: Path) -> list[bytes]:
    if path.suffix.lower() != ".zip":
        if path.stat().st_size > _MAX_BYTES:
            raise ImageFileError(path, "it is larger than 64 MiB, which no selection is", "save it again")
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.lower().endswith(".roi")]
        if not members and archive.namelist():
            raise ImageFileError(path, "it holds no .roi", "save it by the ROI manager")
        sizes = [member.file_size for member in members]
        if max(sizes, default=0) > _MAX_BYTES or sum(sizes) > _MAX_TOTAL:
            raise ImageFileError(path, f"it claims {sum(sizes):,} bytes", "save the selections again, in several files")
        return [archive.read(member) for member in members]


def _selection(roi: Any) -> Selection:
    kind = roi.roitype.name
    rings: list[Any] = []
    if roi.multi_coordinates is not None:
        rings = roi.coordinates(multi=True)
    elif kind in _AREAS or kind == "RECT":
        rings = [roi.coordinates()]
    elif kind == "OVAL":
        rings = [_oval(roi)]
    plane = (roi.position, roi.c_position, roi.z_position, roi.t_position)
    made = [np.asarray(ring, np.float64) for ring in rings]
    return Selection(
        name=roi.name or "",
        rings=made,
        group=int(roi.group or 0),
        plane=tuple(int(number or 0) for number in plane),  # type: ignore[arg-type]
        properties=_properties(roi.props or ""),
    )


def _properties(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _oval(roi: Any) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    centre = np.array([roi.left + roi.right, roi.top + roi.bottom]) / 2
    radii = np.array([roi.right - roi.left, roi.bottom - roi.top]) / 2
    oval: NDArray[np.float64] = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return oval
