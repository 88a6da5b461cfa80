"""Time prediction of many images and of a large one against the bare network, from the start on, and its memory.

    python tests/benchmarks/predict.py MODEL [--count 100] [--large 8192] [--rounds 3] [--huge 20000] [--slide 8192]
    python tests/benchmarks/predict.py --write DIR [--count 100] [--large 8192]

MODEL is a directory that `instseg train` wrote on generated discs, or of objects like these. Whatever is timed against
each other runs in turn, each in a process of its own; printed are medians of `--rounds` of

* all of `predict` (reading, network, clustering, writing labels) on `--count` images of 512 x 512 and on one of
  `--large` squared, without its start, over the bare network's passes on the same pixels, each counted once; the share
  of pixels that overlaps add; and a megapixel over 100 GFLOP of NumPy's products of matrices, which tells whether the
  network itself has become slower;
* `instseg predict` of one image of 512 x 512, from start to labels, over importing TensorFlow (`--starts` times);
* the memory at most of `instseg predict` of the many images and of the large one, by the kernel's account;
* with `--huge`, the pixels a second of an image so large, which is read part by part, over those of the large one;
* with `--slide`, slides of that side of which four fifths are glass, over the same full of tissue: fluorescence by
  MODEL, stained tissue in bright light by `general` at a told diameter.
"""

import argparse
import functools
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from history import record
from slides import PIECE, write_mosaic, write_slide
from startup import IMPORT_TENSORFLOW, INSTSEG
from startup import compare as compare_starts
from startup import medians as medians_of_starts

from instseg.data.discs import draw_discs
from instseg.inference.batch import LocalExecutor, PredictJob
from instseg.inference.image_tiles import ImageTiles
from instseg.inference.options import PredictOptions
from instseg.inference.outputs import OutputFolder
from instseg.io.images import read_image, write_picture
from instseg.io.source import open_image
from instseg.preprocessing.levels import image_levels
from instseg.settings import DiscSettings, TileSettings

# In pixels, of the discs of a stained slide.
_DIAMETER = 20.0
# A process counts the memory of the one that started it until its program begins, so a small one starts the command.
_WATCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", metavar="MODEL")
    parser.add_argument("--count", type=int, default=100, help="images of 512 x 512")
    parser.add_argument("--large", type=int, default=8192, help="height and width of the large image")
    parser.add_argument("--huge", type=int, help="height and width of one that is read part by part; by default none")
    parser.add_argument("--slide", type=int, help="height and width of slides of glass; by default none")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is run")
    parser.add_argument("--starts", type=int, default=5, help="times that the command is started for one image")
    parser.add_argument("--memory", type=float, help="as `instseg predict` takes it")
    parser.add_argument("--precision", help="as `instseg predict` takes it")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the images here, and measure nothing")
    options = parser.parse_args()
    if options.write is not None:
        options.write.mkdir(parents=True, exist_ok=True)
        write_images(options.write, options.count, options.large)
        return
    if options.model is None:
        parser.error("expected MODEL or --write DIR")
    # What TensorFlow says when it starts is no error of a process that is timed.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        many, large = write_images(folder / "images", options.count, options.large)
        starts(options, folder, many[0])
        peaks(options, folder, many, large)
        rates(options, folder, many, large)
        if options.slide is not None:
            slides(options, folder)


def write_images(folder: Path, count: int, size: int) -> tuple[list[Path], Path]:
    folder.mkdir(parents=True, exist_ok=True)
    many = []
    for number in range(count):
        many.append(folder / f"{number:04d}.png")
        write_picture(many[-1], draw_discs(np.random.default_rng(number), DiscSettings())[0])
    return many, write_mosaic(folder / "large.tif", size)


def starts(options: argparse.Namespace, folder: Path, image: Path) -> None:
    """Time one image from start to labels."""
    predict = [INSTSEG, "predict", options.model, str(image), "--out", str(folder / "labels.png"), *choices(options)]
    commands = {"instseg predict MODEL": predict, "import tensorflow": IMPORT_TENSORFLOW}
    compare_starts(medians_of_starts(commands, options.starts), *commands)


def choices(options: argparse.Namespace) -> list[str]:
    given = {"--memory": options.memory, "--precision": options.precision}
    return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def peaks(options: argparse.Namespace, folder: Path, many: Sequence[Path], large: Path) -> None:
    """Measure the memory of the command."""
    runs = {
        f"{len(many)} images of 512²": [*map(str, many), "--out-dir", str(folder / "labels"), "--overwrite"],
        f"an image of {options.large}²": [str(large), "--out", str(folder / "labels.tif")],
    }
    for what, arguments in runs.items():
        command = [sys.executable, "-c", _WATCH, INSTSEG, "predict", options.model, *arguments, *choices(options)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"predicting {what} failed: {done.stderr.strip()}")
        gib = float(done.stdout) / 2**30
        print(f"memory at most of a process that predicts {what}: {gib:.2f} GiB", flush=True)
        record(f"GiB at most, {what}", gib, better="lower")


def rates(options: argparse.Namespace, folder: Path, many: Sequence[Path], large: Path) -> None:
    """Time all of `predict` against the bare network, and a huge image against the large one."""
    with Processes(options.model, options) as processes:
        rate = 0.0
        for what, files in ((f"{len(many)} images of 512²", many), (f"an image of {options.large}²", [large])):
            rate = compare(what, processes, files, folder, options)
        if options.huge is not None:
            huge = write_mosaic(folder / "huge.tif", options.huge)
            seconds = processes.whole("run", [huge], folder, None)
            of_huge = options.huge**2 / 1e6 / seconds
            print(
                f"an image of {options.huge}²: {seconds:.1f} s, {of_huge:.2f} megapixels/s, "
                f"{of_huge / rate:.3f} times those of {options.large}²"
            )


def compare(
    what: str, processes: "Processes", files: Sequence[Path], folder: Path, options: argparse.Namespace
) -> float:
    """Print what the work takes over the bare network, and return its megapixels a second."""
    # Not all of them: what begins slowly has then been done.
    for process in (processes.whole, processes.bare):
        process("run", files[:2], folder, None)
    processes.peak("run")
    times: dict[str, list[Any]] = {"whole": [], "bare": [], "peak": []}
    for _ in range(options.rounds):
        times["whole"].append(processes.whole("run", files, folder, None))
        times["bare"].append(processes.bare("run", files, folder, None))
        times["peak"].append(processes.peak("run"))
    seconds, peak = statistics.median(times["whole"]), statistics.median(times["peak"])
    with_reading, alone = (statistics.median(column) for column in zip(*times["bare"], strict=True))
    (height, width), count, overlap = processes.whole("grid", files[0], options.memory)
    pixels = len(files) * height * width / 1e6
    print(
        f"{what}: {seconds:.2f} s, {pixels / seconds:.2f} megapixels/s; the bare network {with_reading:.2f} s (reading "
        f"included), ratio {seconds / with_reading:.2f}; {alone:.2f} s without, ratio {seconds / alone:.2f}; "
        f"{count} tiles, overlaps add {overlap:.0%} of pixels; a megapixel takes {seconds / pixels / peak:.2f} times "
        f"as long as 100 GFLOP of matrix products ({100 / peak:.0f} GFLOP/s)",
        flush=True,
    )
    record(f"{what}, over the bare network", seconds / with_reading, better="lower")
    record(f"{what}, a megapixel over 100 GFLOP of matrix products", seconds / pixels / peak, better="lower")
    return pixels / seconds


def slides(options: argparse.Namespace, folder: Path) -> None:
    """Time slides of which four fifths are glass against the same full of tissue."""
    for what, bright, model in (("fluorescence", False, options.model), ("stained tissue", True, "general")):
        glass, tissue = (
            write_slide(folder / f"{name}.tif", options.slide, bright=bright, full=name == "tissue")
            for name in ("glass", "tissue")
        )
        diameter = _DIAMETER if bright else None
        times: dict[Path, list[float]] = {glass: [], tissue: []}
        with Process(serve_predictions, model, options) as process:
            for number in range(options.rounds + 1):
                for file, seconds in times.items():
                    # The first round warms up on the glass alone.
                    if number or file == glass:
                        seconds.append(process("run", [file], folder, diameter))
        of_glass, of_tissue = statistics.median(times[glass][1:]), statistics.median(times[tissue])
        print(
            f"a slide of {options.slide}², {what}: four fifths glass {of_glass:.1f} s, full of tissue "
            f"{of_tissue:.1f} s, ratio {of_glass / of_tissue:.3f}",
            flush=True,
        )


class Process:
    """A process of its own that opens a model and does what it is told, one thing after the other."""

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, *arguments), daemon=True)
        self._process.start()
        other.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *raised: object) -> None:
        self._pipe.close()
        self._process.join(30)

    def __call__(self, *request: Any) -> Any:
        self._pipe.send(request)
        try:
            return self._pipe.recv()
        except EOFError:
            sys.exit("a process that was timed has failed; its error is above")


class Processes:
    """Those that are compared: all of `predict`, the bare network, and products of matrices."""

    def __init__(self, model: str, options: argparse.Namespace) -> None:
        self.whole = Process(serve_predictions, model, options)
        self.bare = Process(serve_network, model, options)
        self.peak = Process(serve_products)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *raised: object) -> None:
        for process in (self.whole, self.bare, self.peak):
            process.__exit__()


def answer(pipe, calls: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until the other side ends."""
    while True:
        try:
            name, *arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(calls[name](*arguments))


def open_model(name: str, options: argparse.Namespace):
    from instseg.inference.model import load

    return load(name) if options.precision is None else load(name, precision=options.precision)


def serve_predictions(pipe, name: str, options: argparse.Namespace) -> None:
    model = open_model(name, options)
    tiles = TileSettings() if options.memory is None else TileSettings(memory=options.memory)
    answer(
        pipe,
        {"run": functools.partial(run, model, tiles), "grid": lambda file, memory: grid_of(model, tiles, file)},
    )


def run(model, tiles: TileSettings, files: Sequence[Path], folder: Path, diameter: float | None) -> float:
    """Do what the command does, and return the seconds."""
    start = time.perf_counter()
    suffix = "png" if files[0].suffix == ".png" else "tif"
    outputs = OutputFolder(folder / "labels", suffix, {}, files, shared=True)
    outputs.prepare()
    choice = PredictOptions(workspace=folder, tiles=tiles, diameter=diameter)
    job = PredictJob(files=tuple(files), options=choice, outputs=outputs)
    for result in LocalExecutor(model).run(job):
        if result.error is not None:
            raise result.error
    return time.perf_counter() - start


def grid_of(model, tiles: TileSettings, file: Path) -> tuple[tuple[int, int], int, float]:
    """Return an image's shape, how many tiles it has, and the share of pixels that their overlaps add."""
    plan = ImageTiles(model, open_image(file), PredictOptions(tiles=tiles)).plan()
    shape, grid = plan.grid.shape, plan.grid
    return shape, len(grid), grid.pixels() / (shape[0] * shape[1]) - 1


def serve_network(pipe, name: str, options: argparse.Namespace) -> None:
    answer(pipe, {"run": functools.partial(passes, open_model(name, options))})


def passes(model, files: Sequence[Path], folder: Path, diameter: float | None) -> tuple[float, float]:
    """Run the network over all pixels, each once, in pieces of the images' size, at most `PIECE` squared.

    Returns
    -------
    seconds : tuple of float
        Of all, and of the network alone.
    """
    start, alone = time.perf_counter(), 0.0
    for file in files:
        image = read_image(file)
        levels = image_levels(image, model.settings.levels)
        for top in range(0, image.shape[0], PIECE):
            for left in range(0, image.shape[1], PIECE):
                part = image[top : top + PIECE, left : left + PIECE].astype(np.float32)[None]
                before = time.perf_counter()
                model._network(part, levels[0][None], levels[1][None], np.float32(1))
                alone += time.perf_counter() - before
    return time.perf_counter() - start, alone


def serve_products(pipe) -> None:
    rng = np.random.default_rng(0)
    square = rng.standard_normal((2048, 2048), np.float32)
    answer(pipe, {"run": functools.partial(products, square)})


def products(square: np.ndarray) -> float:
    """Return the seconds of 100 GFLOP of products of matrices, from six of them."""
    start = time.perf_counter()
    for _ in range(6):
        square @ square
    return (time.perf_counter() - start) * 100e9 / (6 * 2 * len(square) ** 3)


if __name__ == "__main__":
    main()
