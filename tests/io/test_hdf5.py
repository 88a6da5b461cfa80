"""Images in HDF5 files, written by h5py."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.formats import read_header
from instseg.io.images import read_image, read_planes
from instseg.io.label_images import read_labels
from instseg.io.pixel_size import PixelGeometry
from instseg.io.source import open_image, open_planes, read_geometry
from instseg.tiling.grid import Box

GRAY = np.random.default_rng(0).integers(0, 60_000, (30, 40)).astype(np.uint16)
RGB = np.random.default_rng(1).integers(0, 256, (30, 40, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(call, *args, **options):
    with pytest.raises(InstsegError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(name="a.h5", **datasets):
    with h5py.File(name, "w") as file:
        for path, values in datasets.items():
            file[path.replace("__", "/")] = values
    return name


def test_the_only_dataset_is_the_image():
    write(image=GRAY, note="a text", numbers=np.arange(5))
    np.testing.assert_array_equal(read_image("a.h5")[..., 0], GRAY)
    np.testing.assert_array_equal(read_image("a.h5:/image")[..., 0], GRAY)
    header = read_header("a.h5")
    assert (header.format, header.height, header.width, header.dtype) == ("HDF5", 30, 40, "uint16")


def test_one_of_several_datasets_is_named():
    write(g__raw=GRAY, g__other=RGB, seg=GRAY)
    assert "it holds 3 images (g/other, g/raw, seg), expected one; give one of them, such as a.h5:/g/other" in message(
        read_image, "a.h5"
    )
    np.testing.assert_array_equal(read_image("a.h5:/g/other"), RGB)
    assert "it holds no nothing (its images: g/other, g/raw, seg); check the name" in message(
        read_image, "a.h5:/nothing"
    )
    assert "g is a group (g/other, g/raw), expected a dataset; give one" in message(read_image, "a.h5:/g")


def test_a_path_into_a_file_without_parts_is_refused(png):
    png(GRAY)
    Path("b.png").write_bytes(Path("a.png").read_bytes())
    assert "cannot read b.png:/x: it leads into a PNG, which has no parts; give b.png" in message(
        read_image, "b.png:/x"
    )


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"compression": "lzf", "shuffle": True}, {}])
def test_chunks_of_any_compression_are_read_part_by_part(options, monkeypatch):
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("image", data=RGB, chunks=(7, 9, 3), **options)
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", 1000)
    reader = open_image("a.h5:/image")
    assert reader.streamed
    np.testing.assert_array_equal(reader.read(Box(5, 6, 20, 33)), RGB[5:20, 6:33])


def test_axes_have_the_names_that_the_file_gives_them():
    volume = np.stack([GRAY, GRAY // 2, GRAY // 3], axis=-1)
    with h5py.File("a.h5", "w") as file:
        labelled = file.create_dataset("labelled", data=volume)
        tagged = file.create_dataset("tagged", data=np.moveaxis(volume, -1, 0))
        for axis, name in enumerate("yxz"):
            labelled.dims[axis].label = name
        tagged.attrs["axistags"] = json.dumps({"axes": [{"key": key, "typeFlags": 1} for key in "cyx"]})
    assert "it is a stack of 3 planes along Z of 30 x 40 pixels" in message(
        read_image, "a.h5:/labelled", planes_as_channels=True
    )
    np.testing.assert_array_equal(read_planes("a.h5:/labelled")[1][..., 0], GRAY // 2)
    np.testing.assert_array_equal(open_planes("a.h5:/labelled")[2].read(Box(0, 0, 30, 40))[..., 0], GRAY // 3)
    np.testing.assert_array_equal(read_image("a.h5:/tagged"), volume)


@pytest.mark.parametrize("tags", ["{", "[]", '{"axes": [{"key": "y"}]}', '{"axes": [{"key": "y"}, {"key": "y"}]}', "7"])
def test_names_that_make_no_sense_are_passed_over(tags):
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("image", data=GRAY).attrs["axistags"] = tags
    np.testing.assert_array_equal(read_image("a.h5")[..., 0], GRAY)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([2.0, 0.5, 0.25], PixelGeometry((0.5, 0.25), None, "micrometer")),
        ([0.5, 0.25], PixelGeometry((0.5, 0.25), None, "micrometer")),
        ([2.0, 0.0, 0.25], None),
        ([np.nan, np.nan], None),
        (["a", "b"], None),
        ([1.0], None),
    ],
)
def test_the_size_of_pixels_is_read(sizes, expected):
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("image", data=GRAY).attrs["element_size_um"] = sizes
    assert read_geometry(Path("a.h5:/image")) == open_image("a.h5").geometry == expected


def test_labels_are_read():
    write(labels=(GRAY % 5).astype(np.uint32))
    np.testing.assert_array_equal(read_labels("a.h5"), GRAY % 5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("a text", "its values are object, expected integers or floats"),
        (np.zeros(3, [("a", "i4")]), "its values are of a compound type"),
        (np.zeros(3), "its array has 1 axes"),
        (np.zeros((0, 3)), "it holds no pixels"),
        (h5py.Empty("f4"), "it holds no pixels"),
    ],
)
def test_what_is_no_image_is_refused(values, expected):
    write(thing=values)
    assert expected in message(read_image, "a.h5:/thing")


def test_a_file_without_images_is_refused():
    write(numbers=np.arange(5))
    assert "it holds no array of two axes or more; export it again" in message(read_image, "a.h5")


def test_claims_that_nothing_holds_are_refused():
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("image", (20_000, 20_000), "u2", chunks=(100, 100))
    assert "it is damaged or cut off (400,000,000 values are claimed, and 0 bytes are stored)" in message(
        read_image, "a.h5"
    )


def test_an_unknown_compression_is_named():
    with h5py.File("a.h5", "w") as file:
        space = h5py.h5s.create_simple((4, 4))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 4))
        plist.set_filter(305, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"image", h5py.h5t.NATIVE_UINT16, space, plist)
    assert "its chunks are compressed by the HDF5 filter 305, which is not installed; install hdf5plugin" in message(
        read_image, "a.h5:/image"
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_files_that_are_cut_off_are_refused(share):
    write(image=GRAY)
    content = Path("a.h5").read_bytes()
    Path("a.h5").write_bytes(content[: max(8, int(share * len(content)))])
    assert "it is damaged or cut off" in message(read_image, "a.h5")
