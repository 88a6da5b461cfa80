"""`instseg evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal
from instseg.cli.evaluate_tables import print_tables
from instseg.cli.evaluate_tracks import evaluate_tracks
from instseg.cli.model import (
    Diameter,
    ModelChannels,
    ModelPrecision,
    OptionalModelArgument,
    PlanesFromChoice,
    SpacingText,
    Tta,
    find_model,
    parse_diameter,
    parse_spacing,
    print_model_notes,
)
from instseg.cli.options import Overrides, settings_options, terminal_text
from instseg.settings import ClusterSettings, FilterSettings, TileSettings

if TYPE_CHECKING:
    from instseg.evaluation.request import EvaluationRequest
    from instseg.inference.model import Model


@settings_options(clustering=ClusterSettings, filters=FilterSettings, tiles=TileSettings)
def evaluate(
    model: OptionalModelArgument = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For MODEL: folder with images/ (or volumes) and labels/.")
    ] = None,
    pred: Annotated[Path | None, typer.Option(metavar="DIR", help="Predicted label images, or volumes.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="DIR", help="True label images for --pred.")] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images for --pred, to draw --picture and --report on.")
    ] = None,
    tracks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Compare these tracks (maskNNN.tif, res_track.txt) with those of --labels."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a table with a row per image.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the mistakes of the worst images (.png).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page that shows all of it, to pass on (.html).")
    ] = None,
    connected_components: Annotated[
        bool,
        typer.Option("--connected-components", help="Make each connected piece of a mask an instance."),
    ] = False,
    ignore_label: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Pixels of this true label do not count.", show_default=False)
    ] = None,
    worst: Annotated[int, typer.Option(min=1, max=100, help="Images in --picture.")] = 3,
    min_truth_size: Annotated[int, typer.Option(min=0, help="True instances of fewer pixels do not count.")] = 0,
    tta: Tta = False,
    diameter: Diameter = None,
    channels: ModelChannels = None,
    spacing: SpacingText = None,
    planes_from: PlanesFromChoice = None,
    precision: ModelPrecision = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of TensorFlow.", show_default="all cores")] = None,
    *,
    clustering: Overrides,
    filters: Overrides,
    tiles: Overrides,
) -> None:
    """Compare predictions with labels: a model's on a data folder, or those of --pred with --labels.

    AP is TP / (TP + FP + FN). Mean AP is the mean over IoU 0.50, 0.55, ... 0.90.
    """
    if tracks is not None:
        others = {"model": model, "data": data, "pred": pred, "images": images, "csv": csv, "picture": picture}
        evaluate_tracks(tracks, labels, others | {"report": report, **clustering, **filters, **tiles}, as_json)
        return
    terminal.check_threads(threads)
    from instseg.evaluation.request import EvaluationRequest
    from instseg.evaluation.run import run_evaluation

    request = EvaluationRequest(
        model=model,
        data=data,
        pred=pred,
        labels=labels,
        images=images,
        csv=csv,
        picture=picture,
        report=report,
        worst=worst,
        connected_components=connected_components,
        ignore_label=ignore_label,
        min_truth_size=min_truth_size,
        tta=tta,
        diameter=parse_diameter(diameter),
        channels=channels,
        precision=precision,
        threads=threads,
        spacing=parse_spacing(spacing),
        planes_from=planes_from,
        clustering=clustering,
        filters=filters,
        tiles=tiles,
    )
    with terminal.progress_bar("Evaluating") as progress:
        evaluation = run_evaluation(request, progress, _open_model)
    for note in evaluation.notes:
        terminal.print_note(note)
    if as_json:
        notes = [terminal_text(note) for note in evaluation.notes]
        terminal.print_json(evaluation.to_dict() | {"notes": notes})
    else:
        print_tables(evaluation)


def _open_model(request: "EvaluationRequest") -> "Model":
    from instseg.evaluation.run import open_model

    if isinstance(request.model, Path):
        find_model(request.model)
    with terminal.spinner("Loading TensorFlow"):
        model = open_model(request, quiet=True)
    print_model_notes(model)
    return model
