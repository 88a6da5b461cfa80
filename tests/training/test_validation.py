"""Validation: the network runs once per image and state, within bounded memory, and scores are those of predictions."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from instseg.clustering.calibration import ScoreCalibration
from instseg.data.datasets import disc_data, folder_data
from instseg.data.generate import generate_discs
from instseg.data.patches import make_sample
from instseg.evaluation.metrics import score
from instseg.inference.embedder import Embedder
from instseg.inference.model import load
from instseg.inference.options import PredictOptions
from instseg.io.images import read_image
from instseg.models.config import read_training, write_calibration
from instseg.settings import TileSettings
from instseg.training import session, validation
from instseg.training.events import CheckpointSaved, PhaseStarted, StepDone, Validation
from instseg.training.loop import iter_training
from instseg.training.validation import ValidationImages, fit_calibration, validate


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
    labels = [images.measure(model, index)[0] for index in range(4)]
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
    np.testing.assert_array_equal(images.measure(model, 0)[0], expected)
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

    def scripted(model, images, *, calibrate):
        value = next(values)
        return Validation({"AP50-90": value}, [value] * len(images))

    monkeypatch.setattr(session, "validate", scripted)
    monkeypatch.setattr(session.TrainingReport, "write_pictures", lambda self, number, *_: drawn.append(number))
    plan = tiny_plan(3, validation_every=1)
    list(iter_training(tmp_path / "model", plan, disc_data(plan.train, tiny_discs), report=tmp_path / "report"))
    assert drawn == [0, 1]


def without_instances(samples):
    return [sample._replace(labels=np.zeros_like(sample.labels)) for sample in samples]


def test_scores_are_those_of_what_the_calibration_keeps(model, samples, monkeypatch):
    plain = validate(model, ValidationImages(samples), calibrate=False)
    assert plain.calibration is None
    least = []
    for min_score in (0.0, 0.5, 1.0):
        monkeypatch.setattr(validation, "tune_min_score", lambda found, chosen=min_score: chosen)
        least.append(validate(model, ValidationImages(samples)))
        assert least[-1].calibration.min_score == min_score
    assert least[0].scores == plain.scores
    assert least[0].image_scores == plain.image_scores
    assert least[-1].image_scores == [0.0] * len(samples)
    # With the calibration, predictions are those that were scored.
    calibrated = copy.copy(model)
    calibrated.calibration = least[1].calibration
    expected = [score(one.labels, calibrated.predict(one.image)).mean_ap for one in samples]
    assert least[1].image_scores == pytest.approx(expected)
    labels = [ValidationImages(samples).measure(calibrated, index)[0] for index in range(len(samples))]
    for one, found in zip(samples, labels, strict=True):
        np.testing.assert_array_equal(found, calibrated.predict(one.image))


def test_without_instances_there_are_no_scores(model, samples):
    assert validate(model, ValidationImages(without_instances(samples))) == Validation({}, [])
    assert validate(model, ValidationImages([])) == Validation({}, [])
    ignored = [sample._replace(labels=np.full_like(sample.labels, -1)) for sample in samples]
    assert validate(model, ValidationImages(ignored)) == Validation({}, [])


def test_images_that_are_ignored_as_a_whole_do_not_count(model, samples):
    ignored = samples[0]._replace(labels=np.full_like(samples[0].labels, -1))
    assert validate(model, ValidationImages([ignored, *samples[1:]])) == validate(model, ValidationImages(samples[1:]))


def test_what_is_found_on_ignored_pixels_is_no_mistake(model, samples):
    sample = samples[0]
    found = model.predict(sample.image)
    assert found.any()
    truth = np.where((found > 0) & (found < found.max()), -1, found)
    (image_score,) = validate(model, ValidationImages([sample._replace(labels=truth)])).image_scores
    assert image_score == 1


def test_a_training_with_nothing_to_learn_and_nothing_to_validate_on_claims_nothing(tmp_path, tiny_plan, tiny_discs):
    folder, report = tmp_path / "model", tmp_path / "report"
    plan = tiny_plan(2, validation_every=1)
    data = disc_data(plan.train, tiny_discs)
    patches, half = data.patches, np.where(np.arange(64) < 32, -1, 0).astype(np.int32)

    class Ignored:
        batch_size = patches.batch_size

        def batch(self, number):
            batch = patches.batch(number)
            return batch if number else batch._replace(labels=np.full_like(batch.labels, -1))

    validation = [sample._replace(labels=np.broadcast_to(half, (64, 64))) for sample in data.validation]
    data = dataclasses.replace(data, validation=validation, patches=Ignored())
    events = list(iter_training(folder, plan, data, report=report))
    first, second = (event.losses for event in events if isinstance(event, StepDone))
    assert set(first.values()) == {0.0}
    assert all(value > 0 for value in second.values())
    saves = [event for event in events if isinstance(event, CheckpointSaved)]
    assert [(saved.scores, saved.best) for saved in saves] == [({}, (1, {}, [])), ({}, (2, {}, []))]
    stored = json.loads((folder / "instseg.json").read_text())
    assert (stored["validation"], stored["highest_of_images"]) == ({}, [])
    assert (report / "curves.png").exists()
    # True labels are the second picture of four, and half of it is gray.
    assert (read_image(report / "validation-0.png") == 128).all(axis=2).sum() >= 32 * 64
    resumed = session.TrainingSession(folder, plan, data, tf.distribute.get_strategy())
    resumed.resume()
    assert (resumed.iteration, resumed.best) == (2, None)


def test_the_calibration_of_a_finished_model_is_that_of_its_training(tiny_model, tmp_path, samples):
    folder = shutil.copytree(tiny_model / "current", tmp_path / "model")
    stored = read_training(folder).config.calibration
    assert stored == load(folder).calibration == fit_calibration(load(folder, precision="float32"), samples)
    # Nothing else changes with another one, and one that the model has does not count.
    settings = json.loads((folder / "instseg.json").read_text())
    other = ScoreCalibration(slope=5.0, intercept=-3.0, least_median=0.2)
    write_calibration(folder, other)
    changed = load(folder, precision="float32")
    assert changed.calibration == other
    assert fit_calibration(changed, samples) == stored
    assert changed.calibration == other
    assert json.loads((folder / "instseg.json").read_text()) == settings | {"calibration": other.to_dict()}
    write_calibration(folder, None)
    assert load(folder).calibration is None


def test_all_images_given_are_used_and_without_instances_there_is_no_calibration(model, samples):
    assert fit_calibration(model, [*samples] * 20) != fit_calibration(model, samples)
    assert fit_calibration(model, without_instances(samples)[:0]) is None
    ignored = [sample._replace(labels=np.full_like(sample.labels, -1)) for sample in samples]
    assert fit_calibration(model, ignored) is None


@pytest.mark.parametrize(("count", "calibrated"), [(1, False), (5, False), (6, True)])
def test_images_that_were_learnt_from_calibrate_nothing(
    tmp_path, tiny_plan, tiny_discs, count, calibrated, monkeypatch
):
    generate_discs(tmp_path / "data", count=count, settings=tiny_discs)
    plan = tiny_plan(1)
    data = folder_data(tmp_path / "data", plan.train)
    assert data.validated_apart == calibrated
    assert not folder_data(tmp_path / "data", plan.train, val=tmp_path / "data").validated_apart
    training = session.TrainingSession(tmp_path / "model", plan, data, tf.distribute.get_strategy())
    asked = []
    monkeypatch.setattr(
        session, "validate", lambda model, images, *, calibrate: asked.append(calibrate) or Validation({}, [])
    )
    training.validate()
    assert asked == [calibrated]


def test_the_calibration_is_that_of_the_state_that_is_kept(tmp_path, tiny_plan, tiny_discs, monkeypatch):
    values = iter([0.9, 0.1, 0.1])

    def scripted(model, images, *, calibrate):
        value = next(values)
        return Validation({"AP50-90": value}, [value] * len(images), ScoreCalibration(slope=value))

    monkeypatch.setattr(session, "validate", scripted)
    plan = tiny_plan(3, validation_every=1)
    list(iter_training(tmp_path / "model", plan, disc_data(plan.train, tiny_discs)))
    stored = read_training(tmp_path / "model").config
    assert stored.calibration == ScoreCalibration(slope=0.9)
    resumed = dataclasses.replace(plan, calibration=stored.calibration)
    data = disc_data(plan.train, tiny_discs)
    again = session.TrainingSession(tmp_path / "model", resumed, data, tf.distribute.get_strategy())
    again.resume()
    assert (again.best.iteration, again._calibration) == (1, stored.calibration)
