"""Time prediction of many images and of a large one against the bare network, and measure its peak memory.

    python tests/benchmarks/predict.py MODEL [--count 100] [--large 8192] [--rounds 3]
    python tests/benchmarks/predict.py --write DIR [--count 100] [--large 8192]

MODEL is a directory that `instseg train` wrote on generated discs, or of objects like these. Printed are

* all of `predict` (reading, network, clustering, writing labels) on `--count` images of 512 x 512 and on one of
  `--large` squared, over the bare network's passes on the same pixels, each counted once: medians of `--rounds`, in
  turn, within one process, so without its start; and the share of pixels that overlaps add;
* the peak memory of a process that predicts the many images, and of one that predicts the large one.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from instseg.data.discs import draw_discs
from instseg.inference.batch import LocalExecutor, PredictJob
from instseg.inference.options import PredictOptions
from instseg.inference.outputs import OutputFolder
from instseg.io.images import read_image, write_picture
from instseg.preprocessing.levels import image_levels
from instseg.settings import DiscSettings, TileSettings
from instseg.tiling.sizes import plan_tiles

_PIECE = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("--count", type=int, default=100, help="images of 512 x 512")
    parser.add_argument("--large", type=int, default=8192, help="height and width of the large image")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is run")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the images here, and measure nothing")
    parser.add_argument("--peak-of", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        options.write.mkdir(parents=True, exist_ok=True)
        write_images(options.write, options)
        return
    if options.model is None:
        parser.error("expected MODEL or --write DIR")
    from instseg.inference.model import load

    model = load(options.model)
    if options.peak_of is not None:
        with tempfile.TemporaryDirectory() as temporary:
            run(model, options.peak_of, Path(temporary))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        many, large = write_images(folder, options)
        compare(f"{options.count} images of 512 x 512", model, many, folder, options.rounds)
        compare(f"an image of {options.large} x {options.large}", model, [large], folder, options.rounds)
        for what, files in ((f"{options.count} images", many), ("the large one", [large])):
            command = [sys.executable, __file__, str(options.model), "--peak-of", *map(str, files)]
            peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"peak memory of a process that predicts {what}: {peak:.2f} GiB")


def write_images(folder: Path, options: argparse.Namespace) -> tuple[list[Path], Path]:
    many = []
    for number in range(options.count):
        many.append(folder / f"{number:04d}.png")
        write_picture(many[-1], draw_discs(np.random.default_rng(number), DiscSettings())[0])
    large = folder / "large.tif"
    tifffile.imwrite(large, mosaic(options.large), tile=(512, 512), compression="zlib")
    return many, large


def mosaic(size: int):
    """Return an image of discs of any size, as dense as the example images: eight pictures, repeated."""
    density = _PIECE**2 // 512**2
    discs = DiscSettings(size=_PIECE, min_discs=50 * density, max_discs=50 * density)
    pieces = [draw_discs(np.random.default_rng(number), discs)[0] for number in range(8)]
    count = -(-size // _PIECE)
    rows = [np.hstack([pieces[(row + column) % 8] for column in range(count)]) for row in range(count)]
    return np.vstack(rows)[:size, :size]


def run(model, files, folder) -> None:
    """Do what the command does."""
    suffix = "png" if files[0].suffix == ".png" else "tif"
    outputs = OutputFolder(folder / "labels", suffix, {}, files, shared=True)
    outputs.prepare()
    job = PredictJob(files=tuple(files), options=PredictOptions(workspace=folder), outputs=outputs)
    for result in LocalExecutor(model).run(job):
        if result.error is not None:
            raise result.error


def passes(model, files) -> None:
    """Run the network over all pixels, each once, in pieces of the images' size, at most `_PIECE` squared."""
    for file in files:
        image = read_image(file)
        levels = image_levels(image, model.settings.levels)
        for top in range(0, image.shape[0], _PIECE):
            for left in range(0, image.shape[1], _PIECE):
                part = image[top : top + _PIECE, left : left + _PIECE].astype(np.float32)[None]
                model._network(part, levels[0][None], levels[1][None], np.float32(1))


def compare(what, model, files, folder, rounds) -> None:
    whole, bare = [], []
    for number in range(rounds + 1):
        for times, work in ((whole, lambda: run(model, files, folder)), (bare, lambda: passes(model, files))):
            start = time.perf_counter()
            work()
            if number:
                times.append(time.perf_counter() - start)
    shape = read_image(files[0]).shape[:2]
    pixels = len(files) * shape[0] * shape[1] / 1e6
    seconds, least = statistics.median(whole), statistics.median(bare)
    grid = plan_tiles(shape, model.settings, TileSettings(), maps=model.objective.map_count)
    overlap = grid.pixels() / (shape[0] * shape[1]) - 1
    print(
        f"{what}: {seconds:.2f} s, {pixels / seconds:.2f} megapixels/s; the bare network {least:.2f} s (reading "
        f"included), ratio {seconds / least:.2f}; {len(grid)} tiles, overlaps add {overlap:.0%} of pixels"
    )


if __name__ == "__main__":
    main()
