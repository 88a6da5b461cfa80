"""Compact copies of models, and the models that come with the package."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import instseg
from instseg.cli import app
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.evaluation.metrics import score
from instseg.models import builtin
from instseg.models.config import read_training
from instseg.models.directory import check_trainable, read_settings
from instseg.models.export import export_compact
from instseg.models.weights import read_weights

CARD = {
    "title": "small discs",
    "data": "drawn by a test",
    "licence": "MIT",
    "command": "instseg train discs",
    "mean_ap": 0.5,
    "figures": ["0.5 on others (instseg evaluate)"],
    "limits": ["anything else"],
}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def compact(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compact") / "model"
    export_compact(tiny_model, folder)
    return folder


@pytest.fixture
def package(compact, tmp_path_factory, monkeypatch):
    """The folder of a package whose one model is called discs."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(compact, folder / "discs")
    (folder / "discs" / "card.json").write_text(json.dumps(CARD))
    monkeypatch.setattr(builtin, "BUNDLED_DIR", folder)
    return folder


@pytest.fixture
def image(tiny_discs):
    found, _ = draw_discs(np.random.default_rng(4), tiny_discs)
    Image.fromarray(found).save("image.png")
    return found


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_compact_copy_has_every_weight_once_in_half_the_bytes(compact, tiny_model):
    weights = list(read_weights(tiny_model).values())
    kernels = sum(weight.size for weight in weights if weight.ndim == 4)
    others = sum(weight.size for weight in weights) - kernels
    assert kernels > 10 * others
    stored = sum(path.stat().st_size for path in (compact / "variables").iterdir())
    expected = 2 * kernels + 4 * others
    assert expected < stored < expected + 150 * len(weights) + 4096
    assert not (compact / "checkpoint").exists()
    copied = read_weights(compact)
    assert copied.keys() == read_weights(tiny_model).keys()
    for name, weight in read_weights(tiny_model).items():
        np.testing.assert_allclose(copied[name], weight, rtol=1e-3, atol=1e-6, err_msg=name)


def test_a_compact_copy_predicts_the_same(compact, tiny_model, image):
    model, copy = instseg.load(tiny_model), instseg.load(compact)
    maps, copied = model.embed(image), copy.embed(image)
    np.testing.assert_allclose(copied.foreground, maps.foreground, atol=0.02)
    np.testing.assert_allclose(copied.embeddings, maps.embeddings, atol=0.2)
    assert not np.array_equal(copied.embeddings, maps.embeddings)
    assert score(model.predict(image), copy.predict(image)).mean_ap == 1


def test_a_compact_copy_names_no_folders(compact, tiny_model):
    copied, stored = (read_settings(folder)[1] for folder in (compact, tiny_model))
    assert copied["data"] == {}
    assert "pretrained" not in copied
    assert all(copied[name] == stored[name] for name in ("model", "clustering", "calibration", "training", "iteration"))
    assert str(tiny_model.parent) not in "".join(path.read_text() for path in compact.glob("*.json"))


def test_a_compact_copy_of_a_compact_copy_is_the_same(compact, tmp_path):
    export_compact(compact, tmp_path / "again")
    again = read_weights(tmp_path / "again")
    assert all(np.array_equal(weight, again.pop(name)) for name, weight in read_weights(compact).items())
    assert not again


def test_export_says_what_it_wrote(tiny_model):
    done = run("export", tiny_model, "--out", "deep/copy")
    assert done.exit_code == 0
    assert done.stdout == "deep/copy: 0.4 MiB\n"
    assert read_training(Path("deep/copy")).config.model == read_training(tiny_model).config.model


def test_export_replaces_nothing_and_leaves_nothing_behind(tiny_model, monkeypatch):
    Path("taken").mkdir()
    refused = run("export", tiny_model, "--out", "taken")
    assert refused.exit_code == 1
    assert refused.stderr == "instseg: cannot write taken: it exists; give the name of a new directory\n"

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("instseg.models.export.ServingModule.save", full)
    refused = run("export", tiny_model, "--out", "copy")
    assert refused.exit_code == 1
    assert "cannot write copy: no space left on device; check the permissions and the space" in refused.stderr
    assert [path.name for path in Path().iterdir()] == ["taken"]


def test_a_compact_copy_cannot_be_resumed(compact):
    shutil.copytree(compact, "copy")
    before = sorted(Path("copy").rglob("*"))
    refused = run("train", "copy", "--resume", "--iterations", "70")
    assert refused.exit_code == 1
    advice = "it is a compact copy, without the state of its training; begin a new one with it"
    assert advice in refused.stderr
    with pytest.raises(InstsegError, match=advice):
        check_trainable(Path("copy"))
    assert sorted(Path("copy").rglob("*")) == before


def test_a_training_begins_with_a_model_by_name(package):
    done = run("train", "own", "--from", "discs", "--iterations", "1", "--batch-size", "1", "--patch-size", "32")
    assert done.exit_code == 0, done.stderr
    assert f"Begins with the weights of {package / 'discs'}" in done.stderr


def test_a_name_is_a_model(package, image):
    assert run("predict", "discs", "image.png", "--out", "labels.png").exit_code == 0
    by_path = instseg.load(package / "discs").predict(image)
    assert np.array_equal(np.asarray(Image.open("labels.png")), by_path)
    assert np.array_equal(instseg.load("discs").predict(image), by_path)
    assert by_path.max() > 0


def test_a_folder_of_the_name_wins_and_that_is_said(package, tiny_model, image):
    Path("discs").symlink_to(tiny_model)
    done = run("predict", "discs", "image.png", "--out", "labels.png")
    assert done.exit_code == 0
    assert "Note: discs is what has this name here, not the model in the package" in done.stderr
    assert builtin.find_model(Path("discs")) == Path("discs")


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("disc", "did you mean discs?"),
        ("Discs", "did you mean discs?"),
        ("leaves", "train one with: instseg train leaves"),
    ],
)
def test_an_unknown_name_is_told_the_known_ones(package, image, given, advice):
    refused = run("predict", given, "image.png", "--out", "labels.png")
    assert refused.exit_code == 1
    expected = f"there is no model {given}: no folder, and not in the package, which has: discs; {advice}"
    assert refused.stderr == f"instseg: {expected}\n"


def test_a_path_is_no_name(package):
    with pytest.raises(InstsegError, match="there is no model no/discs; train one with: instseg train no/discs"):
        builtin.find_model(Path("no/discs"))


def test_models_are_listed(package):
    listed = run("models")
    assert listed.exit_code == 0
    for text in ("discs", "small discs", "19 px", "0.500", "only those that you trust"):
        assert text in listed.stdout
    shown = run("models", "discs").stdout
    for text in (*CARD["figures"], *CARD["limits"], "drawn by a test", "MIT", "instseg train discs"):
        assert text in shown
    (row,) = json.loads(run("models", "--json").stdout)
    assert (row["name"], row["mean_ap"], row["model"]["channels"]) == ("discs", 0.5, 1)
    refused = run("models", "disks")
    assert refused.exit_code == 1
    assert "the package has no model 'disks'; it has: discs" in refused.stderr


def test_a_package_without_models_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin, "BUNDLED_DIR", tmp_path / "none")
    assert run("models").stdout.startswith("This installation has no models")
    assert json.loads(run("models", "--json").stdout) == []
    with pytest.raises(InstsegError, match="there is no model leaves; train one with"):
        builtin.find_model(Path("leaves"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"title": 3}', '{"unknown": ""}'])
def test_a_damaged_card_is_said(package, text):
    (package / "discs" / "card.json").write_text(text)
    refused = run("models")
    assert refused.exit_code == 1
    assert "is damaged" in refused.stderr


def test_settings_that_are_too_large_are_not_read(compact):
    shutil.copytree(compact, "copy")
    with Path("copy/instseg.json").open("a") as file:
        file.write(" " * 2**20)
    with pytest.raises(InstsegError, match=r"is damaged \(instseg.json is larger than the 1,048,576 bytes"):
        read_settings(Path("copy"))


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_a_half_copied_model_is_said(compact, image, name):
    shutil.copytree(compact, "copy")
    Path("copy", name).unlink()
    refused = run("predict", "copy", "image.png", "--out", "labels.png")
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "the model copy is damaged" in refused.stderr
    assert not Path("labels.png").exists()


def test_every_model_of_the_package_is_small_and_has_a_card():
    for name in builtin.bundled_models():
        folder = builtin.BUNDLED_DIR / name
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8 * 2**20
        card = builtin.read_card(name)
        assert all([card.title, card.data, card.licence, card.command, card.mean_ap, card.figures, card.limits])
        assert all(figure.endswith(")") for figure in card.figures)
