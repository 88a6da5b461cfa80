"""OME-Zarr images of all versions are read part by part."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from instseg.io.image_file import ImageFileError
from instseg.io.images import read_image
from instseg.io.omezarr import ZarrReader, zarr_planes
from instseg.io.pixel_size import PixelGeometry
from instseg.io.stored_volume import read_volume_header
from instseg.tiling.grid import Box

# The first version of the format names no axes, and its arrays are of Zarr's second.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr")

IMAGE = np.random.default_rng(0).integers(0, 60_000, (3, 90, 70)).astype(np.uint16)
BOXES = [Box(0, 0, 90, 70), Box(31, 5, 64, 33), Box(89, 69, 90, 70)]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_image(path, values, axes, version="0.5", scale=None, named=True, units=None):
    """Write an OME-Zarr group of two levels."""
    group = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    for name, level in (("full", values), ("half", values[..., ::2, ::2])):
        array = group.create_array(
            name, shape=level.shape, dtype=level.dtype, chunks=tuple(min(32, n) for n in level.shape)
        )
        array[...] = level
    datasets = [{"path": "full"}, {"path": "half"}]
    if scale is not None:
        datasets[0]["coordinateTransformations"] = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": [10 * side for side in scale]},
        ]
    image = {"datasets": datasets}
    if named and version in ("0.4", "0.5"):
        image["axes"] = [
            {"name": name, "type": "channel"}
            if name == "c"
            else {"name": name, "type": "space", "unit": (units or {}).get(name, "micrometer")}
            for name in axes
        ]
    elif named:
        image["axes"] = list(axes)
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [image]
    return Path(path)


def expected(box, values=IMAGE):
    return np.moveaxis(values, 0, -1)[box.top : box.bottom, box.left : box.right]


@pytest.mark.parametrize("version", ["0.3", "0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "tczyx"])
def test_parts_of_a_group_are_parts_of_its_finest_level(version, axes):
    values = IMAGE if axes == "cyx" else IMAGE[None, :, None]
    reader = ZarrReader(write_image("a.zarr", values, axes, version))
    assert reader.shape == (90, 70, 3)
    for box in BOXES:
        np.testing.assert_array_equal(reader.read(box), expected(box))
    # Names of axes without units are all that the third version has.
    assert reader.geometry == (None if version == "0.3" else PixelGeometry((1.0, 1.0), None, "micrometer"))
    assert reader.dtype == np.uint16
    reader.close()


def test_axes_that_are_not_named_are_those_of_the_first_version():
    reader = ZarrReader(write_image("a.zarr", IMAGE[None, :, None], "tczyx", "0.3", named=False))
    np.testing.assert_array_equal(reader.read(BOXES[1]), expected(BOXES[1]))


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (IMAGE[0], None),
        (IMAGE, None),
        (np.moveaxis(IMAGE, 0, -1), None),
        (np.moveaxis(IMAGE, 0, 1), ("y", "c", "x")),
    ],
)
def test_plain_arrays_are_read(values, names):
    array = zarr.create_array(
        "a.zarr", shape=values.shape, dtype=values.dtype, chunks=(9,) * values.ndim, dimension_names=names
    )
    array[...] = values
    reader = ZarrReader(Path("a.zarr"))
    image = IMAGE[:1] if values.ndim == 2 else IMAGE
    for box in BOXES:
        np.testing.assert_array_equal(reader.read(box), expected(box, image))


def test_pixel_sizes_are_those_of_the_finest_level():
    reader = ZarrReader(write_image("a.zarr", IMAGE, "cyx", scale=[1, 0.25, 0.5]))
    assert reader.geometry == PixelGeometry((0.25, 0.5), (2.5, 5.0), "micrometer")


def test_the_scale_of_all_levels_follows_that_of_the_level():
    path = write_image("a.zarr", IMAGE, "cyx", scale=[1, 0.25, 0.5])
    group = zarr.open_group(path)
    metadata = group.attrs["ome"]
    # What is none of the transformations that are known, or has another number of axes, is passed over.
    metadata["multiscales"][0]["coordinateTransformations"] = [
        {"type": "identity"},
        {"type": "scale", "scale": [2, 2]},
        {"type": "scale", "scale": [1, 4, 10]},
        {"type": "translation", "translation": [0, 1, 2]},
    ]
    group.attrs["ome"] = metadata
    assert ZarrReader(path).geometry == PixelGeometry((1.0, 5.0), (11.0, 52.0), "micrometer")


@pytest.mark.parametrize(
    ("units", "scale", "geometry"),
    [
        (
            {"x": "nanometer"},
            [1, 0.25, 500],
            PixelGeometry((0.25, pytest.approx(0.5)), (2.5, pytest.approx(5)), "micrometer"),
        ),
        ({"x": "pixel"}, [1, 0.25, 500], None),
        ({"y": None, "x": None}, [1, 1, 1], PixelGeometry((1.0, 1.0), (10.0, 10.0), None)),
        ({"y": None, "x": None}, None, None),
        ({}, [1, 0, 1], None),
        ({}, [1, -1, 1], None),
    ],
)
def test_units_of_rows_and_columns(units, scale, geometry):
    assert ZarrReader(write_image("a.zarr", IMAGE, "cyx", scale=scale, units=units)).geometry == geometry


@pytest.mark.parametrize(("units", "depth"), [({"z": None}, 1), ({"z": "pixel"}, 1), ({}, 0), ({}, -1)])
def test_pixels_have_their_size_whatever_is_said_of_the_depth(units, depth):
    path = write_image("a.zarr", IMAGE[:1], "zyx", scale=[depth, 0.25, 0.5], units=units)
    assert ZarrReader(path).geometry == PixelGeometry((0.25, 0.5), (2.5, 5.0), "micrometer")
    assert read_volume_header(path).geometry == PixelGeometry((0.25, 0.5), (2.5, 5.0), "micrometer")


@pytest.mark.parametrize("order", ["<", ">"])
def test_values_are_of_the_machines_byte_order(order):
    write_image("a.zarr", IMAGE.astype(f"{order}u2"), "cyx", "0.4")
    reader = ZarrReader("a.zarr")
    part = reader.read(BOXES[1])
    np.testing.assert_array_equal(part, expected(BOXES[1]))
    assert part.dtype == reader.dtype == np.uint16
    assert part.dtype.isnative
    assert reader.dtype.isnative


@pytest.mark.parametrize(
    ("values", "axes", "message"),
    [
        (
            np.zeros((2, 9, 9), np.uint8),
            "zyx",
            "it has 2 along z, expected one plane; predict takes every plane as an image by",
        ),
        (np.zeros((9, 9), np.complex64), "yx", "its values are complex64, expected integers or floats"),
        (np.zeros((9, 9), np.uint8), "cx", "its axes are c, x and its shape is .*, expected y, x"),
        (np.zeros((9, 9), np.uint8), "cyx", "its axes are c, y, x and its shape is .*, expected y, x"),
    ],
)
def test_what_is_no_image_is_refused(values, axes, message):
    with pytest.raises(ImageFileError, match=message):
        ZarrReader(write_image("a.zarr", values, axes))


def test_groups_and_files_that_are_damaged_are_named():
    zarr.create_group("empty.zarr")
    with pytest.raises(ImageFileError, match="empty.zarr: it is a group without OME-Zarr metadata"):
        ZarrReader(Path("empty.zarr"))
    path = write_image("a.zarr", IMAGE, "cyx")
    chunk = next(path.glob("full/c/0/1/1"))
    chunk.write_bytes(b"no chunk")
    reader = ZarrReader(path)
    np.testing.assert_array_equal(reader.read(Box(0, 0, 32, 32)), expected(Box(0, 0, 32, 32)))
    with pytest.raises(ImageFileError, match="a.zarr: it is damaged"):
        reader.read(BOXES[0])
    (path / "zarr.json").write_text("{")
    with pytest.raises(ImageFileError, match="a.zarr: it is damaged"):
        ZarrReader(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_planes_are_images_in_the_order_of_the_array(version):
    values = np.arange(2 * 3 * 4 * 6 * 5, dtype=np.uint16).reshape(2, 3, 4, 6, 5)
    planes = zarr_planes(write_image("a.zarr", values, "tczyx", version))
    assert [plane.shape for plane in planes] == [(6, 5, 3)] * 8
    for plane, (t, z) in zip(planes, np.ndindex(2, 4), strict=True):
        assert plane.geometry == PixelGeometry((1.0, 1.0), None, "micrometer")
        np.testing.assert_array_equal(plane.read(Box(1, 2, 4, 5)), np.moveaxis(values[t, :, z, 1:4, 2:5], 0, -1))


def test_an_image_of_one_plane_is_its_only_plane():
    (plane,) = zarr_planes(write_image("a.zarr", IMAGE[None, :, None], "tczyx"))
    np.testing.assert_array_equal(plane.read(BOXES[1]), expected(BOXES[1]))


def test_three_axes_without_names_are_channels_or_planes_as_is_asked_for():
    zarr.create_array("a.zarr", data=IMAGE)
    assert ZarrReader("a.zarr").shape == (90, 70, 3)
    assert [plane.shape for plane in zarr_planes("a.zarr")] == [(90, 70, 1)] * 3
    zarr.create_array("named.zarr", data=IMAGE, dimension_names=["c", "y", "x"])
    assert [plane.shape for plane in zarr_planes("named.zarr")] == [(90, 70, 3)]


TYPES = [
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_values_of_any_type_are_those_of_the_same_tiff(dtype, version):
    values = (np.arange(63).reshape(9, 7) % (2 if dtype == "bool" else 100)).astype(dtype)
    reader = ZarrReader(write_image("a.zarr", values, "yx", version))
    tifffile.imwrite("a.tif", values, photometric="minisblack")
    image = read_image("a.tif")
    part = reader.read(Box(0, 0, 9, 7))
    np.testing.assert_array_equal(part, image)
    # Of a file that is read part by part it is not known before whether a value is negative.
    expected = np.int16 if dtype in ("int8", "int16") else image.dtype
    assert part.dtype == reader.dtype == expected


def test_negative_values_of_8_and_16_bit_are_read():
    values = np.arange(-30, 33, dtype=np.int16).reshape(9, 7)
    part = ZarrReader(write_image("a.zarr", values, "yx", "0.5")).read(Box(2, 1, 9, 7))
    assert part.dtype == np.int16
    np.testing.assert_array_equal(part[..., 0], values[2:, 1:])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((9, 7), -3, np.int32), "its values go from -3 to -3 in the part that was read, expected 0 to 65535; "),
        (np.full((9, 7), -40_000, np.int32), "its int32 values go from -40000 to -40000 in the part that was read"),
        (np.full((9, 7), 65_536, ">u4"), "its uint32 values go from 65536 to 65536"),
        (np.full((9, 7), 2**64 - 1, np.uint64), "its uint64 values go from 18446744073709551615"),
        (np.full((9, 7), np.nan, np.float32), "it has values that are NaN, infinite or beyond float32 .63 in the part"),
        (np.full((9, 7), 1e300), "it has values that are NaN, infinite or beyond float32"),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_values_that_are_none_of_an_image_are_refused(values, message, stored):
    array = zarr.create_array(
        "a.zarr", shape=values.shape, dtype=values.dtype, zarr_format=2, fill_value=None if stored else values[0, 0]
    )
    if stored:
        array[...] = values
    with pytest.raises(ImageFileError, match=f"a.zarr: {message}"):
        ZarrReader("a.zarr").read(Box(0, 0, 9, 7))


@pytest.mark.parametrize("path", ["a.zarr/zarr.json", "a.zarr/full/zarr.json"])
@pytest.mark.parametrize("text", ["", "[]", "null", '"a"', "[" * 100_000, "{" * 10, "\xff", '{"zarr_format": 3}'])
def test_damaged_metadata_is_an_error_of_one_line(path, text):
    write_image("a.zarr", IMAGE, "cyx")
    Path(path).write_bytes(text.encode("latin1"))
    with pytest.raises(ImageFileError) as refused:
        ZarrReader("a.zarr")
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("error")
def test_no_warning_of_zarr_reaches_the_terminal():
    array = zarr.create_array("a.zarr", data=IMAGE, zarr_format=2, filters=None)
    metadata = json.loads(Path("a.zarr/.zarray").read_text())
    # Zarr warns of an empty list.
    Path("a.zarr/.zarray").write_text(json.dumps({**metadata, "filters": []}))
    np.testing.assert_array_equal(ZarrReader("a.zarr").read(BOXES[0]), expected(BOXES[0]))
    assert array.shape == IMAGE.shape
