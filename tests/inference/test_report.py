"""The report of a prediction: complete whatever was there before or failed, and the same by bands as of the whole."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

import instseg
from instseg.clustering.instances import Instances
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.inference import report, report_page
from instseg.inference.batch import FileResult, LocalExecutor
from instseg.inference.job import prepare_job
from instseg.inference.options import no_progress
from instseg.inference.report_parts import ReportParts
from instseg.inference.request import PredictRequest
from instseg.inference.run import no_images, run_job
from instseg.io.images import read_image, write_picture
from instseg.io.label_images import read_labels
from instseg.io.source import ArrayReader
from instseg.io.zarr_labels import write_zarr_labels
from instseg.reports import pictures
from instseg.reports.pictures import budget_for
from instseg.settings import DiscSettings

NAMES = ["a", "<img src=x onerror=hacked=1>&'", "c d"]


@pytest.fixture(scope="module")
def model(tiny_model):
    return instseg.load(tiny_model)


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for seed, name in enumerate(NAMES):
        discs = DiscSettings(size=64, min_discs=3, max_discs=3)
        write_picture(Path(f"in/{name}.png"), draw_discs(np.random.default_rng(seed), discs)[0])
    return Path("in")


@pytest.fixture
def predict(model, tiny_model):
    """A function that predicts with a report."""

    def predict(images, **options):
        request = {"model": tiny_model, "images": [images], "out_dir": "out", "report": "report.html"}
        progress = options.pop("progress", no_progress)
        prepared = prepare_job(PredictRequest(**(request | options)))
        return run_job(LocalExecutor(model), prepared, progress) if prepared.job.files else no_images(prepared)

    return predict


def figures(page="report.html"):
    """Return the names of the images in a page, with the tables of their objects."""
    text = Path(page).read_text(encoding="utf-8")
    found = re.findall(r'<figure class="image" id="[^"]*" data-name="([^"]*)">.*?json">(.*?)</script>', text, re.DOTALL)
    unescaped = [(re.sub("&lt;", "<", re.sub("&gt;", ">", name)), json.loads(data)) for name, data in found]
    return {name.replace("&#x27;", "'").replace("&amp;", "&"): data for name, data in unescaped}


def test_all_images_are_in_the_page_with_their_objects(predict, images):
    result = predict(images)
    assert result.report == Path("report.html")
    shown = figures()
    assert sorted(shown) == sorted(NAMES)
    for image in result.images:
        table = shown[image.name]
        assert len(table["rows"]) == image.summary.instances > 0
        assert table["columns"] == ["object", "area", "diameter", "score", "row", "column", "mean intensity"]
    assert sorted(path.name for path in Path().iterdir()) == ["in", "out", "report.html"]
    text = Path("report.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert str(result.images[0].summary.shape[0]) in text
    assert "foreground_threshold" in text


def test_the_numbers_are_those_of_the_image(predict, images):
    result = predict(images)
    labels = read_labels(result.images[0].labels, prediction=True)
    pixels = read_image(result.images[0].path)[..., 0]
    for row in figures()[result.images[0].name]["rows"]:
        inside = labels == row[0]
        assert row[1] == inside.sum()
        assert row[-1] == pytest.approx(pixels[inside].mean(), rel=1e-4)
        assert row[4:6] == pytest.approx([axis.mean() for axis in np.nonzero(inside)], abs=0.06)


def test_results_that_are_there_are_shown_without_scores(predict, images):
    (images / "a.png").rename("later.png")
    predict(images)
    Path("report.html").unlink()
    Path("later.png").rename(images / "a.png")
    result = predict(images, skip_existing=True)
    assert (result.skipped, len(result.images)) == (2, 1)
    shown = figures()
    assert sorted(shown) == sorted(NAMES)
    assert "score" in shown["a"]["columns"]
    assert "score" not in shown["c d"]["columns"]
    assert "the scores of the objects in 2 images are not known" in Path("report.html").read_text()
    # All are there: the page is complete all the same.
    first = {name: table["rows"] for name, table in shown.items() if name != "a"}
    assert predict(images, skip_existing=True).report == Path("report.html")
    again = figures()
    assert sorted(again) == sorted(NAMES)
    assert {name: again[name]["rows"] for name in first} == first


def test_a_run_that_was_broken_off_keeps_what_the_report_knows(predict, images):
    class Interrupted(BaseException):
        pass

    def interrupt(done, total, detail=""):
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        predict(images, progress=interrupt)
    assert not Path("report.html").exists()
    result = predict(images, skip_existing=True)
    assert result.skipped >= 1
    assert sorted(figures()) == sorted(NAMES)
    assert all("score" in table["columns"] for table in figures().values())
    assert sorted(path.name for path in Path().iterdir()) == ["in", "out", "report.html"]


def test_what_failed_is_named(predict, images):
    (images / "c d.png").write_bytes(b"no image")
    result = predict(images)
    assert len(result.failed) == 1
    assert sorted(figures()) == sorted(NAMES[:2])
    text = Path("report.html").read_text()
    assert "Could not be segmented" in text
    assert "in/c d.png: " in text


def test_existing_results_that_cannot_be_read_again_are_named(predict, images):
    predict(images)
    Path("out/a.png").write_bytes(b"no image")
    result = predict(images, skip_existing=True)
    assert result.stopped is None
    assert sorted(figures()) == sorted(NAMES[1:])
    assert "in/a.png is not shown, as its image or its labels cannot be read again" in Path("report.html").read_text()


def test_an_image_in_which_nothing_is_found(predict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("black.tif", np.zeros((40, 50), np.uint16))
    # More pixels than there are.
    predict(Path("black.tif"), clustering={"min_size": 10_000})
    assert figures()["black"]["rows"] == []
    text = Path("report.html").read_text()
    assert "0 objects" in text
    assert "There is nothing to show." in text


def test_one_image_and_a_stack_plane_by_plane(predict, images):
    assert predict(images / "a.png", out="labels.png", out_dir=None).report == Path("report.html")
    assert list(figures()) == ["a"]
    stack = np.stack([draw_discs(np.random.default_rng(0), DiscSettings(size=64, min_discs=3, max_discs=3))[0]] * 2)
    tifffile.imwrite("stack.tif", stack)
    predict(Path("stack.tif"), planes=True)
    assert list(figures()) == ["stack-0000", "stack-0001"]
    predict(Path("stack.tif"), planes=True, skip_existing=True)
    assert list(figures()) == ["stack-0000", "stack-0001"]


def test_a_shard_says_that_it_is_one(predict, images):
    predict(images, shard="2/3", report="part.html")
    assert len(figures("part.html")) == 1
    assert "these are the images of part 2 of 3" in Path("part.html").read_text()


@pytest.mark.parametrize("name", ["report.pdf", "nowhere/report.html", "in"])
def test_a_report_that_cannot_be_written_is_refused_before_the_work(predict, images, name):
    with pytest.raises(InstsegError, match="cannot write"):
        predict(images, report=name)
    assert not Path("out").exists()


def test_the_report_may_be_the_first_file_of_the_new_folder(predict, images):
    assert predict(images, report="out/report.html").report == Path("out/report.html")
    assert len(figures("out/report.html")) == 3


# Parts.


def disc_part(tmp_path, image, labels, instances=None, images=100):
    parts = ReportParts(folder=tmp_path, budget=budget_for(images))
    reader = ArrayReader(image)
    parts.write(
        "x", reader, lambda rows: (labels[top : top + rows] for top in range(0, len(labels), rows)), instances, []
    )
    return parts.read("x")


@pytest.mark.parametrize("shape", [(700, 1100), (2100, 1500), (5, 3000)])
def test_a_part_does_not_depend_on_the_bands_that_it_is_made_by(tmp_path, monkeypatch, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 1000, (*shape, 2), np.uint16)
    labels = np.kron(np.arange(1, 50 * 50 + 1).reshape(50, 50), np.ones((60, 60), int))[: shape[0], : shape[1]]
    labels = labels.astype(np.int32)
    labels[::60] = 0
    whole = disc_part(tmp_path, image, labels)
    monkeypatch.setattr(pictures, "_BAND_BYTES", 1_000_000)
    assert disc_part(tmp_path, image, labels) == whole
    assert whole["objects"] == len(np.unique(labels[labels > 0]))


def test_classes_are_named_and_coloured(tmp_path):
    labels = np.zeros((30, 30), np.int32)
    labels[2:9, 2:9], labels[12:20, 12:20] = 1, 2
    instances = Instances(
        label=np.array([1, 2], np.int32),
        score=np.array([0.9, 0.7]),
        area=np.array([49, 64]),
        centroid=np.array([[5.0, 5.0], [15.5, 15.5]]),
        bbox=np.array([[2, 2, 9, 9], [12, 12, 20, 20]]),
        class_names=("=round", "</script>"),
        class_probabilities=np.array([[0.8, 0.2], [0.1, 0.9]]),
    )
    part = disc_part(tmp_path, np.zeros((30, 30), np.uint8), labels, instances)
    assert [row[part["columns"].index("class")] for row in part["rows"]] == ["=round", "</script>"]
    assert len(set(part["colours"])) == 2
    assert part["score"] == 0.8


def test_labels_that_workers_have_written(tmp_path):
    image, labels = draw_discs(np.random.default_rng(0), DiscSettings(size=128, min_discs=5, max_discs=5))
    write_picture(tmp_path / "a.png", image)
    strips = iter([labels.astype(np.int32)])
    write_zarr_labels(tmp_path / "a.zarr", labels.shape, strips)
    parts = ReportParts(folder=tmp_path, budget=budget_for(1))
    report.write_distributed_part(parts, "a", tmp_path / "a.png", tmp_path / "a.zarr", None, False)
    assert parts.read("a")["objects"] == len(np.unique(labels)) - 1


def test_labels_of_any_size(tmp_path):
    labels = np.zeros((12, 20), np.int32)
    labels[2:5, 3:9], labels[6:9, 3:9] = 2**31 - 1, 7
    image = np.arange(240, dtype=np.uint8).reshape(12, 20)
    part = disc_part(tmp_path, image, labels, None)
    assert [row[:2] for row in part["rows"]] == [[7, 18], [2**31 - 1, 18]]
    assert part["rows"][1][-3:] == [3.0, 5.5, pytest.approx(image[labels == 2**31 - 1].mean(), rel=1e-4)]


# The page of many images.


def content_of(part, count, making):
    names = [f"image {index:04d}" for index in range(count)]
    images = [
        dataclasses.replace(report_page.ReportImage.from_part(name, Path(name), part), score=index / count)
        for index, name in enumerate(names)
    ]
    return report_page.ReportContent(
        images=images,
        pictured=report._pictured(images),
        large=report._large(images),
        failures=(),
        notes=(),
        making=making,
        shard=None,
        read=lambda name: part,
    )


@pytest.fixture
def making():
    return report.Making(version="1", model="m", digest="d", settings={"min_size": 10})


def test_a_page_of_100_images_is_small(tmp_path, making):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (1200, 1200, 3), np.uint8)
    _, labels = draw_discs(rng, DiscSettings(size=1200, min_discs=600, max_discs=600))
    part = disc_part(tmp_path, image, labels)
    content = content_of(part, 100, making)
    report_page.write_prediction_page(tmp_path / "page.html", content)
    assert len(content.pictured) == 100
    assert len(content.large) == 8
    assert 5e6 < (tmp_path / "page.html").stat().st_size < 15e6


def test_a_page_of_thousands_shows_the_least_sure_and_some_and_lists_all(tmp_path, making):
    part = disc_part(tmp_path, np.zeros((8, 8), np.uint8), np.eye(8, dtype=np.int32))
    content = content_of(part, 1000, making)
    report_page.write_prediction_page(tmp_path / "page.html", content)
    assert len(content.pictured) == report.MOST_PICTURES
    assert {f"image {index:04d}" for index in range(40)} <= set(content.pictured)
    text = (tmp_path / "page.html").read_text()
    assert "200 of 1,000 images are shown" in text
    assert len(re.findall("<tr>", text)) == 1001
    assert text.count('<figure class="image"') == 200


def test_notes_are_told_once_with_their_images():
    results = [FileResult(number=1, path=Path(name), notes=("unsure",)) for name in "ab"]
    results.append(FileResult(number=1, path=Path("c"), notes=("alone",)))
    assert report._notes_of(results) == ["2 images, such as a: unsure", "c: alone"]


def test_the_page_works_in_a_browser(predict, images, open_page):
    result = predict(images)
    page = open_page(Path("report.html"))
    assert page.execute_script("return window.hacked") is None
    assert page.execute_script("return document.querySelectorAll('g.outlines path').length") == result.instances
    page.execute_script("document.querySelector('input[data-group]').click()")
    hidden = "return document.querySelectorAll('g.outlines:not([hidden])').length == 0"
    assert page.execute_script(hidden)
    loaded = (
        "return Promise.all(Array.from(document.querySelectorAll('svg image')).map(one => one.decode().then(() => 1)))"
    )
    assert page.execute_script(loaded) == [1, 1, 1]


def test_parts_have_names_whatever_the_image_is_called(tmp_path):
    parts = ReportParts(folder=tmp_path, budget=budget_for(1))
    names = ["a" * 255, "\udcff", "a/b", ".."]
    paths = {parts.path(name) for name in names}
    assert len(paths) == 4
    assert {path.parent for path in paths} == {tmp_path}


def test_an_image_that_is_read_part_by_part(predict, images, monkeypatch):
    image = read_image(images / "a.png")[..., 0]
    tifffile.imwrite("large.tif", image, tile=(32, 32), compression="zlib")
    for module in ("source", "label_strips"):
        monkeypatch.setattr(f"instseg.io.{module}.STREAMING_PIXELS", 100)
    monkeypatch.setattr("instseg.inference.report.STREAMING_PIXELS", 100)
    predict(Path("large.tif"), file_format="tif")
    table = figures()["large"]
    labels = tifffile.imread("out/large.tif")
    for row in table["rows"]:
        assert row[1] == (labels == row[0]).sum() > 0
        assert row[-1] == pytest.approx(image[labels == row[0]].mean(), rel=1e-4)
    # Then the labels are read part by part, too.
    predict(Path("large.tif"), file_format="tif", skip_existing=True)
    again = figures()["large"]
    assert [row[:3] for row in again["rows"]] == [row[:3] for row in table["rows"]]


def test_zarr_labels_that_are_there(predict, images):
    predict(images, file_format="zarr")
    before = figures()
    predict(images, file_format="zarr", skip_existing=True)
    assert {name: len(table["rows"]) for name, table in figures().items()} == {
        name: len(table["rows"]) for name, table in before.items()
    }
