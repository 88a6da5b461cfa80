"""What the scripts of the peers share: arguments, the clock of the training, and prediction of a folder, timed.

    python tests/benchmarks/PEER_baseline.py TRAIN IMAGES OUT [--minutes 20] [--seed 0] [--model DIR] [--rounds 0]

TRAIN holds `images/` and `labels/`, gray PNG files of the same names; the labels of all files of IMAGES go to OUT as
PNG of 16 bits, for `instseg evaluate --pred OUT --labels LABELS`. With `--model` the trained model is kept, and one
that is there is not trained again. With `--rounds` the prediction is repeated after the first pass and timed: reading,
segmenting and writing, the model loaded. The last line that is printed is JSON.

It runs in each peer's environment, so it needs NumPy and Pillow alone.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


class Clock:
    """Says how much of the minutes of a training is left; what only the benchmark needs is done with it stopped."""

    def __init__(self, minutes):
        self._end = time.perf_counter() + 60 * minutes
        self._since = None

    def left(self):
        """Return the seconds that are left, negative beyond the end."""
        return self._end - (time.perf_counter() if self._since is None else self._since)

    def __enter__(self):
        self._since = time.perf_counter()

    def __exit__(self, *error):
        self._end += time.perf_counter() - self._since
        self._since = None


def main(doc, train, load):
    """Train unless that is done, predict, and print what was done.

    `train(folder, images, labels, clock, seed)` trains, writes a model into `folder` and returns figures for the last
    line that is printed, `iterations` among them; `load(folder)` returns a function from an image to its labels.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, metavar="TRAIN", help="folder with images and labels, gray")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder with images to segment")
    parser.add_argument("out", type=Path, metavar="OUT", help="where the label images go")
    parser.add_argument("--minutes", type=float, default=20.0, help="time to train for")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and the held-out images")
    parser.add_argument("--model", type=Path, metavar="DIR", help="where the trained model is kept")
    parser.add_argument("--rounds", type=int, default=0, help="timed passes over IMAGES after the first")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.model or Path(temporary)
        done = folder / "trained.json"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            clock = Clock(options.minutes)
            figures = train(folder.resolve(), *read_folder(options.train), clock, options.seed)
            figures |= {"minutes": options.minutes, "seconds_beyond": round(-clock.left(), 1)}
            print(f"trained: {figures}", flush=True)
            done.write_text(json.dumps(figures), encoding="utf-8")
        figures = json.loads(done.read_text(encoding="utf-8"))
        figures |= predict(load(folder.resolve()), options.images, options.out, options.rounds)
    print(json.dumps(figures))


def read(path):
    return np.asarray(Image.open(path))


def read_folder(folder):
    names = sorted(path.name for path in (folder / "images").iterdir())
    images = [read(folder / "images" / name) for name in names]
    return images, [read(folder / "labels" / name).astype(np.int32) for name in names]


def predict(segment, images, out, rounds):
    """Segment the images of a folder and write their labels, once and `rounds` times more; return what that took."""
    out.mkdir(parents=True, exist_ok=True)
    paths = sorted(images.glob("*.png"))
    seconds = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        pixels = instances = 0
        for path in paths:
            labels = segment(read(path))
            Image.fromarray(labels.astype(np.uint16)).save(out / path.name)
            pixels, instances = pixels + labels.size, instances + int(np.count_nonzero(np.bincount(labels.flat)[1:]))
        # The first warms up.
        if number:
            seconds.append(time.perf_counter() - start)
    figures = {"images": len(paths), "megapixels": pixels / 1e6, "instances": instances}
    figures["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if seconds:
        median = statistics.median(seconds)
        figures |= {"seconds": median, "megapixels_per_second": pixels / 1e6 / median}
    return figures


def use_all_cores():
    """Let PyTorch use every core that the process may run on, whatever it would take by itself."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
