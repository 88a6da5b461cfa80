"""The directories of a TIFF: in order, in a circle, too many, or not all there."""

import struct

import numpy as np
import pytest
import tifffile

from instseg.io.image_file import ImageFileError
from instseg.io.images import read_image, read_planes
from instseg.io.tiff_directories import page_orientations

STACK = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def directories(path):
    """The offset of each page's directory, and where the offset of the next one is stored."""
    with tifffile.TiffFile(path) as tiff:
        form = tiff.tiff
        return [
            (page.offset, page.offset + form.tagnosize + form.tagsize * len(page.tags), form.byteorder, form.offsetsize)
            for page in tiff.pages
        ]


def write_offset(path, place, value, byteorder, size):
    content = bytearray(path.read_bytes())
    content[place : place + size] = struct.pack(byteorder + ("Q" if size == 8 else "I"), value)
    path.write_bytes(content)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages_are_found(tmp_path, byteorder, bigtiff):
    tags = [[(274, 3, 1, orientation, True)] for orientation in (1, 6, 9)]
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=byteorder, bigtiff=bigtiff) as writer:
        for page, tag in zip(STACK, tags, strict=True):
            writer.write(page, subifds=1, extratags=tag)
            writer.write(page[::2, ::2], subfiletype=1)
    assert page_orientations(tmp_path / "a.tif") == [1, 6, 1]


@pytest.mark.parametrize("back_to", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_circle_is_refused(tmp_path, options, back_to):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=None, **options)
    found = directories(path)
    write_offset(path, found[-1][1], found[back_to][0], *found[-1][2:])
    for call in (page_orientations, read_image, read_planes):
        with pytest.raises(ImageFileError, match="its directories form a circle"):
            call(path)


def test_a_circle_below_a_page_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(STACK[0], subifds=1)
        writer.write(STACK[0, ::2, ::2], subfiletype=1)
    with tifffile.TiffFile(path) as tiff:
        child = tiff.pages[0].subifds[0]
        tiff.filehandle.seek(child)
        tags = tifffile.TiffPage(tiff, (0, 0)).tags
    # A tag of the directory below becomes one that names directories below this one: itself.
    content = bytearray(path.read_bytes())
    place = child + 2 + 12 * [tag.code for tag in tags.values()].index(tags["RowsPerStrip"].code)
    content[place : place + 12] = struct.pack("<HHII", 330, 4, 1, child)
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match="its directories form a circle"):
        read_image(path)


def test_pages_beyond_the_end_are_missed(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=None)
    found = directories(path)
    write_offset(path, found[1][1], 10**6, *found[1][2:])
    with pytest.raises(ImageFileError, match=r"cut off \(page 3 begins beyond its end\)"):
        read_planes(path)
    path.write_bytes(path.read_bytes()[: found[2][0] + 5])
    write_offset(path, found[1][1], found[2][0], *found[1][2:])
    with pytest.raises(ImageFileError, match=r"cut off \(the directory of page 3 is not all there\)"):
        read_planes(path)


def test_many_directories_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("instseg.io.tiff_directories.MAX_DIRECTORIES", 1000)
    directory = struct.pack("<HHHII", 1, 256, 4, 1, 1)
    content = b"II*\0" + struct.pack("<I", 8)
    for _ in range(2000):
        content += directory + struct.pack("<I", len(content) + 18)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageFileError, match="it has more than 1,000 pages; save them in several files"):
        read_image(tmp_path / "a.tif")


def test_directories_below_a_page_that_are_not_there_are_no_pages(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(STACK[0], subifds=1, metadata=None)
        writer.write(STACK[0, ::2, ::2], subfiletype=1, metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["SubIFDs"].overwrite(10**6)
    assert page_orientations(path) == [1]
    np.testing.assert_array_equal(read_image(path)[..., 0], STACK[0])
