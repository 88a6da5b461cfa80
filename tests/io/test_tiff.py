"""Parts of TIFF images are those of the image that is read at once."""

from contextlib import closing

import imagecodecs
import numpy as np
import pytest
import tifffile

from instseg.io import tiff_parts
from instseg.io.formats import ImageFileError
from instseg.io.images import read_image
from instseg.io.pixel_size import PixelGeometry
from instseg.io.tiff import TiffReader, supports_region_reads
from instseg.tiling.grid import Box

RNG = np.random.default_rng(3)
BOXES = [Box(0, 0, 70, 90), Box(0, 0, 1, 1), Box(69, 89, 70, 90), Box(15, 16, 49, 33), Box(31, 0, 33, 90)]
WRITTEN = {
    "contiguous": {},
    "big-endian": {"byteorder": ">"},
    "strips": {"rowsperstrip": 7},
    "deflated": {"compression": "zlib", "rowsperstrip": 13},
    "lzw-predicted": {"compression": "lzw", "predictor": True},
    "one-strip": {"compression": "zlib", "rowsperstrip": 70},
    "big-endian-deflated": {"compression": "zlib", "byteorder": ">", "rowsperstrip": 16},
    "tiles": {"tile": (16, 32)},
    "big-endian-tiles": {"tile": (16, 32), "byteorder": ">"},
    "tiles-deflated": {"tile": (32, 16), "compression": "zlib"},
    "bigtiff": {"tile": (32, 32), "bigtiff": True},
}


def pixels(channels=1, dtype=np.uint16):
    values = RNG.integers(0, 250, (70, 90, channels))
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", WRITTEN)
def test_parts_are_parts_of_the_whole(tmp_path, kind, dtype):
    for channels in (1, 3):
        image = pixels(channels, dtype)
        path = tmp_path / f"{channels}.tif"
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(path, image.squeeze(), photometric=photometric, **WRITTEN[kind])
        with closing(TiffReader(path)) as reader:
            assert (reader.shape, reader.dtype) == (image.shape, dtype)
            assert reader.dtype.isnative
            for box in BOXES:
                part = reader.read(box)
                np.testing.assert_array_equal(part, read_image(path)[box.top : box.bottom, box.left : box.right])
                assert part.dtype == dtype
                assert part.dtype.isnative


def test_of_a_pyramid_the_finest_level_is_read(tmp_path):
    image = pixels(dtype=np.uint8)[..., 0]
    with tifffile.TiffWriter(tmp_path / "p.ome.tif") as file:
        file.write(image, subifds=1, tile=(16, 16))
        file.write(image[::2, ::2], subfiletype=1, tile=(16, 16))
    with closing(TiffReader(tmp_path / "p.ome.tif")) as reader:
        np.testing.assert_array_equal(reader.read(Box(0, 0, 70, 90))[..., 0], image)


def split_jpeg(data):
    """The tables of a JPEG, as a stream of their own, and what is left without them."""
    tables, rest, at = b"", b"\xff\xd8", 2
    while data[at + 1] != 0xDA:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in (0xDB, 0xC4):
            tables += data[at : at + size]
        else:
            rest += data[at : at + size]
        at += size
    return b"\xff\xd8" + tables + b"\xff\xd9", rest + data[at:]


def test_jpeg_tiles_share_their_tables(tmp_path):
    image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64, 1) // 16
    image = np.concatenate([image, image.swapaxes(0, 1), 255 - image], axis=-1).astype(np.uint8)
    tiles = [image[top : top + 32, left : left + 32] for top in (0, 32) for left in (0, 32)]
    parts = [split_jpeg(imagecodecs.jpeg8_encode(tile, level=90, subsampling="444")) for tile in tiles]
    assert len({tables for tables, _ in parts}) == 1
    tifffile.imwrite(
        tmp_path / "a.tif",
        iter([rest for _, rest in parts]),
        shape=image.shape,
        dtype=np.uint8,
        tile=(32, 32),
        compression="jpeg",
        photometric="ycbcr",
        subsampling=(1, 1),
        extratags=[(347, 7, len(parts[0][0]), parts[0][0], True)],
    )
    whole = read_image(tmp_path / "a.tif")
    np.testing.assert_allclose(whole.astype(int), image, atol=12)
    with closing(TiffReader(tmp_path / "a.tif")) as reader:
        for box in (Box(0, 0, 64, 64), Box(20, 30, 41, 35)):
            np.testing.assert_array_equal(reader.read(box), whole[box.top : box.bottom, box.left : box.right])


def test_tiles_that_were_never_written_are_zeros(tmp_path):
    image = pixels(dtype=np.uint16)[:64, :64, 0]
    tiles = [image[:32, :32], None, None, image[32:, 32:]]
    options = {
        "shape": (64, 64),
        "dtype": np.uint16,
        "tile": (32, 32),
        "compression": "zlib",
        "photometric": "minisblack",
    }
    # What GDAL calls the value of missing pixels is no value of pixels.
    tag = (42113, "s", 0, "7", True)
    tifffile.imwrite(tmp_path / "a.tif", iter(tiles), extratags=[tag], **options)
    expected = image.copy()
    expected[:32, 32:] = expected[32:, :32] = 0
    with closing(TiffReader(tmp_path / "a.tif")) as reader:
        np.testing.assert_array_equal(reader.read(Box(0, 0, 64, 64))[..., 0], expected)
        np.testing.assert_array_equal(reader.read(Box(20, 40, 50, 60))[..., 0], expected[20:50, 40:60])


@pytest.fixture
def decoded(monkeypatch):
    """The indices of the tiles or strips that are decoded from now on."""
    indices, decode = [], tiff_parts.decode_segment

    def counting(page, index):
        indices.append(index)
        return decode(page, index)

    monkeypatch.setattr(tiff_parts, "decode_segment", counting)
    return indices


def read_beside(path, image, columns):
    """Read parts in tiles of 16 x 16 by their columns."""
    with closing(TiffReader(path)) as reader:
        for column in columns:
            box = Box(2, 16 * column, 9, 16 * column + 20)
            np.testing.assert_array_equal(reader.read(box)[..., 0], image[box.top : box.bottom, box.left : box.right])


def test_tiles_are_decoded_once_for_parts_side_by_side(tmp_path, decoded):
    image = pixels(dtype=np.uint8)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(16, 16), compression="zlib")
    read_beside(tmp_path / "a.tif", image, (0, 1, 2, 3, 1))
    # Only what the part before has needed is kept.
    assert decoded == [0, 1, 2, 3, 4, 1, 2]


def test_few_tiles_are_kept(tmp_path, monkeypatch, decoded):
    image = pixels(dtype=np.uint8)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(16, 16), compression="zlib")
    monkeypatch.setattr("instseg.io.tiff._KEPT_BYTES", 256)
    read_beside(tmp_path / "a.tif", image, (0, 1, 0))
    assert decoded == [0, 1, 1, 2, 0]


def test_a_strip_larger_than_what_is_kept_is_kept(tmp_path, monkeypatch, decoded):
    image = pixels(dtype=np.uint8)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", image, rowsperstrip=70, compression="zlib")
    monkeypatch.setattr("instseg.io.tiff._KEPT_BYTES", 100)
    with closing(TiffReader(tmp_path / "a.tif")) as reader:
        for box in BOXES[1:]:
            np.testing.assert_array_equal(reader.read(box)[..., 0], image[box.top : box.bottom, box.left : box.right])
    assert decoded == [0]


def test_parts_are_no_views_of_the_file(tmp_path):
    image = pixels(dtype=np.uint8)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", image)
    with closing(TiffReader(tmp_path / "a.tif")) as reader:
        part = reader.read(Box(0, 0, 70, 90))
        part[...] = 0
        assert type(part) is np.ndarray
        np.testing.assert_array_equal(reader.read(Box(0, 0, 70, 90))[..., 0], image)


def test_the_geometry_is_that_of_the_file(tmp_path):
    options = {"resolution": (1e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 50), np.uint8), photometric="minisblack", **options)
    with closing(TiffReader(str(tmp_path / "a.tif"))) as reader:
        assert reader.geometry == PixelGeometry((5e-5, 1e-4), None, "centimeter")


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (3, 70, 90), "photometric": "minisblack"},
        {"shape": (70, 90, 4), "photometric": "rgb", "extrasamples": ["unassalpha"]},
        {"shape": (70, 90), "photometric": "miniswhite"},
        {"shape": (3, 70, 90), "photometric": "rgb", "planarconfig": "separate"},
        {"shape": (70, 90), "dtype": np.int32},
    ],
)
def test_what_is_not_read_in_parts(tmp_path, options):
    shape, dtype = options.pop("shape"), options.pop("dtype", np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, dtype), **options)
    assert not supports_region_reads(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match="it cannot be read part by part; save it as a tiled TIFF"):
        TiffReader(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["contiguous", "tiles", "tiles-deflated", "lzw-predicted"])
def test_a_file_that_ends_too_early_is_named(tmp_path, kind):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, RNG.integers(0, 255, (300, 400), np.uint8), **WRITTEN[kind])
    with tifffile.TiffFile(path) as tiff:
        last = max(tiff.pages[0].dataoffsets)
    data = path.read_bytes()
    # The directory of these files comes before the pixels.
    path.write_bytes(data[: max(last + 10, len(data) // 2)])
    with pytest.raises(
        ImageFileError, match=r"cannot read .*cut.tif: it is damaged or cut off \(it ends before its last"
    ):
        TiffReader(path)


@pytest.mark.parametrize("kind", ["tiles-deflated", "deflated", "one-strip"])
def test_a_damaged_chunk_is_named_when_it_is_read(tmp_path, kind):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels()[..., 0], **WRITTEN[kind])
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        begin, size = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(path.read_bytes())
    data[begin : begin + size] = bytes(size)
    path.write_bytes(data)
    with (
        closing(TiffReader(path)) as reader,
        pytest.raises(ImageFileError, match=r"cannot read .*a.tif: it is damaged or cut off"),
    ):
        reader.read(Box(0, 0, 70, 90))
