"""Trainings on volumes: they learn, go on, begin with models of images, and leave models that predict."""

import dataclasses
import json

import numpy as np
import pytest

import instseg
from instseg.data.generate_volumes import generate_balls
from instseg.errors import UsageError
from instseg.inference.model import load
from instseg.inference.native_blocks import embed_volume
from instseg.io.volumes import read_volume
from instseg.models.config import read_training
from instseg.models.export import export_compact
from instseg.models.transfer import transfer_weights
from instseg.network.architecture import build_network, named_variables, set_named_weights
from instseg.preprocessing.levels import image_levels
from instseg.settings import BallSettings
from instseg.training.events import CheckpointSaved, StepDone
from instseg.training.prepare import TrainingRequest, check_request, prepare_training

BALLS = BallSettings(depth=16, size=48, min_balls=3, max_balls=6)
QUICK = {"network": (4, 6), "batch_size": 1, "patch_size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("volumes") / "balls"
    generate_balls(path, count=3, settings=BALLS)
    return path


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A model that was trained on volumes, and the events of its training."""
    events = []
    model = tmp_path_factory.mktemp("model") / "model"
    result = instseg.train(model, folder, iterations=20, learning_rate=2e-2, progress=events.append, **QUICK)
    assert result.finished
    return model, events


def test_a_training_on_volumes_learns(trained):
    model, events = trained
    losses = [event.losses["loss"] for event in events if isinstance(event, StepDone)]
    assert len(losses) == 20
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert any(isinstance(event, CheckpointSaved) and event.scores for event in events)
    settings = read_training(model).config
    assert settings.model.ndim == 3
    assert settings.model.spacing == (2.0, 1.0, 1.0)
    assert settings.train.patch_depth == 16
    assert (model / "report" / "validation-0.png").exists()
    assert (model / "report" / "index.html").exists()


def test_the_model_embeds_volumes_as_its_signature_does(trained, folder):
    import tensorflow as tf

    model, _ = trained
    volume = read_volume(folder / "images" / "0000.tif")
    levels = image_levels(volume)
    maps = embed_volume(load(model, precision="float32"), volume, levels)
    assert maps.embeddings.shape == (16, 48, 48, 8)
    signature = tf.saved_model.load(str(model / "current")).signatures["serving_default"]
    found = signature(image=tf.constant(volume[None].astype(np.float32)))
    for name, values in maps.arrays().items():
        np.testing.assert_allclose(found[name][0], values, rtol=1e-3, atol=2e-3, err_msg=name)


def test_a_compact_copy_embeds_nearly_the_same(trained, folder, tmp_path):
    model, _ = trained
    export_compact(model, tmp_path / "compact")
    volume = read_volume(folder / "images" / "0000.tif")
    levels = image_levels(volume)
    one, other = (embed_volume(load(path), volume, levels) for path in (model, tmp_path / "compact"))
    np.testing.assert_allclose(one.foreground, other.foreground, atol=0.02)


def test_a_training_on_volumes_goes_on(trained, folder, tmp_path):
    import shutil

    model = shutil.copytree(trained[0], tmp_path / "model", symlinks=True)
    result = instseg.train(model, resume=True, iterations=21)
    assert (result.iterations, result.finished) == (21, True)
    assert read_training(model).config.train.patch_depth == 16


def test_inflated_networks_see_each_plane_as_the_model_does(tiny_model):
    flat = read_training(tiny_model).config.model
    # Planes so far apart that no level reduces their number.
    deep = dataclasses.replace(flat, ndim=3, spacing=(60.0, 1.0, 1.0))
    images, volumes = build_network(flat), build_network(deep, seed=9)
    for network, settings in ((images, flat), (volumes, deep)):
        transferred = transfer_weights(tiny_model, network, settings)
        set_named_weights(network, transferred.weights)
    assert transferred.changes == (
        "it sees each plane as an image; what neighbouring planes add, and the position along Z, starts fresh",
    )
    seen = np.random.default_rng(5).uniform(0, 1, (1, 3, 16, 16, flat.channels)).astype(np.float32)
    of_volume = np.asarray(volumes(seen, training=False))[0]
    of_planes = np.asarray(images(seen[0], training=False))
    # The first map is the position along Z, which images do not have; one of the others makes room for it.
    np.testing.assert_allclose(of_volume[..., 1 : flat.embeddings], of_planes[..., : flat.embeddings - 1], atol=1e-4)
    np.testing.assert_allclose(of_volume[..., flat.embeddings :], of_planes[..., flat.embeddings :], atol=1e-4)
    assert "encoder0_depth/kernel" in named_variables(volumes)


def prepared(folder, tmp_path, **options):
    request = TrainingRequest(model_dir=tmp_path / "model", data=(folder,), **options)
    return prepare_training(check_request(request))


def test_a_model_of_images_can_begin_a_training_on_volumes(tiny_model, folder, tmp_path):
    config = prepared(folder, tmp_path, pretrained=tiny_model, train={"patch_size": 32}).config
    assert config.pretrained == str(tiny_model)
    before = read_training(tiny_model).config.model
    assert (config.model.ndim, config.model.widths) == (3, before.widths)


def test_patches_of_volumes_are_small_unless_given(folder, tmp_path):
    train = prepared(folder, tmp_path).config.train
    assert (train.patch_size, train.patch_depth, train.batch_size) == (64, 32, 2)
    train = prepared(folder, tmp_path, train={"patch_size": 32, "patch_depth": 10, "batch_size": 3}).config.train
    assert (train.patch_size, train.patch_depth, train.batch_size) == (32, 8, 3)


def test_what_is_for_volumes_is_refused_for_images(tiny_model, tmp_path, trained, folder):
    from instseg.data.generate import generate_discs
    from instseg.settings import DiscSettings

    generate_discs(tmp_path / "discs", count=2, settings=DiscSettings(size=32, min_discs=1, max_discs=2))
    with pytest.raises(UsageError, match="`patch_depth` is for volumes"):
        prepared(tmp_path / "discs", tmp_path, train={"patch_depth": 8})
    with pytest.raises(UsageError, match="spacing is given without `data`"):
        check_request(TrainingRequest(model_dir=tmp_path / "model", spacing=(2, 1, 1)))
    with pytest.raises(UsageError, match="expected three numbers above 0"):
        check_request(TrainingRequest(model_dir=tmp_path / "model", data=(folder,), spacing=(2, 1)))
    with pytest.raises(UsageError, match="is a model of volumes, and the data are images"):
        prepared(tmp_path / "discs", tmp_path, pretrained=trained[0])
    with pytest.raises(UsageError, match="holds volumes, which are learnt from one folder"):
        request = TrainingRequest(model_dir=tmp_path / "model", data=(folder, tmp_path / "discs"))
        prepare_training(check_request(request))
    with pytest.raises(UsageError, match="expected at least 3 for `loss='overlap'`"):
        prepared(folder, tmp_path, model={"embeddings": 2})


def test_a_spacing_that_was_given_is_kept_for_a_resume(folder, tmp_path):
    config = prepared(folder, tmp_path, spacing=(0.6, 0.2, 0.2)).config
    assert config.model.spacing == pytest.approx((3, 1, 1))
    assert json.loads(json.dumps(config.data))["source"]["spacing"] == [0.6, 0.2, 0.2]
