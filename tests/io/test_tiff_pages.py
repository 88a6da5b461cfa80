"""What the pages of a TIFF mean: planes, channels, thumbnails; and how their pixels are shown."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from instseg.io.formats import read_header
from instseg.io.image_file import ImageFileError
from instseg.io.images import read_image, read_planes
from instseg.io.label_images import read_labels
from instseg.io.pixel_size import read_pixel_geometry
from instseg.io.source import open_image, open_planes
from instseg.io.tiff import supports_region_reads

RNG = np.random.default_rng(0)
ZC = np.arange(3 * 2 * 4 * 5, dtype=np.uint16).reshape(3, 2, 4, 5)
SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def read_stack(path):
    return np.stack(read_planes(path))


# Axes that the file names


@pytest.mark.parametrize(
    ("axes", "options", "words"),
    [
        ("ZYX", {"ome": True}, "Z"),
        ("TYX", {"ome": True}, "T"),
        ("ZYX", {"imagej": True}, "Z"),
        ("TYX", {"imagej": True}, "T"),
        ("ZYX", {}, "Z"),
        ("TYX", {}, "T"),
    ],
)
def test_planes_with_a_name_are_no_channels(tif, axes, options, words):
    path = tif(ZC[:, 0], photometric="minisblack", metadata={"axes": axes}, **options)
    message = f"it is a stack of 3 planes along {words} of 4 x 5 pixels, expected one image; .* by `planes=True`; or"
    for planes_as_channels in (False, True):
        with pytest.raises(ImageFileError, match=message):
            read_image(path, planes_as_channels=planes_as_channels)
        with pytest.raises(ImageFileError, match=message):
            open_image(path, planes_as_channels=planes_as_channels)
    np.testing.assert_array_equal(read_stack(path)[..., 0], ZC[:, 0])
    assert [plane.shape for plane in open_planes(path)] == [(4, 5, 1)] * 3
    with pytest.raises(ImageFileError, match=f"a stack of 3 planes along {words} of 4 x 5 pixels, expected one label"):
        read_labels(path)


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}, {}])
def test_planes_keep_their_channels(tif, options):
    path = tif(ZC, photometric="minisblack", metadata={"axes": "ZCYX"}, **options)
    with pytest.raises(ImageFileError, match="a stack of 3 planes along Z"):
        read_image(path, planes_as_channels=True)
    np.testing.assert_array_equal(read_stack(path), np.moveaxis(ZC, 1, -1))


@pytest.mark.parametrize("order", ["TZCYX", "TCZYX", "ZTCYX", "ZCTYX", "CTZYX", "CZTYX"])
def test_all_orders_of_axes(tmp_path, order):
    sizes = {"T": 2, "Z": 3, "C": 4, "Y": 4, "X": 5}
    stack = np.arange(480, dtype=np.uint16).reshape([sizes[axis] for axis in order])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": order})
    expected = np.transpose(stack, [order.index(axis) for axis in "TZYXC"]).reshape(6, 4, 5, 4)
    np.testing.assert_array_equal(read_stack(path), expected)
    assert read_header(path).plane_axes == "T and Z"


def test_planes_in_colours(tif):
    stack = RNG.integers(0, 255, (3, 4, 5, 3), dtype=np.uint8)
    for options in ({"ome": True, "metadata": {"axes": "ZYXS"}}, {"imagej": True, "metadata": {"axes": "ZYXS"}}, {}):
        path = tif(stack, photometric="rgb", **options)
        np.testing.assert_array_equal(read_stack(path), stack)
        assert read_header(path).colour == "rgb"


def test_channels_in_colours_are_refused(tif):
    stack = np.zeros((2, 4, 5, 3), np.uint8)
    path = tif(stack, photometric="rgb", ome=True, metadata={"axes": "CYXS"})
    for call in (read_image, read_planes, read_labels):
        with pytest.raises(ImageFileError, match="it has 2 channels of 3 samples each, expected .*; save the channels"):
            call(path)


# What OME-XML says of files


def write_member(path, pages, data, *, sizes, uuid=None, order="XYCZT", image="", extra="", **options):
    """Write a file of some pages, with OME-XML of which `data` are the elements that say what these are."""
    size = " ".join(f'Size{axis}="{number}"' for axis, number in {"C": 1, "Z": 1, "T": 1, **sizes}.items())
    identifier = f'UUID="urn:uuid:{uuid}"' if uuid else ""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{SCHEMA}" {identifier}><Image ID="Image:0" Name="{image}">'
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" SizeX="5" SizeY="4" {size}>'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image>{extra}</OME>'
    )
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(pages):
            writer.write(page, description=text if number == 0 else None, metadata=None, **options)


def of_file(name, attributes, uuid=None):
    return f'<TiffData {attributes}><UUID FileName="{name}">urn:uuid:{uuid or name}</UUID></TiffData>'


def members(attribute, count, planes=1):
    return "".join(
        of_file(f"{number}.ome.tif", f'{attribute}="{number}" IFD="0" PlaneCount="{planes}"') for number in range(count)
    )


@pytest.mark.parametrize("axis", ["Z", "T", "C"])
@pytest.mark.parametrize("together", [True, False])
def test_a_file_of_a_set_is_its_own_page(tmp_path, axis, together):
    for number in range(3) if together else [1]:
        path = tmp_path / f"{number}.ome.tif"
        write_member(path, ZC[number, :1], members(f"First{axis}", 3), sizes={axis: 3}, uuid=path.name)
        np.testing.assert_array_equal(read_image(path)[..., 0], ZC[number, 0])
        np.testing.assert_array_equal(read_stack(path)[0, ..., 0], ZC[number, 0])
        assert read_header(path).planes == 1


@pytest.mark.parametrize("uuid", [None, "1.ome.tif"])
@pytest.mark.parametrize("name", ["1.ome.tif", "renamed.tif"])
def test_a_file_of_a_set_keeps_the_names_of_its_axes(tmp_path, name, uuid):
    path = tmp_path / name
    write_member(path, ZC[:, 0], members("FirstC", 2, planes=3), sizes={"Z": 3, "C": 2}, uuid=uuid, order="XYZCT")
    with pytest.raises(ImageFileError, match="a stack of 3 planes along "):
        read_image(path, planes_as_channels=True)
    np.testing.assert_array_equal(read_stack(path)[..., 0], ZC[:, 0])
    write_member(path, ZC[0], members("FirstZ", 3, planes=2), sizes={"Z": 3, "C": 2}, uuid=uuid)
    if uuid or name == "1.ome.tif":
        np.testing.assert_array_equal(read_image(path), np.moveaxis(ZC[0], 0, -1))
    else:
        # Without an identifier and under another name, nothing says which of the files it is.
        with pytest.raises(ImageFileError, match="a stack of 2 planes along axes that its description does not tell"):
            read_image(path, planes_as_channels=True)
    assert len(read_planes(path)) == (1 if uuid or name == "1.ome.tif" else 2)


def test_planes_that_are_claimed_only_are_not_there(tmp_path):
    path = tmp_path / "a.ome.tif"
    for data in (
        '<TiffData IFD="0" PlaneCount="9"/>',
        "<TiffData/>",
        '<TiffData IFD="0"/><TiffData IFD="1" FirstZ="1"/>',
    ):
        write_member(path, ZC[:2, 0], data, sizes={"Z": 9})
        np.testing.assert_array_equal(read_stack(path)[..., 0], ZC[:2, 0])
        assert read_header(path).plane_axes == "Z"
        write_member(path, ZC[:1, 0], data, sizes={"Z": 9})
        np.testing.assert_array_equal(read_image(path)[..., 0], ZC[0, 0])


def test_a_channel_that_some_planes_lack_is_damage(tmp_path):
    path = tmp_path / "a.ome.tif"
    write_member(path, ZC.reshape(-1, 4, 5)[:5], "<TiffData/>", sizes={"C": 2, "Z": 3})
    with pytest.raises(ImageFileError, match=r"its planes have different channels \(first at time 0, depth 2\)"):
        read_planes(path)


def test_pages_that_ome_xml_does_not_name_are_no_channels(tmp_path):
    path = tmp_path / "a.ome.tif"
    write_member(path, ZC[:, 0], '<TiffData IFD="0" PlaneCount="1"/>', sizes={})
    with pytest.raises(ImageFileError, match="a stack of 3 planes along axes that its description does not tell"):
        read_image(path, planes_as_channels=True)
    np.testing.assert_array_equal(read_stack(path)[..., 0], ZC[:, 0])


@pytest.mark.parametrize(
    "text",
    [
        f'<OME xmlns="{SCHEMA}" UUID="urn:uuid:1"><BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:2"/></OME>',
        f'<OME xmlns="{SCHEMA}"><Image></OME>',
        f'<OME xmlns="{SCHEMA}"><Image><Pixels DimensionOrder="XYZCT" SizeZ="-1" SizeC="1" SizeT="1"/></Image></OME>',
    ],
)
def test_names_that_stand_elsewhere_are_not_known(tmp_path, text):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(ZC[:, 0], description=text, metadata=None, photometric="minisblack")
    with pytest.raises(ImageFileError, match="a stack of 3 planes along axes that its description does not tell"):
        read_image(path, planes_as_channels=True)
    np.testing.assert_array_equal(read_stack(path)[..., 0], ZC[:, 0])


def test_several_images_are_planes_and_labels_of_slides_are_not(tmp_path):
    def further(number, name):
        return (
            f'<Image ID="Image:{number}" Name="{name}"><Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" '
            'Type="uint16" SizeX="5" SizeY="4" SizeC="1" SizeZ="1" SizeT="1">'
            f'<TiffData IFD="{number}" PlaneCount="1"/></Pixels></Image>'
        )

    path, data = tmp_path / "a.ome.tif", '<TiffData IFD="0" PlaneCount="1"/>'
    write_member(path, ZC[:, 0], data, sizes={}, extra=further(1, "second") + further(2, "third"))
    np.testing.assert_array_equal(read_stack(path)[..., 0], ZC[:, 0])
    with pytest.raises(ImageFileError, match="a stack of 3 planes along series of"):
        read_image(path, planes_as_channels=True)
    write_member(path, ZC[:, 0], data, sizes={}, extra=further(1, "label image") + further(2, "Macro"))
    np.testing.assert_array_equal(read_image(path)[..., 0], ZC[0, 0])


# Which pages are planes


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_reduced_images_and_masks_are_no_planes(tmp_path, kind):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(ZC[0, 0], metadata=None)
        further = ZC[1, 0, :2] if kind == 1 else ZC[1, 0] > 3
        writer.write(further, subfiletype=kind, metadata=None, photometric="minisblack" if kind == 1 else "mask")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], ZC[0, 0])


def test_thumbnails_of_slides_are_no_planes(tmp_path):
    level = RNG.integers(0, 255, (64, 96, 3), dtype=np.uint8)
    for description in ("Aperio Image Library v1\r\n96x64 |AppMag = 20", None):
        with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
            options = {"photometric": "rgb", "metadata": None}
            writer.write(level, tile=(16, 16), description=description, **options)
            writer.write(level[:20, :30], description=description, **options)
            writer.write(level[::2, ::2], tile=(16, 16), description=description, **options)
            writer.write(level[5:22, 3:50], subfiletype=1, description=description, **options)
        np.testing.assert_array_equal(read_image(tmp_path / "a.svs"), level)


def test_planes_of_different_kinds_are_read_as_what_they_are(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.array([[1, 2]], np.uint8), photometric="minisblack", metadata=None)
        writer.write(np.array([[1, 2, 3]], np.uint16), photometric="miniswhite", metadata=None)
    first, second = read_planes(tmp_path / "a.tif")
    assert first.ravel().tolist() == [1, 2]
    assert second.ravel().tolist() == [65_534, 65_533, 65_532]


# How pixels are shown


def write_raw(path, values, bits, photometric, *, fill_order=1, tags=()):
    """Write a TIFF of values of few bits, whose rows begin at whole bytes."""
    height, width = values.shape
    texts = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
    texts = [text.ljust(-(-len(text) // 8) * 8, "0") for text in texts]
    data = bytes(
        int(text[at : at + 8][:: 1 if fill_order == 1 else -1], 2) for text in texts for at in range(0, len(text), 8)
    )
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric),
        (266, 3, 1, fill_order), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data)), *tags,
    ]  # fmt: skip
    entries.sort()
    start = 8 + len(data)
    free = start + 2 + 12 * len(entries) + 4
    directory, values_of_tags = struct.pack("<H", len(entries)), b""
    for code, kind, count, value in entries:
        if isinstance(value, bytes):
            directory += struct.pack("<HHII", code, kind, count, free + len(values_of_tags))
            values_of_tags += value
        else:
            directory += struct.pack("<HHII", code, kind, count, value)
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + data + directory + bytes(4) + values_of_tags)


@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_values_of_few_bits_are_those_of_libtiff(tmp_path, bits, photometric, fill_order):
    path = tmp_path / "a.tif"
    values = RNG.integers(0, 2**bits, (13, 21))
    write_raw(path, values, bits, photometric, fill_order=fill_order)
    shown = np.asarray(Image.open(path).convert("L"))
    # Values of 2 and 4 bit are kept as they are, where other readers spread them over 0 to 255.
    scale = 1 if bits == 1 else 255 // (2**bits - 1)
    np.testing.assert_array_equal(read_image(path)[..., 0] * scale, shown)
    if bits > 1:
        np.testing.assert_array_equal(read_labels(path), values)


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize(
    "compression", ["tiff_ccitt", "group3", "group4", "packbits", "tiff_lzw", "tiff_adobe_deflate"]
)
def test_bilevel_images_are_those_of_libtiff(tmp_path, compression, photometric):
    path = tmp_path / "a.tif"
    Image.fromarray(RNG.random((13, 21)) > 0.6).save(path, compression=compression)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(photometric)
    white = np.asarray(Image.open(path))
    np.testing.assert_array_equal(read_image(path)[..., 0], white * np.uint8(255))
    # One rule for labels, too: white are the objects.
    np.testing.assert_array_equal(read_labels(path, connected_components=True) > 0, white)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_are_those_of_libtiff(tmp_path, bits):
    path = tmp_path / "a.tif"
    colours = (RNG.integers(0, 256, (3, 2**bits)) * 257).astype("<u2")
    write_raw(path, RNG.integers(0, 2**bits, (13, 21)), bits, 3, tags=[(320, 3, colours.size, colours.tobytes())])
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_and_labels_are_upright(tmp_path, orientation):
    path = tmp_path / "a.tif"
    pixels = RNG.integers(2, 255, (4, 5, 3), dtype=np.uint8)
    options = {"extratags": [(274, 3, 1, orientation, True)], "resolution": (1e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, photometric="rgb", **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_image(path), expected)
    header = read_header(path)
    assert (header.height, header.width, header.orientation) == (*expected.shape[:2], orientation)
    assert supports_region_reads(path) == (orientation == 1)
    # 10,000 columns and 20,000 rows a centimetre, as the pixels are stored.
    size = (5e-5, 1e-4) if orientation < 5 else (1e-4, 5e-5)
    assert read_pixel_geometry(path).pixel_size == pytest.approx(size)
    tifffile.imwrite(path, pixels[..., 0], photometric="minisblack", **options)
    np.testing.assert_array_equal(read_labels(path), expected[..., 0])


def test_planes_that_are_turned_differently_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for orientation in (1, 6):
            writer.write(ZC[0, 0], metadata=None, extratags=[(274, 3, 1, orientation, True)])
    with pytest.raises(ImageFileError, match="its pages are turned in different ways; save them one by one"):
        read_planes(tmp_path / "a.tif")


def test_a_large_image_that_is_not_stored_upright_says_so(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ZC[0, 0], extratags=[(274, 3, 1, 6, True)])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[tag].overwrite(60_000)
    with pytest.raises(ImageFileError, match="its orientation is 6; store its pixels upright"):
        open_image(path)


def test_values_that_are_all_extra_are_damage(tmp_path):
    path = tmp_path / "a.tif"
    write_raw(path, np.ones((3, 4), int), 1, 1, tags=[(338, 3, 1, 2)])
    for call in (read_image, read_planes, read_labels):
        with pytest.raises(ImageFileError, match="it calls 1 of 1 values per pixel extra"):
            call(path)


def test_values_of_an_unknown_type_are_damage(tmp_path):
    path = tmp_path / "a.tif"
    write_raw(path, np.ones((3, 4), int), 1, 1, tags=[(339, 3, 1, 77)])
    for call in (read_image, read_labels):
        with pytest.raises(ImageFileError, match="no values are of 1 bit"):
            call(path)
