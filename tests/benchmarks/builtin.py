"""Train the models of the package and put them there.

    python tests/benchmarks/builtin.py DATA RESULTS

DATA holds `dsb2018/train` and `dsb2018/val` (`dsb2018.py` makes them), and both are learnt from. RESULTS is the folder
of `table.py`, whose row nuclei-60, as long a training that has not seen `val`, gives the card its
figures; the training of the model goes there, too, and one that was stopped goes on. A model that the package has is
replaced at the very end.
"""

import argparse
import json
import shutil
from pathlib import Path

from table import INSTSEG, call, link

from instseg.builtin import CARD_FILE, FOLDER

# As many as the training of the table took in its hour: so the model can be made again, whatever else a machine does.
_OPTIONS = ("--iterations", "12500", "--network", "large", "--validation-every", "2000")
_TABLE = "python tests/benchmarks/table.py DATA RESULTS --rows nuclei-60"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("results", type=Path, metavar="RESULTS")
    options = parser.parse_args()
    figures = json.loads((options.results / "nuclei-60.json").read_text(encoding="utf-8"))
    averaged = json.loads((options.results / "nuclei-60-tta.json").read_text(encoding="utf-8"))
    data, model = options.results / "data" / "nuclei", options.results / "nuclei"
    for part in ("train", "val"):
        for path in sorted((options.data / "dsb2018" / part).glob("*/*.png")):
            link(path, data)
    resume = ["--resume"] if (model / "instseg.json").exists() else []
    call([*INSTSEG, "train", str(model), "--data", str(data), *_OPTIONS, *resume])
    compact = options.results / "nuclei-compact"
    shutil.rmtree(compact, ignore_errors=True)
    call([*INSTSEG, "export", str(model), "--out", str(compact)])
    card = json.dumps(describe(figures, averaged), indent=2, ensure_ascii=False)
    (compact / CARD_FILE).write_text(card + "\n", encoding="utf-8")
    shutil.rmtree(FOLDER / "nuclei", ignore_errors=True)
    shutil.copytree(compact, FOLDER / "nuclei")


def describe(figures: dict, averaged: dict) -> dict:
    """Return the card of the model of nuclei."""
    ap = dict(zip(figures["thresholds"], figures["per_image"]["ap"], strict=True))
    at = " / ".join(f"{ap[threshold]:.3f}" for threshold in (0.5, 0.75, 0.9))
    unseen = f"{figures['images']} unseen images (val), after as long a training on the others"
    return {
        "title": "nuclei in fluorescence, bright on dark, gray",
        "data": "the 432 fluorescence images, 390 of train and 42 of val, of the 2018 Data Science Bowl (BBBC038v1, "
        "corrected masks)",
        "licence": "images CC0 1.0, weights MIT",
        "command": f"instseg train nuclei --data DIR {' '.join(_OPTIONS)}  (python tests/benchmarks/builtin.py)",
        "mean_ap": round(figures["per_image"]["mean_ap"], 3),
        "figures": [
            f"mean AP {figures['per_image']['mean_ap']:.3f} on {unseen}; AP {at} at IoU 0.5 / 0.75 / 0.9 ({_TABLE})",
            f"mean AP {averaged['per_image']['mean_ap']:.3f} on the same with --tta ({_TABLE})",
        ],
        "limits": [
            "nuclei that are dark on a bright ground (histology, bright field), and whole cells",
            "volumes: planes are segmented one by one",
            "out of focus, outlines come out tighter than some would draw them; small nuclei that touch may be one",
            "diagnosis: it is a tool of research, and nobody has checked it for more",
        ],
    }


if __name__ == "__main__":
    main()
