"""A process killed at any step of writing a result loses neither the old nor the new one; the next one tidies up."""

import subprocess
import sys

import pytest

# Python reports every call to the file system to audit hooks, before it is done. A child that counts them and kills
# itself at the N-th has done exactly N - 1; with N from 1 on, every state on the way is seen. All writing is done by
# children, as a process whose libraries have started threads cannot be forked.
KILLED_EVERYWHERE = """
import importlib, os, shutil, signal, sys
from contextlib import suppress
from pathlib import Path

import imagecodecs, numpy as np, tifffile, zarr
from instseg.clustering.embeddings import Embeddings
from instseg.clustering.instances import Instances
from instseg.io import zarr_labels
from instseg.io.label_images import write_labels, write_labels_streamed
from instseg.io.npz import write_embeddings
from instseg.io.tables import write_table

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "os.truncate")
# The disc does not have to keep what a killed process has written, only what a machine without power has.
os.fsync = lambda descriptor: None

def write(name, value):
    path = Path(name)
    labels = np.full((9, 11), value, np.int32)
    if name == "streamed.tif":
        write_labels_streamed(path, labels.shape, iter([labels]))
    elif path.suffix == ".zarr":
        zarr_labels.write_zarr_labels(path, labels.shape, iter([labels]))
    elif path.suffix == ".npz":
        write_embeddings(path, Embeddings(np.full((9, 11, 2), value, np.float32), np.ones((9, 11), np.float32)))
    elif path.suffix == ".csv":
        one = np.array([value])
        write_table(path, Instances(
            label=one, score=one / 4, area=one, centroid=np.zeros((1, 2)), bbox=np.array([[0, 1, 2, 3]])
        ))
    else:
        write_labels(path, labels)

def in_child(function, *arguments):
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status == 0

def write_killed_at(name, value, step):
    left = step
    def hook(event, arguments):
        nonlocal left
        # Not what is imported meanwhile.
        if event in EVENTS and str(arguments[0]).startswith("/") <= str(arguments[0]).startswith(os.getcwd()):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    write(name, value)

def contents(path):
    if path.is_dir():
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return path.read_bytes() if path.exists() else None

def note_modules():
    before = set(sys.modules)
    write(name, 1)
    Path("../modules").write_text("\\n".join(sys.modules.keys() - before))

name = sys.argv[1]
# What a child would import, so that each does not do it again.
in_child(note_modules)
for module in Path("../modules").read_text().split():
    # Some extensions register names of which nothing can be imported.
    with suppress(ImportError):
        importlib.import_module(module)
path, replaced = Path(name), Path(f".{name}.replaced")
expected = {0: None}
for value in (1, 2, 3):
    in_child(write, name, value)
    expected[value] = contents(path)
    path.rename(f"../{value}")
tidied = set()
for before in (0, 1):
    step, finished, seen = 0, False, []
    while not finished:
        step += 1
        if before:
            shutil.copytree("../1", path) if Path("../1").is_dir() else shutil.copy("../1", path)
        finished = in_child(write_killed_at, name, 2, step)
        # Between the two renames the old group has another name, under which the next process finds it.
        found = contents(path if path.exists() or not replaced.exists() else replaced)
        seen.append(next(value for value in (before, 2) if found == expected[value]))
        if path.suffix == ".zarr" and path.exists():
            assert zarr_labels.is_complete_zarr(path)
        left = (seen[-1], *sorted(os.listdir()))
        if left not in tidied:
            in_child(write, name, 3)
            assert contents(path) == expected[3], step
            assert os.listdir() == [name], (step, os.listdir())
            tidied.add(left)
        for entry in Path().iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    # The old one, then the new one, and nothing between.
    assert seen == sorted(seen) and seen[0] == before and seen[-1] == 2, seen
    assert step > 3, step
assert len(tidied) > 3, tidied
"""


@pytest.mark.parametrize("name", ["labels.png", "labels.tif", "streamed.tif", "maps.npz", "scores.csv", "labels.zarr"])
def test_killed_at_any_step_the_old_or_the_new_result_is_whole(tmp_path, name):
    folder = tmp_path / "results"
    folder.mkdir()
    command = [sys.executable, "-c", KILLED_EVERYWHERE, name]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
