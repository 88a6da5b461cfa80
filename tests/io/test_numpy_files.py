"""Images in `.npy` and `.npz`."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.formats import read_header
from instseg.io.images import read_image, read_planes
from instseg.io.label_images import read_labels
from instseg.io.source import open_image, open_planes, read_geometry, whole_box
from instseg.tiling.grid import Box

GRAY = np.random.default_rng(0).integers(0, 60_000, (30, 40)).astype(np.uint16)
RGB = np.random.default_rng(1).integers(0, 256, (30, 40, 3)).astype(np.uint8)


def message(call, *args, **options):
    with pytest.raises(InstsegError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "int64", "float16", "float32", ">f8", "bool"])
def test_an_array_is_an_image_of_the_values_that_a_tiff_of_it_has(dtype):
    values = (GRAY % 100).astype(dtype)
    np.save("a.npy", values)
    image = read_image("a.npy")
    expected = values.astype(float) * (255 if dtype == "bool" else 1)
    assert image.dtype in (np.uint8, np.uint16, np.float32)
    np.testing.assert_array_equal(image[..., 0], expected)


def test_negative_values_stay():
    np.save("a.npy", GRAY.astype(np.int32) - 32_768)
    image = read_image("a.npy")
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image[..., 0], GRAY.astype(int) - 32_768)


@pytest.mark.parametrize("order", ["C", "F"])
def test_either_order_is_read(order):
    np.save("a.npy", np.array(RGB, order=order))
    np.testing.assert_array_equal(read_image("a.npy"), RGB)
    header = read_header("a.npy")
    assert (header.format, header.height, header.width, header.channels, header.colour) == ("NumPy", 30, 40, 3, "rgb")


def test_planes_without_a_name_may_be_channels():
    stack = np.stack([GRAY, GRAY // 2, GRAY // 3])
    np.save("a.npy", stack)
    assert "it is a stack of 3 planes of 30 x 40 pixels, expected one image; predict takes" in message(
        read_image, "a.npy"
    )
    np.testing.assert_array_equal(read_image("a.npy", planes_as_channels=True), np.moveaxis(stack, 0, -1))
    for plane, reader, expected in zip(read_planes("a.npy"), open_planes("a.npy"), stack, strict=True):
        np.testing.assert_array_equal(plane[..., 0], expected)
        np.testing.assert_array_equal(reader.read(Box(2, 3, 20, 30))[..., 0], expected[2:20, 3:30])


@pytest.mark.parametrize("shape", [(1, 30, 40), (1, 1, 30, 40), (30, 40, 1), (1, 30, 40, 3)])
def test_axes_of_length_1_are_none(shape):
    values = (RGB if shape[-1] == 3 else GRAY).reshape(shape)
    np.save("a.npy", values)
    np.testing.assert_array_equal(read_image("a.npy").ravel(), values.ravel())


def test_large_arrays_are_read_part_by_part(monkeypatch):
    np.save("a.npy", RGB)
    with monkeypatch.context() as patch:
        patch.setattr("instseg.io.source.STREAMING_PIXELS", 1000)
        reader = open_image("a.npy")
    assert reader.streamed
    assert reader.shape == RGB.shape
    np.testing.assert_array_equal(reader.read(Box(5, 6, 20, 33)), RGB[5:20, 6:33])
    reader.close()
    reader = open_image("a.npy")
    assert not reader.streamed
    np.testing.assert_array_equal(reader.read(whole_box(reader)), RGB)
    assert reader.geometry is read_geometry(Path("a.npy")) is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_has_one_image_or_one_is_named(save):
    save("one.npz", image=GRAY)
    np.testing.assert_array_equal(read_image("one.npz")[..., 0], GRAY)
    save("two.npz", image=GRAY, other=RGB)
    assert "it holds 2 arrays (image, other), expected one; give one of them, such as two.npz:/image" in message(
        read_image, "two.npz"
    )
    np.testing.assert_array_equal(read_image("two.npz:/other"), RGB)
    assert "it holds no array third (found: image, other); check the name" in message(read_image, "two.npz:/third")


def test_embeddings_are_no_image():
    np.savez("a.npz", format=np.array(1), embeddings=np.zeros((4, 5, 8)), foreground=np.zeros((4, 5)))
    assert "it holds embeddings, expected an image; give the image, or cluster it instead" in message(
        read_image, "a.npz"
    )


def test_labels_are_read():
    labels = np.zeros((6, 7), np.int32)
    labels[1:3, 1:3], labels[4, 4:] = 7, 300
    np.save("a.npy", labels)
    np.testing.assert_array_equal(read_labels("a.npy"), labels)
    np.save("a.npy", labels - 1)
    assert "it holds the negative value -1" in message(read_labels, "a.npy")
    np.save("a.npy", labels.astype(float))
    assert "its values are float64, expected integer labels" in message(read_labels, "a.npy")
    np.save("a.npy", np.stack([labels] * 5))
    assert "it is a stack of 5 planes" in message(read_labels, "a.npy")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([{}, {}]), "it holds pickled objects, which are never read; save a plain array of numbers"),
        (GRAY.astype(complex), "its values are complex128, expected integers or floats"),
        (np.array([["a", "b"]]), "its values are str32, expected integers or floats"),
        (np.zeros((3, 4), [("a", "i4"), ("b", "f8")]), "its values are of a compound type"),
        (np.zeros(7), "its array has 1 axes, expected rows, columns and perhaps channels"),
        (np.zeros(()), "its array has 0 axes"),
        (np.zeros((1,) * 9), "its array has 9 axes"),
        (np.zeros((0, 4)), "it holds no pixels"),
        (np.full((3, 4), np.nan), "NaN, infinite or beyond float32 (12)"),
        (np.full((3, 4), 70_000), "its int64 values go from 70000 to 70000"),
    ],
)
def test_what_is_no_image_is_refused(values, expected):
    np.save("a.npy", values, allow_pickle=True)
    assert expected in message(read_image, "a.npy")


def test_claims_that_nothing_holds_are_refused():
    np.save("a.npy", GRAY)
    content = Path("a.npy").read_bytes()
    Path("cut.npy").write_bytes(content[:-1])
    assert "it is damaged or cut off (2,400 bytes are claimed, and at most 2,399 are there)" in message(
        read_image, "cut.npy"
    )
    Path("large.npy").write_bytes(content.replace(b"(30, 40), }  ", b"(30000, 40),}"))
    assert "it is damaged or cut off (2,400,000 bytes are claimed" in message(read_image, "large.npy")
    with zipfile.ZipFile("large.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content.replace(b"(30, 40), }  ", b"(30000, 40),}"))
    assert "it is damaged or cut off (2,400,000 bytes are claimed" in message(read_image, "large.npz")


def test_archives_of_other_things_and_methods_are_refused():
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    assert "it is a zip archive without arrays of NumPy; unpack it" in message(read_image, "a.zip")
    content = io.BytesIO()
    np.save(content, GRAY)
    with zipfile.ZipFile("a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", content.getvalue())
    assert "it is compressed in a way that NumPy has not; write it with numpy.savez" in message(read_image, "a.npz")


@pytest.mark.parametrize("name", ["a.npy", "b.npz"])
def test_damaged_files_are_refused_in_one_line(name):
    np.save("a.npy", GRAY[:8, :8])
    np.savez_compressed("b.npz", image=GRAY[:8, :8])
    content, random = Path(name).read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for at in random.integers(8, len(content), 3):
            damaged[at] = random.integers(0, 256)
        Path(name).write_bytes(damaged)
        try:
            read_image(name, planes_as_channels=True)
        except InstsegError as error:
            assert "\n" not in str(error)
