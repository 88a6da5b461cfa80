import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from instseg.data.classes import read_class_table
from instseg.errors import InstsegError, UsageError
from instseg.io.folders import find_pairs
from instseg.io.images import write_png
from instseg.io.label_images import read_labels, write_labels
from instseg.io.pairs import read_pair
from instseg.labelling.folder import LabelFolder
from instseg.labelling.journal import StorageError
from instseg.labelling.label_files import file_numbers
from instseg.labelling.outcome import Outcome

SHAPE = (30, 40)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    for name in ("a", "b"):
        write_png(path / f"{name}.png", np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8))
    return path


def paint(document, row, column, radius=3.0, instance=None):
    return document.act({"kind": "paint", "line": [[row, column]], "radius": radius, "id": instance})


def square(number):
    labels = np.zeros(SHAPE, np.int32)
    labels[5:12, 5:12] = number
    labels[5:12, 20:30] = number + 1
    return labels


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


def test_images_of_one_name_have_one_file_of_labels(folder):
    write_png(folder / "a.bmp.png", np.zeros(SHAPE, np.uint8))
    (folder / "a.bmp.png").rename(folder / "a.tiff")
    work = LabelFolder(folder)
    assert [image.error is None for image in work.images] == [True, False, True]
    assert "a.png has the same name" in work.images[1].error
    work.close()


def test_partly_labelled_images_say_what_is_not_known(folder):
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


def test_taking_everything_back_takes_the_files_away_too(folder):
    work = LabelFolder(folder)
    paint(work.document(0), 10, 10)
    assert work.flush()
    assert (folder / "labels" / "a.png").exists()
    work.document(0).act({"kind": "undo"})
    assert work.flush()
    assert not (folder / "labels" / "a.png").exists()
    assert not (folder / "ignored" / "a.png").exists()
    work.close()


def test_a_folder_opens_as_it_was_left(folder):
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


def test_images_may_have_a_folder_of_their_own(folder):
    (folder / "images").mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / "images" / name)
    work = LabelFolder(folder)
    paint(work.document(1), 10, 10)
    work.close()
    assert (folder / "labels" / "b.png").exists()
    assert len(np.unique(stored_labels(folder, "b"))) == 3


def test_labels_that_exist_are_accepted_and_not_written_without_an_action(folder):
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


def test_labels_of_a_format_that_is_not_written_make_room(folder):
    (folder / "labels").mkdir()
    write_png(folder / "labels" / "a.png", square(3).astype(np.uint8))
    (folder / "labels" / "a.png").rename(folder / "labels" / "a.bmp")
    work = LabelFolder(folder)
    work.document(0).act({"kind": "delete", "point": [6.0, 6.0]})
    work.close()
    assert [path.name for path in (folder / "labels").iterdir()] == ["a.png"]
    assert np.unique(stored_labels(folder)).tolist() == [0, 4]
    assert (folder / ".labelling" / "replaced" / "a-1.bmp").exists()


def test_labels_that_another_program_changes_are_taken_as_a_step(folder):
    work = LabelFolder(folder)
    paint(work.document(0), 10, 10)
    work.close()
    ours = stored_labels(folder)
    (folder / "ignored" / "a.png").unlink()
    write_labels(folder / "labels" / "a.png", square(5))
    work = LabelFolder(folder)
    document = work.document(0)
    assert np.array_equal(document.read(), square(5))
    assert document.state == "accepted"
    assert "changed by another program" in work.notes[0]
    document.act({"kind": "undo"})
    work.close()
    assert np.array_equal(stored_labels(folder), ours)


def test_what_another_program_writes_meanwhile_is_kept(folder):
    work = LabelFolder(folder)
    document = work.document(0)
    paint(document, 10, 10)
    assert work.flush()
    for number in (5, 7):
        write_labels(folder / "labels" / "a.png", square(number))
        paint(document, 20, 3 * number)
        assert work.flush()
    assert len(np.unique(stored_labels(folder))) == 5
    replaced = folder / ".labelling" / "replaced"
    assert np.array_equal(read_labels(replaced / "a-1.png"), square(5))
    assert np.array_equal(read_labels(replaced / "a-2.png"), square(7))
    work.close()


def test_copies_of_a_folder_are_as_the_folder(folder):
    work = LabelFolder(folder)
    paint(work.document(0), 10, 10)
    work.close()
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    work = LabelFolder(folder)
    assert work.document(0).state == "partly"
    assert work.notes == []
    work.close()


def test_labels_that_were_lost_are_written_again(folder):
    work = LabelFolder(folder)
    paint(work.document(0), 10, 10)
    work.close()
    (folder / "labels" / "a.png").unlink()
    work = LabelFolder(folder)
    work.close()
    assert np.unique(stored_labels(folder)).tolist() == [-1, 0, 2]


@pytest.mark.parametrize("left", [0, 10, 30, 60])
def test_labels_that_exist_stay_where_a_journal_was_cut_off_in_its_beginning(folder, left):
    (folder / "labels").mkdir()
    write_labels(folder / "labels" / "a.png", square(3))
    work = LabelFolder(folder)
    work.document(0)
    work.close()
    journal = folder / ".labelling" / "journal" / "a.jsonl"
    journal.write_bytes(journal.read_bytes()[:left])
    (folder / ".labelling" / "images" / "a.json").unlink()
    work = LabelFolder(folder)
    assert work.state(0) == "accepted"
    assert np.array_equal(work.document(0).read(), square(3))
    work.close()
    assert np.array_equal(stored_labels(folder), square(3))


def test_labels_stay_where_a_journal_is_damaged(folder):
    work = LabelFolder(folder)
    for row in (5, 15, 25):
        paint(work.document(0), row, 10)
    work.document(0).act({"kind": "accept"})
    work.close()
    whole = stored_labels(folder)
    journal = folder / ".labelling" / "journal" / "a.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"damage\n", *lines[3:]]))
    work = LabelFolder(folder)
    assert work.state(0) == "accepted"
    assert np.array_equal(work.document(0).read(), whole)
    assert ["damaged" in work.notes[0], "more than is left" in work.notes[1]] == [True, True]
    work.document(0).act({"kind": "undo"})
    assert work.document(0).outcome().objects == 1
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


def test_nothing_is_done_in_a_folder_that_is_closed(folder):
    work = LabelFolder(folder)
    document = work.document(0)
    work.close()
    with pytest.raises(StorageError, match="is closed"):
        paint(document, 10, 10)
    assert not list((folder / ".labelling" / "journal").iterdir())


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


def test_one_document_of_an_image_exists_at_a_time(folder, monkeypatch):
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


def test_classes_are_those_that_training_reads(folder):
    work = LabelFolder(folder)
    document = work.document(0)
    for row in (5, 15, 25):
        paint(document, row, 10)
    work.set_classes({1: "round", 2: "long"})
    document.act({"kind": "class", "point": [5.0, 10.0], "class": 2})
    document.act({"kind": "class", "point": [15.0, 10.0], "class": 1})
    assert work.flush()
    assert read_class_table(folder / "classes.csv") == {"a": {1: "long", 2: "round", 3: "unclassified"}}
    work.set_classes({1: "round", 2: "very long"})
    assert read_class_table(folder / "classes.csv")["a"][1] == "very long"
    with pytest.raises(UsageError, match="twice"):
        work.set_classes({1: "x", 2: "x"})
    work.close()
    work = LabelFolder(folder)
    assert work.classes == {1: "round", 2: "very long"}
    document = work.document(0)
    assert document.objects().classes.tolist() == [2, 1, 0]
    document.act({"kind": "class", "point": [5.0, 10.0], "class": 0})
    document.act({"kind": "class", "point": [15.0, 10.0], "class": 0})
    assert work.flush()
    assert not (folder / "classes.csv").exists()
    work.close()


def test_classes_have_the_same_numbers_in_all_sittings(folder):
    (folder / "labels").mkdir()
    write_labels(folder / "labels" / "a.png", square(1))
    (folder / "classes.csv").write_text("image,label,class\na,1,long\na,2,round\n")
    work = LabelFolder(folder)
    # From now on there is no long one in the table, and one has a class without a name.
    work.document(0).act({"kind": "class", "point": [6.0, 6.0], "class": 2})
    work.document(0).act({"kind": "class", "point": [6.0, 22.0], "class": 7})
    work.close()
    expected = {"a": {1: "round", 2: "7"}}
    assert read_class_table(folder / "classes.csv") == expected
    work = LabelFolder(folder)
    assert work.classes == {1: "long", 2: "round", 7: "7"}
    work.document(0).act({"kind": "delete", "point": [6.0, 22.0]})
    work.document(0).act({"kind": "undo"})
    work.close()
    assert read_class_table(folder / "classes.csv") == expected


def test_classes_that_cannot_be_renamed_can_be_another_time(folder, monkeypatch):
    work = LabelFolder(folder)
    paint(work.document(0), 5, 10)
    work.set_classes({1: "round"})
    work.document(0).act({"kind": "class", "point": [5.0, 10.0], "class": 1})
    assert work.flush()

    def no_space(path, columns, rows):
        raise InstsegError(f"cannot write {path}: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("instseg.labelling.class_list.write_csv", no_space)
        with pytest.raises(InstsegError, match="No space left"):
            work.set_classes({1: "long"})
        assert work.classes == {1: "round"}
    work.set_classes({1: "long"})
    assert read_class_table(folder / "classes.csv")["a"] == {2: "long"}
    work.close()


def test_classes_that_exist_are_loaded(folder):
    (folder / "labels").mkdir()
    write_labels(folder / "labels" / "a.png", square(1))
    (folder / "classes.csv").write_text("image,label,class\na,1,long\na,2,round\n")
    work = LabelFolder(folder)
    assert work.classes == {1: "long", 2: "round"}
    assert work.document(0).objects().classes.tolist() == [1, 2]
    work.close()


def test_a_disc_that_is_full_loses_nothing(folder, monkeypatch):
    work = LabelFolder(folder)
    document = work.document(0)

    def no_space(path, pixels):
        raise InstsegError(f"cannot write {path}: No space left on device; check the permissions and the space")

    with monkeypatch.context() as patch:
        patch.setattr(
            "instseg.labelling.label_files.write_labels", lambda path, labels, geometry: no_space(path, labels)
        )
        paint(document, 10, 10)
        assert not work.flush()
        assert "No space left" in work.error
        paint(document, 20, 20)
    assert work.flush()
    assert work.error is None
    assert len(np.unique(stored_labels(folder))) == 4
    work.close()


@pytest.mark.parametrize(
    ("ids", "numbers"), [([1], [2]), ([255], [2]), ([7], [7]), ([1, 255], [1, 255]), ([70_000], [2]), ([5, 70_000], [1, 2]), ([], [])]
)
def test_numbers_in_files(ids, numbers):
    assert file_numbers(np.array(ids, np.int32)).tolist() == numbers


def test_more_instances_than_png_holds_go_into_tiff(folder, monkeypatch):
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


def test_images_larger_than_memory_are_written_strip_by_strip(folder, monkeypatch):
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


KILLED = """
import json, os, signal, sys
from instseg.labelling.folder import LabelFolder
work = LabelFolder(sys.argv[1])
document = work.document(0)
for number in range(int(sys.argv[2])):
    if number % 4 == 3:
        outcome = document.act({"kind": "undo"})
    else:
        line = [[3.0 * number + 2, 10], [3.0 * number + 2, 20]]
        outcome = document.act({"kind": "paint", "line": line, "radius": 1, "id": None})
print(json.dumps([outcome.to_dict(), document.read().tolist()]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("count", [1, 8])
def test_a_process_that_is_killed_loses_nothing(folder, count):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(count)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    outcome, labels = json.loads(done.stdout)
    work = LabelFolder(folder)
    assert work.state(0) == outcome["state"]
    document = work.document(0)
    assert document.read().tolist() == labels
    after = document.outcome()
    assert isinstance(after, Outcome)
    for name in ("version", "objects", "confirmed", "undo", "redo"):
        assert getattr(after, name) == outcome[name]
    assert work.flush()
    assert np.array_equal(np.unique(stored_labels(folder)) > 0, [False, False, *[True] * outcome["objects"]])
    while document.act({"kind": "undo"}).message is None:
        pass
    assert not document.read().any()
    work.close()
