"""Labels to the files of other tools, and back by the import."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from instseg.annotations.exporting import export_annotations
from instseg.annotations.importing import import_annotations
from instseg.annotations.writers.formats import EXPORT_FORMATS
from instseg.errors import InstsegError, UsageError
from instseg.io.images import read_image, write_picture
from instseg.io.label_images import read_labels, write_labels
from instseg.io.zarr_labels import write_zarr_labels

# A ring (2) with another object in its hole, parts that touch at a corner (5), a single pixel (7) and a corner (9) of
# the image; 11 touches it, and has a hole that meets the outside at a corner.
LABELS = np.array(
    [
        [2, 2, 2, 2, 0, 5, 0, 0, 9],
        [2, 0, 0, 2, 5, 0, 0, 9, 9],
        [2, 0, 3, 2, 0, 0, 0, 11, 11],
        [2, 2, 2, 2, 7, 0, 11, 11, 11],
        [0, 0, 0, 0, 0, 0, 11, 0, 11],
        [0, 0, 0, 0, 0, 0, 11, 11, 0],
    ],
    np.int32,
)
# Without what polygons of one ring lose.
SIMPLE = np.where(np.isin(LABELS, (2, 5, 11)), 0, LABELS)
SIMPLE[3:, :3] = 20
# Formats that keep everything, and those that have one ring for an object.
EXACT = [name for name in EXPORT_FORMATS if name not in ("yolo", "via")]
NAMES = {2: "round", 3: "long", 5: "round", 7: "it's", 9: "long", 11: "round"}
TABLE = "image,label,class\n" + "".join(f"a.png,{label},{name}\n" for label, name in NAMES.items())


@pytest.fixture
def data():
    """A function that writes a data folder of an image of some objects, one without any, and more."""

    def data(labels=LABELS, table=TABLE, **others):
        for name, values in ({"a": labels, "none": labels * 0} | others).items():
            put(name, values)
        if table:
            Path("data/classes.csv").write_text(table)
        return "data"

    return data


def put(name, labels, folder="data"):
    for kind in ("images", "labels"):
        Path(folder, kind).mkdir(parents=True, exist_ok=True)
    pixels = np.arange(labels.size).reshape(labels.shape) % 256
    write_picture(f"{folder}/images/{name}.png", pixels.astype(np.uint8))
    write_labels(f"{folder}/labels/{name}.png", labels)


def back(source, **options):
    """The labels and the classes that the import makes of a folder."""
    report = import_annotations(source, "back", overwrite=True, **options)
    (path,) = (path for path in Path("back/labels").iterdir() if path.stem == "a")
    table = Path("back/classes.csv")
    rows = [row.split(",") for row in table.read_text().splitlines()[1:]] if table.exists() else []
    return report, np.array(read_labels(path, prediction=True)), {int(row[1]): row[2] for row in rows}


def numbered(labels):
    """The labels as 1, 2, ... in their order."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


@pytest.mark.parametrize("format", EXACT)
def test_labels_and_classes_come_back(data, format):
    if format == "imagej-rois":
        pytest.importorskip("roifile")
    report = export_annotations(data(), "out", format=format)
    assert (report.format, report.exported, report.objects, report.failed) == (format, 2, 6, ())
    has_classes = format not in ("cellpose", "stardist", "dsb")
    assert bool(report.class_names) == has_classes
    assert bool(report.notes) != has_classes
    imported, labels, classes = back("out")
    if format in ("png", "tif", "npy", "cellpose", "stardist"):
        assert np.array_equal(labels, LABELS)
        expected = NAMES
    else:
        assert np.array_equal(labels, numbered(LABELS))
        expected = dict(enumerate(NAMES.values(), start=1))
    assert classes == (expected if has_classes else {})
    assert imported.notes[0].startswith("out is ")


def test_labels_that_are_zarr(data):
    export_annotations(data(), "expected", format="coco")
    expected = json.loads(Path("expected/annotations.json").read_text())
    for path in sorted(Path("data/labels").iterdir()):
        labels = read_labels(path)
        path.unlink()
        write_zarr_labels(path.with_suffix(".zarr"), labels.shape, iter([labels]))
    report = export_annotations("data", "out", format="coco")
    assert (report.exported, report.notes) == (2, ())
    assert json.loads(Path("out/annotations.json").read_text()) == expected
    # Images that are Zarr are no images for other tools.
    zarr.save_array("data/images/a.zarr", read_image("data/images/a.png")[..., 0])
    group = zarr.create_group("data/images/b.zarr", attributes={"ome": {"bioformats2raw.layout": 3}})
    for number in "01":
        group.create_array(number, data=np.ones((4, 3), np.uint8))
        write_labels(f"data/labels/b-{number}.png", np.full((4, 3), 2))
    Path("data/images/a.png").unlink()
    Path("data/classes.csv").unlink()
    report = export_annotations("data", "out", format="coco", overwrite=True)
    assert [image.image for image in report.images] == ["a.zarr", "b-0.zarr", "b-1.zarr", "none.png"]
    assert (report.objects, report.failed) == (8, ())
    assert report.notes == (
        "images that are Zarr, which other tools do not read, are not put beside the annotations: 3 (a.zarr, "
        "b.zarr/0, b.zarr/1); put pictures of the same names there",
    )
    assert [path.name for path in Path("out/images").iterdir()] == ["none.png"]


@pytest.mark.parametrize("format", ["yolo", "via"])
def test_polygons_of_one_ring(data, format):
    report = export_annotations(data(SIMPLE, TABLE + "a.png,20,long\n"), "out", format=format)
    assert [note for note in report.notes if note.startswith("objects")] == []
    _, labels, classes = back("out")
    assert np.array_equal(labels, numbered(SIMPLE))
    assert classes == {1: "long", 2: "it's", 3: "long", 4: "long"}


@pytest.mark.parametrize(("format", "title"), [("yolo", "YOLO segmentation"), ("via", "VIA")])
def test_what_they_lose_is_counted(data, format, title):
    report = export_annotations(data(), "out", format=format)
    assert report.notes == (
        f"objects that {title} has with their holes filled: 2",
        f"objects that {title} has without all parts but the largest: 1",
    )
    rows = Path("out/export.csv").read_text().splitlines()
    assert rows[1] == "a.png,a.png,exported,6,3,2 with their holes filled; 1 without all parts but the largest"
    assert back("out")[0].instances == 6


def test_coco_as_polygons_and_as_one_file(data):
    export_annotations(data(SIMPLE), "out", format="coco", polygons=True)
    assert np.array_equal(back("out")[1], numbered(SIMPLE))
    report = export_annotations("data", "all.json", format="coco")
    assert report.exported == 2
    assert sorted(path.name for path in Path().iterdir()) == ["all.json", "back", "data", "in", "out"]
    assert np.array_equal(back("all.json", images="data/images")[1], numbered(SIMPLE))
    with pytest.raises(InstsegError, match="all.json exists; add `overwrite=True`"):
        export_annotations("data", "all.json", format="coco")
    export_annotations("data", "all.json", format="coco", overwrite=True)
    with pytest.raises(UsageError, match="polygons are a choice of the format coco"):
        export_annotations("data", "new", format="yolo", polygons=True)


def test_scores_go_along(data):
    Path("tables").mkdir()
    Path("tables/a.csv").write_text("id,score,area\n2,0.25,1\n11,0.75,2\n")
    for name in ("coco", "geojson", "yolo"):
        report = export_annotations(data(table=""), name, format=name, scores="tables")
        assert (report.notes[-1:] == ("YOLO segmentation has no scores: those of the objects are left out",)) == (
            name == "yolo"
        )
    annotations = json.loads(Path("coco/annotations.json").read_text())["annotations"]
    assert [one.get("score") for one in annotations] == [0.25, None, None, None, None, 0.75]
    features = json.loads(Path("geojson/a.geojson").read_text())["features"]
    assert features[-1]["properties"]["measurements"]["score"] == 0.75
    # All objects come back, however unsure the model was.
    assert back("coco")[0].instances == 6
    export_annotations("data", "npy", format="npy", scores="tables")
    again = export_annotations("npy", "again", format="coco")
    assert again.notes == ()
    assert Path("again/annotations.json").read_text() == Path("coco/annotations.json").read_text()


def test_a_folder_of_predictions(data):
    data(table="")
    Path("results/scores").mkdir(parents=True)
    write_labels("results/a.tif", LABELS)
    write_labels("results/other.tif", LABELS)
    Path("results/scores/a.csv").write_text("id,score,class\n2,0.25,x\n3,0.5,=y\n")
    report = export_annotations("results", "out", format="coco", images="data/images")
    assert (report.exported, report.class_names) == (1, ("=y", "x", "unclassified"))
    assert report.notes == (
        "images without labels, left out: 1 (none.png)",
        "labels without an image, left out: 1 (other.tif)",
    )
    written = json.loads(Path("out/annotations.json").read_text())
    assert [one["category_id"] for one in written["annotations"]] == [2, 1, 3, 3, 3, 3]
    with pytest.raises(InstsegError, match=r"results has no folders images/ and labels/.*`images=DIR`"):
        export_annotations("results", "out2", format="coco")


def test_class_images(data):
    data(table="")
    Path("data/classes").mkdir()
    for name, labels in (("a", LABELS), ("none", LABELS * 0)):
        write_picture(f"data/classes/{name}.png", np.where(labels > 5, 7, np.where(labels > 0, 3, 0)).astype(np.uint8))
    report = export_annotations("data", "out", format="yolo")
    assert report.class_names == ("3", "7")
    assert [line[0] for line in Path("out/labels/a.txt").read_text().splitlines()] == list("000111")
    assert Path("out/labels/none.txt").read_text() == "\n"


def test_names_that_look_like_formulas_come_back(data):
    data(table="", **{"=a": SIMPLE})
    rows = [f"{image},{label},=x\n" for image, label in (("'=a.png", 20), ("'=a", 3), *(("a", n) for n in NAMES))]
    Path("data/classes.csv").write_text("image,label,class\n" + "".join(rows))
    report = export_annotations("data", "out", format="png")
    # Two objects of the image have no class.
    assert report.class_names == ("=x", "unclassified")
    written = Path("out/classes.csv").read_text().splitlines()
    assert written[1:5] == ["'=a.png,3,'=x", "'=a.png,7,unclassified", "'=a.png,9,unclassified", "'=a.png,20,'=x"]
    again = export_annotations("out", "again", format="png")
    assert again.class_names == report.class_names
    assert Path("again/classes.csv").read_text().splitlines() == written


def test_images_are_linked_copied_or_left_out(data):
    image = Path(data(), "images/a.png")
    export_annotations("data", "linked", format="yolo")
    assert Path("linked/images/a.png").samefile(image)
    export_annotations("data", "copied", format="labelme", copy=True)
    assert not Path("copied/a.png").samefile(image)
    assert Path("copied/a.png").read_bytes() == image.read_bytes()
    export_annotations("data", "without", format="dsb", link_images=False)
    assert not list(Path("without").rglob("a.png"))


def test_an_image_that_fails_costs_no_other(data):
    Path(data(bad=LABELS), "labels/bad.png").write_text("no image")
    put("size", LABELS)
    write_labels("data/labels/size.png", LABELS[:4])
    for format, out in (("coco", "out"), ("coco", "all.json"), ("yolo", "yolo")):
        report = export_annotations("data", out, format=format)
        assert (report.exported, [image.image for image in report.failed]) == (2, ["bad.png", "size.png"])
        assert "expected equal sizes" in report.failed[1].reason
    assert len(json.loads(Path("out/annotations.json").read_text())["images"]) == 2
    for name in ("a", "none"):
        for kind in ("images", "labels"):
            Path(f"data/{kind}/{name}.png").unlink()
    before = Path("all.json").read_text()
    for out in ("new", "new.json", "all.json"):
        with pytest.raises(InstsegError, match="no image of data can be exported"):
            export_annotations("data", out, format="coco", overwrite=True)
    assert not Path("new").exists() and not Path("new.json").exists()
    assert Path("all.json").read_text() == before


def test_only_what_an_export_wrote_is_replaced(data):
    data()
    put("=odd", LABELS)
    for format in EXPORT_FORMATS:
        if format == "imagej-rois":
            continue
        export_annotations("data", "out", format=format, overwrite=True)
    with pytest.raises(InstsegError, match="out is not empty; add `overwrite=True`"):
        export_annotations("data", "out", format="coco")
    Path("out/images/mine.txt").write_text("x")
    with pytest.raises(InstsegError, match="holds files that no export wrote, such as out/images/mine.txt"):
        export_annotations("data", "out", format="coco", overwrite=True)
    Path("in/mine.txt").write_text("x")
    with pytest.raises(InstsegError, match="in holds files that no export wrote"):
        export_annotations("data", "in", format="coco", overwrite=True)
    with pytest.raises(InstsegError, match="is read from there"):
        export_annotations("data", "data", format="coco", overwrite=True)


@pytest.mark.parametrize("format", ["coco", "via", "cvat"])
def test_what_ends_an_export_leaves_nothing(data, format):
    def stop(done, total):
        raise KeyboardInterrupt

    data()
    for out in ("out", *(["all.json"] if format == "coco" else [])):
        with pytest.raises(KeyboardInterrupt):
            export_annotations("data", out, format=format, progress=stop)
    assert sorted(path.name for path in Path().iterdir()) == ["data", "in"]


def test_areas_of_unknown_content_and_masks(data):
    put("mask", np.array([[255, 255, 0], [0, 0, 255]]), "masks")
    with pytest.raises(InstsegError, match="looks like a binary mask"):
        export_annotations("masks", "out", format="coco")
    assert export_annotations("masks", "out", format="coco", connected_components=True).objects == 1
    assert export_annotations(data(table=""), "out2", format="coco", ignore_label=11).objects == 5


def beside(name, content):
    put("a", LABELS, "nothing")
    Path("nothing", name).write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, r"cannot use nothing: there is no such folder"),
        (lambda: Path("nothing").mkdir(), "nothing has no folders images/ and labels/"),
        (lambda: beside("scores.csv", b"a,b\n"), "expected image, label"),
        (lambda: beside("scores.csv", b"image,label\na,x\n"), "invalid literal"),
        (lambda: beside("scores.csv", b"label,score,image\n1,0.5\n"), "line 2 names no image"),
        (lambda: beside("scores.csv", b"\xff\xfe"), "save it as CSV"),
        (lambda: beside("scores.csv", b""), "expected image, label"),
        (lambda: beside("classes.csv", b"x\n"), "no column image"),
    ],
)
def test_folders_that_cannot_be_exported(make, message):
    make()
    with pytest.raises(InstsegError, match=message):
        export_annotations("nothing", "out", format="coco")
    assert not Path("out").exists()


def test_formats_by_the_names_of_the_import(data):
    assert export_annotations(data(), "out", format="qupath").format == "geojson"
    assert import_annotations("out", "back", format="geojson").format == "qupath"
    with pytest.raises(UsageError, match="format is pascal, expected one of coco, yolo, "):
        export_annotations("data", "out2", format="pascal")
