"""Print how fast models are beside how much they find: megapixels/s against AP, one row for each model and precision.

    python tests/benchmarks/speed_curve.py DATA NAME=MODEL [NAME=MODEL ...] [--precisions float32 bfloat16]
        [--point NAME MEGAPIXELS_PER_SECOND AP50 MEAN_AP] [--side 2048] [--rounds 5]

DATA holds `images` and `labels` that no model has learnt from, gray ones. AP is what `instseg evaluate` says of them.
Timed is predicting one image of SIDE x SIDE pixels that is put together from them, in memory, all models in turn in
one process; the first model in the first precision is what the others are compared with. `--point` adds a row that
was measured elsewhere, such as a peer's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from history import record


class Row(NamedTuple):
    """A model at work."""

    name: str
    rate: float
    core_seconds: float | None
    ap50: float
    mean_ap: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("models", nargs="+", type=named, metavar="NAME=MODEL")
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--point", nargs=4, action="append", default=[], metavar=("NAME", "RATE", "AP50", "MEAN_AP"))
    parser.add_argument("--side", type=int, default=2048, help="height and width of the image that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is run")
    options = parser.parse_args()
    rows = measure(options)
    for name, *figures in options.point:
        rate, ap50, mean_ap = map(float, figures)
        rows.append(Row(name, rate, None, ap50, mean_ap))
    print_table(rows)
    for row in rows[1 : len(options.models)]:
        record(f"time of {row.name} over {rows[0].name}, one image", rows[0].rate / row.rate, better="lower")


def named(text: str) -> tuple[str, str]:
    name, separator, model = text.partition("=")
    if not (name and separator and model):
        raise argparse.ArgumentTypeError(f"{text} is no NAME=MODEL")
    return name, model


def measure(options: argparse.Namespace) -> list[Row]:
    """Evaluate all models, and time them in turn."""
    from instseg.inference.model import load

    image = mosaic(sorted((options.data / "images").iterdir()), options.side)
    # All in the first precision, then all in the next.
    runs = [(name, path, precision) for precision in options.precisions for name, path in options.models]
    loaded = [load(path, precision=precision) for _, path, precision in runs]
    times: list[list[tuple[float, float]]] = [[] for _ in runs]
    for number in range(options.rounds + 1):
        for model, taken in zip(loaded, times, strict=True):
            start = time.perf_counter(), time.process_time()
            model.predict(image)
            # The first warms up.
            if number:
                taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    rows = []
    for (name, path, precision), taken in zip(runs, times, strict=True):
        seconds, core_seconds = (statistics.median(column) for column in zip(*taken, strict=True))
        found = evaluate(path, options.data, precision)["per_image"]
        megapixels = image.size / 1e6
        title = f"{name}, {precision}"
        rows.append(Row(title, megapixels / seconds, core_seconds / megapixels, found["ap"][0], found["mean_ap"]))
    return rows


def mosaic(files: list[Path], side: int) -> np.ndarray[Any, Any]:
    """Put images together to one of `side` x `side` pixels, each with its own levels from 0 to 255."""
    from instseg.io.images import read_image

    result = np.zeros((side, side), np.uint8)
    row = column = height = 0
    number = 0
    while row < side:
        image = np.squeeze(read_image(files[number % len(files)])).astype(np.float32)
        number += 1
        if image.ndim != 2:
            sys.exit("expected gray images, as the networks of the curve take")
        low, high = np.percentile(image, (1, 99.9))
        image = np.clip((image - low) / max(high - low, 1) * 255, 0, 255)
        part = result[row : row + image.shape[0], column : column + image.shape[1]]
        part[...] = image[: part.shape[0], : part.shape[1]]
        column, height = column + image.shape[1], max(height, image.shape[0])
        if column >= side:
            row, column, height = row + height, 0, 0
    return result


def evaluate(model: str, data: Path, precision: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "instseg", "evaluate", model, "--data", str(data), "--json"]
    done = subprocess.run([*command, "--precision", precision], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def print_table(rows: list[Row]) -> None:
    """Print a Markdown table, the fastest first."""
    print("| | megapixels/s | time, of the first | core seconds a megapixel | AP at IoU 0.5 | mean AP |")
    print("|---|--:|--:|--:|--:|--:|")
    first = rows[0]
    for row in sorted(rows, key=lambda one: -one.rate):
        core = "" if row.core_seconds is None else f"{row.core_seconds:.2f}"
        share = f"{first.rate / row.rate:.2f}"
        print(f"| {row.name} | {row.rate:.2f} | {share} | {core} | {row.ap50:.3f} | {row.mean_ap:.3f} |")


if __name__ == "__main__":
    main()
