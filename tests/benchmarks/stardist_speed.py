"""Time StarDist on many images and on a large one, and measure its peak memory, to stand beside `predict.py`.

The images are written in our environment, StarDist is timed in its own, see `stardist_baseline.py`:

    instseg data generate --out discs --count 40 && python tests/benchmarks/predict.py --write IMAGES
    python tests/benchmarks/stardist_speed.py discs IMAGES [--minutes 5] [--rounds 3]

Trained on the discs first, as its speed depends on how many candidates it finds. Then medians over the rounds (of the
large image there is one), in one process, without its start: reading PNG or TIFF, normalising, `predict_instances` with
the optimised thresholds, writing 16-bit labels. The large image goes in the tiles that its own command would take. The
peaks are those of processes that load the model and predict.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from stardist_baseline import configuration, trained


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, metavar="TRAIN", help="folder with images and labels")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of `predict.py --write`")
    parser.add_argument("--minutes", type=float, default=5.0, help="time to train for")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is run")
    parser.add_argument("--peak-of", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        model, thresholds = load(options.train)
        run(model, thresholds, options.peak_of, options.images)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    many, large = sorted(options.images.glob("*.png")), sorted(options.images.glob("*.tif"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, thresholds = trained(options.train, options.minutes, 0)
        model.keras_model.save_weights(folder / "model.weights.h5")
        (folder / "thresholds.json").write_text(json.dumps({name: float(one) for name, one in thresholds.items()}))
        for files in (many, large):
            seconds = []
            # The first warms up; the large image takes minutes.
            for number in range(options.rounds + 1 if files is many else 1):
                start = time.perf_counter()
                pixels, count = run(model, thresholds, files, folder)
                if number or files is large:
                    seconds.append(time.perf_counter() - start)
            command = [sys.executable, __file__, str(folder), str(folder), "--peak-of", *map(str, files)]
            # StarDist prints lines of its own before.
            peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
            pace = pixels / 1e6 / statistics.median(seconds)
            print(
                f"{len(files)} images, {pixels / 1e6:.0f} megapixels, {count} instances: "
                f"{statistics.median(seconds):.2f} s, {pace:.2f} megapixels/s, peak memory {peak:.2f} GiB",
                flush=True,
            )


def load(folder):
    from stardist.models import StarDist2D

    model = StarDist2D(configuration(), name=None, basedir=None)
    model.keras_model.load_weights(folder / "model.weights.h5")
    return model, json.loads((folder / "thresholds.json").read_text())


def run(model, thresholds, files, folder):
    """Segment images and write their labels; return the number of pixels and of instances."""
    from csbdeep.utils import normalize
    from PIL import Image

    pixels = count = 0
    for path in files:
        image = tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))
        image = normalize(image.astype(np.float32), 1, 99.8)
        tiles = model._guess_n_tiles(image)
        labels, _ = model.predict_instances(image, n_tiles=tiles, show_tile_progress=False, **thresholds)
        pixels, count = pixels + labels.size, count + int(labels.max())
        tifffile.imwrite(folder / f"{path.stem}.tif", labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32))
    return pixels, count


if __name__ == "__main__":
    main()
