"""TIFFs that claim more than they hold are refused before their claims take memory."""

from contextlib import closing

import imagecodecs
import numpy as np
import pytest
import tifffile

from instseg.io.image_file import ImageFileError
from instseg.io.images import read_image
from instseg.io.tiff import TiffReader
from instseg.io.tiff_claims import coded_size
from instseg.tiling.grid import Box

PIXELS = np.random.default_rng(0).integers(0, 255, (100, 37, 3), dtype=np.uint8)

ENCODERS = {
    "jpeg": lambda pixels: imagecodecs.jpeg8_encode(pixels),
    "jpeg2000": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
    "jpeg2000-boxes": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="jp2"),
    "jpegxl": lambda pixels: imagecodecs.jpegxl_encode(pixels),
    "jpegxl-boxes": lambda pixels: imagecodecs.jpegxl_encode(pixels, usecontainer=True),
    "jpegxr": lambda pixels: imagecodecs.jpegxr_encode(pixels),
    "png": lambda pixels: imagecodecs.png_encode(pixels),
    "webp": lambda pixels: imagecodecs.webp_encode(pixels),
    "webp-lossless": lambda pixels: imagecodecs.webp_encode(pixels, lossless=True),
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("shape", [(100, 37), (64, 64), (3, 20), (90, 5)])
def test_sizes_are_found_in_encoded_tiles(kind, shape):
    assert coded_size(ENCODERS[kind](PIXELS[: shape[0], :5].repeat(16, axis=1)[:, : shape[1]].copy())) == shape


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\0" * 9, b"II\xbc\x01", b"RIFF"]
)
def test_no_size_is_found_in_damaged_tiles(data):
    assert coded_size(data) is None


@pytest.mark.parametrize("kind", ["jpeg", "jpeg2000", "jpegxl", "png", "webp"])
def test_a_tile_larger_than_its_place_is_refused(tmp_path, kind):
    tile = ENCODERS[kind](np.zeros((600, 600, 3), np.uint8))
    options = {"shape": (64, 64, 3), "dtype": np.uint8, "tile": (64, 64), "compression": kind}
    tifffile.imwrite(tmp_path / "a.tif", iter([tile]), photometric="rgb", **options)
    with pytest.raises(ImageFileError, match="a tile or strip claims 600 x 600 pixels, expected 64 x 64"):
        read_image(tmp_path / "a.tif")
    with (
        closing(TiffReader(tmp_path / "a.tif")) as reader,
        pytest.raises(ImageFileError, match="a tile or strip claims 600 x 600 pixels"),
    ):
        reader.read(Box(0, 0, 64, 64))


def overwrite(path, **tags):
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name, value in tags.items():
            tiff.pages[0].tags[name].overwrite(value)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
def test_a_small_file_of_many_pixels_is_refused(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS[..., 0], compression=compression, rowsperstrip=100)
    overwrite(path, ImageWidth=20_000, ImageLength=20_000, RowsPerStrip=20_000)
    with pytest.raises(ImageFileError, match=r"its \d+ bytes cannot hold the 400000000 bytes of pixels"):
        read_image(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiles_much_larger_than_the_image_are_refused(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS[..., 0], compression=compression, tile=(16, 16))
    overwrite(path, TileWidth=32_768, TileLength=32_768)
    with pytest.raises(ImageFileError, match="its tiles are much larger than its image"):
        read_image(path)


def test_tiles_that_are_a_little_larger_than_the_image_are_fine(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", compression="jpeg", tile=(512, 512))
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - PIXELS).mean() < 60


def test_strips_that_are_not_there_are_missed(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS[..., 0], compression="zlib", rowsperstrip=100)
    overwrite(path, RowsPerStrip=10)
    with pytest.raises(ImageFileError, match="it has 1 of 10 tiles or strips"):
        read_image(path)


def test_a_strip_that_claims_more_bytes_than_the_file_has_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS[..., 0], compression="zlib", rowsperstrip=50)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["StripByteCounts"].overwrite([65_000, 65_000])
    with pytest.raises(ImageFileError, match="claims 65000 bytes of a file of"):
        read_image(path)


def test_a_jpeg_strip_that_is_cut_off_is_missed(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", compression="jpeg", rowsperstrip=100)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageFileError, match="it ends before its last tile or strip"):
        read_image(path)


def test_remarks_on_png_tiles_do_not_reach_the_terminal(tmp_path, capfd):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", compression="png", rowsperstrip=100)
    np.testing.assert_array_equal(read_image(path), PIXELS)
    content = bytearray(path.read_bytes())
    # The checksum of the compressed pixels, which comes before that of their chunk and the last chunk.
    content[content.rindex(b"IEND") - 9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match="it is damaged"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def change_tag(path, code, position, value):
    """Put another 16-bit or 32-bit number into the entry of a tag."""
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.tags[code].offset
    data = bytearray(path.read_bytes())
    data[offset + position : offset + position + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (PIXELS, "it has 1 of 5 tiles or strips"),
        (PIXELS[..., 0] > 90, "it does not say how many bytes its tiles or strips have"),
    ],
)
def test_strips_without_their_sizes_are_refused(tmp_path, pixels, reason):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, rowsperstrip=20 if pixels.ndim == 3 else 100)
    # Another tag in the place of that of the sizes.
    change_tag(path, 279, 0, b"\xe8\x03")
    with pytest.raises(ImageFileError, match=reason):
        read_image(path)


def test_tiles_of_several_heights_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", compression="zlib", tile=(32, 16))
    change_tag(path, 322, 2, b"\4\0\1\0\0\0\0\0\0\x40")
    # Two numbers of 16 bit, where one is expected.
    change_tag(path, 323, 2, b"\3\0\2\0\0\0")
    with pytest.raises(ImageFileError, match="it is damaged"):
        read_image(path)
