"""Run the benchmarks of speed and memory, one after another, and compare them with the last version.

    python tests/benchmarks/run.py MODEL [--quick] [--json FILE]
    python tests/benchmarks/run.py --history

MODEL is a directory that `instseg train` wrote on generated discs. Prints what each script prints; exits with 1 if one
of them fails, after the others have run. With `--json` the figures are written to FILE with version, date and machine,
and appended to `history.jsonl`; those that are more than 10 % worse than in the last version on the same kind of
machine are printed. `--quick` sees that all runs: its figures mean nothing, and are not appended. `--history` prints
the figures of all versions.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import history

from instseg.errors import InstsegError
from instseg.io.atomic import atomic_write, check_writable

_FOLDER = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help="model directory")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds, to see that all runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, and append them to the history")
    parser.add_argument("--history", action="store_true", help="print the figures of all versions, and run nothing")
    options = parser.parse_args(arguments)
    if options.history == (options.model is not None):
        parser.error("expected either MODEL or --history")
    if options.history and (options.quick or options.json is not None):
        parser.error("--history goes with no other option")
    try:
        if options.history:
            print(history.tables(history.read_history()))
            return
        run(options.model, options.quick, options.json)
    except InstsegError as error:
        sys.exit(f"Error: {error}")


def run(model: Path, quick: bool, out: Path | None) -> None:
    """Run all scripts; write and compare their figures where a file for them is given.

    Raises
    ------
    InstsegError
        Before anything runs, if the file cannot be written or the history cannot be read.
    """
    earlier = []
    if out is not None:
        check_writable(out, ".json")
        earlier = history.read_history()
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.jsonl"
        figures.touch()
        failed = [command[0] for command in commands(str(model), quick) if not passes(command, figures)]
        entry = None if out is None else history.make_record(history.read_figures(figures))
    if entry is not None:
        with atomic_write(out) as temporary:
            temporary.write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}{'' if entry is None else '; nothing was appended to the history'}")
    if entry is not None and not quick:
        before = history.last_version(entry, earlier)
        history.append(entry)
        print("\n".join(comparison(entry, before)))


def comparison(entry: history.Record, before: history.Record | None) -> list[str]:
    if before is None:
        return ["no other version was measured on such a machine"]
    return history.compare(entry, before) or [f"nothing is worse than in {history.title(before)} by more than 10 %"]


def commands(model: str, quick: bool) -> list[list[str]]:
    """Return the scripts with their arguments; all of them take less than ten minutes."""
    few = ["--count", "2", "--large", "1024", "--rounds", "1", "--starts", "1"]
    return [
        ["loss.py", *(["--size", "128", "--discs", "10", "--rounds", "1"] if quick else [])],
        ["cluster.py", model, *(["--count", "1", "--rounds", "1"] if quick else [])],
        ["scaling.py", model, "--rounds", "1" if quick else "3", "--sizes", "512", "1024" if quick else "8192"],
        ["evaluate.py", *(["--discs", "50", "--rounds", "1"] if quick else [])],
        ["measure.py", *(["--side", "1024", "--objects", "500", "--runs", "1"] if quick else ["--runs", "1"])],
        ["step.py", *(["--rounds", "2", "--steps", "5"] if quick else [])],
        ["strategy.py", "--patches", "8", "--rounds", "1", *(["--steps", "8"] if quick else [])],
        ["startup.py", "--rounds", "1" if quick else "3"],
        ["discs.py", model, *(["--count", "2"] if quick else [])],
        ["predict.py", model, *(few if quick else ["--starts", "3"])],
    ]


def passes(command: list[str], figures: Path) -> bool:
    print(f"== {' '.join(command)}", flush=True)
    start = time.perf_counter()
    # One at a time and each in a process of its own: they time, and measure peak memory.
    environment = os.environ | {history.FIGURES: str(figures)}
    code = subprocess.run([sys.executable, str(_FOLDER / command[0]), *command[1:]], env=environment).returncode
    print(f"-- {time.perf_counter() - start:.0f} s\n", flush=True)
    return code == 0


if __name__ == "__main__":
    main()
