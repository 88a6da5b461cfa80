from pathlib import Path

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.folders import Pair, find_pairs, image_folder, match_folder
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.io.label_volumes import write_label_volume
from instseg.io.pairs import UNKNOWN, read_ignored, read_pair, read_pair_values
from instseg.io.pixel_size import PixelGeometry
from instseg.io.volume_tiff import write_volume
from instseg.io.volumes import is_volume, open_volume
from instseg.labels.regions import IGNORED

GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)
LABELS = np.array([[1, 1, 0, 0], [0, 0, 0, 2], [0, 0, 2, 2]])
UNLABELLED = np.array([[0, 0, 0, UNKNOWN], [0, 0, UNKNOWN, 0], [UNKNOWN, UNKNOWN, 0, 0]], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A folder that is being labelled, its images in itself: one is labelled in parts, one wholly, one not at all."""
    for name in ("labels", "ignored", ".labelling"):
        (tmp_path / name).mkdir()
    for name in "abc":
        write_picture(tmp_path / f"{name}.png", GRAY)
    for name in "ab":
        write_labels(tmp_path / "labels" / f"{name}.png", LABELS)
    write_picture(tmp_path / "ignored" / "a.png", UNLABELLED)
    return tmp_path


def test_images_lie_in_a_folder_of_their_own_or_beside_the_labels(tmp_path):
    assert image_folder(tmp_path) == tmp_path
    (tmp_path / "images").mkdir()
    assert image_folder(tmp_path) == tmp_path / "images"


def test_images_without_labels_are_left_out_where_labelling_goes_on(folder):
    assert find_pairs(folder) == [
        Pair("a", folder / "a.png", folder / "labels/a.png", folder / "ignored/a.png"),
        Pair("b", folder / "b.png", folder / "labels/b.png", None),
    ]
    (left_out,) = match_folder(folder)[1]
    assert (left_out.what, left_out.files, left_out.expected) == ("images not labelled yet", (folder / "c.png",), True)


def test_without_labelling_they_are_refused(folder):
    (folder / ".labelling").rmdir()
    with pytest.raises(InstsegError, match=r"1 images without labels \(c\.png\): add their labels or remove them"):
        find_pairs(folder)


def test_labels_without_an_image_are_refused_all_the_same(folder):
    (folder / "a.png").unlink()
    with pytest.raises(InstsegError, match="labels without an image") as caught:
        find_pairs(folder)
    assert "not labelled yet" not in str(caught.value)


def test_a_folder_in_which_nothing_is_labelled_yet(folder):
    for name in "ab":
        (folder / "labels" / f"{name}.png").rename(folder / "labels" / f"other-{name}.png")
    with pytest.raises(InstsegError, match="3 images not labelled yet"):
        find_pairs(folder)
    for path in (folder / "labels").iterdir():
        path.unlink()
    (folder / "labels").rmdir()
    with pytest.raises(InstsegError, match=r"the folder .*labels is missing"):
        find_pairs(folder)


def test_pixels_that_nobody_has_labelled_are_ignored(folder):
    image, labels = read_pair(find_pairs(folder)[0])
    assert (image[..., 0] == GRAY).all()
    assert labels.tolist() == [[1, 1, 0, -1], [0, 0, -1, 2], [-1, -1, 2, 2]]
    assert labels.dtype == np.int32


def test_they_are_ignored_beside_an_ignored_label_and_in_masks(folder):
    pair = find_pairs(folder)[0]
    assert read_pair_values(pair, ignore_label=1).tolist() == [[-1, -1, 0, -1], [0, 0, -1, 2], [-1, -1, 2, 2]]
    write_labels(pair.labels, (LABELS > 0) * 255)
    assert read_pair(pair, connected_components=True)[1].tolist() == [[1, 1, 0, -1], [0, 0, -1, 2], [-1, -1, 2, 2]]


def test_an_image_that_is_no_mark_of_unlabelled_pixels_is_refused(folder):
    path = folder / "ignored" / "a.png"
    write_picture(path, GRAY)
    with pytest.raises(InstsegError, match="it holds the value 1, expected 0 and 255"):
        read_pair(find_pairs(folder)[0])
    write_picture(path, np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(InstsegError, match="make it a gray image of 8 bit with 255 where nothing is labelled"):
        read_ignored(path)
    write_labels(path, LABELS)
    with pytest.raises(InstsegError, match="does not mark pixels"):
        read_ignored(path)


def test_marks_of_another_size_are_refused(folder):
    write_picture(folder / "ignored" / "a.png", UNLABELLED[:2])
    with pytest.raises(InstsegError, match=r"is 2 x 4 pixels and .*a\.png is 3 x 4, expected equal sizes"):
        read_pair(find_pairs(folder)[0])


def test_marks_count_without_the_notes_of_the_labelling(folder):
    (folder / ".labelling").rmdir()
    (folder / "c.png").unlink()
    assert (read_pair(find_pairs(folder)[0])[1] == IGNORED).sum() == 4
    assert find_pairs(folder)[1] == Pair("b", Path(folder / "b.png"), Path(folder / "labels/b.png"))


def test_pairs_of_volumes_are_read(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    volume = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    labels = np.zeros((5, 6, 7), np.int32)
    labels[1:3, 1:4, 2:5], labels[0] = 70_000, 9
    write_volume(tmp_path / "images" / "a.tif", volume, PixelGeometry((1.0, 1.0), depth=2.0))
    write_label_volume(tmp_path / "labels" / "a.tif", labels)
    (pair,) = find_pairs(tmp_path)
    assert is_volume(pair.labels)
    image, read = read_pair(pair, volume=True, ignore_label=9)
    np.testing.assert_array_equal(image[..., 0], volume)
    np.testing.assert_array_equal(read, np.where(labels == 9, IGNORED, labels))
    assert open_volume(pair.image).spacing == (2.0, 1.0, 1.0)


def test_volumes_whose_depths_differ_are_no_pair(tmp_path):
    write_volume(tmp_path / "a.tif", np.zeros((5, 6, 7), np.uint16))
    write_label_volume(tmp_path / "b.tif", np.zeros((4, 6, 7), np.int32))
    pair = Pair("a", tmp_path / "a.tif", tmp_path / "b.tif")
    with pytest.raises(
        InstsegError, match=r"a\.tif is 5 x 6 x 7 voxels and .*b\.tif is 4 x 6 x 7, expected equal sizes"
    ):
        read_pair(pair, volume=True)
