"""The folder that an import writes: what is in it, what it is called, and that it is whole or not there."""

import os
from pathlib import Path

import numpy as np
import pytest

from instseg.annotations import importing, output
from instseg.annotations.importing import import_annotations
from instseg.annotations.output import choose_names
from instseg.data.check import check_data
from instseg.data.datasets import find_pairs
from instseg.errors import InstsegError, UsageError
from instseg.io.label_images import read_labels, write_labels

SQUARE = {"label": "cell", "points": [[1, 1], [4, 1], [4, 3], [1, 3]], "shape_type": "polygon"}


@pytest.fixture
def labelled(image, write):
    """A function that writes images with a square in LabelMe's JSON."""

    def labelled(*names, **options):
        image(*names, **options)
        for name in names:
            write(str(Path(name).with_suffix(".json")), {"shapes": [SQUARE], "imagePath": Path(name).name})

    return labelled


def listed(folder="."):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if not path.is_dir())


def test_a_folder_that_training_takes(labelled, write):
    labelled("a.png", "b.png")
    shapes = [SQUARE, SQUARE | {"points": [[5, 5], [7, 5], [7, 7]], "label": "dead"}]
    write("b.json", {"shapes": shapes, "imagePath": "b.png"})
    report = import_annotations("in", "new/out")
    assert listed("new/out") == [
        "classes.csv",
        "images/a.png",
        "images/b.png",
        "import.csv",
        "labels/a.png",
        "labels/b.png",
    ]
    assert listed("new") == [f"out/{name}" for name in listed("new/out")]
    assert [pair.name for pair in find_pairs("new/out")] == ["a", "b"]
    checked = check_data("new/out")
    assert (checked.usable, checked.classes, checked.instances["total"]) == (
        2,
        {"cell": 2, "dead": 1},
        report.instances,
    )
    assert report.notes[0] == "in is LabelMe: 2 JSON files with shapes, such as a.json"
    lines = Path("new/out/import.csv").read_text().splitlines()
    assert lines[0] == "image,source,status,found,written,overlapping,overlap_pixels,ignored_pixels,dropped,reason"
    assert lines[1] == "a.png,a.png,imported,1,1,0,0,0,0,"


def test_images_are_linked_or_copied(labelled, monkeypatch):
    labelled("a.png")
    original = Path("in/a.png").stat().st_ino
    import_annotations("in", "linked")
    assert Path("linked/images/a.png").stat().st_ino == original
    import_annotations("in", "copied", copy=True)
    assert Path("copied/images/a.png").stat().st_ino != original
    assert Path("copied/images/a.png").read_bytes() == Path("in/a.png").read_bytes()

    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    import_annotations("in", "symbolic")
    assert Path("symbolic/images/a.png").readlink() == Path("in/a.png").resolve()
    monkeypatch.setattr(os, "symlink", refuse)
    import_annotations("in", "last")
    assert not Path("last/images/a.png").is_symlink()


def test_folders_are_replaced_only_when_asked_and_only_those_of_imports(labelled):
    labelled("a.png", "b.png")
    import_annotations("in", "out")
    with pytest.raises(
        InstsegError, match="out is not empty; add `overwrite=True` to replace it or give another `out`"
    ):
        import_annotations("in", "out")
    Path("in/b.png").unlink()
    import_annotations("in", "out", overwrite=True)
    assert listed("out") == ["images/a.png", "import.csv", "labels/a.png"]
    for foreign in ("notes.txt", "images/mine.png", "labels/mine.tif"):
        Path("out", foreign).touch()
        with pytest.raises(InstsegError, match=f"holds files that no import wrote, such as out/{foreign}"):
            import_annotations("in", "out", overwrite=True)
        Path("out", foreign).unlink()
    Path("out/import.csv").unlink()
    with pytest.raises(InstsegError, match="holds files that no import wrote"):
        import_annotations("in", "out", overwrite=True)
    Path("empty").mkdir()
    import_annotations("in", "empty")


@pytest.mark.parametrize("out", ["in", "in/..", "."])
def test_the_source_is_never_written(labelled, out):
    labelled("a.png")
    before = listed()
    with pytest.raises(InstsegError, match="is read from there; give another `out`"):
        import_annotations("in", out, overwrite=True)
    assert listed() == before


def test_a_folder_within_the_source_is_no_part_of_it(labelled):
    labelled("a.png")
    import_annotations("in", "in/out")
    report = import_annotations("in", "in/out", overwrite=True)
    assert [row.source for row in report.images] == ["a.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, InstsegError("full"), OSError(28, "No space left")])
def test_an_interruption_leaves_nothing_or_what_was_before(labelled, monkeypatch, error):
    labelled("a.png", "b.png")
    import_annotations("in", "before")
    before = listed("before")

    def interrupted(*arguments):
        raise error

    monkeypatch.setattr(importing, "write_report", interrupted)
    for out in ("before", "out"):
        with pytest.raises((KeyboardInterrupt, SystemExit, InstsegError)):
            import_annotations("in", out, overwrite=True)
    assert listed("before") == before
    assert sorted(path.name for path in Path().iterdir()) == ["before", "in"]


def test_what_a_killed_run_has_left_is_removed_or_restored(labelled):
    labelled("a.png")
    import_annotations("in", "out")
    for left in (".out.partial/images", ".out.old/labels"):
        Path(left).mkdir(parents=True)
    import_annotations("in", "out", overwrite=True)
    assert sorted(path.name for path in Path().iterdir()) == ["in", "out"]
    # Killed between the two renames.
    Path("out").rename(".out.old")
    Path("in/a.json").write_text("{}")
    with pytest.raises(InstsegError):
        import_annotations("in", "out", format="labelme")
    assert listed("out") == ["images/a.png", "import.csv", "labels/a.png"]


def test_two_processes_do_not_write_one_folder(labelled):
    labelled("a.png")
    with (
        output.OutputFolder(Path("out"), overwrite=False).writing(),
        pytest.raises(InstsegError, match="another process writes out; wait for it"),
    ):
        import_annotations("in", "out")


def test_more_objects_than_a_png_holds(image):
    image("images/a.png", size=(300, 300))
    Path("in/labels").mkdir()
    labels = np.arange(90_000).reshape(300, 300)
    write_labels("in/labels/a.tif", labels)
    report = import_annotations("in", "out")
    assert report.instances == 89_999
    np.testing.assert_array_equal(read_labels("out/labels/a.tif"), labels)


def test_a_damaged_image_costs_no_other(labelled):
    labelled("a.png", "b.png", "c.png")
    Path("in/b.png").write_bytes(b"no image")
    steps = []
    report = import_annotations("in", "out", progress=lambda done, total: steps.append((done, total)))
    assert (report.imported, report.failed) == (2, 1)
    assert listed("out") == ["images/a.png", "images/c.png", "import.csv", "labels/a.png", "labels/c.png"]
    assert "images that failed: 1, such as b.png" in report.notes
    assert steps[-1] == (3, 3)
    Path("in/a.png").write_bytes(b"no image")
    Path("in/c.png").write_bytes(b"no image")
    with pytest.raises(InstsegError, match=r"no image of in can be imported \(3 failed\); a.png: cannot read in/a.png"):
        import_annotations("in", "new")
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "top"}, "overlap is top, expected one of smaller-on-top, first, last, drop"),
        ({"format": "x"}, "format is x, expected one of"),
        ({"ignore_label": 0}, "ignore_label is 0, expected 1 to 65535"),
    ],
)
def test_parameters(labelled, options, message):
    labelled("a.png")
    with pytest.raises(UsageError, match=message):
        import_annotations("in", "out", **options)
    with pytest.raises(InstsegError, match="no folder nowhere; give the folder of the images by `images`"):
        import_annotations("in", "out", images="nowhere")


def test_names():
    names = choose_names(
        [
            "a/1.png",
            "b/1.tif",
            "A.png",
            "a.png",
            "=2+3.png",
            "-x.png",
            ".h.png",
            "é .png",
            "y\x1b[2J.png",
            "x" * 300 + ".png",
        ]
    )
    assert names[:9] == ["a_1", "b_1", "A", "a-2", "_=2+3", "_-x", "_.h", "é_", "y_x1b[2J"]
    assert len(names[9]) < 60
    assert len({name.casefold() for name in names}) == 10
