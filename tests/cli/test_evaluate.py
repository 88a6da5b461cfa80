"""`instseg evaluate`: output, files and exit codes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from instseg.data.discs import draw_discs
from instseg.io.images import read_image, write_picture
from instseg.io.label_images import read_labels, write_labels

TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3]])
# IoU 3/4 with 1, 1 with 2, nothing of 3, and one that is nowhere.
PREDICTED = np.array([[7, 7, 7, 0, 0, 5, 5, 9, 0]])


@pytest.fixture
def folders():
    """Two label images and predictions: the first all right, the second as in PREDICTED."""
    pred, true = Path("pred"), Path("true")
    for folder, second in ((pred, PREDICTED), (true, TRUTH)):
        folder.mkdir()
        write_labels(folder / "a.png", TRUTH)
        write_labels(folder / "b.png", second)
    return pred, true


def test_folders_are_compared(run, folders):
    result = run("evaluate", "--pred", "pred", "--labels", "true", "--csv", "rows.csv", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    figures = json.loads(result.stdout)
    assert (figures["images"], figures["truth"], figures["predicted"]) == (2, 6, 6)
    assert figures["per_image"]["ap"][0] == pytest.approx(0.75)
    assert figures["pooled"]["ap"][0] == pytest.approx(5 / 7)
    assert figures["mistakes"] == {"missed": 1, "false_alarms": 1, "splits": 0, "merges": 0}
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["truth"], row["ap50"], row["missed"]) for row in rows] == [
        ("a", "3", "1.0", "0"),
        ("b", "3", "0.5", "1"),
    ]


def test_the_table_names_what_is_averaged_and_what_is_pooled(run, folders):
    result = run("evaluate", "--pred", "pred", "--labels", "true")
    assert result.exit_code == 0
    assert "Mean over 2 images: mean AP 0.7000" in result.stdout
    assert "Pooled over 6 instances: mean AP 0.6429" in result.stdout
    assert "1 missed, 1 false alarms, 0 splits, 0 merges, at IoU 0.5" in result.stdout
    assert result.stdout.splitlines()[-2].endswith(": b")


def test_a_picture_of_the_worst(run, folders):
    for side in folders:
        for index in range(2):
            write_labels(side / f"{'ab'[index]}.png", draw_discs(np.random.default_rng(index))[1])
    Path("images").mkdir()
    for index in range(2):
        write_picture(Path(f"images/{'ab'[index]}.png"), draw_discs(np.random.default_rng(index))[0])
    shutil.copy("true/a.png", "pred/b.png")
    arguments = ("--pred", "pred", "--labels", "true", "--images", "images", "--picture", "worst.png", "--worst", 2)
    assert run("evaluate", *arguments).exit_code == 0
    assert read_image(Path("worst.png")).shape[0] > 2 * 512
    assert sorted(path.name for path in Path().iterdir()) == ["images", "pred", "true", "worst.png"]


def test_images_that_do_not_fit_are_told(run, refused, folders):
    for side in folders:
        write_labels(side / "a.png", np.eye(8, dtype=np.int32))
    Path("images").mkdir()
    arguments = ("--pred", "pred", "--labels", "true", "--images", "images", "--picture", "worst.png")
    write_picture(Path("images/b.png"), np.zeros((8, 8), np.uint8))
    assert "images has no image for 1 of 2 label images (a)" in refused(run("evaluate", *arguments))
    write_picture(Path("images/a.png"), np.zeros((4, 4), np.uint8))
    assert "images/a.png is 4 x 4 pixels and true/a.png is 8 x 8, expected equal sizes" in refused(
        run("evaluate", *arguments)
    )
    assert not Path("worst.png").exists()


def test_true_masks_are_taken_in_pieces(run, refused, folders):
    for side in folders:
        (side / "b.png").unlink()
    mask = np.zeros((8, 8), np.int32)
    mask[1:3, 1:3] = mask[5:7, 5:7] = 255
    write_labels(Path("true/a.png"), mask)
    write_labels(Path("pred/a.png"), np.where(np.arange(8) < 4, 1, 2)[:, None] * (mask > 0))
    arguments = ("--pred", "pred", "--labels", "true", "--json")
    assert "--connected-components" in refused(run("evaluate", *arguments))
    assert json.loads(run("evaluate", *arguments, "--connected-components").stdout)["per_image"]["mean_ap"] == 1


def test_a_model_is_evaluated_on_a_data_folder(run, tiny_model, tiny_discs):
    for kind in ("images", "labels"):
        Path("data", kind).mkdir(parents=True)
    for index in range(2):
        image, labels = draw_discs(np.random.default_rng(index), tiny_discs)
        write_picture(Path(f"data/images/{index}.png"), image)
        write_labels(Path(f"data/labels/{index}.png"), labels)
    result = run("evaluate", tiny_model, "--data", "data", "--json", "--picture", "worst.png")
    assert (result.exit_code, result.stderr) == (0, "")
    of_model = json.loads(result.stdout)
    auroc = of_model.pop("score_auroc")
    # None where everything is right.
    assert auroc is None or 0 <= auroc <= 1
    ece, bins = of_model.pop("score_ece"), of_model.pop("score_reliability")
    assert 0 <= ece <= 1
    assert sum(one["instances"] for one in bins) == of_model["predicted"]
    assert f"from the share that is right: {ece:.3f}\n" in run("evaluate", tiny_model, "--data", "data").stdout
    predicted = run("predict", tiny_model, "data/images", "--out-dir", "pred")
    assert predicted.exit_code == 0
    assert json.loads(run("evaluate", "--pred", "pred", "--labels", "data/labels", "--json").stdout) == {
        **of_model,
        "score_auroc": None,
        "score_ece": None,
        "score_reliability": [],
    }
    # Other settings of the clustering are taken.
    none = json.loads(run("evaluate", tiny_model, "--data", "data", "--json", "--min-size", 4000).stdout)
    assert none["predicted"] == 0


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ((), "got nothing, expected either MODEL --data DIR, or --pred DIR --labels DIR"),
        (("--pred", "pred"), "got --pred, expected"),
        (("model", "--labels", "true"), "got MODEL, --labels, expected"),
        (("model", "--data", "true", "--pred", "pred", "--labels", "true"), "got MODEL, --data, --pred, --labels"),
        (("model", "--data", "data", "--images", "images", "--picture", "p.png"), "--images goes with --pred"),
        (
            ("--pred", "pred", "--labels", "true", "--images", "images"),
            "--images is what --picture and --report draw on",
        ),
        (("--pred", "pred", "--labels", "true", "--min-size", 3), "--min-size change how a model segments"),
        (("--pred", "pred", "--labels", "true", "--tile", 300), "--tile change how a model segments"),
    ],
)
def test_wrong_usage(run, refused, arguments, given):
    assert refused(run("evaluate", *arguments), code=2).startswith(given)


def test_files_that_do_not_match_are_counted_and_a_few_shown(run, refused, folders):
    pred, true = folders
    for name in "cdefg":
        shutil.copy(true / "a.png", true / f"{name}.png")
    shutil.copy(pred / "a.png", pred / "x.png")
    assert refused(run("evaluate", "--pred", "pred", "--labels", "true")) == (
        "cannot compare the folders: 5 labels have no prediction (c, d, e, ...): predict these images, too; "
        "1 predictions have no labels (x): add or remove them"
    )
    shutil.copy(pred / "a.png", pred / "a.tif")
    assert "predictions share a name" in refused(run("evaluate", "--pred", "pred", "--labels", "true"))


def test_what_cannot_be_read_or_written_is_told(run, refused, make_data, folders):
    pred, true = folders
    both = ("--pred", "pred", "--labels", "true")
    assert "expected a name that ends in .csv" in refused(run("evaluate", *both, "--csv", "rows.txt"))
    assert "expected a name that ends in .png" in refused(run("evaluate", *both, "--picture", "worst.jpg"))
    assert "there is no file or folder none" in refused(run("evaluate", "--pred", "none", "--labels", "true"))
    assert "there is no model model" in refused(run("evaluate", "model", "--data", make_data(count=1)))
    write_labels(pred / "b.png", np.ones((4, 4), int))
    error = refused(run("evaluate", *both))
    assert error.startswith("the prediction of b is 4 x 4 pixels and its labels are 1 x 9; expected equal sizes")
    assert read_labels(true / "b.png").shape == (1, 9)


def test_notes_go_to_stderr_and_into_json_by_the_names_of_options(run, folders):
    mask = np.zeros((8, 8), np.int32)
    mask[1:3, 1:3] = mask[5:7, 5:7] = 255
    for folder in folders:
        (folder / "b.png").unlink()
        write_labels(folder / "a.png", mask)
    arguments = ("--pred", "pred", "--labels", "true", "--connected-components", "--json")
    result = run("evaluate", *arguments)
    assert (result.exit_code, result.stderr, json.loads(result.stdout)["pooled"]["mean_ap"]) == (0, "", 1)
    write_labels(folders[1] / "a.png", np.where(np.arange(8) < 4, 1, 2)[:, None] * (mask > 0))
    result = run("evaluate", "--pred", "pred", "--labels", "true", "--json")
    note = (
        "1 prediction looks like a mask (a), it is taken as one instance; "
        "give --connected-components to make every connected piece an instance"
    )
    assert (result.exit_code, result.stderr) == (0, note + "\n")
    assert json.loads(result.stdout)["notes"] == [note]


def test_ignored_pixels_and_ratios_of_nothing(run, folders):
    for folder in folders:
        write_labels(folder / "a.png", np.zeros((1, 9), np.int32))
    write_labels(folders[1] / "b.png", np.full((1, 9), 255))
    result = run("evaluate", "--pred", "pred", "--labels", "true", "--ignore-label", 255)
    assert result.exit_code == 0
    assert "1 image is ignored (b) as a whole, and not in the figures\n" in result.stderr
    assert "there is no true instance" in result.stderr
    assert "Mean over 1 images: mean AP 1.0000" in result.stdout
    assert "Pooled over 0 instances: mean AP -" in result.stdout
    assert "nan" not in result.stdout
