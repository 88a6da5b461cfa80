"""The report of an evaluation: one page with curves, the kinds of mistakes, and the images with these in them."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.evaluation.cases import Case
from instseg.evaluation.error_analysis import ErrorAnalysis
from instseg.evaluation.metrics import THRESHOLDS
from instseg.evaluation.request import EvaluationRequest
from instseg.evaluation.results import Evaluation, ImageResult, Labels, drop_small_truth, named_errors
from instseg.evaluation.views import View, worst_view
from instseg.inference.model import Model
from instseg.labels.matching import drop_ignored
from instseg.labels.regions import dense_labels, equivalent_diameter
from instseg.reports.charts import line_chart
from instseg.reports.figures import ObjectTable, OutlineGroup, image_figure
from instseg.reports.markup import Markup, count, number, tag
from instseg.reports.outlines import outline_paths
from instseg.reports.page import outline_switches, section, text_list, write_page
from instseg.reports.pictures import Budget, Picture, Reducer, budget_for, encode, to_8bit
from instseg.reports.tables import Cell, facts, plain_table, settings_list, sortable_table
from instseg.version import installed_version

MOST_PICTURES = 200
"""Images that a report shows; its table has all of them."""

_WORST = 60
_LARGE = 6
# The groups of outlines: those of the prediction first, then what only the truth has.
_GROUPS = {
    "right": ("right", "right"),
    "false-alarms": ("false alarms", "false alarm"),
    "merges": ("merges", "merge"),
    "missed": ("missed", "missed"),
    "splits": ("splits", "split"),
}

_SINGULAR = {"false_alarms": "false alarm", "splits": "split", "merges": "merge"}


class EvaluationReport:
    """Takes the cases of an evaluation one by one, and writes the page.

    At most `MOST_PICTURES` images are kept: all, or the worst and others at random.

    Parameters
    ----------
    request : EvaluationRequest
    images : int
        How many cases there will be.
    """

    def __init__(self, request: EvaluationRequest, images: int) -> None:
        self._request, self._budget = request, budget_for(images)
        # By name: the rank by score, and the figure without and with its large picture.
        self._figures: dict[str, tuple[float, Markup, Markup | None]] = {}
        self._dropped = 0

    def add(self, case: Case, result: ImageResult) -> None:
        """Take a case and its figures."""
        labels = drop_small_truth(*drop_ignored(case.truth, case.predicted), self._request.min_truth_size)
        figure = MistakesFigure(case, result, labels, self._budget)
        worst = sorted(self._figures, key=self._rank)[:_LARGE]
        may_be_large = len(worst) < _LARGE or result.scores.mean_ap < self._figures[worst[-1]][0]
        large = figure.markup(large=True) if may_be_large and figure.can_be_large else None
        self._figures[case.name] = (result.scores.mean_ap, figure.markup(large=False), large)
        for name in sorted(self._figures, key=self._rank)[_LARGE:]:
            rank, small, _ = self._figures[name]
            self._figures[name] = (rank, small, None)
        if len(self._figures) > MOST_PICTURES:
            kept = sorted(self._figures, key=self._rank)[_WORST:]
            del self._figures[max(kept, key=_chance)]
            self._dropped += 1

    def _rank(self, name: str) -> tuple[float, str]:
        return self._figures[name][0], name

    def write(self, path: Path, evaluation: Evaluation) -> None:
        """Write the page.

        Raises
        ------
        InstsegError
            If it cannot be written.
        """
        contents = [("curves", "Curves"), ("mistakes", "Mistakes"), ("images", "Images"), ("table", "All images")]
        title = (
            "Predictions and true labels" if self._request.model is None else f"Evaluation of {_model(self._request)}"
        )
        made = [*contents, ("making", "What was compared")]
        write_page(path, title, _summary(evaluation), self._sections(evaluation), contents=made)

    def _sections(self, evaluation: Evaluation) -> Iterator[Markup]:
        yield _curves(evaluation)
        yield _mistakes(evaluation)
        yield from self._images()
        yield _table(evaluation, self._anchors())
        yield _making(self._request)

    def _anchors(self) -> dict[str, str]:
        return {name: _anchor(name) for name in self._figures}

    def _images(self) -> Iterator[Markup]:
        yield Markup('<section id="images" aria-labelledby="images-heading">')
        yield tag("h2", "Images, the worst first", id="images-heading")
        if self._dropped:
            total = count(len(self._figures) + self._dropped, "image")
            about = f"the {_WORST} worst and others chosen at random; the table has all of them"
            yield tag("p", f"{len(self._figures):,} of {total} are shown: {about}.")
        about = (
            "What was predicted has the outlines of the prediction; what was missed or split, those of the truth. "
            "Point at an object to see its numbers."
        )
        yield tag("p", about, class_="hint")
        yield mistakes_switches()
        yield Markup('<div class="grid wide">' if len(self._figures) <= 12 else '<div class="grid">')
        for name in sorted(self._figures, key=self._rank):
            _, small, large = self._figures[name]
            yield large or small
        yield Markup("</div></section>")


def mistakes_switches() -> Markup:
    """Return the switches of the groups of outlines in a `MistakesFigure`."""
    return outline_switches([(group, names[0]) for group, names in _GROUPS.items()])


class MistakesFigure:
    """An image with the outlines of what is right and of each kind of mistake.

    Parameters
    ----------
    case : Case
    result : ImageResult
        Its figures.
    labels : pair of (H, W) or (Z, Y, X) integers
        The true and the predicted labels that count. Of a volume, the plane with the most mistakes is drawn.
    budget : Budget
    """

    def __init__(self, case: Case, result: ImageResult, labels: tuple[Labels, Labels], budget: Budget) -> None:
        truth, predicted = labels
        self._case, self._result, self._budget = case, result, budget
        shown = worst_view(truth, predicted, case.image)
        self._plane, self._shape = shown.plane, shown.truth.shape
        areas = {"predicted": _areas(predicted), "true": _areas(truth)}
        self._groups, self._objects, self._left_out = _outlined(case, shown, areas, budget)
        self._pixels: NDArray[np.uint8] | None = None
        self._covered = self._shape
        if shown.image is not None:
            image = shown.image if shown.image.ndim == 3 else shown.image[:, :, None]
            reducer = Reducer(image.shape, budget.traced_side)
            reducer.add(image)
            reduced = reducer.finish()
            self._pixels, self._covered = to_8bit(reduced.values), reduced.covered

    @property
    def can_be_large(self) -> bool:
        """Whether there is more to see in a larger picture."""
        return self._pixels is not None and 0 < self._budget.side < min(max(self._covered), self._budget.large_side + 1)

    def markup(self, *, large: bool) -> Markup:
        """Return the figure, with the large picture if it is wanted."""
        case, result = self._case, self._result
        words = [f"mean AP {number(result.scores.mean_ap)}", count(result.truth, "true object")]
        words += [
            count(amount, _SINGULAR.get(kind, kind), kind.replace("_", " "))
            for kind, amount in named_errors(result.errors).items()
            if amount
        ]
        if self._plane is not None:
            words.append(f"drawn is the plane z = {self._plane}")
        if self._left_out:
            words.append(f"the outlines of {self._left_out:,} small ones are not drawn")
        objects = ObjectTable(*self._objects)
        anchor = _anchor(case.name)
        return image_figure(
            anchor, case.name, ", ".join(words), self._picture(large), self._shape, self._groups, objects
        )

    def _picture(self, large: bool) -> Picture | None:
        if self._pixels is None:
            return None
        budget = self._budget
        side, size = (budget.large_side, budget.large_bytes) if large else (budget.side, budget.picture_bytes)
        return encode(self._pixels, side, size, self._covered)


def _outlined(
    case: Case, shown: View, areas: Mapping[str, Mapping[int, int]], budget: Budget
) -> tuple[list[OutlineGroup], tuple[list[str], list[list[Any]]], int]:
    """Return the groups of outlines, the table of their objects, and how many are left out."""
    truth, predicted = shown.truth, shown.predicted
    ids = _by_group(shown.analysis)
    stride = max(1, max(truth.shape) // budget.traced_side)
    wrong = np.where(np.isin(truth, np.concatenate([ids["missed"], ids["splits"]])), truth, 0)
    traced = {
        "predicted": outline_paths(
            predicted[stride // 2 :: stride, stride // 2 :: stride], budget.outline_bytes * 2 // 3
        ),
        "true": outline_paths(wrong[stride // 2 :: stride, stride // 2 :: stride], budget.outline_bytes // 3),
    }
    scores, classes = _known(case)
    columns = ["object", "kind", "area" if shown.plane is None else "volume", "diameter"]
    columns += [name for name, known in (("score", scores), ("class", classes)) if known]
    groups, rows = [], []
    for name, (_, kind) in _GROUPS.items():
        side = "true" if name in ("missed", "splits") else "predicted"
        members = set(ids[name].tolist())
        paths = {label: path for label, path in traced[side].paths.items() if label in members}
        groups.append(OutlineGroup(name, paths, stride))
        for label in paths:
            area = areas[side][label]
            row: list[Any] = [label, kind, area, round(float(equivalent_diameter(area, case.truth.ndim)), 2)]
            row += [known.get(label) if side == "predicted" else None for known in (scores, classes) if known]
            rows.append(row)
    return groups, (columns, rows), traced["predicted"].left_out + traced["true"].left_out


def _areas(labels: Labels) -> dict[int, int]:
    """Return the number of pixels of each label, which may be of any size."""
    ids, numbers = dense_labels(labels)
    return dict(zip(ids.tolist(), np.bincount(numbers.ravel(), minlength=1)[1:].tolist(), strict=True))


def _by_group(analysis: ErrorAnalysis) -> dict[str, NDArray[np.integer]]:
    return {
        "right": analysis.matched_predicted,
        "false-alarms": analysis.false_positives,
        "merges": analysis.merges,
        "missed": analysis.false_negatives,
        "splits": analysis.splits,
    }


def _known(case: Case) -> tuple[Mapping[int, float], Mapping[int, str]]:
    """Return the score and the class of each predicted label, where they are known."""
    instances = case.instances
    if instances is None:
        return {}, {}
    labels = instances.label.tolist()
    classes = dict(zip(labels, instances.classes, strict=True)) if instances.class_names else {}
    return dict(zip(labels, np.round(instances.score, 4).tolist(), strict=True)), classes


def _anchor(name: str) -> str:
    return f"image-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:16]}"


def _chance(name: str) -> str:
    return _anchor(name)


def _model(request: EvaluationRequest) -> str:
    return "a model" if isinstance(request.model, Model) else str(request.model)


def _summary(evaluation: Evaluation) -> Markup:
    images, pooled = evaluation.images, evaluation.pooled
    values = {
        "images": f"{len(images):,}",
        "true objects": f"{sum(image.truth for image in images):,}",
        "predicted": f"{sum(image.predicted for image in images):,}",
        "mean AP (mean of images)": f"{evaluation.per_image.mean_ap:.3f}",
        "AP at IoU 0.5 (mean of images)": f"{float(evaluation.per_image.ap[0]):.3f}",
        "F1 at IoU 0.5 (all objects)": number(float(pooled.f1[0])),
    }
    if evaluation.auroc is not None:
        values["AUROC of the scores"] = f"{evaluation.auroc:.3f}"
    notes = tag("div", text_list(evaluation.notes), class_="note") if evaluation.notes else Markup()
    return facts(values) + notes


def _curves(evaluation: Evaluation) -> Markup:
    means = evaluation.per_image
    curves = {
        "AP": means.ap,
        "precision": means.precision,
        "recall": means.recall,
        "F1": means.f1,
        "panoptic quality": means.pq,
    }
    series = {name: list(zip(THRESHOLDS, values.tolist(), strict=True)) for name, values in curves.items()}
    charts = [line_chart(series, "Quality by the IoU that counts as found", "IoU", "mean of images", unit_y=True)]
    if bins := evaluation.reliability:
        scored = {"right": [(one.mean_score, one.share_right) for one in bins], "as promised": [(0.0, 0.0), (1.0, 1.0)]}
        charts.append(line_chart(scored, "What scores mean", "score", "share that is right", unit_y=True))
    rows = [
        [f"IoU {threshold:.2f}", *(float(values[index]) for values in curves.values())]
        for index, threshold in enumerate(THRESHOLDS)
    ]
    table = plain_table("Means over the images", ["", *curves], rows)
    return section("Curves", tag("div", *charts, class_="charts"), table, anchor="curves")


def _mistakes(evaluation: Evaluation) -> Markup:
    about = {
        "missed": "true objects that nothing matches",
        "false_alarms": "predictions that match nothing",
        "splits": "true objects that several predictions lie mainly on",
        "merges": "predictions that several true objects lie mainly on",
    }
    rows = [[kind.replace("_", " "), amount, about[kind]] for kind, amount in named_errors(evaluation.errors).items()]
    kinds = plain_table("Mistakes in all images, at IoU 0.5", ["", "number", ""], rows)
    classes = Markup()
    if evaluation.per_class:
        by_class = [
            [
                name,
                int(scores.tp[0] + scores.fn[0]),
                int(scores.tp[0] + scores.fp[0]),
                float(scores.ap[0]),
                scores.mean_ap,
            ]
            for name, scores in evaluation.per_class.items()
        ]
        columns = ["class", "true", "predicted", "AP at 0.5", "mean AP"]
        classes = plain_table("Classes, over all objects", columns, by_class)
    return section("Mistakes", kinds, classes, anchor="mistakes")


def _table(evaluation: Evaluation, anchors: Mapping[str, str]) -> Markup:
    named = list(evaluation.images[0].row())
    wanted = [
        name for name in named if name != "image" and not (name.startswith("ap") and name not in ("ap50", "ap75"))
    ]
    rows = []
    for image in evaluation.images:
        row = image.row()
        anchor = anchors.get(image.name)
        name: Any = tag("button", image.name, type="button", data_open=anchor) if anchor else image.name
        values = [Cell(number(float(row[column])), float(row[column])) for column in wanted]
        rows.append([name, *values])
    columns = [
        "image",
        *(name.replace("_", " ").replace("ap50", "AP at 0.5").replace("ap75", "at 0.75") for name in wanted),
    ]
    caption = f"{count(len(rows), 'image')}; headings sort"
    return section("All images", sortable_table(caption, columns, rows), anchor="table")


def _making(request: EvaluationRequest) -> Markup:
    given = {
        "instseg": installed_version(),
        "model": None if request.model is None else _model(request),
        "data": request.data,
        "predictions": request.pred,
        "true labels": request.labels,
        "images": request.images,
        "ignored label": request.ignore_label,
        "smallest true object": request.min_truth_size,
        "connected components": request.connected_components,
        "diameter": request.diameter,
        "channels": request.channels,
        "averaged over flips and turns": request.tta,
        **request.clustering,
        **request.filters,
        **request.tiles,
    }
    shown = {name: value for name, value in given.items() if value not in (None, False)}
    return section("What was compared", settings_list(shown), anchor="making")
