"""PNG, JPEG and BMP: turned upright, whatever libpng, libjpeg and Pillow have to say about them."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from instseg.errors import InstsegError
from instseg.io.formats import read_header
from instseg.io.image_file import ImageFileError
from instseg.io.images import read_image
from instseg.io.label_images import read_labels

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(tmp_path, orientation, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, exif=exif_of(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_image(path), expected)
    header = read_header(path)
    assert (header.height, header.width, header.orientation) == (*expected.shape[:2], orientation)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_orientation_may_come_after_the_pixels_of_a_png(tmp_path, channels, dtype, orientation):
    pixels = RNG.integers(2, 250, (4, 5, channels)).astype(dtype)
    content = imagecodecs.png_encode(pixels)
    exif = chunk(b"eXIf", exif_of(orientation).tobytes().removeprefix(b"Exif\0\0"))
    for at in (33, len(content) - 12):
        (tmp_path / "a.png").write_bytes(content[:at] + exif + content[at:])
        turned = {1: pixels, 3: pixels[::-1, ::-1], 6: np.rot90(pixels, -1)}[orientation]
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), turned)
        if channels == 1:
            np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), turned[..., 0])


@pytest.mark.parametrize("exif", [b"", b"II", b"nonsense", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_turns_nothing(tmp_path, png, exif, capfd):
    content = png(RGB).read_bytes()
    (tmp_path / "b.png").write_bytes(content[:33] + chunk(b"eXIf", exif) + content[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), RGB)
    assert capfd.readouterr() == ("", "")


def interlaced(pixels, *chunks):
    """The bytes of an interlaced PNG of 16-bit colours, each pass an image of rows that are differences to the left."""
    height, width, channels = pixels.shape
    rows = b""
    for left, top, across, down in ADAM7:
        for row in pixels[top::down, left::across].astype(">u2"):
            if len(row):
                content = np.frombuffer(row.tobytes(), np.uint8).reshape(len(row), -1)
                rows += b"\1" + np.diff(content, axis=0, prepend=np.zeros_like(content[:1])).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 1)
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 5), (8, 9), (17, 13), (1, 40), (40, 1)])
def test_interlaced_colours_of_16_bit(tmp_path, shape, capfd):
    pixels = RNG.integers(0, 65_536, (*shape, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(interlaced(pixels))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    opaque = np.concatenate([pixels[..., :1], np.full((*shape, 1), 65_535, np.uint16)], -1)
    (tmp_path / "a.png").write_bytes(interlaced(opaque))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), opaque[..., :1])
    assert capfd.readouterr() == ("", "")


def test_a_transparent_colour_of_16_bit(tmp_path):
    pixels = RNG.integers(0, 65_536, (9, 7, 3), dtype=np.uint16)
    pixels[2, 3] = (1, 2, 3)
    (tmp_path / "a.png").write_bytes(interlaced(pixels, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))))
    with pytest.raises(ImageFileError, match=r"transparent pixels \(1\)"):
        read_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(interlaced(pixels, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 4))))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_remarks_on_colours_of_16_bit_do_not_reach_the_terminal(tmp_path, capfd):
    pixels = RNG.integers(0, 65_536, (4, 5, 3), dtype=np.uint16)
    content = imagecodecs.png_encode(pixels)
    sloppy = [(b"iCCP", b"x\0\0" + zlib.compress(b"wrong")), (b"gAMA", b"\0"), (b"PLTE", b"1234"), (b"tRNS", b"1")]
    for name, data in sloppy:
        (tmp_path / "a.png").write_bytes(content[:33] + chunk(name, data) + content[33:])
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    assert capfd.readouterr() == ("", "")


def test_pixels_beyond_the_last_row_are_left_out(tmp_path, raw_png, capfd):
    rows = b"\0" + bytes(range(12)) + b"\0more"
    (tmp_path / "a.png").write_bytes(raw_png(2, 1, 16, 2, rows))
    assert read_image(tmp_path / "a.png").tolist() == [[[1, 515, 1029], [1543, 2057, 2571]]]
    (tmp_path / "a.png").write_bytes(raw_png(2, 1, 16, 2, rows[:12]))
    with pytest.raises(ImageFileError, match="its pixels end too early"):
        read_image(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("is_interlaced", [False, True])
def test_damaged_colours_of_16_bit_are_refused_silently(tmp_path, capfd, is_interlaced):
    pixels = RNG.integers(0, 65_536, (9, 7, 3), dtype=np.uint16)
    whole = interlaced(pixels) if is_interlaced else imagecodecs.png_encode(pixels)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[RNG.integers(37, len(whole) - 16)] ^= 1 << RNG.integers(8)
        # With a checksum that is right, the damage is met further on.
        size = int.from_bytes(damaged[33:37], "big")
        damaged[41 + size : 45 + size] = struct.pack(">I", zlib.crc32(damaged[37 : 41 + size]))
        (tmp_path / "a.png").write_bytes(damaged)
        with pytest.raises(InstsegError, match="it is damaged or cut off"):
            read_image(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


def test_headers_that_claim_more_than_their_files_can_hold(tmp_path, raw_png):
    claim = "cannot hold 20000 x 20000 pixels"
    (tmp_path / "a.png").write_bytes(raw_png(20_000, 20_000, 8, 0, b""))
    with pytest.raises(ImageFileError, match=claim):
        read_image(tmp_path / "a.png")
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 20_000, 20_000)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageFileError, match=claim):
        read_image(tmp_path / "a.jpg")
    Image.fromarray(RGB).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = struct.pack("<ii", 20_000, 20_000)
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(ImageFileError, match=claim):
        read_image(tmp_path / "a.bmp")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_large_pictures_are_taken_in_strips(tmp_path, monkeypatch, mode):
    Image.fromarray(RNG.integers(0, 256, (50, 30), dtype=np.uint8)).convert(mode).save(tmp_path / "a.png")
    whole = read_image(tmp_path / "a.png")
    monkeypatch.setattr("instseg.io.png_jpeg_bmp._STRIP_PIXELS", 30 * 7)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), whole)


def test_remarks_on_exif_of_a_jpeg_do_not_reach_the_terminal(tmp_path, capfd):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif_of(3))
    content = (tmp_path / "a.jpg").read_bytes()
    # One entry more than there is.
    place = content.index(b"MM\0*") + 8
    (tmp_path / "a.jpg").write_bytes(content[:place] + b"\0\x05" + content[place + 2 :])
    assert read_image(tmp_path / "a.jpg").shape == (4, 5, 3)
    assert capfd.readouterr() == ("", "")


def test_headers_that_libpng_would_remark_upon_are_refused(tmp_path):
    path = tmp_path / "a.png"
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in RGB))
    first = struct.pack(">IIBBBBB", 5, 4, 8, 2, 0, 0, 0)
    damaged = [[first[:10] + bytes(last)] for last in ((1, 0, 0), (0, 1, 0), (0, 0, 2))]
    # A second header, which the decoder would believe.
    for headers in [*damaged, [first, struct.pack(">IIBBBBB", 2**28, 2**20, 8, 2, 0, 0, 0)]]:
        parts = [*((b"IHDR", header) for header in headers), (b"IDAT", rows), (b"IEND", b"")]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
        with pytest.raises(ImageFileError, match="impossible header|several headers"):
            read_image(path)
