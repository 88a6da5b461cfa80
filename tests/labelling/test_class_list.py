import pytest

from instseg.data.classes import read_class_table
from instseg.errors import InstsegError, UsageError
from instseg.io.label_images import write_labels
from instseg.labelling.folder import LabelFolder

SHAPE = (30, 40)


def test_classes_are_those_that_training_reads(folder, paint):
    work = LabelFolder(folder)
    document = work.document(0)
    for row in (5, 15, 25):
        paint(document, row, 10)
    work.set_classes({1: "round", 2: "long"})
    document.act({"kind": "class", "point": [5.0, 10.0], "class": 2})
    document.act({"kind": "class", "point": [15.0, 10.0], "class": 1})
    assert work.flush()
    assert read_class_table(folder / "classes.csv") == {"a": {1: "long", 2: "round", 3: "unclassified"}}
    work.set_classes({1: "round", 2: "very long"})
    assert read_class_table(folder / "classes.csv")["a"][1] == "very long"
    with pytest.raises(UsageError, match="twice"):
        work.set_classes({1: "x", 2: "x"})
    work.close()
    work = LabelFolder(folder)
    assert work.classes == {1: "round", 2: "very long"}
    document = work.document(0)
    assert document.objects().classes.tolist() == [2, 1, 0]
    document.act({"kind": "class", "point": [5.0, 10.0], "class": 0})
    document.act({"kind": "class", "point": [15.0, 10.0], "class": 0})
    assert work.flush()
    assert not (folder / "classes.csv").exists()
    work.close()


def test_classes_have_the_same_numbers_in_all_sittings(folder, square):
    (folder / "labels").mkdir()
    write_labels(folder / "labels" / "a.png", square(1))
    (folder / "classes.csv").write_text("image,label,class\na,1,long\na,2,round\n")
    work = LabelFolder(folder)
    # From now on there is no long one in the table, and one has a class without a name.
    work.document(0).act({"kind": "class", "point": [6.0, 6.0], "class": 2})
    work.document(0).act({"kind": "class", "point": [6.0, 22.0], "class": 7})
    work.close()
    expected = {"a": {1: "round", 2: "7"}}
    assert read_class_table(folder / "classes.csv") == expected
    work = LabelFolder(folder)
    assert work.classes == {1: "long", 2: "round", 7: "7"}
    work.document(0).act({"kind": "delete", "point": [6.0, 22.0]})
    work.document(0).act({"kind": "undo"})
    work.close()
    assert read_class_table(folder / "classes.csv") == expected


def test_classes_that_cannot_be_renamed_can_be_another_time(folder, monkeypatch, paint):
    work = LabelFolder(folder)
    paint(work.document(0), 5, 10)
    work.set_classes({1: "round"})
    work.document(0).act({"kind": "class", "point": [5.0, 10.0], "class": 1})
    assert work.flush()

    def no_space(path, columns, rows):
        raise InstsegError(f"cannot write {path}: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("instseg.labelling.class_list.write_csv", no_space)
        with pytest.raises(InstsegError, match="No space left"):
            work.set_classes({1: "long"})
        assert work.classes == {1: "round"}
    work.set_classes({1: "long"})
    assert read_class_table(folder / "classes.csv")["a"] == {2: "long"}
    work.close()


def test_classes_that_exist_are_loaded(folder, square):
    (folder / "labels").mkdir()
    write_labels(folder / "labels" / "a.png", square(1))
    (folder / "classes.csv").write_text("image,label,class\na,1,long\na,2,round\n")
    work = LabelFolder(folder)
    assert work.classes == {1: "long", 2: "round"}
    assert work.document(0).objects().classes.tolist() == [1, 2]
    work.close()
