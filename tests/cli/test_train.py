"""`instseg train`: what works."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instseg.io.images import read_image
from instseg.io.label_images import read_labels, write_labels
from instseg.labels.regions import IGNORED
from instseg.training.prepare import TrainingRequest, check_request, prepare_training

# A network of two levels of 8 channels, which takes milliseconds a step.
EASY = ("--batch-size", 1, "--patch-size", 64, "--validation-every", 1000, "--network", "8,8")


def test_train_pads_small_images_and_reads_16_bit_rgb_and_binary_masks(
    run, refused, files, make_image, make_data, write_rgb
):
    data = make_data(count=2)
    for index in range(2):
        image = read_image(data / f"images/{index}.png")[..., 0]
        write_rgb(data / f"images/{index}.png", image)
        write_labels(data / f"labels/{index}.png", (read_labels(data / f"labels/{index}.png") > 0) * 255)
    assert "--connected-components" in refused(run("train", "model", "--data", data, *EASY))
    result = run("train", "model", "--data", data, "--iterations", 2, "--connected-components", *EASY)
    assert result.exit_code == 0
    assert re.fullmatch(
        r"model: 2 iterations, AP50 \d\.\d{3}, AP75 \d\.\d{3}, AP50-90 \d\.\d{3} "
        r"on 2 validation images, all learnt from: expect less on others\n",
        result.stdout,
    )
    assert result.stderr.endswith("Segment images with: instseg predict model IMAGE --out labels.png\n")
    written = set(files())
    assert {"model/instseg.json", "model/saved_model.pb", "model/report/curves.png"} <= written
    assert not [name for name in written if "partial" in name]
    stored = json.loads(Path("model/instseg.json").read_text())
    assert (stored["model"]["channels"], stored["iteration"]) == (3, 2)
    result = run("predict", "model", data / "images", "--out-dir", "out")
    assert (result.exit_code, result.stderr) == (0, "")
    # A gray image is shown to all three channels.
    make_image("gray.png")
    assert run("predict", "model", "gray.png", "--out", "labels.png").exit_code == 0

    # Going on: with another number of iterations, and with nothing else that is different.
    error = refused(run("train", "model", "--resume", "--batch-size", 2), code=2)
    assert error.startswith("--batch-size is 2, but model was trained with 1; leave it out to go on, or give --fresh")
    error = refused(run("train", "model", "--resume", "--network", "large"), code=2)
    assert error == "--network is another one than that of model; leave it out, or give --fresh"
    result = run("train", "model", "--resume")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "model has its 2 iterations; give more by --iterations to go on\n"
    error = refused(run("train", "model", "--resume", "--iterations", 3, "--data", make_data("gray")), code=2)
    assert error.startswith("the images have 1 channels, but model was trained on 3; convert them, or train into a new")
    result = run("train", "model", "--resume", "--iterations", 3)
    assert (result.exit_code, result.stdout[:20]) == (0, "model: 3 iterations,")
    # --fresh replaces it.
    result = run("train", "model", "--fresh", "--data", "gray", "--iterations", 1, *EASY)
    assert (result.exit_code, result.stdout[:20]) == (0, "model: 1 iterations,")
    assert json.loads(Path("model/instseg.json").read_text())["model"]["channels"] == 1


def test_train_takes_the_channels_that_are_chosen_and_the_model_keeps_the_choice(
    run, refused, make_data, write_coloured
):
    data = make_data(count=3)
    for index in range(2):
        write_coloured(data / f"images/{index}.png", read_image(data / f"images/{index}.png")[..., 0])
    assert "or give --channels gray" in refused(run("train", "model", "--data", data, *EASY))
    report = run("data", "check", data)
    assert report.exit_code == 1
    assert "channels" in report.stdout
    error = refused(run("train", "model", "--data", data, "--channels", "green", *EASY))
    assert error.startswith("data/images/2.png: the image has 1 channel (gray), but --channels green takes channel 2;")
    assert run("data", "check", data, "--channels", "2").exit_code == 1
    error = refused(run("train", "model", "--data", data, "--channels", "pink", *EASY), code=2)
    assert error.startswith("--channels is 'pink', expected numbers from 1")
    assert "generated discs have one" in refused(run("train", "model", "--channels", "1", *EASY), code=2)

    (data / "images/2.png").unlink()
    (data / "labels/2.png").unlink()
    assert run("data", "check", data, "--channels", "green,1").exit_code == 0
    # Twice the same would hide that the choice is made once: the first channel is dark.
    result = run("train", "model", "--data", data, "--channels", "green,1", "--iterations", 2, *EASY)
    assert result.exit_code == 0
    stored = json.loads(Path("model/instseg.json").read_text())["model"]
    assert (stored["channels"], stored["channel_choice"]) == (2, "green,1")
    assert run("predict", "model", data / "images/0.png", "--out", "labels.png").exit_code == 0
    error = refused(run("train", "model", "--resume", "--iterations", 3, "--channels", "3"), code=2)
    assert error.startswith("--channels is 3, but model was trained on --channels green,1; leave it out")
    assert run("train", "model", "--resume", "--iterations", 3).exit_code == 0
    assert run("evaluate", "model", "--data", data, "--channels", "2,1").exit_code == 0


def test_classes_are_learnt_listed_drawn_and_evaluated(run, refused, make_data):
    data = make_data(count=3)
    rows = ["image,label,class"]
    for index in range(3):
        ids = np.unique(read_labels(data / f"labels/{index}.png"))[1:]
        rows += [f"{index}.png,{label},{'odd' if label % 2 else 'even'}" for label in ids]
    (data / "classes.csv").write_text("\n".join(rows[:-1]) + "\n")
    assert "1 instances of data/labels/2.png have no class" in refused(run("train", "model", "--data", data, *EASY))
    assert run("data", "check", data).exit_code == 1
    (data / "classes.csv").write_text("\n".join(rows) + "\n")
    checked = run("data", "check", data)
    assert checked.exit_code == 0
    assert "even (" in checked.stdout
    result = run("train", "model", "--data", data, "--iterations", 2, *EASY)
    assert result.exit_code == 0
    stored = json.loads(Path("model/instseg.json").read_text())["model"]
    assert (stored["classes"], stored["class_names"]) == (3, ["even", "odd"])

    image = data / "images/0.png"
    every = ("--seed-threshold", "0.001", "--foreground-threshold", "0.01", "--min-size", "1")
    extras = ("--scores", "s.csv", "--outlines", "o.geojson", "--overlay", "o.png", "--embeddings", "e.npz")
    assert run("predict", "model", image, "--out", "labels.png", *extras, *every).exit_code == 0
    lines = Path("s.csv").read_text().splitlines()
    assert lines[0].endswith(",class,p(even),p(odd)")
    assert {line.split(",")[-3] for line in lines[1:]} <= {"even", "odd"}
    assert len(lines) > 1
    features = json.loads(Path("o.geojson").read_text())["features"]
    assert features[0]["properties"]["classification"]["name"] in ("even", "odd")
    assert read_image(Path("o.png")).shape[0] > 48
    assert np.load("e.npz")["class_names"].tolist() == ["even", "odd"]
    assert run("cluster", "e.npz", "--out", "again.png").exit_code == 0
    assert run("predict", "model", image, "--out", "tta.png", "--tta", "--scores", "tta.csv").exit_code == 0

    figures = json.loads(run("evaluate", "model", "--data", data, "--json").stdout)
    assert list(figures["classes"]) == ["even", "odd"]
    assert figures["classes"]["even"]["truth"] + figures["classes"]["odd"]["truth"] == figures["truth"]
    assert "Of each class" in run("evaluate", "model", "--data", data).stdout

    # Going on and beginning with it.
    (data / "classes.csv").unlink()
    error = refused(run("train", "model", "--resume", "--iterations", 3), code=2)
    assert error.startswith("the classes are none, but model was trained on even, odd; mend them")
    result = run("train", "other", "--data", data, "--from", "model", "--iterations", 1, *EASY)
    assert result.exit_code == 0
    assert "the classes start fresh: one for all objects" in result.stderr


def test_planes_of_a_stack_are_channels_where_these_are_chosen(run, refused, make_data):
    data = make_data(count=2)
    for index in range(2):
        image = read_image(data / f"images/{index}.png")[..., 0]
        (data / f"images/{index}.png").unlink()
        tifffile.imwrite(data / f"images/{index}.tif", np.stack([image * 0, image]), photometric="minisblack")
    assert "--channels takes planes as channels" in refused(run("train", "model", "--data", data, *EASY))
    assert run("data", "check", data, "--channels", "2").exit_code == 0
    assert run("train", "model", "--data", data, "--channels", "2", "--iterations", 1, *EASY).exit_code == 0
    assert json.loads(Path("model/instseg.json").read_text())["model"]["channels"] == 1
    # The model knows.
    assert run("predict", "model", data / "images", "--out-dir", "out").exit_code == 0
    assert run("predict", "model", data / "images/0.tif", "--out", "labels.png").exit_code == 0
    assert run("evaluate", "model", "--data", data).exit_code == 0


def test_resume_keeps_where_the_data_are_and_how_they_are_read(run, make_data, monkeypatch):
    data, val = make_data(count=2), make_data("val", count=1)
    for folder in (data, val):
        for path in (folder / "labels").iterdir():
            write_labels(path, (read_labels(path) > 0) * 255)
    options = ("--data", data, "--val", val, "--connected-components")
    assert run("train", "model", *options, "--iterations", 1, *EASY).exit_code == 0
    # From another working directory as well.
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    result = run("train", "../model", "--resume", "--iterations", 2)
    assert (result.exit_code, result.stdout[:23]) == (0, "../model: 2 iterations,")
    stored = json.loads(Path("../model/instseg.json").read_text())["data"]
    assert stored["validation_images"] == ["0"]
    assert (stored["training_images"], stored["source"]["connected_components"]) == (2, True)


def test_resume_takes_the_advice_to_give_data(run, make_data):
    make_data()
    assert run("train", "model", "--data", "data", "--iterations", 1, *EASY).exit_code == 0
    settings = Path("model/current/instseg.json")
    stored = json.loads(settings.read_text())
    stored["data"] = {}
    settings.write_text(json.dumps(stored))
    done = run("train", "model", "--resume", "--iterations", 2, "--data", "data")
    assert done.exit_code == 0, done.stderr


def test_what_was_kept_for_validation_stays_so_when_images_are_added(run, make_data):
    def validation_images():
        return json.loads(Path("model/instseg.json").read_text())["data"]["validation_images"]

    make_data(count=5)
    share = ("--validation-share", 0.4)
    assert run("train", "model", "--data", "data", "--iterations", 1, *share, *EASY).exit_code == 0
    before = validation_images()
    assert len(before) == 2
    make_data(count=12)
    assert run("train", "model", "--resume", "--iterations", 2).exit_code == 0
    assert validation_images() == before
    # Where none of them is left, others are drawn.
    for name in before:
        for kind in ("images", "labels"):
            Path(f"data/{kind}/{name}.png").unlink()
    assert run("train", "model", "--resume", "--iterations", 3).exit_code == 0
    assert len(validation_images()) == 4


def test_few_images_are_all_learnt_from_and_their_sizes_checked_until_there_are_more(run, make_data):
    def stored():
        return json.loads(Path("model/instseg.json").read_text())

    make_data(count=3)
    done = run("train", "model", "--data", "data", "--iterations", 1, *EASY)
    assert done.exit_code == 0, done.stderr
    assert "on 3 validation images, all learnt from: expect less on others" in done.stdout
    assert (stored()["data"]["training_images"], len(stored()["data"]["validation_images"])) == (3, 3)
    assert stored()["model"]["check_diameter"] is True
    page = Path("model/report/index.html").read_text()
    assert "Its scores are of images that it has learnt from, too: on others they are lower." in page
    # What was learnt from and validated on is not kept from the training where there are more images.
    make_data(count=7)
    done = run("train", "model", "--resume", "--iterations", 2)
    assert done.exit_code == 0, done.stderr
    assert "learnt from" not in done.stdout
    assert (stored()["data"]["training_images"], len(stored()["data"]["validation_images"])) == (6, 1)
    assert "validated_apart" not in stored()["data"]
    assert stored()["model"]["check_diameter"] is False


def test_the_page_says_of_several_folders_of_one_image_that_all_is_learnt_from(run, make_data):
    for folder in ("a", "b"):
        make_data(folder, count=1)
    done = run("train", "model", "--data", "a", "--data", "b", "--iterations", 1, *EASY)
    assert done.exit_code == 0, done.stderr
    assert "all learnt from: expect less on others" in done.stdout
    page = Path("model/report/index.html").read_text()
    assert "Its scores are of images that it has learnt from, too: on others they are lower." in page


STEP = r"iteration \d+/\d+ loss \d+\.\d{4}( \w+ \d+\.\d{4})+ \d+\.\d images/s(, \d+:\d\d left)?"


SAVED = r"saved at iteration \d+: AP50 \d\.\d{3}, AP75 \d\.\d{3}, AP50-90 \d\.\d{3}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_has_training_save_and_say_how_to_go_on(run, start, finish, make_image, make_data, number):
    data = make_data(count=2, size=64)
    started = start("train", "model", "--data", data, "--iterations", 100_000, *EASY)
    first = started.stderr.readline()
    assert re.fullmatch(STEP + "\n", first)
    started.send_signal(number)
    code, stdout, stderr = finish(started)
    assert code == 0
    done = int(re.match(r"model: ([\d,]+) iterations, AP50", stdout)[1].replace(",", ""))
    assert 1 <= done < 100_000
    again = "" if number == signal.SIGHUP else "; once more ends at once, unsaved"
    # Every line: nothing of TensorFlow's own is among them.
    expected = (
        rf"({STEP}\n)*"
        rf"{number.name}: saving after this iteration{again}\n"
        rf"({STEP}\n)*{SAVED}\n"
        r"Stopped before its end\. Go on with: instseg train model --resume --iterations 100000\n"
    )
    assert re.fullmatch(expected, stderr)
    assert json.loads(Path("model/instseg.json").read_text())["iteration"] == done
    make_image()
    assert run("predict", "model", "image.png", "--out", "labels.png").exit_code == 0

    result = run("train", "model", "--resume", "--iterations", done + 2)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"model: {done + 2:,} iterations, ")


def test_train_warns_of_labels_and_leaves_ignored_pixels_out(run, make_data):
    data = make_data(count=2, size=64)
    for path in (data / "labels").iterdir():
        labels = read_labels(path)
        labels[:8] = 255
        labels[::9] = 255
        write_labels(path, labels)
    result = run("train", "model", "--data", data, "--iterations", 1, *EASY)
    assert result.exit_code == 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert any("the label 255 looks like" in line and "give --ignore-label 255" in line for line in lines)
    result = run("train", "model", "--resume", "--iterations", 2, "--ignore-label", 255)
    assert result.exit_code == 0
    assert "255" not in result.stderr
    # The next one leaves them out without being told.
    prepared = prepare_training(check_request(TrainingRequest(model_dir=Path("model"), resume=True)))
    assert prepared.config.data["source"]["ignore_label"] == 255
    assert not any("255" in problem.what for problem in prepared.data.problems)
    assert (prepared.data.validation[0].labels == IGNORED).any()
