"""Measure what a training on few images of one kind gains from the model that it begins with.

    python tests/benchmarks/beginnings.py DATA RESULTS [--starts nothing shapes nuclei general] [--kinds SET ...]
        [--rounds 1,1 5,3] [--iterations N] [--steps-a-minute N]

DATA is as `general.py` takes it. For each half of the kinds a `general` in short learns from all sets but these: the
wide network at once, with N iterations of large batches; it is scored on them as it is. Then, for each kind and each
round of IMAGES,MINUTES, a training begins with each start, learns from some images of the kind, and is scored on images
of it that are not among them, at most 16. Models and figures go to RESULTS, and what is there is not done again. With
all defaults about two and a half hours on two cores with nothing else running. Where something else runs, minutes can
be counted in steps: two free cores of the machine on which the tables were made do 370 of the small network a minute.
"""

import argparse
import json
import statistics
from pathlib import Path

import general
import numpy as np
from few_images import NOTHING, drawn, measure
from table import INSTSEG, call, link

KINDS = (
    "usiigaci",
    "emps_em_particles",
    "axon_sem_spinal",
    "bbbc030_dic_cho",
    "nasa_superalloy_sem",
    "tnbc_he_nuclei",
)
_GENERAL = "general"
_SHORT = ("--network", "32,64,192,320", "--batch-size", "32")
# Steps of these networks in the time that one of the small network takes.
_PACE = {"nuclei": 0.5, _GENERAL: 0.75}
# Images that a kind is scored on.
_TESTED = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("--starts", nargs="+", default=[NOTHING, "shapes", "nuclei", _GENERAL])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), metavar="SET")
    parser.add_argument("--rounds", nargs="+", default=["1,1", "5,3"], metavar="IMAGES,MINUTES")
    parser.add_argument("--iterations", type=int, default=1000, help="of each general")
    parser.add_argument(
        "--steps-a-minute", type=int, metavar="N", help="take steps instead of minutes; fewer of wide networks"
    )
    options = parser.parse_args()
    half = -(-len(options.kinds) // 2)
    halves = [options.kinds[:half], options.kinds[half:]]
    unseen, table = {}, {}
    for left_out in filter(None, halves):
        name = "without-" + "-".join(one.partition("_")[0] for one in left_out)
        model = general.train(options.data, options.results, name, left_out, options.iterations, more=_SHORT)
        found = general.measure(options.data, options.results, name, left_out)
        unseen.update({kind: found[kind] for kind in left_out})
        for kind in left_out:
            table[kind] = {
                f"{images} images, {minutes} min": {
                    start: trained(options, kind, start, str(model), int(images), float(minutes))
                    for start in options.starts
                }
                for images, minutes in (one.split(",") for one in options.rounds)
            }
    general.print_scores(unseen)
    print_table(table, options.starts)
    (options.results / "beginnings.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def trained(options: argparse.Namespace, kind: str, start: str, model: str, images: int, minutes: float) -> float:
    """Train on some images of a kind, and return the AP at IoU 0.5 on others."""
    source = options.data / kind / "train"
    folder = options.results / "data" / "few" / kind
    learnt = drawn(source, folder / str(images), images, seed=0)
    tested = _rest(source, learnt, folder / f"beside-{images}")
    steps = options.steps_a_minute
    target = options.results / "few" / f"{kind}-{images}-{minutes:g}-{start}{f'-{steps}' if steps else ''}"
    if not (target / "instseg.json").exists():
        begin = [] if start == NOTHING else ["--from", model if start == _GENERAL else start]
        taken = round(minutes * (steps or 0) * _PACE.get(start, 1))
        length = ["--iterations", str(taken)] if steps else ["--minutes", f"{minutes:g}"]
        call([*INSTSEG, "train", str(target), "--data", str(learnt), *length, *begin])
    return measure(str(target), tested, target)["AP50"]


def _rest(source: Path, learnt: Path, out: Path) -> Path:
    """Link some of a folder's images that are not in another, spread over all."""
    taken = {path.name for path in (learnt / "images").iterdir()}
    names = [path.name for path in sorted((source / "images").iterdir()) if path.name not in taken]
    for index in np.unique(np.linspace(0, len(names) - 1, _TESTED).round().astype(int)):
        for part in ("images", "labels"):
            link(source / part / names[index], out)
    return out


def print_table(table: dict[str, dict[str, dict[str, float]]], starts: list[str]) -> None:
    """Print the AP at IoU 0.5 of each kind, round and start, and the means over kinds."""
    print("\n| kind | learnt from | " + " | ".join(starts) + " |\n|---|---|" + "--:|" * len(starts))
    rounds: dict[str, list[dict[str, float]]] = {}
    for kind, of_kind in table.items():
        for learnt, figures in of_kind.items():
            rounds.setdefault(learnt, []).append(figures)
            print(f"| {kind} | {learnt} | " + " | ".join(f"{figures[start]:.3f}" for start in starts) + " |")
    for learnt, rows in rounds.items():
        means = [statistics.mean(figures[start] for figures in rows) for start in starts]
        print(f"| mean | {learnt} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
