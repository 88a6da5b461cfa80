"""Networks that begin with a trained model's weights begin by doing what it does."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from typer.testing import CliRunner

from instseg.cli import app
from instseg.data.datasets import disc_data
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.models.config import read_training
from instseg.models.transfer import transfer_weights
from instseg.network.architecture import build_network, named_variables, set_named_weights
from instseg.network.decoding import decode_outputs
from instseg.settings import MetricLossSettings, ModelSettings
from instseg.training.events import StepDone, WeightsTransferred
from instseg.training.loop import iter_training
from instseg.training.prepare import TrainingRequest, check_request


@pytest.fixture
def own(tiny_model):
    """The settings of the tiny model's network."""
    return read_training(tiny_model).config.model


def image(channels=1):
    gray = np.random.default_rng(5).uniform(0, 1, (1, 16, 16, 1)).astype(np.float32)
    return np.repeat(gray, channels, axis=3)


def begun(model, settings):
    """Return a network that was begun with a model, and what was said to be changed."""
    network = build_network(settings, seed=9)
    taken = transfer_weights(model, network, settings)
    set_named_weights(network, taken.weights)
    return network, taken.changes


def outputs(network, settings, channels=1):
    return decode_outputs(network(image(channels), training=False), settings, settings.diameter * settings.scale)


def test_a_network_of_the_same_kind_is_the_model(tiny_model, own):
    network, changes = begun(tiny_model, own)
    assert changes == ()
    taken = transfer_weights(tiny_model, network, own).weights
    assert taken.keys() == named_variables(network).keys()
    assert all(np.array_equal(taken[name], variable) for name, variable in named_variables(network).items())
    assert not np.array_equal(network.get_weights()[0], build_network(own, seed=9).get_weights()[0])


def test_objects_of_another_size_change_nothing_in_pixels(tiny_model, own):
    plain, _ = begun(tiny_model, own)
    larger = dataclasses.replace(own, diameter=own.diameter * 3, scale=0.5)
    network, changes = begun(tiny_model, larger)
    assert changes == (
        "images are shown at 0.5 times their size, for objects of a size that it knows",
        "positions fit objects of 28.5 pixels instead of 19",
    )
    expected, found = outputs(plain, own), outputs(network, larger)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.bandwidth, expected.bandwidth, rtol=1e-4)
    np.testing.assert_allclose(found.seed_logits, expected.seed_logits, atol=1e-5)
    np.testing.assert_allclose(found.class_logits, expected.class_logits, atol=1e-5)


def test_gray_in_all_channels_is_seen_as_gray(tiny_model, own):
    plain, _ = begun(tiny_model, own)
    colour = dataclasses.replace(own, channels=3)
    network, changes = begun(tiny_model, colour)
    assert changes == ("the first layer is made for 3 channels from one for 1",)
    np.testing.assert_allclose(network(image(3)), plain(image(1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dimensions", "change"),
    [
        (6, "2 dimensions of the embeddings start fresh"),
        (2, "2 dimensions of the embeddings are left out"),
    ],
)
def test_other_dimensions_leave_the_maps_that_both_have(tiny_model, own, dimensions, change):
    assert own.embeddings == 4
    plain, _ = begun(tiny_model, own)
    other = dataclasses.replace(own, embeddings=dimensions)
    network, changes = begun(tiny_model, other)
    assert changes == (change,)
    expected, found = outputs(plain, own), outputs(network, other)
    np.testing.assert_allclose(found.embeddings[..., :2], expected.embeddings[..., :2], rtol=1e-5, atol=1e-5)
    for name in ("bandwidth", "seed_logits", "class_logits"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5, err_msg=name)


def test_one_channel_sums_up_what_three_see(tiny_model, own):
    colour = dataclasses.replace(own, channels=3)
    network, _ = begun(tiny_model, colour)
    first = network.get_weights()[0]
    assert first.shape[2] == 3
    np.testing.assert_allclose(first.sum(axis=2), begun(tiny_model, own)[0].get_weights()[0][:, :, 0], rtol=1e-5)


def test_what_is_not_asked_for_is_inherited(tmp_path, tiny_plan, tiny_discs):
    metric = MetricLossSettings(push_margin=1.5, push_distance_metric="euclidean")
    plan = dataclasses.replace(tiny_plan(1, loss="metric"), metric=metric)
    list(iter_training(tmp_path / "plain", plan, disc_data(plan.train, tiny_discs)))
    asked = TrainingRequest(model_dir=tmp_path / "own", pretrained=tmp_path / "plain")
    request = check_request(dataclasses.replace(asked, model={"embeddings": 1}, metric={"push_margin": 2.0}))
    assert request.model == {"loss": "metric", "widths": (8, 8), "embeddings": 1}
    assert MetricLossSettings(**request.metric) == dataclasses.replace(metric, push_margin=2.0)
    request = check_request(dataclasses.replace(asked, model={"loss": "overlap"}))
    assert (request.model, request.metric) == ({"loss": "overlap", "widths": (8, 8)}, {})


def test_another_loss_starts_fresh_and_is_said(tiny_model, own):
    plain, _ = begun(tiny_model, own)
    other = dataclasses.replace(own, loss="metric")
    network, changes = begun(tiny_model, other)
    assert changes == ("the embeddings start fresh, as the loss was overlap",)
    expected, found = outputs(plain, own), outputs(network, other)
    np.testing.assert_allclose(found.class_logits, expected.class_logits, rtol=1e-5, atol=1e-5)
    fresh = build_network(other, seed=9)
    for one, random in zip(network.variables, fresh.variables, strict=True):
        assert ("embedding_subpixels" in one.path) == np.array_equal(one, random), one.path


def test_new_classes_begin_as_equal_shares_of_what_an_object_was(tiny_model, own, tmp_path, tiny_plan, tiny_discs):
    plain, _ = begun(tiny_model, own)
    three = dataclasses.replace(own, classes=4, class_names=("a", "b", "c"))
    network, changes = begun(tiny_model, three)
    assert changes == ("the classes begin as equal shares of what an object was: a, b, c",)
    expected = tf.nn.softmax(outputs(plain, own).class_logits).numpy()
    found = tf.nn.softmax(outputs(network, three).class_logits).numpy()
    np.testing.assert_allclose(found[..., 0], expected[..., 0], rtol=1e-4, atol=1e-5)
    for share in range(1, 4):
        np.testing.assert_allclose(found[..., share], expected[..., 1] / 3, rtol=1e-4, atol=1e-5)

    # By their names from a model that has classes; what it does not know is random.
    two = dataclasses.replace(own, classes=3, class_names=("c", "d"))
    plan = dataclasses.replace(tiny_plan(1), model=three)
    data = dataclasses.replace(disc_data(plan.train, tiny_discs), patches=Classified(plan.train, tiny_discs))
    list(iter_training(tmp_path / "three", plan, data))
    source = build_network(three)
    set_named_weights(source, transfer_weights(tmp_path / "three", source, three).weights)
    taken = build_network(two, seed=9)
    weights, changes = transfer_weights(tmp_path / "three", taken, two)
    set_named_weights(taken, weights)
    assert changes == ("the classes start fresh: d",)
    before, after = outputs(source, three).class_logits.numpy(), outputs(taken, two).class_logits.numpy()
    np.testing.assert_allclose(after[..., :2], before[..., [0, 3]], rtol=1e-4, atol=1e-5)


class Classified:
    """Patches of discs of three classes, by their numbers."""

    def __init__(self, train, discs):
        self.plain = disc_data(train, discs).patches

    def batch(self, number):
        batch = self.plain.batch(number)
        return batch._replace(classes=np.where(batch.labels > 0, 1 + batch.labels % 3, 0).astype(np.int32))


@pytest.mark.parametrize("widths", [(16, 16), (8, 24), (12, 9)])
def test_a_network_of_more_channels_does_what_the_model_does_and_its_copies_differ(tiny_model, own, widths):
    plain, _ = begun(tiny_model, own)
    wide = dataclasses.replace(own, widths=widths, channels=3, embeddings=6)
    network, changes = begun(tiny_model, wide)
    assert changes[0] == f"channels are repeated, from 8-8 to {widths[0]}-{widths[1]}"
    expected, found = outputs(plain, own), outputs(network, wide, channels=3)
    np.testing.assert_allclose(found.embeddings[..., :4], expected.embeddings, rtol=1e-4, atol=1e-4)
    for name in ("bandwidth", "seed_logits", "class_logits"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4, err_msg=name)

    # The copies of a channel pass on different shares, without which they would never learn anything different.
    for name, variable in named_variables(network).items():
        before, kernel = named_variables(plain)[name], np.asarray(variable)
        if name.endswith("/kernel") and name.startswith(("encoder1", "decoder0")) and kernel.shape[2] > before.shape[2]:
            assert not np.isclose(kernel[..., 0, :], kernel[..., before.shape[2], :]).any(), name
            assert 0.3 < kernel.std() / np.asarray(before).std() < 3, name


@pytest.mark.parametrize("widths", [(8, 6), (8, 8, 8)])
def test_a_network_of_fewer_channels_or_other_levels_is_refused(tiny_model, own, widths):
    other = dataclasses.replace(own, widths=widths)
    listed = "-".join(map(str, widths))
    said = f"44 weights in layers of 8-8 channels, expected .* in layers of {listed} or fewer"
    with pytest.raises(InstsegError, match=said):
        transfer_weights(tiny_model, build_network(other), other)


@pytest.mark.parametrize("what", ["weights", "settings"])
def test_a_damaged_model_is_told(tiny_model, tmp_path, own, what):
    copied = shutil.copytree(tiny_model, tmp_path / "copied", symlinks=True)
    if what == "weights":
        for file in (copied / "current" / "variables").iterdir():
            file.write_bytes(file.read_bytes()[:50])
    else:
        stored = json.loads((copied / "instseg.json").read_text())
        (copied / "current" / "instseg.json").write_text(json.dumps(stored | {"model": {"channels": "one"}}))
    with pytest.raises(InstsegError, match="is damaged"):
        transfer_weights(copied, build_network(own), own)


def test_a_training_begins_with_the_model_and_says_so(tmp_path, tiny_model, tiny_plan, tiny_discs, own):
    def run(pretrained, **options):
        plan = dataclasses.replace(tiny_plan(12, learning_rate=1e-3), model=own, pretrained=pretrained)
        return list(iter_training(tmp_path / "model", plan, disc_data(plan.train, tiny_discs), **options))

    events = run(str(tiny_model), stop=iter([False] * 5 + [True]).__next__)
    assert events[0] == WeightsTransferred(model=str(tiny_model), changes=())
    first = [event.losses["loss"] for event in events if isinstance(event, StepDone)]
    assert read_training(tmp_path / "model").config.pretrained == str(tiny_model)
    # Going on needs the model that it began with no more.
    again = run(str(tmp_path / "gone"), resume=True)
    assert not any(isinstance(event, WeightsTransferred) for event in again)
    assert sum(isinstance(event, StepDone) for event in again) == 6
    shutil.rmtree(tmp_path / "model")
    fresh = [event.losses["loss"] for event in run(None) if isinstance(event, StepDone)]
    assert np.mean(first) < 0.7 * np.mean(fresh[:6])


def test_the_command_begins_with_a_model(tmp_path, monkeypatch, tiny_model, tiny_discs):
    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    monkeypatch.chdir(tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number in range(3):
        picture, labels = draw_discs(np.random.default_rng(number), dataclasses.replace(tiny_discs, size=48))
        colour = np.repeat((picture // 256).astype(np.uint8)[..., None], 3, axis=2)
        Image.fromarray(colour).save(f"data/images/{number}.png")
        Image.fromarray(labels.astype(np.uint16)).save(f"data/labels/{number}.png")
    options = ["--data", "data", "--batch-size", "1", "--patch-size", "32", "--learning-rate", "0.001"]
    done = run("train", "own", "--from", tiny_model, "--iterations", "2", *options)
    assert done.exit_code == 0
    assert f"Begins with the weights of {tiny_model.resolve()}: the first layer is made for 3 channels" in done.stderr
    stored = json.loads((tmp_path / "own" / "instseg.json").read_text())
    assert (stored["model"]["widths"], stored["model"]["embeddings"], stored["model"]["channels"]) == ([8, 8], 4, 3)
    refused = run("train", "own", "--from", tiny_model, "--resume")
    assert refused.exit_code == 2
    assert "--from begins a training and --resume goes on with one; give one of them" in refused.stderr
    missing = run("train", "other", "--from", "nowhere", *options)
    assert missing.exit_code == 1
    assert "there is no model nowhere" in missing.stderr
    assert not (tmp_path / "other").exists()


def test_objects_are_shown_at_the_size_that_the_model_knows():
    known = ModelSettings(diameter=20.0, diameter_p5=10.0, diameter_p95=40.0, scale=0.5)
    assert [known.scale_for_diameter(diameter) for diameter in (5.0, 10.0, 25.0, 40.0, 80.0)] == [
        1.0,
        0.5,
        0.5,
        0.5,
        0.25,
    ]
    # Tiny ones stay somewhat smaller, for the sake of memory.
    assert known.scale_for_diameter(0.1) == 0.5 * 4


def test_objects_are_shown_from_half_to_all_of_the_one_size_that_the_model_knows():
    known = ModelSettings(diameter=20.0, diameter_p5=10.0, diameter_p95=40.0, scale=0.5, estimate_diameter=True)
    assert [known.scale_for_diameter(diameter) for diameter in (5.0, 10.0, 15.0, 20.0, 40.0)] == [
        1.0,
        0.5,
        0.5,
        0.5,
        0.25,
    ]
