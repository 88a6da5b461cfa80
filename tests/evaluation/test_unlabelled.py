"""Data folders whose labels leave objects out, as a model sees them."""

from types import SimpleNamespace

import numpy as np
import pytest

from instseg.data.generate import generate_discs
from instseg.errors import InstsegError
from instseg.evaluation.unlabelled import find_unlabelled
from instseg.io.label_images import read_labels, write_labels
from instseg.settings import DiscSettings, ModelSettings


class Finder:
    """Finds the discs that were drawn, with the scores that it is told, in place of a network."""

    settings = ModelSettings()

    def __init__(self, folder, score=0.9):
        self.found = [read_labels(path) for path in sorted((folder / "labels").iterdir())]
        self.score, self.calls = score, 0

    def segment(self, image, **options):
        labels = self.found[self.calls % len(self.found)]
        self.calls += 1
        ids = np.unique(labels[labels > 0])
        return SimpleNamespace(labels=labels, instances=SimpleNamespace(label=ids, score=np.full(len(ids), self.score)))


@pytest.fixture
def folder(tmp_path):
    generate_discs(tmp_path, count=3, seed=1, settings=DiscSettings(size=96, min_discs=8, max_discs=12))
    return tmp_path


def relabel(folder, keep, value=0):
    """Give the labels above `keep` of the first image another value."""
    path = sorted((folder / "labels").iterdir())[0]
    labels = read_labels(path)
    write_labels(path, np.where(labels > keep, value, labels))
    return path, int(labels.max())


def test_images_whose_labels_leave_most_out_are_named(folder):
    model = Finder(folder)
    path, drawn = relabel(folder, keep=2)
    counted = []
    (problem,) = find_unlabelled(model, folder, progress=lambda *done: counted.append(done))
    assert problem.severity == "warning"
    assert problem.what == f"{drawn - 2} objects that the model is sure of have no label, 2 have one"
    assert "`ignore_label`" in problem.advice
    assert problem.files == (f"labels/{path.name}",)
    assert counted == [(1, 3), (2, 3), (3, 3)]


def test_what_is_complete_ignored_or_doubtful_is_not_said(folder):
    model, doubtful = Finder(folder), Finder(folder, score=0.7)
    assert find_unlabelled(model, folder) == ()
    relabel(folder, keep=2, value=255)
    assert find_unlabelled(model, folder, ignore_label=255) == ()
    relabel(folder, keep=2)
    assert find_unlabelled(doubtful, folder) == ()
    assert len(find_unlabelled(model, folder)) == 1


def test_most_images_of_a_large_folder_are_left_alone_and_files_that_cannot_be_read(folder):
    model = Finder(folder)
    for number in range(3, 50):
        for part in ("images", "labels"):
            source = sorted((folder / part).iterdir())[number % 3]
            (folder / part / f"{number:04}.png").write_bytes(source.read_bytes())
    (folder / "labels" / "0003.png").write_bytes(b"no image")
    find_unlabelled(model, folder)
    assert 10 <= model.calls <= 20


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(InstsegError, match="images"):
        find_unlabelled(None, tmp_path)
