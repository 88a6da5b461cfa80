"""`instseg evaluate`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from instseg.cli import terminal
from instseg.cli.model import (
    Diameter,
    LearntChannels,
    ModelPrecision,
    PerhapsModel,
    Tta,
    load_model,
    parse_diameter,
    require_channels,
    require_model,
)
from instseg.cli.options import Given, settings_options
from instseg.errors import InstsegError, UsageError
from instseg.settings import ClusterSettings, Precision, TileSettings

if TYPE_CHECKING:
    from rich.table import Table

    from instseg.evaluation import Evaluation
    from instseg.metrics import MeanScores, Scores
    from instseg.predict import Diameter as Size

_RATIOS = {
    "ap": "AP",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1, RQ",
    "matched_iou": "matched IoU, SQ",
    "pq": "PQ",
}


@settings_options(clustering=ClusterSettings, tiles=TileSettings)
def evaluate(
    model: PerhapsModel = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For MODEL: folder with images/ and labels/.")
    ] = None,
    pred: Annotated[Path | None, typer.Option(metavar="DIR", help="Predicted label images.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="DIR", help="True label images for --pred.")] = None,
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Images for --pred, to draw --picture on.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a table with a row per image.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the mistakes of the worst images (.png).")
    ] = None,
    connected_components: Annotated[
        bool,
        typer.Option("--connected-components", help="Make each connected piece of a true mask an instance."),
    ] = False,
    worst: Annotated[int, typer.Option(min=1, max=100, help="Images in --picture.")] = 3,
    min_truth_size: Annotated[int, typer.Option(min=0, help="True instances of fewer pixels do not count.")] = 0,
    tta: Tta = False,
    diameter: Diameter = None,
    channels: LearntChannels = None,
    precision: ModelPrecision = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of TensorFlow.", show_default="all cores")] = None,
    *,
    clustering: Given,
    tiles: Given,
) -> None:
    """Compare predictions with labels: a model's on a data folder, or those of --pred with --labels.

    AP is TP / (TP + FP + FN). Mean AP is the mean over IoU 0.50, 0.55, ... 0.90.
    """
    ClusterSettings(**clustering)
    TileSettings(**tiles)
    terminal.require_threads(threads)
    require_channels(channels)
    size = parse_diameter(diameter)
    how = {
        "--tta": tta,
        "--diameter": diameter is not None,
        "--channels": channels is not None,
        "--precision": precision != "float32",
    }
    of_model = _wants_model(model, data, pred, labels, images, picture is not None, how, clustering | tiles)
    from instseg.evaluation import Evaluation, compare
    from instseg.files import require_target

    if csv is not None:
        require_target(csv, ".csv")
    if picture is not None:
        require_target(picture, ".png")
    if of_model:
        source = model or Path(), data or Path()
        cases = _of_model(*source, connected_components, clustering, tiles, tta, size, channels, threads, precision)
    else:
        cases = _of_folders(pred or Path(), labels or Path(), connected_components, images)
    results, kept = [], _Worst(worst if picture is not None else 0)
    with terminal.counting("Evaluating") as count:
        for number, case in enumerate(cases.each, start=1):
            result = compare(
                case.name,
                case.truth,
                case.predicted,
                min_truth_size=min_truth_size,
                found=case.found,
                classes=case.classes,
            )
            results.append(result)
            kept.offer(result.scores.mean_ap, case)
            count(number, cases.number)
    evaluation = Evaluation(images=tuple(results))
    if csv is not None:
        _write_csv(csv, evaluation)
    if picture is not None:
        _write_picture(picture, kept.cases(), evaluation, min_truth_size)
    if as_json:
        typer.echo(json.dumps(evaluation.to_dict(), indent=2))
    else:
        _print(evaluation)


class _Case(NamedTuple):
    """An image with its true and its predicted labels."""

    name: str
    truth: Any
    predicted: Any
    image: Any
    found: Any = None
    classes: Any = None


class _Cases(NamedTuple):
    """How many cases there are, and one after the other: never all in memory."""

    number: int
    each: Iterator[_Case]


class _Worst:
    """Keeps the cases of the lowest scores, worst first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[float, str, _Case]] = []

    def offer(self, score: float, case: _Case) -> None:
        self._kept = sorted([*self._kept, (score, case.name, case)], key=lambda kept: kept[:2])[: self._most]

    def cases(self) -> list[_Case]:
        return [case for _, _, case in self._kept]


def _wants_model(
    model: Path | None,
    data: Path | None,
    pred: Path | None,
    labels: Path | None,
    images: Path | None,
    drawn: bool,
    how: dict[str, bool],
    clustering: Given,
) -> bool:
    expected = "either MODEL --data DIR, or --pred DIR --labels DIR"
    if (model is None) != (data is None) or (pred is None) != (labels is None) or (model is None) == (pred is None):
        given = {"MODEL": model, "--data": data, "--pred": pred, "--labels": labels}
        names = ", ".join(name for name, value in given.items() if value is not None) or "nothing"
        raise UsageError(f"got {names}, expected {expected}; give one of the two")
    if images is not None and not drawn:
        raise UsageError("--images is what --picture draws on; give it, too, or leave --images out")
    if model is not None and images is not None:
        raise UsageError("--images goes with --pred; with MODEL the images of --data are drawn on")
    if model is None and any(how.values()):
        names = " and ".join(name for name, given in how.items() if given)
        raise UsageError(f"{names} say how a model predicts; give MODEL --data DIR")
    if model is None and clustering:
        names = ", ".join("--" + name.replace("_", "-") for name in clustering)
        raise UsageError(f"{names} change how a model segments; give MODEL --data DIR")
    return model is not None


def _of_model(
    model: Path,
    data: Path,
    connected_components: bool,
    clustering: Given,
    tiles: Given,
    tta: bool,
    diameter: "Size",
    channels: str | None,
    threads: int | None,
    precision: Precision,
) -> _Cases:
    from instseg.data.classes import find_classes
    from instseg.data.folder import find_pairs, read_pair

    pairs = find_pairs(data)
    model = require_model(model, diameter)
    loaded = load_model(model, threads, precision)
    from instseg.segment import How, segment

    how = How(
        tta=tta,
        diameter=diameter,
        channels=channels,
        changes=clustering,
        tiles=TileSettings(**tiles),
        described=True,
    )
    stacked = channels is not None or loaded.settings.channel_choice is not None
    source = None
    if len(loaded.settings.class_names) > 1:
        source = find_classes(data, connected_components=connected_components)

    def each() -> Iterator[_Case]:
        for pair in pairs:
            image, truth = read_pair(pair, connected_components=connected_components, stacked=stacked)
            try:
                found = segment(loaded, image, how)
            except InstsegError as error:
                raise InstsegError(f"{pair.image}: {error}") from error
            classes = None if source is None else source.names(pair, truth)
            yield _Case(pair.name, truth, found.array, image, found.instances, classes)

    return _Cases(len(pairs), each())


def _of_folders(pred: Path, labels: Path, connected_components: bool, images: Path | None) -> _Cases:
    from instseg.data.folder import find_images
    from instseg.evaluation import match_predictions
    from instseg.images import read_image, read_labels

    matched = match_predictions(find_images([pred]), find_images([labels]))
    pictures = {} if images is None else {file.stem: file for file in find_images([images])}
    missing = [name for name, _, _ in matched if name not in pictures]
    if images is not None and missing:
        raise InstsegError(
            f"{images} has no image for {len(missing)} of {len(matched)} label images ({', '.join(missing[:3])}); "
            "add them, or leave --images out"
        )

    def each() -> Iterator[_Case]:
        for name, true, predicted in matched:
            truth = read_labels(true, connected_components=connected_components)
            image = None if images is None else read_image(pictures[name])
            if image is not None and image.shape[:2] != truth.shape:
                (height, width), (rows, columns) = image.shape[:2], truth.shape
                raise InstsegError(
                    f"{pictures[name]} is {height} x {width} pixels and {true} is {rows} x {columns}, expected equal "
                    "sizes; give the images that the labels are of"
                )
            yield _Case(name, truth, read_labels(predicted), image)

    return _Cases(len(matched), each())


def _write_csv(path: Path, evaluation: "Evaluation") -> None:
    import csv

    from instseg.files import replacing

    rows = [image.row() for image in evaluation.images]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_picture(path: Path, cases: list[_Case], evaluation: "Evaluation", min_truth_size: int) -> None:
    from instseg.evaluation import counted
    from instseg.images import write_picture
    from instseg.mistakes import find_mistakes
    from instseg.render import below_each_other, label_colours, mistakes_legend, mistakes_picture, side_by_side, to_rgb8

    results = {image.name: image for image in evaluation.images}
    rows = []
    for case in cases:
        truth, predicted = counted(case.truth, case.predicted, min_truth_size)
        found = find_mistakes(truth, predicted)
        told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found.counts().items() if count)
        ground = label_colours(truth) if case.image is None else to_rgb8(case.image)
        rows.append(
            side_by_side(
                ground,
                mistakes_picture(case.image, truth, predicted, found),
                captions=[f"{case.name}: mean AP {results[case.name].scores.mean_ap:.3f}", told or "no mistakes"],
            )
        )
    width = max(row.shape[1] for row in rows)
    write_picture(path, below_each_other([*rows, mistakes_legend(width)]))


def _print(evaluation: "Evaluation") -> None:
    from rich.console import Console

    console = Console()
    found = evaluation.to_dict()
    console.print(_table(f"Mean over {found['images']} images", evaluation.per_image))
    console.print(_table(f"Pooled over {found['truth']:,} instances", evaluation.pooled))
    if evaluation.of_classes:
        console.print(_classes_table(evaluation))
    error = evaluation.count_error
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in evaluation.mistakes.items())
    console.print(
        f"{found['truth']:,} true and {found['predicted']:,} predicted instances, by image "
        f"{error['bias']:+.2f} in the mean and {error['absolute']:.2f} without the sign\n{told}, at IoU 0.5",
        highlight=False,
        soft_wrap=True,
    )
    if evaluation.auroc is not None:
        console.print(
            f"AUROC of the instances' scores for being right at IoU 0.5: {evaluation.auroc:.3f}", highlight=False
        )
    for image in evaluation.worst(3):
        console.print(
            f"mean AP {image.scores.mean_ap:.3f}: {image.name}", highlight=False, markup=False, soft_wrap=True
        )


def _classes_table(evaluation: "Evaluation") -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Of each class, pooled, at IoU 0.5", title_justify="left", box=box.SIMPLE, padding=(0, 1))
    table.add_column("class", overflow="fold")
    for heading in ("true", "predicted", "AP", "precision", "recall", "mean AP"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, scores in evaluation.of_classes.items():
        ratios = (scores.ap[0], scores.precision[0], scores.recall[0], scores.mean_ap)
        counts = (scores.tp[0] + scores.fn[0], scores.tp[0] + scores.fp[0])
        table.add_row(escape(name), *(f"{count:,}" for count in counts), *(f"{ratio:.4f}" for ratio in ratios))
    return table


def _table(title: str, scores: "Scores | MeanScores") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=f"{title}: mean AP {scores.mean_ap:.4f}", title_justify="left", box=box.SIMPLE, padding=(0, 1))
    for heading in ("IoU", *_RATIOS.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    for index, threshold in enumerate(scores.thresholds):
        table.add_row(f"{threshold:.2f}", *(f"{getattr(scores, name)[index]:.4f}" for name in _RATIOS))
    return table
