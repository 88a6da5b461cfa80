"""Reads damaged files one after the other, in a process of its own, which may be killed by one of them.

    python worker.py CORPUS SEED FOLDER CHANNEL

The numbers of mutants come line by line through stdin. Through the descriptor CHANNEL goes, for each of them, a line of
JSON: the number, and what went wrong (null where nothing did).
"""

import json
import os
import pickle
import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

from corpus import Seed
from mutate import mutate
from targets import TARGETS

from instseg.errors import InstsegError

MEMORY = 1500 * 2**20
"""Bytes beyond those of a process that has imported everything, which one file may take."""
SECONDS = 20
"""Seconds of the processor that one file may take; one takes some milliseconds."""
# What a file may not even ask for, so that the machine stays usable.
_ADDRESS_SPACE = 4 * MEMORY


def main(corpus: dict[str, Seed], seed: str, folder: Path, channel: int) -> None:
    """Do mutant after mutant."""
    silence = Silence()
    sys.excepthook = silence.tell
    # Those that Python hides by default are not for users.
    for category in (UserWarning, RuntimeWarning):
        warnings.simplefilter("always", category)
    memory = Memory()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    for line in sys.stdin:
        number = int(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + SECONDS + 1, hard))
        path, kind = write_mutant(corpus, seed, number, folder)
        faults = [fault for fault in (attempt(call) for call in TARGETS[kind](path)) if fault]
        faults += [f"it wrote to stdout or stderr: {text}" for text in silence.broken()]
        faults += [f"it took {taken / 2**20:,.0f} MiB" for taken in memory.exceeded()]
        os.write(channel, (json.dumps([number, "\n".join(faults) or None]) + "\n").encode())


def write_mutant(corpus: dict[str, Seed], seed: str, number: int, folder: Path) -> tuple[Path, str]:
    """Write a mutant in place of the one before, and return what the target is given and its kind."""
    random = Random(f"{seed}-{number}")
    name = sorted(corpus)[number % len(corpus)]
    kind, path, files = corpus[name]
    shutil.rmtree(folder, ignore_errors=True)
    chosen = random.choice(sorted(files))
    relatives = [data for other in corpus.values() if other.kind == kind for data in other.files.values()]
    for file, data in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(mutate(file, data, relatives, random) if file == chosen else data)
    return folder / path, kind


def attempt(call) -> str | None:
    """Make a call, and return what went wrong."""
    name, function = call
    try:
        function()
    except InstsegError as error:
        if "\n" in str(error):
            return f"{name}: the message has several lines: {error!r}"
        causes, cause = [], error
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        return (
            f"{name}: it asked for too much memory: {error}"
            if any(isinstance(one, MemoryError) for one in causes)
            else None
        )
    except BaseException as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "instseg" in Path(frame.filename).parts]
        where = f"{'/'.join(Path(own[-1].filename).parts[-2:])} {own[-1].name}" if own else "?"
        text = " ".join(str(error).split())
        return f"{name}: {type(error).__name__} in {where}: {text[:300]}\n" + "".join(traceback.format_exception(error))
    return None


class Silence:
    """Has what is written to stdout and stderr, by C libraries, too, go into a file."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        self._file = os.memfd_create("output")
        for descriptor in (1, 2):
            os.dup2(self._file, descriptor)

    def tell(self, *failure: Any) -> None:
        """Write what this program itself failed with to the former stderr."""
        os.write(self._stderr, "".join(traceback.format_exception(*failure)).encode())

    def broken(self) -> list[str]:
        """Return what was written since the last call; a list of none or one."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        size = os.lseek(self._file, 0, os.SEEK_END)
        if not size:
            return []
        text = os.pread(self._file, min(size, 2000), 0).decode("utf-8", "replace")
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        return [text]


class Memory:
    """The most memory that the process has had, beyond that of its beginning."""

    def __init__(self) -> None:
        self._before = self._figure("VmHWM")
        soft = self._figure("VmSize") + _ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def exceeded(self) -> list[int]:
        """Return the bytes, where they are too many; a list of none or one. The process is of no use then."""
        taken = self._figure("VmHWM") - self._before
        return [taken] if taken > MEMORY else []

    @staticmethod
    def _figure(name: str) -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)


if __name__ == "__main__":
    stored = pickle.loads(Path(sys.argv[1]).read_bytes())
    main({name: Seed(*parts) for name, parts in stored.items()}, sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
