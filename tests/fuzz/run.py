"""Have the readers read damaged files, and tell those that they do not answer with an error of one line.

    python tests/fuzz/run.py [--mutants 2000] [--seed 0] [--out FOLDER]     # many, from number 0 on
    python tests/fuzz/run.py --seed 0 --only 17                              # one once more

A mutant fails if a call raises anything but `InstsegError`, is killed by a signal, writes to stdout or stderr, takes
more than 1.5 GB, or does not end. Mutants that fail stay in FOLDER. The same seed and number give the same mutant.
"""

import argparse
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from corpus import Seed, make_corpus
from worker import SECONDS, write_mutant

# Of the clock, for what waits and takes no time of a processor.
_GUARD = 300
_AHEAD = 4


def main() -> int:
    """Run the command, and return the number of mutants that failed, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path, default=Path("faults"), help="where mutants that fail are kept")
    parser.add_argument("--only", type=int, help="the number of a single mutant")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    numbers = list(range(options.mutants)) if options.only is None else [options.only]
    corpus = make_corpus()
    failed = 0
    for number, fault in fuzz(corpus, options.seed, numbers, options.workers):
        failed += 1
        kept = keep(corpus, options.seed, number, fault, options.out)
        print(f"{kept}: {fault.splitlines()[0]}", flush=True)
    print(f"{failed} of {len(numbers)} mutants of seed {options.seed} failed")
    return min(failed, 1)


def keep(corpus: dict[str, Seed], seed: str, number: int, fault: str, out: Path) -> Path:
    """Keep a mutant that failed, and why."""
    name = sorted(corpus)[number % len(corpus)]
    folder = out.resolve() / f"{seed}-{number}-{name}"
    write_mutant(corpus, seed, number, folder)
    (folder / "fault.txt").write_text(fault + "\n", encoding="utf-8", errors="backslashreplace")
    return folder


def fuzz(corpus: dict[str, Seed], seed: str, numbers: list[int], workers: int) -> Iterator[tuple[int, str]]:
    """Yield the number of each mutant that fails, and why."""
    waiting = list(reversed(numbers))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").write_bytes(pickle.dumps({name: tuple(parts) for name, parts in corpus.items()}))
        running = [Process(folder, seed, number) for number in range(min(workers, len(numbers)))]
        try:
            for process in running:
                process.give(waiting)
            while busy := {process.channel: process for process in running if process.given}:
                ready = wait(list(busy), _GUARD)
                for channel in ready:
                    yield from busy[channel].read(waiting)
                if not ready:
                    yield from next(iter(busy.values())).end("it did not end", waiting)
        finally:
            for process in running:
                process.stop()


class Process:
    """A worker, which is started again where a mutant ends it."""

    def __init__(self, folder: Path, seed: str, number: int) -> None:
        self._arguments = [str(Path(__file__).with_name("worker.py")), str(folder / "corpus"), seed]
        self._scratch = folder / f"mutant-{number}"
        self.given: list[int] = []
        self._start()

    def _start(self) -> None:
        self.channel, theirs = os.pipe()
        self._text = b""
        self._process = subprocess.Popen(
            [sys.executable, *self._arguments, str(self._scratch), str(theirs)],
            stdin=subprocess.PIPE,
            pass_fds=[theirs],
            # Zarr's and NumPy's threads would only disturb each other here.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
        os.close(theirs)

    def give(self, waiting: list[int]) -> None:
        """Give it numbers, so many that it never waits."""
        while waiting and len(self.given) < _AHEAD:
            number = waiting.pop()
            self.given.append(number)
            self._send(number)

    def _send(self, number: int) -> None:
        # One that has just died is noticed when its answers are read.
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"%d\n" % number)
            self._process.stdin.flush()

    def read(self, waiting: list[int]) -> Iterator[tuple[int, str]]:
        """Take its answers, and yield those that tell of a fault."""
        data = os.read(self.channel, 2**16)
        if not data:
            yield from self.end(None, waiting)
            return
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            number, fault = json.loads(line)
            self.given.remove(number)
            if fault is not None:
                yield number, fault
                if "MiB" in fault:  # It keeps the peak of its memory for ever.
                    self._again(waiting)
                    return
        self.give(waiting)

    def end(self, reason: str | None, waiting: list[int]) -> Iterator[tuple[int, str]]:
        """Blame the first number without an answer for the end of the process, and go on in another one."""
        if reason is None:
            code = self._process.wait()
            if code >= 0:
                raise RuntimeError(f"a worker ended with {code}, at mutant {self.given[0]}; its stderr says why")
            reason = f"it was killed by {signal.Signals(-code).name}"
            if code == -signal.SIGXCPU:
                reason = f"it took more than {SECONDS} seconds of the processor"
        blamed = self.given.pop(0)
        self._again(waiting)
        yield blamed, reason

    def _again(self, waiting: list[int]) -> None:
        self.stop()
        waiting += reversed(self.given)
        self.given = []
        if waiting:
            self._start()
            self.give(waiting)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        # What it was not sent is of no use to it.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(OSError):
            os.close(self.channel)
        shutil.rmtree(self._scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
