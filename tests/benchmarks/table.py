"""Train and evaluate every row of the README's table of results.

    python tests/benchmarks/table.py DATA OUT [--rows nuclei-20-0 cells-30 ...]

DATA holds `dsb2018/train`, `dsb2018/val` (`dsb2018.py` makes them) and `usiigaci/train`; rows whose data are missing
are left out, and said. Models, figures (JSON) and pictures of mistakes go to OUT; what is there already is not done
again, and a training that was stopped goes on. All rows take about four hours on two cores with nothing else running.
The row of StarDist is `stardist_baseline.py`'s.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_LISTS = Path(__file__).parent / "splits"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """A training and what it is evaluated on, both folders relative to DATA; None for generated discs."""

    name: str
    train: str | None
    test: str | None
    options: tuple[str, ...]


ROWS = (
    *(
        Row(f"nuclei-20-{seed}", "dsb2018/train", "dsb2018/val", ("--minutes", "20", "--seed", str(seed)))
        for seed in range(3)
    ),
    *(Row(f"nuclei-{minutes}", "dsb2018/train", "dsb2018/val", ("--minutes", str(minutes))) for minutes in (5, 10)),
    Row("nuclei-60", "dsb2018/train", "dsb2018/val", ("--minutes", "60", "--network", "large")),
    Row("cells-30", "usiigaci/36", "usiigaci/9", ("--minutes", "30")),
    Row("discs", None, None, ()),
)
# Seldom enough to cost little of the minutes.
_SELDOM = ("--validation-every", "2000")
INSTSEG = (sys.executable, "-m", "instseg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if row.name in options.rows]
    if (options.data / "usiigaci" / "train").is_dir():
        split_cells(options.data / "usiigaci" / "train", options.out / "data" / "usiigaci")
    for row in rows:
        missing = [part for part in (row.train, row.test) if part and not find(part, options).is_dir()]
        if missing:
            print(f"{row.name}: left out, as {options.data} lacks {' and '.join(missing)}")
            continue
        run(row, options)
    print_table(options.out)


def find(part: str, options: argparse.Namespace) -> Path:
    made: Path = options.out / "data" / part
    return made if made.is_dir() else options.data / part


def split_cells(source: Path, out: Path) -> None:
    """Part the cell images into 36 and 9 by links; sets 23 and 40 show the same field, and are on one side."""
    tested = set((_LISTS / "usiigaci-val.txt").read_text(encoding="utf-8").split())
    for path in sorted(source.glob("*/*.png")):
        link(path, out / ("9" if path.stem in tested else "36"))


def link(path: Path, out: Path) -> None:
    """Link an image or its labels into another data folder."""
    target = out / path.parent.name / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(path.resolve())


def run(row: Row, options: argparse.Namespace) -> None:
    """Train, unless that is done, and evaluate with and without test-time augmentation."""
    model = options.out / row.name
    command = [*INSTSEG, "train", str(model), *row.options]
    if row.train is not None:
        command += ["--data", str(find(row.train, options)), *_SELDOM]
    if (model / "instseg.json").exists():
        command.append("--resume")
    call(command)
    if row.test is None:
        with (options.out / f"{row.name}.txt").open("w", encoding="utf-8") as file:
            call([sys.executable, str(_HERE / "discs.py"), str(model)], stdout=file)
        return
    for suffix, more in (("", []), ("-tta", ["--tta"])):
        evaluate(str(model), find(row.test, options), options.out / f"{row.name}{suffix}.json", *more)


def evaluate(model: str, test: Path, target: Path, *more: str) -> None:
    """Write the figures of a model as JSON, and a picture of its mistakes beside, unless that is done."""
    if target.exists():
        return
    picture = ["--picture", str(target.with_suffix(".png"))]
    with target.with_suffix(".partial").open("w", encoding="utf-8") as file:
        call([*INSTSEG, "evaluate", model, "--data", str(test), "--json", *picture, *more], stdout=file)
    target.with_suffix(".partial").rename(target)


def call(command: list[str], **options: object) -> None:
    print("+ " + " ".join(command), flush=True)
    code = subprocess.run(command, **options).returncode  # type: ignore[call-overload]
    if code:
        sys.exit(f"failed: {' '.join(command)}")


def print_table(out: Path) -> None:
    """Print what has been measured as a Markdown table: AP per image, and mean AP."""
    print(
        "\n| training | iterations | AP50 | AP75 | AP90 | mean AP | pooled | AUROC |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    of_seeds: dict[str, list[float]] = {}
    for row in ROWS:
        for suffix in ("", "-tta"):
            path = out / f"{row.name}{suffix}.json"
            if not path.exists():
                continue
            found = json.loads(path.read_text(encoding="utf-8"))
            iteration = json.loads((out / row.name / "instseg.json").read_text(encoding="utf-8"))["iteration"]
            ap = dict(zip(found["thresholds"], found["per_image"]["ap"], strict=True))
            mean = found["per_image"]["mean_ap"]
            figures = (ap[0.5], ap[0.75], ap[0.9], mean, found["pooled"]["mean_ap"], found["score_auroc"])
            print(f"| {row.name}{suffix} | {iteration:,} | " + " | ".join(f"{value:.3f}" for value in figures) + " |")
            if row.name.startswith("nuclei-20-"):
                of_seeds.setdefault(suffix, []).append(mean)
    for suffix, means in of_seeds.items():
        print(f"median mean AP of {len(means)} seeds of nuclei-20{suffix}: {statistics.median(means):.3f}")


if __name__ == "__main__":
    main()
