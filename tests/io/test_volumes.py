"""Volumes: which axis is the depth in files of all formats, how large voxels are, and what is no volume."""

import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from instseg.errors import InstsegError, UsageError
from instseg.io.label_volumes import read_label_volume
from instseg.io.pixel_size import PixelGeometry
from instseg.io.volume_tiff import write_volume
from instseg.io.volumes import (
    ArrayVolume,
    FileVolume,
    find_volumes,
    is_volume,
    open_volume,
    read_volume,
    read_volume_header,
    whole_volume,
)
from instseg.io.zarr_labels import write_zarr_labels
from instseg.tiling.grid import Box

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 60_000, (5, 12, 10)).astype(np.uint16)
CHANNELS = RNG.integers(0, 60_000, (5, 2, 12, 10)).astype(np.uint16)
COLOURS = RNG.integers(0, 256, (5, 12, 10, 3)).astype(np.uint8)
MICROMETRES = PixelGeometry((0.5, 0.25), None, "micrometer", 2.0)
PART = Box(1, 2, 3, 4, 11, 9)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(call, *args, **options):
    with pytest.raises(InstsegError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_zarr(name, values, axes, scale, **attributes):
    group = zarr.create_group(
        name,
        attributes={
            "ome": {
                "version": "0.5",
                "multiscales": [
                    {
                        "axes": [
                            {"name": axis, "unit": "micrometer"} if axis in "zyx" else {"name": axis} for axis in axes
                        ],
                        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
                    }
                ],
                **attributes,
            }
        },
        zarr_format=3,
    )
    group.create_array("0", data=values, chunks=(1,) * (values.ndim - 2) + (8, 8))


def read_parts(path, **options):
    """Read a part of a file that stays open, as those that do not fit into memory are read."""
    reader = FileVolume(Path(path), **options)
    part = reader.read(PART)
    reader.close()
    return part


# Files whose depth is known


def tiff(name, values, **options):
    tifffile.imwrite(name, values, photometric="rgb" if values.shape[-1] == 3 else "minisblack", **options)


WRITERS = {
    "pages.tif": lambda: tiff("pages.tif", VOLUME, metadata=None),
    "shaped.tif": lambda: tiff("shaped.tif", VOLUME),
    "named.tif": lambda: tiff("named.tif", VOLUME, metadata={"axes": "ZYX"}),
    "packed.tif": lambda: tiff("packed.tif", VOLUME, metadata={"axes": "ZYX"}, compression="zlib"),
    "tiles.tif": lambda: tiff("tiles.tif", VOLUME, metadata={"axes": "ZYX"}, tile=(16, 16)),
    "deep.tif": lambda: tiff("deep.tif", VOLUME, volumetric=True, tile=(16, 16, 16)),
    "imagej.tif": lambda: tiff("imagej.tif", VOLUME, imagej=True, metadata={"axes": "ZYX"}),
    "imagej-packed.tif": lambda: tiff(
        "imagej-packed.tif", VOLUME, imagej=True, metadata={"axes": "ZYX"}, compression="zlib"
    ),
    "a.ome.tif": lambda: tiff("a.ome.tif", VOLUME, metadata={"axes": "ZYX"}, compression="zlib"),
    "big.tif": lambda: tiff("big.tif", VOLUME, bigtiff=True, byteorder=">"),
    "a.npy": lambda: np.save("a.npy", VOLUME),
    "fortran.npy": lambda: np.save("fortran.npy", np.asfortranarray(VOLUME)),
    "a.npz": lambda: np.savez_compressed("a.npz", volume=VOLUME),
    "a.h5": lambda: h5py.File("a.h5", "w").create_dataset("volume", data=VOLUME, chunks=(2, 8, 8)).file.close(),
    "a.zarr": lambda: write_zarr("a.zarr", VOLUME, "zyx", [2, 0.5, 0.25]),
    "plain.zarr": lambda: zarr.create_array("plain.zarr", data=VOLUME),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_volume_is_read_whole_and_in_parts(name):
    WRITERS[name]()
    header = read_volume_header(name)
    assert (header.shape, header.channels, header.times, header.dtype) == (VOLUME.shape, 1, 1, "uint16")
    assert is_volume(name)
    volume = read_volume(name)
    assert volume.dtype == np.uint16
    np.testing.assert_array_equal(volume[..., 0], VOLUME)
    np.testing.assert_array_equal(read_parts(name)[..., 0], VOLUME[1:4, 2:11, 3:9])


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {}, {"ome": True, "compression": "zlib"}])
@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
def test_channels_stay_channels(options, axes):
    values = CHANNELS if axes == "ZCYX" else np.moveaxis(CHANNELS, 1, 0)
    if options == {"imagej": True} and axes == "CZYX":
        values, axes = CHANNELS, "ZCYX"  # ImageJ has one order of axes.
    tiff("a.tif", values, metadata={"axes": axes}, **options)
    assert read_volume_header("a.tif").channels == 2
    np.testing.assert_array_equal(read_volume("a.tif"), np.moveaxis(CHANNELS, 1, -1))
    np.testing.assert_array_equal(read_parts("a.tif"), np.moveaxis(CHANNELS, 1, -1)[1:4, 2:11, 3:9])


def test_channels_of_zarr_stay_channels():
    write_zarr("a.zarr", np.moveaxis(CHANNELS, 1, 0), "czyx", [1, 2, 0.5, 0.25])
    np.testing.assert_array_equal(read_volume("a.zarr"), np.moveaxis(CHANNELS, 1, -1))


@pytest.mark.parametrize("options", [{"imagej": True, "metadata": {"axes": "ZYXS"}}, {}, {"planarconfig": "separate"}])
def test_colours_stay_colours(options):
    values = np.moveaxis(COLOURS, -1, 1) if "planarconfig" in options else COLOURS
    tifffile.imwrite("a.tif", values, photometric="rgb", **options)
    np.testing.assert_array_equal(read_volume("a.tif"), COLOURS)
    np.testing.assert_array_equal(read_parts("a.tif"), COLOURS[1:4, 2:11, 3:9])


@pytest.mark.parametrize("axes", ["TZYX", "TZCYX"])
def test_one_of_several_time_points_is_chosen(axes):
    values = RNG.integers(0, 60_000, (3, 5, 2, 12, 10)).astype(np.uint16)
    values = values if "C" in axes else values[:, :, 0]
    tiff("a.tif", values, imagej=True, metadata={"axes": axes})
    expected = "it holds a volume for each of 3 time points, expected one volume; choose one by `time` (0 to 2)"
    assert expected in message(read_volume, "a.tif")
    assert expected in message(read_volume_header, "a.tif")
    assert is_volume("a.tif")
    read = read_volume("a.tif", time=2)
    np.testing.assert_array_equal(read, np.moveaxis(values[2], 1, -1) if "C" in axes else values[2][..., None])
    np.testing.assert_array_equal(read_parts("a.tif", time=1), read_volume("a.tif", time=1)[1:4, 2:11, 3:9])
    assert "it has 3 time points (0 to 2), and the time 3 is asked for" in message(read_volume, "a.tif", time=3)


def test_a_file_of_one_time_has_the_time_0():
    tiff("a.tif", VOLUME)
    np.testing.assert_array_equal(read_volume("a.tif", time=0)[..., 0], VOLUME)
    assert "it has one time point (0), and the time 1 is asked for" in message(read_volume, "a.tif", time=1)


# What is no volume


def test_time_and_channels_are_no_depth():
    tiff("t.tif", VOLUME, imagej=True, metadata={"axes": "TYX"})
    assert "its 5 planes are along T, expected planes along Z; predict every plane by `planes=True`" in message(
        open_volume, "t.tif"
    )
    tiff("c.tif", VOLUME, imagej=True)
    expected = (
        "it has 5 channels and one plane, expected planes along Z; if the channels are its depth, save it with the"
    )
    assert expected in message(open_volume, "c.tif")
    assert not is_volume("t.tif")
    assert not is_volume("c.tif")


def test_one_plane_is_no_volume():
    tiff("a.tif", VOLUME[0])
    assert read_volume_header("a.tif").shape == (1, 12, 10)
    assert "it is one plane of 12 x 10 pixels, expected a volume (Z, Y, X); predict it as an image" in message(
        open_volume, "a.tif"
    )
    assert not is_volume("a.tif")


def test_axes_that_are_unknown_are_refused():
    np.save("a.npy", np.zeros((6, 5, 12, 10), np.uint8))
    assert "it has 6 x 5 planes along axes without names, expected planes along Z" in message(read_volume, "a.npy")
    tiff("a.tif", np.zeros((2, 5, 12, 10), np.uint8), metadata={"axes": "PZYX"})
    assert "besides its depth it has 2 along P, expected one volume; save one volume of it" in message(
        read_volume, "a.tif"
    )


def test_pictures_and_several_images_are_refused(png):
    png(VOLUME[0])
    assert "it is a PNG, expected a volume; give a file with planes along Z" in message(read_volume, "a.png")
    with tifffile.TiffWriter("a.tif") as file:
        file.write(VOLUME, metadata=None)
        file.write(VOLUME[0, :5], metadata=None)
    assert "it holds 2 images of different sizes, expected one volume" in message(read_volume, "a.tif")
    assert "there is no such file" in message(open_volume, "missing.tif")


def test_labels_are_no_image():
    write_zarr_labels("a.zarr", VOLUME.shape, iter(VOLUME[:, None].astype(np.int32)))
    assert "it holds labels, expected an image; give the image" in message(open_volume, "a.zarr")
    assert read_volume_header("a.zarr").is_labels


def test_files_that_are_cut_off_are_refused():
    tiff("a.tif", VOLUME, metadata={"axes": "ZYX"}, compression="zlib")
    data = Path("a.tif").read_bytes()
    for length in (len(data) // 2, 100, 8):
        Path("a.tif").write_bytes(data[:length])
        assert "damaged" in message(read_volume, "a.tif")


def test_values_follow_the_rules_of_images():
    np.save("a.npy", VOLUME.astype(np.int32) - 1000)
    assert "its int32 values go from" in message(read_volume, "a.npy")
    np.save("a.npy", (VOLUME // 4).astype(np.int32) - 1000)
    assert read_volume("a.npy").dtype == np.int16
    # Of a volume that is read part by part, no part tells what is in the others.
    assert "expected 0 to 65535" in message(read_parts, "a.npy")
    np.save("a.npy", np.full(VOLUME.shape, np.nan))
    assert "NaN" in message(read_volume, "a.npy")
    np.save("a.npy", VOLUME > 30_000)
    assert set(np.unique(read_volume("a.npy"))) == {0, 255}


# How large voxels are


def ome(name, **sizes):
    tiff(name, VOLUME, metadata={"axes": "ZYX", **sizes})


SIZED = {
    "a.ome.tif": lambda: ome("a.ome.tif", PhysicalSizeZ=2.0, PhysicalSizeY=0.5, PhysicalSizeX=0.25),
    "nanometres.ome.tif": lambda: ome(
        "nanometres.ome.tif", PhysicalSizeZ=2000.0, PhysicalSizeZUnit="nm", PhysicalSizeY=0.5, PhysicalSizeX=0.25
    ),
    "imagej.tif": lambda: tiff(
        "imagej.tif",
        VOLUME,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "\\u00B5m"},
    ),
    "a.zarr": lambda: write_zarr("a.zarr", VOLUME, "zyx", [2, 0.5, 0.25]),
    "a.h5": lambda: _write_sized_h5(),
    "written.tif": lambda: write_volume("written.tif", VOLUME, MICROMETRES),
    "written.ome.tif": lambda: write_volume("written.ome.tif", VOLUME, MICROMETRES),
}


def _write_sized_h5():
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("volume", data=VOLUME).attrs["element_size_um"] = [2, 0.5, 0.25]


@pytest.mark.parametrize("name", SIZED)
def test_the_size_of_voxels_is_read(name):
    SIZED[name]()
    reader = open_volume(name)
    assert reader.geometry.spacing == pytest.approx((2.0, 0.5, 0.25), rel=1e-12)
    assert reader.geometry.unit == "micrometer"
    assert reader.spacing == pytest.approx((8.0, 2.0, 1.0), rel=1e-12)
    assert reader.notes == ()
    np.testing.assert_array_equal(reader.read(whole_volume(reader))[..., 0], VOLUME)


def test_a_size_without_unit_is_a_ratio():
    tiff("a.tif", VOLUME, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0, "unit": "pixel"})
    assert open_volume("a.tif").geometry == PixelGeometry((1.0, 1.0), depth=2.0)
    write_volume("a.ome.tif", VOLUME, PixelGeometry((1.0, 1.0), depth=2.0))
    assert open_volume("a.ome.tif").spacing == (2.0, 1.0, 1.0)


def test_voxels_of_unknown_size_are_cubes_and_it_is_said():
    tiff("a.tif", VOLUME)
    reader = open_volume("a.tif")
    assert (reader.geometry, reader.spacing) == (None, (1.0, 1.0, 1.0))
    assert reader.notes == (
        "the size of voxels is not known, and voxels are taken for cubes; give `spacing` if they are not",
    )
    tiff("a.tif", VOLUME, resolution=(4, 4), resolutionunit="CENTIMETER")
    reader = open_volume("a.tif")
    assert reader.spacing == (1.0, 1.0, 1.0)
    assert "how far apart planes are is not known, and voxels are taken for cubes" in reader.notes[0]


def test_a_given_spacing_goes_before_that_of_the_file():
    write_volume("a.tif", VOLUME, MICROMETRES)
    reader = open_volume("a.tif", spacing=(1, 0.5, 0.25))
    assert reader.geometry == PixelGeometry((0.5, 0.25), None, "micrometer", 1.0)
    assert reader.spacing == (4.0, 2.0, 1.0)
    assert reader.notes == ("`spacing` is taken for the sizes of voxels, although it is 8 : 2 : 1 by the file",)
    # In which unit other sizes are is not known.
    assert open_volume("a.tif", spacing=(8, 2, 1)).geometry == PixelGeometry((2.0, 1.0), depth=8.0)
    assert open_volume("a.tif", spacing=(8, 2, 1)).notes == ()


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, -1, 1), (1, 1, float("inf")), ("a", 1, 1), 3, (1, 1, 1, 1)])
def test_a_spacing_is_three_sizes(spacing):
    with pytest.raises(UsageError, match="spacing is .*, expected three numbers above 0, the size of a voxel along Z"):
        ArrayVolume(VOLUME, spacing=spacing)


# Readers


def test_an_array_is_a_volume():
    reader = ArrayVolume(VOLUME, spacing=(2, 1, 1))
    assert (reader.shape, reader.spacing, reader.streamed) == ((5, 12, 10, 1), (2.0, 1.0, 1.0), False)
    np.testing.assert_array_equal(reader.read(PART)[..., 0], VOLUME[1:4, 2:11, 3:9])
    for shape in ((4, 5), (1, 2, 3, 4, 5), (0, 4, 5)):
        with pytest.raises(UsageError, match="the volume has shape .*, expected"):
            ArrayVolume(np.zeros(shape))


def test_large_volumes_are_streamed(monkeypatch):
    tiff("a.tif", VOLUME, compression="zlib")
    assert isinstance(open_volume("a.tif"), ArrayVolume)
    monkeypatch.setattr("instseg.io.stored_volume.STREAMING_PIXELS", VOLUME.size - 1)
    reader = open_volume("a.tif")
    assert reader.streamed
    parts = {}
    threads = [
        threading.Thread(target=lambda z=z: parts.update({z: reader.read(Box(z, 0, 0, z + 1, 12, 10))}))
        for z in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.concatenate([parts[z] for z in range(5)])[..., 0], VOLUME)
    reader.close()


# Folders of planes


def test_a_folder_of_planes_is_a_volume(png):
    Path("planes").mkdir()
    for z, plane in enumerate(VOLUME):
        png(plane, f"planes/z{z + 7}.png")  # As texts, z10 comes before z7.
    np.testing.assert_array_equal(read_volume("planes")[..., 0], VOLUME)
    assert find_volumes(["planes"]).files == (Path("planes"),)
    assert find_volumes(["planes"]).notes == ("the images in planes are taken as the planes of one volume",)
    png(VOLUME[0, :5], "planes/z99.png")
    expected = "z99.png is PNG uint16 of 5 x 10 pixels and 1 channels and z7.png is PNG uint16 of 12 x 10 pixels"
    assert expected in message(read_volume, "planes")


def test_a_folder_of_volumes_is_many():
    Path("volumes").mkdir()
    for name in "ab":
        tiff(f"volumes/{name}.tif", VOLUME)
    assert find_volumes(["volumes"]).files == (Path("volumes/a.tif"), Path("volumes/b.tif"))
    assert "a.tif has 5 planes, so that the folder is none of the planes of one volume" in message(
        read_volume, "volumes"
    )
    assert "there is no file or folder" in message(find_volumes, ["missing"])


def test_what_is_read_at_once_is_bounded(monkeypatch):
    tiff("a.tif", VOLUME)
    monkeypatch.setattr("instseg.io.stored_volume.MAX_PIXELS", VOLUME.size - 1)
    expected = "it has 5 x 12 x 10 voxels, more than the 599 that are read at once; cut it into blocks"
    assert expected in message(read_volume, "a.tif")
    assert expected in message(read_label_volume, "a.tif")
    assert open_volume("a.tif").shape == (5, 12, 10, 1)


def test_all_axes_of_ome_zarr_are_told_apart():
    values = RNG.integers(0, 60_000, (2, 3, 5, 12, 10)).astype(np.uint16)
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1, 2, 0.5, 0.25]}]
    multiscales = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    group = zarr.create_group("a.zarr", attributes={"multiscales": multiscales}, zarr_format=2)
    group.create_array("0", data=values, chunks=(1, 1, 2, 8, 8))
    header = read_volume_header("a.zarr", time=1)
    assert (header.shape, header.channels, header.times, header.geometry) == ((5, 12, 10), 3, 2, MICROMETRES)
    np.testing.assert_array_equal(read_volume("a.zarr", time=1), np.moveaxis(values[1], 0, -1))
    assert "it holds a volume for each of 2 time points" in message(open_volume, "a.zarr")


def test_names_of_axes_in_hdf5_are_believed():
    with h5py.File("a.h5", "w") as file:
        stored = file.create_dataset("volume", data=np.moveaxis(CHANNELS, 1, -1))
        for axis, name in enumerate("zyxc"):
            stored.dims[axis].label = name
        time = file.create_dataset("time", data=VOLUME)
        for axis, name in enumerate("tyx"):
            time.dims[axis].label = name
    np.testing.assert_array_equal(read_volume("a.h5:/volume"), np.moveaxis(CHANNELS, 1, -1))
    assert "its 5 planes are along T, expected planes along Z" in message(read_volume, "a.h5:/time")


@pytest.mark.parametrize(("numbers", "missing"), [((0, 1, 2), False), ((5, 10, 15), False), ((0, 1, 3), True)])
def test_missing_numbers_of_planes_are_said(tmp_path, numbers, missing):
    for number in numbers:
        tifffile.imwrite(tmp_path / f"a2_z{number:02d}.tif", np.zeros((8, 9), np.uint8))
    notes = find_volumes([tmp_path]).notes
    assert any("are missing" in note for note in notes) == missing


def test_a_volume_that_is_open_changes_no_settings_and_may_be_closed_by_another_thread(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), np.uint8))
    before = np.geterr()
    volume = FileVolume(tmp_path / "a.npy")
    assert np.geterr() == before
    failures = []

    def close():
        try:
            volume.close()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert failures == []
