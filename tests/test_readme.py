"""The READMEs: links lead somewhere, Python blocks run, and the command line takes the commands that they show."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import instseg.loss
from instseg.cli import app
from instseg.data.generate import generate_discs
from instseg.io.images import write_picture
from instseg.models.builtin import BUNDLED_DIR
from instseg.settings import DiscSettings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
COMMANDS = ROOT / "instseg" / "cli" / "README.md"
READMES = [README, *sorted([*(ROOT / "instseg").rglob("README.md"), ROOT / "images" / "README.md"])]
READMES.append(ROOT / "tests" / "benchmarks" / "README.md")
SET_UP = "    python -m pip install . && instseg train .model --iterations 2500"
TESTS = (
    '    python -m pip install ".[test]" && '
    "ruff check && ruff format --check && mypy && lint-imports && python -m pytest -n 2"
)
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
# What ends a training long before a reader would, by its options.
TINY = ("--network", "8,8", "--batch-size", "2", "--patch-size", "32", "--iterations", "2")


def title(path):
    return path.relative_to(ROOT).as_posix()


def shell_lines(path):
    """Return the lines of a file's shell blocks, which are those that four spaces begin."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return [line.strip() for line in text.splitlines() if line.startswith("    ") and line.strip()]


def commands(path, program):
    """Return the arguments of all calls of a program in a file's shell blocks."""
    calls = []
    for line in shell_lines(path):
        words = shlex.split(line, comments=True)
        starts = [0, *(number + 1 for number, word in enumerate(words) if word == "&&"), len(words) + 1]
        for start, end in zip(starts, starts[1:], strict=False):
            call = [word for word in words[start : end - 1] if word != "&"]
            if program in call[:3]:
                calls.append(call[call.index(program) + 1 :])
    return calls


def anchors(path):
    """Return the anchors that GitHub gives to a file's headings."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def subcommand(arguments):
    """Return the command that arguments name, and the arguments that are left for it."""
    command = get_command(app)
    while hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


def all_commands(command=None):
    command = command or get_command(app)
    below = getattr(command, "commands", None)
    return [command] if below is None else [one for child in below.values() for one in all_commands(child)]


def options_of(command):
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of the data that the READMEs take for granted, tiny."""
    folder = tmp_path_factory.mktemp("data")
    discs = DiscSettings(size=64, min_discs=2, max_discs=4)
    for name in ("mydata", "testdata"):
        generate_discs(folder / name, count=2, seed=len(name), settings=discs)
    shutil.copytree(folder / "testdata" / "images", folder / "newimages")
    write_picture(folder / "image.png", np.random.default_rng(0).integers(0, 255, (48, 56), np.uint8))
    return folder


@pytest.fixture
def workplace(data, tmp_path, monkeypatch):
    """A folder of its own with these data."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_is_short_and_has_both_commands_word_for_word():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    assert lines.count(SET_UP) == 1
    # What .ci/run looks for.
    assert [line for line in lines if re.fullmatch(r" *python -m pip install .*pytest.*", line)] == [TESTS]


@pytest.mark.parametrize("path", READMES, ids=title)
def test_links_lead_to_files_and_headings(path):
    targets = [one or other for one, other in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8")))]
    for target in targets:
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_all_pictures_are_small_and_explained():
    pictures = sorted(path for path in (ROOT / "images").iterdir() if path.suffix != ".md")
    text = (ROOT / "images" / "README.md").read_text(encoding="utf-8")
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 400_000
        assert f"| `{picture.name}` |" in text
        assert f"images/{picture.name}" in text


@pytest.mark.parametrize("path", READMES, ids=title)
def test_the_command_line_takes_every_command(path):
    calls = commands(path, "instseg")
    assert calls or path.parent.name in ("instseg", "loss", "io")
    for call in calls:
        command, arguments = subcommand(call)
        # Raises where an option or a value is none, or an argument is missing.
        command.make_context(command.name, list(arguments))
    for call in re.findall(r"`instseg ([a-z]+[^`]*)`", path.read_text(encoding="utf-8")):
        words = [word for word in call.split() if word != "..."]
        names = {option for one in all_commands() if one.name in words[:2] for option in options_of(one)}
        assert set(OPTION.findall(call)) <= names | {"--help"}, call


def test_the_commands_in_detail_name_all_options_and_no_others():
    documented = set(OPTION.findall(COMMANDS.read_text(encoding="utf-8")))
    options = {option for command in all_commands() for option in options_of(command)}
    assert documented - {"--help"} == {option for option in options if option.startswith("--")} - {"--help"}


@pytest.mark.parametrize("path", READMES, ids=title)
def test_scripts_exist_and_have_the_options_that_are_shown(path):
    for call in commands(path, "python"):
        if call[0] in ("-m", "-c"):
            continue
        source = (ROOT / call[0]).read_text(encoding="utf-8")
        for option in OPTION.findall(" ".join(call[1:])):
            assert f'"{option}"' in source, call


def test_every_benchmark_is_named():
    text = (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "tests" / "benchmarks").glob("*.py")} - {"conftest.py"}
    assert scripts == set(re.findall(r"\b(\w+\.py)\b", text))


def test_the_table_of_packages_names_all_of_them():
    text = (ROOT / "instseg" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)/`", row)]
    folders = (path.name for path in (ROOT / "instseg").iterdir() if (path / "__init__.py").exists())
    assert sorted(named) == sorted(folders)


def test_the_table_of_the_loss_is_that_of_its_options():
    text = (ROOT / "instseg" / "loss" / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| parameter | default |") :].split("\n\n")[0]
    documented = {}
    for names, default in re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE):
        parameters = re.findall(r"`(\w+)`", names)
        # A default for each, or one for all.
        values = eval(f"[{default.replace('`', '')}]", vars(instseg.loss))
        documented |= zip(parameters, values * (len(parameters) // len(values)), strict=True)
    loss = instseg.loss.MetricLoss()
    options = {field.name: getattr(loss, field.name) for field in dataclasses.fields(loss)}
    assert {name: value if np.isscalar(value) else type(value) for name, value in documented.items()} == {
        name: value if np.isscalar(value) else type(value) for name, value in options.items()
    }


PYTHON = [
    pytest.param(path, code, id=f"{title(path)}-{number}")
    for path in READMES
    for number, (language, code) in enumerate(FENCE.findall(path.read_text(encoding="utf-8")))
    if language == "python"
]


@pytest.mark.parametrize(("path", "code"), PYTHON)
def test_python_blocks_run(path, code, workplace):
    if ".model" in code:
        shutil.copytree(BUNDLED_DIR / "shapes", ".model")
    code = code.replace("minutes=20", "iterations=2, batch_size=2, patch_size=32, network=(8, 8)")
    namespace = {}
    exec(compile(code, title(path), "exec"), namespace)
    # What the blocks are about.
    results = ("evaluation", "value", "maps", "terms", "model", "report")
    assert any(name in namespace for name in results)
    if "labels" in namespace and "instseg.load" in code:
        assert namespace["labels"].shape == (48, 56)
    if "results" in namespace:
        assert sorted(path.name for path in Path("results").iterdir()) == ["0000.png", "0001.png", "run.json"]
    if "value" in namespace:
        assert float(namespace["value"]) > 0


def test_the_commands_of_the_readme_run_one_after_the_other(workplace):
    shutil.copytree(BUNDLED_DIR / "shapes", ".model")
    done = set()
    for call in commands(README, "instseg"):
        if call[:2] == ["train", ".model"] or "--from" in call:
            # These take a while, as their networks and images are no tiny ones.
            continue
        if call[0] == "label":
            # It serves until it is told to end.
            continue
        if call[0] == "train":
            end = call.index("--minutes")
            call = [*call[:end], *call[end + 2 :], *TINY]
        if call[:2] == ["data", "generate"]:
            few = ("--depth", "16", "--max-balls", "40") if "--volume" in call else ("--max-discs", "30")
            call = [*call, "--size", "64", *few]
        result = CliRunner().invoke(app, call, catch_exceptions=False)
        assert result.exit_code == 0, (call, result.output)
        done.add(call[0])
    assert done >= {"data", "train", "predict", "cluster", "evaluate"}
    labels = instseg.read_labels("labels.png")
    assert labels.shape == (64, 64)
    assert labels.max() > 0
    assert instseg.load("mymodel").settings.widths == (8, 8)
    assert instseg.read_label_volume("volume.tif").shape == (16, 64, 64)
    pictures = ("discs/preview.png", "e.png", "overlay.png", "results/0001.png")
    for file in (*pictures, "embeddings.npz", "measurements/0001.csv", "page.html", "mistakes.html"):
        assert Path(file).stat().st_size > 0
