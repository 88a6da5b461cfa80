"""Predictions on the disc."""

import json

import numpy as np
import pytest

from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader
from instseg.labelling import segmenting
from instseg.labelling.embedding_tiles import EmbeddingTiles
from instseg.labelling.ordering import Traits
from instseg.labelling.segmenting import Predictions, earlier_prediction, segment_steps


@pytest.fixture
def segmented(bright_objects, draw_squares, monkeypatch):
    monkeypatch.setattr(segmenting, "describe", lambda *_: Traits(doubt=0.5, features=np.array([1.0, 2.0])))
    image = ArrayReader(draw_squares((40, 50), [(5, 5), (20, 30)])[:, :, np.newaxis])
    tiles = EmbeddingTiles(bright_objects, lambda index: image, PredictOptions())
    steps = segment_steps(tiles, 0, image, keep=True)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            assert tiles.share(0) == 1
            return end.value


@pytest.mark.parametrize("name", ["a", "a.b", "model", "plate-A-1-0", "x" * 250, "file.h5:/volume", "..", "Zellen äöü"])
def test_a_prediction_is_read_as_it_was_written(tmp_path, segmented, name):
    predictions = Predictions(tmp_path, 3, {"model": "x"})
    assert not predictions.has(name)
    assert predictions.read(name, (40, 50)) is None
    predictions.write(name, *segmented)
    again = Predictions(tmp_path, 3, {"model": "x"})
    assert again.has(name)
    assert again.count(name) == predictions.count(name) == 2
    found = again.read(name, (40, 50))
    np.testing.assert_array_equal(found.labels, segmented[0].labels)
    np.testing.assert_allclose(found.scores, segmented[0].instances.score, atol=1e-4)
    assert again.traits_of(name).to_dict() == {"doubt": 0.5, "features": [1.0, 2.0]}
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {
        tmp_path / ".labelling" / "predictions" / "3"
    }


def test_those_of_another_model_are_removed(tmp_path, segmented):
    Predictions(tmp_path, 0, {"model": "x"}).write("a", *segmented)
    assert not Predictions(tmp_path, 0, {"model": "y"}).has("a")
    assert not Predictions(tmp_path, 0, {"model": "x"}).has("a")


def test_an_image_of_another_size_is_segmented_again(tmp_path, segmented):
    predictions = Predictions(tmp_path, 0, {})
    predictions.write("a", *segmented)
    assert predictions.read("a", (40, 51)) is None
    assert not predictions.has("a")


@pytest.mark.parametrize("content", [b"", b"no png", b"\x89PNG\r\n\x1a\n"])
def test_damaged_labels_are_made_again(tmp_path, segmented, content):
    predictions = Predictions(tmp_path, 0, {})
    predictions.write("a", *segmented)
    (tmp_path / ".labelling" / "predictions" / "0" / "a.png").write_bytes(content)
    assert predictions.read("a", (40, 50)) is None
    assert not predictions.has("a")


def test_labels_without_their_scores_do_not_count(tmp_path, segmented):
    predictions = Predictions(tmp_path, 0, {})
    predictions.write("a", *segmented)
    scores = tmp_path / ".labelling" / "predictions" / "0" / "a.json"
    scores.write_text(json.dumps({"suffix": ".png"}))
    assert not Predictions(tmp_path, 0, {}).has("a")


def test_instances_are_shown_once(tmp_path, segmented):
    predictions = Predictions(tmp_path, 0, {"model": "x"})
    predictions.write("a", *segmented)
    assert not predictions.is_taken("a")
    predictions.take("a")
    assert Predictions(tmp_path, 0, {"model": "x"}).is_taken("a")
    assert not Predictions(tmp_path, 1, {"model": "x"}).is_taken("a")


def test_the_last_round_before_one_is_found(tmp_path, segmented):
    assert earlier_prediction(tmp_path, 2, "a", (40, 50)) is None
    Predictions(tmp_path, 0, {}).write("a", *segmented)
    Predictions(tmp_path, 2, {}).write("a", *segmented)
    np.testing.assert_array_equal(earlier_prediction(tmp_path, 2, "a", (40, 50)), segmented[0].labels)
    assert earlier_prediction(tmp_path, 2, "a", (41, 50)) is None
    assert earlier_prediction(tmp_path, 0, "a", (40, 50)) is None
