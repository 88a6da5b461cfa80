"""`instseg data export`."""

import json
from pathlib import Path

import instseg
from instseg.annotations.writers.formats import EXPORT_FORMATS


def test_what_was_written_is_said(run, make_data, files):
    make_data()
    done = run("data", "export", "data", "--format", "coco", "--out", "all.json")
    count = len(json.loads(Path("all.json").read_text())["annotations"])
    assert (done.exit_code, done.stdout) == (0, f"wrote 3 images with {count} objects to all.json\n")
    assert done.stderr == ""
    Path("data/classes.csv").write_text("image,label,class\n0,1,x\n1,1,y\n")
    done = run("data", "export", "data", "--format", "cellpose", "--out", "out", "--no-link-images")
    assert done.stdout == f"wrote 3 images with {count} objects to out\n"
    assert done.stderr == "Cellpose has no classes: those of the objects are left out\n"
    assert [name for name in files() if name.startswith("out/")] == [
        *(f"out/{number}_masks.tif" for number in range(3)),
        "out/export.csv",
    ]
    done = run("data", "export", "data", "--format", "coco", "--polygons", "--out", "out", "--overwrite", "--copy")
    assert done.stdout == f"wrote 3 images with {count} objects of 3 classes to out\n"
    assert len(json.loads(Path("out/annotations.json").read_text())["annotations"]) == count


def test_all_formats_are_named(run):
    shown = " ".join(run("data", "export", "--help").stdout.split())
    assert f"What to write: {', '.join(EXPORT_FORMATS[:-1])} or {EXPORT_FORMATS[-1]}." in shown
    root = Path(instseg.__file__).parent
    options = (root / "cli/README.md").read_text(encoding="utf-8")
    assert f"{', '.join(f'`{name}`' for name in EXPORT_FORMATS[:-1])} or `{EXPORT_FORMATS[-1]}` |" in options
    table = (root / "annotations/README.md").read_text(encoding="utf-8")
    table = table[table.index("## Export") : table.index("## COCO and YOLO")]
    assert all(f"`{name}`" in table for name in EXPORT_FORMATS)


def test_results_of_predict_are_exported(run, make_data, model):
    make_data()
    assert run("predict", model, "data/images", "--out-dir", "out", "--scores", "scores").exit_code == 0
    options = ("--format", "geojson", "--images", "data/images", "--scores", "scores")
    assert run("data", "export", "out", *options, "--out", "qupath").exit_code == 0
    assert run("predict", model, "data/images/0.png", "--out", "0.png", "--outlines", "0.geojson").exit_code == 0
    assert json.loads(Path("qupath/0.geojson").read_text()) == json.loads(Path("0.geojson").read_text())


def test_images_that_fail_are_named(run, make_data):
    make_data(count=12)
    for number in range(1, 12):
        Path(f"data/labels/{number}.png").write_text("no image")
    done = run("data", "export", "data", "--format", "yolo", "--out", "out")
    assert (done.exit_code, done.stdout.split(" with ")[0]) == (1, "wrote 1 image")
    lines = [line for line in done.stderr.splitlines() if line.startswith("instseg: ")]
    assert lines[0].startswith("instseg: 1.png: cannot read data/labels/1.png")
    assert (len(lines), lines[-1]) == (11, "instseg: 11 images could not be exported")


def test_refusals_name_options(run, refused, misused, make_data):
    make_data()
    error = refused(run("data", "export", "data", "--format", "voc", "--out", "out"), code=2)
    assert error.startswith("--format is voc, expected one of coco, yolo, labelme, geojson")
    Path("out").mkdir()
    Path("out/mine.txt").write_text("x")
    error = refused(run("data", "export", "data", "--format", "coco", "--out", "out"))
    assert error == "out holds files that no export wrote, such as out/mine.txt; give another --out"
    error = refused(run("data", "export", "data/labels", "--format", "coco", "--out", "new"))
    assert "give a data folder, or, for a folder of label images, that of the images by --images DIR" in error
    assert "Missing option" in misused(run("data", "export", "data", "--out", "new"))
    assert sorted(path.name for path in Path().iterdir()) == ["data", "out"]
