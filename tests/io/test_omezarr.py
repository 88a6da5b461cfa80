"""OME-Zarr images of all versions are read part by part, and labels are written with a pyramid."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from instseg.errors import InstsegError
from instseg.io.formats import ImageFileError
from instseg.io.label_images import STRIP_ROWS
from instseg.io.omezarr import ZarrReader
from instseg.io.pixel_size import PixelGeometry
from instseg.io.zarr_labels import create_zarr_labels, replace_zarr, write_zarr_labels
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
        (np.zeros((2, 9, 9), np.uint8), "zyx", "it has 2 along z, expected one plane; save the planes one by one"),
        (np.zeros((9, 9), np.int64), "yx", "its values are int64, expected uint8, uint16 or float32"),
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


SHAPES = [(40, 30), (STRIP_ROWS + 300, 700), (2 * STRIP_ROWS, 3000), (3, 5000)]


def strips_of(labels):
    return (labels[top : top + STRIP_ROWS] for top in range(0, len(labels), STRIP_ROWS))


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_are_written_with_a_pyramid(shape):
    labels = np.random.default_rng(1).integers(0, 100_000, shape).astype(np.int32)
    geometry = ZarrReader(write_image("image.zarr", IMAGE, "cyx", scale=[1, 0.25, 0.5])).geometry
    write_zarr_labels("labels.zarr", shape, strips_of(labels), geometry)
    group = zarr.open("labels.zarr", mode="r")
    image = group.attrs["ome"]["multiscales"][0]
    assert "image-label" in group.attrs["ome"]
    assert image["axes"] == [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    for level, dataset in enumerate(image["datasets"]):
        np.testing.assert_array_equal(group[dataset["path"]][...], labels[:: 2**level, :: 2**level])
        scale, translation = dataset["coordinateTransformations"]
        assert scale["scale"] == [0.25 * 2**level, 0.5 * 2**level]
        # Levels are made of the first pixel of every block: their first pixel is where it was.
        assert translation["translation"] == [2.5, 5.0]
    assert max(group[dataset["path"]].shape) <= 1024
    assert sorted(path.name for path in Path().iterdir()) == ["image.zarr", "labels.zarr"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("geometry", [None, PixelGeometry((0.25, 0.5), (2.5, 5.0), "micrometer")])
def test_labels_are_what_the_format_prescribes(shape, geometry):
    from ome_zarr_models.v05.image_label import ImageLabel

    labels = np.ones(shape, np.int32)
    write_zarr_labels("labels.zarr", shape, strips_of(labels), geometry)
    model = ImageLabel.from_zarr(zarr.open_group("labels.zarr", mode="r"))
    assert model.ome_attributes.version == "0.5"
    (image,) = model.ome_attributes.multiscales
    first = image.datasets[0].coordinateTransformations
    assert first[0].scale == ([1, 1] if geometry is None else [0.25, 0.5])
    assert [axis.unit for axis in image.axes] == [None if geometry is None else "micrometer"] * 2
    assert len(first) == (1 if geometry is None else 2)


def test_a_group_is_replaced_and_nothing_else():
    labels = np.ones((5, 6), np.int32)
    for value in (1, 2):
        write_zarr_labels(Path("labels.zarr"), (5, 6), iter([labels * value]))
        assert stored("labels.zarr") == value
    Path("folder.zarr").mkdir()
    Path("folder.zarr/notes.txt").touch()
    with pytest.raises(InstsegError, match="cannot write folder.zarr: it exists and is no Zarr group"):
        write_zarr_labels(Path("folder.zarr"), (5, 6), iter([labels]))

    def broken():
        raise OSError(28, "No space left on device")
        yield

    for name in ("new.zarr", "labels.zarr"):
        with pytest.raises(InstsegError, match=f"cannot write {name}: No space left on device"):
            write_zarr_labels(Path(name), (5, 6), broken())
    assert stored("labels.zarr") == 2
    assert names() == ["folder.zarr", "labels.zarr"]


def stored(path):
    """The one value of labels that are all equal."""
    (value,) = np.unique(zarr.open(path, mode="r")["0"][...])
    return value


def names():
    return sorted(path.name for path in Path().iterdir())


def write_ones(path, value):
    write_zarr_labels(path, (5, 6), iter([np.full((5, 6), value, np.int32)]))


def test_what_is_there_stays_until_the_new_group_is_in_its_place(monkeypatch):
    write_ones("labels.zarr", 1)
    seen, rmtree = [], shutil.rmtree

    def looking(path, **options):
        if Path(path).name.endswith(".replaced"):
            # The old group is deleted last.
            seen.append((stored("labels.zarr"), stored(path)))
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", looking)
    write_ones("labels.zarr", 2)
    assert seen == [(2, 1)]
    assert names() == ["labels.zarr"]


def test_what_is_there_is_put_back_if_the_new_group_cannot_be_renamed(monkeypatch):
    write_ones("labels.zarr", 1)
    rename = Path.rename

    def failing(path, target):
        if path.name.endswith(".partial"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(InstsegError, match="cannot write labels.zarr: Permission denied"):
        write_ones("labels.zarr", 2)
    assert stored("labels.zarr") == 1
    assert names() == ["labels.zarr"]


KILLED = """
import os, shutil, sys
from pathlib import Path
import numpy as np
from instseg.io.zarr_labels import write_zarr_labels

def killed(*arguments, **options):
    os.kill(os.getpid(), 9)

rename, rmtree = Path.rename, shutil.rmtree
if sys.argv[1] == "between":
    Path.rename = lambda path, target: (killed if path.name.endswith(".partial") else rename)(path, target)
else:
    shutil.rmtree = lambda path, **options: (killed if path.name.endswith(".replaced") else rmtree)(path, **options)
write_zarr_labels("labels.zarr", (5, 6), iter([np.full((5, 6), 2, np.int32)]))
"""


@pytest.mark.parametrize(
    ("when", "left", "value"),
    [
        ("between", [".labels.zarr.partial", ".labels.zarr.replaced"], 1),
        ("deleting", [".labels.zarr.replaced", "labels.zarr"], 2),
    ],
)
@pytest.mark.parametrize("succeeds", [True, False])
def test_what_a_killed_process_leaves_is_cleaned_up(when, left, value, succeeds):
    write_ones("labels.zarr", 1)
    killed = subprocess.run([sys.executable, "-c", KILLED, when], env=os.environ, check=False)
    assert killed.returncode == -9
    assert names() == left

    def broken():
        raise OSError(28, "No space left on device")
        yield

    if succeeds:
        write_ones("labels.zarr", 3)
    else:
        with pytest.raises(InstsegError, match="No space left on device"):
            write_zarr_labels("labels.zarr", (5, 6), broken())
    assert stored("labels.zarr") == (3 if succeeds else value)
    assert names() == ["labels.zarr"]


def test_a_complete_group_elsewhere_takes_the_place():
    write_ones("labels.zarr", 1)
    Path("run").mkdir()
    create_zarr_labels("run/labels", "labels", (5, 6))[0][...] = 4
    replace_zarr(Path("run/labels"), Path("labels.zarr"))
    assert stored("labels.zarr") == 4
    assert names() == ["labels.zarr", "run"]
    assert not list(Path("run").iterdir())
