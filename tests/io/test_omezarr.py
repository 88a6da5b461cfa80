"""OME-Zarr images of all versions are read part by part, and labels are written with a pyramid."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import instseg
from instseg.cli import app
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.evaluation.metrics import score
from instseg.io.folders import find_images
from instseg.io.formats import ImageFileError
from instseg.io.images import write_picture
from instseg.io.label_images import STRIP_ROWS
from instseg.io.omezarr import ZarrReader, write_zarr_labels
from instseg.settings import DiscSettings
from instseg.tiling.grid import Box

zarr = pytest.importorskip("zarr")
# The first version of the format names no axes, and its arrays are of Zarr's second.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr")

IMAGE = np.random.default_rng(0).integers(0, 60_000, (3, 90, 70)).astype(np.uint16)
BOXES = [Box(0, 0, 90, 70), Box(31, 5, 64, 33), Box(89, 69, 90, 70)]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_image(path, values, axes, version="0.5", scale=None, named=True):
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
            {"name": name, "type": "channel"} if name == "c" else {"name": name, "type": "space", "unit": "micrometer"}
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
    source = ZarrReader(write_image("a.zarr", values, axes, version))
    assert source.shape == (90, 70, 3)
    for box in BOXES:
        np.testing.assert_array_equal(source.read(box), expected(box))
    assert source.pixel_size == (1.0, 1.0)
    source.close()


def test_axes_that_are_not_named_are_those_of_the_first_version():
    source = ZarrReader(write_image("a.zarr", IMAGE[None, :, None], "tczyx", "0.3", named=False))
    np.testing.assert_array_equal(source.read(BOXES[1]), expected(BOXES[1]))


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
    source = ZarrReader(Path("a.zarr"))
    image = IMAGE[:1] if values.ndim == 2 else IMAGE
    for box in BOXES:
        np.testing.assert_array_equal(source.read(box), expected(box, image))


def test_pixel_sizes_are_those_of_the_finest_level():
    source = ZarrReader(write_image("a.zarr", IMAGE, "cyx", scale=[1, 0.25, 0.5]))
    assert source.pixel_size == (0.25, 0.5)
    assert source.position == (2.5, 5.0)
    assert [axis["unit"] for axis in source.axes] == ["micrometer"] * 2


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
    source = ZarrReader(path)
    np.testing.assert_array_equal(source.read(Box(0, 0, 32, 32)), expected(Box(0, 0, 32, 32)))
    with pytest.raises(ImageFileError, match="a.zarr: it is damaged"):
        source.read(BOXES[0])
    (path / "zarr.json").write_text("{")
    with pytest.raises(ImageFileError, match="a.zarr: it is damaged"):
        ZarrReader(path)


@pytest.mark.parametrize("shape", [(40, 30), (STRIP_ROWS + 300, 700), (2 * STRIP_ROWS, 3000), (3, 5000)])
def test_labels_are_written_with_a_pyramid(shape):
    labels = np.random.default_rng(1).integers(0, 100_000, shape).astype(np.int32)
    like = ZarrReader(write_image("image.zarr", IMAGE, "cyx", scale=[1, 0.25, 0.5]))
    bands = (labels[top : top + STRIP_ROWS] for top in range(0, shape[0], STRIP_ROWS))
    write_zarr_labels(Path("labels.zarr"), shape, bands, like)
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


def test_a_group_is_replaced_and_nothing_else():
    labels = np.ones((5, 6), np.int32)
    for value in (1, 2):
        write_zarr_labels(Path("labels.zarr"), (5, 6), iter([labels * value]))
        assert (zarr.open("labels.zarr", mode="r")["0"][...] == value).all()
    Path("folder.zarr").mkdir()
    Path("folder.zarr/notes.txt").touch()
    with pytest.raises(InstsegError, match="cannot write folder.zarr: it exists and is no Zarr group"):
        write_zarr_labels(Path("folder.zarr"), (5, 6), iter([labels]))

    def broken():
        raise OSError(28, "No space left on device")
        yield

    with pytest.raises(InstsegError, match="cannot write new.zarr: No space left on device"):
        write_zarr_labels(Path("new.zarr"), (5, 6), broken())
    assert sorted(path.name for path in Path().iterdir()) == ["folder.zarr", "labels.zarr"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_command_reads_and_writes_it(tiny_model):
    image = draw_discs(np.random.default_rng(2), DiscSettings(size=300, min_discs=50, max_discs=50))[0]
    write_image("image.zarr", image, "yx")
    assert find_images([Path("image.zarr")]) == [Path("image.zarr")]
    options = ("--tile", 128, "--overlap", 40, "--scores", "scores.csv")
    done = run("predict", tiny_model, "image.zarr", "--out", "labels.zarr", *options)
    assert done.exit_code == 0, done.stderr
    labels = zarr.open("labels.zarr", mode="r")["0"][...].astype(np.int32)
    assert done.stdout == f"labels.zarr: {labels.max()} instances\n"
    assert score(instseg.load(tiny_model).predict(image), labels).mean_ap > 0.95
    assert run("predict", tiny_model, "image.zarr", "--out-dir", "out", "--format", "zarr").exit_code == 0
    assert (zarr.open("out/image.zarr", mode="r")["0"][...] > 0).mean() > 0.05
    refused = run("predict", tiny_model, "image.zarr", "--out", "labels.png")
    assert refused.exit_code == 1
    assert "image.zarr is read part by part" in refused.stderr


def test_the_missing_package_is_named(monkeypatch):
    from instseg import optional as extras

    write_image("image.zarr", IMAGE, "cyx")
    monkeypatch.setitem(extras._PACKAGES, "zarr", ("no_such_package",))
    with pytest.raises(InstsegError, match="OME-Zarr needs no_such_package; install what is missing"):
        ZarrReader(Path("image.zarr"))


@pytest.mark.parametrize("target", [("--out", "labels.zarr"), ("--out-dir", "out", "--format", "zarr")])
def test_the_missing_package_is_named_before_anything_is_done(monkeypatch, tiny_model, target):
    from instseg import optional as extras

    write_picture(Path("image.png"), IMAGE[0])
    monkeypatch.setitem(extras._PACKAGES, "zarr", ("no_such_package",))
    refused = run("predict", tiny_model, "image.png", *target)
    assert refused.exit_code == 1
    assert "OME-Zarr needs no_such_package" in refused.stderr
    assert [path.name for path in Path().iterdir()] == ["image.png"]
