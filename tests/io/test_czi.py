"""Images of Zeiss microscopes, written by Zeiss's own library."""

from pathlib import Path

import numpy as np
import pytest

from instseg import optional
from instseg.errors import InstsegError
from instseg.io.formats import read_header
from instseg.io.images import read_image, read_planes
from instseg.io.pixel_size import PixelGeometry
from instseg.io.source import open_image, open_planes, read_geometry
from instseg.io.volumes import FileVolume, read_volume, read_volume_header
from instseg.tiling.grid import Box

czi = pytest.importorskip("pylibCZIrw.czi")

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


def write(*parts, **options):
    """Write parts: pixels, the plane, where they lie (x, y), and their scene."""
    with czi.create_czi("a.czi", exist_ok=True, **options) as document:
        for pixels, plane, location, *scene in parts:
            document.write(
                pixels, plane={"C": 0, **plane}, location=location, **dict(zip(["scene"], scene, strict=False))
            )
        document.write_metadata("test", scale_x=5e-7, scale_y=2.5e-7)


@pytest.mark.parametrize("compression", [None, "zstd0:ExplicitLevel=3", "zstd1:ExplicitLevel=3"])
def test_an_image_is_read_whatever_its_compression(compression):
    write((GRAY, {}, (0, 0)), **({"compression_options": compression} if compression else {}))
    image = read_image("a.czi")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[..., 0], GRAY)
    assert read_header("a.czi").format == "CZI"
    assert read_geometry(Path("a.czi")) == PixelGeometry((0.25, 0.5), None, "micrometer")


def test_channels_are_channels_and_planes_are_planes():
    write((GRAY, {"C": 0}, (0, 0)), (GRAY // 2, {"C": 1}, (0, 0)))
    np.testing.assert_array_equal(read_image("a.czi"), np.stack([GRAY, GRAY // 2], axis=-1))
    Path("a.czi").unlink()
    write(*((GRAY // (1 + t + 2 * z), {"T": t, "Z": z}, (0, 0)) for t in range(2) for z in range(3)))
    expected = "it is a stack of 6 planes along T and Z of 30 x 40 pixels, expected one image; predict takes"
    assert expected in message(read_image, "a.czi", planes_as_channels=True)
    for number, (plane, reader) in enumerate(zip(read_planes("a.czi"), open_planes("a.czi"), strict=True)):
        time, depth = divmod(number, 3)
        np.testing.assert_array_equal(plane[..., 0], GRAY // (1 + time + 2 * depth))
        np.testing.assert_array_equal(reader.read(Box(2, 3, 9, 8)), plane[2:9, 3:8])


def test_colours_are_from_red_to_blue():
    write((RGB[..., ::-1].copy(), {}, (0, 0)))
    np.testing.assert_array_equal(read_image("a.czi"), RGB)


def test_the_tiles_of_a_mosaic_lie_where_the_file_says_and_are_read_part_by_part(monkeypatch):
    write((GRAY, {}, (-50, 7)), (GRAY // 2, {}, (-10, 7)), (GRAY // 3, {}, (-50, 37)), (GRAY // 4, {}, (-10, 37)))
    whole = np.block([[GRAY, GRAY // 2], [GRAY // 3, GRAY // 4]])
    np.testing.assert_array_equal(read_image("a.czi")[..., 0], whole)
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", 1000)
    reader = open_image("a.czi")
    assert reader.streamed
    assert reader.shape == (60, 80, 1)
    np.testing.assert_array_equal(reader.read(Box(20, 30, 55, 77))[..., 0], whole[20:55, 30:77])


def test_one_of_several_scenes_is_named():
    write((GRAY, {}, (0, 0), 0), (GRAY[:20, :25] // 2, {}, (100, 0), 1))
    assert "it holds 2 scenes (0 to 1), expected one image; give one of them, such as a.czi:/0" in message(
        read_image, "a.czi"
    )
    np.testing.assert_array_equal(read_image("a.czi:/0")[..., 0], GRAY)
    np.testing.assert_array_equal(read_image("a.czi:/1")[..., 0], GRAY[:20, :25] // 2)
    assert "it holds no scene 2 (but 0, 1); check the number" in message(read_image, "a.czi:/2")


def test_damaged_files_are_refused_in_one_line(capfd):
    write((GRAY, {}, (0, 0)))
    content, random = Path("a.czi").read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(100):
        damaged = bytearray(content if number % 2 else content[: random.integers(10, len(content))])
        for at in random.integers(10, len(damaged), 20) if len(damaged) > 10 else ():
            damaged[at] = random.integers(0, 256)
        Path("a.czi").write_bytes(damaged)
        try:
            read_planes("a.czi")
        except InstsegError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 30
    assert capfd.readouterr() == ("", "")


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    write((GRAY, {}, (0, 0)))
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    expected = "CZI needs pylibCZIrw; install what is missing with: python -m pip install '.[czi]'"
    assert message(read_image, "a.czi") == expected


def test_planes_along_z_are_a_volume():
    write(*((GRAY // (1 + t + 2 * z), {"T": t, "Z": z}, (0, 0)) for t in range(2) for z in range(3)))
    expected = np.stack([GRAY // (2 + 2 * z) for z in range(3)])
    np.testing.assert_array_equal(read_volume("a.czi", time=1)[..., 0], expected)
    reader = FileVolume(Path("a.czi"), time=1)
    np.testing.assert_array_equal(reader.read(Box(1, 4, 5, 3, 20, 30))[..., 0], expected[1:, 4:20, 5:30])
    reader.close()


def test_the_distance_of_planes_is_read():
    with czi.create_czi("a.czi") as document:
        for z in range(3):
            document.write(GRAY, plane={"C": 0, "Z": z}, location=(0, 0))
        document.write_metadata("test", scale_x=5e-7, scale_y=2.5e-7, scale_z=1e-6)
    assert read_volume_header("a.czi").geometry == PixelGeometry((0.25, 0.5), None, "micrometer", 1.0)
    assert read_geometry(Path("a.czi")) == PixelGeometry((0.25, 0.5), None, "micrometer")
