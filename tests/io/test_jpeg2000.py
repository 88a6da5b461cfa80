"""JPEG 2000, written by Pillow and imagecodecs."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from instseg.errors import InstsegError
from instseg.io.formats import read_header
from instseg.io.images import read_image
from instseg.io.label_images import read_labels

RGB = np.random.default_rng(1).integers(0, 256, (30, 40, 3)).astype(np.uint8)
GRAY = np.random.default_rng(0).integers(0, 60_000, (30, 40)).astype(np.uint16)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(call, *args):
    with pytest.raises(InstsegError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
@pytest.mark.parametrize("pixels", [RGB, RGB[..., 0], GRAY])
def test_what_pillow_writes_is_read(pixels, suffix):
    Image.fromarray(np.ascontiguousarray(pixels)).save(f"a.{suffix}")
    image = read_image(f"a.{suffix}")
    assert image.dtype == pixels.dtype
    np.testing.assert_array_equal(image.squeeze(), pixels)
    assert read_header(f"a.{suffix}").format == "JPEG 2000"


@pytest.mark.parametrize("codec", ["JP2", "J2K"])
@pytest.mark.parametrize(
    ("pixels", "bits"),
    [(RGB.astype(np.uint16) * 200, None), (GRAY // 16, 12), (GRAY.astype(np.int32) - 30_000, None)],
)
def test_more_than_8_bit_keep_their_values(pixels, bits, codec):
    pixels = pixels.astype(np.int16) if pixels.dtype == np.int32 else pixels
    content = imagecodecs.jpeg2k_encode(pixels, level=0, bitspersample=bits, codecformat=codec)
    Path("a.jp2").write_bytes(content)
    image = read_image("a.jp2")
    assert image.dtype == pixels.dtype
    np.testing.assert_array_equal(image.squeeze(), pixels)


def test_opaque_alpha_is_dropped_and_other_alpha_refused():
    alpha = np.full((30, 40, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([RGB, alpha], axis=-1)).save("a.jp2")
    np.testing.assert_array_equal(read_image("a.jp2"), RGB)
    alpha[3, 4] = 0
    Image.fromarray(np.concatenate([RGB, alpha], axis=-1)).save("a.jp2")
    assert "it has transparent pixels (1), expected an opaque image" in message(read_image, "a.jp2")


def test_labels_are_not_read():
    Image.fromarray(GRAY).save("a.jp2")
    assert "it is a JPEG 2000, which does not keep labels' values" in message(read_labels, "a.jp2")


def test_a_size_that_nothing_holds_is_refused():
    Image.fromarray(RGB).save("a.j2k")
    content = bytearray(Path("a.j2k").read_bytes())
    content[8:16] = (20_000).to_bytes(4, "big") * 2
    Path("a.j2k").write_bytes(content)
    assert "cannot hold 20000 x 20000 pixels" in message(read_image, "a.j2k")


@pytest.mark.parametrize("pixels", [RGB, GRAY])
def test_damaged_files_are_refused_in_one_line(pixels, capfd):
    Image.fromarray(pixels).save("a.jp2")
    content, random = Path("a.jp2").read_bytes(), np.random.default_rng(0)
    for number in range(150):
        damaged = bytearray(content if number % 2 else content[: random.integers(12, len(content))])
        for at in random.integers(12, min(len(damaged), 300), 2) if len(damaged) > 12 else ():
            damaged[at] = random.integers(0, 256)
        Path("a.jp2").write_bytes(damaged)
        try:
            read_image("a.jp2")
        except InstsegError as error:
            assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")
