"""GIF and WebP, written by Pillow."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instseg.errors import InstsegError
from instseg.io.formats import read_header
from instseg.io.images import read_image, read_planes
from instseg.io.label_images import read_labels

RGB = np.random.default_rng(1).integers(0, 256, (30, 40, 3)).astype(np.uint8)
# GIF has 256 colours.
FEW = (RGB // 64 * 64).astype(np.uint8)
GRAY = np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(call, *args, **options):
    with pytest.raises(InstsegError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_are_read():
    Image.fromarray(RGB).save("a.webp", lossless=True)
    np.testing.assert_array_equal(read_image("a.webp"), RGB)
    Image.fromarray(FEW).quantize(256, dither=Image.Dither.NONE).save("a.gif")
    np.testing.assert_allclose(read_image("a.gif").astype(int), FEW, atol=1)
    Image.fromarray(GRAY).save("g.gif")
    np.testing.assert_array_equal(read_image("g.gif")[..., 0], GRAY)
    assert read_header("g.gif").channels == 1
    assert read_header("a.webp").format == "WebP"


@pytest.mark.parametrize(("suffix", "options"), [("gif", {}), ("webp", {"lossless": True})])
def test_several_pictures_are_planes_along_t(suffix, options):
    frames = [Image.fromarray(np.full((6, 7, 3), shade, np.uint8)) for shade in (0, 64, 128)]
    frames[0].save(f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert "it is a stack of 3 planes along T of 6 x 7 pixels, expected one image; predict takes" in message(
        read_image, f"a.{suffix}", planes_as_channels=True
    )
    planes = read_planes(f"a.{suffix}")
    assert [plane.shape for plane in planes] == [(6, 7, 3)] * 3
    np.testing.assert_allclose([plane.mean() for plane in planes], [0, 64, 128], atol=1)


def test_transparent_pixels_are_refused_and_opaque_ones_are_not():
    rgba = np.concatenate([RGB, np.full((30, 40, 1), 255, np.uint8)], axis=-1)
    Image.fromarray(rgba).save("a.webp", lossless=True, exact=True)
    np.testing.assert_array_equal(read_image("a.webp"), RGB)
    rgba[0, 0, 3] = 7
    Image.fromarray(rgba).save("a.webp", lossless=True, exact=True)
    assert "it has transparent pixels (1), expected an opaque image" in message(read_image, "a.webp")
    Image.fromarray(GRAY).save("a.gif", transparency=7)
    assert "it has transparent pixels" in message(read_image, "a.gif")


def test_the_orientation_of_a_webp_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save("a.webp", lossless=True, exif=exif)
    np.testing.assert_array_equal(read_image("a.webp"), np.rot90(RGB, -1))
    header = read_header("a.webp")
    assert (header.height, header.width) == (40, 30)


def test_labels_are_kept_by_gif_in_shades_of_gray_only():
    labels = np.zeros((30, 40), np.uint8)
    labels[3:9, 3:9], labels[20:25, 5:30] = 1, 2
    Image.fromarray(RGB).save("a.webp", lossless=True)
    assert "it is a WebP, which does not keep labels' values" in message(read_labels, "a.webp")
    Image.fromarray(FEW).save("a.gif")
    assert "it is a palette image, expected gray labels" in message(read_labels, "a.gif")
    Image.fromarray(labels).save("g.gif")
    np.testing.assert_array_equal(read_labels("g.gif"), labels)


@pytest.mark.parametrize(("suffix", "options"), [("gif", {}), ("webp", {"lossless": True})])
def test_damaged_files_are_refused_in_one_line(suffix, options, capfd):
    Image.fromarray(GRAY).save(f"a.{suffix}", **options)
    content, random = Path(f"a.{suffix}").read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(200):
        damaged = bytearray(content if number % 2 else content[: random.integers(12, len(content))])
        for at in random.integers(12, len(damaged), 3) if len(damaged) > 12 else ():
            damaged[at] = random.integers(0, 256)
        Path(f"a.{suffix}").write_bytes(damaged)
        try:
            read_planes(f"a.{suffix}")
        except InstsegError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20
    assert capfd.readouterr() == ("", "")


def test_a_canvas_that_nothing_fills_is_refused():
    Image.fromarray(GRAY).save("a.gif")
    content = bytearray(Path("a.gif").read_bytes())
    content[6:10] = (20_000).to_bytes(2, "little") * 2
    Path("a.gif").write_bytes(content)
    assert "cannot hold 20000 x 20000 pixels" in message(read_image, "a.gif")
