"""What the network does in the background, and in which order."""

import threading

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.inference.options import PredictOptions
from instseg.io.source import ArrayReader
from instseg.labelling import embedding_tiles, network_worker
from instseg.labelling.network_worker import LoadedModel, NetworkWorker
from instseg.labelling.segmenting import Predictions
from instseg.settings import TileSettings
from instseg.tiling.grid import Box

OPTIONS = PredictOptions(tiles=TileSettings(overlap=16))
CORNERS = [[(10, 10)], [(20, 30), (40, 8)], [(5, 5), (30, 30), (50, 12)]]


@pytest.fixture(autouse=True)
def traits(monkeypatch):
    """The measure of what is worth labelling has tests of its own."""
    from instseg.labelling import segmenting
    from instseg.labelling.ordering import Traits

    def describe(image, instances, pixels):
        return Traits(doubt=0.25, features=np.array([float(len(instances))]))

    monkeypatch.setattr(segmenting, "describe", describe)


class Sitting:
    """A worker with three images, and what it told."""

    def __init__(self, folder, images, names=("a", "b", "c")):
        self.folder, self.images = folder, images
        self.predicted, self.models = [], 0
        self.all_predicted, self.model_changed = threading.Event(), threading.Event()
        self.worker = NetworkWorker(list(names), self.open, self.on_predicted, self.on_model, OPTIONS)

    def open(self, index):
        if isinstance(self.images[index], Exception):
            raise self.images[index]
        return ArrayReader(self.images[index])

    def on_predicted(self, index, prediction):
        self.predicted.append((index, int(prediction.labels.max())))
        if len(self.predicted) == len(self.images):
            self.all_predicted.set()

    def on_model(self):
        self.models += 1
        self.model_changed.set()

    def use(self, embedder, number=0):
        self.model_changed.clear()
        self.worker.use(lambda: LoadedModel(embedder, Predictions(self.folder, number, {"model": number})))

    def __enter__(self):
        self.worker.start()
        return self

    def __exit__(self, *_):
        self.worker.close()


@pytest.fixture
def images(draw_squares):
    return [draw_squares((64, 60), corners) for corners in CORNERS]


def test_images_are_segmented_in_the_order_in_which_they_are_worth_labelling(tmp_path, bright_objects, images):
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.queue([2, 0, 1])
        sitting.use(bright_objects)
        assert sitting.all_predicted.wait(30)
    assert sitting.predicted == [(2, 3), (0, 1), (1, 2)]
    kept = Predictions(tmp_path, 0, {"model": 0})
    prediction = kept.read("b", (64, 60))
    assert np.bincount(prediction.labels.ravel())[1:].tolist() == [64, 64]
    assert len(prediction.scores) == 2
    assert kept.traits_of("b").features.tolist() == [2.0]


def test_what_is_on_the_screen_comes_first(tmp_path, bright_objects, images):
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.queue([0, 1, 2])
        sitting.worker.look(1, Box(0, 0, 64, 60))
        sitting.use(bright_objects)
        assert sitting.all_predicted.wait(30)
        assert sitting.worker.share(1) == 1
    assert sitting.predicted == [(1, 2), (0, 1), (2, 3)]


def test_a_window_waits_for_its_tile_only(tmp_path, bright_objects, draw_squares, monkeypatch):
    monkeypatch.setattr(embedding_tiles, "_SIDE", 128)
    monkeypatch.setattr(embedding_tiles, "_LEAST_SIDE", 128)
    large = draw_squares((600, 600), [(300, 310)])
    with Sitting(tmp_path, [large], ["a"]) as sitting:
        sitting.use(bright_objects)
        assert sitting.model_changed.wait(30)
        window, box = sitting.worker.window(0, Box(290, 300, 310, 330))
        assert box == Box(290, 300, 310, 330)
        assert int((window.foreground > 0.5).sum()) == 64
        assert 0 < sitting.worker.share(0) < 0.5


def test_there_is_no_window_before_there_is_a_model(tmp_path, images):
    with Sitting(tmp_path, images) as sitting:
        assert sitting.worker.window(0, Box(0, 0, 5, 5)) is None


def test_a_model_that_cannot_be_loaded_is_told_to_who_waits(tmp_path, images, bright_objects):
    def fail():
        raise InstsegError("the model is damaged")

    with Sitting(tmp_path, images) as sitting:
        sitting.worker.use(fail)
        assert sitting.model_changed.wait(30)
        assert not sitting.worker.loading
        with pytest.raises(InstsegError, match="damaged"):
            sitting.worker.window(0, Box(0, 0, 5, 5))
        sitting.use(bright_objects)
        assert sitting.model_changed.wait(30)
        assert sitting.worker.error is None
        assert sitting.worker.window(0, Box(0, 0, 5, 5)) is not None


def test_an_image_that_the_model_cannot_see_costs_no_other(tmp_path, bright_objects, images):
    images[0] = np.zeros((20, 20, 5), np.uint8)
    images[1] = InstsegError("cannot read b.png: it is damaged")
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.queue([0, 1, 2])
        sitting.use(bright_objects)
        assert sitting.model_changed.wait(30)
        assert sitting.worker.window(2, Box(0, 0, 64, 60)) is not None
        with pytest.raises(InstsegError, match="5 channels"):
            sitting.worker.window(0, Box(0, 0, 5, 5))
        with pytest.raises(InstsegError, match=r"b\.png"):
            sitting.worker.window(1, Box(0, 0, 5, 5))
        assert "5 channels" in str(sitting.worker.failure(0))


def test_another_model_segments_all_images_anew(tmp_path, bright_objects, images):
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.queue([0, 1, 2])
        sitting.use(bright_objects)
        assert sitting.all_predicted.wait(30)
        sitting.all_predicted.clear()
        sitting.predicted.clear()
        sitting.use(bright_objects, 1)
        assert sitting.all_predicted.wait(30)
    assert [index for index, _ in sitting.predicted] == [0, 1, 2]
    assert sorted(path.name for path in (tmp_path / ".labelling" / "predictions").iterdir()) == ["0", "1"]


def test_while_it_pauses_only_the_image_in_work_is_segmented(tmp_path, bright_objects, images):
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.pause(True)
        sitting.worker.queue([0, 1, 2])
        sitting.worker.look(1, None)
        sitting.use(bright_objects)
        assert sitting.worker.window(1, Box(0, 0, 9, 9)) is not None or sitting.model_changed.wait(30)
        assert sitting.worker.window(1, Box(0, 0, 9, 9)) is not None
        sitting.worker.look(2, None)
        assert sitting.worker.window(0, Box(0, 0, 9, 9)) is not None
        assert 0 not in dict(sitting.predicted)
        sitting.worker.pause(False)
        assert sitting.all_predicted.wait(30)


def test_predictions_stay_when_the_sitting_ends(tmp_path, bright_objects, images):
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.queue([0, 1, 2])
        sitting.use(bright_objects)
        assert sitting.all_predicted.wait(30)
    seen = len(bright_objects.seen)
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.queue([0, 1, 2])
        sitting.use(bright_objects)
        assert sitting.model_changed.wait(30)
        assert all(map(sitting.worker.predictions.has, "abc"))
    assert sitting.predicted == []
    # Embeddings of the next image are made ahead.
    assert len(bright_objects.seen) <= seen + 1


def test_a_full_disc_stops_predictions_and_no_embeddings(tmp_path, bright_objects, images, monkeypatch):
    tried = threading.Event()

    def full(*_):
        tried.set()
        raise InstsegError("cannot write: no space left on device")

    monkeypatch.setattr(Predictions, "write", full)
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.queue([0, 1, 2])
        sitting.worker.look(0, None)
        sitting.use(bright_objects)
        assert sitting.model_changed.wait(30)
        assert sitting.worker.window(2, Box(0, 0, 9, 9)) is not None
        assert tried.wait(30)
    assert "space" in str(sitting.worker.disc_error)
    assert sitting.predicted == []


def test_what_a_full_disc_did_not_take_is_made_again(tmp_path, bright_objects, images, monkeypatch):
    monkeypatch.setattr(network_worker, "_AGAIN", 0.02)
    write, attempts = Predictions.write, []

    def write_later(self, name, *arguments):
        attempts.append(name)
        if len(attempts) < 3:
            raise InstsegError("no space left on device")
        return write(self, name, *arguments)

    monkeypatch.setattr(Predictions, "write", write_later)
    with Sitting(tmp_path, images) as sitting:
        sitting.worker.queue([0, 1, 2])
        sitting.use(bright_objects)
        assert sitting.all_predicted.wait(30)
        assert sitting.worker.disc_error is None
    assert attempts == ["a", "a", "a", "b", "c"]
