"""Evaluation of a model or of folders as a function: results, files, and what is refused."""

import csv
import json
import shutil

import numpy as np
import pytest
import zarr

import instseg
from instseg.data.discs import draw_discs
from instseg.data.generate import generate_discs
from instseg.errors import InstsegError, UsageError
from instseg.evaluation.cases import match_predictions
from instseg.evaluation.run import evaluate
from instseg.io.images import read_image, write_picture
from instseg.io.label_images import read_labels, write_labels
from instseg.io.zarr_labels import write_zarr_labels
from instseg.labels.regions import connected_components
from instseg.settings import DiscSettings

TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3]])
# IoU 3/4 with 1, 1 with 2, nothing of 3, and one that is nowhere.
PREDICTED = np.array([[7, 7, 7, 0, 0, 5, 5, 9, 0]])


@pytest.fixture
def folders(tmp_path):
    """Two label images and predictions: the first all right, the second as in PREDICTED."""
    pred, true = tmp_path / "pred", tmp_path / "true"
    for folder, second in ((pred, PREDICTED), (true, TRUTH)):
        folder.mkdir()
        write_labels(folder / "a.png", TRUTH)
        write_labels(folder / "b.png", second)
    return pred, true


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate_discs(folder, count=3, seed=3, settings=DiscSettings(size=64, min_discs=2, max_discs=3))
    return folder


def test_folders_are_compared(folders, tmp_path):
    pred, true = folders
    calls = []
    evaluation = evaluate(
        pred=str(pred),
        labels=true,
        csv=str(tmp_path / "rows.csv"),
        picture=tmp_path / "worst.png",
        progress=lambda *call: calls.append(call[:2]),
    )
    assert [(image.name, image.truth, image.predicted) for image in evaluation.images] == [("a", 3, 3), ("b", 3, 3)]
    assert evaluation.errors == {"false_negatives": 1, "false_positives": 1, "splits": 0, "merges": 0}
    assert calls == [(1, 2), (2, 2)]
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["missed"], row["false_alarms"]) for row in rows] == [("a", "0", "0"), ("b", "1", "1")]
    assert rows[1]["matched_iou"] == str(round((3 / 4 + 1) / 2, 6))
    assert (tmp_path / "worst.png").exists()


def test_the_picture_shows_so_many_of_the_worst(folders, tmp_path):
    for folder in folders:
        for index, name in enumerate("ab"):
            write_labels(folder / f"{name}.png", draw_discs(np.random.default_rng(index))[1])
    heights = []
    for worst in (1, 2):
        evaluate(pred=folders[0], labels=folders[1], picture=tmp_path / "worst.png", worst=worst)
        heights.append(read_image(tmp_path / "worst.png").shape[0])
    assert 512 < heights[0] < 2 * 512 < heights[1]


def test_small_instances_do_not_count(folders):
    evaluation = evaluate(pred=folders[0], labels=folders[1], min_truth_size=2)
    assert [image.truth for image in evaluation.images] == [2, 2]


def test_an_opened_model_a_path_and_its_predictions_give_the_same(tiny_model, data, tmp_path):
    opened = instseg.load(tiny_model)
    of_model = evaluate(opened, data=data)
    assert evaluate(str(tiny_model), data=str(data)).to_dict() == of_model.to_dict()
    for path in sorted((data / "images").iterdir()):
        write_labels(tmp_path / path.name, opened.predict(read_image(path)))
    of_folders = evaluate(pred=tmp_path, labels=data / "labels").to_dict()
    assert of_folders == of_model.to_dict() | {"score_auroc": None, "score_ece": None, "score_reliability": []}
    assert all(image.confidence is not None for image in of_model.images)
    # Settings of the clustering and of the tiles are taken.
    assert evaluate(opened, data=data, min_size=4000).pooled.tp[0] == 0
    assert len(evaluate(opened, data=data, tile=48, overlap=8).images) == 3


def test_zarr_is_compared_as_files_of_other_kinds_are(tiny_model, data, tmp_path):
    opened, folder = instseg.load(tiny_model), tmp_path / "data"
    for name in ("images", "labels", "pred"):
        (folder / name).mkdir(parents=True)
    for path in sorted((data / "images").iterdir()):
        image, labels = read_image(path), read_labels(data / "labels" / path.name)
        zarr.save_array(folder / f"images/{path.stem}.zarr", image[..., 0])
        write_zarr_labels(folder / f"labels/{path.stem}.zarr", labels.shape, iter([labels]))
        found = opened.predict(image)
        write_zarr_labels(folder / f"pred/{path.stem}.zarr", found.shape, iter([found]))
    of_model = evaluate(opened, data=data).to_dict()
    assert evaluate(opened, data=folder).to_dict() == of_model
    arguments = {"images": folder / "images", "picture": tmp_path / "worst.png"}
    of_folders = evaluate(pred=folder / "pred", labels=folder / "labels", **arguments).to_dict()
    assert of_folders == evaluate(pred=folder / "pred", labels=data / "labels").to_dict()
    assert of_folders["images"] == of_model["images"]


def test_an_image_that_cannot_be_segmented_is_named(tiny_model, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    image = (read_image(folder / "images/0001.png")[..., 0] >> 8).astype(np.uint8)
    write_picture(folder / "images/0001.png", np.stack([image, image // 2, image], axis=-1))
    calls = []
    with pytest.raises(InstsegError, match=r"images/0001.png: the image has 3 channels, the model takes 1") as caught:
        evaluate(tiny_model, data=folder, progress=lambda *call: calls.append(call))
    assert len(calls) == 1
    assert "choose some by `channels`" in str(caught.value)
    # Errors of reading name the file themselves.
    (folder / "images/0001.png").write_text("no image")
    with pytest.raises(InstsegError) as caught:
        evaluate(tiny_model, data=folder)
    assert str(caught.value).count("0001.png") == 1


def test_a_parameter_that_an_image_refuses_is_named_after_its_file(tiny_model, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    with pytest.raises(InstsegError, match=r"images/0000.png: .*`channels='4'` takes channel 4"):
        evaluate(tiny_model, data=folder, channels="4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "got nothing, expected either `model=MODEL, data=DIR`, or `pred=DIR, labels=DIR`; give one of the two"),
        ({"pred": "pred"}, "got `pred`, expected"),
        ({"model": "model", "labels": "true"}, "got `model`, `labels`, expected"),
        ({"model": "m", "data": "d", "pred": "p", "labels": "l"}, "got `model`, `data`, `pred`, `labels`, expected"),
        ({"model": "m", "data": "d", "images": "i", "picture": "p.png"}, "`images` goes with `pred`; with `model`"),
        ({"pred": "p", "labels": "l", "images": "i"}, "`images` is what `picture` and `report` draw on"),
        ({"pred": "p", "labels": "l", "min_size": 3}, "`min_size` change how a model segments; give `model=MODEL"),
        ({"pred": "p", "labels": "l", "tile": 300}, "`tile` change how a model segments"),
        ({"pred": "p", "labels": "l", "tta": True, "diameter": 5.0}, "`tta` and `diameter` say how a model predicts"),
        ({"model": "m", "data": "d", "min_sizes": 3}, "there is no setting 'min_sizes'; did you mean min_size?"),
        ({"model": "m", "data": "d", "min_size": 0}, "min_size is 0, expected a number above 0"),
        ({"model": "m", "data": "d", "tile": 0}, "tile is 0, expected a number of pixels above 0"),
        ({"model": "m", "data": "d", "channels": "pink"}, "channels is 'pink', expected numbers"),
        ({"model": "m", "data": "d", "diameter": "large"}, "diameter is large, expected a number of pixels, or auto"),
        ({"pred": "p", "labels": "l", "worst": 0}, "worst is 0, expected 1 to 100 images"),
        ({"pred": "p", "labels": "l", "min_truth_size": -1}, "min_truth_size is -1, expected 0 or a number above 0"),
        ({"pred": "p", "labels": "l", "ignore_label": -1}, "ignore_label is -1, expected the number of a label, 0 or"),
    ],
)
def test_wrong_usage_names_parameters(arguments, message):
    with pytest.raises(UsageError) as caught:
        evaluate(**arguments)
    assert str(caught.value).startswith(message)


def test_how_a_model_is_opened_cannot_be_said_of_an_open_one(tiny_model, data):
    with pytest.raises(UsageError, match="`precision` and `threads` are for a model that is not opened yet"):
        evaluate(instseg.load(tiny_model), data=data, threads=2)


def test_what_is_wrong_is_told_before_the_model_is_opened(tiny_model, data, tmp_path, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("the model is opened")

    monkeypatch.setattr("instseg.evaluation.run.load", never)
    for arguments, message in (
        ({"data": tmp_path / "none"}, "there is no such folder"),
        ({"data": data, "csv": tmp_path / "rows.txt"}, "expected a name that ends in .csv"),
        ({"data": data, "picture": tmp_path / "no/p.png"}, "does not exist; create it first"),
        ({"data": data, "diameter": 1e9}, "diameter is 1000000000.0, expected"),
    ):
        with pytest.raises(InstsegError, match=message):
            evaluate(tiny_model, **arguments)
    with pytest.raises(InstsegError, match="there is no model"):
        evaluate(tmp_path / "no/model", data=data)


def test_predictions_are_matched_by_name(folders):
    pred, true = (sorted(folder.iterdir()) for folder in folders)
    assert [files.name for files in match_predictions(pred, true)] == ["a", "b"]
    assert match_predictions(pred, true)[0].predicted == pred[0]
    with pytest.raises(InstsegError, match="1 labels have no prediction .b.: predict these images, too"):
        match_predictions(pred[:1], true)
    with pytest.raises(InstsegError, match="1 predictions share a name .a.png.; keep one file of each name"):
        match_predictions([*pred, pred[0].with_suffix(".tif")], true)


def write(folder, **images):
    folder.mkdir(exist_ok=True)
    for name, labels in images.items():
        write_labels(folder / f"{name}.png", np.asarray(labels, np.int32))
    return folder


def test_ignored_pixels_do_not_count(tmp_path):
    true = write(tmp_path / "true", a=[[1, 1, 1, 1, 0, 255, 255, 255, 0]], b=[[255] * 9], c=[[0] * 9])
    pred = write(tmp_path / "pred", a=[[7, 7, 7, 7, 7, 7, 3, 3, 0]], b=[[1] * 9], c=[[0] * 9])
    evaluation = evaluate(pred=pred, labels=true, ignore_label=255, picture=tmp_path / "worst.png")
    assert [(one.name, one.truth, one.predicted, one.scores.ap[0]) for one in evaluation.images] == [
        ("a", 1, 1, 1),
        ("c", 0, 0, 1),
    ]
    assert evaluation.images[0].scores.iou_sum[0] == 4 / 5
    assert evaluation.notes == ("1 image is ignored (b) as a whole, and not in the figures",)
    # In the prediction, 255 is the number of an instance.
    write(pred, a=[[255, 255, 255, 255, 0, 0, 3, 3, 0]])
    assert evaluate(pred=pred, labels=true, ignore_label=255).images[0].scores.iou_sum[0] == 1
    for name in "ac":
        (true / f"{name}.png").unlink()
        (pred / f"{name}.png").unlink()
    with pytest.raises(InstsegError, match="all pixels of the labels have the value 255 of `ignore_label`"):
        evaluate(pred=pred, labels=true, ignore_label=255)


def test_a_value_that_no_label_has_is_told(folders):
    evaluation = evaluate(pred=folders[0], labels=folders[1], ignore_label=254)
    assert evaluation.notes == ("no label has the value 254 of `ignore_label`: nothing is ignored",)
    assert evaluate(pred=folders[0], labels=folders[1]).notes == ()


def test_a_model_is_not_judged_where_pixels_are_ignored(tiny_model, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    for path in (folder / "labels").iterdir():
        labels = read_labels(path)
        labels[:, :32] = 200
        write_labels(path, labels)
    model = instseg.load(tiny_model)
    evaluation = evaluate(model, data=folder, ignore_label=200)
    for image, path in zip(evaluation.images, sorted((folder / "images").iterdir()), strict=True):
        predicted = model.predict(read_image(path))
        mostly_right = [
            2 * (predicted[:, :32] == one).sum() <= (predicted == one).sum() for one in np.unique(predicted)[1:]
        ]
        assert image.predicted == sum(mostly_right)
        assert len(image.confidence) == sum(mostly_right)


def test_without_a_true_instance_nothing_is_claimed(tmp_path):
    nothing, something = np.zeros((4, 4), np.int32), np.eye(4, dtype=np.int32)
    true = write(tmp_path / "true", a=nothing, b=nothing)
    evaluation = evaluate(pred=write(tmp_path / "pred", a=nothing, b=nothing), labels=true)
    figures = evaluation.to_dict()
    assert figures["pooled"]["mean_ap"] is None
    assert figures["pooled"]["pq"] == [None] * 10
    (note,) = evaluation.notes
    assert note.startswith("there is no true instance: mean AP over the images is the share of images in which nothing")
    evaluation = evaluate(pred=write(tmp_path / "pred", a=something), labels=true)
    assert (evaluation.per_image.mean_ap, evaluation.pooled.mean_ap, len(evaluation.notes)) == (0.5, 0, 1)


def test_masks_are_taken_apart_on_both_sides(tmp_path):
    mask = np.zeros((8, 8), np.int32)
    mask[1:3, 1:3] = mask[5:7, 5:7] = 255
    true, pred = write(tmp_path / "true", a=mask, b=mask), write(tmp_path / "pred", a=mask, b=mask // 255)
    evaluation = evaluate(pred=pred, labels=true, connected_components=True)
    assert (evaluation.pooled.mean_ap, evaluation.pooled.tp[0], evaluation.notes) == (1, 4, ())
    write(true, a=connected_components(mask), b=connected_components(mask))
    evaluation = evaluate(pred=pred, labels=true)
    assert [image.predicted for image in evaluation.images] == [1, 1]
    (note,) = evaluation.notes
    assert note.startswith("2 predictions look like masks (a, b), each is taken as one instance; give `connected_")
    # One piece is one instance, and other values are numbers.
    write(pred, a=np.where(np.arange(8) < 4, mask, 0), b=np.where(mask > 0, 7, 0))
    assert evaluate(pred=pred, labels=true).notes == ()


def test_all_files_that_cannot_be_read_are_named_at_once(folders):
    pred, true = folders
    for folder in folders:
        write_labels(folder / "c.png", TRUTH)
        write_labels(folder / "d.png", TRUTH)
    (pred / "a.png").write_bytes(b"no image")
    (true / "c.png").write_bytes((true / "c.png").read_bytes()[:50])
    write_labels(pred / "d.png", TRUTH[:, :4])
    calls = []
    with pytest.raises(InstsegError) as caught:
        evaluate(pred=pred, labels=true, progress=lambda *call: calls.append(call))
    message = str(caught.value)
    assert message.startswith("3 of 4 images cannot be compared: ")
    for part in (f"{pred / 'a.png'}", f"{true / 'c.png'}", "the prediction of d is 1 x 4 pixels", "; "):
        assert part in message
    assert calls == []
    for name in "abcdefghijkl":
        for folder in folders:
            (folder / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(InstsegError, match=r"12 of 12 images cannot be compared: .*; and 2 more$"):
        evaluate(pred=pred, labels=true)


def test_a_model_is_not_run_on_what_remains_once_a_file_is_damaged(tiny_model, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / "labels/0000.png").write_bytes(b"no image")
    (folder / "images/0002.png").write_bytes(b"no image")
    calls = []
    with pytest.raises(InstsegError) as caught:
        evaluate(tiny_model, data=folder, progress=lambda *call: calls.append(call))
    message = str(caught.value)
    assert message.startswith(f"2 of 3 images cannot be compared: cannot read {folder / 'labels/0000.png'}: ")
    assert f"; cannot read {folder / 'images/0002.png'}: " in message
    assert calls == []


def test_names_of_other_spellings_and_bytes_are_matched_and_written(tmp_path):
    composed, apart = "Zelle ü", "Zelle u\u0308"
    true, pred = tmp_path / "true", tmp_path / "pred"
    for folder, name in ((true, composed), (pred, apart)):
        write(folder, a=TRUTH)
        (folder / "a.png").rename(folder / f"{name}.png")
        # What Python makes of a byte that is no UTF-8.
        write(folder, a=TRUTH)
        (folder / "a.png").rename(folder / "b\udcff.png")
    evaluation = evaluate(pred=pred, labels=true, csv=tmp_path / "rows.csv", picture=tmp_path / "worst.png")
    assert [image.name for image in evaluation.images] == [composed, "b\udcff"]
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [composed, r"b\udcff"]


def test_a_label_that_the_training_ignored_is_told(tiny_model, data, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model", symlinks=True)
    settings = model / "current" / "instseg.json"
    stored = json.loads(settings.read_text())
    stored["data"]["ignore_label"] = 1
    settings.write_text(json.dumps(stored))
    (note,) = evaluate(model, data=data).notes
    assert note.startswith("the training of the model ignored the label 1, and here it is taken for an instance; give")
    assert evaluate(model, data=data, ignore_label=1).notes == ()
