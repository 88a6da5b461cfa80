"""The image of a Zarr group and its axes are found by what the metadata says, and what is damaged is refused."""

import math
from pathlib import Path

import pytest
import zarr

from instseg.io.image_file import ImageFileError
from instseg.io.ngff import find_image
from instseg.io.pixel_size import PixelGeometry

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_group(path, shape=(6, 5), version="0.4", **image):
    """Write a group with an array "0" and a description of it as an image."""
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", shape=shape, dtype="uint8", chunks=shape)[...] = 1
    multiscales = [{"datasets": [{"path": "0"}], "version": version} | image]
    group.attrs.update({"ome": {"multiscales": multiscales}} if version == "0.5" else {"multiscales": multiscales})
    return Path(path)


def roles(image):
    return [axis.role for axis in image.axes]


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (["Z", "Y", "X"], ["z", "y", "x"]),
        (["channel", "row", "col"], ["c", "y", "x"]),
        ([{"name": "lambda", "type": "channel"}, {"name": "y"}, {"name": "x"}], ["c", "y", "x"]),
        ([{"name": "stain", "type": "channel"}, {"name": "y"}, {"name": "x"}], ["c", "y", "x"]),
        ([{"name": "day", "type": "time"}, {"name": "y"}, {"name": "x"}], ["t", "y", "x"]),
        # The name counts where it is known.
        ([{"name": "c", "type": "space"}, {"name": "y"}, {"name": "x"}], ["c", "y", "x"]),
        ([{"name": "z", "type": "channel"}, {"name": "y"}, {"name": "x"}], ["z", "y", "x"]),
        # Of any other axis it is not known that it is one of channels.
        ([{"name": "focus", "type": "space"}, {"name": "y"}, {"name": "x"}], ["focus", "y", "x"]),
    ],
)
def test_axes_are_told_by_their_names_and_types(axes, expected):
    assert roles(find_image(write_group("a.zarr", (2, 6, 5), axes=axes))) == expected


def test_axes_of_plain_arrays_are_named_by_dimensions():
    zarr.create_array("v3.zarr", shape=(2, 6, 5), dtype="uint8", dimension_names=["z", "y", "x"])
    zarr.create_array(
        "v2.zarr", shape=(2, 6, 5), dtype="uint8", zarr_format=2, attributes={"_ARRAY_DIMENSIONS": ["time", "y", "x"]}
    )
    assert roles(find_image(Path("v3.zarr"))) == ["z", "y", "x"]
    assert roles(find_image(Path("v2.zarr"))) == ["t", "y", "x"]


def write_raw(names, version="0.4", series=None):
    """Write what bioformats2raw writes."""
    layout = {"bioformats2raw.layout": 3}
    attributes = {"ome": layout} if version == "0.5" else layout
    zarr_format = 3 if version == "0.5" else 2
    zarr.create_group("raw.zarr", zarr_format=zarr_format, attributes=attributes)
    ome = zarr.create_group("raw.zarr/OME", zarr_format=zarr_format)
    if series is not None:
        ome.attrs.update({"ome": {"series": series}} if version == "0.5" else {"series": series})
    Path("raw.zarr/OME/METADATA.ome.xml").write_text("<OME/>")
    for name in names:
        write_group(f"raw.zarr/{name}", version=version)
    return Path("raw.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("series", [None, ["0"]])
def test_the_only_image_of_bioformats2raw_is_found(version, series):
    image = find_image(write_raw(["0"], version, series))
    assert image.node.path == Path("raw.zarr/0/0")
    assert image.path == Path("raw.zarr/0")


@pytest.mark.parametrize("series", [None, [str(number) for number in range(11)]])
def test_of_several_images_one_must_be_given(series):
    path = write_raw([str(number) for number in range(11)], series=series)
    message = r"it holds 11 images \(0, 1, 2, \.\.\.\), expected one; give one of them, such as raw.zarr/0"
    with pytest.raises(ImageFileError, match=message):
        find_image(path)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"plate": {"wells": []}},
            "it is a plate of wells, expected one image; give a field, such as a.zarr/A/1/0; predict",
        ),
        (
            {"well": {"images": []}},
            "it is a well of fields, expected one image; give a field, such as a.zarr/0; predict",
        ),
        ({"labels": ["nuclei"]}, "it holds labels, expected an image"),
        ({"bioformats2raw.layout": 3}, "it holds no image"),
        ({}, "it is a group without OME-Zarr metadata"),
        ({"multiscales": 3}, "it is damaged .multiscales is 3"),
        ({"multiscales": []}, "it is damaged .multiscales is ..,"),
        ({"multiscales": [{}]}, "it is damaged .its datasets have no path"),
        ({"multiscales": [{"datasets": [{"path": "9"}]}]}, "it is damaged .the array '9' is missing"),
        ({"multiscales": [{"datasets": [{"path": ""}]}]}, "it is damaged .the array '' is missing"),
        ({"multiscales": [{"datasets": [{"path": "../b.zarr"}]}]}, "it is damaged .the path '../b.zarr' leads out of"),
        ({"multiscales": [{"datasets": [{"path": "/etc"}]}]}, "it is damaged .the path '/etc' leads out of it"),
        ({"multiscales": [{"datasets": [{"path": "a\0b"}]}]}, "it is damaged"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_other_groups_are_refused(attributes, message, wrapped):
    zarr.create_group("a.zarr", attributes={"ome": attributes} if wrapped else attributes)
    zarr.create_array("b.zarr", shape=(6, 5), dtype="uint8")
    with pytest.raises(ImageFileError, match=message):
        find_image(Path("a.zarr"))


def test_labels_are_no_image():
    path = write_group("a.zarr")
    zarr.open_group(path).attrs["image-label"] = {}
    with pytest.raises(ImageFileError, match="it holds labels, expected an image"):
        find_image(path)


def test_attributes_alone_make_a_group():
    path = write_group("a.zarr")
    (path / ".zgroup").unlink()
    assert find_image(path).layout.shape == (6, 5)


def test_versions_that_describe_axes_otherwise_are_refused():
    path = write_group("a.zarr", version="0.6", coordinateSystems=[])
    with pytest.raises(ImageFileError, match=r"it is OME-Zarr of version 0.6, expected 0.1 to 0.5"):
        find_image(path)


@pytest.mark.parametrize(
    "axes",
    [3, "yx", [3, "x"], [None, None], [["y"], ["x"]], ["y", "y"], ["y"], [{"name": "y", "unit": 3}, "x"], {"y": 1}],
)
def test_axes_that_are_none_are_refused(axes):
    with pytest.raises(ImageFileError, match="axes|axis"):
        find_image(write_group("a.zarr", axes=axes))


DAMAGED = [
    [10**30],
    {"scale": 1},
    "scale",
    [["scale"]],
    *([{"type": "scale", "scale": value}] for value in (3, None, "ab", [0.5, [0.5]], ["zstd", 0.5], [10**400, 1])),
    *([{"type": "translation", "translation": value}] for value in ({}, [math.nan, 1], [math.inf, 1], [True, 1])),
    [{"type": "scale", "scale": [1e200, 1]}, {"type": "scale", "scale": [1e200, 1]}],
]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("transformations", DAMAGED)
def test_damaged_sizes_of_pixels_are_refused(transformations, version):
    datasets = [{"path": "0", "coordinateTransformations": transformations}]
    with pytest.raises(ImageFileError, match=r"a\.zarr: it is damaged"):
        find_image(write_group("a.zarr", version=version, axes=["y", "x"], datasets=datasets))


def test_transformations_that_are_not_known_are_passed_over():
    steps = [{"type": "affine", "affine": "x"}, {"type": ["a"]}, {}, {"type": "scale", "path": "sizes"}]
    steps.append({"type": "scale", "scale": [0.5, 0.25]})
    path = write_group("a.zarr", axes=["y", "x"], coordinateTransformations=steps)
    assert find_image(path).geometry == PixelGeometry((0.5, 0.25))


def test_a_missing_folder_is_named():
    Path("a.zarr").mkdir()
    for path in (Path("a.zarr"), Path("b.zarr")):
        with pytest.raises(ImageFileError, match="it is a folder without Zarr metadata"):
            find_image(path)
