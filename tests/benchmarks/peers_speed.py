"""Time peers on a folder of images beside ours, in one run, each process with its model loaded, and their peak memory.

    python tests/benchmarks/peers_speed.py MODEL IMAGES [--cellpose PYTHON DIR] [--instanseg PYTHON DIR] [--rounds 3]

MODEL is what `instseg train` wrote, IMAGES a folder of PNG files, PYTHON the interpreter of the peer's environment and
DIR the model that its script kept with `--model`, best of the same training as ours: what is found takes time too. Each
reads the images, segments them and writes labels: once to warm up, then `--rounds` times, of which the median counts.
Ours is timed as `predict.py` does, before the peers and after them. Paces are of what is found: its number is printed.
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

PEERS = ("cellpose", "instanseg")
_HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("images", type=Path, metavar="IMAGES")
    for option in ("--cellpose", "--instanseg"):
        parser.add_argument(option, nargs=2, metavar=("PYTHON", "DIR"), help="its interpreter and trained model")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is run")
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(time_ours(options.model, options.images, options.rounds)))
        return
    rounds = ("--rounds", str(options.rounds))
    ours = [sys.executable, __file__, str(options.model), str(options.images), "--ours", *rounds]
    found: dict[str, list[dict[str, float]]] = {"instseg": [last_line(ours)]}
    with tempfile.TemporaryDirectory() as temporary:
        for peer in PEERS:
            if getattr(options, peer) is None:
                continue
            python, model = getattr(options, peer)
            if not (Path(model) / "trained.json").is_file():
                sys.exit(f"{model} is no trained model of {peer}: it has no trained.json")
            # A model that is there is not trained again, and the first folder not read.
            command = [python, str(_HERE / f"{peer}_baseline.py"), temporary, str(options.images), temporary]
            found[peer] = [last_line([*command, "--model", model, *rounds])]
    found["instseg"].append(last_line(ours))
    print_table(found)


def last_line(command: list[str]) -> dict[str, float]:
    print("+ " + " ".join(command), file=sys.stderr, flush=True)
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    # Some print lines of their own before.
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def time_ours(path: Path, images: Path, rounds: int) -> dict[str, float]:
    from predict import run

    from instseg.inference.model import load
    from instseg.io.images import read_image
    from instseg.io.label_images import read_labels
    from instseg.settings import TileSettings

    model = load(path)
    files = sorted(images.glob("*.png"))
    seconds = []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds + 1):
            start = time.perf_counter()
            run(model, TileSettings(), files, Path(temporary), None)
            # The first warms up.
            if number:
                seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        written = sorted((Path(temporary) / "labels").rglob("*.png"))
        instances = sum(int(read_labels(file).max(initial=0)) for file in written)
    sizes = [read_image(file).shape for file in files]
    megapixels = sum(shape[0] * shape[1] for shape in sizes) / 1e6
    return {
        "images": len(files),
        "megapixels": megapixels,
        "instances": instances,
        "peak_gib": peak,
        "megapixels_per_second": megapixels / statistics.median(seconds),
    }


def print_table(found: dict[str, list[dict[str, float]]]) -> None:
    """Print paces as a Markdown table; ours is the mean of before and after."""
    one = found["instseg"][0]
    before, after = (run["megapixels_per_second"] for run in found["instseg"])
    print(f"{one['images']:,} images, {one['megapixels']:.1f} megapixels; ours {before:.3f}, then {after:.3f}\n")
    print("| | megapixels/s | ours, times as fast | instances | GiB of memory at most |\n|---|--:|--:|--:|--:|")
    ours = statistics.mean((before, after))
    for name, runs in found.items():
        pace = statistics.mean(run["megapixels_per_second"] for run in runs)
        peak = max(run["peak_gib"] for run in runs)
        print(f"| {name} | {pace:.3f} | {ours / pace:.1f} | {runs[0]['instances']:,} | {peak:.1f} |")


if __name__ == "__main__":
    main()
