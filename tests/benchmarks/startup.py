"""Time how long commands take to start, against what they cannot do without.

    python tests/benchmarks/startup.py [--rounds 7]

All run in turn, every time as a new process; printed are medians and their ratios: `instseg --help` against importing
Typer and Rich, `instseg cluster` of a small file against importing TensorFlow, which it has to do without, and
`instseg predict nuclei` of an image of 512 x 512 pixels against that.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from history import record

from instseg.clustering.embeddings import Embeddings
from instseg.data.discs import draw_discs
from instseg.io.images import write_picture
from instseg.io.npz import write_embeddings
from instseg.settings import DiscSettings

# The command as it is installed beside this Python.
INSTSEG = str(Path(sys.executable).with_name("instseg"))
IMPORT_TENSORFLOW = [sys.executable, "-c", "import tensorflow"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each command")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        maps, image, labels = (Path(folder) / name for name in ("maps.npz", "image.png", "labels.png"))
        values = np.random.default_rng(0).standard_normal((64, 64, 8), np.float32)
        write_embeddings(maps, Embeddings(embeddings=values, foreground=np.ones((64, 64), np.float32)))
        write_picture(image, draw_discs(np.random.default_rng(0), DiscSettings())[0])
        commands = {
            "instseg --help": [INSTSEG, "--help"],
            "import typer, rich": [sys.executable, "-c", "import typer, rich"],
            "instseg cluster": [INSTSEG, "cluster", str(maps), "--out", str(labels)],
            "instseg predict nuclei": [INSTSEG, "predict", "nuclei", str(image), "--out", str(labels)],
            "import tensorflow": IMPORT_TENSORFLOW,
        }
        seconds = medians(commands, options.rounds)
    compare(seconds, "instseg --help", "import typer, rich")
    compare(seconds, "instseg cluster", "import tensorflow")
    compare(seconds, "instseg predict nuclei", "import tensorflow")


def medians(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, float]:
    """Run commands in turn, and return the median of the seconds that each takes."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    # The first run of each reads from the disc and writes byte code.
    for number in range(rounds + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} failed: {done.stderr.strip()}")
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(seconds: Mapping[str, float], name: str, other: str) -> None:
    """Print the medians of two commands, and how many times as long the first takes."""
    ratio = seconds[name] / seconds[other]
    print(f"{name}: {1000 * seconds[name]:.0f} ms, {other}: {1000 * seconds[other]:.0f} ms, ratio {ratio:.2f}")
    record(f"{name}, start to end, over {other}", ratio, better="lower")


if __name__ == "__main__":
    main()
