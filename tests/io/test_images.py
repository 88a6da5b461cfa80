import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from instseg.errors import InstsegError, UsageError
from instseg.io.formats import MAX_PIXELS, ImageFileError, read_header
from instseg.io.images import read_image, read_planes, write_picture
from instseg.io.label_images import read_labels

RAMP8 = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RAMP16 = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5_000
INSTANCES = np.array([[1, 1, 0, 0], [0, 0, 0, 300], [7, 0, 0, 300]], np.uint16)
MASK = np.array([[1, 0, 1], [1, 0, 1]], np.uint8)


def error_of(call, *args, **options):
    """The message of the one error that a user sees; it must be a single line."""
    with pytest.raises(InstsegError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Images


@pytest.mark.parametrize("pixels", [RAMP8, RAMP16])
def test_gray_png_keeps_its_values(png, pixels):
    image = read_image(png(pixels))
    assert image.dtype == pixels.dtype
    assert np.array_equal(image, pixels[..., None])


@pytest.mark.parametrize("pixels", [RAMP8, RAMP16])
def test_rgb_png_keeps_all_its_bits(png, pixels):
    rgb = np.stack([pixels, pixels[::-1], pixels + 7], -1)
    image = read_image(png(rgb))
    assert image.dtype == pixels.dtype
    assert np.array_equal(image, rgb)


def test_one_bit_png_becomes_0_and_255(tmp_path, raw_png):
    (tmp_path / "a.png").write_bytes(raw_png(3, 1, 1, 0, b"\0\xa0"))
    assert read_image(tmp_path / "a.png").tolist() == [[[255], [0], [255]]]


def test_palette_png_becomes_rgb(tmp_path, raw_png):
    palette = (b"PLTE", bytes([1, 2, 3, 4, 5, 6]))
    (tmp_path / "a.png").write_bytes(raw_png(2, 1, 8, 3, b"\0\1\0", palette))
    assert read_image(tmp_path / "a.png").tolist() == [[[4, 5, 6], [1, 2, 3]]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [RAMP8, RAMP16])
def test_opaque_alpha_is_dropped_and_other_alpha_refused(png, pixels, channels):
    opaque = np.full((3, 4, 1), np.iinfo(pixels.dtype).max, pixels.dtype)
    image = np.concatenate([np.repeat(pixels[..., None], channels, -1), opaque], -1)
    assert np.array_equal(read_image(png(image)), image[..., :-1])
    image[0, 0, -1] -= 1
    assert "it has transparent pixels (1), expected an opaque image; save it without" in error_of(
        read_image, png(image)
    )


def test_a_transparent_colour_of_a_png_is_transparency(tmp_path, raw_png):
    (tmp_path / "a.png").write_bytes(raw_png(3, 1, 8, 0, b"\0\0\1\0", (b"tRNS", b"\0\1")))
    assert "transparent pixels (1)" in error_of(read_image, tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(raw_png(3, 1, 8, 0, b"\0\0\1\0", (b"tRNS", b"\0\2")))
    assert read_image(tmp_path / "a.png").tolist() == [[[0], [1], [0]]]


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_gray_tiff_keeps_its_values(tif, compression, byteorder):
    image = read_image(tif(RAMP16, compression=compression, byteorder=byteorder))
    assert image.dtype == np.uint16
    assert image.dtype.isnative
    assert np.array_equal(image[..., 0], RAMP16)


def test_float_tiff_keeps_its_values_as_float32(tif):
    image = read_image(tif(RAMP8 / 7))
    assert image.dtype == np.float32
    assert np.array_equal(image[..., 0], (RAMP8 / 7).astype(np.float32))


def test_float_tiff_with_nan_or_beyond_float32_is_refused(tif):
    bad = np.array([[0.0, np.nan], [np.inf, 1e300]])
    assert "NaN, infinite or beyond float32 (3); replace" in error_of(read_image, tif(bad))


def test_wide_integers_become_uint16_where_they_fit(tif):
    image = read_image(tif(RAMP16.astype(np.int32)))
    assert image.dtype == np.uint16
    assert np.array_equal(image[..., 0], RAMP16)
    assert "int32 values go from -1 to 40000, expected 0 to 65535 or -32768 to 32767; save" in error_of(
        read_image, tif(np.array([[-1, 40_000]], np.int32))
    )
    assert "from 1 to 70000, expected" in error_of(read_image, tif(np.array([[1, 70_000]], np.uint32)))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_negative_integers_become_int16_where_they_fit(tif, dtype):
    values = np.arange(-6, 6, dtype=dtype).reshape(3, 4)
    image = read_image(tif(values))
    assert image.dtype == np.int16
    assert np.array_equal(image[..., 0], values)


@pytest.mark.parametrize(("planar", "axis"), [("contig", -1), ("separate", 0)])
def test_tiff_with_five_samples_has_five_channels(tif, planar, axis):
    image = np.stack([RAMP16 + i for i in range(5)], -1)
    path = tif(np.moveaxis(image, -1, axis), photometric="minisblack", planarconfig=planar)
    assert np.array_equal(read_image(path), image)


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}])
def test_tiff_with_a_declared_channel_axis_has_these_channels(tif, options):
    image = np.stack([RAMP16, RAMP16 + 1], -1)
    path = tif(np.moveaxis(image, -1, 0), metadata={"axes": "CYX"}, photometric="minisblack", **options)
    assert np.array_equal(read_image(path), image)


def test_tiff_whose_zero_is_white_is_turned_over_for_images_only(tif):
    path = tif(INSTANCES, photometric="miniswhite")
    assert np.array_equal(read_image(path)[..., 0], 65_535 - INSTANCES)
    assert np.array_equal(read_labels(path), INSTANCES)


def test_palette_tiff_becomes_rgb(tif):
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, 7] = (0x0A00, 0x0B00, 0xFF00)
    path = tif(np.array([[7, 0]], np.uint8), photometric="palette", colormap=colormap)
    assert read_image(path).tolist() == [[[10, 11, 255], [0, 0, 0]]]
    assert "palette image, expected gray labels" in error_of(read_labels, path)


def test_stack_is_refused_as_image_and_read_as_planes(tif):
    stack = np.stack([RAMP8, RAMP8 + 1, RAMP8 + 2, RAMP8 + 3, RAMP8 + 4])
    path = tif(stack, photometric="minisblack")
    message = error_of(read_image, path)
    assert message.startswith(f"cannot read {path}: it is a stack of 5 planes of 3 x 4 pixels, expected one image; ")
    assert "by `planes=True`, `channels` takes planes as channels; or save them" in message
    planes = read_planes(path)
    assert [plane.shape for plane in planes] == [(3, 4, 1)] * 5
    assert np.array_equal(np.stack(planes)[..., 0], stack)
    assert "stack of 5 planes" in error_of(read_labels, path)


def test_planes_may_be_taken_as_channels(tif, tmp_path):
    stack = np.stack([RAMP16, RAMP16 + 1, RAMP16 + 2])
    # As tifffile writes an array of channels first that nothing is said about, and as pages one by one.
    first = tif(stack, photometric="minisblack")
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for page in stack:
            writer.write(page)
    for path in (first, tmp_path / "pages.tif"):
        image = read_image(path, planes_as_channels=True)
        assert np.array_equal(image, np.moveaxis(stack, 0, -1))
        assert image.dtype == np.uint16
    single = tif(stack[0])
    assert np.array_equal(read_image(single, planes_as_channels=True), read_image(single))
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as writer:
        writer.write(stack[0])
        writer.write(stack[0, :2])
    with pytest.raises(ImageFileError, match="its planes differ in size"):
        read_image(tmp_path / "sizes.tif", planes_as_channels=True)


def test_planes_of_a_stack_with_channels(tif):
    stack = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    planes = read_planes(tif(stack, imagej=True, metadata={"axes": "ZCYX"}))
    assert len(planes) == 2
    assert np.array_equal(planes[1], np.moveaxis(stack[1], 0, -1))


def test_planes_of_different_sizes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RAMP8)
    tifffile.imwrite(tmp_path / "a.tif", RAMP8[:2], append=True)
    assert [plane.shape for plane in read_planes(tmp_path / "a.tif")] == [(3, 4, 1), (2, 4, 1)]


def test_planes_of_one_image_are_a_list_of_one(png, tif):
    for path in (png(RAMP8), tif(RAMP8)):
        (plane,) = read_planes(path)
        assert np.array_equal(plane[..., 0], RAMP8)


def test_jpeg_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (32, 16, 3)
    assert image[:10].min() > 200
    assert image[-10:].max() < 50
    found = read_header(tmp_path / "a.jpg")
    assert (found.height, found.width, found.colour) == (32, 16, "rgb")


def test_bmp_is_read(tmp_path):
    Image.fromarray(RAMP8).save(tmp_path / "a.bmp")
    assert np.array_equal(read_image(tmp_path / "a.bmp")[..., 0], RAMP8)


@pytest.mark.parametrize(
    ("mode", "name", "suffix"), [("CMYK", "SEPARATED", "tif"), ("LAB", "CIELAB", "tif"), ("CMYK", "CMYK", "jpg")]
)
def test_other_colour_spaces_are_refused(tmp_path, mode, name, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (8, 8)).save(path)
    assert f"its colours are {name}, expected gray or RGB; convert it to RGB" in error_of(read_image, path)


def test_header_says_what_is_stored(png, tif):
    found = read_header(png(np.stack([RAMP16] * 4, -1)))
    assert (found.format, found.height, found.width, found.channels) == ("PNG", 3, 4, 4)
    assert (found.bits, found.dtype, found.planes, found.colour, found.alpha) == (16, "uint16", 1, "rgb", True)
    found = read_header(tif(np.zeros((6, 3, 4), np.float32), photometric="minisblack"))
    assert (found.format, found.planes, found.bits, found.dtype, found.alpha) == ("TIFF", 6, 32, "float32", False)


# Files that are none


def test_missing_empty_and_folder(tmp_path):
    assert error_of(read_image, tmp_path / "no.png").endswith("no.png: there is no such file; check the name")
    (tmp_path / "a.png").touch()
    assert "the file is empty" in error_of(read_labels, tmp_path / "a.png")
    assert "it is a folder, expected an image file" in error_of(read_image, tmp_path)


def test_the_content_counts_and_not_the_name(tmp_path):
    Image.new("RGB", (8, 8), (200, 200, 200)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (8, 8, 3)
    (tmp_path / "b.png").write_text("not an image at all")
    assert "its content is none that is known (PNG, TIFF, JPEG, BMP, GIF, " in error_of(read_image, tmp_path / "b.png")


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.99])
def test_files_cut_short_are_refused_silently(tmp_path, capfd, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(whole, **({"compression": "tiff_lzw"} if suffix == "tif" else {}))
    cut.write_bytes(whole.read_bytes()[: max(int(whole.stat().st_size * share), 8)])
    assert f"cannot read {cut}: it " in error_of(read_image, cut)
    assert capfd.readouterr() == ("", "")


def test_tiff_with_bytes_changed_raises_nothing_else(tmp_path, capfd):
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "a.tif", RAMP16, compression="zlib")
    whole = (tmp_path / "a.tif").read_bytes()
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(4, len(whole), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "a.tif").write_bytes(damaged)
        try:
            read_image(tmp_path / "a.tif")
        except InstsegError as error:
            assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")


def test_png_with_a_flipped_bit_is_refused(tmp_path, png):
    content = bytearray(png(RAMP16).read_bytes())
    content[-20] ^= 1
    (tmp_path / "b.png").write_bytes(content)
    assert "it is damaged or cut off (" in error_of(read_image, tmp_path / "b.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 9), (17, 13)])
def test_interlaced_png(tmp_path, raw_png, bits, shape):
    """Adam7 by hand: each pass is a small image of unfiltered rows."""
    values = np.random.default_rng(0).integers(0, 2**bits, shape)
    rows = b""
    for left, top, across, down in [
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ]:  # fmt: skip
        for row in values[top::down, left::across]:
            if row.size:
                text = "".join(f"{value:0{bits}b}" for value in row)
                text = text.ljust(-(-len(text) // 8) * 8, "0")
                rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    content = bytearray(raw_png(shape[1], shape[0], bits, 0, rows))
    content[28] = 1
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 0], values * (255 // (2**bits - 1)))


def test_remarks_on_sloppy_pngs_do_not_reach_the_terminal(tmp_path, raw_png, capfd):
    path = tmp_path / "a.png"
    profile = (b"iCCP", b"x\0\0" + zlib.compress(b"wrong"))
    path.write_bytes(raw_png(3, 1, 8, 0, b"\0\1\2\3" * 3, profile, (b"PLTE", b"123")))
    assert read_image(path).tolist() == [[[1], [2], [3]]]
    path.write_bytes(raw_png(2, 1, 8, 3, b"\0\0\7", (b"PLTE", b"\1\2\3")))
    assert read_image(path)[0, 0].tolist() == [1, 2, 3]
    path.write_bytes(path.read_bytes() + b"more")
    assert read_image(path).shape == (1, 2, 3)
    assert capfd.readouterr() == ("", "")


def test_headers_that_claim_too_much_are_refused(tmp_path, raw_png):
    huge = tmp_path / "huge.png"
    huge.write_bytes(raw_png(100_000, 100_000, 16, 0, b""))
    message = error_of(read_image, huge)
    assert f"it claims 100000 x 100000 pixels, more than the {MAX_PIXELS:,} pixels" in message
    assert message.endswith("cut it into tiles")
    tifffile.imwrite(tmp_path / "huge.tif", RAMP8)
    with tifffile.TiffFile(tmp_path / "huge.tif", mode="r+") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[tag].overwrite(100_000)
    assert "it claims 100000 x 100000 pixels" in error_of(read_labels, tmp_path / "huge.tif")
    Image.new("L", (8, 8)).save(tmp_path / "huge.bmp")
    content = bytearray((tmp_path / "huge.bmp").read_bytes())
    content[18:26] = struct.pack("<ii", 60_000, 60_000)
    (tmp_path / "huge.bmp").write_bytes(content)
    assert "it claims 60000 x 60000 pixels" in error_of(read_image, tmp_path / "huge.bmp")


def test_pillows_own_limit_is_neither_met_nor_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(RAMP8).save(tmp_path / "a.jpg")
    with warnings.catch_warnings(action="error"):
        assert read_image(tmp_path / "a.jpg").shape == (3, 4, 1)
    assert Image.MAX_IMAGE_PIXELS == 10


# Labels


@pytest.mark.parametrize("picture", [RAMP8, RAMP16, np.stack([RAMP8, RAMP8 + 1, RAMP8 + 2], -1)])
def test_pictures_come_back(tmp_path, picture):
    write_picture(tmp_path / "a.png", picture)
    assert np.array_equal(np.squeeze(read_image(tmp_path / "a.png")), picture)


def test_other_pictures_are_refused(tmp_path):
    with pytest.raises(UsageError, match="expected .* uint8"):
        write_picture(tmp_path / "a.png", np.zeros((2, 2)))
    assert "a name that ends in .png" in error_of(write_picture, tmp_path / "a.tif", RAMP8)


def test_errors_carry_their_parts(tmp_path):
    with pytest.raises(ImageFileError) as caught:
        read_image(tmp_path / "no.png")
    assert (caught.value.what, caught.value.advice) == ("there is no such file", "check the name")
