"""Where the command begins: Ctrl-C before the command line is there ends it as later on."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from instseg.__main__ import main


def test_the_installed_command_begins_here():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"instseg": f"{main.__module__}:{main.__name__}"}


@pytest.mark.parametrize("at", ["import", "run"])
def test_ctrl_c_ends_it_without_a_traceback(at):
    # In place of the command line, a module that is interrupted.
    source = "raise KeyboardInterrupt" if at == "import" else "def main(): raise KeyboardInterrupt"
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
