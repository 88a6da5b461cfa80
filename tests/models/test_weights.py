"""Weights by name: the order in which format 2 stored them, and layers that a stored model does not have."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from instseg.data.datasets import disc_data
from instseg.errors import InstsegError
from instseg.models.config import read_training
from instseg.models.export import load_network
from instseg.models.transfer import transfer_weights
from instseg.models.weights import format_2_names, read_variables, read_weights
from instseg.network.architecture import build_network, named_variables
from instseg.network.layers import LayerBuilder
from instseg.settings import DiscSettings, ModelSettings
from instseg.training.events import StepDone, WeightsTransferred
from instseg.training.loop import iter_training

HERE = Path(__file__).parent
FORMATS = ("format-2", "format-3")


@pytest.fixture
def inserted(monkeypatch):
    """Networks that have a convolution more than stored models, in the middle."""
    upsample = LayerBuilder.upsample

    def longer(self, x, name, planes=1):
        return self.convolution(upsample(self, x, name, planes), x.shape[-1], f"{name}_extra")

    monkeypatch.setattr(LayerBuilder, "upsample", longer)


@pytest.mark.parametrize("widths", [(4,), (4, 6), (4, 4, 4), (4, 6, 8, 10), (4, 4, 4, 4, 4, 4)])
def test_the_names_of_format_2_are_those_of_the_network(widths):
    settings = ModelSettings(widths=widths)
    names = format_2_names(settings)
    assert len(set(names)) == len(names)
    assert set(names) == named_variables(build_network(settings)).keys()


def test_the_order_of_format_2_is_written_down():
    names = format_2_names(ModelSettings(widths=(4, 6)))
    assert [name for name in names if name.endswith("kernel")] == [
        "encoder0_conv1/kernel",
        "encoder0_conv2/kernel",
        "encoder1_conv1/kernel",
        "encoder1_conv2/kernel",
        "decoder0_lateral/kernel",
        "decoder0_conv/kernel",
        "embedding_conv/kernel",
        "semantic_conv/kernel",
        "embedding_subpixels/kernel",
        "semantic_subpixels/kernel",
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_the_weights_are_read_by_name_whatever_the_format(name):
    model = HERE / name / "model"
    weights = read_weights(model)
    network = build_network(read_training(model).config.model)
    shapes = {name: tuple(variable.shape) for name, variable in named_variables(network).items()}
    assert {name: value.shape for name, value in weights.items()} == shapes
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", FORMATS)
def test_the_best_state_of_the_checkpoint_is_the_model(name):
    folder = HERE / name / "model"
    variables = read_variables(folder / "checkpoint" / "state")
    weights = read_weights(folder)
    best = variables["kept"] if name == "format-2" else variables["best"]
    names = format_2_names(read_training(folder).config.model) if name == "format-2" else list(weights)
    for number, one in enumerate(names):
        np.testing.assert_array_equal(best[str(number) if name == "format-2" else one], weights[one], err_msg=one)


@pytest.mark.parametrize("name", FORMATS)
def test_a_layer_that_the_model_does_not_have_starts_fresh(name, inserted):
    model = HERE / name / "model"
    settings = read_training(model).config.model
    network = build_network(settings, seed=9)
    weights, changes = transfer_weights(model, network, settings)
    stored, fresh = read_weights(model), named_variables(network)
    extra = weights.keys() - stored.keys()
    assert {one.partition("/")[0] for one in extra} == {"decoder0_upsample_extra", "decoder0_upsample_extra_norm"}
    assert all(np.array_equal(weights[one], value) for one, value in stored.items())
    assert all(np.array_equal(weights[one], fresh[one]) for one in extra)
    assert changes == (
        "layers that the model does not have start fresh: decoder0_upsample_extra, decoder0_upsample_extra_norm",
    )


def test_a_layer_that_only_the_model_has_is_left_out_and_said(inserted, monkeypatch, tmp_path, tiny_plan, tiny_discs):
    plan = tiny_plan(1)
    list(iter_training(tmp_path / "longer", plan, disc_data(plan.train, tiny_discs)))
    monkeypatch.undo()
    network = build_network(plan.model)
    weights, changes = transfer_weights(tmp_path / "longer", network, plan.model)
    assert weights.keys() == named_variables(network).keys()
    assert changes == ("layers of the model are left out: decoder0_upsample_extra, decoder0_upsample_extra_norm",)


@pytest.mark.parametrize("name", FORMATS)
def test_a_model_of_other_layers_is_not_exported_as_something_else(name, inserted):
    with pytest.raises(InstsegError, match="its network has other layers than those of this version"):
        load_network(HERE / name / "model")


@pytest.mark.parametrize("name", FORMATS)
def test_a_model_is_exported_with_its_own_weights(name):
    network, _ = load_network(HERE / name / "model")
    weights = read_weights(HERE / name / "model")
    for one, variable in named_variables(network).items():
        np.testing.assert_array_equal(variable, weights[one], err_msg=one)


def resumable(name, folder):
    """Lay a copy of a stored model out as `train` does."""
    generation = folder / "generations" / "000001"
    shutil.copytree(HERE / name / "model", generation)
    (folder / "current").symlink_to("generations/000001")
    for one in ("saved_model.pb", "variables", "fingerprint.pb", "instseg.json"):
        (folder / one).symlink_to(f"current/{one}")
    return folder


def resume(folder, iterations):
    config = read_training(folder).config
    config = type(config).from_dict(
        config.to_dict() | {"training": config.train.to_dict() | {"iterations": iterations}}
    )
    data = disc_data(config.train, DiscSettings(size=64, min_discs=2, max_discs=3))
    return list(iter_training(folder, config, data, resume=True))


@pytest.mark.parametrize("name", FORMATS)
def test_a_training_goes_on_and_is_of_the_present_format(name, tmp_path):
    folder = resumable(name, tmp_path / "model")
    losses = [event.losses["loss"] for event in resume(folder, 203) if isinstance(event, StepDone)]
    assert len(losses) == 3
    # A training that lost its weights on the way would begin at about 1.5.
    assert max(losses) < 0.6
    stored = json.loads((folder / "instseg.json").read_text())
    assert (stored["format"], stored["iteration"]) == (3, 203)
    before, after = read_weights(HERE / name / "model"), read_weights(folder)
    assert before.keys() == after.keys()
    assert not any(np.array_equal(value, after[one]) for one, value in before.items() if one.endswith("kernel"))


@pytest.mark.parametrize("name", FORMATS)
def test_a_training_goes_on_with_a_layer_more_and_says_so(name, tmp_path, inserted):
    folder = resumable(name, tmp_path / "model")
    events = resume(folder, 201)
    assert events[0] == WeightsTransferred(
        model=str(folder),
        changes=(
            "layers that the model does not have start fresh: decoder0_upsample_extra, decoder0_upsample_extra_norm",
        ),
    )
    variables = read_variables(folder / "current" / "checkpoint" / "state")
    assert {"network", "ema", "best", "optimizer", "muon"} == variables.keys()
    assert "decoder0_upsample_extra/kernel" in variables["muon"]
