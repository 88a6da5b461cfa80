"""Train the models of the package and put them there.

    python tests/benchmarks/builtin.py DATA RESULTS [--models general nuclei shapes]

DATA holds `dsb2018/train` and `dsb2018/val` (`dsb2018.py` makes them). `nuclei` learns from both, and its card has the
figures of the row nuclei-60 of `table.py`, as long a training that has not seen `val`: RESULTS is the folder of those.
`shapes` learns from `train` and from images that `shapes.py` draws. `general` begins with it, and learns from these
images and from all sets in DATA, as `general.py` parts them, first a small network, then, four times, a wider one that
begins with what there is; its card has the figures on the images that it has not seen. Trainings go to RESULTS, too,
and one that was stopped goes on. A model that the package has is replaced at the very end.
"""

import argparse
import json
import shutil
from pathlib import Path

import general
import shapes
from table import INSTSEG, call, evaluate, link

from instseg.models.builtin import BUNDLED_DIR, CARD_FILE

_NUCLEI = "of the 2018 Data Science Bowl (BBBC038v1, corrected masks)"
# As many as the training of the table took in its hour: so the model can be made again, whatever else a machine does.
_OPTIONS = {
    "nuclei": ("--iterations", "12500", "--network", "large", "--validation-every", "2000"),
    "shapes": ("--iterations", "8000", "--validation-every", "2000"),
}
_SETS = "--data SET/train ... --val SET/val ..."
_COMMANDS = {
    **{name: f"instseg train {name} --data DIR {' '.join(options)}" for name, options in _OPTIONS.items()},
    "general": "; ".join(f"instseg train {stage}" for stage in general.stages("general", _SETS)),
}
_TABLE = "python tests/benchmarks/table.py DATA RESULTS --rows nuclei-60"
_SHAPES = "python tests/benchmarks/builtin.py DATA RESULTS --models shapes"
_GENERAL = "python tests/benchmarks/builtin.py DATA RESULTS --models general"
_DRAWN, _DRAWN_UNSEEN = 1000, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("--models", nargs="+", choices=list(_COMMANDS), default=list(_COMMANDS))
    options = parser.parse_args()
    for name in options.models:
        model = train(name, options)
        compact = options.results / f"{name}-compact"
        shutil.rmtree(compact, ignore_errors=True)
        call([*INSTSEG, "export", str(model), "--out", str(compact)])
        card = _DESCRIPTIONS[name](options, compact)
        card["command"] = f"{_COMMANDS[name]}  (python tests/benchmarks/builtin.py)"
        text = json.dumps(card, indent=2, ensure_ascii=False)
        (compact / CARD_FILE).write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(BUNDLED_DIR / name, ignore_errors=True)
        shutil.copytree(compact, BUNDLED_DIR / name)


def train(name: str, options: argparse.Namespace) -> Path:
    """Train a model, or go on with it, and return its folder."""
    if name == "general":
        return general.train_widened(options.data, options.results, name)
    data, model = options.results / "data" / name, options.results / name
    sources = [options.data / "dsb2018" / "train"]
    if name == "nuclei":
        sources.append(options.data / "dsb2018" / "val")
    else:
        sources.append(options.results / "data" / "drawn")
        shapes.write(sources[-1], _DRAWN, seed=0)
    for source in sources:
        for path in sorted(source.glob("*/*.png")):
            link(path, data)
    resume = ["--resume"] if (model / "instseg.json").exists() else []
    call([*INSTSEG, "train", str(model), "--data", str(data), *_OPTIONS[name], *resume])
    return model


def describe_nuclei(options: argparse.Namespace, model: Path) -> dict:
    """Return the card of the model of nuclei."""
    figures = read(options.results / "nuclei-60.json")
    averaged = read(options.results / "nuclei-60-tta.json")
    unseen = f"{figures['images']} unseen images (val), after as long a training on the others"
    return {
        "title": "nuclei in fluorescence, bright on dark, gray",
        "data": f"the 432 fluorescence images, 390 of train and 42 of val, {_NUCLEI}",
        "licence": "images CC0 1.0, weights MIT",
        "mean_ap": round(figures["per_image"]["mean_ap"], 3),
        "figures": [
            f"{told(figures)} on {unseen} ({_TABLE})",
            f"mean AP {averaged['per_image']['mean_ap']:.3f} on the same with --tta ({_TABLE})",
        ],
        "limits": [
            "nuclei that are dark on a bright ground (histology, bright field), and whole cells",
            "volumes: planes are segmented one by one",
            "out of focus, outlines come out tighter than some would draw them; small nuclei that touch may be one",
            "diagnosis: it is a tool of research, and nobody has checked it for more",
        ],
    }


def describe_shapes(options: argparse.Namespace, model: Path) -> dict:
    """Measure the model of drawn shapes and nuclei, and return its card."""
    unseen = options.results / "data" / "drawn-unseen"
    shapes.write(unseen, _DRAWN_UNSEEN, seed=1)
    found = {}
    for name, test in (("drawn", unseen), ("nuclei", options.data / "dsb2018" / "val")):
        target = options.results / f"shapes-{name}.json"
        evaluate(str(model), test, target)
        found[name] = read(target)
    return {
        "title": "to begin trainings with (--from): objects of many shapes and looks, gray",
        "data": f"{_DRAWN} images that shapes.py drew, and the 390 fluorescence images of train, {_NUCLEI}",
        "licence": "images of nuclei CC0 1.0, weights MIT",
        "mean_ap": round(found["drawn"]["per_image"]["mean_ap"], 3),
        "figures": [
            f"{told(found['drawn'])} on {_DRAWN_UNSEEN} other drawn images ({_SHAPES})",
            f"{told(found['nuclei'])} on {found['nuclei']['images']} unseen images of nuclei, val ({_SHAPES})",
        ],
        "limits": [
            "images as they are: it takes whatever has an outline for an object; a minute with five labelled images of "
            "your own tells it which",
            "nuclei in fluorescence: nuclei is better",
        ],
    }


def describe_general(options: argparse.Namespace, model: Path) -> dict:
    """Measure the model of whatever people have on images that it has not seen, and return its card."""
    found = general.measure(options.data, options.results, "general", [], str(model))
    evaluate(str(model), options.data / "dsb2018" / "val", options.results / "general-nuclei.json")
    nuclei = read(options.results / "general-nuclei.json")
    kinds = ", ".join(f"{name} {row['AP50']:.2f}" for name, row in found.items())
    at_50, mean_ap = (sum(row[key] for row in found.values()) / len(found) for key in ("AP50", "mean AP"))
    images = sum(row["images"] for row in found.values())
    return {
        "title": "what has an outline: nuclei, cells, axons, particles, grains; bright or dark, gray or colour",
        "data": f"images of {len(general.sets(options.data))} sets, named below, and {_DRAWN} that shapes.py drew",
        "licence": "weights MIT; images as their sources say",
        "sources": [general.SOURCES[name] for name in general.sets(options.data)],
        "mean_ap": round(mean_ap, 3),
        "figures": [
            f"AP at IoU 0.5 of {at_50:.3f}, mean AP of {mean_ap:.3f}, means over {len(found)} kinds of image, on "
            f"{images} images of the same sets that were kept back ({_GENERAL})",
            f"AP at IoU 0.5 by set: {kinds} ({_GENERAL})",
            f"{told(nuclei)} on {nuclei['images']} unseen images of nuclei, val ({_GENERAL})",
        ],
        "limits": [
            "fluorescence nuclei: nuclei is better",
            "nuclei inside of cells that have outlines, too: it takes what stands out most",
            "images of two channels, or of four and more: it sees their mean; where one shows the objects, choose it "
            "(--channels)",
            "sizes that it guesses wrongly: tell the typical diameter (--diameter)",
            "diagnosis: it is a tool of research, and nobody has checked it for more",
        ],
    }


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def told(figures: dict) -> str:
    """Say how good a model is."""
    ap = dict(zip(figures["thresholds"], figures["per_image"]["ap"], strict=True))
    at = " / ".join(f"{ap[threshold]:.3f}" for threshold in (0.5, 0.75, 0.9))
    return f"mean AP {figures['per_image']['mean_ap']:.3f}; AP {at} at IoU 0.5 / 0.75 / 0.9"


_DESCRIPTIONS = {"general": describe_general, "nuclei": describe_nuclei, "shapes": describe_shapes}


if __name__ == "__main__":
    main()
