"""What reaches the terminal: names only as what can be shown, and no traceback whatever becomes of the streams."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from instseg.cli import terminal

NASTY = "[red]x[/] :car: \x1b[2J\x9b1m\x07\u202e\udcff"
SHOWN = r"[red]x[/] :car: \x1b[2J\x9b1m\x07\u202e\udcff"

GENERATE = "data generate --size 32 --min-discs 1 --max-discs 2 --count 1"
GENERATED = ["discs/images/0000.png", "discs/labels/0000.png", "discs/preview.png"]


@pytest.fixture
def shell(environment):
    """A function that has a shell run the command with redirections, and returns its exit code, stdout and stderr."""

    def shell(arguments, redirections, **variables):
        line = f'"{sys.executable}" -m instseg {arguments} {redirections}'
        command = ["sh", "-c", line]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment | variables, timeout=120)
        return done.returncode, done.stdout, done.stderr

    return shell


@pytest.mark.parametrize(
    ("redirections", "reason"),
    [
        (">&-", "Bad file descriptor"),
        pytest.param(
            ">/dev/full",
            "No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full"),
        ),
    ],
)
def test_results_that_cannot_be_printed_are_an_error_after_the_work(shell, files, redirections, reason):
    expected = f"instseg: cannot write to stdout: {reason}; check where it goes and the space there\n"
    assert shell(GENERATE, redirections) == (1, "", expected)
    assert files() == GENERATED


def test_a_reader_that_has_gone_is_no_news(start_with, files):
    for arguments in (GENERATE.split(), ["--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        assert start_with(*arguments, stdout=writing) == (1, "")
        os.close(writing)
    assert files() == GENERATED


@pytest.fixture
def start_with(environment):
    """A function that runs the command with its stdout on a descriptor, and returns its exit code and stderr."""

    def start_with(*arguments, stdout):
        command = [sys.executable, "-m", "instseg", *arguments]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, timeout=120)
        return done.returncode, done.stderr

    return start_with


def test_errors_that_nobody_reads_change_no_exit_code(shell, files):
    assert shell("models none", "2>&-") == (1, "", "")
    assert shell(GENERATE, "0>&- 2>&-")[0] == 0
    assert files() == GENERATED
    if Path("/dev/full").exists():
        assert shell("models none --speed", "2>/dev/full") == (2, "", "")


def test_closed_descriptors_are_no_numbers_for_files_of_the_user(environment):
    program = (
        "import os\nfrom instseg.cli.terminal import Streams\nStreams()\n"
        "taken = os.open('file', os.O_CREAT | os.O_WRONLY)\nos.write(2, b'noise')\nos._exit(taken)"
    )
    command = ["sh", "-c", f'"{sys.executable}" -c "{program}" 0>&- 1>&- 2>&-']
    assert subprocess.run(command, env=environment, timeout=120).returncode > 2
    assert Path("file").read_bytes() == b""


def test_an_encoding_that_lacks_letters_shows_their_escapes(shell):
    code, stdout, stderr = shell(f"{GENERATE} --out Z\xe4une\u540d", "", PYTHONIOENCODING="ascii")
    assert (code, stderr) == (0, "")
    assert r"to Z\xe4une\u540d;" in stdout
    code, stdout, _ = shell("models", "", PYTHONIOENCODING="ascii", COLUMNS="1")
    assert code == 0
    assert stdout.isascii()
    assert "nucle" in stdout


def test_printed_lines_hold_no_commands_for_the_terminal(capsys):
    terminal.print_result(f"{NASTY}\n")
    terminal.print_note(f"{NASTY}\r")
    terminal.print_error(f"{NASTY}\n\nmore")
    out, err = capsys.readouterr()
    assert out == SHOWN + "\\n\n"
    assert err == SHOWN + "\\r\ninstseg: " + SHOWN + " more\n"


def test_json_is_ascii_without_controls(capsys):
    names = [NASTY, "\x7f\u2028\n"]
    terminal.print_json(names)
    out, _ = capsys.readouterr()
    assert out.isascii()
    assert out.replace("\n", "").isprintable()
    assert json.loads(out) == names


def test_texts_of_a_table_are_shown_as_they_are(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    file = io.StringIO()
    table = Table(title=NASTY)
    table.add_column(NASTY)
    table.add_row(NASTY)
    console = terminal.console(file=file, markup=False)
    console.print(table)
    console.print(NASTY)
    lines = file.getvalue().splitlines()
    assert sum(SHOWN in line for line in lines) == 4
    assert all(line.isprintable() for line in lines)


class _Screen(io.StringIO):
    def isatty(self):
        return True


def test_a_progress_bar_shows_names_as_they_are(monkeypatch):
    screen = _Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(terminal, "_DELAY", -1)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with terminal.progress_bar("Reading") as count:
        count(1, 2, NASTY)
    assert SHOWN in screen.getvalue()
    assert not set("\x9b\x07\u202e\udcff") & set(screen.getvalue())


def test_names_in_refused_arguments_are_shown_as_they_are(run):
    for arguments, expected in (
        (["--\x1b[2J"], "No such option: --\\x1b[2J"),
        (["\x1b[2J"], "No such command '\\x1b[2J'"),
        (["data", "check", "a", "\x1b[2J"], "(\\x1b[2J)"),
        (["models", "--\x1b[2J"], "No such option: --\\x1b[2J"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert expected in result.stderr
        assert "\x1b" not in result.stderr
