"""What ONNX Runtime makes of an exported model is what TensorFlow makes of it."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import instseg
from instseg import optional as extras
from instseg.cli import app
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.preprocessing.levels import image_levels

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_file_gives_the_models_maps(tiny_model, tiny_discs):
    done = run("export", tiny_model, "--out", "model.onnx")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("model.onnx: 0.")
    assert done.stderr.startswith("Largest differences between ONNX Runtime and TensorFlow, of the largest value: ")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {
        "scale": "1.0",
        "diameter": "19.0",
        "loss": "overlap",
        "levels": "robust",
    }
    image = draw_discs(np.random.default_rng(1), tiny_discs)[0][:50, :61, None]
    low, high = image_levels(image)
    given = {"image": image[None].astype(np.float32), "low": low[None], "high": high[None]}
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, given), strict=True))
    expected = instseg.load(tiny_model, precision="float32").embed(image).arrays()
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][0], values, rtol=1e-3, atol=1e-3, err_msg=name)


def test_results_that_differ_leave_no_file(tiny_model, monkeypatch):
    from instseg.models import onnx

    monkeypatch.setattr(onnx, "_difference", lambda found, expected: 0.5)
    refused = run("export", tiny_model, "--out", "model.onnx")
    assert refused.exit_code == 1
    assert "ONNX Runtime and TensorFlow differ by 0.5 in 'embeddings', expected at most 0.001" in refused.stderr
    assert not list(Path().iterdir())


def test_missing_packages_are_named(tiny_model, monkeypatch):
    monkeypatch.setitem(extras._PACKAGES, "onnx", ("onnx", "no_such_package"))
    refused = run("export", tiny_model, "--out", "model.onnx")
    assert refused.exit_code == 1
    assert "ONNX needs no_such_package; install what is missing with" in refused.stderr
    with pytest.raises(InstsegError, match="no_such_package"):
        from instseg.optional import require_extra

        require_extra("onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "model", "--format", "onnx"), "expected a name that ends in .onnx"),
        (("--out", "m.onnx", "--format", "compact"), "expected the name of a directory"),
    ],
)
def test_names_that_do_not_fit_the_format(tiny_model, arguments, message):
    refused = run("export", tiny_model, *arguments)
    assert refused.exit_code == 2
    assert message in refused.stderr
