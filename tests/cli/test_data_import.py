"""`instseg data import`: what it prints, and its exit codes."""

import json
from pathlib import Path

import pytest

from instseg.annotations.output import OutputFolder


@pytest.fixture
def coco(make_image):
    Path("in").mkdir()
    images = []
    for number in range(2):
        make_image(f"in/{number}.png", seed=number)
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 48})
    squares = [[5, 5, 25, 5, 25, 25, 5, 25], [15, 15, 45, 15, 45, 45, 15, 45]]
    annotations = [
        {"id": 2 * number + part, "image_id": number, "category_id": 1, "segmentation": [squares[part]]}
        for number in range(2)
        for part in range(2)
    ]
    value = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    Path("in/coco.json").write_text(json.dumps(value))
    return value


def test_import_then_check(run, coco, files):
    result = run("data", "import", "in", "--out", "out")
    assert result.exit_code == 0
    assert result.stdout == "wrote 2 images with 4 instances to out; see out/import.csv\n"
    assert result.stderr.splitlines() == [
        "in is COCO: coco.json holds images and annotations",
        "objects that overlap others: 4, in 200 pixels; the rule is smaller-on-top",
    ]
    assert [name for name in files() if name.startswith("out")] == [
        "out/images/0.png",
        "out/images/1.png",
        "out/import.csv",
        "out/labels/0.png",
        "out/labels/1.png",
    ]
    assert run("data", "check", "out", "--patch-size", 32).exit_code == 0


def test_refusals_in_the_words_of_options(run, refused, coco):
    assert run("data", "import", "in/coco.json", "--out", "out").exit_code == 0
    error = refused(run("data", "import", "in", "--out", "out"))
    assert error == "out is not empty; add --overwrite to replace it or give another --out"
    assert run("data", "import", "in", "--out", "out", "--overwrite", "--overlap", "drop").exit_code == 0
    error = refused(run("data", "import", "in", "--out", "out", "--overlap", "top"), code=2)
    assert error == "--overlap is top, expected one of smaller-on-top, first, last, drop"
    error = refused(run("data", "import", "in", "--out", "out", "--format", "x"), code=2)
    assert error.startswith("--format is x, expected one of coco, labelme, ")
    assert (
        refused(run("data", "import", "nowhere", "--out", "out"))
        == "there is no file or folder nowhere; check the name"
    )
    assert "Missing option '--out'" in run("data", "import", "in").stderr


def test_images_that_fail_give_exit_code_1(run, coco):
    Path("in/1.png").write_bytes(b"no image")
    result = run("data", "import", "in", "--out", "out")
    assert result.exit_code == 1
    assert result.stdout == "wrote 1 image with 2 instances to out; see out/import.csv\n"
    assert "images that failed: 1, such as 1.png" in result.stderr


def test_an_interruption_leaves_nothing(run, coco, files, monkeypatch):
    before = files()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("instseg.annotations.importing.write_report", interrupted)
    assert run("data", "import", "in", "--out", "out").exit_code != 0
    assert files() == before
    assert OutputFolder(Path("out"), overwrite=False).path.exists() is False
