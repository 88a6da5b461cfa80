import functools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

import instseg
from instseg.cli import app
from instseg.data.discs import draw_discs
from instseg.embeddings import read_embeddings
from instseg.images import header, read_image, read_labels, write_labels, write_picture
from instseg.metrics import score
from instseg.runtime import fastest_precision, held_back
from instseg.settings import DiscSettings, ModelSettings
from instseg.store import FORMAT, only_training

SMALL_NET = (8, 8)
# What TensorFlow and a terminal's state would add to a subprocess's output.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "COLUMNS", "FORCE_"))}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small_net(monkeypatch):
    monkeypatch.setattr("instseg.cli.train.ModelSettings", functools.partial(ModelSettings, widths=SMALL_NET))


@pytest.fixture
def model(tiny_model):
    """The tiny model under a short name."""
    Path("model").symlink_to(tiny_model)
    return Path("model")


@pytest.fixture
def copied(tiny_model):
    """A copy of the tiny model without links, free to be damaged."""
    return Path(shutil.copytree(tiny_model / "current", "model"))


def run(*arguments):
    """Call the command in this process; a traceback fails the test."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def process(*arguments, small=False):
    """Start the command as a program; a small network needs the settings changed in that process."""
    command = [sys.executable, "-m", "instseg"]
    if small:
        change = (
            "import functools, instseg.cli.train as train, instseg.settings as settings;"
            f"train.ModelSettings = functools.partial(settings.ModelSettings, widths={SMALL_NET});"
            "from instseg.cli import main; main()"
        )
        command = [sys.executable, "-c", change]
    return subprocess.Popen(
        [*command, *(str(argument) for argument in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def finish(started):
    stdout, stderr = started.communicate(timeout=120)
    return started.returncode, stdout, stderr


def refused(result, code=1, lines=1):
    """The last line of a refusal: one line on stderr, nothing on stdout."""
    assert (result.exit_code, result.stdout) == (code, "")
    said = result.stderr.splitlines()
    assert len(said) == lines
    assert all(line.startswith("instseg: ") for line in said)
    return said[-1].removeprefix("instseg: ")


def misused(result):
    """What Typer itself refuses, unfolded from its box."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    return " ".join(re.sub("[─│╭╮╰╯]", " ", result.stderr).split())


def files():
    return sorted(path.as_posix() for path in Path().rglob("*") if path.is_file())


def disc_image(seed=0, size=48):
    return draw_discs(np.random.default_rng(seed), DiscSettings(size=size, min_discs=3, max_discs=5))


def make_image(path="image.png", **options):
    write_picture(Path(path), disc_image(**options)[0])
    return Path(path)


def make_data(folder="data", count=3, size=48):
    folder = Path(folder)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, labels = disc_image(index, size)
        write_picture(folder / "images" / f"{index}.png", image)
        write_labels(folder / "labels" / f"{index}.png", labels)
    return folder


def write_png(path, pixels):
    Path(path).write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def write_huge_png(path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 40_000, 25_000, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def make_npz(path="maps.npz", **changes):
    """Embeddings of two objects side by side; members set to None are left out."""
    values = np.repeat(np.float32([0, 9]), 8)[None, :, None] + np.zeros((16, 16, 2), np.float32)
    seeds = np.full((16, 16), 0.1, np.float32)
    seeds[8, [4, 12]] = 0.9
    members = {
        "format": np.array(1),
        "embeddings": values,
        "foreground": np.ones((16, 16), np.float32),
        "seeds": seeds,
        "bandwidth": np.full((16, 16), 2, np.float32),
    } | changes
    np.savez(path, **{name: value for name, value in members.items() if value is not None})
    return Path(path)


# The command itself


def test_version_and_module():
    code, stdout, stderr = finish(process("--version"))
    assert (code, stdout, stderr) == (0, f"instseg {instseg.__version__}\n", "")


def test_help_names_the_commands():
    text = run("--help").stdout
    assert all(name in text for name in ("train", "predict", "cluster", "evaluate", "data", "models", "export"))


@pytest.mark.parametrize(
    "command", ["train", "predict", "cluster", "evaluate", "models", "export", "data generate", "data check"]
)
def test_every_command_has_help(command):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("segment", "No such command 'segment'"),
        ("train", "Missing argument 'MODEL_DIR'"),
        ("predict", "Missing argument 'MODEL'"),
        ("predict model", "Missing argument 'IMAGE...'"),
        ("cluster", "Missing argument 'EMB.npz'"),
        ("cluster maps.npz more.npz", "unexpected extra argument"),
        ("train model --speed 3", "No such option: --speed"),
        ("train model --iterations many", "Invalid value for '--iterations'"),
        ("train model --loss best", "Invalid value for '--loss'"),
        ("cluster maps.npz --noise keep", "Invalid value for '--noise'"),
        ("predict model a.png --out-dir d --format gif", "Invalid value for '--format'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, message):
    assert message in misused(run(*arguments.split()))
    assert files() == []


IMPORTED = """
import sys
from instseg.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = ("tensorflow", "keras", "scipy", "hdbscan", "sklearn", "numpy")
print("\\nloaded:", *(name for name in heavy if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("arguments", "never"),
    [
        ("--help", {"tensorflow", "keras", "scipy", "hdbscan", "sklearn", "numpy"}),
        ("--version", {"tensorflow", "keras", "scipy", "hdbscan", "sklearn", "numpy"}),
        ("train --help", {"tensorflow", "keras"}),
        ("predict --help", {"tensorflow", "keras"}),
        ("cluster --help", {"tensorflow", "keras"}),
        ("data generate --size 32 --max-discs 25", {"tensorflow", "keras", "hdbscan", "sklearn"}),
        ("cluster maps.npz", {"tensorflow", "keras", "hdbscan", "sklearn"}),
        ("cluster maps.npz --method hdbscan", {"tensorflow", "keras"}),
        ("evaluate --help", {"tensorflow", "keras", "scipy", "hdbscan", "sklearn", "numpy"}),
        ("evaluate --pred data/labels --labels data/labels", {"tensorflow", "keras", "hdbscan", "sklearn"}),
    ],
)
def test_commands_start_without_what_they_do_not_need(arguments, never):
    if "maps.npz" in arguments:
        make_npz()
    if "data/labels" in arguments:
        make_data()
    command = [sys.executable, "-c", IMPORTED, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(done.stdout.splitlines()[-1].removeprefix("loaded:").split())
    assert not loaded & never


def test_the_same_seed_gives_the_same_bytes():
    small = ("--size", 32, "--max-discs", 25, "--count", 2, "--seed", 7)
    assert run("data", "generate", "--out", "a", *small).exit_code == 0
    assert run("data", "generate", "--out", "b", *small).exit_code == 0
    written = sorted(path.relative_to("a") for path in Path("a").rglob("*.png"))
    assert len(written) == 5
    assert all((Path("a") / name).read_bytes() == (Path("b") / name).read_bytes() for name in written)


def test_names_that_no_file_system_takes_end_in_one_line(model):
    make_image()
    long = "x" * 300
    for arguments in (
        ("data", "check", long),
        ("train", long),
        ("predict", long, "image.png", "--out", "labels.png"),
        ("predict", model, "image.png", "--out-dir", long),
        ("predict", model, "image.png", "--out", f"{long}.png"),
        ("cluster", f"{long}.npz"),
    ):
        assert "File name too long" in refused(run(*arguments))
    assert files() == ["image.png"]


# Numbers out of bounds

CLUSTERING = (
    ("--foreground-threshold", ("0", "1", "-0.5", "nan"), "above 0 and below 1"),
    ("--seed-threshold", ("0", "1", "nan"), "above 0 and below 1"),
    ("--membership-threshold", ("0", "1", "inf"), "above 0 and below 1"),
    ("--bandwidth", ("0", "-1", "nan", "inf"), "a number above 0"),
    ("--min-size", ("0", "-3"), "a number above 0"),
    ("--seed-window", ("0", "-1", "2000"), "1 to 1001 pixels"),
    ("--min-cluster-size", ("0", "1", "-5"), "at least 2 pixels"),
    ("--min-samples", ("0", "-1"), "a number above 0"),
    ("--position-weight", ("-1", "nan", "inf"), "0 or a number above 0"),
)
TRAINING = (
    ("--iterations", ("0", "-1"), "a number above 0"),
    ("--minutes", ("0", "-1", "nan", "inf"), "a number above 0"),
    ("--batch-size", ("0", "-1"), "a number above 0"),
    ("--patch-size", ("0", "-16"), "a number above 0"),
    ("--patch-size", ("100",), "a multiple of 16"),
    ("--learning-rate", ("0", "-1", "nan", "inf"), "a number above 0"),
    ("--validation-share", ("0", "1", "-0.1", "nan"), "above 0 and below 1"),
    ("--validation-every", ("0", "-1"), "a number above 0"),
    ("--seed", ("-1",), "0 or a number above 0"),
    ("--seed", ("3000000000",), "a number below 2147483648"),
    ("--embeddings", ("0", "-1"), "a number above 0"),
    ("--embeddings", ("257",), "at most 256 dimensions"),
    ("--embeddings", ("1",), "at least 2 for --loss overlap"),
    ("--threads", ("0", "-1"), "a number above 0"),
)
METRIC = (
    ("--push-margin", ("-1", "nan"), "0 or a number above 0"),
    ("--pull-margin", ("-1", "inf"), "0 or a number above 0"),
    ("--push-weight", ("-1",), "0 or a number above 0"),
    ("--pull-weight", ("-1",), "0 or a number above 0"),
    ("--regularization-weight", ("-1",), "0 or a number above 0"),
    ("--ignore-label", ("-1", "255"), "0, the background; remove other labels"),
)
DISCS = (
    ("--size", ("0", "-1"), "a number above 0"),
    ("--size", ("40000",), "at most 32768 pixels"),
    ("--min-discs", ("-1",), "0 or a number above 0"),
    ("--max-discs", ("3",), "at least --min-discs"),
    ("--noise", ("-0.1", "1.5", "nan"), "a share from 0 to 1"),
)


def cases(*table):
    return [(option, value, expected) for option, values, expected in table for value in values]


@pytest.mark.parametrize(
    ("command", "option", "value", "expected"),
    [
        *(("cluster maps.npz", *case) for case in cases(*CLUSTERING)),
        *(("predict model image.png --out labels.png", *case) for case in cases(*CLUSTERING[:2])),
        ("predict model image.png --out labels.png", "--threads", "0", "a number above 0"),
        *(("train model", *case) for case in cases(*TRAINING)),
        *(("train model --loss metric", *case) for case in cases(*METRIC)),
        *(("data generate", *case) for case in cases(*DISCS)),
        ("data check data", "--patch-size", "20", "a multiple of 16"),
    ],
)
def test_numbers_out_of_bounds(command, option, value, expected):
    said = refused(run(*command.split(), option, value), code=2)
    assert re.match(rf"{option} is {re.escape(value)}(\.0)?, expected {expected}", said)
    assert files() == []


@pytest.mark.parametrize("option", ["--count", "--seed"])
def test_numbers_that_typer_bounds(option):
    assert f"Invalid value for '{option}'" in misused(run("data", "generate", option, "-1"))
    assert files() == []


@pytest.mark.parametrize(
    "arguments",
    [
        "--bandwidth 1e-300",
        "--bandwidth 1e300",
        "--position-weight 1e300",
        "--method hdbscan --min-cluster-size 1000000000000000",
        "--method hdbscan --min-samples 1000000000000000",
    ],
)
def test_extreme_numbers_end_in_labels_or_in_one_line(arguments):
    result = run("cluster", make_npz(), *arguments.split())
    if result.exit_code:
        assert "memory" not in refused(result, code=2)
    else:
        assert result.stderr == ""


# cluster


def test_cluster_writes_labels():
    result = run("cluster", make_npz())
    assert (result.exit_code, result.stdout, result.stderr) == (0, "labels.png: 2 instances\n", "")
    assert header(Path("labels.png")).bits == 16
    assert read_labels(Path("labels.png")).tolist() == [[1] * 8 + [2] * 8] * 16
    assert files() == ["labels.png", "maps.npz"]
    # A second time it is replaced.
    assert run("cluster", "maps.npz", "--foreground-threshold", "0.9", "--min-size", 300).exit_code == 0
    assert read_labels(Path("labels.png")).max() == 0


def test_options_replace_the_settings_of_the_file():
    make_npz(settings=np.array(json.dumps({"min_size": 300})))
    assert run("cluster", "maps.npz").stdout == "labels.png: 0 instances\n"
    assert run("cluster", "maps.npz", "--min-size", 5).stdout == "labels.png: 2 instances\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": None}, "'embeddings'"),
        ({"foreground": None}, "'foreground'"),
        ({"format": np.array(99)}, "it is of format 99, this version reads up to 1; update instseg"),
        ({"embeddings": np.zeros((16, 16), np.float32)}, "'embeddings' is of shape (16, 16), expected (height, width"),
        ({"foreground": np.zeros((4, 4), np.float32)}, "'foreground' is of shape (4, 4), expected (16, 16)"),
        ({"embeddings": np.full((16, 16, 2), np.nan, np.float32)}, "'embeddings' holds NaN or infinite values"),
        ({"foreground": np.full((16, 16), 2, np.float32)}, "'foreground' goes from 2 to 2, expected 0 to 1"),
        ({"embeddings": np.zeros((16, 16, 2), np.int32)}, "'embeddings' is int32, expected floats"),
        ({"embeddings": np.array([{"a": 1}], object)}, "'embeddings' holds pickled objects, which are never read"),
    ],
)
def test_cluster_refuses_wrong_members(changes, message):
    said = refused(run("cluster", make_npz(**changes)))
    assert said.startswith("cannot read maps.npz: ")
    assert message in said
    assert files() == ["maps.npz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file; check the name"),
        (b"", "the file is empty; write it again"),
        (b"PK\3\4 no archive", "it is no .npz file, or one cut off"),
        (b"\x89PNG\r\n\x1a\n", "it is no .npz file, or one cut off"),
    ],
)
def test_cluster_refuses_files_that_are_no_embeddings(content, message):
    if content is not None:
        Path("maps.npz").write_bytes(content)
    assert message in refused(run("cluster", "maps.npz"))
    assert not Path("labels.png").exists()


def test_cluster_refuses_a_file_cut_off_and_a_folder():
    path = make_npz()
    path.write_bytes(path.read_bytes()[:-200])
    assert "cut off" in refused(run("cluster", path))
    assert "it is a folder, expected a .npz file" in refused(run("cluster", "."))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("missing/labels.png", "the folder missing does not exist; create it first"),
        ("maps.npz/labels.png", "the folder maps.npz does not exist; create it first"),
        ("labels.jpg", "expected a name that ends in .png or .tif or .tiff; choose such a name"),
        ("folder.png", "it is a folder; give a file name"),
    ],
)
def test_cluster_refuses_targets_that_cannot_be(out, message):
    make_npz()
    Path("folder.png").mkdir()
    assert refused(run("cluster", "maps.npz", "--out", out)) == f"cannot write {out}: {message}"
    assert files() == ["maps.npz"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_cluster_refuses_a_folder_that_is_not_writable():
    make_npz()
    Path("closed").mkdir(mode=0o500)
    assert "the folder closed is not writable" in refused(run("cluster", "maps.npz", "--out", "closed/labels.png"))


def test_more_instances_than_a_png_holds():
    foreground = np.zeros((512, 512), np.float32)
    foreground[::2, ::2] = 1
    seeds = np.zeros_like(foreground)
    seeds[0, 0] = 1
    embeddings = np.zeros((512, 512, 1), np.float32)
    make_npz(embeddings=embeddings, foreground=foreground, seeds=seeds, bandwidth=None)
    options = ("cluster", "maps.npz", "--min-size", 1, "--bandwidth", 1)
    said = refused(run(*options))
    assert said == (
        "cannot write labels.png: label 65536 does not fit into 16-bit PNG (up to 65535); "
        "write labels.tif instead (with --out-dir: --format tif)"
    )
    assert files() == ["maps.npz"]
    assert run(*options, "--out", "labels.tif").stdout == "labels.tif: 65536 instances\n"
    assert tifffile.imread("labels.tif").max() == 65_536


# predict


def test_predict_starts_quietly_and_writes_labels(model):
    make_image()
    code, stdout, stderr = finish(process("predict", model, "image.png", "--out", "labels.png"))
    assert (code, stderr) == (0, "")
    labels = read_labels(Path("labels.png"))
    assert stdout == f"labels.png: {labels.max()} instances\n"
    assert labels.shape == (48, 48)
    assert run("predict", model, "image.png", "--out", "again.tif").exit_code == 0
    assert np.array_equal(tifffile.imread("again.tif"), labels)


@pytest.mark.parametrize("options", [(), ("--method", "hdbscan", "--min-size", 3), ("--position-weight", 0.5)])
def test_predict_with_embeddings_then_cluster_gives_the_same_bytes(model, options):
    make_image()
    outputs = ("--out", "a.png", "--embeddings", "maps.npz", "--scores", "a.csv", "--outlines", "a.geojson")
    result = run("predict", model, "image.png", *outputs, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert run("cluster", "maps.npz", "--out", "b.png", "--scores", "b.csv", "--outlines", "b.geojson").exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert Path("a.geojson").read_bytes() == Path("b.geojson").read_bytes()
    labels = read_labels(Path("a.png"))
    assert labels.max() > 0
    assert len(Path("a.csv").read_text().splitlines()) == labels.max() + 1


def test_predict_draws_pictures(model):
    make_image()
    pictures = ("--overlay", "overlay.png", "--embeddings-picture", "embeddings.png")
    assert run("predict", model, "image.png", "--out", "labels.png", *pictures).exit_code == 0
    assert read_image(Path("overlay.png")).shape == (48, 48, 3)
    assert files() == ["embeddings.png", "image.png", "labels.png", "overlay.png"]


def test_predict_computes_in_bfloat16_where_the_machine_is_made_for_it(model, tmp_path_factory, monkeypatch):
    make_image()
    options = ("predict", model, "image.png", "--precision", "bfloat16", "--embeddings", "maps.npz")
    if fastest_precision() == "bfloat16":
        assert run(*options, "--out", "labels.png").exit_code == 0
        assert run("predict", model, "image.png", "--out", "a.png", "--embeddings", "fine.npz").exit_code == 0
        coarse, fine = (read_embeddings(Path(name)).foreground for name in ("maps.npz", "fine.npz"))
        assert 0 < np.abs(coarse - fine).max() < 0.05
        for name in ("labels.png", "maps.npz", "a.png", "fine.npz"):
            Path(name).unlink()
    other = tmp_path_factory.mktemp("machine") / "cpuinfo"
    other.write_text("flags : sse2")
    monkeypatch.setattr("instseg.runtime._CPU_FILE", other)
    said = refused(run(*options, "--out", "labels.png"), code=2)
    assert said.startswith("--precision is bfloat16, expected float32")
    assert files() == ["image.png"]


def test_predict_takes_folders(model):
    data = make_data(count=2)
    result = run("predict", model, data / "images", "--out-dir", "out", "--format", "tif", "--overlay", "overlays")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"2 images, \d+ instances\n", result.stdout)
    written = ["out/0.tif", "out/1.tif", "overlays/0.png", "overlays/1.png"]
    assert [name for name in files() if name.startswith("o")] == written


def test_predict_replaces_results_only_when_asked(model):
    make_image()
    Path("out").mkdir()
    Path("out/image.png").write_bytes(b"mine")
    said = refused(run("predict", model, "image.png", "--out-dir", "out"))
    assert said == "out holds 1 files; add --overwrite or --skip-existing, or give another folder"
    assert Path("out/image.png").read_bytes() == b"mine"
    assert run("predict", model, "image.png", "--out-dir", "out", "--overwrite").exit_code == 0
    assert read_labels(Path("out/image.png")).shape == (48, 48)
    # One named file is replaced without asking.
    assert run("predict", model, "image.png", "--out", "out/image.png").exit_code == 0


def test_predict_never_replaces_the_images(model):
    make_image()
    before = Path("image.png").read_bytes()
    for options in (["--out", "image.png"], ["--out", "labels.png", "--overlay", "./image.png"]):
        said = refused(run("predict", model, "image.png", *options), code=2)
        assert said == "image.png is the image itself and would be replaced; give the results another name"
    said = refused(run("predict", model, "image.png", "--out-dir", ".", "--overwrite"), code=2)
    assert said == ". holds the images, which results could replace; give another folder"
    assert Path("image.png").read_bytes() == before


def test_predict_goes_on_after_an_image_that_cannot_be_read(model):
    Path("in").mkdir()
    make_image("in/a.png")
    Path("in/b.png").write_text("not an image")
    result = run("predict", model, "in", "--out-dir", "out")
    assert result.exit_code == 1
    assert result.stdout.startswith("1 images, ")
    first, last = result.stderr.splitlines()
    assert "in/b.png: its content is no PNG, TIFF, JPEG or BMP; convert it to PNG or TIFF" in first
    assert last == "instseg: 1 of 2 files could not be segmented"
    assert files() == ["in/a.png", "in/b.png", "out/a.png"]


def test_predict_takes_a_stack_by_its_planes(model):
    image = disc_image()[0]
    tifffile.imwrite("stack.tif", np.stack([image, image[::-1]]), photometric="minisblack")
    said = refused(run("predict", model, "stack.tif", "--out", "labels.png"))
    assert "it is a stack of 2 planes of 48 x 48 pixels, expected one image; predict takes every plane" in said
    said = refused(run("predict", model, "stack.tif", "--out", "labels.png", "--planes"), code=2)
    assert said == "--out is for one image, --planes gives many; give --out-dir DIR"
    assert run("predict", model, "stack.tif", "--out-dir", "out", "--planes").exit_code == 0
    assert files() == ["out/stack-0000.png", "out/stack-0001.png", "stack.tif"]


def test_what_is_there_is_skipped(model):
    Path("in").mkdir()
    for name in "abc":
        make_image(f"in/{name}.png")
    options = ("--out-dir", "out", "--scores", "scores", "--skip-existing")
    assert run("predict", model, "in", *options).stdout.startswith("3 images")
    Path("out/a.png").unlink()
    Path("scores/b.csv").write_text("kept as it is, but not with its labels")
    Path("out/b.png").unlink()
    before = Path("out/c.png").stat().st_mtime_ns
    done = run("predict", model, "in", *options)
    assert done.stdout.startswith("2 images")
    assert "1 images have their results already" in done.stderr
    assert Path("out/c.png").stat().st_mtime_ns == before
    assert Path("scores/b.csv").read_text().startswith("id,score")
    again = run("predict", model, "in", *options)
    assert (again.exit_code, again.stdout) == (0, "0 images, 0 instances\n")


def test_shards_are_all_images_once(model):
    Path("in").mkdir()
    for name in "abcde":
        make_image(f"in/{name}.png")
    whole = run("predict", model, "in", "--out-dir", "whole")
    for number in (1, 2):
        assert run("predict", model, "in", "--out-dir", "out", "--shard", f"{number}/2").exit_code == 0
        assert len(list(Path("out").iterdir())) == {1: 3, 2: 5}[number]
    assert whole.stdout.startswith("5 images")
    for path in Path("whole").iterdir():
        assert path.read_bytes() == Path("out", path.name).read_bytes()
    said = refused(run("predict", model, "in", "--out-dir", "out", "--shard", "1/2"))
    assert said.startswith("out holds results of 3 of the images; add --skip-existing or --overwrite")
    for shard in ("0/2", "3/2", "1", "a/b", "1/0", "-1/2"):
        assert "expected I/N with I from 1 to N" in refused(
            run("predict", model, "in", "--out-dir", "out", f"--shard={shard}"), code=2
        )
    said = refused(run("predict", model, "in/a.png", "--out", "l.png", "--shard", "1/2"), code=2)
    assert said == "--skip-existing and --shard are for many images; give --out-dir DIR, or leave them out"


def test_images_are_cut_into_tiles(model):
    make_image(size=200)
    assert run("predict", model, "image.png", "--out", "whole.png", "--scores", "whole.csv").exit_code == 0
    options = ("--tile", 120, "--overlap", 40, "--scores", "tiled.csv", "--embeddings", "maps.npz")
    assert run("predict", model, "image.png", "--out", "tiled.png", *options).exit_code == 0
    whole, tiled = read_labels(Path("whole.png")), read_labels(Path("tiled.png"))
    assert whole.max() > 2
    assert score(whole, tiled).mean_ap > 0.98
    assert len(Path("tiled.csv").read_text().splitlines()) == 1 + tiled.max()
    assert read_embeddings(Path("maps.npz")).embeddings.shape[:2] == (200, 200)
    said = refused(run("predict", model, "image.png", "--out", "tiled.png", "--tile", 60, "--overlap", 40))
    assert "a tile of 60 pixels has nothing left beside an overlap of 40 on both sides" in said


def test_predict_wants_one_kind_of_target():
    make_image("a.png")
    make_image("b.png")
    either = "expected either --out FILE for one image or --out-dir DIR for many; give one of them"
    assert refused(run("predict", "model", "a.png"), code=2) == either
    assert refused(run("predict", "model", "a.png", "--out", "l.png", "--out-dir", "out"), code=2) == either
    said = refused(run("predict", "model", "a.png", "b.png", "--out", "l.png"), code=2)
    assert said == "--out is for one image, but 2 were found; give --out-dir DIR"
    said = refused(run("predict", "model", "a.png", "--out-dir", "out", "--overlay", "out"), code=2)
    assert said == "labels, embeddings and pictures cannot share a folder; give each its own"
    same = Path("out").absolute()
    assert refused(run("predict", "model", "a.png", "--out-dir", "out", "--overlay", same), code=2) == said
    Path("more").mkdir()
    make_image("more/a.png")
    said = refused(run("predict", "model", "a.png", "more", "--out-dir", "out"), code=2)
    assert said == "1 image names occur twice (a); segment their folders apart"
    assert files() == ["a.png", "b.png", "more/a.png"]


def test_predict_never_writes_two_results_to_one_file(model):
    make_image()
    refused(run("predict", model, "image.png", "--out", "same.png", "--overlay", "same.png"), code=2)
    assert files() == ["image.png"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (("--out", "missing/l.png"), "cannot write missing/l.png: the folder missing does not exist; create it first"),
        (("--out", "l.bmp"), "cannot write l.bmp: expected a name that ends in .png or .tif or .tiff"),
        (("--out", "l.png", "--overlay", "o.jpg"), "cannot write o.jpg: expected a name that ends in .png"),
        (
            ("--out", "l.png", "--outlines", "o.txt"),
            "cannot write o.txt: expected a name that ends in .geojson or .zip",
        ),
        (("--out", "l.png", "--scores", "s.txt"), "cannot write s.txt: expected a name that ends in .csv"),
        (("--out", "l.png", "--embeddings", "e.png"), "cannot write e.png: expected a name that ends in .npz"),
        (("--out-dir", "image.png"), "cannot use image.png as a folder: it is a file"),
        (("--out-dir", "image.png/out"), "cannot create the folder image.png/out: image.png is a file; choose another"),
    ],
)
def test_predict_refuses_targets_before_the_model_is_read(target, message):
    make_image()
    assert refused(run("predict", "model", "image.png", *target)).startswith(message)
    assert files() == ["image.png"]


def test_predict_refuses_images_that_are_not_there():
    Path("empty").mkdir()
    kinds = "expected files named *.png, *.tif, *.tiff, *.jpg, *.jpeg, *.bmp"
    for name, message in (
        ("none.png", "there is no file or folder none.png; check the name"),
        ("empty", f"the folder empty holds no image; {kinds}"),
        ("none*.png", f"no image matches none*.png; {kinds}"),
    ):
        assert refused(run("predict", "model", name, "--out", "labels.png")) == message


def rgb(pixels):
    return np.stack([pixels] * 3, axis=-1)


def write_bad_image(kind, path):
    image = disc_image()[0]
    if kind == "rgb16":
        write_png(path, rgb(image))
    elif kind == "alpha":
        write_png(path, np.concatenate([rgb(image), image[..., None]], axis=-1))
    elif kind == "cmyk":
        Image.fromarray(rgb((image >> 8).astype(np.uint8))).convert("CMYK").save(path, "TIFF")
    elif kind == "cut":
        write_picture(path, image)
        path.write_bytes(path.read_bytes()[:900])
    elif kind == "renamed":
        path.write_text("not an image at all")
    elif kind == "nan":
        tifffile.imwrite(path, np.full((8, 8), np.nan, np.float32))
    elif kind == "empty":
        path.touch()
    else:
        write_huge_png(path)


BAD_IMAGES = {
    "alpha": "it has transparent pixels (",
    "cmyk": "its colours are SEPARATED, expected gray or RGB; convert it to RGB",
    "cut": "it is damaged or cut off (",
    "renamed": "its content is no PNG, TIFF, JPEG or BMP; convert it to PNG or TIFF",
    "nan": "it has values that are NaN, infinite",
    "empty": "the file is empty; copy or export it again",
    "huge": "it claims 25000 x 40000 pixels, more than the 500,000,000 pixels that are read; cut it into tiles",
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_predict_refuses_bad_images(model, kind):
    write_bad_image(kind, Path("bad.png"))
    said = refused(run("predict", model, "bad.png", "--out", "labels.png"))
    assert said.startswith(f"cannot read bad.png: {BAD_IMAGES[kind]}")
    assert files() == ["bad.png"]


def test_predict_refuses_other_channels_than_the_model_takes(model):
    write_coloured("rgb.png")
    said = refused(run("predict", model, "rgb.png", "--out", "labels.png"))
    assert said == (
        "the image has 3 channels, the model takes 1 channel (gray); "
        "choose some by --channels, such as 2 or gray, or train a model on such images"
    )
    said = refused(run("predict", model, "rgb.png", "--out", "labels.png", "--channels", "1,2"), code=2)
    assert said == "--channels 1,2 makes 2 channels, the model takes 1 channel (gray); choose as many"
    said = refused(run("predict", model, "rgb.png", "--out", "labels.png", "--channels", "4"))
    assert said == "the image has 3 channels, but --channels 4 takes channel 4"
    assert files() == ["rgb.png"]


def test_predict_takes_the_channel_that_is_chosen(model):
    make_image("gray.png")
    write_coloured("rgb.png")
    assert run("predict", model, "gray.png", "--out", "expected.png").exit_code == 0
    assert run("predict", model, "rgb.png", "--out", "found.png", "--channels", "green").exit_code == 0
    expected = read_labels(Path("expected.png"))
    assert expected.max() > 0
    np.testing.assert_array_equal(read_labels(Path("found.png")), expected)
    # Three equal channels are a gray image.
    write_bad_image("rgb16", Path("equal.png"))
    assert run("predict", model, "equal.png", "--out", "equal-labels.png").exit_code == 0


def write_coloured(path, image=None):
    """Write an RGB image that shows something in the green channel only."""
    image = disc_image()[0] if image is None else image
    write_png(path, np.stack([image * 0, image, image * 0 + 9], axis=-1))


def test_predict_refuses_what_is_no_model():
    make_image()
    Path("folder").mkdir()
    for name, message in (
        ("no/model", "there is no model no/model; train one with: instseg train no/model"),
        ("image.png", "image.png is a file, expected a model directory; give the directory that train wrote"),
        ("folder", "folder holds no instseg model (instseg.json is missing); give a directory that train wrote"),
    ):
        assert refused(run("predict", name, "image.png", "--out", "labels.png")) == message
    assert files() == ["image.png"]


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    "damage",
    [
        lambda model: cut(model / "saved_model.pb", 1000),
        lambda model: cut(model / "saved_model.pb", 0),
        lambda model: (model / "saved_model.pb").unlink(),
        lambda model: shutil.rmtree(model / "variables"),
        lambda model: cut(next((model / "variables").glob("*.index")), 50),
        lambda model: cut(next((model / "variables").glob("*.data*")), 500),
        lambda model: (model / "instseg.json").write_text("{"),
        lambda model: (model / "instseg.json").write_text("[]"),
        lambda model: (model / "instseg.json").write_text(json.dumps({"format": FORMAT})),
        lambda model: (model / "instseg.json").write_bytes(b"\xff\xfe\0"),
    ],
    ids=["pb-cut", "pb-empty", "pb-gone", "variables-gone", "index-cut", "data-cut", "json", "list", "keys", "bytes"],
)
def test_predict_refuses_damaged_models(copied, damage):
    make_image()
    damage(copied)
    said = refused(run("predict", copied, "image.png", "--out", "labels.png"))
    assert re.fullmatch(r"the model model is damaged \(.+\); copy or train it again", said)
    assert not Path("labels.png").exists()


def test_predict_refuses_a_model_of_another_format(copied):
    make_image()
    text = (copied / "instseg.json").read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}')
    (copied / "instseg.json").write_text(text)
    said = refused(run("predict", copied, "image.png", "--out", "labels.png"))
    expected = (
        f"the model model has format {FORMAT + 1}, this version reads {FORMAT}; install the version that wrote it"
    )
    assert said == expected


# The size of objects


def enlarged(array, times=4):
    return np.kron(array, np.ones((times, times), array.dtype))


def test_objects_are_brought_to_the_size_of_the_training(model):
    pixels, truth = disc_image(size=64)
    data = Path("large")
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
    write_png("large/images/0.png", enlarged(pixels))
    write_labels(Path("large/labels/0.png"), enlarged(truth))
    outputs = ("--out", "a.png", "--embeddings", "maps.npz")
    assert run("predict", model, "large/images/0.png", "--diameter", 76, *outputs).exit_code == 0
    found = read_labels(Path("a.png"))
    write_png("small.png", pixels)
    assert run("predict", model, "small.png", "--out", "small-labels.png").exit_code == 0
    assert score(enlarged(read_labels(Path("small-labels.png"))), found, (0.5,)).f1[0] > 0.6
    # The maps are of the image's size and bring along the settings for objects of this size.
    assert run("cluster", "maps.npz", "--out", "b.png").exit_code == 0
    assert np.array_equal(read_labels(Path("b.png")), found)
    assert run("predict", model, "large/images/0.png", "--diameter", 76, "--out-dir", "out").exit_code == 0
    assert np.array_equal(read_labels(Path("out/0.png")), found)
    result = run("evaluate", model, "--data", data, "--diameter", 76, "--json")
    assert json.loads(result.stdout)["results"][0]["ap50"] == pytest.approx(score(enlarged(truth), found).ap[0])


def test_objects_of_the_trained_size_are_left_alone(model):
    make_image()
    assert run("predict", model, "image.png", "--out", "a.png").exit_code == 0
    assert run("predict", model, "image.png", "--diameter", 19, "--out", "b.png").exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize("value", [0, -3, 1e9, "nan", "inf", 0.001])
def test_a_diameter_out_of_all_proportion_is_refused(model, value):
    make_image()
    said = refused(run("predict", model, "image.png", "--diameter", value, "--out", "labels.png"), code=2)
    assert said.startswith(f"--diameter is {float(value)}, expected 2.4 to 608 pixels for a model of objects of 19")
    assert not Path("labels.png").exists()


def test_objects_of_another_size_are_told(model, monkeypatch):
    """A model of 19 pixels that finds pieces of 2 pixels says so, unless it is told."""
    labels = np.zeros((48, 48), np.int32)
    labels[2::6, 2::6] = np.arange(1, 65).reshape(8, 8)
    labels = np.maximum(labels, np.roll(labels, 1, 0))
    monkeypatch.setattr("instseg.segment.cluster", lambda maps, settings=None: labels)
    make_image()
    result = run("predict", model, "image.png", "--out", "labels.png")
    assert (result.exit_code, result.stdout) == (0, "labels.png: 64 instances\n")
    expected = "Note: the objects measure about 1.6 pixels, those of the training 19; try --diameter 1.6\n"
    assert result.stderr == expected
    make_data(count=2)
    result = run("predict", model, "data/images", "--out-dir", "out")
    assert result.stderr == expected.replace("the objects", "the objects in 2 of 2 images")
    result = run("predict", model, "image.png", "--out", "labels.png", "--diameter", 18)
    assert (result.exit_code, result.stderr) == (0, "")


# train: what is refused


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: shutil.rmtree(data), "cannot use data as data: there is no such folder; give a folder that"),
        (
            lambda data: shutil.rmtree(data / "labels"),
            "the folder data/labels is missing; put the labels into data/labels",
        ),
        (lambda data: [path.unlink() for path in (data / "images").iterdir()], "the folder data/images holds no image"),
        (lambda data: (data / "labels/1.png").unlink(), "cannot use data: 1 images without labels (1.png): add"),
        (lambda data: (data / "images/1.png").unlink(), "cannot use data: 1 labels without an image (1.png): add"),
        (
            lambda data: write_labels(data / "labels/1.png", np.eye(30, dtype=np.int32)),
            "data/images/1.png is 48 x 48 pixels and data/labels/1.png is 30 x 30, expected equal sizes; export the",
        ),
        (
            lambda data: [write_labels(path, np.zeros((48, 48), int)) for path in (data / "labels").iterdir()],
            "no label in data holds an instance, expected some pixels above 0; check the label images",
        ),
        (
            lambda data: write_bad_image("rgb16", data / "images/1.png"),
            "the images differ in channels: ",
        ),
        (lambda data: write_bad_image("huge", data / "images/1.png"), "it claims 25000 x 40000 pixels, more than"),
        (lambda data: write_bad_image("alpha", data / "images/1.png"), "it has transparent pixels"),
        (lambda data: write_bad_image("cut", data / "images/1.png"), "it is damaged or cut off"),
        (lambda data: write_bad_image("cut", data / "labels/1.png"), "it is damaged or cut off"),
        (lambda data: write_bad_image("renamed", data / "labels/1.png"), "its content is no PNG, TIFF, JPEG or BMP"),
        (lambda data: write_bad_image("rgb16", data / "labels/1.png"), "it has 3 channels (RGB), expected gray labels"),
        (
            lambda data: Image.fromarray(np.eye(48, dtype=np.uint8)).convert("P").save(data / "labels/1.png"),
            "it is a palette image, expected gray labels",
        ),
        (
            lambda data: tifffile.imwrite(data / "labels/1.png", np.eye(48, dtype=np.float32)),
            "its values are float32, expected integer labels; save them as 32-bit integers",
        ),
        (
            lambda data: write_png(data / "labels/1.png", np.eye(48, dtype=np.uint8) * 255),
            "it looks like a binary mask (255 is its only value besides 0, in 1 pieces), expected a number for each "
            "instance; number the instances, or give --connected-components",
        ),
    ],
    ids=[
        "no-folder",
        "no-labels-folder",
        "no-images",
        "image-alone",
        "label-alone",
        "sizes",
        "no-instance",
        "channels",
        "huge",
        "alpha",
        "image-cut",
        "label-cut",
        "label-renamed",
        "label-rgb",
        "label-palette",
        "label-float",
        "label-binary",
    ],
)
def test_train_refuses_data_that_it_cannot_use(spoil, message):
    data = make_data()
    spoil(data)
    assert message in refused(run("train", "model", "--data", data))
    assert not Path("model").exists()


def test_train_counts_files_without_partners_and_shows_a_few():
    data = make_data(count=6)
    for index in range(5):
        (data / f"labels/{index}.png").unlink()
    said = refused(run("train", "model", "--data", data))
    assert said == (
        "cannot use data: 5 images without labels (0.png, 1.png, 2.png, ...): add their labels or remove them"
    )


def test_train_refuses_contradictions():
    said = refused(run("train", "model", "--push-margin", 1, "--loss", "overlap"), code=2)
    assert said == "--push-margin belong to --loss metric; add it, or leave them out"
    said = refused(run("train", "model", "--push-margin", 1, "--ignore-label", 0), code=2)
    assert said == "--push-margin, --ignore-label belong to --loss metric; add it, or leave them out"
    said = refused(run("train", "model", "--iterations", 5, "--minutes", 5), code=2)
    assert said == "--iterations and --minutes both say when to end; give one of them"
    said = refused(run("train", "model", "--val", "val"), code=2)
    assert said == "--val is given without --data; give both, or neither to train on generated discs"
    assert files() == []


def test_train_refuses_places_where_no_model_can_be():
    data = make_data(count=1)
    quick = ("--data", data, "--iterations", 1)
    Path("file").touch()
    said = refused(run("train", "file", *quick))
    assert said == "file is a file, expected a model directory; give the directory that train wrote"
    said = refused(run("train", "file/model", *quick))
    assert said == "cannot create the folder file/model/generations: file is a file; choose another"
    said = refused(run("train", data, *quick))
    assert said == "cannot train into data: it holds other files (images, labels); give a new directory"


def test_train_goes_on_or_begins_anew_only_when_asked(model):
    before = sorted(path.name for path in (model / "generations").iterdir())
    said = refused(run("train", model), code=2)
    assert said == "model already holds a model; add --resume to go on with it, or --fresh to replace it"
    assert sorted(path.name for path in (model / "generations").iterdir()) == before


def test_resume_wants_a_model(copied):
    Path("folder").mkdir()
    assert refused(run("train", "none", "--resume")) == "there is no model none; train one with: instseg train none"
    assert "folder holds no instseg model" in refused(run("train", "folder", "--resume"))
    (copied / "instseg.json").write_text("{")
    assert "the model model is damaged (" in refused(run("train", copied, "--resume"))
    assert not Path("none").exists()


def test_resume_refuses_a_model_that_does_not_say_what_it_learned_from(copied):
    """As models that were trained from Python may be."""
    stored = json.loads((copied / "instseg.json").read_text())
    stored["data"] = {}
    (copied / "instseg.json").write_text(json.dumps(stored))
    said = refused(run("train", copied, "--resume", "--iterations", 1000), code=2)
    assert "give --data DIR" in said


def test_resume_takes_the_advice_to_give_data(small_net):
    make_data()
    assert run("train", "model", "--data", "data", "--iterations", 1, *EASY).exit_code == 0
    settings = Path("model/current/instseg.json")
    stored = json.loads(settings.read_text())
    stored["data"] = {}
    settings.write_text(json.dumps(stored))
    done = run("train", "model", "--resume", "--iterations", 2, "--data", "data")
    assert done.exit_code == 0, done.stderr


def test_what_was_kept_for_validation_stays_so_when_images_are_added(small_net):
    def kept():
        return json.loads(Path("model/instseg.json").read_text())["data"]["validation_images"]

    make_data(count=5)
    share = ("--validation-share", 0.4)
    assert run("train", "model", "--data", "data", "--iterations", 1, *share, *EASY).exit_code == 0
    before = kept()
    assert len(before) == 2
    make_data(count=12)
    assert run("train", "model", "--resume", "--iterations", 2).exit_code == 0
    assert kept() == before
    # Where none of them is left, others are drawn.
    for name in before:
        for kind in ("images", "labels"):
            Path(f"data/{kind}/{name}.png").unlink()
    assert run("train", "model", "--resume", "--iterations", 3).exit_code == 0
    assert len(kept()) == 4


def test_train_wants_data_for_what_is_said_of_it():
    said = refused(run("train", "model", "--connected-components"), code=2)
    assert said == "--connected-components is given without --data; generated discs have labels"
    assert files() == []


def test_a_network_of_another_size_is_no_beginning(model):
    said = refused(run("train", "own", "--from", model, "--network", "large"), code=2)
    assert said.startswith("--network is another one than that of model; leave it out, or begin with a model of that")
    assert not Path("own").exists()


def test_stored_settings_can_be_turned_off(model):
    make_image()
    options = ("--out", "labels.png", "--embeddings", "maps.npz", "--fill-holes")
    assert run("predict", model, "image.png", *options).exit_code == 0
    assert read_embeddings(Path("maps.npz")).settings.fill_holes
    assert run("cluster", "maps.npz", "--no-fill-holes", "--out", "plain.png").exit_code == 0
    assert run("predict", model, "image.png", "--out", "expected.png").exit_code == 0
    np.testing.assert_array_equal(read_labels(Path("plain.png")), read_labels(Path("expected.png")))


def test_a_second_training_stays_out_of_a_model_that_is_being_trained(tiny_model):
    shutil.copytree(tiny_model, "model", symlinks=True)
    with only_training(Path("model")):
        said = refused(run("train", "model", "--fresh", "--iterations", 1))
    assert said == "another training is writing to model; wait for it, or give another directory"


# train: what works

EASY = ("--batch-size", 1, "--patch-size", 64, "--validation-every", 1000)


def test_train_pads_small_images_and_reads_16_bit_rgb_and_binary_masks(small_net):
    data = make_data(count=2)
    for index in range(2):
        image = read_image(data / f"images/{index}.png")[..., 0]
        write_png(data / f"images/{index}.png", rgb(image))
        write_labels(data / f"labels/{index}.png", (read_labels(data / f"labels/{index}.png") > 0) * 255)
    assert "--connected-components" in refused(run("train", "model", "--data", data, *EASY))
    result = run("train", "model", "--data", data, "--iterations", 2, "--connected-components", *EASY)
    assert result.exit_code == 0
    assert re.fullmatch(
        r"model: 2 iterations, AP50 \d\.\d{3}, AP75 \d\.\d{3}, AP50-90 \d\.\d{3} on 1 validation image\n",
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
    said = refused(run("train", "model", "--resume", "--batch-size", 2), code=2)
    assert said.startswith("--batch-size is 2, but model was trained with 1; leave it out to go on, or give --fresh")
    said = refused(run("train", "model", "--resume", "--network", "large"), code=2)
    assert said == "--network is another one than that of model; leave it out, or give --fresh"
    result = run("train", "model", "--resume")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "model has its 2 iterations; give more by --iterations to go on\n"
    said = refused(run("train", "model", "--resume", "--iterations", 3, "--data", make_data("gray")), code=2)
    assert said.startswith("the images have 1 channels, but model was trained on 3; convert them, or train into a new")
    result = run("train", "model", "--resume", "--iterations", 3)
    assert (result.exit_code, result.stdout[:20]) == (0, "model: 3 iterations,")
    # --fresh replaces it.
    result = run("train", "model", "--fresh", "--data", "gray", "--iterations", 1, *EASY)
    assert (result.exit_code, result.stdout[:20]) == (0, "model: 1 iterations,")
    assert json.loads(Path("model/instseg.json").read_text())["model"]["channels"] == 1


def test_train_takes_the_channels_that_are_chosen_and_the_model_keeps_the_choice(small_net):
    data = make_data(count=3)
    for index in range(2):
        write_coloured(data / f"images/{index}.png", read_image(data / f"images/{index}.png")[..., 0])
    assert "or give --channels gray" in refused(run("train", "model", "--data", data, *EASY))
    report = run("data", "check", data)
    assert report.exit_code == 1
    assert "channels" in report.stdout
    said = refused(run("train", "model", "--data", data, "--channels", "green", *EASY))
    assert said.startswith("data/images/2.png: the image has 1 channel (gray), but --channels green takes channel 2;")
    assert run("data", "check", data, "--channels", "2").exit_code == 1
    said = refused(run("train", "model", "--data", data, "--channels", "pink", *EASY), code=2)
    assert said.startswith("--channels is 'pink', expected numbers from 1")
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
    said = refused(run("train", "model", "--resume", "--iterations", 3, "--channels", "3"), code=2)
    assert said.startswith("--channels is 3, but model was trained on --channels green,1; leave it out")
    assert run("train", "model", "--resume", "--iterations", 3).exit_code == 0
    assert run("evaluate", "model", "--data", data, "--channels", "2,1").exit_code == 0


def test_classes_are_learnt_listed_drawn_and_evaluated(small_net):
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
    said = refused(run("train", "model", "--resume", "--iterations", 3), code=2)
    assert said.startswith("the classes are none, but model was trained on even, odd; mend them")
    result = run("train", "other", "--data", data, "--from", "model", "--iterations", 1, *EASY)
    assert result.exit_code == 0
    assert "the classes start fresh: one for all objects" in result.stderr


def test_planes_of_a_stack_are_channels_where_these_are_chosen(small_net):
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


def test_resume_keeps_where_the_data_are_and_how_they_are_read(small_net, monkeypatch):
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


STEP = r"iteration \d+/\d+ loss \d+\.\d{4}( \w+ \d+\.\d{4})+ \d+\.\d images/s(, \d+:\d\d left)?"
SAVED = r"saved at iteration \d+: AP50 \d\.\d{3}, AP75 \d\.\d{3}, AP50-90 \d\.\d{3}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_training_save_and_say_how_to_go_on(number):
    data = make_data(count=2)
    started = process("train", "model", "--data", data, "--iterations", 100_000, *EASY, small=True)
    first = started.stderr.readline()
    assert re.fullmatch(STEP + "\n", first)
    started.send_signal(number)
    code, stdout, stderr = finish(started)
    assert code == 0
    done = int(re.match(r"model: ([\d,]+) iterations, AP50", stdout)[1].replace(",", ""))
    assert 1 <= done < 100_000
    # Every line: nothing of TensorFlow's own is among them.
    expected = (
        rf"({STEP}\n)*"
        rf"{number.name}: saving after this iteration; once more ends at once, unsaved\n"
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


def test_what_tensorflow_says_while_it_loads_is_shown_only_if_that_fails(capfd):
    for error, shown in ((RuntimeError, "noise"), (KeyboardInterrupt, "")):
        with pytest.raises(error), held_back():
            os.write(2, b"noise")
            raise error
        assert capfd.readouterr().err == shown
    with held_back():
        os.write(2, b"noise")
    assert capfd.readouterr().err == ""
