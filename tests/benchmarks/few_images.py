"""Measure what models in the package give to trainings on few images of other objects.

    python tests/benchmarks/few_images.py DATA OUT [--models shapes nuclei] [--images 5] [--minutes 1 3] [--draws 3]

DATA holds `usiigaci/train`: cells in phase contrast. Of the 36 images that `table.py` trains on, a few are drawn; one
training begins with each model, another with nothing, and all, like the models as they are, are evaluated on the 9
others. Models, figures (JSON) and pictures go to OUT, `cells.png` among them; what is there already is not done again.
About three quarters of an hour on two cores with nothing else running.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from table import INSTSEG, call, evaluate, link, split_cells

# A part of an image of the test set, of ordinary difficulty.
_SHOWN, _PART = "train_set2.png", np.s_[128:384, 128:384]
NOTHING = "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--models", nargs="+", default=["shapes", "nuclei"], help="names of models to begin with")
    parser.add_argument("--images", type=int, default=5, help="that are learnt from")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 3], help="of each training")
    parser.add_argument("--draws", type=int, default=3, help="of images")
    options = parser.parse_args()
    cells = options.out / "data" / "usiigaci"
    split_cells(options.data / "usiigaci" / "train", cells)
    test = cells / "9"
    found = {f"{model} as it is": [measure(model, test, options.out / model)] for model in options.models}
    for minutes in options.minutes:
        for start in (NOTHING, *options.models):
            found[f"{minutes:g} min from {start}"] = [
                trained(options, cells / "36", test, start, minutes, draw) for draw in range(options.draws)
            ]
    print_table(found)
    write_cells(options, test)


def trained(
    options: argparse.Namespace, source: Path, test: Path, start: str, minutes: float, draw: int
) -> dict[str, float]:
    """Train on one draw of images and return the figures."""
    data = drawn(source, options.out / "data" / f"draw-{draw}", options.images, draw)
    model = options.out / f"{start}-{minutes:g}-{draw}"
    begin = [] if start == NOTHING else ["--from", start]
    begin = ["--resume"] if (model / "instseg.json").exists() else begin
    call([*INSTSEG, "train", str(model), "--data", str(data), "--minutes", f"{minutes:g}", "--seed", str(draw), *begin])
    return measure(str(model), test, model)


def write_cells(options: argparse.Namespace, test: Path) -> None:
    """Draw what the first model finds in a part of one of the images, as it is and trained, beside what is there."""
    from instseg.io.images import read_image, write_picture
    from instseg.io.label_images import read_labels
    from instseg.visualization.pictures import hstack, overlay

    first, minutes = options.models[0], options.minutes[0]
    models = {
        f"{first} as it is": first,
        f"{minutes:g} min from nothing": str(options.out / f"{NOTHING}-{minutes:g}-0"),
        f"{minutes:g} min from {first}": str(options.out / f"{first}-{minutes:g}-0"),
    }
    image = test / "images" / _SHOWN
    found = {"what is there": read_labels(test / "labels" / _SHOWN)}
    for title, model in models.items():
        labels = options.out / f"{Path(model).name}-{_SHOWN}"
        call([*INSTSEG, "predict", model, str(image), "--out", str(labels)])
        found[title] = read_labels(labels)
    pixels = read_image(image)[_PART]
    pictures = [overlay(pixels, labels[_PART]) for labels in found.values()]
    write_picture(options.out / "cells.png", hstack(*pictures, captions=list(found)))


def drawn(source: Path, out: Path, count: int, seed: int) -> Path:
    """Link some of a folder's images and their labels."""
    names = sorted(path.name for path in (source / "images").iterdir())
    for name in np.random.default_rng(seed).choice(names, count, replace=False):
        for part in ("images", "labels"):
            link(source / part / str(name), out)
    return out


def measure(model: str, test: Path, out: Path) -> dict[str, float]:
    target = out.with_name(f"{out.name}.json")
    evaluate(model, test, target)
    scores = json.loads(target.read_text(encoding="utf-8"))
    ap = dict(zip(scores["thresholds"], scores["per_image"]["ap"], strict=True))
    return {"AP50": ap[0.5], "AP75": ap[0.75], "mean AP": scores["per_image"]["mean_ap"]}


def print_table(found: dict[str, list[dict[str, float]]]) -> None:
    """Print the means over draws as a Markdown table, and each draw's AP at 0.5."""
    names = ("AP50", "AP75", "mean AP")
    print("\n| training | " + " | ".join(names) + " | AP50 of each |\n|---|--:|--:|--:|---|")
    for start, draws in found.items():
        means = " | ".join(f"{statistics.mean(draw[name] for draw in draws):.3f}" for name in names)
        each = ", ".join(f"{draw['AP50']:.3f}" for draw in draws)
        print(f"| {start} | {means} | {each} |")


if __name__ == "__main__":
    main()
