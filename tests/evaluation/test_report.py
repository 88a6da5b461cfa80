"""The page of an evaluation: its figures, and the images with their mistakes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from instseg.data.generate import generate_discs
from instseg.errors import InstsegError, UsageError
from instseg.evaluation import report
from instseg.evaluation.cases import Case
from instseg.evaluation.report import EvaluationReport, MistakesFigure
from instseg.evaluation.request import EvaluationRequest
from instseg.evaluation.results import Evaluation, evaluate_image
from instseg.evaluation.run import evaluate
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.reports.pictures import budget_for
from instseg.settings import DiscSettings

NAME = "<b>&'"


def blocks(*boxes):
    labels = np.zeros((40, 60), np.int32)
    for label, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = label
    return labels


# Right, missed, split in two, and two that are merged.
TRUTH = blocks((2, 2, 10, 10), (2, 20, 10, 28), (20, 2, 30, 22), (20, 30, 30, 40), (20, 40, 30, 50))
PREDICTED = blocks((2, 2, 10, 10), (2, 40, 10, 48), (20, 2, 30, 12), (20, 12, 30, 22), (20, 30, 30, 50))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, second in (("pred", PREDICTED), ("true", TRUTH), ("images", TRUTH)):
        Path(folder).mkdir()
        write = (
            write_labels if folder != "images" else lambda path, labels: write_picture(path, labels.astype(np.uint8))
        )
        write(Path(folder) / "a.png", TRUTH)
        write(Path(folder) / f"{NAME}.png", second)
    return {"pred": "pred", "labels": "true"}


def tables(page):
    """Return the rows of objects of each figure in a page, in its order."""
    text = Path(page).read_text(encoding="utf-8")
    return [json.loads(data)["rows"] for data in re.findall(r'<script type="application/json">(.*?)</script>', text)]


def test_labels_of_any_size():
    truth, predicted = (np.where(labels == 2, 2**31 - 1, labels).astype(np.int32) for labels in (TRUTH, PREDICTED))
    case = Case(name="a", image=None, truth=truth, predicted=predicted, instances=None)
    figure = MistakesFigure(case, evaluate_image("a", truth, predicted), (truth, predicted), budget_for(1))
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', figure.markup(large=False))
    rows = [row[:3] for row in json.loads(data)["rows"]]
    assert [2**31 - 1, "false alarm", 64] in rows
    assert [2**31 - 1, "missed", 64] in rows


def test_images_are_shown_with_their_mistakes_the_worst_first(folders):
    evaluation = evaluate(**folders, images="images", report="report.html")
    worst, right = tables("report.html")
    kinds = ["right", "false alarm", "merge", "missed", "split"]
    assert [(row[0], row[1]) for row in worst] == list(zip([1, 2, 5, 2, 3], kinds, strict=True))
    assert [row[1] for row in right] == ["right"] * 5
    assert [row[2] for row in worst] == [64, 64, 200, 64, 200]
    text = Path("report.html").read_text(encoding="utf-8")
    assert "<b>&'" not in text
    assert text.count("data:image/jpeg;base64,") == 2
    assert f"{evaluation.per_image.mean_ap:.3f}" in text
    assert "1 missed, 1 false alarm, 1 split, 1 merge" in text


def test_images_are_not_needed(folders):
    evaluate(**folders, report="report.html")
    assert len(tables("report.html")) == 2
    assert "data:image/jpeg" not in Path("report.html").read_text()


def test_a_model_with_its_scores(tiny_model, tmp_path):
    generate_discs(tmp_path / "data", count=2, settings=DiscSettings(size=64, min_discs=2, max_discs=3))
    evaluation = evaluate(tiny_model, data=tmp_path / "data", report=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert sum(image.predicted for image in evaluation.images) > 0
    assert '"score"' in text
    assert "What scores mean" in text
    assert str(tmp_path / "data") in text


@pytest.mark.parametrize("name", ["report.txt", "nowhere/report.html"])
def test_a_report_that_cannot_be_written_is_refused(folders, name):
    with pytest.raises(InstsegError, match="cannot write"):
        evaluate(**folders, report=name)


def test_images_need_something_to_be_drawn_on(folders):
    with pytest.raises(UsageError, match="`images` is what `picture` and `report` draw on"):
        evaluate(**folders, images="images")


def test_the_worst_are_large_and_of_many_some_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_PICTURES", 8)
    monkeypatch.setattr(report, "_WORST", 6)
    monkeypatch.setattr(report, "_LARGE", 3)
    request = EvaluationRequest(pred=Path("p"), labels=Path("l"))
    page = EvaluationReport(request, 100)
    image, results = np.kron(TRUTH, np.ones((9, 9), np.uint8)).astype(np.uint8), []
    truth = np.kron(TRUTH, np.ones((9, 9), np.int32))
    for index in range(12):
        # The later, the more is missing.
        predicted = np.where(truth <= 5 - index // 3, truth, 0)
        case = Case(f"{index:02d}", truth, predicted, image)
        results.append(evaluate_image(case.name, truth, predicted))
        page.add(case, results[-1])
    page.write(tmp_path / "page.html", Evaluation(images=tuple(results)))
    text = (tmp_path / "page.html").read_text()
    names = re.findall(r'data-name="(\d+)"', text)
    assert len(names) == 8
    assert names[:6] == ["09", "10", "11", "06", "07", "08"]
    assert "8 of 12 images are shown" in text
    sizes = [len(data) for data in re.findall(r'href="data:image/jpeg[^"]*"', text)]
    assert min(sizes[:3]) > max(sizes[3:])


def test_ignored_pixels_and_empty_labels(tmp_path):
    empty = np.zeros((8, 9), np.int32)
    figure = MistakesFigure(Case("a", empty, empty), evaluate_image("a", empty, empty), (empty, empty), budget_for(1))
    assert "0 true objects" in figure.markup(large=False)
    assert "<path" not in figure.markup(large=True)


def test_the_page_works_in_a_browser(folders, open_page):
    evaluate(**folders, images="images", report="report.html")
    page = open_page(Path("report.html"))
    shown = (
        "return Array.from(document.querySelectorAll('g.merges')).some(one => getComputedStyle(one).display != 'none')"
    )
    assert page.execute_script(shown)
    page.execute_script("document.querySelector('input[data-group=merges]').click()")
    assert not page.execute_script(shown)
    page.execute_script("document.querySelectorAll('#table th button')[3].click()")
    first = "return document.querySelector('#table tbody td').textContent"
    assert page.execute_script(first) == NAME
    page.execute_script("document.querySelectorAll('#table th button')[3].click()")
    assert page.execute_script(first) == "a"
