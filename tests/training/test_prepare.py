"""What is asked of a training, before TensorFlow is loaded: what is refused, and what becomes of it."""

import dataclasses
from pathlib import Path

import pytest

from instseg.errors import UsageError
from instseg.settings import NETWORKS
from instseg.training.prepare import TrainingRequest, check_request, parse_network, prepare_training


def refuse(**given):
    with pytest.raises(UsageError) as caught:
        prepare_training(check_request(TrainingRequest(model_dir=Path("model"), **given)))
    return str(caught.value)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("network", "widths"),
    [
        *NETWORKS.items(),
        ("8,8", (8, 8)),
        ((8, 8), (8, 8)),
        ([1], (1,)),
        ("1024", (1024,)),
        (" 4, 4,4,4,4,4", (4,) * 6),
    ],
)
def test_networks_have_names_or_channels(network, widths):
    assert parse_network(network) == widths


@pytest.mark.parametrize("network", ["medium", "", "8,,8", "0", "8,-1", "1025", (4,) * 7, (), (8, "x"), "8.5", 8, None])
def test_what_is_no_network_is_told(network):
    expected = r"^network is .*, expected tiny, small, large, or the channels of 1 to 6 levels"
    with pytest.raises(UsageError, match=expected):
        parse_network(network)


def test_what_is_said_of_data_needs_data():
    assert refuse(val=(Path("val"),)) == (
        "val is given without `data`; give both, or neither to train on generated discs"
    )
    assert refuse(channels="1") == "channels is given without `data`; generated discs have one channel"
    assert refuse(ignore_label=255) == (
        "ignore_label is given without `data`; generated discs have no pixels to leave out"
    )
    assert refuse(connected_components=True) == (
        "connected_components is given without `data`; generated discs have labels"
    )


def test_contradictions_are_told():
    assert "both say when to end" in refuse(train={"iterations": 1, "minutes": 1.0})
    assert refuse(metric={"push_margin": 1.0, "ignore_label": 0}) == (
        "`push_margin`, `ignore_label` belong to `loss='metric'`; add it, or leave them out"
    )
    assert refuse(network="4,4,4,4,4,4", train={"patch_size": 96}) == (
        "patch_size is 96, expected a multiple of 64 for a network of 6 levels"
    )


def test_discs_are_prepared_with_all_settings():
    prepared = prepare_training(
        check_request(TrainingRequest(model_dir=Path("model"), network="8,8", train={"iterations": 3}))
    )
    assert (prepared.resume, prepared.iteration, prepared.finished) == (False, 0, False)
    assert prepared.config.model.widths == (8, 8)
    assert prepared.config.train.iterations == 3
    assert prepared.config.data["source"] == {
        "data": None,
        "val": None,
        "connected_components": False,
        "channels": None,
    }


def test_a_resume_keeps_what_belongs_to_the_model(tiny_model):
    request = TrainingRequest(model_dir=tiny_model, resume=True)
    assert check_request(request).resume is True
    with pytest.raises(UsageError, match="already holds a model; add `resume=True` to go on with it"):
        check_request(TrainingRequest(model_dir=tiny_model))
    assert check_request(TrainingRequest(model_dir=tiny_model, resume=False)).resume is False
    with pytest.raises(UsageError, match="`pretrained` begins a training and `resume` goes on with one"):
        check_request(TrainingRequest(model_dir=tiny_model, resume=True, pretrained=tiny_model))


def test_a_network_narrower_than_that_of_the_model_to_begin_with_is_told(tiny_model):
    assert refuse(pretrained=tiny_model, network="8,4") == (
        f"network has levels of 8,4 channels, expected at least those of {tiny_model}, 8,8; leave it out, or begin "
        "with a model of a smaller network"
    )
    request = check_request(
        TrainingRequest(model_dir=tiny_model.parent / "other", pretrained=tiny_model, network="16,8")
    )
    assert request.model["widths"] == (16, 8)


def test_a_label_to_ignore_is_kept_for_a_resume_and_0_belongs_to_the_loss(tmp_path):
    request = TrainingRequest(model_dir=tmp_path, data=(tmp_path,), ignore_label=255, model={"loss": "metric"})
    assert check_request(request).ignore_label == 255
    background = check_request(dataclasses.replace(request, ignore_label=0))
    assert (background.ignore_label, background.metric) == (None, {"ignore_label": 0})
    with pytest.raises(UsageError, match="`ignore_label` belong to `loss='metric'`; add it, or leave them out"):
        prepare_training(dataclasses.replace(background, model={}))
    said = refuse(data=(tmp_path,), ignore_label=-1)
    assert said == "ignore_label is -1, expected the number of a label, 0 to 4294967295"
