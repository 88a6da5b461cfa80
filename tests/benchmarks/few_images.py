"""Measure what a built-in model gives to a training on few images of other objects.

    python tests/benchmarks/few_images.py DATA OUT [--model nuclei] [--images 5] [--minutes 3] [--draws 3]

DATA holds `usiigaci/train`: cells in phase contrast. Of the 36 images that `table.py` trains on, a few are drawn; a
training begins with the model, another with nothing, and both, like the model as it is, are evaluated on the 9 others.
Models, figures (JSON) and pictures go to OUT, `cells.png` among them; what is there already is not done again. About
twenty minutes on two cores with nothing else running.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from table import INSTSEG, call, evaluate, link, split_cells

# A part of an image of the test set, of ordinary difficulty.
_SHOWN, _PART = "train_set2.png", np.s_[128:384, 128:384]
_TITLES = {"as-it-is": "the model as it is", "scratch": "from nothing", "from": "from the model"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--model", default="nuclei", help="name or directory of the model to begin with")
    parser.add_argument("--images", type=int, default=5, help="that are learnt from")
    parser.add_argument("--minutes", type=float, default=3, help="of each training")
    parser.add_argument("--draws", type=int, default=3, help="of images")
    options = parser.parse_args()
    cells = options.out / "data" / "usiigaci"
    split_cells(options.data / "usiigaci" / "train", cells)
    test = cells / "9"
    found = {"as-it-is": [measure(options.model, test, options.out / "as-it-is")], "scratch": [], "from": []}
    for draw in range(options.draws):
        data = drawn(cells / "36", options.out / "data" / f"draw-{draw}", options.images, draw)
        for start, begin in (("scratch", []), ("from", ["--from", options.model])):
            model = options.out / f"{start}-{draw}"
            arguments = ["--data", str(data), "--minutes", str(options.minutes), "--seed", str(draw)]
            resume = ["--resume"] if (model / "instseg.json").exists() else begin
            call([*INSTSEG, "train", str(model), *arguments, *resume])
            found[start].append(measure(str(model), test, model))
    print_table(found)
    models = {_TITLES[start]: str(options.out / f"{start}-0") for start in ("scratch", "from")}
    write_cells(options.out, test, {_TITLES["as-it-is"]: options.model, **models})


def write_cells(out: Path, test: Path, models: dict[str, str]) -> None:
    """Draw what models find in a part of one of the images, beside what is there."""
    from instseg.images import read_image, read_labels, write_picture
    from instseg.render import overlay, side_by_side

    image = test / "images" / _SHOWN
    found = {"what is there": read_labels(test / "labels" / _SHOWN)}
    for title, model in models.items():
        labels = out / f"{Path(model).name}-{_SHOWN}"
        call([*INSTSEG, "predict", model, str(image), "--out", str(labels)])
        found[title] = read_labels(labels)
    pixels = read_image(image)[_PART]
    drawn = [overlay(pixels, labels[_PART]) for labels in found.values()]
    write_picture(out / "cells.png", side_by_side(*drawn, captions=list(found)))


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
        print(f"| {_TITLES[start]} | {means} | {each} |")


if __name__ == "__main__":
    main()
