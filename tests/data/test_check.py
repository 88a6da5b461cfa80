import json

import numpy as np
import pytest

from instseg.data import samples
from instseg.data.check import check_data
from instseg.data.datasets import folder_data
from instseg.errors import InstsegError, UsageError
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.settings import TrainSettings

SQUARES = np.array(
    [
        [1, 1, 0, 0, 3, 3],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [9, 9, 9, 9, 0, 0],
        [9, 9, 9, 9, 0, 3],
        [9, 9, 9, 9, 0, 3],
        [9, 9, 9, 9, 0, 0],
    ]
)
GRAY = np.arange(42, dtype=np.uint8).reshape(7, 6)


@pytest.fixture
def folder(tmp_path):
    """A function that writes pairs; what is None is not written."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()

    def write(**pairs):
        for name, (image, labels) in pairs.items():
            if image is not None:
                write_picture(tmp_path / "images" / f"{name}.png", image)
            if labels is not None:
                write_labels(tmp_path / "labels" / f"{name}.png", labels)
        return tmp_path

    return write


def problems(report, severity):
    return [(problem.what, problem.count, problem.files) for problem in report.problems if problem.severity == severity]


def test_numbers_by_hand(folder):
    root = folder(a=(GRAY, SQUARES), b=(GRAY[:4], SQUARES[:4]), c=(GRAY, SQUARES * 0))
    report = check_data(root, patch_size=4)
    assert (report.pairs, report.usable) == (3, 3)
    assert report.sizes == {"7 x 6": 2, "4 x 6": 1}
    assert (report.height, report.width) == ((4, 7), (6, 6))
    assert (report.dtypes, report.channels) == ({"uint8": 3}, {"1": 3})
    assert (report.empty, report.constant, report.small) == (1, 0, 0)


def test_instances_are_counted_and_measured(folder):
    report = check_data(folder(a=(GRAY, SQUARES), b=(GRAY, SQUARES * 0)), patch_size=32)
    assert report.instances == {"min": 0, "median": 1.5, "max": 3, "total": 3}
    # Areas 4, 4 and 16: diameters of 2.26, 2.26 and 4.51 pixels.
    assert report.diameters == {"5": 2.26, "50": 2.26, "95": 4.29}
    assert report.foreground == round(24 / 84, 4)
    assert report.disconnected == 1
    # Tiny objects are learnt at a scale at which they measure 8 pixels: images of 7 x 6 are 25 x 21 then.
    assert report.scale == round(8 / 2.26, 4)
    assert report.small == 2
    assert check_data(folder(), patch_size=16).small == 0
    assert report.usable_for_training
    assert problems(report, "error") == []
    assert problems(report, "warning") == [
        ("instances that lie in several pieces: 1", 1, ("labels/a.png",)),
        ("there are no instances", 1, ("labels/b.png",)),
        (
            "the image, shown at 3.5 times its size, is smaller than a training patch of 32 pixels",
            2,
            ("images/a.png", "images/b.png"),
        ),
    ]


def test_every_problem_is_found_in_one_run(folder):
    root = folder(
        good=(GRAY, SQUARES),
        alone=(GRAY, None),
        orphan=(None, SQUARES),
        mask1=(GRAY, (SQUARES > 0) * 255),
        mask2=(GRAY, (SQUARES == 3) * 1),
        size1=(GRAY, SQUARES[:5]),
        size2=(GRAY, SQUARES[:6]),
        colour=(np.stack([GRAY] * 3, -1), SQUARES),
        deep=(GRAY.astype(np.uint16), SQUARES),
        flat=(GRAY * 0 + 7, SQUARES),
        rgb=(GRAY, SQUARES),
        cut=(GRAY, SQUARES),
    )
    write_picture(root / "labels" / "rgb.png", np.stack([GRAY] * 3, -1))
    cut = root / "images" / "cut.png"
    cut.write_bytes(cut.read_bytes()[:45])
    (root / "labels" / "cut.png").write_text("no image")
    seen = []
    report = check_data(root, patch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 10) for i in range(1, 11)]
    assert (report.pairs, report.usable) == (10, 4)
    assert not report.usable_for_training
    errors = {what.split(" (")[0]: (count, files) for what, count, files in problems(report, "error")}
    assert errors == {
        "images without labels": (1, ("images/alone.png",)),
        "labels without an image": (1, ("labels/orphan.png",)),
        "it looks like a binary mask": (2, ("labels/mask1.png", "labels/mask2.png")),
        "the image is 7 x 6 pixels and its labels are 5 x 6": (2, ("images/size1.png", "images/size2.png")),
        "it has 3 channels": (1, ("labels/rgb.png",)),
        "it is damaged or cut off": (1, ("images/cut.png",)),
        "its content is none that is known": (1, ("labels/cut.png",)),
        "the images differ in their numbers of channels": (1, ("images/colour.png",)),
    }
    warnings = {what.split(" (")[0]: (count, files) for what, count, files in problems(report, "warning")}
    assert warnings == {
        "the image has one value only": (1, ("images/flat.png",)),
        "instances that lie in several pieces: 1": (
            4,
            tuple(f"labels/{n}.png" for n in ("colour", "deep", "flat", "good")),
        ),
        "the images differ in their types of values": (1, ("images/deep.png",)),
        "one instance in twenty is wider than 16 of the network's pixels, half of a patch is 2": (0, ()),
    }
    assert all(problem.advice for problem in report.problems)


def test_problems_whose_numbers_differ_are_one(folder):
    root = folder(a=(GRAY, SQUARES[:5]), b=(GRAY, SQUARES[:6]))
    first = check_data(root, patch_size=4).problems[0]
    assert first.what == ("the image is 7 x 6 pixels and its labels are 5 x 6 (in the first; the numbers differ)")
    assert first.count == 2


def test_masks_are_fine_as_connected_components(folder):
    root = folder(a=(GRAY, (SQUARES > 0) * 255), b=(GRAY, (SQUARES > 0) * 255))
    assert not check_data(root, patch_size=4).usable_for_training
    report = check_data(root, patch_size=16, connected_components=True)
    assert report.usable_for_training
    assert report.instances["total"] == 8
    assert report.disconnected == 0


def test_a_folder_without_any_instance_or_with_one_pair(folder):
    root = folder(a=(GRAY, SQUARES * 0))
    report = check_data(root, patch_size=4)
    assert [what for what, *_ in problems(report, "error")] == ["no label image has an instance"]
    report = check_data(folder(a=(GRAY, SQUARES)), patch_size=32)
    assert ("there is only one pair to use", 0, ()) in problems(report, "warning")
    (problem,) = [each for each in folder_data(root, TrainSettings(patch_size=32)).problems if each.count == 0]
    assert problem.line() == (
        "warning: there is only one pair to use; training validates on the image that it learns from; "
        "add more, so that some can be kept for that"
    )


def test_a_folder_without_any_usable_pair(folder):
    report = check_data(folder(a=(GRAY, SQUARES[:2])), patch_size=4)
    assert problems(report, "error")[-1][0] == "none of the 1 pairs can be used"
    assert (report.height, report.instances["total"], report.foreground) == ((0, 0), 0, 0.0)


def test_many_files_are_counted_and_a_few_named(folder):
    report = check_data(folder(**{f"f{i}": (GRAY, SQUARES * 0) for i in range(7)}), patch_size=4)
    (empty,) = [problem for problem in report.problems if problem.what == "there are no instances"]
    assert (empty.count, len(empty.files)) == (7, 5)


def test_the_report_is_ready_for_json(folder):
    report = check_data(folder(a=(GRAY, SQUARES)), patch_size=4)
    values = json.loads(json.dumps(report.to_dict()))
    assert values["problems"][0]["severity"] == "warning"
    assert values["sizes"] == {"7 x 6": 1}


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(InstsegError, match="the folder .*images is missing"):
        check_data(tmp_path, patch_size=16)


def test_a_folder_may_be_given_as_text(folder):
    report = check_data(str(folder(a=(GRAY, SQUARES))))
    assert report.pairs == 1
    # By default patches are as large as those of a training by default.
    assert report.small == 1


def test_advice_names_parameters(folder):
    mixed = check_data(folder(a=(GRAY, SQUARES), b=(np.stack([GRAY] * 3, -1), SQUARES)), patch_size=4)
    advice = {problem.what.split(" (")[0]: problem.advice for problem in mixed.problems}
    channels = advice["the images differ in their numbers of channels"]
    assert channels == "convert all to gray or all to RGB, or give `channels='gray'`"
    assert check_data(mixed.folder, patch_size=4, channels="gray").usable_for_training


def crumbs():
    """Labels of four squares of 20 pixels and of 30 instances of one pixel."""
    labels = np.zeros((100, 100), np.int32)
    for number in range(4):
        labels[20 * number : 20 * number + 20, 50:70] = number + 1
    labels[1:61:2, 10] = range(5, 35)
    return labels


def test_crumbs_are_told_and_not_measured(folder):
    image = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    root = folder(a=(image, crumbs()), b=(image, crumbs()))
    report = check_data(root, patch_size=96)
    trained = folder_data(root, TrainSettings(patch_size=96))
    assert (report.scale, trained.scale) == (1.0, 1.0)
    assert report.diameters == {"5": 22.57, "50": 22.57, "95": 22.57}
    assert tuple(trained.diameters) == (22.57, 22.57, 22.57)
    assert report.instances["total"] == 68
    what = "30 instances of 1 pixel in each of 2 images, far smaller than the others; not measured"
    assert problems(report, "warning") == [(what, 2, ("labels/a.png", "labels/b.png"))]
    (problem,) = trained.problems
    assert (problem.what, problem.count) == (what, 2)
    assert problem.line().startswith("warning: labels/")
    labels = crumbs()
    labels[:2, :2] = 99
    report = check_data(folder(c=(image, labels)), patch_size=96)
    assert problems(report, "warning")[0][0].startswith("91 instances of 1 to 4 pixels in 3 images, far smaller")
    report = check_data(folder(**{name: (image, np.where(crumbs() > 5, 0, crumbs())) for name in "abc"}), patch_size=96)
    assert problems(report, "warning")[0][0].startswith("1 instance of 1 pixel in each of 3 images, far smaller")


def test_a_training_says_what_a_check_warns_of(folder):
    root = folder(
        a=(GRAY, SQUARES),
        b=(GRAY * 0 + 7, SQUARES),
        c=(GRAY.astype(np.uint16), SQUARES * 0),
        d=(GRAY, np.where(SQUARES == 0, 255, SQUARES)),
    )
    warnings = {problem for problem in check_data(root, patch_size=16).problems if problem.severity == "warning"}
    assert len(warnings) == 6
    said = folder_data(root, TrainSettings(patch_size=16)).problems
    assert {(each.severity, each.advice, each.count) for each in said} == {
        (each.severity, each.advice, each.count) for each in warnings
    }


def test_ignored_pixels_are_neither_background_nor_instances(folder):
    labels = np.where(SQUARES == 3, 200, SQUARES)
    root = folder(a=(GRAY, labels), b=(GRAY, labels))
    report = check_data(root, patch_size=4, ignore_label=200)
    assert (report.instances["total"], report.foreground) == (4, round(20 / 38, 4))
    assert check_data(root, patch_size=4, ignore_label=0).instances["total"] == 6
    data = folder_data(root, TrainSettings(patch_size=16, batch_size=1), ignore_label=200)
    assert (data.patches.batch(0).labels == -1).any()
    assert (data.validation[0].labels == -1).sum() == 4
    report = check_data(folder(a=(GRAY, SQUARES * 0 + 200), b=(GRAY, SQUARES * 0 + 200)), ignore_label=200)
    assert (report.foreground, report.usable_for_training) == (0.0, False)
    with pytest.raises(UsageError, match="ignore_label is -1, expected a label, 0 or above"):
        check_data(root, ignore_label=-1)


def test_images_that_are_too_large_are_not_read(folder, monkeypatch):
    root = folder(a=(GRAY, SQUARES))
    monkeypatch.setattr(samples, "_MAX_PIXELS", 41)
    report = check_data(root)
    assert [(each.what, each.advice, each.count) for each in report.problems][0] == (
        "it has 0 megapixels, more than the 0 that are read at once for training",
        "cut it into tiles",
        2,
    )
    with pytest.raises(InstsegError, match="more than the 0 that are read at once for training; cut it into tiles"):
        folder_data(root, TrainSettings(patch_size=16))
