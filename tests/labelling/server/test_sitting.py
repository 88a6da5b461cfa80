"""A sitting by HTTP: a folder of images, a model that finds bright squares, and a page that asks."""

import gzip
import io
import json
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from instseg.errors import InstsegError, UsageError
from instseg.io.images import write_picture
from instseg.io.label_images import read_label_values
from instseg.labelling.document import Document
from instseg.labelling.journal import StorageError
from instseg.labelling.network_worker import LoadedModel
from instseg.labelling.rounds import Rounds
from instseg.labelling.segmenting import Predictions
from instseg.labelling.server import model_loading, sitting
from instseg.labelling.server.app import make_app
from instseg.labelling.server.routes import parse_classes
from instseg.labelling.server.security import cookie_name
from instseg.labelling.server.sitting import Sitting

TOKEN = "a-token-of-the-test"
HEADERS = [("cookie", f"{cookie_name(TOKEN)}={TOKEN}"), ("origin", "http://localhost:8765")]
CORNERS = {"a": [(10, 10), (30, 40)], "b": [(5, 5)], "c": []}


class Page:
    """What a page does, by the application of a sitting."""

    def __init__(self, served, ask, name="page-0001"):
        self.sitting, self._ask, self.name = served, ask, name
        self.app = make_app(served, TOKEN)

    def answer(self, path, body=None, headers=(), query=""):
        headers = [*HEADERS, ("x-page", self.name), *headers]
        method = "GET" if body is None else "POST"
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._ask(self.app, path, method=method, headers=headers, body=content, query=query)

    def get(self, path, **options):
        answer = self.answer(path, **options)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def post(self, path, body, status=200, **options):
        answer = self.answer(path, body, **options)
        assert answer.status == status, answer.body
        return json.loads(answer.body)

    def act(self, kind, index=0, status=200, headers=(), **values):
        return self.post(f"/api/images/{index}/actions", {"kind": kind, **values}, status, headers=headers)

    def labels(self, index=0, place="0/0/0"):
        answer = self.answer(f"/api/images/{index}/labels/{place}")
        shape = int(answer.headers["x-height"]), int(answer.headers["x-width"])
        return np.frombuffer(gzip.decompress(answer.body), "<i4").reshape(shape)

    def wait(self, what):
        end = time.monotonic() + 60
        while not what():
            assert time.monotonic() < end, "it takes too long"
            time.sleep(0.01)


@pytest.fixture
def folder(tmp_path, draw_squares):
    for name, corners in CORNERS.items():
        write_picture(tmp_path / f"{name}.png", draw_squares((64, 80), corners))
    (tmp_path / "d.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def load(bright_objects):
    """What opens a model; `load.may_end` holds it up."""

    def load(folder, model, number, options):
        assert load.may_end.wait(60)
        if load.error is not None:
            raise load.error
        return LoadedModel(bright_objects, Predictions(folder, number, {"model": number}))

    load.may_end, load.error = threading.Event(), None
    load.may_end.set()
    return load


@pytest.fixture
def start(folder, load, ask):
    """A function that begins a sitting; it ends with the test."""
    sittings = []

    def start():
        sittings.append(Sitting(folder, "shapes", load=load))
        sittings[-1].start()
        return Page(sittings[-1], ask)

    yield start
    for each in sittings:
        each.close()


@pytest.fixture
def page(start):
    """A page of a sitting whose images are all segmented."""
    page = start()
    page.wait(lambda: page.get("/api/status")["segmenting"] is None and page.get("/api/status")["model"] == "ready")
    page.wait(lambda: all(one["predicted"] for one in page.get("/api/folder")["images"] if one["error"] is None))
    return page


def test_the_folder_lists_images_and_those_that_cannot_be_read(page):
    folder = page.get("/api/folder")
    assert [one["name"] for one in folder["images"]] == ["a", "b", "c", "d"]
    first, broken = folder["images"][0], folder["images"][3]
    assert (first["state"], first["height"], first["width"], first["channels"]) == ("new", 64, 80, 1)
    assert first["error"] is first["model_error"] is first["ap"] is None
    assert "d.png" in broken["error"]
    assert not broken["predicted"]
    assert sorted(one["rank"] for one in folder["images"][:3]) == [0, 1, 2]
    assert [(one["objects"], one["confirmed"]) for one in folder["images"][:3]] == [(2, 0), (1, 0), (0, 0)]
    assert folder["model"] == "shapes"
    assert folder["rounds"] == []


def test_an_image_has_the_instances_of_the_model(page):
    image = page.get("/api/images/0")
    assert (image["name"], image["height"], image["width"], image["levels"], image["tile"]) == ("a", 64, 80, 1, 512)
    assert (image["objects"], image["confirmed"], image["state"], image["predicted"]) == (2, 0, "new", True)
    labels = page.labels()
    assert labels.shape == (64, 80)
    objects = page.get("/api/images/0/objects")
    assert np.unique(labels[10:18, 10:18]).tolist() == [objects["ids"][0]]
    assert all(0 < score <= 1 for score in objects["scores"])
    assert np.count_nonzero(labels) == 128
    picture = page.answer("/api/images/0/pixels/0/0/0")
    assert picture.headers["content-type"] == "image/png"
    assert np.asarray(Image.open(io.BytesIO(picture.body))).shape == (64, 80, 3)


def test_actions_change_labels_and_are_saved(page, folder):
    outcome = page.act("delete", point=[12, 12])
    assert (outcome["objects"], outcome["undo"]) == (1, 1)
    ((top, left, bottom, right),) = outcome["boxes"]
    assert top <= 10 < 18 <= bottom <= 25
    assert left <= 10 < 18 <= right <= 25
    assert page.labels()[12, 12] == 0
    outcome = page.act("add", inside=[[12, 12]])
    assert (outcome["objects"], outcome["state"]) == (2, "partly")
    labels = page.labels()
    assert (labels == outcome["selected"]).sum() == 64
    # Of what is around nobody has said anything.
    assert labels[50, 5] == -1
    outcome = page.act("accept")
    assert outcome["state"] == "accepted"
    assert page.labels()[50, 5] == 0
    page.sitting.folder.flush()
    saved = read_label_values(folder / "labels" / "a.png")
    assert np.unique(saved, return_counts=True)[1].tolist() == [64 * 80 - 128, 64, 64]
    objects = page.get("/api/images/0/objects")
    assert objects["version"] == outcome["version"]
    assert objects["confirmed"] == objects["ids"]
    assert objects["classes"] == [0, 0]
    assert objects["scores"] == [None, None]
    page.wait(lambda: page.get("/api/folder")["images"][0]["ap"] == 1)


def test_what_was_done_is_there_when_the_folder_is_opened_again(start, load):
    page = start()
    page.wait(lambda: page.get("/api/images/0")["predicted"] and page.get("/api/images/0")["objects"] == 2)
    page.act("delete", point=[12, 12])
    page.act("confirm", point=[32, 42])
    before = page.labels()
    page.sitting.close()
    page = start()
    page.wait(lambda: page.get("/api/status")["model"] == "ready")
    image = page.get("/api/images/0")
    # The model's instances are not put in the place of what was made of them.
    assert (image["objects"], image["confirmed"], image["state"]) == (1, 1, "partly")
    np.testing.assert_array_equal(page.labels(), before)
    assert page.act("undo")["confirmed"] == 0
    assert page.act("undo")["objects"] == 2


def test_one_page_acts_and_others_look(page, ask):
    page.act("delete", point=[12, 12])
    other = Page(page.sitting, ask, "page-0002")
    assert page.get("/api/status", query="page=page-0001")["writer"]
    assert not other.get("/api/status", query="page=page-0002")["writer"]
    assert other.labels()[12, 12] == 0
    for path, body in (
        ("/api/images/0/actions", {"kind": "undo"}),
        ("/api/train", {"minutes": 1}),
        ("/api/train/stop", {}),
        ("/api/classes", {"classes": []}),
    ):
        assert "another page" in other.post(path, body, 409)["error"]
    assert page.get("/api/images/0")["undo"] == 1
    other.post("/api/take-over", {"page": "page-0002"})
    assert other.act("undo")["undo"] == 0
    assert "another page" in page.act("redo", status=409)["error"]
    other.post("/api/leave", {"page": "page-0002"})
    assert page.act("redo")["undo"] == 1


def test_an_action_whose_answer_was_lost_is_done_once(page):
    first = page.act("delete", point=[12, 12], headers=[("x-action", "r-1")])
    again = page.act("delete", point=[12, 12], headers=[("x-action", "r-1")])
    assert first == again
    assert first["boxes"]
    # The same action by another name finds nothing there.
    assert page.act("delete", point=[12, 12], headers=[("x-action", "r-2")])["boxes"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/api/images/0/actions", {"kind": "fly"}, 422, "kind"),
        ("/api/images/0/actions", {}, 422, "kind"),
        ("/api/images/0/actions", {"kind": "add", "inside": "here"}, 422, "inside"),
        ("/api/images/0/actions", b"{", 422, "JSON"),
        ("/api/images/0/actions", b"[1]", 422, "JSON"),
        ("/api/images/0/actions", b"\xff\xfe", 422, "JSON"),
        ("/api/images/0/actions", b"[" * 100_000, 422, "JSON"),
        ("/api/images/9/actions", {"kind": "undo"}, 404, "no image 9"),
        ("/api/images/3/actions", {"kind": "undo"}, 404, "d.png"),
        ("/api/images/0/view", {"box": [0, 0, 5]}, 422, "box"),
        ("/api/images/0/view", {"box": [0, 0, 5, "wide"]}, 422, "box"),
        ("/api/images/0/view", b'{"box": [0, 0, 5, NaN]}', 422, "box"),
        ("/api/train", {"minutes": 0}, 422, "minutes"),
        ("/api/train", {"minutes": True}, 422, "minutes"),
        ("/api/train", {"minutes": 1}, 422, "label"),
        ("/api/take-over", {"page": "../../x"}, 422, "page"),
        ("/api/classes", {"classes": [{"id": 0, "name": "x"}]}, 422, "class"),
        ("/api/images/0", None, 200, ""),
        ("/api/images/9", None, 404, "no image 9"),
        ("/api/images/3", None, 404, "d.png"),
        ("/api/images/3/pixels/0/0/0", None, 404, "d.png"),
        ("/api/images/3/labels/0/0/0", None, 404, "d.png"),
        ("/api/images/0/pixels/0/1/0", None, 422, "row"),
        ("/api/images/0/labels/1/0/0", None, 422, "level"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(page, path, body, status, said):
    answer = page.answer(path, body)
    assert answer.status == status
    assert said in answer.body.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/../../../../../../etc/passwd",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/....//app.py",
        "/static/..\\app.py",
        "/static/\x00",
        "/static/",
        "/static",
        "/a.png",
        "/api/images/..%2f..%2fetc/pixels/0/0/0",
        "/api/images/a.png",
        "/api/images/-1",
        "/api/images/0/pixels/../../../a.png",
        "/api/images/0/pixels/-1/0/0",
        "/.labelling/lock",
        "/labels/a.png",
    ],
)
def test_no_path_leads_to_files(page, path):
    answer = page.answer(path)
    assert answer.status in (307, 404)
    assert b"root:" not in answer.body
    assert b"Starlette" not in answer.body
    assert not answer.body.startswith(b"\x89PNG")


def test_the_page_and_its_files_are_there(page):
    html = page.answer("/")
    assert html.status == 200
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<script" in html.body
    assert page.answer("/static/page.css").headers["content-type"].startswith("text/css")


def test_before_the_model_is_there_the_page_says_so_and_labels_by_hand(start, load):
    load.may_end.clear()
    page = start()
    assert page.get("/api/status")["model"] == "loading"
    outcome = page.act("add", inside=[[12, 12]])
    assert (outcome["objects"], outcome["boxes"]) == (0, [])
    assert outcome["message"]
    outcome = page.act("polygon", points=[[20, 20], [30, 20], [30, 30], [20, 30]], id=None)
    assert outcome["objects"] == 1
    load.may_end.set()
    page.wait(lambda: page.get("/api/images/0")["objects"] == 3)
    assert page.get("/api/images/0")["confirmed"] == 1


def test_actions_and_predictions_do_not_wait_for_each_other(start, load):
    """An action waits for a tile, and a prediction for the action: the tile must not wait for the prediction."""
    load.may_end.clear()
    page = start()
    for index in range(3):
        page.get(f"/api/images/{index}")
    load.may_end.set()
    for turn in range(12):
        page.act("add", index=turn % 3, inside=[[12, 12]])
        page.act("undo", index=turn % 3)
    page.wait(lambda: page.sitting.folder.predicted(0) or page.get("/api/images/0")["redo"] > 0)


def test_a_model_that_cannot_be_opened_is_told(start, load):
    load.error = InstsegError("the model is damaged; export it again")
    page = start()
    page.wait(lambda: page.get("/api/status")["model"] != "loading")
    assert page.get("/api/status")["model"] == "the model is damaged; export it again"
    assert "damaged" in page.act("add", inside=[[12, 12]], status=422)["error"]
    assert page.act("polygon", points=[[20, 20], [30, 20], [30, 30], [20, 30]], id=None)["objects"] == 1


def test_a_model_for_other_channels_is_told_for_each_image(start, folder, draw_squares, bright_objects):
    write_picture(
        folder / "a.png", np.stack([draw_squares((64, 80), [(9, 9)])] * 2 + [np.zeros((64, 80), np.uint8)], -1)
    )
    page = start()
    page.wait(lambda: page.get("/api/folder")["images"][0]["model_error"] is not None)
    assert "channels" in page.get("/api/images/0")["model_error"]
    assert "channels" in page.act("add", inside=[[12, 12]], status=422)["error"]
    page.wait(lambda: page.get("/api/folder")["images"][1]["predicted"])


def test_of_an_image_that_is_too_large_only_what_is_looked_at_is_embedded(start, monkeypatch):
    monkeypatch.setattr(sitting, "STREAMING_PIXELS", 64 * 79)
    page = start()
    page.wait(lambda: page.get("/api/status")["model"] == "ready")
    assert page.get("/api/status")["segmenting"] is None
    image = page.get("/api/images/0")
    assert (image["objects"], image["predicted"]) == (0, True)
    assert "too large" in image["model_error"]
    assert page.act("add", inside=[[12, 12]])["objects"] == 1


def test_nothing_changes_where_nothing_can_be_kept(page, monkeypatch):
    def full(self, action):
        raise StorageError("cannot write the journal: no space left on device")

    monkeypatch.setattr(Document, "act", full)
    assert "space" in page.act("delete", point=[12, 12], status=507)["error"]
    monkeypatch.undo()
    assert page.act("delete", point=[12, 12])["objects"] == 1


def test_a_full_disc_is_told(page, monkeypatch):
    monkeypatch.setattr(
        type(page.sitting.folder), "error", property(lambda self: "cannot write a.png: the disc is full")
    )
    assert page.get("/api/status")["disc"] == "cannot write a.png: the disc is full"


def test_the_view_has_its_embeddings_computed(page):
    page.post("/api/images/1/view", {"box": [-5, 0.5, 400, 79.5]})
    page.wait(lambda: page.post("/api/images/1/view", {"box": [0, 0, 64, 80]})["embedded"] == 1)
    page.post("/api/images/1/view", {"box": [900, 900, 950, 950]})


def test_classes_have_names(page):
    classes = [{"id": 1, "name": "cell"}, {"id": 2, "name": " dividing "}]
    expected = [{"id": 1, "name": "cell"}, {"id": 2, "name": "dividing"}]
    assert page.post("/api/classes", {"classes": classes})["classes"] == expected
    assert page.get("/api/folder")["classes"] == expected
    page.act("class", point=[12, 12], **{"class": 2})
    objects = page.get("/api/images/0/objects")
    assert sorted(objects["classes"]) == [0, 2]


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        [1],
        [{"id": 1}],
        [{"id": True, "name": "x"}],
        [{"id": 256, "name": "x"}],
        [{"id": 1, "name": " "}],
        [{"id": 1, "name": "x"}, {"id": 1, "name": "y"}],
        [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}],
        [{"id": 1, "name": "x" * 101}],
    ],
)
def test_other_classes_are_refused(content):
    with pytest.raises(UsageError):
        parse_classes(content)


def test_a_round_brings_another_model_which_segments_anew(page, folder, monkeypatch):
    """The training itself has tests of its own; here it is over when it is told so."""
    states = {"now": "running", "number": 0}
    status = {"round": 1, "done": False, "phase": "training", "share": 0.5, "curve": [[1, 0.5]], "message": None}
    started = []
    monkeypatch.setattr(Rounds, "start", lambda self, minutes, **_: started.append(minutes))
    monkeypatch.setattr(Rounds, "status", lambda self: {**status, "state": states["now"]} if started else None)
    monkeypatch.setattr(Rounds, "number", property(lambda self: states["number"]))
    page.act("accept")
    assert page.get("/api/status")["training"] is None
    answer = page.post("/api/train", {"minutes": 2.5})
    assert started == [2.5]
    assert (answer["training"]["state"], answer["training"]["text"]) == ("running", "training")
    assert page.get("/api/status")["training"]["share"] == 0.5
    assert (folder / "labels" / "a.png").exists()
    states.update(now="done", number=1)
    page.sitting._round_ended()
    predictions = folder / ".labelling" / "predictions" / "1"
    page.wait(lambda: len(list(predictions.glob("*.png"))) == 3)
    assert page.get("/api/folder")["model"] == "round 1"
    assert page.get("/api/status")["training"]["state"] == "done"


def test_a_round_that_failed_leaves_the_model(page, monkeypatch):
    failed = {"round": 1, "state": "failed", "done": True, "phase": "failed", "message": "the training was killed"}
    monkeypatch.setattr(Rounds, "status", lambda self: failed)
    page.sitting._round_ended()
    status = page.get("/api/status")
    assert (status["training"]["result"], status["model"]) == ("the training was killed", "ready")


def test_a_model_that_knows_classes_gives_them_to_its_instances(start, folder, load, monkeypatch):
    class Classified(Predictions):
        def read(self, name, shape):
            found = super().read(name, shape)
            return found if found is None else replace(found, classes=("round", "long")[: len(found.scores)])

    monkeypatch.setattr(sys.modules[load.__module__], "Predictions", Classified)
    page = start()
    page.wait(lambda: page.get("/api/images/0")["objects"] == 2)
    assert page.get("/api/folder")["classes"] == [{"id": 1, "name": "long"}, {"id": 2, "name": "round"}]
    assert page.get("/api/images/0/objects")["classes"] == [2, 1]
    page.act("accept")
    page.wait(lambda: (folder / "classes.csv").exists())
    assert (folder / "classes.csv").read_text().split() == ["image,label,class", "a,1,round", "a,2,long"]


def test_a_folder_is_one_sitting_s(page, folder, load):
    with pytest.raises(InstsegError, match="another process"):
        Sitting(folder, "shapes", load=load)


def test_a_model_of_volumes_is_refused_before_the_folder_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(model_loading, "read_settings", lambda model: (model, {"model": {"ndim": 3}}))
    with pytest.raises(UsageError, match="shapes is a model of volumes, and images are labelled; give a model of"):
        Sitting(tmp_path, "shapes")
    assert list(tmp_path.iterdir()) == []
