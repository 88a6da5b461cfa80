"""Train and evaluate every row of the README's table of results.

    python tests/benchmarks/table.py DATA OUT [--rows nuclei-20-0 cells-30 ...] [--cellpose PYTHON ...]

DATA holds `dsb2018/train`, `dsb2018/val` (`dsb2018.py` makes them) and `usiigaci/train`; rows whose data are missing
are left out, and said. Models, figures (JSON) and pictures of mistakes go to OUT; what is there already is not done
again, and a training that was stopped goes on. All rows take about four hours on two cores with nothing else running.

Rows of peers (`cellpose-20`, `instanseg-cells-20`) run the peer's script, which says how its environment is made, and
take the interpreter of that environment: `--cellpose PYTHON`, `--instanseg PYTHON`, `--stardist PYTHON`. `speed` times
the peers that were trained on nuclei for 20 minutes beside `nuclei-20-0`. These take about three hours more.
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
    *(Row(f"cells-{minutes}", "usiigaci/36", "usiigaci/9", ("--minutes", str(minutes))) for minutes in (20, 30)),
    Row("discs", None, None, ()),
)


@dataclass(frozen=True)
class PeerRow:
    """A peer's training by its own script for some minutes, and what it is evaluated on."""

    name: str
    peer: str
    train: str
    test: str
    minutes: int


PEERS = ("cellpose", "instanseg", "stardist")
PEER_ROWS = (
    *(PeerRow(f"{peer}-20", peer, "dsb2018/train", "dsb2018/val", 20) for peer in PEERS),
    *(PeerRow(f"{peer}-cells-20", peer, "usiigaci/36", "usiigaci/9", 20) for peer in PEERS),
)
_SPEED, _SPEED_OF_OURS = "speed", "nuclei-20-0"
_NAMES = [row.name for row in (*ROWS, *PEER_ROWS)] + [_SPEED]
# Seldom enough to cost little of the minutes.
SELDOM = ("--validation-every", "2000")
INSTSEG = (sys.executable, "-m", "instseg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--rows", nargs="+", choices=_NAMES, default=_NAMES, metavar="ROW", help=", ".join(_NAMES))
    for option in ("--cellpose", "--instanseg", "--stardist"):
        parser.add_argument(option, metavar="PYTHON", help="the interpreter of its environment")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [row for row in (*ROWS, *PEER_ROWS) if row.name in options.rows]
    if (options.data / "usiigaci" / "train").is_dir():
        split_cells(options.data / "usiigaci" / "train", options.out / "data" / "usiigaci")
    for row in rows:
        missing = [part for part in (row.train, row.test) if part and not find(part, options).is_dir()]
        if missing:
            print(f"{row.name}: left out, as {options.data} lacks {' and '.join(missing)}")
            continue
        if isinstance(row, Row):
            run(row, options)
        elif getattr(options, row.peer) is None:
            print(f"{row.name}: left out, as there is no --{row.peer}")
        else:
            run_peer(row, options)
    if _SPEED in options.rows:
        time_peers(options)
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
        command += ["--data", str(find(row.train, options)), *SELDOM]
    if (model / "instseg.json").exists():
        command.append("--resume")
    call(command)
    if row.test is None:
        with (options.out / f"{row.name}.txt").open("w", encoding="utf-8") as file:
            call([sys.executable, str(_HERE / "discs.py"), str(model)], stdout=file)
        return
    for suffix, more in (("", []), ("-tta", ["--tta"])):
        evaluate(str(model), find(row.test, options), options.out / f"{row.name}{suffix}.json", *more)


def run_peer(row: PeerRow, options: argparse.Namespace) -> None:
    """Train a peer and predict with it, unless that is done, and evaluate its labels."""
    folder, test = options.out / row.name, find(row.test, options)
    labels = folder / "labels"
    if not labels.is_dir():
        written = folder / "labels.partial"
        script = _HERE / f"{row.peer}_baseline.py"
        command = [getattr(options, row.peer), str(script), str(find(row.train, options)), str(test / "images")]
        command += [str(written), "--minutes", str(row.minutes)]
        if row.peer != "stardist":
            command += ["--model", str(folder / "model")]
        folder.mkdir(exist_ok=True)
        call(command)
        written.rename(labels)
    images = ("--images", str(test / "images"))
    score(options.out / f"{row.name}.json", "--pred", str(labels), "--labels", str(test / "labels"), *images)


def time_peers(options: argparse.Namespace) -> None:
    """Time the peers that are trained on nuclei beside ours on the same images, unless that is done."""
    target = options.out / f"{_SPEED}.txt"
    if target.exists():
        return
    ours = options.out / _SPEED_OF_OURS
    models = {peer: options.out / f"{peer}-20" / "model" for peer in ("cellpose", "instanseg")}
    peers = [peer for peer in models if getattr(options, peer) and (models[peer] / "trained.json").exists()]
    if not (ours / "instseg.json").exists() or not peers:
        print(f"{_SPEED}: left out, as it needs {_SPEED_OF_OURS}, cellpose-20 or instanseg-20, and the interpreters")
        return
    command = [sys.executable, str(_HERE / "peers_speed.py"), str(ours), str(find("dsb2018/val", options) / "images")]
    for peer in peers:
        command += [f"--{peer}", getattr(options, peer), str(models[peer])]
    with target.with_suffix(".partial").open("w", encoding="utf-8") as file:
        call(command, stdout=file)
    target.with_suffix(".partial").rename(target)


def evaluate(model: str, test: Path, target: Path, *more: str) -> None:
    """Write the figures of a model as JSON, and a picture of its mistakes beside, unless that is done."""
    score(target, model, "--data", str(test), *more)


def score(target: Path, *arguments: str) -> None:
    """Write what `instseg evaluate` finds as JSON, and a picture of the mistakes beside, unless that is done."""
    if target.exists():
        return
    picture = ["--picture", str(target.with_suffix(".png"))]
    with target.with_suffix(".partial").open("w", encoding="utf-8") as file:
        call([*INSTSEG, "evaluate", *arguments, "--json", *picture], stdout=file)
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
    for row in (*ROWS, *PEER_ROWS):
        for suffix in ("", "-tta"):
            path = out / f"{row.name}{suffix}.json"
            if not path.exists():
                continue
            found = json.loads(path.read_text(encoding="utf-8"))
            done = iterations(out / row.name)
            ap = dict(zip(found["thresholds"], found["per_image"]["ap"], strict=True))
            mean = found["per_image"]["mean_ap"]
            figures = (ap[0.5], ap[0.75], ap[0.9], mean, found["pooled"]["mean_ap"], found.get("score_auroc"))
            cells = ("" if value is None else f"{value:.3f}" for value in figures)
            print(f"| {row.name}{suffix} | {done} | " + " | ".join(cells) + " |")
            if row.name.startswith("nuclei-20-"):
                of_seeds.setdefault(suffix, []).append(mean)
    for suffix, means in of_seeds.items():
        print(f"median mean AP of {len(means)} seeds of nuclei-20{suffix}: {statistics.median(means):.3f}")
    speed = out / f"{_SPEED}.txt"
    if speed.exists():
        print("\n" + speed.read_text(encoding="utf-8"))


def iterations(model: Path) -> str:
    """Return how many a training took, as a cell of the table; StarDist's script keeps nothing."""
    for file, key in ((model / "instseg.json", "iteration"), (model / "model" / "trained.json", "iterations")):
        if file.exists():
            return f"{json.loads(file.read_text(encoding='utf-8'))[key]:,}"
    return ""


if __name__ == "__main__":
    main()
