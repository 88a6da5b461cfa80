"""A sitting in which something cannot be read or written: what the person is told, and what goes on all the same."""

import threading
import time

import pytest

from instseg.errors import InstsegError
from instseg.io.images import write_picture
from instseg.labelling.document import Document
from instseg.labelling.journal import StorageError
from instseg.labelling.network_worker import LoadedModel
from instseg.labelling.segmenting import Prediction, Predictions
from instseg.labelling.server import sitting
from instseg.labelling.server.background import Background
from instseg.labelling.server.images import NoSuchImageError
from instseg.labelling.server.sitting import Sitting


@pytest.fixture
def folder(tmp_path, draw_squares):
    for name in "ab":
        write_picture(tmp_path / f"{name}.png", draw_squares((64, 80), [(10, 10), (30, 40)]))
    return tmp_path


@pytest.fixture
def begin(folder, bright_objects):
    """A function that returns a sitting, not started; it ends with the test."""
    sittings = []

    def begin(load=None):
        def found(folder, model, number, options):
            return LoadedModel(bright_objects, Predictions(folder, number, {}))

        sittings.append(Sitting(folder, "shapes", load=load or found))
        return sittings[-1]

    yield begin
    for each in sittings:
        each.close()


def wait_for(what):
    """Wait until something is true, at most a minute."""

    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


def test_without_a_model_lines_split(begin):
    def broken(*_):
        raise InstsegError("the model is damaged")

    page = begin(broken)
    page.start()
    wait_for(lambda: page.status(None)["model"] != "loading")
    page.act(0, {"kind": "paint", "line": [[30, 20], [30, 60]], "radius": 5, "id": None})
    assert page.act(0, {"kind": "split", "line": [[20, 40], [40, 40]]})["objects"] == 2


def test_an_image_that_is_damaged_behind_its_header_is_listed_with_its_error(begin, folder):
    content = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(content[: len(content) - 30])
    page = begin()
    page.start()
    wait_for(lambda: page.folder_view()["images"][0]["error"] is not None)
    assert "damaged" in page.folder_view()["images"][0]["error"]
    assert page.folder_view()["images"][1]["error"] is None
    with pytest.raises(NoSuchImageError, match="damaged"):
        page.image_view(0)
    with pytest.raises(NoSuchImageError, match="damaged"):
        page.images.png(0, 0, 0, 0, {})


def test_images_can_be_looked_at_where_nothing_can_be_stored(begin, monkeypatch):
    def full(*_):
        raise StorageError("cannot write a.jsonl: no space left on device")

    page = begin()
    page.start()
    wait_for(lambda: page.folder_view()["images"][0]["predicted"])
    with monkeypatch.context() as patch:
        patch.setattr(Document, "set_prediction", full)
        assert page.image_view(0)["objects"] == 0
        assert "no space left" in page.status(None)["message"]
    # Once there is space, what the model found is shown.
    assert page.image_view(0)["objects"] == 2
    assert page.status(None)["message"] is None


def test_figures_that_cannot_be_noted_are_told(begin, monkeypatch):
    page = begin()
    page.start()
    wait_for(lambda: page.image_view(0)["objects"] == 2)

    def full(*_):
        raise InstsegError("cannot write rounds.json: no space left on device")

    monkeypatch.setattr(page.rounds, "record", full)
    assert page.act(0, {"kind": "accept"})["state"] == "accepted"
    wait_for(lambda: page.status(None)["message"] is not None)
    assert "how good the model was" in page.status(None)["message"]


def test_labels_that_cannot_be_saved_are_not_left_out_of_a_training(begin, monkeypatch):
    def full(*_):
        raise InstsegError("cannot write a.png: no space left on device")

    page = begin()
    started = []
    monkeypatch.setattr(page.rounds, "start", lambda *_, **__: started.append(1))
    with monkeypatch.context() as patch:
        patch.setattr("instseg.labelling.folder.write_files", full)
        page.act(0, {"kind": "accept"})
        with pytest.raises(InstsegError, match="missing in the training: .*no space left"):
            page.start_training(1.0)
    assert not started
    page.start_training(1.0)
    assert started


def test_large_images_do_not_all_stay_open(begin, monkeypatch):
    monkeypatch.setattr(sitting, "_OPEN_PIXELS", 64 * 80)
    page = begin()
    released = []
    monkeypatch.setattr(page.folder, "release", released.append)
    for index in (0, 1, 0):
        page.document(index)
    assert released == [0, 1]


def test_work_in_the_background_that_fails_is_told_until_it_succeeds():
    background, done = Background(), []

    def work(number):
        done.append(number)
        if number == 1:
            raise ValueError("no number")

    for number in (1, 2):
        background.now("nothing came of it", work, number)
        assert background.failed("nothing came of it") == (number == 1)
        assert background.problem == ("nothing came of it: no number" if number == 1 else None)
    background.later("nothing came of it", work, 3)
    background.close()
    background.later("nothing came of it", work, 4)
    assert done == [1, 2, 3]


def test_damaged_predictions_are_made_again(begin, folder):
    page = begin()
    page.start()
    wait_for(lambda: page.folder_view()["images"][0]["predicted"])
    assert isinstance(page._worker.predictions.read("a", (64, 80)), Prediction)
    (folder / ".labelling" / "predictions" / "0" / "a.png").write_bytes(b"damage")
    assert page.image_view(0)["objects"] == 0
    wait_for(lambda: page.status(None)["segmenting"] is None and page.image_view(0)["objects"] == 2)


def test_others_do_not_wait_while_an_image_is_opened(begin, monkeypatch):
    """What a model has found in a large image takes seconds to be taken in."""
    entered, may_end, answers = threading.Event(), threading.Event(), []
    set_prediction = Document.set_prediction

    def slowly(self, *arguments):
        entered.set()
        assert may_end.wait(60)
        return set_prediction(self, *arguments)

    page = begin()
    page.start()
    wait_for(lambda: page.folder_view()["images"][0]["predicted"])
    monkeypatch.setattr(Document, "set_prediction", slowly)
    opening = threading.Thread(target=lambda: answers.append(page.image_view(0)["objects"]))
    opening.start()
    assert entered.wait(60)
    polling = threading.Thread(target=lambda: answers.append(page.status(None)["model"]))
    polling.start()
    polling.join(30)
    assert answers == ["ready"]
    may_end.set()
    opening.join(60)
    assert answers == ["ready", 2]
