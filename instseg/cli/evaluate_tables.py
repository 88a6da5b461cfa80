"""The tables that `instseg evaluate` prints."""

import math
from typing import TYPE_CHECKING

from instseg.cli import terminal
from instseg.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

    from instseg.evaluation.metrics import MeanScores, Scores
    from instseg.evaluation.results import Evaluation

# Headings of the columns, by the attributes of scores.
_RATIOS = {
    "ap": "AP",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1, RQ",
    "mean_matched_iou": "matched IoU, SQ",
    "pq": "PQ",
}
_WORST = 3


def print_tables(evaluation: "Evaluation") -> None:
    """Print the figures of an evaluation: two tables, one of the classes where these are known, and some lines."""
    from instseg.evaluation.results import named_errors

    console = terminal.console()
    truth = sum(image.truth for image in evaluation.images)
    predicted = sum(image.predicted for image in evaluation.images)
    console.print(_table(f"Mean over {len(evaluation.images)} images", evaluation.per_image))
    console.print(_table(f"Pooled over {truth:,} instances", evaluation.pooled))
    if evaluation.per_class:
        console.print(_classes_table(evaluation))
    difference = evaluation.count_error
    errors = named_errors(evaluation.errors)
    console.print(
        f"{truth:,} true and {predicted:,} predicted instances, by image {difference['bias']:+.2f} in the mean and "
        f"{difference['absolute']:.2f} without the sign\n"
        + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in errors.items())
        + ", at IoU 0.5",
        highlight=False,
        soft_wrap=True,
    )
    if evaluation.auroc is not None:
        console.print(
            f"AUROC of the instances' scores for being right at IoU 0.5: {evaluation.auroc:.3f}", highlight=False
        )
    if evaluation.ece is not None:
        console.print(
            f"ECE, how far these scores are from the share that is right: {evaluation.ece:.3f}", highlight=False
        )
    for image in evaluation.worst(_WORST):
        line = f"mean AP {image.scores.mean_ap:.3f}: {printable(image.name)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _classes_table(evaluation: "Evaluation") -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Of each class, pooled, at IoU 0.5", title_justify="left", box=box.SIMPLE, padding=(0, 1))
    table.add_column("class", overflow="fold")
    for heading in ("true", "predicted", "AP", "precision", "recall", "mean AP"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, scores in evaluation.per_class.items():
        ratios = (scores.ap[0], scores.precision[0], scores.recall[0], scores.mean_ap)
        counts = (scores.tp[0] + scores.fn[0], scores.tp[0] + scores.fp[0])
        name = escape(printable(name))
        table.add_row(name, *(f"{count:,}" for count in counts), *(_ratio(ratio) for ratio in ratios))
    return table


def _table(title: str, scores: "Scores | MeanScores") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"{title}: mean AP {_ratio(scores.mean_ap)}", title_justify="left", box=box.SIMPLE, padding=(0, 1)
    )
    for heading in ("IoU", *_RATIOS.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    for index, threshold in enumerate(scores.thresholds):
        table.add_row(f"{threshold:.2f}", *(_ratio(getattr(scores, ratio)[index]) for ratio in _RATIOS))
    return table


def _ratio(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
