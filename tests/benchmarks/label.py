"""Measure what work `instseg label` leaves: a simulated person corrects what models find until all objects are right.

    python tests/benchmarks/label.py DATA OUT [--sets SET ...] [--models shapes general ...] [--rounds 2] [--images 8]
    python tests/benchmarks/label.py DATA OUT --ordering [--sets ...] [--models shapes]

DATA holds the sets as `general.py` takes them. `label_annotator.py` says what the person does. A model is one of the
package or a directory; with `--rounds`, models that were trained from it for a minute on five images and on ten, chosen
as `label_ordering.py` does, are measured as well. Beside them: no correction, and polygons by hand on images without
labels. Prints tables, and draws AP against actions, `curve-SET.png`; figures (JSON) and models are kept in OUT, and
what is there is not done again. `--ordering` measures what the order of images is worth.
"""

import argparse
import itertools
import json
import os
from pathlib import Path

import label_ordering
import numpy as np
from label_annotator import SECONDS, Annotator, Work, hand_outline

SETS = ("usiigaci", "dsb2018", "emps_em_particles", "segmenteverygrain_gravel")
THRESHOLDS = (0.5, 0.75)
# Actions for each true object, where the curves are read.
_GRID = np.linspace(0, 3, 31)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET")
    parser.add_argument("--models", nargs="+", default=["shapes", "general"], metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=0, help="of training, up to 3")
    parser.add_argument("--images", type=int, default=8, help="of each set, spread over those that none learns from")
    parser.add_argument("--ordering", action="store_true", help="measure what the order of images is worth instead")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.ordering:
        label_ordering.run(options.data, options.out, options.sets, options.models)
        return
    rows: list[dict[str, object]] = []
    for name in options.sets:
        split = label_ordering.Split.of(options.data, name)
        tested = split.tested[:: -(-len(split.tested) // options.images)]
        found = {}
        for model in options.models:
            found[Path(model).name] = measured(options.out, split, tested, model, Path(model).name)
            trainings = label_ordering.rounds(options.out, split, model, 0) if split.pool(0) else iter(())
            for number, trained in enumerate(itertools.islice(trainings, options.rounds), start=1):
                title = f"{Path(model).name}, {number * label_ordering.IMAGES} images"
                found[title] = measured(options.out, split, tested, trained, Path(trained).name)
        hand = by_hand(split, tested)
        rows += [{"set": name, "model": title, **figures} for title, figures in found.items()]
        rows.append({"set": name, "model": "polygons by hand", **hand})
        print_table(rows)
        draw(options.out / f"curve-{name}.png", name, found, hand)


def measured(out: Path, split: label_ordering.Split, tested: list[str], model: str, title: str) -> dict[str, object]:
    """Return the figures of a model, which are kept."""
    kept = out / f"label-{split.name}-{title}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    import instseg
    from instseg.clustering.cluster import cluster
    from instseg.io.label_images import read_labels
    from instseg.labelling.document import Document
    from instseg.labels.regions import relabel_sequential

    loaded = instseg.load(model)
    works: dict[float, list[Work]] = {threshold: [] for threshold in THRESHOLDS}
    curves = []
    for name in tested:
        truth = relabel_sequential(read_labels(split.label_file(name))).astype(np.int32)
        image = instseg.read_image(split.image_file(name))
        # A model of gray images sees the mean of the channels, as `instseg label --channels gray` has it.
        gray = loaded.settings.channels == 1 and loaded.settings.channel_choice is None and image.shape[2] > 1
        maps = loaded.embed(image, channels="gray" if gray else None)
        predicted = cluster(maps)
        whole = maps.foreground.shape[:2]
        for threshold in THRESHOLDS:
            document = Document(whole, embeddings=windows(maps), labels=predicted)
            first = threshold == THRESHOLDS[0]
            works[threshold].append(Annotator(document, truth, threshold, remember=first).correct())
            if first:
                curves.append(curve(truth, works[threshold][-1]))
        print(f"{split.name} {title} {name}: {[summary([works[one][-1]]) for one in THRESHOLDS]}", flush=True)
    figures = {
        "images": len(tested),
        **{f"{threshold:g}": summary(works[threshold]) for threshold in THRESHOLDS},
        "curve": np.mean(curves, axis=0).round(4).tolist(),
    }
    kept.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def windows(maps):
    """Return what gives a document the embeddings of a box: a part of those of the image."""
    from instseg.clustering.embeddings import Embeddings

    def part(box):
        inside = np.s_[box.top : box.bottom, box.left : box.right]
        arrays = {name: array[inside] for name, array in maps.arrays().items()}
        return Embeddings(**arrays, settings=maps.settings, class_names=maps.class_names), box

    return part


def summary(works: list[Work]) -> dict[str, object]:
    """Return the figures of some images: actions for each true object, and the share of objects that need none."""
    objects = sum(work.objects for work in works)
    kinds = {kind: sum(work.actions[kind] for work in works) for kind in SECONDS}
    return {
        "objects": objects,
        "right at once": round(sum(work.right for work in works) / objects, 3),
        "actions": round(sum(work.count for work in works) / objects, 3),
        "minutes": round(sum(work.seconds for work in works) / 60 / len(works), 2),
        "reached": round(sum(work.reached for work in works) / objects, 3),
        "kinds": kinds,
    }


def curve(truth: np.ndarray, work: Work) -> list[float]:
    """Return the AP at IoU 0.5 after so many actions an object as `_GRID` has."""
    from instseg.evaluation.metrics import score

    taken = np.array([actions for actions, _ in work.curve]) / work.objects
    aps: dict[int, float] = {}
    values = []
    for actions in _GRID:
        last = int(np.searchsorted(taken, actions, side="right")) - 1
        if last not in aps:
            aps[last] = float(score(truth, work.curve[last][1], [0.5]).ap[0])
        values.append(aps[last])
    return values


def by_hand(split: label_ordering.Split, tested: list[str]) -> dict[str, object]:
    """Return the figures of drawing every object as a polygon."""
    from instseg.io.label_images import read_labels

    points = []
    for name in tested:
        truth = read_labels(split.label_file(name))
        points += [len(hand_outline(truth == label)) for label in np.unique(truth[truth > 0])]
    mean, minutes = float(np.mean(points)), sum(points) * SECONDS["point"] / 60 / len(tested)
    figures = {
        "objects": len(points),
        "right at once": 0.0,
        "actions": round(mean, 3),
        "minutes": round(minutes, 2),
        "reached": 1.0,
    }
    return {
        "images": len(tested),
        **{f"{threshold:g}": figures for threshold in THRESHOLDS},
        "curve": np.minimum(_GRID / mean, 1).round(4).tolist(),
    }


def print_table(rows: list[dict[str, object]]) -> None:
    """Print actions for each object, the share that needs none, and minutes an image, for both thresholds."""
    print(
        "\n| set | model | AP as found | right at once | actions an object | minutes an image | right at once, 0.75 "
        "| actions, 0.75 | minutes, 0.75 |\n|---|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for row in rows:
        cells = []
        for threshold in THRESHOLDS:
            figures = row[f"{threshold:g}"]
            cells += [f"{figures['right at once']:.0%}", f"{figures['actions']:.2f}", f"{figures['minutes']:.1f}"]
        print(f"| {row['set']} | {row['model']} | {row['curve'][0]:.3f} | " + " | ".join(cells) + " |", flush=True)


def draw(target: Path, name: str, found: dict[str, dict[str, object]], hand: dict[str, object]) -> None:
    """Draw AP against actions."""
    from instseg.io.images import write_picture
    from instseg.visualization.charts import line_chart

    series = {
        title: list(zip(_GRID.tolist(), figures["curve"], strict=True))
        for title, figures in {**found, "polygons by hand": hand}.items()
    }
    write_picture(
        target, line_chart(series, title=f"{name}: AP at IoU 0.5", x_label="clicks and other actions for each object")
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
