"""`--report` of `predict` and `evaluate`, and the page of `train`."""

from pathlib import Path


def test_predict_and_evaluate_write_pages(run, files, make_data, model):
    make_data(count=2)
    result = run("predict", model, "data/images", "--out-dir", "results", "--report", "report.html")
    assert (result.exit_code, result.stderr) == (0, "")
    assert Path("report.html").read_text().count('<figure class="image"') == 2
    compared = ("--pred", "results", "--labels", "data/labels", "--images", "data/images")
    assert run("evaluate", *compared, "--report", "evaluation.html").exit_code == 0
    assert Path("evaluation.html").read_text().count('<figure class="image"') == 2
    assert not [name for name in files() if "parts" in name]


def test_a_report_is_a_page(run, refused, files, make_image, model):
    make_image()
    result = run("predict", model, "image.png", "--out", "labels.png", "--report", "report.pdf")
    assert "expected a name that ends in .html or .htm" in refused(result)
    result = run("evaluate", "--pred", "p", "--labels", "l", "--images", "i")
    assert refused(result, code=2) == (
        "--images is what --picture and --report draw on; give one of them, or leave --images out"
    )
    assert files() == ["image.png"]


def test_the_page_of_an_image_alone(run, make_image, model):
    make_image()
    assert run("predict", model, "image.png", "--out", "labels.png", "--report", "r.html").exit_code == 0
    assert 'data-name="image"' in Path("r.html").read_text()
