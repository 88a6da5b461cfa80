"""Label images: what is read as labels, what is refused, and what is written."""

import numpy as np
import pytest
from PIL import Image

from instseg.errors import InstsegError, UsageError
from instseg.io.formats import read_header
from instseg.io.images import read_image
from instseg.io.label_images import STRIP_ROWS, read_labels, write_labels, write_labels_streamed
from instseg.labels.regions import IGNORED

RAMP8 = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
INSTANCES = np.array([[1, 1, 0, 0], [0, 0, 0, 300], [7, 0, 0, 300]], np.uint16)
MASK = np.array([[1, 0, 1], [1, 0, 1]], np.uint8)


def error_of(call, *args, **options):
    """The message of the one error that a user sees; it must be a single line."""
    with pytest.raises(InstsegError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_labels_are_read_as_they_are(png, tif):
    for path in (png(INSTANCES), tif(INSTANCES), tif(INSTANCES.astype(np.int64))):
        labels = read_labels(path)
        assert labels.dtype == np.int32
        assert np.array_equal(labels, INSTANCES)


def test_labels_of_few_bits_are_not_stretched(tmp_path, raw_png):
    (tmp_path / "a.png").write_bytes(raw_png(4, 1, 4, 0, b"\0\x12\x0f"))
    assert read_labels(tmp_path / "a.png").tolist() == [[1, 2, 0, 15]]


def test_labels_beyond_int32_are_renumbered(tif):
    labels = np.array([[0, 4_000_000_000, 5]], np.uint32)
    assert read_labels(tif(labels)).tolist() == [[0, 1, 2]]


def test_negative_labels_are_refused(tif):
    assert "negative value -1; make labels 0 for" in error_of(read_labels, tif(np.array([[-1, 2]], np.int16)))


def test_empty_labels_are_fine(png):
    assert read_labels(png(np.zeros((2, 2), np.uint8))).tolist() == [[0, 0], [0, 0]]


def test_labels_in_colours_floats_or_with_alpha_are_refused(tmp_path, png, tif, raw_png):
    assert "it has 3 channels (RGB), expected gray labels; save one gray" in error_of(
        read_labels, png(np.stack([RAMP8] * 3, -1))
    )
    assert "it has an alpha channel" in error_of(read_labels, png(np.stack([RAMP8] * 2, -1)))
    assert "its values are float32, expected integer labels; save" in error_of(
        read_labels, tif(RAMP8.astype(np.float32))
    )
    Image.fromarray(RAMP8).convert("P").save(tmp_path / "p.png")
    assert "palette image, expected gray labels; save the palette's indices" in error_of(
        read_labels, tmp_path / "p.png"
    )
    Image.fromarray(RAMP8).save(tmp_path / "a.jpg")
    assert "it is a JPEG, which does not keep labels' values" in error_of(read_labels, tmp_path / "a.jpg")
    (tmp_path / "t.png").write_bytes(raw_png(3, 1, 8, 0, b"\0\0\1\0", (b"tRNS", b"\0\1")))
    assert "it has transparency" in error_of(read_labels, tmp_path / "t.png")


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks_are_refused(png, value):
    path = png(MASK * np.uint8(value))
    message = error_of(read_labels, path)
    assert f"binary mask ({value} is its only value besides 0, in 2 pieces), expected a number for each" in message
    assert "give `connected_components=True` to make every connected piece an instance" in message
    assert read_labels(path, connected_components=True).tolist() == [[1, 0, 2], [1, 0, 2]]


def test_one_component_is_an_instance_unless_its_value_is_that_of_masks(tmp_path, png, tif, raw_png):
    piece = np.array([[0, 1], [1, 0]], np.uint8)
    assert read_labels(png(piece * 9)).tolist() == [[0, 9], [9, 0]]
    for path in (png(piece * 255), png(piece * np.uint16(65_535), "b.png"), tif(piece > 0, photometric="minisblack")):
        assert "binary mask" in error_of(read_labels, path)
        assert read_labels(path, connected_components=True).tolist() == [[0, 1], [1, 0]]
    (tmp_path / "c.png").write_bytes(raw_png(3, 1, 1, 0, b"\0\x40"))
    assert "binary mask (255 is" in error_of(read_labels, tmp_path / "c.png")


def test_connected_components_split_every_value(png):
    labels = np.array([[3, 3, 8], [0, 0, 0], [3, 0, 8]], np.uint8)
    assert read_labels(png(labels), connected_components=True).tolist() == [[1, 1, 2], [0, 0, 0], [3, 0, 4]]


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif", "a.tiff"])
def test_labels_come_back(tmp_path, name):
    write_labels(tmp_path / name, INSTANCES.astype(np.int32))
    assert np.array_equal(read_labels(tmp_path / name), INSTANCES)
    found = read_header(tmp_path / name)
    assert found.bits == (16 if name.lower().endswith("png") else 32)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_labels_beyond_16_bit_go_to_tiff_only(tmp_path):
    labels = np.array([[0, 65_536]], np.int32)
    message = error_of(write_labels, tmp_path / "a.png", labels)
    assert f"label 65536 does not fit into 16-bit PNG (up to 65535); write {tmp_path / 'a.tif'} instead" in message
    write_labels(tmp_path / "a.tif", labels)
    assert read_labels(tmp_path / "a.tif").tolist() == [[0, 65_536]]
    assert "does not fit into 32 bit" in error_of(write_labels, tmp_path / "a.tif", labels.astype(np.int64) << 20)


def test_labels_to_other_suffixes_or_places_are_refused(tmp_path):
    expected = "labels are written as .png, .tif, .tiff or .npy; choose"
    assert expected in error_of(write_labels, tmp_path / "a.jpg", INSTANCES)
    assert "does not exist; create it first" in error_of(write_labels, tmp_path / "no" / "a.png", INSTANCES)


def test_what_is_no_label_image_is_not_written(tmp_path):
    with pytest.raises(UsageError, match="float64 of shape"):
        write_labels(tmp_path / "a.png", np.ones((2, 2)))
    with pytest.raises(UsageError, match="negative value -3"):
        write_labels(tmp_path / "a.png", np.array([[-3]]))


def test_labels_are_written_strip_by_strip(tmp_path):
    labels = np.random.default_rng(3).integers(0, 100_000, (STRIP_ROWS + 300, 700)).astype(np.int32)
    strips = (labels[top : top + STRIP_ROWS] for top in range(0, len(labels), STRIP_ROWS))
    write_labels_streamed(tmp_path / "labels.tif", labels.shape, strips)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif"), labels)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]
    assert read_header(tmp_path / "labels.tif").dtype == "uint32"


def test_strips_are_written_as_tiff_only(tmp_path):
    message = error_of(write_labels_streamed, tmp_path / "a.png", (4, 5), iter([np.ones((4, 5), np.int32)]))
    assert "labels of an image of 4 x 5 pixels are written as TIFF; write" in message
    assert "`file_format='tif'`" in message


def test_paths_are_texts_too(tmp_path):
    path = str(tmp_path / "labels.png")
    write_labels(path, INSTANCES)
    np.testing.assert_array_equal(read_labels(path), INSTANCES)
    np.testing.assert_array_equal(read_image(path)[..., 0], INSTANCES)
    assert read_header(path).bits == 16


def test_pixels_of_the_ignored_label_are_left_out(png, tif):
    labels = read_labels(png(INSTANCES), ignore_label=300)
    assert labels.dtype == np.int32
    assert labels.tolist() == [[1, 1, 0, 0], [0, 0, 0, IGNORED], [7, 0, 0, IGNORED]]
    assert read_labels(png(INSTANCES), ignore_label=300, connected_components=True).tolist() == [
        [1, 1, 0, 0],
        [0, 0, 0, IGNORED],
        [2, 0, 0, IGNORED],
    ]
    beyond = np.array([[0, 2**32 - 1, 5]], np.uint32)
    assert read_labels(tif(beyond), ignore_label=2**32 - 1).tolist() == [[0, IGNORED, 5]]
    assert read_labels(png(MASK * np.uint8(255)), ignore_label=255).min() == IGNORED


def test_a_mask_beside_ignored_pixels_is_a_mask(png):
    path = png(np.where(MASK == 0, 7, MASK).astype(np.uint8))
    assert "(1 is its only value besides 0, in 2 pieces)" in error_of(read_labels, path, ignore_label=7)


def test_one_object_of_another_number_in_pieces_is_no_mask(png):
    assert read_labels(png(MASK * np.uint8(8))).tolist() == (MASK * 8).tolist()
    assert read_labels(png(MASK * np.uint8(8)), connected_components=True).tolist() == [[1, 0, 2], [1, 0, 2]]


@pytest.mark.parametrize("value", [1, 8, 255])
def test_values_of_predictions_are_numbers(png, value):
    assert read_labels(png(MASK * np.uint8(value)), prediction=True).tolist() == (MASK * value).tolist()


def test_labels_are_arrays_of_numpy(tmp_path):
    write_labels(tmp_path / "a.NPY", INSTANCES)
    assert np.load(tmp_path / "a.NPY").dtype == np.int32
    assert np.array_equal(np.load(tmp_path / "a.NPY"), INSTANCES)
    large = np.array([[0, 2**40]])
    write_labels(tmp_path / "b.npy", large)
    assert np.array_equal(np.load(tmp_path / "b.npy"), large)
    values = np.arange(7 * 5, dtype=np.int32).reshape(7, 5)
    write_labels_streamed(tmp_path / "c.npy", (7, 5), (values[top : top + 3] for top in (0, 3, 6)))
    assert np.array_equal(np.load(tmp_path / "c.npy"), values)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.NPY", "b.npy", "c.npy"]
