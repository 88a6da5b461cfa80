"""The command itself: help, version, wrong usage, what it imports."""

import os
import subprocess
import sys

import pytest

import instseg
from instseg.network.runtime import captured_stderr


def test_version_and_module(start, finish):
    code, stdout, stderr = finish(start("--version"))
    assert (code, stdout, stderr) == (0, f"instseg {instseg.__version__}\n", "")


def test_help_names_the_commands(run):
    text = run("--help").stdout
    assert all(
        name in text for name in ("train", "predict", "cluster", "measure", "evaluate", "data", "models", "export")
    )


@pytest.mark.parametrize(
    "command", ["train", "predict", "cluster", "measure", "evaluate", "models", "export", "data generate", "data check"]
)
def test_every_command_has_help(run, command):
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
def test_wrong_usage_exits_with_2(run, misused, files, arguments, message):
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
def test_commands_start_without_what_they_do_not_need(make_data, make_npz, environment, arguments, never):
    if "maps.npz" in arguments:
        make_npz()
    if "data/labels" in arguments:
        make_data()
    command = [sys.executable, "-c", IMPORTED, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(done.stdout.splitlines()[-1].removeprefix("loaded:").split())
    assert not loaded & never


def test_names_that_no_file_system_takes_end_in_one_line(run, refused, files, make_image, model):
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


def test_what_tensorflow_says_while_it_loads_is_shown_only_if_that_fails(capfd):
    # A thread of an earlier test, in which TensorFlow loads a model, may write there, too.
    for error, shown in ((RuntimeError, True), (KeyboardInterrupt, False)):
        with pytest.raises(error), captured_stderr():
            os.write(2, b"noise")
            raise error
        assert ("noise" in capfd.readouterr().err) == shown
    with captured_stderr():
        os.write(2, b"noise")
    assert "noise" not in capfd.readouterr().err
