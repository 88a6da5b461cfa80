"""The size and the position of pixels: read from TIFF, written to TIFF, and carried over between TIFF and OME-Zarr."""

import math
from contextlib import closing

import numpy as np
import pytest
import tifffile

from instseg.io.label_images import write_labels, write_labels_streamed
from instseg.io.omezarr import ZarrReader
from instseg.io.pixel_size import PixelGeometry, geometry_note, length_ratio, read_pixel_geometry
from instseg.io.tiff import TiffReader
from instseg.io.zarr_labels import write_zarr_labels

ONES = np.ones((40, 50), np.int32)
MICROSCOPY = "http://www.openmicroscopy.org/Schemas/OME/2016-06"

# How a file says that its pixels are so high and so wide, in which unit.
WRITTEN = {
    "inches": ({"resolution": (254.0, 508.0), "resolutionunit": "INCH"}, (0.005, 0.01), "centimeter"),
    "centimetres": ({"resolution": (1e4, 2e4), "resolutionunit": "CENTIMETER"}, (5e-5, 1e-4), "centimeter"),
    "imagej": (
        {"imagej": True, "resolution": (2.0, 4.0), "metadata": {"unit": "um"}},
        (2.5e-5, 5e-5),
        "centimeter",
    ),
    "ome": (
        {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}},
        (0.25, 0.5),
        "micrometer",
    ),
    "ome-two-units": (
        {
            "ome": True,
            "metadata": {
                "axes": "YX",
                "PhysicalSizeX": 0.5,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 250.0,
                "PhysicalSizeYUnit": "nm",
            },
        },
        (2.5e-5, 5e-5),
        "centimeter",
    ),
}


def write_image(path, **options):
    tifffile.imwrite(path, np.zeros((40, 50), np.uint8), photometric="minisblack", **options)


@pytest.mark.parametrize("kind", WRITTEN)
def test_sizes_go_from_tiff_to_tiff(tmp_path, kind):
    options, size, unit = WRITTEN[kind]
    write_image(tmp_path / "a.tif", **options)
    geometry = read_pixel_geometry(str(tmp_path / "a.tif"))
    assert geometry.pixel_size == pytest.approx(size)
    assert (geometry.position, geometry.unit) == (None, unit)
    write_labels(tmp_path / "b.tif", ONES, geometry)
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        tags = tiff.pages[0].tags
        assert tags["ResolutionUnit"].value == 3
        counts = [value[0] / value[1] for value in (tags["YResolution"].value, tags["XResolution"].value)]
    centimetres = np.multiply(size, length_ratio(unit, "centimeter"))
    np.testing.assert_allclose(counts, 1 / centimetres)
    assert read_pixel_geometry(tmp_path / "b.tif").pixel_size == pytest.approx(centimetres)


def ome(pixels, prefix="", before=""):
    namespace = f'xmlns:{prefix.rstrip(":")}="{MICROSCOPY}"' if prefix else f'xmlns="{MICROSCOPY}"'
    other = f'<Pixels xmlns="{MICROSCOPY}" ID="Pixels:1" PhysicalSizeX="9" PhysicalSizeY="9"/>'
    return (
        f'{before}<{prefix}OME {namespace}><{prefix}Image ID="Image:0"><!-- <Pixels PhysicalSizeX="7"/> -->'
        f'<{prefix}Pixels DimensionOrder="XYZCT" {pixels}/></{prefix}Image><{prefix}Image>{other}</{prefix}Image>'
        f"</{prefix}OME>"
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (ome('PhysicalSizeX="0.5" PhysicalSizeY="0.25"'), (0.25, 0.5)),
        (ome('PhysicalSizeX="0.5" PhysicalSizeY="0.25"', prefix="ome:"), (0.25, 0.5)),
        (ome("PhysicalSizeX='0.5' PhysicalSizeXUnit='&#181;m' PhysicalSizeY='0.25'"), (0.25, 0.5)),
        (ome('PhysicalSizeX="0.5"'), None),
        (ome('PhysicalSizeX="0.5" PhysicalSizeY="-1"'), None),
        (ome('PhysicalSizeX="0.5" PhysicalSizeY="inf"'), None),
        (ome('PhysicalSizeX="0.5" PhysicalSizeY="wide"'), None),
        (ome('PhysicalSizeX="0.5" PhysicalSizeY="0.25" PhysicalSizeYUnit="pixel"'), None),
        (ome('PhysicalSizeX="0.5" PhysicalSizeY="0.25"').replace("</OME>", ""), None),
        (ome('PhysicalSizeX="0.5" PhysicalSizeY="&size;"', before='<!DOCTYPE OME [<!ENTITY size "0.25">]>'), None),
        ("OME", None),
    ],
)
def test_ome_xml_is_parsed(tmp_path, monkeypatch, text, size):
    # tifffile parses it, too, to tell images apart, and has its own opinion of what is damaged.
    monkeypatch.setattr(tifffile.TiffFile, "ome_metadata", text)
    write_image(tmp_path / "a.tif")
    geometry = read_pixel_geometry(tmp_path / "a.tif")
    assert geometry == (None if size is None else PixelGeometry(size, None, "micrometer"))


def test_what_ome_xml_does_not_say_the_tags_say(tmp_path):
    write_image(tmp_path / "a.ome.tif", ome=True, resolution=(1e4, 2e4), resolutionunit="CENTIMETER")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert "<Pixels" in tiff.ome_metadata
    assert read_pixel_geometry(tmp_path / "a.ome.tif") == PixelGeometry((5e-5, 1e-4), None, "centimeter")


def edges(path):
    """Top and left edge in the file, in centimetres; None where it has no such tags."""
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        if "YPosition" not in tags:
            return None
        return tuple(value[0] / value[1] for value in (tags["YPosition"].value, tags["XPosition"].value))


@pytest.mark.parametrize("unit", [{"resolutionunit": "CENTIMETER"}, {"resolutionunit": "INCH"}])
@pytest.mark.parametrize("top", [(5, 4), (1, 128), (123_456_789, 1_000_000), (0, 1)])
def test_positions_go_from_tiff_to_tiff(tmp_path, unit, top):
    left = (7, 8)
    tags = [(286, 5, 1, left, True), (287, 5, 1, top, True)]
    write_image(tmp_path / "a.tif", resolution=(1e4, 3e4), extratags=tags, **unit)
    geometry = read_pixel_geometry(tmp_path / "a.tif")
    scale = 2.54 if unit["resolutionunit"] == "INCH" else 1
    height, width = geometry.pixel_size
    assert (height, width) == pytest.approx((scale / 3e4, scale / 1e4))
    # A TIFF gives the edge, the geometry the middle of the first pixel.
    expected = (scale * top[0] / top[1] + height / 2, scale * left[0] / left[1] + width / 2)
    assert geometry.position == pytest.approx(expected, rel=1e-14)
    write_labels_streamed(tmp_path / "b.tif", ONES.shape, iter([ONES]), geometry)
    assert edges(tmp_path / "b.tif") == pytest.approx((scale * top[0] / top[1], scale * left[0] / left[1]), rel=1e-9)
    write_labels(tmp_path / "c.tif", ONES, read_pixel_geometry(tmp_path / "b.tif"))
    assert edges(tmp_path / "c.tif") == edges(tmp_path / "b.tif")


@pytest.mark.parametrize("position", [(-1.0, 5.0), (1e9, 5.0), (0.1, 0.1)])
def test_positions_that_tiff_cannot_hold_are_left_out(tmp_path, position):
    write_labels(tmp_path / "a.tif", ONES, PixelGeometry((0.25, 0.5), position, "micrometer"))
    assert edges(tmp_path / "a.tif") is None
    assert read_pixel_geometry(tmp_path / "a.tif").pixel_size == pytest.approx((2.5e-5, 5e-5))


@pytest.mark.parametrize(
    ("size", "position", "lacks"),
    [
        ((0.25, 0.5), None, None),
        ((0.25, 0.5), (0.0, 0.0), "its position (0, 0 micrometer)"),
        ((0.25, 0.5), (10.0, 20.0), None),
        ((0.25, 0.5), (-1.0, 5.0), "its position (-1, 5 micrometer)"),
        ((0.25, 0.5), (5.0, math.inf), "its position (5, inf micrometer)"),
        ((0.25, 0.5), (math.nan, 5.0), "its position (nan, 5 micrometer)"),
        ((0.25, 0.5), (5.0, 1e300), "its position (5, 1e+300 micrometer)"),
        ((1e-9, 1e-9), (5.0, 5.0), "the size of its pixels (1e-09 x 1e-09 micrometer)"),
        ((0.5, 5e-324), None, "the size of its pixels (0.5 x 4.94066e-324 micrometer)"),
        ((0.5, 1e300), None, "the size of its pixels (0.5 x 1e+300 micrometer)"),
        ((0.5, math.inf), None, "the size of its pixels (0.5 x inf micrometer)"),
        ((math.nan, 0.5), None, "the size of its pixels (nan x 0.5 micrometer)"),
        ((0.0, 0.5), None, "the size of its pixels (0 x 0.5 micrometer)"),
        ((-1.0, 0.5), None, "the size of its pixels (-1 x 0.5 micrometer)"),
    ],
)
def test_labels_are_written_without_what_does_not_fit(tmp_path, size, position, lacks):
    geometry = PixelGeometry(size, position, "micrometer")
    assert geometry_note(geometry) == (None if lacks is None else f"{lacks} does not fit into a TIFF and is left out")
    for number, write in enumerate(
        (write_labels, lambda *given: write_labels_streamed(*given[:1], ONES.shape, iter([ONES]), geometry))
    ):
        path = tmp_path / f"{number}.tif"
        write(path, ONES, geometry)
        assert (edges(path) is None) == (position is None or lacks is not None)
        again = read_pixel_geometry(path)
        if lacks is not None and lacks.startswith("the size"):
            assert again is None
        else:
            assert again.pixel_size == pytest.approx((2.5e-5, 5e-5))


@pytest.mark.parametrize("size", [3e-6, 1e-5, 7e6, 9e9])
def test_sizes_far_from_those_of_microscopes_come_back(tmp_path, size):
    write_labels(tmp_path / "a.tif", ONES, PixelGeometry((size, size), None, "micrometer"))
    assert read_pixel_geometry(tmp_path / "a.tif").pixel_size == pytest.approx((size / 1e4, size / 1e4), rel=1e-3)


@pytest.mark.parametrize(
    "geometry", [None, PixelGeometry((1.0, 1.0), (-1.0, 0.0)), PixelGeometry((0, 1), None, "pixel")]
)
def test_nothing_is_said_of_what_no_tiff_has(geometry):
    assert geometry_note(geometry) is None


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (0, 0)])
def test_fractions_of_zero_say_nothing(tmp_path, numbers):
    write_image(tmp_path / "a.tif", resolution=(1e4, 2e4), resolutionunit="CENTIMETER")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tiff.pages[0].tags["XResolution"].overwrite(numbers)
    assert read_pixel_geometry(tmp_path / "a.tif") is None


@pytest.mark.parametrize("unit", [None, "pixel", "second"])
def test_sizes_without_a_unit_of_length_are_left_out_of_tiff(tmp_path, unit):
    write_labels(tmp_path / "a.tif", ONES, PixelGeometry((0.25, 0.5), (1.0, 2.0), unit))
    assert read_pixel_geometry(tmp_path / "a.tif") is None


def test_from_tiff_to_zarr(tmp_path):
    tags = [(286, 5, 1, (3, 2), True), (287, 5, 1, (5, 4), True)]
    options = {"resolution": (1e4, 2e4), "resolutionunit": "CENTIMETER", "extratags": tags}
    write_image(tmp_path / "a.tif", **options)
    with closing(TiffReader(tmp_path / "a.tif")) as reader:
        write_zarr_labels(tmp_path / "labels.zarr", ONES.shape, iter([ONES]), reader.geometry)
    import zarr

    image = zarr.open_group(tmp_path / "labels.zarr", mode="r").attrs["ome"]["multiscales"][0]
    assert image["axes"] == [{"name": name, "type": "space", "unit": "centimeter"} for name in "yx"]
    scale, translation = image["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == pytest.approx([5e-5, 1e-4])
    # OME-Zarr gives the middle of the first pixel, the TIFF its edge.
    assert translation["translation"] == pytest.approx([1.25 + 2.5e-5, 1.5 + 5e-5])


def test_from_zarr_to_tiff(tmp_path):
    geometry = PixelGeometry((0.25, 0.5), (12_500.125, 15_000.25), "micrometer")
    write_zarr_labels(tmp_path / "a.zarr", ONES.shape, iter([ONES]), geometry)
    import zarr

    values = zarr.create_array(tmp_path / "a.zarr" / "0", shape=(40, 50), dtype="uint8", overwrite=True)
    values[...] = 0
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    group.attrs["ome"] = {key: value for key, value in group.attrs["ome"].items() if key != "image-label"}
    with closing(ZarrReader(tmp_path / "a.zarr")) as reader:
        assert reader.geometry == geometry
        write_labels_streamed(tmp_path / "b.tif", ONES.shape, iter([ONES]), reader.geometry)
    again = read_pixel_geometry(tmp_path / "b.tif")
    assert again.unit == "centimeter"
    assert again.pixel_size == pytest.approx((2.5e-5, 5e-5))
    assert edges(tmp_path / "b.tif") == (1.25, 1.5)


def test_what_says_nothing_of_its_pixels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8))
    write_labels(tmp_path / "a.png", np.ones((4, 5), np.int32), PixelGeometry((1.0, 1.0), None, "micrometer"))
    assert read_pixel_geometry(tmp_path / "a.tif") is None
    assert read_pixel_geometry(tmp_path / "a.png") is None
    assert read_pixel_geometry(tmp_path) is None


@pytest.mark.parametrize(
    ("unit", "other", "ratio"),
    [("millimeter", "micrometer", 1000), ("µm", "nanometer", 1000), ("inch", "cm", 2.54), ("pixel", "cm", None)],
)
def test_units_of_length(unit, other, ratio):
    assert length_ratio(unit, other) == (None if ratio is None else pytest.approx(ratio))


@pytest.mark.parametrize(
    ("description", "size"),
    [
        ("Aperio Image Library v12.0\r\n64x64 |AppMag = 20|MPP = 0.4990|Left = 25.6", 0.499),
        ("Aperio Image Library v12.0\r\n64x64 |AppMag = 20|MPP = 0.25", 0.25),
        ("Aperio Image Library v12.0\r\n64x64 |AppMag = 20|MPP = 0|Left = 25.6", None),
        ("Aperio Image Library v12.0\r\n64x64 |AppMag = 20|MPP = x", None),
        ("Another program |MPP = 0.4990|", None),
    ],
)
def test_slides_of_aperio_say_their_size_in_the_description(tmp_path, description, size):
    tifffile.imwrite(tmp_path / "a.svs", np.zeros((64, 64, 3), np.uint8), description=description, metadata=None)
    expected = None if size is None else PixelGeometry((size, size), None, "micrometer")
    assert read_pixel_geometry(tmp_path / "a.svs") == expected
