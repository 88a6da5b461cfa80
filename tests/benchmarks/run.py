"""Run all benchmarks, one after another.

    python tests/benchmarks/run.py MODEL [--quick]

MODEL is a directory that `instseg train` wrote on generated discs. Prints what
each script prints; exits with 1 if one of them fails, after the others have run.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

_FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds, to see that all runs")
    options = parser.parse_args()
    quick, model = options.quick, str(options.model)
    commands = [
        ["loss.py", *(["--size", "128", "--discs", "10", "--rounds", "1"] if quick else [])],
        ["cluster.py", model, *(["--count", "1", "--rounds", "1"] if quick else [])],
        ["evaluate.py", *(["--discs", "50", "--rounds", "1"] if quick else [])],
        ["step.py", *(["--rounds", "2", "--steps", "5"] if quick else [])],
        ["startup.py", *(["--rounds", "1"] if quick else [])],
        ["discs.py", model, *(["--count", "2"] if quick else [])],
    ]
    failed = [command[0] for command in commands if not passes(command)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def passes(command: list[str]) -> bool:
    print(f"== {' '.join(command)}", flush=True)
    start = time.perf_counter()
    # One at a time and each in a process of its own: they time, and measure peak memory.
    code = subprocess.run([sys.executable, str(_FOLDER / command[0]), *command[1:]]).returncode
    print(f"-- {time.perf_counter() - start:.0f} s\n", flush=True)
    return code == 0


if __name__ == "__main__":
    main()
