"""`instseg measure`, `predict --measure`, and the options that leave objects out."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instseg.inference.run_record import read_records
from instseg.io.label_images import read_labels, write_labels


def read_csv(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_measure_writes_a_row_for_each_object(run, files, make_data):
    data = make_data(count=2)
    result = run("measure", data / "labels" / "0.png", data / "images" / "0.png")
    labels = read_labels(data / "labels" / "0.png")
    count = len(np.unique(labels)) - 1
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"objects.csv: {count} objects\n", "")
    rows = read_csv("objects.csv")
    assert [int(row["area"]) for row in rows] == [int((labels == int(row["label"])).sum()) for row in rows]
    result = run(
        *("measure", data / "labels", data / "images", "--out", "all.parquet"),
        *("--summary", "images.csv", "--pixel-size", "0.5,0.25"),
    )
    assert result.stdout.endswith(" objects in 2 images\n")
    assert [row["image"] for row in read_csv("images.csv")] == ["0", "1"]
    assert float(read_csv("images.csv")[0]["median_area_um2"]) > 0
    assert [name for name in files() if not name.startswith("data")] == ["all.parquet", "images.csv", "objects.csv"]


def test_measure_tells_what_it_could_not_do(run, refused, make_data):
    data = make_data(count=2)
    (data / "images" / "1.png").write_bytes(b"no image")
    result = run("measure", data / "labels", data / "images")
    assert result.exit_code == 1
    assert result.stdout.endswith(" objects in 1 image\n")
    assert "instseg: data/labels/1.png: cannot read data/images/1.png" in result.stderr
    assert "1 of 2 files could not be measured" in result.stderr
    for arguments, code, message in (
        (("--pixel-size", "0"), 2, "--pixel-size is 0, expected a number of micrometres above 0"),
        (("--pixel-size", "small"), 2, "--pixel-size is small"),
        (("--out", "objects.txt"), 1, "expected a name that ends in .csv or .parquet"),
        (("--summary", "objects.csv"), 2, "--out and --summary cannot share a file"),
    ):
        assert message in refused(run("measure", data / "labels", *arguments), code=code)
    write_labels("labels.png", np.array([[0, 255]]))
    assert "--connected-components" in refused(run("measure", "labels.png"))
    assert run("measure", "labels.png", "--connected-components").exit_code == 0


def test_measure_does_not_load_tensorflow(make_data, environment):
    make_data(count=1)
    code = (
        "import sys; from instseg.cli import app; app(['measure', 'data/labels'], standalone_mode=False); "
        "print([name for name in ('tensorflow', 'keras', 'pyarrow', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"


def test_predict_measures_an_image(run, make_image, model):
    make_image()
    result = run("predict", model, "image.png", "--out", "labels.tif", "--measure", "m.csv", "--pixel-size", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    assert run("measure", "labels.tif", "image.png", "--out", "again.csv", "--pixel-size", 2).exit_code == 0
    rows = read_csv("m.csv")
    assert len(rows) == read_labels("labels.tif").max() > 0
    assert [float(row.pop("score")) > 0 for row in rows] == [True] * len(rows)
    assert rows == read_csv("again.csv")


def test_predict_measures_a_folder_and_sums_it_up(run, refused, files, make_data, model):
    data = make_data(count=3)
    options = ("predict", model, data / "images", "--out-dir", "out", "--measure", "tables")
    (data / "images" / "1.png").rename(data / "later.png")
    assert run(*options).exit_code == 0
    assert [row["image"] for row in read_csv("out/summary.csv")] == ["0", "2"]
    (data / "later.png").rename(data / "images" / "1.png")
    # What was there stays in the summary, and an image whose table is gone is done again.
    Path("tables/2.csv").unlink()
    result = run(*options, "--skip-existing")
    assert result.stdout.startswith("2 images, ")
    rows = read_csv("out/summary.csv")
    assert [row["image"] for row in rows] == ["0", "1", "2"]
    assert [int(row["count"]) for row in rows] == [len(read_csv(f"tables/{row['image']}.csv")) for row in rows]
    assert all(record.entry["measured"]["count"] >= 0 for record in read_records(Path("out")).values())
    assert run(*options, "--skip-existing").stdout == "0 images, 0 instances\n"
    assert read_csv("out/summary.csv") == rows
    error = refused(run(*options, "--skip-existing", "--pixel-size", 1))
    assert "made otherwise (pixel_size=null, now [1.0, 1.0])" in error
    # Labels do not depend on it.
    assert run(*options, "--overwrite", "--pixel-size", 1).exit_code == 0
    assert run(*options[:-2], "--skip-existing").stdout == "0 images, 0 instances\n"
    assert run(*options, "--overwrite").exit_code == 0
    parquet = run(*options, "--overwrite", "--measure-format", "parquet", "--shard", "2/3")
    assert parquet.exit_code == 0
    assert "tables/1.parquet" in files()
    shard = ("--skip-existing", "--measure-format", "parquet", "--shard", "2/3")
    for _ in range(2):
        assert [row["image"] for row in read_csv("out/summary-2-of-3.csv")] == ["1"]
        assert run(*options, *shard).stdout == "0 images, 0 instances\n"
    assert read_csv("out/summary.csv") == rows


def test_predict_measures_planes_of_a_stack(run, disc_image, model):
    planes = [disc_image(seed)[0] for seed in range(2)]
    tifffile.imwrite("stack.tif", np.stack(planes), photometric="minisblack")
    result = run("predict", model, "stack.tif", "--planes", "--out-dir", "out", "--measure", "tables")
    assert (result.exit_code, result.stderr) == (0, "")
    for index, plane in enumerate(planes):
        labels = read_labels(f"out/stack-{index:04d}.png")
        rows = read_csv(f"tables/stack-{index:04d}.csv")
        assert [float(row["intensity_max"]) for row in rows] == [plane[labels == i + 1].max() for i in range(len(rows))]


def test_predict_refuses_what_measuring_cannot_do(run, refused, files, make_image, model, monkeypatch):
    make_image()
    options = ("predict", model, "image.png", "--out", "labels.png")
    for arguments, code, message in (
        (("--pixel-size", 1), 2, "--pixel-size is for measurements; give --measure FILE"),
        (("--measure", "m.csv", "--pixel-size", 0), 2, "--pixel-size is 0"),
        (("--measure", "m.xlsx"), 1, "expected a name that ends in .csv or .parquet"),
        (("--measure", "labels.png"), 1, "expected a name that ends in .csv or .parquet"),
        (("--max-size", 0), 2, "--max-size is 0, expected a number above 0"),
        (("--min-score", 2), 2, "--min-score is 2.0, expected a score from 0 to 1"),
    ):
        assert message in refused(run(*options, *arguments), code=code)
    # What is missing is told before the work begins.
    monkeypatch.setattr("instseg.optional.find_spec", lambda package: None)
    assert "Parquet tables need pyarrow" in refused(run(*options, "--measure", "m.parquet"))
    folder = ("predict", model, "image.png", "--out-dir", "out", "--measure", "tables", "--measure-format", "parquet")
    assert "Parquet tables need pyarrow" in refused(run(*folder))
    assert files() == ["image.png"]


@pytest.mark.parametrize("tiles", [(), ("--tile", 32, "--overlap", 8)])
def test_predict_and_cluster_leave_objects_out(run, make_image, model, tiles):
    make_image(size=64)
    options = ("predict", model, "image.png", *tiles, "--scores", "s.csv", "--embeddings", "maps.npz")
    assert run(*options, "--out", "all.png").exit_code == 0
    rows = read_csv("s.csv")
    sizes = sorted(int(row["area"]) for row in rows)
    largest = sizes[len(sizes) // 2]
    filters = ("--max-size", largest, "--exclude-border", "--min-score", 0.01)
    assert run(*options, "--out", "some.png", *filters).exit_code == 0
    kept = [
        row
        for row in rows
        if int(row["area"]) <= largest
        and 0 < int(row["first_row"]) <= int(row["last_row"]) < 63
        and 0 < int(row["first_column"]) <= int(row["last_column"]) < 63
        and float(row["score"]) >= 0.01
    ]
    assert [row | {"id": ""} for row in read_csv("s.csv")] == [row | {"id": ""} for row in kept]
    assert read_labels("some.png").max(initial=0) == len(kept) < len(rows)
    if not tiles:
        result = run("cluster", "maps.npz", "--out", "again.png", "--scores", "again.csv", *filters)
        assert result.stdout == f"again.png: {len(kept)} instances\n"
        assert Path("again.png").read_bytes() == Path("some.png").read_bytes()
        assert Path("again.csv").read_text() == Path("s.csv").read_text()


def test_filters_are_noted_and_other_ones_are_other_results(run, refused, make_data, model):
    data = make_data(count=1)
    options = ("predict", model, data / "images", "--out-dir", "out")
    assert run(*options, "--max-size", 300).exit_code == 0
    error = refused(run(*options, "--skip-existing"))
    assert "made otherwise (max_size=300, now null)" in error
    assert run(*options, "--max-size", 300, "--skip-existing").stdout == "0 images, 0 instances\n"
