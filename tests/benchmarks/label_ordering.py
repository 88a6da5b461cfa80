"""Measure what the order of `instseg label` is worth: AP after three rounds of five images, beside images at random.

    python tests/benchmarks/label.py DATA OUT --ordering [--sets usiigaci emps_em_particles] [--models shapes]

Every fifth image of a set (of usiigaci the nine of `table.py`) is for the score. Three times, three quarters of the
others are drawn; of these, five are chosen by what the first model finds, five more by what a training on them finds,
and five more by the next one; each training begins with the first model, and takes as many steps as two cores do in a
minute. Beside it, fifteen are chosen at random. The labels are the true ones.
"""

import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from few_images import link
from table import INSTSEG, call

DRAWS, ROUNDS, IMAGES = 3, 3, 5
# What two cores do in a minute, so that other work on the machine changes nothing.
ITERATIONS_A_MINUTE = 370
_TESTED = 5
# A person collects no more images than these.
_LARGEST_POOL = 60
# Of cells, as in `table.py`: two images that show one field are on one side.
_CELLS = Path(__file__).parent / "splits" / "usiigaci-val.txt"


def run(data: Path, out: Path, sets: list[str], starts: list[str]) -> None:
    """Train what is not there yet, and print the table."""
    print(
        f"\n| set | begins with | {ROUNDS} rounds of {IMAGES} by the order | at random | gain |\n|---|---|--:|--:|--:|"
    )
    for name in sets:
        for start in starts:
            split = Split.of(data, name)
            pairs = [[final(out, split, start, draw, arm) for arm in ARMS] for draw in range(DRAWS)]
            ordered, random = zip(*pairs, strict=True)
            each = ", ".join(f"{one - other:+.3f}" for one, other in zip(ordered, random, strict=True))
            means = statistics.mean(ordered), statistics.mean(random)
            gain = f"{means[0] - means[1]:+.3f} ({each})"
            print(f"| {name} | {start} | {means[0]:.3f} | {means[1]:.3f} | {gain} |", flush=True)


ARMS = ("order", "random")


@dataclass(frozen=True)
class Split:
    """The images of a set: some for the score, and others to label and learn from.

    Attributes
    ----------
    name : str
    folder : Path
        Of the images to learn from.
    others : list of str
        Their names.
    test_folder : Path
    tested : list of str
    """

    name: str
    folder: Path
    others: list[str]
    test_folder: Path
    tested: list[str]

    @classmethod
    def of(cls, data: Path, name: str) -> "Split":
        """Return every fifth image of a set, those of `table.py`, or all of a set of few or of a set with `val`."""
        folder = data / name / "train"
        names = sorted(path.stem for path in (folder / "images").iterdir())
        if (data / name / "val").is_dir():
            test_folder = data / name / "val"
            return cls(
                name, folder, names, test_folder, sorted(path.stem for path in (test_folder / "images").iterdir())
            )
        tested = names[::_TESTED] if len(names) > ROUNDS * IMAGES else names
        if name == "usiigaci":
            tested = _CELLS.read_text(encoding="utf-8").split()
        return cls(name, folder, [one for one in names if one not in tested], folder, tested)

    def pool(self, draw: int) -> list[str]:
        """Return three quarters of the images to learn from, and no more than a person would collect."""
        rng = np.random.default_rng([draw, len(self.others) + len(self.tested)])
        count = min(3 * len(self.others) // 4, _LARGEST_POOL)
        return sorted(rng.choice(self.others, count, replace=False).tolist()) if count else []

    def image_file(self, name: str) -> Path:
        return self.test_folder / "images" / f"{name}.png"

    def label_file(self, name: str) -> Path:
        return self.test_folder / "labels" / f"{name}.png"


def final(out: Path, split: Split, start: str, draw: int, arm: str) -> float:
    """Return the AP at IoU 0.5 after the last round of a draw."""
    if arm == "order":
        *_, last = rounds(out, split, start, draw)
        return scored(out, split, last)
    target = out / f"ordering-{split.name}-{Path(start).name}-{draw}-random"
    rng = np.random.default_rng([draw, len(split.others), 1])
    chosen = rng.choice(split.pool(draw), ROUNDS * IMAGES, replace=False).tolist()
    return scored(out, split, trained(split, target, start, chosen, draw))


def rounds(out: Path, split: Split, start: str, draw: int) -> Iterator[str]:
    """Train round after round on the images that come first in the order of the model before, and yield the models."""
    target = out / f"ordering-{split.name}-{Path(start).name}-{draw}-order"
    chosen: list[str] = []
    model = start
    for number in range(1, ROUNDS + 1):
        listed = target.with_name(f"{target.name}-{number}.txt")
        if not listed.exists():
            listed.write_text("\n".join([*chosen, *choose(split, model, draw, chosen)]), encoding="utf-8")
        chosen = listed.read_text(encoding="utf-8").split("\n")
        model = trained(split, target.with_name(f"{target.name}-{number}"), start, chosen, draw)
        yield model


def choose(split: Split, model: str, draw: int, chosen: list[str]) -> list[str]:
    """Return the images that come first in the order of a model, as `instseg label` has it."""
    import instseg
    from instseg.labelling.ordering import describe, order

    loaded = instseg.load(model)
    traits = {}
    for name in split.pool(draw):
        image = instseg.read_image(split.folder / "images" / f"{name}.png")
        traits[name] = describe(image, loaded.segment(image, return_embeddings=False).instances)
    labelled = [traits.pop(name) for name in chosen]
    return order(traits, labelled)[:IMAGES]


def trained(split: Split, target: Path, start: str, chosen: list[str], seed: int) -> str:
    """Train on some images for a minute, and return the model."""
    folder = target.with_name(f"{target.name}-data")
    for name in chosen:
        for part in ("images", "labels"):
            link(split.folder / part / f"{name}.png", folder)
    if not (target / "instseg.json").exists():
        options = ["--iterations", str(ITERATIONS_A_MINUTE), "--seed", str(seed), "--fresh"]
        call([*INSTSEG, "train", str(target), "--data", str(folder), "--from", start, *options])
    return str(target)


def scored(out: Path, split: Split, model: str) -> float:
    """Return the AP at IoU 0.5 of a model on the images for that."""
    figures = out / f"{Path(model).name}.json"
    if not figures.exists():
        import instseg
        from instseg.evaluation.metrics import macro_average, score
        from instseg.io.label_images import read_labels

        loaded, scores = instseg.load(model), []
        for name in split.tested:
            scores.append(score(read_labels(split.label_file(name)), loaded.predict(split.image_file(name)), [0.5]))
        figures.write_text(json.dumps({"ap": float(macro_average(scores).ap[0])}) + "\n", encoding="utf-8")
    return float(json.loads(figures.read_text(encoding="utf-8"))["ap"])


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
