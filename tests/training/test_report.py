"""The page of a training, which it writes by itself."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from instseg.evaluation.cases import Case
from instseg.io.images import read_image
from instseg.settings import ClusterSettings
from instseg.training.report import MetricsRow, TrainingReport
from instseg.training.report_page import TrainingState, validation_figures


def test_a_training_writes_a_page(tiny_training):
    folder, plan, events = tiny_training
    text = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert f"<dd>{events[-1].iteration}</dd>" in text
    assert f"{events[-1].best.scores['AP50']:.3f}" in text
    assert repr(str(folder / "model")).replace("'", "&#x27;") in text
    for name in ("loss", "AP50-90"):
        assert f">{name}</li>" in text
    figures = re.findall(r'<figure class="image"', text)
    assert 2 <= len(figures) <= 6
    assert text.count("data:image/jpeg;base64,") == len(figures)
    assert read_image(folder / "report" / "curves.png").size


def test_the_page_works_in_a_browser(tiny_training, open_page):
    folder, _, _ = tiny_training
    page = open_page(folder / "report" / "index.html")
    assert page.execute_script("return document.querySelectorAll('.chart polyline').length") >= 1
    page.execute_script("document.querySelector('figure.image figcaption button').click()")
    assert page.execute_script("return document.querySelector('dialog').open")


@pytest.fixture
def state(tiny_plan, tmp_path):
    def state(**changes):
        values = {
            "folder": tmp_path / "<model>",
            "config": tiny_plan(10),
            "iteration": 10,
            "seconds": 60.0,
            "best_iteration": 5,
            "scores": {"AP50": 0.5},
            "validation_images": 3,
        }
        return TrainingState(**(values | changes))

    return state


def test_the_worst_validation_image_comes_first(tmp_path, state):
    labels = np.zeros((30, 30), np.int32)
    labels[3:12, 3:12] = 1
    cases = [Case(f"image {index}", labels, labels * index, labels.astype(np.uint8)) for index in (1, 0)]
    assert [re.search('data-name="([^"]*)"', one)[1] for one in validation_figures(cases)] == ["image 0", "image 1"]
    report = TrainingReport(tmp_path / "report")
    for iteration in range(1, 11):
        report.add(MetricsRow(iteration, 0.1, 5.0, {"loss": 1.0 / iteration, "seed": 0.5}))
    report.write(10, {"AP50": 0.5})
    report.show_cases(cases)
    report.write_page(state())
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<model>" not in text
    assert "The stored model is that of iteration 5." in text
    assert "means over very few images" in text
    (first, second) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert [row[1] for row in json.loads(first)["rows"]] == ["missed"]
    assert [row[1] for row in json.loads(second)["rows"]] == ["right"]
    assert "loss_seed" in text


def test_without_an_object_to_validate_on(tmp_path, state):
    report = TrainingReport(tmp_path / "report")
    report.write_page(state(scores={}, validation_images=0))
    text = Path(tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "there is nothing to measure" in text
    assert "There is no image to show." in text
    assert str(ClusterSettings().min_size) in text
