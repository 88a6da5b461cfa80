import json
import os

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.folders import find_pairs
from instseg.io.images import write_png
from instseg.io.label_images import read_labels, write_labels
from instseg.io.pairs import read_pair
from instseg.labelling.folder import LabelFolder
from instseg.labelling.label_files import file_numbers

SHAPE = (30, 40)


def write_zarr(path, labels):
    """Write an array of Zarr 2 without compression, of one chunk."""
    path.mkdir(parents=True)
    shape = list(labels.shape)
    plain = {"compressor": None, "filters": None, "fill_value": 0, "order": "C", "zarr_format": 2}
    (path / ".zarray").write_text(json.dumps({**plain, "shape": shape, "chunks": shape, "dtype": "<i4"}))
    (path / "0.0").write_bytes(labels.astype("<i4").tobytes())
    return path


def stored_labels(folder, name="a"):
    (pair,) = [pair for pair in find_pairs(folder) if pair.name == name]
    return read_pair(pair)[1]


def test_images_and_their_states(folder):
    (folder / "broken.png").write_bytes(b"nothing")
    write_png(folder / "a.tif.png", np.zeros((5, 6, 3), np.uint8))
    work = LabelFolder(folder)
    assert [image.name for image in work.images] == ["a", "a.tif", "b", "broken"]
    assert work.images[0].shape == (30, 40, 1)
    assert work.images[1].shape == (5, 6, 3)
    assert "cannot read" in work.images[3].error
    assert [work.state(index) for index in range(4)] == ["new"] * 4
    with pytest.raises(InstsegError, match="cannot label"):
        work.document(3)
    work.close()


def test_labels_in_zarr_make_room(folder, square):
    array = write_zarr(folder / "labels" / "a.zarr", square(3))
    work = LabelFolder(folder)
    assert work.document(0).state == "accepted"
    work.close()
    assert array.is_dir()
    work = LabelFolder(folder)
    assert work.notes == []
    work.document(0).act({"kind": "delete", "point": [6.0, 6.0]})
    work.close()
    assert [path.name for path in (folder / "labels").iterdir()] == ["a.png"]
    assert np.unique(stored_labels(folder)).tolist() == [0, 4]
    assert (folder / ".labelling" / "replaced" / "a-1.zarr").is_dir()


def test_images_of_one_name_have_one_file_of_labels(folder):
    write_png(folder / "a.bmp.png", np.zeros(SHAPE, np.uint8))
    (folder / "a.bmp.png").rename(folder / "a.tiff")
    work = LabelFolder(folder)
    assert [image.error is None for image in work.images] == [True, False, True]
    assert "a.png has the same name" in work.images[1].error
    work.close()


def test_partly_labelled_images_say_what_is_not_known(folder, square):
    work = LabelFolder(folder)
    document = work.document(0)
    document.set_prediction(square(1))
    document.act({"kind": "confirm", "point": [6.0, 6.0]})
    assert work.state(0) == "partly"
    assert work.counts(0) == (2, 1)
    assert work.flush()
    expected = np.full(SHAPE, -1)
    expected[2:15, 2:15] = 0
    expected[5:12, 5:12] = 2
    assert np.array_equal(stored_labels(folder), expected)
    document.act({"kind": "accept"})
    assert work.flush()
    assert np.array_equal(stored_labels(folder), square(1))
    assert not list((folder / "ignored").iterdir())
    assert [pair.name for pair in find_pairs(folder)] == ["a"]
    work.close()


def test_whoever_reads_while_files_are_written_never_takes_an_object_for_background(folder, monkeypatch, square):
    """Labels and what is not known are two files: in between, an object is labelled, or not known."""
    from instseg.labelling import label_files

    work, seen = LabelFolder(folder), []
    document = work.document(0)
    document.set_prediction(square(1))
    document.act({"kind": "confirm", "point": [6.0, 22.0]})
    assert work.flush()
    write = label_files.write_labels

    def write_labels(path, labels, geometry):
        for _ in range(2):
            seen.append(stored_labels(folder)[5:12, 5:12])
            write(path, labels, geometry)

    monkeypatch.setattr(label_files, "write_labels", write_labels)
    document.act({"kind": "confirm", "point": [6.0, 6.0]})
    assert work.flush()
    assert (stored_labels(folder)[5:12, 5:12] > 0).all()
    document.act({"kind": "delete", "point": [6.0, 6.0]})
    assert work.flush()
    assert len(seen) == 4
    assert not any((values == 0).any() for values in seen)
    work.close()


def test_taking_everything_back_takes_the_files_away_too(folder, paint):
    work = LabelFolder(folder)
    paint(work.document(0), 10, 10)
    assert work.flush()
    assert (folder / "labels" / "a.png").exists()
    work.document(0).act({"kind": "undo"})
    assert work.flush()
    assert not (folder / "labels" / "a.png").exists()
    assert not (folder / "ignored" / "a.png").exists()
    work.close()


def test_a_folder_opens_as_it_was_left(folder, paint, square):
    work = LabelFolder(folder)
    document = work.document(0)
    document.set_prediction(square(1))
    paint(document, 20, 20)
    outcome = document.outcome()
    work.close()
    work = LabelFolder(folder)
    assert work.state(0) == "partly"
    assert work.counts(0) == (3, 1)
    assert work.predicted(0)
    assert work.document(0).outcome() == outcome
    assert work.notes == []
    work.close()


def test_images_may_have_a_folder_of_their_own(folder, paint):
    (folder / "images").mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / "images" / name)
    work = LabelFolder(folder)
    paint(work.document(1), 10, 10)
    work.close()
    assert (folder / "labels" / "b.png").exists()
    assert len(np.unique(stored_labels(folder, "b"))) == 3


def test_labels_that_exist_are_accepted_and_not_written_without_an_action(folder, square):
    (folder / "labels").mkdir()
    write_labels(folder / "labels" / "a_masks.tif", square(70))
    content = (folder / "labels" / "a_masks.tif").read_bytes()
    work = LabelFolder(folder)
    assert work.state(0) == "accepted"
    assert work.counts(0) == (None, None)
    document = work.document(0)
    assert np.array_equal(document.read(), square(70))
    assert work.counts(0) == (2, 2)
    work.close()
    assert (folder / "labels" / "a_masks.tif").read_bytes() == content
    assert sorted(path.name for path in (folder / "labels").iterdir()) == ["a_masks.tif"]
    work = LabelFolder(folder)
    work.document(0).act({"kind": "delete", "point": [6.0, 6.0]})
    work.close()
    assert np.unique(read_labels(folder / "labels" / "a_masks.tif")).tolist() == [0, 71]
    work = LabelFolder(folder)
    work.document(0).act({"kind": "undo"})
    work.close()
    assert np.array_equal(read_labels(folder / "labels" / "a_masks.tif"), square(70))


def test_labels_of_a_format_that_is_not_written_make_room(folder, square):
    (folder / "labels").mkdir()
    write_png(folder / "labels" / "a.png", square(3).astype(np.uint8))
    (folder / "labels" / "a.png").rename(folder / "labels" / "a.bmp")
    work = LabelFolder(folder)
    work.document(0).act({"kind": "delete", "point": [6.0, 6.0]})
    work.close()
    assert [path.name for path in (folder / "labels").iterdir()] == ["a.png"]
    assert np.unique(stored_labels(folder)).tolist() == [0, 4]
    assert (folder / ".labelling" / "replaced" / "a-1.bmp").exists()


def test_copies_of_a_folder_are_as_the_folder(folder, paint):
    work = LabelFolder(folder)
    paint(work.document(0), 10, 10)
    work.close()
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    work = LabelFolder(folder)
    assert work.document(0).state == "partly"
    assert work.notes == []
    work.close()


def test_labels_of_another_size_are_said(folder):
    (folder / "labels").mkdir()
    write_labels(folder / "labels" / "a.png", np.ones((3, 3), np.int32))
    work = LabelFolder(folder)
    with pytest.raises(InstsegError, match="expected equal sizes"):
        work.document(0)
    work.close()


def test_one_process_works_on_a_folder(folder):
    work = LabelFolder(folder)
    with pytest.raises(InstsegError, match="being labelled by another process"):
        LabelFolder(folder)
    work.close()
    LabelFolder(folder).close()


def test_a_lock_that_cannot_be_taken_is_said(folder):
    (folder / ".labelling" / "lock").mkdir(parents=True)
    with pytest.raises(InstsegError, match="lock.*check the permissions"):
        LabelFolder(folder)


def test_the_images_of_a_folder_that_has_labels_are_told_from_it(folder):
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    (folder / "a.png").rename(folder / "images" / "a.png")
    work = LabelFolder(folder / "images")
    assert f"give {folder} to go on" in work.notes[0]
    work.close()


def test_folders_that_cannot_be_used(tmp_path, folder):
    with pytest.raises(InstsegError, match="no such folder"):
        LabelFolder(tmp_path / "nothing")
    with pytest.raises(InstsegError, match="it is a file"):
        LabelFolder(folder / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InstsegError, match="holds no image"):
        LabelFolder(tmp_path / "empty")
    (folder / "classes").mkdir()
    with pytest.raises(InstsegError, match="class images"):
        LabelFolder(folder)
    (folder / "classes").rmdir()
    LabelFolder(folder).close()


def test_one_document_of_an_image_exists_at_a_time(folder, monkeypatch, paint):
    monkeypatch.setattr("instseg.labelling.folder._KEPT", 1)
    work = LabelFolder(folder)
    first = work.document(0)
    paint(first, 10, 10)
    work.flush()
    work.document(1)
    assert work.document(0) is first
    assert work.document(0, lambda box: None).embeddings is not None
    work.release(0)
    del first
    assert work.document(0).outcome().objects == 1
    work.close()


@pytest.mark.parametrize(
    ("ids", "numbers"),
    [([1], [2]), ([255], [2]), ([7], [7]), ([1, 255], [1, 255]), ([70_000], [2]), ([5, 70_000], [1, 2]), ([], [])],
)
def test_numbers_in_files(ids, numbers):
    assert file_numbers(np.array(ids, np.int32)).tolist() == numbers


def test_more_instances_than_png_holds_go_into_tiff(folder, monkeypatch, paint):
    monkeypatch.setattr("instseg.labelling.label_files.MAX_PNG_LABEL", 50)
    labels = np.zeros(SHAPE, np.int32)
    labels[::3, ::3] = np.arange(1, 141).reshape(10, 14)
    work = LabelFolder(folder)
    document = work.document(0)
    paint(document, 1.5, 1.5, 0.4)
    assert work.flush()
    document.set_prediction(labels)
    document.act({"kind": "accept"})
    assert work.flush()
    assert [path.name for path in (folder / "labels").iterdir()] == ["a.tif"]
    assert np.array_equal(stored_labels(folder) > 0, document.read() > 0)
    work.close()


def test_images_larger_than_memory_are_written_strip_by_strip(folder, monkeypatch, square):
    for module in ("folder", "label_files"):
        monkeypatch.setattr(f"instseg.labelling.{module}.STREAMING_PIXELS", 100)
    work = LabelFolder(folder)
    document = work.document(0)
    document.set_prediction(square(1))
    document.act({"kind": "accept"})
    assert work.flush()
    assert np.array_equal(read_labels(folder / "labels" / "a.tif"), square(1))
    assert not list(work.work.glob("pixels-*"))
    work.close()
    work = LabelFolder(folder)
    assert np.array_equal(work.document(0).read(), square(1))
    work.close()
