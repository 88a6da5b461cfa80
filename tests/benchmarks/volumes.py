"""Score, time and weigh the segmentation of volumes, by a model of images and by one of volumes.

    instseg train discs.model --iterations 2500
    python tests/benchmarks/volumes.py balls discs.model [--count 3] [--balls 60 600] [--planes-from z zyx]
    python tests/benchmarks/volumes.py speed discs.model [--rounds 3]
    python tests/benchmarks/volumes.py blocks discs.model [--tile 96]
    python tests/benchmarks/volumes.py memory discs.model [--shape 256 1024 1024] [--memory 2.25]

    instseg data generate --volume --count 48 --seed 1 --out balls
    instseg train balls.model --data balls --minutes 15
    python tests/benchmarks/volumes.py balls balls.model

    pip download stardist==0.9.2 --no-deps && unzip stardist-0.9.2-*.whl 'stardist/data/images/*3d.tif'
    python tests/benchmarks/volumes.py nuclei planes
    instseg train nuclei.model --data planes --minutes 15
    python tests/benchmarks/volumes.py pair nuclei.model stardist/data/images/img3d.tif stardist/data/images/mask3d.tif

`balls` scores volumes of 128 x 256 x 256 voxels, twice as deep as wide, that no model has seen, with as many balls as
`--balls` says: 60 fill 1.3 % of a volume, and 600 a ninth, where many touch. Models of images are scored with planes
along z and along all axes.

`speed` prints megavoxels a second for one such volume, and how many times as long it takes as the network's bare pass
over each voxel once, in turn within a process; `blocks` how many instances of a volume in blocks are those of the
whole, at IoU 0.99; `memory` the peak memory of a process that runs `instseg predict --volume` on a file.

`nuclei` draws volumes that resemble the 3-D pair in the wheel of StarDist (31 x 61 x 57 voxels, 51 nuclei): round
nuclei that touch and differ in brightness, blurred, with noise; their planes become images to learn from. Nothing of
the pair is learnt from. `pair` segments and scores it, with planes twice as far apart as pixels.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from instseg.data.balls import draw_balls
from instseg.evaluation.metrics import Scores, micro_average, score
from instseg.inference.options import PredictOptions
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.io.label_volumes import read_label_volume
from instseg.io.pixel_size import PixelGeometry
from instseg.io.volume_tiff import write_volume
from instseg.io.volumes import ArrayVolume, read_volume
from instseg.labels.matching import match
from instseg.labels.regions import connected_components
from instseg.preprocessing.levels import image_levels
from instseg.settings import BallSettings, TileSettings

# Volumes that nothing is trained on: `data generate` has other seeds.
_UNSEEN = 1_000_003
_SPACING = (2.0, 1.0, 1.0)
_BATCH = 8
# The drawn nuclei: shape of a volume, the pixels that one takes, radii, blur in voxels, and values as in the pair.
_SHAPE, _PIXELS_OF_NUCLEUS, _RADII = (32, 160, 160), 4_200, (5.5, 10.5)
_BLUR, _GROUND, _SIGNALS, _HAZE, _NOISE = (1.6, 1.7, 1.7), 150.0, (40.0, 170.0), 0.35, 13.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for name, function, arguments in (
        ("balls", print_scores, ("model",)),
        ("speed", print_speed, ("model",)),
        ("blocks", print_blocks, ("model",)),
        ("memory", print_memory, ("model",)),
        ("nuclei", draw_planes, ("folder",)),
        ("pair", print_pair, ("model", "volume", "labels")),
    ):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        for argument in arguments:
            command.add_argument(argument, type=Path)
        command.add_argument("--count", type=int, default=24 if name == "nuclei" else 3, help="volumes")
        command.add_argument("--balls", type=int, nargs="+", default=[60, 600])
        command.add_argument("--planes-from", nargs="+", default=["z", "zyx"])
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--tile", type=int, default=96, help="side of a block in pixels")
        command.add_argument("--shape", type=int, nargs=3, default=(256, 1024, 1024))
        command.add_argument("--memory", type=float, default=TileSettings().memory, help="GiB, as predict takes it")
    options = parser.parse_args()
    options.function(options)


def draw(seed: int, balls: int) -> tuple[np.ndarray, np.ndarray]:
    return draw_balls(np.random.default_rng([_UNSEEN, seed]), BallSettings(min_balls=balls, max_balls=balls))


def open_model(path: Path, options: argparse.Namespace):
    """Return the model, and along which axes it is to see planes, none where it sees volumes."""
    from instseg.inference.model import load

    model = load(path)
    return model, options.planes_from if model.settings.ndim == 2 else [None]


def segment(model, volume: np.ndarray, planes_from: str | None, **tiles: object) -> np.ndarray:
    from instseg.inference.volume import segment_volume

    options = PredictOptions(planes_from=planes_from, tiles=TileSettings(**tiles))
    return segment_volume(model, ArrayVolume(volume, spacing=_SPACING), options).labels


def print_scored(name: str, scores: Scores, seconds: float) -> None:
    counted = f"{scores.tp[0]} right, {scores.fn[0]} missed, {scores.fp[0]} false"
    ap = f"AP {scores.ap[0]:.3f} at IoU 0.5, {scores.ap[5]:.3f} at 0.75, {scores.ap[8]:.3f} at 0.9"
    print(f"{name:34} {ap}, mean {scores.mean_ap:.3f}, PQ {scores.pq[0]:.3f}  {counted}  {seconds:.1f} s", flush=True)


def print_scores(options: argparse.Namespace) -> None:
    model, choices = open_model(options.model, options)
    for balls in options.balls:
        drawn = [draw(seed, balls) for seed in range(options.count)]
        for choice in choices:
            start = time.perf_counter()
            scores = [score(truth, segment(model, volume, choice)) for volume, truth in drawn]
            seconds = time.perf_counter() - start
            print_scored(f"{balls} balls, {_named(choice)}", micro_average(scores), seconds)


def print_speed(options: argparse.Namespace) -> None:
    model, choices = open_model(options.model, options)
    volume, _ = draw(0, options.balls[0])
    # What is compiled or allocated once is not counted.
    for choice in choices:
        segment(model, volume[:24, :96, :96], choice)
    bare_pass(model, volume[:16])
    times: dict[str | None, list[float]] = {choice: [] for choice in choices}
    bare: list[float] = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        bare_pass(model, volume)
        bare.append(time.perf_counter() - start)
        for choice in choices:
            start = time.perf_counter()
            segment(model, volume, choice)
            times[choice].append(time.perf_counter() - start)
    print(f"bare network: {volume.size / 1e6 / statistics.median(bare):.2f} megavoxels a second")
    for choice, of_choice in times.items():
        ratio = statistics.median(one / alone for one, alone in zip(of_choice, bare, strict=True))
        rate = volume.size / 1e6 / statistics.median(of_choice)
        print(f"{_named(choice)}: {rate:.2f} megavoxels a second, {ratio:.2f} times the bare network", flush=True)


def bare_pass(model, volume: np.ndarray) -> None:
    """Give the network each voxel once, without more."""
    low, high = image_levels(volume[..., None], model.settings.levels)
    images = volume[..., None].astype(np.float32)
    batches = [images[None]] if model.settings.ndim == 3 else np.split(images, range(_BATCH, len(images), _BATCH))
    for batch in batches:
        levels = [np.repeat(level[None], len(batch), axis=0) for level in (low, high)]
        model._network(batch, *levels, np.float32(1))


def print_blocks(options: argparse.Namespace) -> None:
    model, choices = open_model(options.model, options)
    for balls in options.balls:
        volume, _ = draw(1, balls)
        for choice in choices:
            whole = segment(model, volume, choice, memory=16.0)
            parts = segment(model, volume, choice, tile=options.tile)
            found = len(np.unique(whole)) - 1
            same = len(match(whole, parts, 0.99).iou)
            more = len(np.unique(parts)) - 1 - found
            print(
                f"{balls} balls, {_named(choice)}, blocks of {options.tile}: {same / max(found, 1):.2%} of {found} "
                f"instances as in the whole, {more:+d} instances",
                flush=True,
            )


def print_memory(options: argparse.Namespace) -> None:
    depth, height, width = options.shape
    if height != width:
        raise SystemExit("expected planes as high as wide")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "volume.tif"
        balls = depth * height * width // 140_000
        settings = BallSettings(depth=depth, size=width, min_balls=balls, max_balls=balls)
        # By a process of its own, as what drawing takes is not to count.
        code = (
            "import sys, numpy as np; sys.path.insert(0, sys.argv[1]); import volumes; "
            "volumes.write_balls(sys.argv[2], *map(int, sys.argv[3:]))"
        )
        arguments = [str(Path(__file__).parent), str(path), str(settings.depth), str(settings.size), str(balls)]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True)
        for choice in options.planes_from:
            command = [sys.executable, "-m", "instseg", "predict", str(options.model), str(path), "--volume"]
            command += ["--planes-from", choice, "--memory", str(options.memory), "--out", f"{temporary}/labels.tif"]
            start = time.perf_counter()
            # The peak of a process that waits for this one alone.
            peak = subprocess.run([sys.executable, "-c", _PEAK, *command], check=True, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            megavoxels = depth * height * width / 1e6
            print(
                f"{depth} x {height} x {width}, {_named(choice)}, --memory {options.memory:g}: at most "
                f"{float(peak.stdout.split()[-1]) / 2**20:.2f} GiB, {megavoxels / seconds:.2f} megavoxels a second",
                flush=True,
            )


_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def write_balls(path: str, depth: int, size: int, balls: int) -> None:
    settings = BallSettings(depth=depth, size=size, min_balls=balls, max_balls=balls)
    volume, _ = draw_balls(np.random.default_rng([_UNSEEN, 0]), settings)
    write_volume(Path(path), volume, PixelGeometry((1.0, 1.0), depth=_SPACING[0]))


def draw_planes(options: argparse.Namespace) -> None:
    """Write planes of drawn nuclei, every other one, as images with labels."""
    folders = [options.folder / name for name in ("images", "labels")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(options.count):
        volume, labels = draw_nuclei(np.random.default_rng(number))
        for z in range(number % 2, len(volume), 2):
            write_picture(folders[0] / f"{number:03}-{z:02}.png", volume[z])
            write_labels(folders[1] / f"{number:03}-{z:02}.png", connected_components(labels[z]))


def draw_nuclei(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw round nuclei that touch and do not overlap; each voxel is of the one whose border it is farthest inside."""
    extent = np.array(_SHAPE) * _SPACING
    count = int(extent.prod() / _PIXELS_OF_NUCLEUS * rng.uniform(0.7, 1.1))
    centres, radii = rng.uniform(0, extent, (count, 3)), rng.uniform(*_RADII, count)
    for _ in range(30):
        offsets = centres[:, None] - centres[None]
        distances = np.sqrt((offsets**2).sum(axis=2))
        missing = np.maximum(0.85 * (radii[:, None] + radii[None]) - distances, 0)
        np.fill_diagonal(missing, 0)
        centres += (offsets / np.maximum(distances, 1e-9)[..., None] * missing[..., None] / 4).sum(axis=1)
    labels, nearest = np.zeros(_SHAPE, np.int32), np.ones(_SHAPE)
    # Nuclei are up to a quarter longer along some axis.
    stretch = rng.uniform(0.85, 1.15, (count, 3))
    for label, (centre, radius, factors) in enumerate(zip(centres, radii, stretch, strict=True), start=1):
        axes = [
            ((np.arange(side) * step - middle) / (radius * factor)) ** 2
            for side, step, middle, factor in zip(_SHAPE, _SPACING, centre, factors, strict=True)
        ]
        distance = axes[0][:, None, None] + axes[1][:, None] + axes[2]
        closer = distance < nearest
        labels[closer], nearest[closer] = label, distance[closer]
    signals = np.concatenate([[0.0], rng.uniform(*_SIGNALS, count)])[labels]
    signals *= 1 + 0.15 * ndimage.gaussian_filter(rng.standard_normal(_SHAPE), 1.5) * 8
    sharp = ndimage.gaussian_filter(signals, _BLUR)
    # Light from planes above and below.
    haze = ndimage.gaussian_filter(signals, (4, 3, 3))
    values = _GROUND + (1 - _HAZE) * sharp + _HAZE * haze + rng.normal(0, _NOISE, _SHAPE)
    return np.clip(np.rint(values), 0, 65_535).astype(np.uint16), labels


def print_pair(options: argparse.Namespace) -> None:
    model, choices = open_model(options.model, options)
    volume, truth = read_volume(options.volume), read_label_volume(options.labels)
    for choice in choices:
        start = time.perf_counter()
        labels = segment(model, volume, choice)
        print_scored(f"3-D pair, {_named(choice)}", score(truth, labels), time.perf_counter() - start)


def _named(planes_from: str | None) -> str:
    return "a network of volumes" if planes_from is None else f"planes along {planes_from}"


if __name__ == "__main__":
    main()
