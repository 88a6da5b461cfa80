import threading

import numpy as np
import pytest
from scipy import ndimage

from instseg.clustering.embeddings import Embeddings
from instseg.errors import UsageError
from instseg.labelling.document import Document
from instseg.labelling.image_state import RING
from instseg.labelling.journal import Journal, StorageError
from instseg.tiling.grid import Box

SHAPE = (40, 60)
TRUTH = np.zeros(SHAPE, np.int32)
TRUTH[2:12, 2:14] = 1
TRUTH[2:12, 14:26] = 2
TRUTH[20:34, 5:25] = 3
TRUTH[20:34, 30:50] = 4


def embeddings(box):
    """What a perfect network says."""
    truth = TRUTH[box.top : box.bottom, box.left : box.right]
    values = np.stack([truth * 3, truth % 2 * 3], axis=2).astype(np.float32)
    return (
        Embeddings(
            embeddings=values,
            foreground=np.where(truth > 0, 0.4, 0.01).astype(np.float32),
            bandwidth=np.ones(truth.shape, np.float32),
        ),
        box,
    )


def document(**arguments):
    return Document(SHAPE, embeddings=embeddings, **arguments)


def act(page, kind, **content):
    return page.act({"kind": kind, **content})


def test_click_adds_an_object():
    page = document()
    outcome = act(page, "add", inside=[[5.5, 5.5]])
    assert np.array_equal(page.read(), TRUTH == 1)
    assert outcome.to_dict() == {
        **{"version": 1, "boxes": [[0, 0, 40, 60]], "selected": 1, "objects": 1, "confirmed": 1, "state": "partly"},
        **{"undo": 1, "redo": 0, "message": None},
    }
    assert act(page, "add", inside=[[25.0, 35.0]]).boxes == (Box(20 - RING, 30 - RING, 34 + RING, 50 + RING),)


def test_add_takes_nothing_from_others():
    page = document()
    painted = act(page, "paint", line=[[5.5, 8.5]], radius=2, id=None).selected
    before = page.read()
    assert act(page, "add", inside=[[5.5, 8.5]]).message.startswith("there is an object at this place already")
    act(page, "add", inside=[[3.5, 3.5]])
    assert ((page.read() == painted) == (before == painted)).all()
    assert ((page.read() > 0) == (TRUTH == 1)).all()


def test_the_rim_of_an_object_is_added_only_where_it_is_meant():
    page = document()
    act(page, "polygon", points=[[21, 6], [21, 24], [33, 24], [33, 6]], id=None)
    refused = act(page, "add", inside=[[20.5, 15.5]])
    assert "the edge of object 1" in refused.message
    assert refused.objects == 1
    assert act(page, "add", inside=[[20.5, 15.5]], anyway=True).objects == 2


def test_adding_again_is_one_step_with_the_first():
    page = document()
    first = act(page, "add", inside=[[5.5, 5.5]]).selected
    second = act(page, "add", inside=[[5.5, 5.5], [5.5, 20.5]], replace=first)
    assert second.selected == first
    assert second.undo == 1
    assert ((page.read() == first) == np.isin(TRUTH, [1, 2])).all()
    third = act(page, "add", inside=[[5.5, 5.5]], outside=[[5.5, 20.5]], replace=first)
    assert ((page.read() == first) == (TRUTH == 1)).all()
    assert third.undo == 1
    assert act(page, "undo").objects == 0
    act(page, "redo")
    assert ((page.read() == first) == (TRUTH == 1)).all()


def test_adding_again_without_effect_keeps_the_object():
    page = document()
    first = act(page, "add", inside=[[5.5, 5.5]]).selected
    before = page.read()
    assert act(page, "add", inside=[[-5.0, 5.5]], replace=first).message == "the click is outside of the image"
    assert np.array_equal(page.read(), before)


def test_replacing_another_object_is_a_step_of_its_own():
    page = document(labels=np.where(TRUTH == 1, 7, 0), accepted=True)
    outcome = act(page, "add", inside=[[5.5, 5.5], [5.5, 20.5]], replace=7)
    assert (outcome.selected, outcome.undo) == (7, 1)
    assert ((page.read() == 7) == np.isin(TRUTH, [1, 2])).all()
    act(page, "undo")
    assert ((page.read() == 7) == (TRUTH == 1)).all()


def test_objects_deleted_by_a_line_or_by_number_are_one_step():
    page = document(labels=TRUTH)
    outcome = act(page, "delete", line=[[5.5, 5.5], [5.5, 20.5]])
    assert (outcome.objects, outcome.undo) == (2, 1)
    assert np.array_equal(page.read(), np.where(TRUTH < 3, 0, TRUTH))
    assert act(page, "delete", ids=[1, 3, 4]).objects == 0
    act(page, "undo")
    act(page, "undo")
    assert np.array_equal(page.read(), TRUTH)


def test_without_embeddings_add_says_so_and_split_goes_by_the_line():
    page = Document(SHAPE, labels=TRUTH, embeddings=lambda box: None)
    act(page, "delete", point=[5.5, 5.5])
    assert "not looked at this place yet" in act(page, "add", inside=[[5.5, 5.5]]).message
    assert act(page, "split", line=[[19.0, 15.5], [35.0, 15.5]]).objects == 4


def test_objects_larger_than_the_window_are_found_whole():
    shape = (300, 700)

    def one_object(box):
        ones = np.ones(box.shape, np.float32)
        return Embeddings(embeddings=np.zeros((*box.shape, 2), np.float32), foreground=ones, bandwidth=ones), box

    page = Document(shape, embeddings=one_object)
    act(page, "add", inside=[[150, 350]])
    assert (page.read() == 1).all()


def test_split_and_join_are_inverse():
    page = document(labels=np.isin(TRUTH, [1, 2]).astype(np.int32), classes={1: 3})
    outcome = act(page, "split", line=[[1.0, 15.5], [13.0, 15.5]])
    labels = page.read()
    assert (labels[2:12, 2:14] == labels[5, 5]).all()
    assert (labels[2:12, 14:26] == labels[5, 20]).all()
    assert labels[5, 5] != labels[5, 20]
    assert page.objects().classes.tolist() == [3, 3]
    assert outcome.objects == 2
    act(page, "join", line=[[5.5, 5.5], [5.5, 20.5]])
    assert ((page.read() > 0) == np.isin(TRUTH, [1, 2])).all()
    assert page.outcome().objects == 1


def test_touched_instances_are_confirmed():
    page = document()
    page.set_prediction(TRUTH)
    assert page.outcome().confirmed == 0
    assert page.state == "new"
    assert page.predicted
    act(page, "erase", line=[[3.0, 3.0]], radius=1, id=None)
    act(page, "class", point=[25.0, 10.0], **{"class": 2})
    act(page, "confirm", point=[25.0, 35.0])
    objects = page.objects()
    assert objects.ids.tolist() == [1, 2, 3, 4]
    assert objects.confirmed.tolist() == [True, False, True, True]
    assert objects.classes.tolist() == [0, 0, 2, 0]
    assert objects.boxes[1].tolist() == [2, 14, 12, 26]


def test_what_is_known_of_a_partly_labelled_image():
    page = document()
    page.set_prediction(TRUTH)
    assert not page.known().any()
    act(page, "confirm", point=[5.5, 5.5])
    expected = np.zeros(SHAPE, bool)
    expected[: 12 + RING, : 14 + RING] = True
    # The neighbour is not confirmed.
    expected[TRUTH == 2] = False
    assert np.array_equal(page.known(), expected)
    assert np.array_equal(page.known(Box(10, 12, 20, 20)), expected[10:20, 12:20])
    labels = page.read(mark_unknown=True)
    assert np.array_equal(labels == -1, ~expected & (TRUTH == 0))
    assert np.array_equal(page.confirmed_in() > 0, TRUTH == 1)


@pytest.mark.parametrize("step", [2, 4])
def test_labels_can_be_read_in_steps(step):
    page = document()
    page.set_prediction(TRUTH)
    act(page, "confirm", point=[25.0, 10.0])
    act(page, "accept_box", box=[0, 30, 9, 47])
    box = Box(3, 1, 39, 58)
    whole, coarse = page.read(box, mark_unknown=True)[::step, ::step], page.read(box, mark_unknown=True, step=step)
    assert coarse.shape == whole.shape
    assert np.array_equal(np.maximum(coarse, 0), np.maximum(whole, 0))
    # Rings are as wide as steps allow, so that nothing known is lost.
    assert not ((coarse == -1) & (whole == 0)).any()
    assert ((coarse == -1) & (whole == -1)).sum() > 0.8 * (whole == -1).sum()
    beside = page.read(Box(0, 30, 9, 47), mark_unknown=True, step=step)
    assert (beside == 0).all()


def test_accepting_a_box_confirms_what_lies_mainly_in_it():
    page = document()
    page.set_prediction(TRUTH)
    act(page, "accept_box", box=[0, 0, 40, 24])
    assert page.objects().confirmed.tolist() == [True, True, True, False]
    assert page.known(Box(0, 0, 40, 24)).all()
    assert page.state == "partly"
    act(page, "undo")
    assert page.state == "new"
    assert not page.known().any()


def test_accept_and_reopen():
    page = document()
    page.set_prediction(TRUTH)
    assert act(page, "accept").state == "accepted"
    assert page.outcome().confirmed == 4
    assert page.known().all()
    act(page, "delete", point=[5.5, 5.5])
    assert page.state == "accepted"
    assert act(page, "reopen").state == "partly"
    assert act(page, "undo").state == "accepted"


def test_predictions_replace_what_nobody_has_confirmed():
    page = document()
    page.set_prediction(np.where(TRUTH == 4, 0, TRUTH))
    act(page, "confirm", point=[5.5, 5.5])
    outcome = page.set_prediction(TRUTH)
    labels = page.read()
    assert outcome.objects == 4
    # The one that is there already is left out, the others are new.
    assert np.array_equal(labels == 1, TRUTH == 1)
    assert sorted(np.unique(labels).tolist()) == [0, 1, 4, 5, 6]
    assert np.array_equal(labels > 0, TRUTH > 0)
    assert "new model" in act(page, "undo").message
    assert page.outcome().objects == 3


def test_predictions_leave_accepted_boxes_and_images_alone():
    page = document()
    act(page, "accept_box", box=[0, 0, 15, 60])
    page.set_prediction(TRUTH)
    assert np.array_equal(page.read() > 0, TRUTH > 2)
    act(page, "accept")
    outcome = page.set_prediction(np.zeros(SHAPE, np.int32))
    assert outcome.objects == 2
    assert "accepted" in outcome.message


def test_the_first_prediction_cannot_be_undone():
    page = document()
    page.set_prediction(TRUTH)
    assert act(page, "undo").message == "there is nothing to undo"
    page.set_prediction(np.where(TRUTH == 1, 1, 0))
    act(page, "confirm", point=[5.5, 5.5])
    act(page, "undo")
    assert act(page, "undo").message == "there is nothing to undo"
    assert page.outcome().objects == 1


RANDOM_KINDS = ("add", "delete", "join", "split", "paint", "erase", "polygon", "fill_holes", "class", "confirm")


def random_action(rng, ids):
    kind = rng.choice([*RANDOM_KINDS, "accept_box", "accept", "reopen", "undo", "redo", "undo", "redo", "replace"])

    def points(count):
        return (rng.random((count, 2)) * SHAPE).tolist()

    known = None if not ids or rng.random() < 0.5 else int(rng.choice(ids))
    if kind == "replace":
        return {"kind": "add", "inside": points(2), "replace": known}
    return {
        **{"kind": str(kind), "inside": points(1), "point": points(1)[0], "line": points(2), "points": points(4)},
        **{"radius": 3, "id": known, "class": int(rng.integers(3)), "box": [5, 5, 20, 30]},
    }


def check_tables(page):
    labels, objects = page.read(), page.objects()
    assert objects.ids.tolist() == [number for number in np.unique(labels).tolist() if number]
    windows = ndimage.find_objects(labels)
    for number, box in zip(objects.ids, objects.boxes, strict=True):
        rows, columns = windows[number - 1]
        assert box.tolist() == [rows.start, columns.start, rows.stop, columns.stop]
    outcome = page.outcome()
    assert (outcome.objects, outcome.confirmed) == (len(objects.ids), objects.confirmed.sum())


def contents(page):
    return page.read().tolist(), [values.tolist() for values in page.objects()], page.state, page.known().tolist()


@pytest.mark.parametrize("seed", range(4))
def test_any_actions_can_be_undone_redone_and_replayed(seed, tmp_path):
    rng = np.random.default_rng(seed)
    path = tmp_path / "journal" / "a.jsonl"
    page = document(journal=Journal(path, SHAPE), labels=TRUTH, classes={2: 1})
    for _ in range(60):
        if rng.random() < 0.1:
            page.set_prediction(np.roll(TRUTH, rng.integers(9), axis=0))
        else:
            page.act(random_action(rng, page.objects().ids.tolist()))
        check_tables(page)
    replayed = Document(SHAPE, journal=Journal(path, SHAPE))
    assert replayed.outcome() == page.outcome()
    assert contents(replayed) == contents(page)
    latest, steps = contents(page), page.outcome().undo
    while act(replayed, "undo").message != "there is nothing to undo":
        check_tables(replayed)
    assert replayed.outcome().redo == page.outcome().redo + steps
    assert np.array_equal(replayed.read(), TRUTH)
    for _ in range(steps):
        act(replayed, "redo")
    assert contents(replayed) == latest


def test_labels_are_never_used_twice(tmp_path):
    path = tmp_path / "a.jsonl"
    page = document(journal=Journal(path, SHAPE))
    first = act(page, "add", inside=[[5.5, 5.5]]).selected
    act(page, "delete", point=[5.5, 5.5])
    replayed = Document(SHAPE, embeddings=embeddings, journal=Journal(path, SHAPE))
    assert act(replayed, "add", inside=[[25.0, 35.0]]).selected == first + 1


def test_what_cannot_be_stored_changes_nothing(tmp_path, monkeypatch):
    page = document(journal=Journal(tmp_path / "a.jsonl", SHAPE))
    first = act(page, "add", inside=[[5.5, 5.5]]).selected
    before, outcome = contents(page), page.outcome()

    def no_space(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("instseg.labelling.journal.os.pwrite", no_space)
        for action in (
            {"kind": "delete", "point": [5.5, 5.5]},
            {"kind": "undo"},
            {"kind": "accept"},
            {"kind": "add", "inside": [[5.5, 5.5], [5.5, 20.5]], "replace": first},
        ):
            with pytest.raises(StorageError, match="No space left"):
                page.act(action)
        with pytest.raises(StorageError):
            page.set_prediction(TRUTH)
    assert contents(page) == before
    assert page.outcome() == outcome
    act(page, "delete", point=[5.5, 5.5])
    assert Document(SHAPE, journal=Journal(tmp_path / "a.jsonl", SHAPE)).outcome() == page.outcome()


def test_what_is_stored_but_not_made_yet_does_not_count(tmp_path):
    page = document(journal=Journal(tmp_path / "a.jsonl", SHAPE))
    sizes = [page.journal_size]
    append = page.journal.append

    def look(*arguments, **options):
        place = append(*arguments, **options)
        sizes.append(page.journal_size)
        return place

    page.journal.append = look
    act(page, "add", inside=[[5.5, 5.5]])
    assert sizes == [0, 0]
    assert page.journal_size == page.journal.size == (tmp_path / "a.jsonl").stat().st_size


def test_readers_see_whole_versions_while_actions_go_on():
    page = document(labels=TRUTH)
    halves, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            labels = page.read(Box(2, 2, 12, 14))
            halves.append(len(np.unique(labels)) == 1)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(100):
        act(page, "delete", point=[5.5, 5.5])
        act(page, "undo")
    stop.set()
    reader.join()
    assert halves
    assert all(halves)


def test_changes_are_told():
    page, told = document(), []
    page.on_change = lambda: told.append(page.version)
    act(page, "add", inside=[[5.5, 5.5]])
    act(page, "delete", point=[39.0, 59.0])
    page.set_prediction(TRUTH)
    page.load_labels(TRUTH, {1: 2}, accepted=True)
    assert told == [1, 2, 3]


def test_labels_of_other_origin_are_a_step():
    page = document()
    act(page, "add", inside=[[5.5, 5.5]])
    act(page, "accept_box", box=[0, 0, 5, 5])
    before = contents(page)
    page.load_labels(TRUTH, {3: 2}, accepted=True)
    assert np.array_equal(page.read(), TRUTH)
    assert page.objects().classes.tolist() == [0, 0, 2, 0]
    assert page.state == "accepted"
    act(page, "undo")
    assert contents(page) == before


@pytest.mark.parametrize("labels", [np.zeros((3, 3), np.int32), np.zeros(SHAPE), np.full(SHAPE, -1)])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(UsageError, match="labels"):
        document(labels=labels)
    with pytest.raises(UsageError, match="labels"):
        document().set_prediction(labels)
