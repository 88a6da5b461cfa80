"""The page of a training: curves, what the model makes of validation images, its data, and how to use it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from instseg.evaluation.cases import Case
from instseg.evaluation.report import MistakesFigure, mistakes_switches
from instseg.evaluation.results import evaluate_image
from instseg.labels.matching import drop_ignored
from instseg.models.config import TrainingConfig
from instseg.reports.charts import line_chart
from instseg.reports.figures import grid
from instseg.reports.markup import Markup, join, number, tag
from instseg.reports.page import code_block, section, write_page
from instseg.reports.pictures import budget_for
from instseg.reports.tables import facts, settings_list
from instseg.version import installed_version

PAGE = "index.html"
"""The name of the page in the folder of the report."""

_USE = """\
import instseg

model = instseg.load({model})
labels = model.predict("image.png")  # (H, W) int32: 0 is background, every other number is an object

instseg.predict_files({model}, "images", out_dir="results", report="results.html")"""


class TrainingState(NamedTuple):
    """How far a training is.

    Attributes
    ----------
    folder : Path
        The model directory.
    config : TrainingConfig
    iteration : int
    seconds : float
    best_iteration : int
        The step that the stored model is of.
    scores : dict of str to float
        Those of the stored model.
    validation_images : int
        How many images these are means over.
    """

    folder: Path
    config: TrainingConfig
    iteration: int
    seconds: float
    best_iteration: int
    scores: dict[str, float]
    validation_images: int


def validation_figures(cases: Sequence[Case]) -> list[Markup]:
    """Return figures of validation images, the worst first, with what is right and wrong in them."""
    budget = budget_for(max(len(cases), 5))
    scored = []
    for case in cases:
        result = evaluate_image(case.name, case.truth, case.predicted, instances=case.instances)
        labels = drop_ignored(case.truth, case.predicted)
        scored.append((result.scores.mean_ap, MistakesFigure(case, result, labels, budget).markup(large=False)))
    return [figure for _, figure in sorted(scored, key=lambda one: one[0])]


def write_training_page(
    path: Path,
    state: TrainingState,
    losses: Mapping[str, Sequence[tuple[float, float]]],
    quality: Mapping[str, Sequence[tuple[float, float]]],
    figures: Sequence[Markup],
) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
    state : TrainingState
    losses, quality : mapping of str to points
        Losses, and AP on the validation images, by name: (iteration, value).
    figures : sequence of Markup
        As `validation_figures` returns them.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    contents = [
        ("curves", "Curves"),
        ("images", "Validation images"),
        ("data", "Data"),
        ("use", "How to use the model"),
    ]
    contents.append(("settings", "Settings"))
    sections = (_curves(losses, quality), _images(figures), _data(state.config), _use(state.folder), _settings(state))
    write_page(path, f"Training of {state.folder.name}", _summary(state), sections, contents=contents)


def _summary(state: TrainingState) -> Markup:
    values = {
        "iterations": f"{state.iteration:,}",
        "minutes": number(state.seconds / 60),
        **{f"{name} on validation images": f"{value:.3f}" for name, value in state.scores.items()},
        "validation images": f"{state.validation_images:,}",
    }
    if not state.scores:
        about = "The validation images hold no object, so that there is nothing to measure."
    else:
        about = f"The stored model is that of iteration {state.best_iteration:,}."
    few = ""
    if not state.config.data.get("validated_apart", True):
        few = " Its scores are of images that it has learnt from, too: on others they are lower."
    elif 0 < state.validation_images < 5:
        few = " Its scores are means over very few images: on others they may be quite different."
    return facts(values) + tag("p", about + few)


def _curves(
    losses: Mapping[str, Sequence[tuple[float, float]]], quality: Mapping[str, Sequence[tuple[float, float]]]
) -> Markup:
    charts = [
        line_chart(losses, "Training losses", "iteration", "loss, logarithmic", log_y=True),
        line_chart(quality, "AP on validation images", "iteration", "AP", unit_y=True),
    ]
    return section("Curves", tag("div", *charts, class_="charts"), anchor="curves")


def _images(figures: Sequence[Markup]) -> Markup:
    if not figures:
        return section("Validation images", tag("p", "There is no image to show."), anchor="images")
    about = (
        "The worst and the first of the validation images, as the network sees them. What was predicted has the "
        "outlines of the prediction; what was missed or split, those of the labels."
    )
    hint = tag("p", about, class_="hint")
    return section("Validation images", hint, mistakes_switches(), grid(figures, wide=True), anchor="images")


def _data(config: TrainingConfig) -> Markup:
    model = config.model
    sizes = {
        "typical diameter of the objects (pixels)": model.diameter,
        "nine of ten are between": [model.diameter_p5, model.diameter_p95],
        "images are shown at this many times their size": model.scale,
        "channels": model.channels if model.channel_choice is None else model.channel_choice,
        "classes": list(model.class_names),
    }
    shown: dict[str, Any] = {name: value for name, value in sizes.items() if value not in (None, [], [None, None])}
    return section("Data", settings_list(shown | config.data), anchor="data")


def _use(folder: Path) -> Markup:
    name = repr(str(folder))
    code = code_block(_USE.format(model=name))
    by_command = join(
        [
            "On the command line, ",
            tag("code", "instseg predict"),
            " does the same, ",
            tag("code", "instseg evaluate"),
            " compares it with labels that it has not seen, and ",
            tag("code", "instseg export"),
            " makes a copy to pass on.",
        ]
    )
    return section("How to use the model", code, tag("p", by_command), anchor="use")


def _settings(state: TrainingState) -> Markup:
    config = state.config
    settings = {
        "instseg": installed_version(),
        "network": config.model.to_dict(),
        "training": config.train.to_dict(),
        "clustering": config.clustering.to_dict(),
        "began with": config.pretrained,
    }
    folded = tag("details", tag("summary", "All settings"), settings_list(settings))
    return section("Settings", folded, anchor="settings")
