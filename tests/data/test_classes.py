"""Classes of instances: read from images or a table, numbered, and looked up."""

import numpy as np
import pytest
from PIL import Image

from instseg.data.check import check_data
from instseg.data.classes import class_indices, disagreement, find_classes, read_class_table, sort_class_names
from instseg.data.datasets import folder_data
from instseg.data.patches import SamplePatches
from instseg.data.samples import make_sample
from instseg.errors import InstsegError
from instseg.io.folders import find_pairs
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.settings import TrainSettings

LABELS = np.array([[0, 2, 2, 0], [0, 2, 9, 9], [5, 5, 9, 9]], np.int32)


@pytest.fixture
def folder(tmp_path):
    """Two pairs, with the same labels."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for name in ("a", "b"):
        write_picture(tmp_path / f"images/{name}.png", LABELS.astype(np.uint8) * 20)
        write_labels(tmp_path / f"labels/{name}.png", LABELS)
    return tmp_path


def write_classes(folder, name, classes):
    (folder / "classes").mkdir(exist_ok=True)
    write_labels(folder / f"classes/{name}.png", classes)


def write_table(folder, *rows, heading="image,label,class"):
    (folder / "classes.csv").write_text("\n".join([heading, *rows]) + "\n", encoding="utf-8")


def names(folder, number=0):
    pair = find_pairs(folder)[number]
    return find_classes(folder).names(pair, LABELS)


def test_a_folder_without_classes_has_none(folder):
    assert find_classes(folder) is None
    data = folder_data(folder, TrainSettings(patch_size=16))
    assert data.class_names == ()
    assert data.patches.batch(0).classes is None


def test_an_instance_has_the_class_of_most_of_its_pixels(folder):
    # Label 2: 3, 3, 1; label 9: three of 2 and one of 7; label 5: a 4 and nothing. What is outside does not count.
    write_classes(folder, "a", np.array([[8, 3, 3, 0], [0, 1, 2, 2], [4, 0, 2, 7]], np.int32))
    assert names(folder) == {2: "3", 5: "4", 9: "2"}


def test_of_classes_with_as_many_pixels_the_lowest_is_taken(folder):
    write_classes(folder, "a", np.array([[0, 1, 2, 0], [0, 0, 6, 3], [4, 1, 3, 6]], np.int32))
    assert names(folder) == {2: "1", 5: "1", 9: "3"}


def test_a_class_image_of_one_class_in_many_pieces_is_no_mask(folder):
    write_classes(folder, "a", (LABELS > 0) * np.int32(255))
    assert set(names(folder).values()) == {"255"}


def test_a_table_names_classes(folder):
    write_table(folder, "a.png, 2 ,round", "a,9,spindle", "b,5,round", "a,77,none")
    assert names(folder) == {2: "round", 9: "spindle"}
    assert names(folder, 1) == {5: "round"}


@pytest.mark.parametrize(
    ("rows", "heading", "message"),
    [
        (
            (),
            "image,label",
            "has no column class: its first line is 'image,label', expected image,label,class with commas",
        ),
        ((), "image;label;class", "its first line is 'image;label;class'"),
        (("a,0,x",), "image,label,class", "line 2 .*: the label is '0', expected 1 to 2147483647"),
        (("a,2147483648,x",), "image,label,class", "the label is '2147483648', expected 1 to 2147483647"),
        ((f"a,{'9' * 5000},x",), "image,label,class", "the label is '9999"),
        (("a,²,x",), "image,label,class", "the label is '²'"),
        (("a,two,x",), "image,label,class", "the label is 'two'"),
        (("a,1,",), "image,label,class", "the class is empty"),
        ((",1,x",), "image,label,class", "the image is empty"),
        (("a,1",), "image,label,class", "the class is empty"),
        (("a,1,x", "a.png,1,y"), "image,label,class", "line 3 .*: label 1 of a.png is y, and x before"),
    ],
)
def test_tables_that_cannot_be_used(folder, rows, heading, message):
    write_table(folder, *rows, heading=heading)
    with pytest.raises(InstsegError, match=message):
        read_class_table(folder / "classes.csv")


def test_names_of_images_may_hold_dots(folder):
    write_table(folder, "plate1.A01,1,x", "plate1.A02.tif,1,y", "b.PNG,2,z")
    assert read_class_table(folder / "classes.csv") == {"plate1.A01": {1: "x"}, "plate1.A02": {1: "y"}, "b": {2: "z"}}


def test_numbers_that_are_none_are_text():
    assert sort_class_names(["10", "²", "9", "a"]) == ("9", "10", "a", "²")


@pytest.mark.parametrize("rows", [(), ("c,2,x", "c,5,x", "c,9,x")])
def test_classes_that_match_nothing_are_told(folder, rows):
    write_table(folder, *rows)
    with pytest.raises(InstsegError, match=r"3 instances of .*png have no class \(labels 2, 5, 9\)"):
        folder_data(folder, TrainSettings(patch_size=16))


def test_class_images_that_are_all_0_are_told(folder):
    for name in "ab":
        write_classes(folder, name, LABELS * 0)
    with pytest.raises(InstsegError, match="3 instances of .*png have no class"):
        folder_data(folder, TrainSettings(patch_size=16))


def test_a_table_does_not_know_labels_that_are_made_anew(folder):
    write_table(folder, "a,2,x")
    with pytest.raises(InstsegError, match="`connected_components=True` makes labels anew"):
        find_classes(folder, connected_components=True)


def test_two_class_images_of_one_name(folder):
    write_classes(folder, "a", LABELS)
    write_labels(folder / "classes/a.tif", LABELS)
    with pytest.raises(InstsegError, match=r"a.png and .*a.tif are both class images of a; remove one"):
        find_classes(folder)


def test_a_class_image_of_one_bit_has_the_class_1(folder):
    write_classes(folder, "b", LABELS)
    Image.fromarray(LABELS > 0).save(folder / "classes" / "a.png")
    assert names(folder) == {2: "1", 5: "1", 9: "1"}


def test_classes_that_cannot_be_read_do_not_end_a_check(folder):
    write_table(folder, "a,0,x")
    report = check_data(folder, patch_size=2)
    assert report.pairs == 2
    assert any("the label is '0'" in problem.what for problem in report.problems)
    assert not report.usable_for_training
    write_table(folder, *(f"{name},{label},x" for name, label in (("a", 2), ("a", 5), ("a", 9), ("b", 2))))
    report = check_data(folder, patch_size=2)
    assert (report.usable, report.classes) == (1, {"x": 4})


def test_a_table_that_is_no_text(folder):
    (folder / "classes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InstsegError, match="cannot read .*classes.csv"):
        find_classes(folder)


def test_images_and_a_table_exclude_each_other(folder):
    write_classes(folder, "a", LABELS)
    write_table(folder)
    with pytest.raises(InstsegError, match="holds both classes/ and classes.csv; remove one"):
        find_classes(folder)


def test_class_images_that_cannot_be_used(folder):
    write_classes(folder, "a", LABELS[:2])
    source, pairs = find_classes(folder), find_pairs(folder)
    with pytest.raises(InstsegError, match="a.png is 2 x 4 pixels and .*a.png is 3 x 4, expected equal sizes"):
        source.names(pairs[0], LABELS)
    with pytest.raises(InstsegError, match="has no class image for b; add it"):
        source.names(pairs[1], LABELS)
    write_classes(folder, "b", LABELS * 100)
    with pytest.raises(InstsegError, match="it holds the class 900, expected 0 to 255"):
        names(folder, 1)


def test_classes_are_ordered_by_value_and_then_as_text():
    assert sort_class_names(["10", "b", "9", "a", "10"]) == ("9", "10", "a", "b")
    with pytest.raises(InstsegError, match="there are 256 classes, expected at most 255"):
        sort_class_names(map(str, range(256)))


def test_numbers_of_pixels_by_hand():
    found = class_indices(LABELS, {2: "y", 5: "x", 9: "x"}, ("x", "y"), "a")
    assert (found.labels.tolist(), found.classes.tolist()) == ([2, 5, 9], [2, 1, 1])
    np.testing.assert_array_equal(found.of_pixels(LABELS), [[0, 2, 2, 0], [0, 2, 1, 1], [1, 1, 1, 1]])
    empty = class_indices(LABELS * 0, {}, ("x",), "a")
    assert not empty.of_pixels(LABELS * 0).any()


def test_every_instance_needs_a_class():
    with pytest.raises(InstsegError, match=r"2 instances of a have no class \(labels 5, 9\); give them one"):
        class_indices(LABELS, {2: "x"}, ("x",), "a")
    with pytest.raises(InstsegError, match="a has the class y, expected one of x, z"):
        class_indices(LABELS, {2: "x", 5: "y", 9: "x"}, ("x", "z"), "a")


def test_disagreement_by_hand():
    classes = np.array([[8, 3, 3, 0], [0, 1, 2, 2], [4, 0, 2, 2]], np.int32)
    assert disagreement(LABELS, classes) == (1, 1)
    assert disagreement(LABELS, LABELS * 0) == (0, 0)


def test_batches_show_the_classes_of_their_labels():
    labels = np.kron(np.array([[1, 2], [3, 0]], np.int32), np.ones((16, 16), np.int32))
    image = np.kron(np.array([[100, 200], [50, 0]], np.uint8), np.ones((16, 16), np.uint8))
    classes = class_indices(labels, {1: "dim", 2: "bright", 3: "dim"}, ("bright", "dim"), "a")
    sample = make_sample(image, labels)._replace(classes=classes)
    batch = SamplePatches([sample], batch_size=8, patch_size=32, seed=0).batch(0)
    assert (batch.classes.shape, batch.classes.dtype) == ((8, 32, 32), np.int32)
    np.testing.assert_array_equal(batch.classes > 0, batch.labels > 0)
    # Each instance is of one class, and of the three two are dim.
    for one, of_pixels in zip(batch.labels, batch.classes, strict=True):
        kinds = [set(of_pixels[one == label].tolist()) for label in range(1, one.max() + 1)]
        assert all(len(kind) == 1 for kind in kinds)
        if len(kinds) == 3:
            assert sorted(kind.pop() for kind in kinds) == [1, 2, 2]
    # The labels and the images are those of a training without classes.
    plain = SamplePatches([make_sample(image, labels)], batch_size=8, patch_size=32, seed=0).batch(0)
    np.testing.assert_array_equal(plain.labels, batch.labels)
    np.testing.assert_array_equal(plain.images, batch.images)


def test_training_data_know_their_classes(folder):
    write_table(folder, *(f"{name},{label},{'x' if label == 5 else 'y'}" for name in "ab" for label in (2, 5, 9)))
    data = folder_data(folder, TrainSettings(patch_size=16))
    assert data.class_names == ("x", "y")
    assert set(np.unique(data.patches.batch(0).classes)) <= {0, 1, 2}
    write_table(folder, "a,2,x")
    with pytest.raises(InstsegError, match="have no class"):
        folder_data(folder, TrainSettings(patch_size=16))


def test_a_check_counts_classes_and_tells_what_does_not_fit(folder):
    write_classes(folder, "a", np.array([[8, 3, 3, 0], [0, 1, 3, 3], [4, 4, 3, 3]], np.int32))
    write_classes(folder, "b", np.array([[0, 3, 3, 0], [0, 3, 0, 0], [4, 4, 0, 0]], np.int32))
    report = check_data(folder, patch_size=2)
    assert report.classes == {"3": 3, "4": 2}
    told = {problem.what: (problem.severity, problem.files) for problem in report.problems}
    assert told["instances of several classes: 1"] == ("warning", ("labels/a.png",))
    assert told["classified pixels outside of instances: 1"] == ("warning", ("labels/a.png",))
    assert told["instances without a class: 1"] == ("error", ("labels/b.png",))
    write_classes(folder, "b", LABELS[:2])
    report = check_data(folder, patch_size=2)
    assert any("expected equal sizes" in problem.what for problem in report.problems)
    for path in (folder / "classes").iterdir():
        path.unlink()
    (folder / "classes").rmdir()
    write_table(folder, *(f"{name},{label},x" for name in "ab" for label in (2, 5, 9)), "a,44,x")
    report = check_data(folder, patch_size=2)
    assert report.classes == {"x": 6}
    assert [problem.what for problem in report.problems if "classes" in problem.what] == [
        "classes of labels that do not exist: 1"
    ]


def test_names_and_rows_of_a_table_are_found_however_they_are_written(folder):
    write_table(folder, "a , 2 , round", ",,", "", "Ze\u0301.tif,1,x", heading=" image, label ,class ")
    assert read_class_table(folder / "classes.csv") == {"a": {2: "round"}, "Z\u00e9": {1: "x"}}


@pytest.mark.parametrize(
    ("rows", "heading", "message"),
    [
        (("a,2,spindle, long",), "image,label,class", "line 2 .* has 4 fields and the first line 3; put text"),
        (("a,2,x,y",), "image,label,class,class", "has the column class twice"),
    ],
)
def test_no_field_of_a_table_is_lost(folder, rows, heading, message):
    write_table(folder, *rows, heading=heading)
    with pytest.raises(InstsegError, match=message):
        read_class_table(folder / "classes.csv")


def test_rows_that_name_no_image_are_told_by_a_check_and_by_a_training(folder):
    rows = [f"{name},{label},x" for name in "ab" for label in (2, 5, 9)]
    write_table(folder, *rows, "A,2,x", "c,1,x", "c,2,x", "a,77,x")
    what = "rows of classes.csv that name no image: 3 (A, c)"
    for problems in (
        check_data(folder, patch_size=16).problems,
        folder_data(folder, TrainSettings(patch_size=16)).problems,
    ):
        found = {problem.what: problem for problem in problems}
        assert found[what].files == ("classes.csv",)
        assert found["classes of labels that do not exist: 1"].files == ("labels/a.png",)


def test_class_images_that_belong_to_no_image_are_told(folder):
    for name in "abc":
        write_classes(folder, name, np.minimum(LABELS, 1))
    problems = folder_data(folder, TrainSettings(patch_size=16)).problems
    assert "class images that belong to no image: 1 (c)" in [problem.what for problem in problems]


def test_classes_of_ignored_pixels_do_not_count(folder):
    write_classes(folder, "a", np.array([[8, 3, 3, 0], [0, 1, 2, 2], [4, 4, 2, 7]], np.int32))
    labels = np.where(LABELS == 9, -1, LABELS)
    names, inconsistencies = find_classes(folder).classify(find_pairs(folder)[0], labels)
    assert names == {2: "3", 5: "4"}
    assert inconsistencies[-1][0] == "classified pixels outside of instances: 1"
    assert class_indices(labels, names, ("3", "4"), "a").of_pixels(labels).tolist() == [
        [0, 1, 1, 0],
        [0, 1, -1, -1],
        [2, 2, -1, -1],
    ]
