"""The directories of a TIFF, which tell where its pages are: walked before anything else reads them.

A decoder that follows them from one to the next never ends where they form a circle, and loses pages without a word
where one lies beyond the end of the file.
"""

import struct
from pathlib import Path
from typing import IO, NamedTuple

from instseg.io.image_file import ORIENTATION_TAG, ImageFileError, valid_orientation

MAX_DIRECTORIES = 100_000
"""Most directories of a file that is read."""

_SUBIFDS_TAG = 330
# tifffile takes more tags in a directory for damage.
_MAX_TAGS = 4096
# Bytes of the types of numbers that offsets are stored as.
_OFFSET_FORMATS = {4: "I", 13: "I", 16: "Q", 18: "Q"}


class _Layout(NamedTuple):
    """How the directories of a file are laid out: classic TIFF, BigTIFF, or Hamamatsu's NDPI."""

    order: str
    number: str
    entry: str
    offset: str


class _Directory(NamedTuple):
    next: int
    subifds: tuple[int, ...]
    orientation: int


def page_orientations(path: Path) -> list[int]:
    """Return the orientation, 1 to 8, of each page of a TIFF, in the order of the file.

    Raises
    ------
    ImageFileError
        If the directories form a circle, are more than `MAX_DIRECTORIES`, or are not all in the file.
    """
    size = path.stat().st_size
    pages: dict[int, int] = {}
    children: set[int] = set()
    with path.open("rb") as file:
        layout, offset = _first_directory(file, path)
        while offset:
            if offset in pages:
                raise _circle(path)
            if len(pages) + len(children) >= MAX_DIRECTORIES:
                raise _too_many(path)
            directory = _read_directory(file, layout, offset)
            if directory is None or directory.next >= size:
                what = f"it is damaged or cut off (the directory of page {len(pages) + 1} is not all there)"
                if directory is not None:
                    what = f"it is damaged or cut off (page {len(pages) + 2} begins beyond its end)"
                raise ImageFileError(path, what, "copy or export it again")
            pages[offset] = directory.orientation
            _walk_children(path, file, layout, directory.subifds, children)
            offset = directory.next
    return list(pages.values())


def _walk_children(path: Path, file: IO[bytes], layout: _Layout, offsets: tuple[int, ...], children: set[int]) -> None:
    """Add the directories below a page's own to `children`; those that cannot be read are no pages."""
    pending = list(offsets)
    while pending:
        offset = pending.pop()
        if offset in children:
            raise _circle(path)
        if len(children) >= MAX_DIRECTORIES:
            raise _too_many(path)
        children.add(offset)
        if directory := _read_directory(file, layout, offset):
            pending += directory.subifds


def _circle(path: Path) -> ImageFileError:
    return ImageFileError(path, "it is damaged (its directories form a circle)", "copy or export it again")


def _too_many(path: Path) -> ImageFileError:
    what = f"it has more than {MAX_DIRECTORIES:,} pages"
    return ImageFileError(path, what, "save them in several files")


def _first_directory(file: IO[bytes], path: Path) -> tuple[_Layout, int]:
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    if start[2:4] in (b"+\0", b"\0+"):
        return _Layout(order, "Q", "HHQ8s", "Q"), _unpack(order + "Q", start[8:16])
    # NDPI has offsets of 64 bit in what is else a classic TIFF, and tells it by its name alone.
    if order == "<" and path.suffix.lower() == ".ndpi":
        return _Layout(order, "H", "HHI4s", "Q"), _unpack(order + "Q", start[4:12])
    return _Layout(order, "H", "HHI4s", "I"), _unpack(order + "I", start[4:8])


def _unpack(form: str, data: bytes) -> int:
    if len(data) < struct.calcsize(form):
        raise ValueError("no directory")
    return int(struct.unpack(form, data)[0])


def _read_directory(file: IO[bytes], layout: _Layout, offset: int) -> _Directory | None:
    """Return what of a directory is needed here, None if it is not all in the file."""
    order = layout.order
    count_size, next_size = struct.calcsize(order + layout.number), struct.calcsize(order + layout.offset)
    entry = struct.Struct(order + layout.entry)
    file.seek(offset)
    counted = file.read(count_size)
    count = int(struct.unpack(order + layout.number, counted)[0]) if len(counted) == count_size else _MAX_TAGS + 1
    if count > _MAX_TAGS:
        return None
    content = file.read(count * entry.size + next_size)
    if len(content) < count * entry.size + next_size:
        return None
    subifds: tuple[int, ...] = ()
    orientation = 1
    for code, kind, values, value in entry.iter_unpack(content[: count * entry.size]):
        if code == ORIENTATION_TAG and kind == 3 and values:
            orientation = int(struct.unpack(order + "H", value[:2])[0])
        elif code == _SUBIFDS_TAG and kind in _OFFSET_FORMATS:
            subifds = _offsets(file, order, kind, values, value)
    following = int(struct.unpack(order + layout.offset, content[-next_size:])[0])
    return _Directory(following, subifds, valid_orientation(orientation))


def _offsets(file: IO[bytes], order: str, kind: int, count: int, value: bytes) -> tuple[int, ...]:
    """Return the offsets of a tag, which lie in the tag itself where they fit; none where they are not in the file."""
    size = struct.calcsize(order + _OFFSET_FORMATS[kind])
    count = min(count, MAX_DIRECTORIES + 1)
    if count * size > len(value):
        file.seek(struct.unpack(order + ("Q" if len(value) == 8 else "I"), value)[0])
        value = file.read(count * size)
    if len(value) < count * size:
        return ()
    return struct.unpack(f"{order}{count}{_OFFSET_FORMATS[kind]}", value[: count * size])
