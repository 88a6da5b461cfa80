"""Validation: the network runs once per image and state, within bounded memory, and scores are those of predictions."""

import dataclasses

import numpy as np
import pytest

from instseg.data.datasets import disc_data
from instseg.data.patches import make_sample
from instseg.inference.embedder import Embedder
from instseg.inference.model import load
from instseg.inference.options import PredictOptions
from instseg.settings import TileSettings
from instseg.training import session, validation
from instseg.training.events import CheckpointSaved, PhaseStarted, Validation
from instseg.training.loop import iter_training
from instseg.training.validation import ValidationImages, validate


@pytest.fixture
def runs(monkeypatch):
    """A list that grows with each run of a network."""
    runs = []
    embed_tile = Embedder.embed_tile

    def counted(self, *arguments, **options):
        runs.append(1)
        return embed_tile(self, *arguments, **options)

    monkeypatch.setattr(Embedder, "embed_tile", counted)
    return runs


@pytest.fixture
def model(tiny_model):
    return load(tiny_model)


@pytest.fixture(scope="module")
def samples(tiny_plan, tiny_discs):
    return disc_data(tiny_plan(1).train, tiny_discs).validation


def test_what_was_validated_is_not_computed_again(model, samples, runs):
    images = ValidationImages(samples)
    validate(model, images)
    assert len(runs) == len(samples) == 4
    held = [images.embed(model, index) for index in range(4)]
    labels = [images.segment(model, index) for index in range(4)]
    assert all(same is embeddings for embeddings, (_, same) in zip(held, labels, strict=True))
    assert len(runs) == 4
    for sample, (found, embeddings) in zip(samples, labels, strict=True):
        np.testing.assert_array_equal(embeddings.embeddings, model.embed(sample.image).embeddings)
        np.testing.assert_array_equal(found, model.predict(sample.image))
    runs.clear()
    images.forget()
    images.embed(model, 0)
    assert len(runs) == 1


def test_other_clustering_settings_cluster_the_same_embeddings(model, samples, runs):
    images = ValidationImages(samples)
    validate(model, images)
    model.clustering = dataclasses.replace(model.clustering, min_size=60, seed_threshold=0.3)
    labels = [images.predict(model, index) for index in range(4)]
    assert len(runs) == 4
    for sample, found in zip(samples, labels, strict=True):
        np.testing.assert_array_equal(found, model.predict(sample.image))


def test_only_so_many_pixels_are_held(model, samples, runs, monkeypatch):
    monkeypatch.setattr(validation, "_MAX_PIXELS", 2 * 64 * 64 + 5)
    images = ValidationImages(samples)
    first = validate(model, images)
    assert len(images._embeddings) == 2
    assert list(images.for_tuning()) == [0, 1]
    assert validate(model, images) == first
    assert len(runs) == 4 + 2


def test_images_of_several_tiles_are_predicted_tile_by_tile_and_not_held(model, samples, monkeypatch):
    small = PredictOptions(tiles=TileSettings(tile=48, overlap=8))
    monkeypatch.setattr(validation, "PredictOptions", lambda: small)
    images = ValidationImages(samples)
    expected = model.predict(samples[0].image)
    np.testing.assert_array_equal(images.predict(model, 0), expected)
    labels, embeddings = images.segment(model, 0)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(embeddings.embeddings, images.embed(model, 0).embeddings)
    assert not images._embeddings


def test_every_nth_of_many_images_is_scored():
    sample = make_sample(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.int32))
    assert [list(ValidationImages([sample] * count).scored)[-3:] for count in (0, 1, 40, 41, 100)] == [
        [],
        [0],
        [37, 38, 39],
        [36, 38, 40],
        [93, 96, 99],
    ]
    assert len(ValidationImages([sample] * 1000).scored) == 40


def test_tuning_takes_at_least_one_image(monkeypatch):
    sample = make_sample(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.int32))
    for most, count in ((1, 1), (64, 1), (128, 2), (1000, 3)):
        monkeypatch.setattr(validation, "_MAX_PIXELS", most)
        assert len(list(ValidationImages([sample] * 3).for_tuning())) == count


def test_a_validation_with_tuning_and_report_runs_the_network_once_for_each_image(
    tmp_path, tiny_plan, tiny_discs, runs
):
    plan, report = tiny_plan(1), tmp_path / "report"
    marks = []
    for event in iter_training(tmp_path / "model", plan, disc_data(plan.train, tiny_discs), report=report):
        if isinstance(event, PhaseStarted | CheckpointSaved):
            marks.append(len(runs))
    # Before validating, before tuning, and after the report was written.
    assert marks == [0, 4, 4]
    assert (report / "validation-1.png").exists()


def test_pictures_of_a_state_that_is_drawn_are_not_drawn_again(tmp_path, tiny_plan, tiny_discs, monkeypatch):
    values = iter([0.9, 0.1, 0.1])
    drawn = []

    def scripted(model, images):
        value = next(values)
        return Validation({"AP50-90": value}, [value] * len(images))

    monkeypatch.setattr(session, "validate", scripted)
    monkeypatch.setattr(session.TrainingReport, "write_pictures", lambda self, number, *_: drawn.append(number))
    plan = tiny_plan(3, validation_every=1)
    list(iter_training(tmp_path / "model", plan, disc_data(plan.train, tiny_discs), report=tmp_path / "report"))
    assert drawn == [0, 1]
