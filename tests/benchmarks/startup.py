"""Time how long commands take to start, against what they cannot do without.

    python tests/benchmarks/startup.py [--rounds 7]

Each pair runs alternately, every time as a new process; printed are medians and
their ratio: `instseg --help` against importing Typer and Rich, `instseg cluster` of a small file against importing
TensorFlow, which it has to do without, and `instseg predict nuclei` of an image of 512 x 512 pixels against that.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from instseg.clustering.embeddings import Embeddings
from instseg.data.discs import draw_discs
from instseg.io.images import write_picture
from instseg.io.npz import write_embeddings
from instseg.settings import DiscSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each command")
    options = parser.parse_args()
    # The command as it is installed beside this Python.
    instseg, python = [str(Path(sys.executable).with_name("instseg"))], [sys.executable, "-c"]
    with tempfile.TemporaryDirectory() as folder:
        maps = Path(folder) / "maps.npz"
        values = np.random.default_rng(0).standard_normal((64, 64, 8), np.float32)
        write_embeddings(maps, Embeddings(embeddings=values, foreground=np.ones((64, 64), np.float32)))
        cluster = [*instseg, "cluster", str(maps), "--out", str(Path(folder) / "labels.png")]
        compare("instseg --help", [*instseg, "--help"], "import typer, rich", [*python, "import typer, rich"], options)
        compare("instseg cluster", cluster, "import tensorflow", [*python, "import tensorflow"], options)
        image = Path(folder) / "image.png"
        write_picture(image, draw_discs(np.random.default_rng(0), DiscSettings())[0])
        predict = [*instseg, "predict", "nuclei", str(image), "--out", str(Path(folder) / "labels.png")]
        compare("instseg predict nuclei", predict, "import tensorflow", [*python, "import tensorflow"], options)


def compare(name: str, command: list[str], other_name: str, other: list[str], options: argparse.Namespace) -> None:
    """Print the medians of both, and how many times as long the first takes."""
    times: dict[str, list[float]] = {name: [], other_name: []}
    # The first run of each reads from the disc and writes byte code.
    for number in range(options.rounds + 1):
        for label, arguments in ((name, command), (other_name, other)):
            start = time.perf_counter()
            subprocess.run(arguments, check=True, capture_output=True)
            if number:
                times[label].append(time.perf_counter() - start)
    first, second = (statistics.median(times[label]) for label in (name, other_name))
    print(
        f"{name}: {1000 * first:.0f} ms, {other_name}: {1000 * second:.0f} ms, "
        f"ratio {first / second:.2f} (medians of {options.rounds})"
    )


if __name__ == "__main__":
    main()
