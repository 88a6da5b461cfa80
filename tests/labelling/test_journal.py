import json
import os

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.labelling.document import Document
from instseg.labelling.journal import Journal

SHAPE = (20, 20)


def stored(path, count=3):
    """A document that has painted some dots."""
    page = Document(SHAPE, journal=Journal(path, SHAPE))
    for number in range(count):
        page.act({"kind": "paint", "line": [[5 * number + 1.5, 3.5]], "radius": 1, "id": None})
    return page


def test_a_journal_is_made_with_the_first_record(tmp_path):
    path = tmp_path / "journal" / "a.jsonl"
    page = Document(SHAPE, journal=Journal(path, SHAPE))
    assert not path.exists()
    page.act({"kind": "accept"})
    lines = path.read_text().splitlines()
    assert json.loads(lines[0]) == {"format": 1, "shape": [20, 20]}
    assert json.loads(lines[1])["step"] == "do"
    assert page.journal.size == path.stat().st_size


@pytest.mark.parametrize("lost", [1, 5, 60])
def test_a_line_that_was_not_completed_is_cut_off(tmp_path, lost):
    path = tmp_path / "a.jsonl"
    stored(path)
    os.truncate(path, path.stat().st_size - lost)
    journal = Journal(path, SHAPE)
    page = Document(SHAPE, journal=journal)
    assert page.outcome().objects == 2
    assert journal.damage is None
    assert path.read_bytes().endswith(b"\n")
    page.act({"kind": "paint", "line": [[15.5, 15.5]], "radius": 1, "id": None})
    assert Document(SHAPE, journal=Journal(path, SHAPE)).outcome() == page.outcome()


def test_damage_before_the_end_is_kept_and_said(tmp_path):
    path = tmp_path / "a.jsonl"
    stored(path)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b"{damage}\n", lines[3]])
    path.write_bytes(damaged)
    journal = Journal(path, SHAPE)
    assert Document(SHAPE, journal=journal).outcome().objects == 1
    assert "is damaged" in journal.damage
    assert (tmp_path / "a.damaged").read_bytes() == damaged
    assert path.read_bytes() == b"".join(lines[:2])


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        (b'{"format":9,"shape":[20,20]}\n', "no journal of format 1"),
        (b'{"format":1,"shape":[9,9]}\n', "of an image of"),
    ],
)
def test_journals_of_something_else_are_left_alone(tmp_path, heading, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(heading)
    with pytest.raises(InstsegError, match=message):
        Document(SHAPE, journal=Journal(path, SHAPE))
    assert path.read_bytes() == heading


def test_what_a_full_disc_has_left_is_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    page = stored(path, 1)
    before = path.read_bytes()
    write = os.pwrite

    def half(file, content, place):
        if place > len(before):
            raise OSError(28, "No space left on device")
        return write(file, content[:20], place)

    with monkeypatch.context() as patch:
        patch.setattr("instseg.labelling.journal.os.pwrite", half)
        with pytest.raises(InstsegError, match="No space left"):
            page.act({"kind": "accept"})
    assert path.read_bytes() == before
    page.act({"kind": "accept"})
    assert Document(SHAPE, journal=Journal(path, SHAPE)).state == "accepted"


def test_undo_reads_the_disc_and_not_the_memory(tmp_path):
    page = stored(tmp_path / "a.jsonl", 2)
    (tmp_path / "a.jsonl").write_bytes(b"other\n")
    with pytest.raises(InstsegError, match="changed by another program"):
        page.act({"kind": "undo"})
    assert np.unique(page.read()).tolist() == [0, 1, 2]
