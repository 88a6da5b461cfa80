"""Scores, views, pictures and pages of volumes."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from instseg.data.generate import generate_discs
from instseg.data.generate_volumes import generate_balls
from instseg.errors import InstsegError, UsageError
from instseg.evaluation.cases import model_cases
from instseg.evaluation.error_analysis import classify_errors
from instseg.evaluation.metrics import score
from instseg.evaluation.pictures import error_panel
from instseg.evaluation.run import evaluate
from instseg.evaluation.unlabelled import find_unlabelled
from instseg.evaluation.views import worst_view
from instseg.inference.options import PredictOptions
from instseg.io.folders import find_pairs
from instseg.io.label_images import write_labels
from instseg.io.label_volumes import read_label_volume, write_label_volume
from instseg.io.volume_tiff import write_volume
from instseg.io.volumes import read_volume
from instseg.labels.regions import IGNORED
from instseg.settings import BallSettings, DiscSettings, ModelSettings

# Right in planes 0 and 1, missed in 3 and 4, split along z, and two that are merged in planes 2 to 5.
TRUTH = np.zeros((6, 40, 50), np.int32)
TRUTH[0:2, 2:8, 2:8] = 1
TRUTH[3:5, 2:12, 20:30] = 2
TRUTH[0:6, 20:25, 2:7] = 3
TRUTH[2:6, 20:24, 20:24], TRUTH[2:6, 20:24, 24:28] = 4, 5
PREDICTED = np.where(np.isin(TRUTH, (1, 4)), TRUTH, 0)
PREDICTED[TRUTH == 5] = 4
PREDICTED[0:3][TRUTH[0:3] == 3], PREDICTED[3:6][TRUTH[3:6] == 3] = 6, 7


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, second in (("pred", PREDICTED), ("true", TRUTH)):
        Path(folder).mkdir()
        write_label_volume(Path(folder) / "a.tif", TRUTH)
        write_label_volume(Path(folder) / "b.tif", second)
    Path("images").mkdir()
    for name in "ab":
        write_volume(Path("images") / f"{name}.tif", (40 * (TRUTH > 0)).astype(np.uint8))
    return {"pred": "pred", "labels": "true"}


def test_scores_of_a_volume_are_those_of_its_planes_side_by_side():
    flat = [labels.transpose(1, 0, 2).reshape(40, 300) for labels in (TRUTH, PREDICTED)]
    volume, image = score(TRUTH, PREDICTED), score(*flat)
    for name in ("tp", "fp", "fn", "iou_sum"):
        np.testing.assert_array_equal(getattr(volume, name), getattr(image, name))
    assert (volume.tp[0], volume.fp[0], volume.fn[0]) == (3, 1, 2)
    assert volume.pq[0] == pytest.approx((1 + 0.5 + 0.5) / 3 * 2 * 3 / (2 * 3 + 3))
    assert classify_errors(TRUTH, PREDICTED).counts() == classify_errors(*flat).counts()
    assert classify_errors(TRUTH, PREDICTED).counts() == {
        "false_negatives": 1,
        "false_positives": 0,
        "splits": 1,
        "merges": 1,
    }


def test_voxels_that_do_not_count_and_small_objects():
    truth = TRUTH.copy()
    truth[TRUTH == 2] = IGNORED
    scores = score(truth, PREDICTED, min_truth_size=73)
    # What is left is the split object, of 150 voxels; those of 72 and 64 are too small, and so are their predictions.
    assert (scores.tp[0], scores.fp[0], scores.fn[0]) == (1, 1, 0)


def test_the_plane_with_the_most_mistakes_is_shown():
    view = worst_view(TRUTH, PREDICTED, np.stack([TRUTH] * 3, axis=-1), TRUTH == 1)
    assert view.plane == 3
    assert np.array_equal(view.truth, TRUTH[3])
    assert np.array_equal(view.predicted, PREDICTED[3])
    assert (view.image.shape, view.ignored.shape) == ((40, 50, 3), (40, 50))
    assert view.analysis.counts() == classify_errors(TRUTH, PREDICTED).counts()
    assert worst_view(TRUTH, TRUTH).plane == 3
    image = worst_view(TRUTH[3], PREDICTED[3])
    assert (image.plane, image.truth.shape) == (None, (40, 50))


def test_a_panel_is_that_of_its_plane():
    panel = error_panel("a", TRUTH, PREDICTED, TRUTH)
    assert panel.shape[1] == 2 * 50 + 4
    # The missed object lies in this plane.
    right = panel[-40:, 54:]
    red, _, blue = right[5, 25].astype(int)
    assert red > blue + 50


def test_folders_are_compared(folders):
    evaluation = evaluate(**folders, images="images", picture="worst.png", report="page.html", csv="images.csv")
    assert [(image.truth, image.predicted) for image in evaluation.images] == [(5, 5), (5, 4)]
    assert evaluation.per_image.ap[0] == pytest.approx((1 + 3 / 6) / 2)
    assert evaluation.errors == {"false_negatives": 1, "false_positives": 0, "splits": 1, "merges": 1}
    page = Path("page.html").read_text(encoding="utf-8")
    assert "drawn is the plane z = 3" in page
    assert re.search(r'"volume"', page)
    assert Path("worst.png").stat().st_size > 0
    assert Path("images.csv").read_text().splitlines()[2].startswith("b,5,4,")


def test_labels_that_do_not_fit(folders):
    write_label_volume(Path("pred") / "a.tif", TRUTH[:4])
    with pytest.raises(InstsegError, match="the prediction of a is 4 x 40 x 50 pixels and its labels are 6 x 40 x 50"):
        evaluate(**folders)
    Path("pred/a.tif").unlink()
    write_labels(Path("pred") / "a.tif", TRUTH[0])
    with pytest.raises(InstsegError, match="the prediction of a is 1 x 40 x 50 pixels"):
        evaluate(**folders)
    write_label_volume(Path("pred") / "a.tif", TRUTH)
    write_volume(Path("images") / "a.tif", TRUTH[:5].astype(np.uint8))
    with pytest.raises(InstsegError, match=r"a\.tif is 5 x 40 x 50 pixels and .*a\.tif is 6 x 40 x 50"):
        evaluate(**folders, images="images", picture="worst.png")


@pytest.mark.parametrize("options", [{"spacing": (2, 1, 1)}, {"planes_from": "z"}])
def test_folders_have_no_model_to_say_it_to(folders, options):
    with pytest.raises(UsageError, match=f"`{next(iter(options))}` say how a model predicts"):
        evaluate(**folders, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": (0, 1, 1)}, "spacing is .* expected three numbers above 0"),
        ({"planes_from": "xyz"}, "planes_from is 'xyz', expected 'z' or 'zyx'"),
    ],
)
def test_values_are_checked_before_anything_is_read(options, message):
    with pytest.raises(UsageError, match=message):
        evaluate("nowhere", data="nowhere", **options)


def test_a_model_of_images_is_scored_on_volumes(tmp_path, tiny_model):
    generate_balls(tmp_path, count=2, settings=BallSettings(depth=8, size=40, min_balls=2, max_balls=3))
    calls = []
    evaluation = evaluate(
        tiny_model,
        data=tmp_path,
        planes_from="z",
        picture=tmp_path / "worst.png",
        progress=lambda done, total, _: calls.append((done, total)),
    )
    truth = [int(read_label_volume(path).max()) for path in sorted((tmp_path / "labels").iterdir())]
    assert [image.truth for image in evaluation.images] == truth
    assert all(image.confidence is not None for image in evaluation.images)
    assert calls == [(1, 2), (2, 2)]
    assert evaluation.notes == ()
    # Files that do not say how far apart planes are.
    write_volume(tmp_path / "images" / "0000.tif", read_volume(tmp_path / "images" / "0000.tif")[..., 0])
    write_label_volume(tmp_path / "labels" / "0000.tif", read_label_volume(tmp_path / "labels" / "0000.tif"))
    (note,) = evaluate(tiny_model, data=tmp_path, planes_from="z").notes
    assert re.match(r"0000: .* taken for cubes; give `spacing`", note)
    assert evaluate(tiny_model, data=tmp_path, planes_from="z", spacing=(2.0, 1.0, 1.0)).notes == ()
    write_label_volume(tmp_path / "labels" / "0001.tif", np.ones((5, 40, 40), np.int32))
    with pytest.raises(InstsegError, match=r"0001\.tif is 8 x 40 x 40 voxels and .*0001\.tif is 5 x 40 x 40"):
        evaluate(tiny_model, data=tmp_path, planes_from="z")


def test_a_spacing_is_of_volumes(tmp_path, tiny_model):
    generate_discs(tmp_path, count=1, settings=DiscSettings(size=32, min_discs=1, max_discs=2))
    with pytest.raises(UsageError, match="spacing is of volumes, and the labels of .* are images; leave it out"):
        evaluate(tiny_model, data=tmp_path, spacing=(2.0, 1.0, 1.0))
    with pytest.raises(UsageError, match="planes_from is of volumes, and the labels of .* are images; leave it out"):
        evaluate(tiny_model, data=tmp_path, planes_from="z")


def test_a_model_of_volumes_is_refused_for_images(tmp_path):
    generate_discs(tmp_path, count=1, settings=DiscSettings(size=32, min_discs=1, max_discs=2))
    model = SimpleNamespace(settings=ModelSettings(ndim=3, spacing=(2.0, 1.0, 1.0)))
    cases = model_cases(
        model, find_pairs(tmp_path), tmp_path, PredictOptions(), connected_components=False, ignore_label=None
    )
    with pytest.raises(UsageError, match="a model of volumes, and the labels of .* are images; give volumes, or"):
        next(cases)
    with pytest.raises(UsageError, match="a model of volumes, and .* holds images; give a model of images"):
        find_unlabelled(model, tmp_path)
