"""Folders whose files were damaged, lost, changed by others or not written to their end."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.folders import find_pairs
from instseg.io.label_images import read_labels, write_labels
from instseg.io.pairs import read_pair
from instseg.labelling.folder import LabelFolder
from instseg.labelling.journal import StorageError
from instseg.labelling.outcome import Outcome

SHAPE = (30, 40)


def stored_labels(folder, name="a"):
    (pair,) = [pair for pair in find_pairs(folder) if pair.name == name]
    return read_pair(pair)[1]


def test_labels_that_another_program_changes_are_taken_as_a_step(folder, paint, square):
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


def test_what_another_program_writes_meanwhile_is_kept(folder, paint, square):
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


def test_labels_that_were_lost_are_written_again(folder, paint):
    work = LabelFolder(folder)
    paint(work.document(0), 10, 10)
    work.close()
    (folder / "labels" / "a.png").unlink()
    work = LabelFolder(folder)
    work.close()
    assert np.unique(stored_labels(folder)).tolist() == [-1, 0, 2]


@pytest.mark.parametrize("left", [0, 10, 30, 60])
def test_labels_that_exist_stay_where_a_journal_was_cut_off_in_its_beginning(folder, left, square):
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


def test_labels_stay_where_a_journal_is_damaged(folder, paint):
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


def test_nothing_is_done_in_a_folder_that_is_closed(folder, paint):
    work = LabelFolder(folder)
    document = work.document(0)
    work.close()
    with pytest.raises(StorageError, match="is closed"):
        paint(document, 10, 10)
    assert not list((folder / ".labelling" / "journal").iterdir())


def test_a_disc_that_is_full_loses_nothing(folder, monkeypatch, paint):
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
