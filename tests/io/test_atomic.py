"""Files appear in one step: leftovers, other processes, power failures, and names of any length."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from instseg.errors import InstsegError
from instseg.io.atomic import atomic_write, hidden_sibling
from instseg.io.locks import file_lock


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, text):
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(text)


def names():
    return sorted(path.name for path in Path().iterdir())


def test_a_file_appears_when_it_is_complete():
    with atomic_write(Path("a.txt")) as temporary:
        assert temporary.parent == Path()
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not Path("a.txt").exists()
    assert Path("a.txt").read_text() == "new"
    assert names() == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_is_there_stays_when_the_writing_fails(error):
    write("a.txt", "old")
    with pytest.raises(error), atomic_write(Path("a.txt")) as temporary:
        temporary.write_text("new")
        raise error
    assert Path("a.txt").read_text() == "old"
    assert names() == ["a.txt"]


def test_it_has_the_permissions_of_any_new_file():
    before = os.umask(0o027)
    try:
        write("a.txt", "new")
    finally:
        os.umask(before)
    assert Path("a.txt").stat().st_mode & 0o777 == 0o640


KILLED = """
import os, sys
from pathlib import Path
from instseg.io.atomic import atomic_write

with atomic_write(Path("a.txt")) as temporary:
    temporary.write_text("half")
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), 9)
    print(temporary, flush=True)
    sys.stdin.read()
    temporary.write_text("first")
"""


def test_what_killed_processes_left_is_removed_by_the_next_one():
    left = [hidden_sibling(Path("a"), f"{number}.partial.txt").name for number in ("", ".1", ".2")]
    ended = subprocess.run([sys.executable, "-c", KILLED, "killed"], check=False)
    assert ended.returncode == -9
    assert names() == left[:1]
    # As several leave, and what another name has is none of ours.
    for name in (*left[1:], ".b.partial.txt"):
        Path(name).write_text("half")
    write("a.txt", "new")
    assert Path("a.txt").read_text() == "new"
    assert names() == [".b.partial.txt", "a.txt"]


def test_what_a_living_process_writes_is_left_alone():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", KILLED, "lives"], **pipes, text=True) as other:
        temporary = Path(other.stdout.readline().strip())
        write("a.txt", "second")
        assert temporary.read_text() == "half"
        assert Path("a.txt").read_text() == "second"
        other.communicate("")
    assert other.returncode == 0
    assert Path("a.txt").read_text() == "first"
    assert names() == ["a.txt"]


def test_threads_that_write_one_file_do_not_meet():
    together, errors = threading.Barrier(8), []

    def work(number):
        try:
            together.wait()
            for _ in range(20):
                write("a.txt", f"{number}" * 10_000)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    text = Path("a.txt").read_text()
    assert text == text[0] * 10_000
    assert names() == ["a.txt"]


def test_a_file_that_replaces_another_is_on_the_disc_before_it_does(monkeypatch):
    done, fsync, replace = [], os.fsync, Path.replace

    def synchronised(descriptor):
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def replaced(path, target):
        done.append("renamed")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synchronised)
    monkeypatch.setattr(Path, "replace", replaced)
    write("a.txt", "old")
    assert done == ["renamed"]
    done.clear()
    write("a.txt", "new")
    assert done == [".a.partial.txt", "renamed", Path.cwd().name]


def test_a_disc_that_fails_keeps_the_old_file(monkeypatch):
    write("a.txt", "old")

    def failing(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(InstsegError, match=r"cannot write a\.txt: Input/output error"):
        write("a.txt", "new")
    assert Path("a.txt").read_text() == "old"
    assert names() == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_files_are_written_and_leftovers_stay(monkeypatch, number):
    def refused(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    Path(".a.partial.txt").write_text("of someone")
    for text in ("old", "new"):
        write("a.txt", text)
        assert Path("a.txt").read_text() == text
    assert Path(".a.partial.txt").read_text() == "of someone"
    assert names() == [".a.partial.txt", "a.txt"]


@pytest.mark.parametrize("stem", ["n" * 251, "ä" * 125, "細" * 83, "n" * 240])
def test_names_as_long_as_file_systems_allow(stem):
    name = f"{stem}.txt"
    for text in ("old", "new"):
        write(name, text)
    assert Path(name).read_text() == "new"
    assert names() == [name]
    other = hidden_sibling(Path(f"{stem[:-1]}x"), ".partial.txt")
    assert other.name != hidden_sibling(Path(stem), ".partial.txt").name
    assert len(os.fsencode(other.name)) <= 255


def test_links_are_not_followed_where_a_temporary_file_would_be():
    Path("mine.txt").write_text("mine")
    Path(".a.partial.txt").symlink_to("mine.txt")
    write("a.txt", "new")
    assert Path("a.txt").read_text() == "new"
    assert Path("mine.txt").read_text() == "mine"


def test_a_folder_that_is_missing_is_told():
    with pytest.raises(InstsegError, match="does not exist; create it first"):
        write("no/a.txt", "new")


def test_a_lock_is_held_by_one_at_a_time_and_leaves_nothing():
    for _ in range(2):
        with file_lock(Path("lock"), "busy"):
            assert names() == ["lock"]
            with pytest.raises(InstsegError, match="^busy$"), file_lock(Path("lock"), "busy"):
                pass
        assert names() == []
    # That of a process that was killed.
    Path("lock").touch()
    with file_lock(Path("lock"), "busy"):
        pass
    assert names() == []


def test_a_lock_that_cannot_be_made_is_an_error_and_not_no_lock():
    with pytest.raises(FileNotFoundError), file_lock(Path("no/lock"), "busy"):
        pass
