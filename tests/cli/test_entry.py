"""Where the command begins: Ctrl-C before the command line is there ends it as later on, and what takes long begins."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from instseg.__main__ import main


def test_the_installed_command_begins_here():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"instseg": f"{main.__module__}:{main.__name__}"}


def run_with(source, *words):
    """Run the command with a module of this source in place of the command line."""
    code = f"""
import sys, types
from importlib.machinery import ModuleSpec
class Finder:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "instseg.cli" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec({source!r}, module.__dict__)
sys.meta_path.insert(0, Finder())
from instseg.__main__ import main
main()
"""
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


@pytest.mark.parametrize("at", ["import", "run"])
def test_ctrl_c_ends_it_without_a_traceback(at):
    source = "raise KeyboardInterrupt" if at == "import" else "def main(): raise KeyboardInterrupt"
    done = run_with(source)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["predict", "model", "a.png", "--out", "b.png"], True),
        (["predict", "--help"], False),
        (["predict", "model", "a.png", "--workers=2"], False),
        (["predict", "model", "a.png", "--scheduler", "localhost:8786"], False),
        (["train", "model"], False),
        ([], False),
    ],
)
def test_tensorflow_is_loaded_while_the_command_line_is_imported(words, begins):
    source = "def main():\n import threading\n print('tensorflow' in {one.name for one in threading.enumerate()})"
    done = run_with(source, *words)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(begins), "")
