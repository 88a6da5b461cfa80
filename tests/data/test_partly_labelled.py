import numpy as np
import pytest

from instseg.annotations.exporting import export_annotations
from instseg.data.augment import random_crop_window
from instseg.data.check import check_data
from instseg.data.datasets import folder_data
from instseg.data.mixture import mixed_data
from instseg.evaluation.metrics import score
from instseg.evaluation.run import evaluate
from instseg.io.folders import find_pairs
from instseg.io.images import write_picture
from instseg.io.label_images import read_labels, write_labels
from instseg.io.pairs import read_pair
from instseg.labels.regions import IGNORED
from instseg.settings import TrainSettings

NOTHING = np.zeros((40, 40), np.int32)
SETTINGS = TrainSettings(batch_size=4, patch_size=32)


def squares(*corners, side=8):
    labels = NOTHING.copy()
    for number, (row, column) in enumerate(corners, start=1):
        labels[row : row + side, column : column + side] = number
    return labels


@pytest.fixture
def folder(tmp_path):
    """Images beside their labels: two that are labelled wholly, one of which the right half is not, one not at all."""
    for name in ("labels", "ignored", ".labelling"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for name in "abcd":
        write_picture(tmp_path / f"{name}.png", rng.integers(0, 255, NOTHING.shape, np.uint8))
    for name in "ab":
        write_labels(tmp_path / "labels" / f"{name}.png", squares((2, 2), (20, 20)))
    write_labels(tmp_path / "labels" / "c.png", squares((4, 4)))
    unlabelled = np.zeros(NOTHING.shape, np.uint8)
    unlabelled[:, 20:] = 255
    write_picture(tmp_path / "ignored" / "c.png", unlabelled)
    return tmp_path


def test_check_counts_what_is_labelled_and_says_what_is_left_out(folder):
    report = check_data(folder, patch_size=16)
    assert (report.pairs, report.usable, report.unlabelled, report.partly) == (3, 3, 1, 1)
    assert report.ignored == pytest.approx(800 / 4800, abs=1e-4)
    assert report.foreground == round(5 * 64 / 4000, 4)
    assert (report.instances["total"], report.diameters["50"]) == (5, round((4 * 64 / np.pi) ** 0.5, 2))
    assert report.usable_for_training
    notes = [problem for problem in report.problems if problem.severity == "note"]
    assert [problem.files for problem in notes] == [("d.png",), ("labels/c.png",)]
    assert (
        notes[0].line()
        == "note: d.png: images not labelled yet; label them with `instseg label`, or go on without them"
    )
    assert notes[1].what == "labelled in parts; 16.7% of all pixels are not, and take no part"


def test_errors_come_before_warnings_and_notes(folder):
    write_labels(folder / "labels" / "z.png", NOTHING)
    report = check_data(folder, patch_size=64)
    severities = [problem.severity for problem in report.problems]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert set(severities) == {"error", "warning", "note"}
    assert not report.usable_for_training


@pytest.mark.parametrize("several", [False, True])
def test_training_ignores_what_is_not_labelled_and_says_so(folder, several):
    data = mixed_data([folder], SETTINGS, val=[folder]) if several else folder_data(folder, SETTINGS, val=folder)
    lines = [problem.line() for problem in data.problems if problem.severity == "note"]
    assert len(lines) == 2
    assert "images not labelled yet" in lines[0]
    assert "labelled in parts; 16.7% of all pixels" in lines[1]
    assert data.description["training_images"] == 3
    labels = np.concatenate([data.patches.batch(number).labels for number in range(20)])
    assert (labels == IGNORED).any()


def test_patches_of_an_image_that_is_mostly_ignored_show_what_is_labelled():
    labels = np.full((600, 600), IGNORED, np.int32)
    labels[500:530, 300:330] = 0
    labels[510:520, 310:320] = 1
    rng = np.random.default_rng(0)
    shown = []
    for _ in range(100):
        row, column, side = random_crop_window(rng, labels, 64, zoom=1.0)
        part = labels[int(row) : int(row + side), int(column) : int(column + side)]
        shown.append((part.max(), part.max() >= 0))
    objects, known = np.array(shown).T
    assert known.mean() > 0.9
    assert (objects == 1).mean() > 0.6


def test_evaluation_leaves_out_what_is_not_labelled(folder):
    found = folder / "found"
    found.mkdir()
    write_labels(found / "c.png", squares((4, 4), (4, 25), (20, 26)))
    pair = find_pairs(folder)[2]
    assert score(read_pair(pair)[1], read_labels(found / "c.png"), [0.5]).ap.tolist() == [1.0]
    assert score(read_labels(pair.labels), read_labels(found / "c.png"), [0.5]).ap.tolist() == [1 / 3]


def test_evaluation_of_a_model_says_what_is_left_out(tiny_model, folder):
    evaluation = evaluate(tiny_model, data=folder)
    assert [image.name for image in evaluation.images] == ["a", "b", "c"]
    notes = " ".join(evaluation.notes)
    assert "1 image is not labelled yet (d.png), and left out" in notes
    assert "1 image is labelled in parts (c): 16.7% of all pixels do not count" in notes


def test_export_says_what_is_left_out(folder, tmp_path_factory):
    report = export_annotations(folder, tmp_path_factory.mktemp("out") / "coco", format="coco")
    assert (report.exported, report.objects) == (3, 5)
    notes = " ".join(report.notes)
    assert "images not labelled yet, left out: 1 (d.png)" in notes
    assert "images labelled in parts: 1 (c)" in notes
