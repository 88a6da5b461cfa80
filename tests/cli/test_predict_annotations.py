"""`instseg predict --coco` and `--yolo`: files of all images, whatever a run leaves out."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instseg.annotations.importing import import_annotations
from instseg.errors import InstsegError
from instseg.inference.annotation_files import folder_annotations
from instseg.inference.outputs import OutputFolder
from instseg.io.label_images import read_labels


@pytest.fixture
def predict(run, make_image, model):
    """A function that segments the images of a folder into another."""
    Path("in").mkdir()
    for seed, name in enumerate("abc"):
        make_image(f"in/{name}.png", seed=seed)

    def predict(*options):
        result = run("predict", model, "in", "--out-dir", "out", *options)
        assert result.exit_code == 0, result.stderr
        return result

    return predict


def coco(path="all.json"):
    return json.loads(Path(path).read_text())


def areas(path="all.json"):
    """The areas of the objects of each image in a file of COCO."""
    names = {image["id"]: image["file_name"] for image in coco(path)["images"]}
    found = {name: [] for name in names.values()}
    for annotation in coco(path)["annotations"]:
        found[names[annotation["image_id"]]].append(annotation["area"])
    return found


def labelled_areas(*names, folder="out"):
    return {f"{name}.png": np.bincount(read_labels(f"{folder}/{name}.png").ravel())[1:].tolist() for name in names}


def test_a_folder_gives_one_file_with_scores(predict):
    done = predict("--coco", "all.json", "--scores", "scores")
    assert "wrote 3 images to all.json" in done.stderr.splitlines()
    assert areas() == labelled_areas("a", "b", "c")
    rows = [row.split(",") for name in "abc" for row in Path(f"scores/{name}.csv").read_text().splitlines()[1:]]
    assert [one["score"] for one in coco()["annotations"]] == [float(row[1]) for row in rows]
    assert [image["id"] for image in coco()["images"]] == [1, 2, 3]
    assert sorted(path.name for path in Path("out/.coco").iterdir()) == ["a.jsonl", "b.jsonl", "c.jsonl"]
    import_annotations("all.json", "back", images="in")
    for name in "abc":
        assert np.array_equal(read_labels(f"back/labels/{name}.png"), read_labels(f"out/{name}.png"))


def test_a_data_set_of_yolo(predict):
    done = predict("--yolo", "yolo")
    assert sorted(path.as_posix() for path in Path("yolo").rglob("*.*")) == [
        "yolo/data.yaml",
        *(f"yolo/images/{name}.png" for name in "abc"),
        *(f"yolo/labels/{name}.txt" for name in "abc"),
    ]
    lines = [len(Path(f"yolo/labels/{name}.txt").read_text().split("\n")[:-1]) for name in "abc"]
    assert lines == [int(read_labels(f"out/{name}.png").max()) for name in "abc"]
    assert Path("yolo/images/a.png").samefile("in/a.png")
    assert Path("yolo/data.yaml").read_text().startswith("# Objects that instseg predict has found.\n")
    assert all("objects that YOLO has with" in line for line in done.stderr.splitlines() if "YOLO" in line)
    # Again, over what is there.
    predict("--yolo", "yolo", "--overwrite")
    assert Path("yolo/images/a.png").samefile("in/a.png")


def test_what_was_skipped_is_in_the_files(predict, make_image):
    predict("--coco", "all.json", "--yolo", "yolo")
    before = coco()
    Path("out/b.png").unlink()
    Path("all.json").unlink()
    done = predict("--coco", "all.json", "--yolo", "yolo", "--skip-existing")
    assert (done.stdout.split(",")[0], coco() == before) == ("1 images", True)
    assert Path("yolo/data.yaml").exists()
    # With nothing left to do, and under another name.
    done = predict("--coco", "other.json", "--yolo", "yolo", "--skip-existing")
    assert (done.stdout, coco("other.json") == before) == ("0 images, 0 instances\n", True)
    make_image("in/0.png", seed=9)
    predict("--coco", "all.json", "--skip-existing")
    assert areas() == labelled_areas("0", "a", "b", "c")


def test_labels_are_not_replaced_for_annotations_unless_that_is_asked_for(run, predict, model, refused):
    predict()
    before = Path("out/a.png").read_bytes()
    again = ("predict", model, "in", "--out-dir", "out", "--coco", "all.json", "--skip-existing")
    reason = "what --coco or --yolo needs is missing or older than the labels"
    # Somebody may have corrected the labels since.
    error = refused(run(*again))
    assert f"out holds results of 3 of the images that were made otherwise ({reason}); add --overwrite" in error
    assert Path("out/a.png").read_bytes() == before
    assert run(*again, "--overwrite").stdout.startswith("3 images")
    predict("--overwrite", "--min-size", 40)
    assert reason in refused(run(*again, "--min-size", 40))
    assert run(*again, "--min-size", 40, "--overwrite").stdout.startswith("3 images")
    assert areas() == labelled_areas("a", "b", "c")


def test_an_image_that_fails_is_not_in_the_file(run, predict, model, write_bad_image):
    predict("--coco", "all.json")
    write_bad_image("cut", Path("in/b.png"))
    failed = run("predict", model, "in", "--out-dir", "out", "--coco", "all.json", "--overwrite")
    assert (failed.exit_code, sorted(areas())) == (1, ["a.png", "c.png"])
    again = run("predict", model, "in", "--out-dir", "out", "--coco", "all.json", "--skip-existing", "--overwrite")
    assert (again.exit_code, sorted(areas())) == (1, ["a.png", "c.png"])


def test_a_data_set_of_somebody_else_stays(run, predict, model, make_image, refused):
    Path("mine/images").mkdir(parents=True)
    make_image("mine/images/a.png", seed=7)
    own = Path("mine/images/a.png").read_bytes()
    for options in (("--out", "a.png"), ("--out-dir", "out", "--overwrite")):
        error = refused(run("predict", model, "in/a.png", *options, "--yolo", "mine"))
        assert error == "mine holds files that no prediction wrote, such as mine/images/a.png; give another --yolo"
    Path("mine/data.yaml").write_text("names: [cat]\n")
    assert "such as mine/data.yaml" in refused(run("predict", model, "in/a.png", "--out", "a.png", "--yolo", "mine"))
    assert Path("mine/images/a.png").read_bytes() == own
    assert sorted(path.name for path in Path("mine").rglob("*.*")) == ["a.png", "data.yaml"]


def test_an_image_that_fails_alone_replaces_nothing(run, predict, model, write_bad_image):
    options = ("--out", "labels.png", "--coco", "a.json", "--yolo", "yolo")
    assert run("predict", model, "in/a.png", *options).exit_code == 0
    before = Path("a.json").read_text()
    write_bad_image("cut", Path("in/b.png"))
    assert run("predict", model, "in/b.png", *options).exit_code == 1
    assert Path("a.json").read_text() == before
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_what_cannot_be_written_costs_nothing_else(run, predict, model, write_bad_image):
    predict("--coco", "all.json")
    Path("out/.coco/a.jsonl").write_text("{")
    write_bad_image("cut", Path("in/b.png"))
    options = ("--out-dir", "out", "--coco", "all.json", "--report", "report.html", "--skip-existing", "--overwrite")
    failed = run("predict", model, "in", *options)
    assert (failed.exit_code, "a.jsonl: it is damaged; remove it" in failed.stderr) == (1, True)
    assert "in/b.png" in Path("out/failed.csv").read_text()
    assert Path("report.html").exists()


def test_a_page_of_one_image_that_cannot_be_written_is_told(run, predict, model, refused, monkeypatch):
    def full(path, *_):
        raise InstsegError(f"cannot write {path}: the disc is full")

    monkeypatch.setattr("instseg.inference.report.write_prediction_page", full)
    result = run("predict", model, "in/a.png", "--out", "a.png", "--report", "report.html")
    assert (result.exit_code, "report.html: the disc is full" in result.stderr) == (1, True)


def test_runs_side_by_side_end_with_all_images(predict):
    predict("--coco", "all.json", "--yolo", "yolo", "--shard", "2/2")
    assert sorted(areas()) == ["b.png"]
    predict("--coco", "all.json", "--yolo", "yolo", "--shard", "1/2")
    assert areas() == labelled_areas("a", "b", "c")
    assert len(list(Path("yolo/labels").iterdir())) == 3


def test_images_that_are_not_asked_for_are_not_in_the_file(run, predict, model):
    predict("--coco", "all.json")
    assert run("predict", model, "in/c.png", "--out-dir", "out", "--coco", "c.json", "--overwrite").exit_code == 0
    assert areas("c.json") == labelled_areas("c")


def test_one_image_and_labels_of_numpy(run, make_image, model):
    make_image()
    options = ("--out", "labels.npy", "--coco", "a.json", "--yolo", "yolo")
    assert run("predict", model, "image.png", *options).exit_code == 0
    labels = np.load("labels.npy")
    assert labels.dtype == np.int32
    assert areas("a.json") == {"image.png": np.bincount(labels.ravel())[1:].tolist()}
    assert sorted(path.name for path in Path().iterdir()) == ["a.json", "image.png", "labels.npy", "model", "yolo"]
    assert run("predict", model, "image.png", "--out", "labels.png").exit_code == 0
    assert np.array_equal(read_labels("labels.png"), labels)
    assert run("predict", model, "image.png", "--out-dir", "out", "--format", "npy").exit_code == 0
    assert np.array_equal(np.load("out/image.npy"), labels)


def test_planes_are_named_like_their_results(run, model, disc_image):
    tifffile.imwrite("stack.tif", np.stack([disc_image(seed)[0] for seed in range(2)]), metadata={"axes": "ZYX"})
    options = ("--planes", "--out-dir", "out", "--coco", "a.json", "--yolo", "yolo")
    done = run("predict", model, "stack.tif", *options)
    assert done.exit_code == 0, done.stderr
    assert areas("a.json") == {
        f"{name.removesuffix('.png')}.tif": found for name, found in labelled_areas("stack-0000", "stack-0001").items()
    }
    assert "trainers of YOLO do not read such images" in done.stderr
    again = run("predict", model, "stack.tif", *options, "--skip-existing")
    assert (again.stdout, len(coco("a.json")["images"])) == ("0 images, 0 instances\n", 2)


def test_labels_that_are_read_part_by_part(run, model, monkeypatch, refused, disc_image):
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", 10)
    tifffile.imwrite("image.tif", disc_image()[0], tile=(16, 16))
    assert run("predict", model, "image.tif", "--out", "a.npy").exit_code == 0
    assert run("predict", model, "image.tif", "--out", "a.tif").exit_code == 0
    assert np.array_equal(np.load("a.npy"), read_labels("a.tif"))
    error = refused(run("predict", model, "image.tif", "--out", "a.tif", "--coco", "a.json", "--yolo", "yolo"))
    assert "is read part by part, which --coco and --yolo cannot be" in error


def test_where_they_cannot_go(run, predict, model, refused):
    predict("--coco", "all.json")

    def error(*options, code=1):
        return refused(run("predict", model, "in", *options), code=code)

    assert error("--out-dir", "new", "--coco", "all.json") == (
        "all.json exists; add --overwrite or --skip-existing, or give it another name"
    )
    assert "expected a name that ends in .json" in error("--out-dir", "new", "--coco", "all.csv")
    assert "expected a name that ends in .json" in error("--out-dir", "new", "--coco", "new/all.csv")
    assert "the folder nowhere does not exist" in error("--out-dir", "new", "--coco", "nowhere/all.json")
    assert "says how results were made" in error("--out-dir", "new", "--coco", "new/run.json", code=2)
    assert "looks like a file" in error("--out-dir", "new", "--yolo", "data.yaml", code=2)
    assert "it is a file" in error("--out-dir", "new", "--yolo", "all.json")
    assert not Path("new").exists()
    # Beside the labels is a good place.
    predict("--coco", "out/all.json", "--overwrite")
    assert areas("out/all.json") == labelled_areas("a", "b", "c")


def test_workers_are_told_where_they_go():
    files = folder_annotations(Path("a.json"), Path("yolo"), ("x", "y"), Path("out"), shared=False)
    outputs = OutputFolder(Path("out"), "png", {}, [Path("in/a.png")], shared=False)
    outputs.annotations = files
    sent = pickle.loads(pickle.dumps(outputs.absolute())).annotations
    assert sent.of_image("a") == [Path.cwd() / "out/.coco/a.jsonl", Path.cwd() / "yolo/labels/a.txt"]
    assert (sent.coco, sent.class_names) == (Path.cwd() / "a.json", ("x", "y"))
    assert list(Path().iterdir()) == []
