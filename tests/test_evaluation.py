"""Figures of folders: by hand, and what the command makes of them."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from instseg.cli import app
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError
from instseg.evaluation import Evaluation, compare, counted
from instseg.images import read_image, read_labels, write_labels, write_picture
from instseg.instances import Instances

TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3]])
# IoU 3/4 with 1, 1 with 2, nothing of 3, and one that is nowhere.
PREDICTED = np.array([[7, 7, 7, 0, 0, 5, 5, 9, 0]])


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)], catch_exceptions=False)


def refused(result, code=1):
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr.strip().removeprefix("instseg: ")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folders():
    """Two label images and predictions: the first all right, the second as in PREDICTED."""
    pred, true = Path("pred"), Path("true")
    for folder, second in ((pred, PREDICTED), (true, TRUTH)):
        folder.mkdir()
        write_labels(folder / "a.png", TRUTH)
        write_labels(folder / "b.png", second)
    return pred, true


def test_an_image_by_hand():
    result = compare("a", TRUTH, PREDICTED)
    assert (result.truth, result.predicted) == (3, 3)
    # Two of four up to 0.75, one of five above.
    assert result.scores.ap.tolist() == [0.5] * 6 + [0.2] * 4
    assert result.scores.mean_ap == pytest.approx((6 * 0.5 + 3 * 0.2) / 9)
    assert result.scores.pq[0] == pytest.approx((0.75 + 1) / (2 + 0.5 + 0.5))
    assert result.mistakes == {"missed": 1, "false_alarms": 1, "splits": 0, "merges": 0}
    assert result.row()["ap75"] == 0.5
    assert result.row()["ap80"] == 0.2


def test_pooled_and_averaged_are_different_things():
    evaluation = Evaluation(images=(compare("a", TRUTH, PREDICTED), compare("b", TRUTH[:, 5:7], TRUTH[:, 5:7])))
    assert evaluation.per_image.ap[0] == pytest.approx((0.5 + 1) / 2)
    assert evaluation.pooled.ap[0] == pytest.approx(3 / 5)
    assert evaluation.count_error == {"bias": 0.0, "absolute": 0.0}
    assert [image.name for image in evaluation.worst(5)] == ["a", "b"]


def test_scores_are_ranked_by_hand():
    found = [compare("a", TRUTH, PREDICTED, found=confident([0.9, 0.7, 0.8]))]
    # Of 5, 7 and 9 only the last is wrong: 0.8, between the two that are right.
    assert Evaluation(images=tuple(found)).auroc == 0.5
    found.append(compare("b", TRUTH, TRUTH, found=confident([0.9, 0.9, 0.9])))
    assert Evaluation(images=tuple(found)).auroc == 4 / 5
    assert Evaluation(images=tuple(found[1:])).auroc is None
    assert Evaluation(images=(compare("a", TRUTH, PREDICTED),)).auroc is None
    small = compare("a", TRUTH, PREDICTED, min_truth_size=3, found=confident([0.9, 0.7, 0.8]))
    assert small.confidence.tolist() == [0.7, 0.8]
    assert small.right.tolist() == [True, False]


def confident(scores):
    ids = np.array([1, 2, 3]) if len(set(scores)) == 1 else np.array([5, 7, 9])
    places = {name: np.zeros(3, int) for name in ("area", "row", "column", "top", "left", "bottom", "right")}
    return Instances(id=ids, score=np.array(scores), **places)


def test_classes_are_scored_alone_by_hand():
    # Label 1 is x and found as x, 2 is x and found as y, 3 is y and missed; the false alarm is an x.
    probabilities = np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4]])
    plain = confident([0.9, 0.7, 0.8])
    found = dataclasses.replace(plain, class_names=("x", "y"), class_probabilities=probabilities)
    result = compare("a", TRUTH, PREDICTED, found=found, classes={1: "x", 2: "x", 3: "y"})
    x, y = result.of_classes["x"], result.of_classes["y"]
    assert [int(value[0]) for value in (x.tp, x.fp, x.fn)] == [1, 1, 1]
    assert [int(value[0]) for value in (y.tp, y.fp, y.fn)] == [0, 1, 1]
    both = Evaluation(images=(result, result))
    assert int(both.of_classes["x"].tp[0]) == 2
    assert both.to_dict()["classes"]["x"]["truth"] == 4
    assert both.to_dict()["classes"]["y"]["mean_ap"] == 0
    assert compare("a", TRUTH, PREDICTED, found=plain).of_classes == {}


def test_nothing_predicted_where_nothing_is_is_right_and_anything_else_wrong():
    nothing = np.zeros((2, 3), int)
    assert compare("a", nothing, nothing).scores.mean_ap == 1
    assert compare("a", nothing, nothing + 4).scores.mean_ap == 0
    assert compare("a", nothing + 4, nothing).scores.mean_ap == 0


def test_small_instances_do_not_count_and_neither_does_what_is_found_of_them():
    truth = np.array([[1, 1, 1, 0, 2, 0, 3, 0]])
    predicted = np.array([[5, 5, 5, 0, 6, 0, 0, 8]])
    result = compare("a", truth, predicted, min_truth_size=2)
    assert (result.truth, result.predicted) == (1, 2)
    assert result.mistakes == {"missed": 0, "false_alarms": 1, "splits": 0, "merges": 0}
    kept = counted(truth, predicted, 2)
    assert [labels.tolist() for labels in kept] == [[[1, 1, 1, 0, 0, 0, 0, 0]], [[5, 5, 5, 0, 0, 0, 0, 8]]]


def test_numbers_of_labels_do_not_matter():
    big = np.where(TRUTH > 0, TRUTH + 2**30, 0)
    one, other = compare("a", TRUTH, PREDICTED).row(), compare("a", big, PREDICTED).row()
    assert one == other


def test_sizes_that_differ_are_told():
    with pytest.raises(InstsegError, match="the prediction of a is 1 x 2 pixels and its labels are 1 x 9"):
        compare("a", TRUTH, PREDICTED[:, :2])


def test_folders_are_compared(folders):
    result = run("--pred", "pred", "--labels", "true", "--csv", "rows.csv", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert (found["images"], found["truth"], found["predicted"]) == (2, 6, 6)
    assert found["per_image"]["ap"][0] == pytest.approx(0.75)
    assert found["pooled"]["ap"][0] == pytest.approx(5 / 7)
    assert found["mistakes"] == {"missed": 1, "false_alarms": 1, "splits": 0, "merges": 0}
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["truth"], row["ap50"], row["missed"]) for row in rows] == [
        ("a", "3", "1.0", "0"),
        ("b", "3", "0.5", "1"),
    ]


def test_the_table_names_what_is_averaged_and_what_is_pooled(folders):
    result = run("--pred", "pred", "--labels", "true")
    assert result.exit_code == 0
    assert "Mean over 2 images: mean AP 0.7000" in result.stdout
    assert "Pooled over 6 instances: mean AP 0.6429" in result.stdout
    assert "1 missed, 1 false alarms, 0 splits, 0 merges, at IoU 0.5" in result.stdout
    assert result.stdout.splitlines()[-2].endswith(": b")


def test_a_picture_of_the_worst(folders):
    for side in folders:
        for index in range(2):
            write_labels(side / f"{'ab'[index]}.png", draw_discs(np.random.default_rng(index))[1])
    Path("images").mkdir()
    for index in range(2):
        write_picture(Path(f"images/{'ab'[index]}.png"), draw_discs(np.random.default_rng(index))[0])
    shutil.copy("true/a.png", "pred/b.png")
    arguments = ("--pred", "pred", "--labels", "true", "--images", "images", "--picture", "worst.png", "--worst", 2)
    assert run(*arguments).exit_code == 0
    assert read_image(Path("worst.png")).shape[0] > 2 * 512
    assert sorted(path.name for path in Path().iterdir()) == ["images", "pred", "true", "worst.png"]


def test_images_that_do_not_fit_are_told(folders):
    for side in folders:
        write_labels(side / "a.png", np.eye(8, dtype=np.int32))
    Path("images").mkdir()
    arguments = ("--pred", "pred", "--labels", "true", "--images", "images", "--picture", "worst.png")
    write_picture(Path("images/b.png"), np.zeros((8, 8), np.uint8))
    assert "images has no image for 1 of 2 label images (a)" in refused(run(*arguments))
    write_picture(Path("images/a.png"), np.zeros((4, 4), np.uint8))
    assert "images/a.png is 4 x 4 pixels and true/a.png is 8 x 8, expected equal sizes" in refused(run(*arguments))
    assert not Path("worst.png").exists()


def test_true_masks_are_taken_in_pieces(folders):
    for side in folders:
        (side / "b.png").unlink()
    mask = np.zeros((8, 8), np.int32)
    mask[1:3, 1:3] = mask[5:7, 5:7] = 255
    write_labels(Path("true/a.png"), mask)
    write_labels(Path("pred/a.png"), np.where(np.arange(8) < 4, 1, 2)[:, None] * (mask > 0))
    arguments = ("--pred", "pred", "--labels", "true", "--json")
    assert "--connected-components" in refused(run(*arguments))
    assert json.loads(run(*arguments, "--connected-components").stdout)["per_image"]["mean_ap"] == 1


def test_a_model_is_evaluated_on_a_data_folder(tiny_model, tiny_discs):
    for kind in ("images", "labels"):
        Path("data", kind).mkdir(parents=True)
    for index in range(2):
        image, labels = draw_discs(np.random.default_rng(index), tiny_discs)
        write_picture(Path(f"data/images/{index}.png"), image)
        write_labels(Path(f"data/labels/{index}.png"), labels)
    result = run(tiny_model, "--data", "data", "--json", "--picture", "worst.png")
    assert (result.exit_code, result.stderr) == (0, "")
    of_model = json.loads(result.stdout)
    auroc = of_model.pop("score_auroc")
    # None where everything is right.
    assert auroc is None or 0 <= auroc <= 1
    predicted = CliRunner().invoke(app, ["predict", str(tiny_model), "data/images", "--out-dir", "pred"])
    assert predicted.exit_code == 0
    assert json.loads(run("--pred", "pred", "--labels", "data/labels", "--json").stdout) == {
        **of_model,
        "score_auroc": None,
    }
    # Other settings of the clustering are taken.
    none = json.loads(run(tiny_model, "--data", "data", "--json", "--min-size", 4000).stdout)
    assert none["predicted"] == 0


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ((), "got nothing, expected either MODEL --data DIR, or --pred DIR --labels DIR"),
        (("--pred", "pred"), "got --pred, expected"),
        (("model", "--labels", "true"), "got MODEL, --labels, expected"),
        (("model", "--data", "true", "--pred", "pred", "--labels", "true"), "got MODEL, --data, --pred, --labels"),
        (("model", "--data", "data", "--images", "images", "--picture", "p.png"), "--images goes with --pred"),
        (("--pred", "pred", "--labels", "true", "--images", "images"), "--images is what --picture draws on"),
        (("--pred", "pred", "--labels", "true", "--min-size", 3), "--min-size change how a model segments"),
        (("--pred", "pred", "--labels", "true", "--tile", 300), "--tile change how a model segments"),
    ],
)
def test_wrong_usage(arguments, given):
    assert refused(run(*arguments), code=2).startswith(given)


def test_files_that_do_not_match_are_counted_and_a_few_shown(folders):
    pred, true = folders
    for name in "cdefg":
        shutil.copy(true / "a.png", true / f"{name}.png")
    shutil.copy(pred / "a.png", pred / "x.png")
    assert refused(run("--pred", "pred", "--labels", "true")) == (
        "cannot compare the folders: 5 labels have no prediction (c, d, e, ...): predict these images, too; "
        "1 predictions have no labels (x): add or remove them"
    )
    shutil.copy(pred / "a.png", pred / "a.tif")
    assert "predictions share a name" in refused(run("--pred", "pred", "--labels", "true"))


def test_what_cannot_be_read_or_written_is_told(folders):
    pred, true = folders
    both = ("--pred", "pred", "--labels", "true")
    assert "expected a name that ends in .csv" in refused(run(*both, "--csv", "rows.txt"))
    assert "expected a name that ends in .png" in refused(run(*both, "--picture", "worst.jpg"))
    assert "there is no file or folder none" in refused(run("--pred", "none", "--labels", "true"))
    assert "there is no model model" in refused(run("model", "--data", make_data()))
    write_labels(pred / "b.png", np.ones((4, 4), int))
    said = refused(run(*both))
    assert said.startswith("the prediction of b is 4 x 4 pixels and its labels are 1 x 9; expected equal sizes")
    assert read_labels(true / "b.png").shape == (1, 9)


def make_data():
    for kind in ("images", "labels"):
        Path("data", kind).mkdir(parents=True)
    image, labels = draw_discs(np.random.default_rng(0))
    write_picture(Path("data/images/0.png"), image)
    write_labels(Path("data/labels/0.png"), labels)
    return "data"
