"""`instseg export`: what is written, and names that do not fit the format."""

import re

import pytest


def test_a_compact_copy_predicts(run, make_image, model):
    result = run("export", model, "--out", "copy")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"copy: \d+\.\d MiB\n", result.stdout)
    make_image()
    assert run("predict", "copy", "image.png", "--out", "labels.png").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "copy", "--format", "onnx"), "--out is copy, expected a name that ends in .onnx for --format onnx"),
        (
            ("--out", "copy.onnx", "--format", "compact"),
            "--out is copy.onnx, expected the name of a directory for --format compact",
        ),
    ],
)
def test_names_that_do_not_fit_the_format_are_refused(run, refused, files, model, arguments, message):
    before = files()
    assert refused(run("export", model, *arguments), code=2) == message
    assert files() == before


def test_nothing_is_replaced(run, refused, make_image, model):
    taken = make_image("taken.png")
    assert "taken.png: it exists; give the name of a new directory" in refused(run("export", model, "--out", taken))
    assert "cannot write no/copy.onnx" in refused(run("export", model, "--out", "no/copy.onnx"))
